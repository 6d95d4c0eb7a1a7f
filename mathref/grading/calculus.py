"""Limits, integrals and derivatives inside answers: closed forms from sympy, computed in a process that can
be killed.

Paper: section 9; the only place of the grader where sympy is used.
Choices: what `closed.py` cannot do is asked of sympy. Everything else in the grader is bounded by
construction, sympy is not (its simplifications may never return, inside C loops at that), so it runs behind
pipes in `python -c "... worker ..."`: a hard wall-clock limit that holds in any thread and on any platform, a
memory limit, a fresh worker after every kill. No signal is used, nothing is pickled, and the importing
program is not run again, whatever its main module looks like. A worker starts in a thread of its own: a
question that it is not ready for in time stays undecided, is counted, and may be asked again. So does one
that comes after many slow ones (`Allowance`): each is bounded, and text made to be slow comes in any number.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from fractions import Fraction
from typing import Any

from mathref.grading import closed
from mathref.grading.algebra import Normalizer
from mathref.grading.latex import parse
from mathref.grading.lexer import clean
from mathref.grading.poly import Poly, TooHard, clock, generator, key
from mathref.grading.syntax import Node, ParseError

LIMIT_S = 1.2  # wall clock of one question
RESERVE_S = 0.5  # of the comparison's time, which is left to it after the last question
MAX_ATTEMPTS = 2  # after so many timeouts or dead workers a question counts as one without an answer
MAX_REMEMBERED = 512

_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from mathref.grading.worker import serve; serve()"
)


class Worker:
    """One child process, asked a line at a time. Not shared across a fork: the child starts its own."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.ready = False
        self.closed = False
        self.process: subprocess.Popen[str] | None = None
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        """Start the process, then move its lines to a queue.

        On a loaded machine the start alone takes seconds, and a read from a queue has a time limit even where
        select() takes no pipes.
        """
        with contextlib.suppress(ValueError, OSError):
            process = self.process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
            if self.closed:  # while it was starting
                self.close()
            assert process.stdout is not None
            for line in process.stdout:
                self.lines.put(line)
        self.lines.put("")  # end of file

    def _write(self, question: str) -> None:
        """Send one line; EOFError when nobody reads it any more."""
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
        except (OSError, ValueError):
            raise EOFError from None

    def _line(self, limit_s: float) -> str:
        """Wait for one line; TimeoutError past the limit, EOFError at the end of the output."""
        try:
            line = self.lines.get(timeout=max(0.0, limit_s))
        except queue.Empty:
            raise TimeoutError from None
        if not line:
            raise EOFError
        return line

    def wait_until_ready(self, limit_s: float) -> None:
        """Wait for the end of the start; one that takes longer goes on, for the next question to find."""
        self._line(limit_s)
        self.ready = True

    def ask(self, question: str, limit_s: float) -> str:
        """The answer line; TimeoutError past the limit, EOFError when the worker is gone."""
        self._write(question)
        return self._line(limit_s)

    def close(self) -> None:
        """Kill the process and reap it; a no-op in a forked child, to which it does not belong."""
        self.closed = True
        if self.owner != os.getpid() or self.process is None:
            return
        with contextlib.suppress(OSError):
            self.process.kill()
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.process.wait(timeout=1)
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError, ValueError):
                if pipe is not None:
                    pipe.close()


class Allowance:
    """How long the slow questions of this process may take together.

    FREE_S of a question are for nothing, the rest is taken off FULL_S seconds, to which REFILL of the time
    that passes is added. While none are left, nothing is asked: a file of ten thousand integrals without a
    closed form ends, and a program that runs for days still has its question now and then.
    """

    FREE_S = 0.2  # hardly any question of mathematics needs a quarter of it
    FULL_S = 60.0
    REFILL = 0.1

    def __init__(self) -> None:
        self._left, self._seen = self.FULL_S, time.monotonic()

    def is_spent(self) -> bool:
        now = time.monotonic()
        self._left = min(self.FULL_S, self._left + self.REFILL * (now - self._seen))
        self._seen = now
        return self._left <= 0

    def spend(self, seconds: float) -> None:
        """Take off what a question took."""
        self._left -= max(0.0, seconds - self.FREE_S)


_allowance = Allowance()
_lock = threading.Lock()
_worker: Worker | None = None
_remembered: dict[str, str] = {}  # oldest first
_attempts: Counter[str] = Counter()  # timeouts of a question so far
timeouts = 0  # questions given up on since the start; a timeout is "not equal", counted and never raised


def _after_fork() -> None:
    """A forked child gets a free lock and no worker."""
    global _lock, _worker
    _lock, _worker = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def close_worker() -> None:
    """End the worker, if any; the next question starts a new one."""
    global _worker
    worker, _worker = _worker, None
    if worker is not None:
        worker.close()


def _try(question: str, end: float) -> str:
    """The worker's answer; TimeoutError when there is none by `end`, EOFError when the worker died."""
    global _worker
    if _worker is None:
        _worker = Worker()
    if not _worker.ready:
        try:
            _worker.wait_until_ready(end - time.monotonic())  # one that is late goes on starting
        except EOFError:
            close_worker()
            raise
    if end - time.monotonic() < LIMIT_S / 2:  # a timeout now would say nothing about the question
        raise TimeoutError
    try:
        return _worker.ask(question, end - time.monotonic()).strip()
    except BaseException as error:
        close_worker()  # after Ctrl-C, too: what it still answers is no answer to the next question
        if isinstance(error, TimeoutError | EOFError):
            _worker = Worker()
            _attempts[question] += 1
        raise


def _ask(question: str) -> str | None:
    """The worker's answer, remembered; None when there is none in time."""
    global timeouts
    if question in _remembered:
        return _remembered[question]
    start = time.monotonic()
    end = min(start + LIMIT_S, clock.wall - RESERVE_S)
    if _allowance.is_spent():
        timeouts += 1
        return None
    if not _lock.acquire(timeout=max(0.0, end - time.monotonic())):
        timeouts += 1
        return None
    answer = None
    try:
        for _ in range(MAX_ATTEMPTS):
            with contextlib.suppress(EOFError):  # another worker may do what this one died before
                answer = _try(question, end)
                break
    except TimeoutError:
        pass
    finally:
        _lock.release()
        _allowance.spend(time.monotonic() - start)
    if answer is None:
        timeouts += 1
        if _attempts[question] < MAX_ATTEMPTS:
            return None
        answer = "null"
    _remembered[question] = answer
    _attempts.pop(question, None)
    for memory in (_remembered, _attempts):
        while len(memory) > MAX_REMEMBERED:
            with contextlib.suppress(KeyError, StopIteration, RuntimeError):
                memory.pop(next(iter(memory)))
    return answer


def _plain(node: Any) -> Any:
    """A tree as JSON: rationals become strings behind a mark."""
    if isinstance(node, int | Fraction):
        return {"q": f"{node.numerator:x}/{node.denominator:x}"}
    return [_plain(part) for part in node] if isinstance(node, tuple) else node


def _beyond_sympy(node: Any) -> bool:
    """Whether f(x), F_{n-1} or a numeral to a base stands in a tree, which sympy knows no more about."""
    own = isinstance(node, tuple) and node[:1] in (("call",), ("based",))
    return own or (isinstance(node, tuple) and any(map(_beyond_sympy, node)))


def closed_form(n: Normalizer, node: Node) -> Poly | None:
    """The normal form of what sympy makes of a limit, integral, derivative, sum or product; None
    without one.
    """
    n.spend(12_000)  # at most three questions in one comparison
    if n.bound or _beyond_sympy(node):
        return None
    line = _ask(json.dumps(_plain(node)))
    if line is None:
        n.undecided = True
        return None
    answer = json.loads(line)
    if isinstance(answer, str):
        try:
            return n.of(parse(clean(answer)))
        except (ParseError, TypeError) as error:
            raise TooHard(f"closed form not readable: {error}") from None
    return None


def evaluate(n: Normalizer, node: Node) -> Poly:
    """The normal form of a limit, integral or derivative; an opaque generator when sympy finds none in
    time.
    """
    for source in (closed.closed_form, closed_form):
        if (value := source(n, node)) is not None:
            return value
    return _opaque(n, node)


def _opaque(n: Normalizer, node: Node) -> Poly:
    """The operation itself as a generator, its bound variable renamed so that the name does not matter."""
    kind = node[0]
    variable = node[1] if kind != "int" else node[3]
    outside = [part for part in (node[1:3] if kind == "int" else node[2:3] if kind == "lim" else ()) if part]
    arguments = [key(n.of(part)) for part in outside]
    n.bound[variable] = generator(("s", "#"))
    try:
        return generator(("f", kind, *arguments, key(n.of(node[-1]))))
    finally:
        del n.bound[variable]
