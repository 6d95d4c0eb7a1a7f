"""Limits, integrals and derivatives inside answers: closed forms from sympy, computed in a process that can
be killed.

Paper: section 9; the only place of the grader where sympy is used.
Choices: everything else in the grader is bounded by construction, sympy is not (its simplifications may never
return, inside C loops at that), so it runs behind pipes in `python -c "... worker ..."`: a hard wall-clock
limit that holds in any thread and on any platform, a memory limit, a fresh worker after every kill. No signal
is used, nothing is pickled, and the importing program is not run again, whatever its main module looks like.
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
from collections import OrderedDict
from fractions import Fraction
from typing import Any

from mathref.grading.algebra import Normalizer
from mathref.grading.latex import parse
from mathref.grading.lexer import clean
from mathref.grading.poly import Poly, TooHard, generator, key
from mathref.grading.syntax import Node, ParseError

LIMIT_S = 1.2  # wall clock of one question
START_LIMIT_S = 6.0  # of the worker's start, paid once by the first question of a process
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
        self.lines: queue.Queue[str] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        threading.Thread(target=self._read, daemon=True).start()
        self._write('"ready?"')

    def _write(self, question: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
        except (OSError, ValueError):
            raise EOFError from None

    def _line(self, limit_s: float) -> str:
        try:
            line = self.lines.get(timeout=max(0.0, limit_s))
        except queue.Empty:
            raise TimeoutError from None
        if not line:
            raise EOFError
        return line

    def wait_until_ready(self, limit_s: float) -> None:
        """Wait for the end of the start; one that takes longer goes on, for the next question to find."""
        if not self.ready:
            self._line(limit_s)
            self.ready = True

    def _read(self) -> None:
        """Move lines to a queue: a read with a time limit that also works where select() takes no pipes."""
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            for line in self.process.stdout:
                self.lines.put(line)
        self.lines.put("")  # end of file

    def ask(self, question: str, limit_s: float) -> str:
        """The answer line; TimeoutError past the limit, EOFError when the worker is gone."""
        self._write(question)
        return self._line(limit_s)

    def close(self) -> None:
        """Kill the process and reap it; a no-op in a forked child, to which it does not belong."""
        if self.owner != os.getpid():
            return
        with contextlib.suppress(OSError):
            self.process.kill()
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.process.wait(timeout=1)
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError, ValueError):
                if pipe is not None:
                    pipe.close()


_lock = threading.Lock()
_worker: Worker | None = None
_remembered: OrderedDict[str, str] = OrderedDict()
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


def _ask(question: str) -> str:
    """The worker's answer, remembered; the empty string when there is none within the limits."""
    global _worker, timeouts
    if question in _remembered:
        return _remembered[question]
    start = time.monotonic()
    if not _lock.acquire(timeout=LIMIT_S):
        timeouts += 1
        return ""
    try:
        if _worker is None:
            _worker = Worker()
        if not _worker.ready:
            _worker.wait_until_ready(START_LIMIT_S)
            start = time.monotonic()
        answer = _worker.ask(question, LIMIT_S - (time.monotonic() - start)).strip()
    except (TimeoutError, EOFError, OSError) as error:
        timeouts += 1
        if isinstance(error, TimeoutError) and _worker is not None and not _worker.ready:
            return ""  # the question is not to blame: ask again next time
        close_worker()
        with contextlib.suppress(OSError, EOFError):
            _worker = Worker()  # its start overlaps with whatever the caller does next
        answer = "null"
    finally:
        _lock.release()
    _remembered[question] = answer
    while len(_remembered) > MAX_REMEMBERED:
        with contextlib.suppress(KeyError):
            _remembered.popitem(last=False)
    return answer


def _plain(node: Any) -> Any:
    """A tree as JSON: rationals become strings behind a mark."""
    if isinstance(node, int | Fraction):
        return {"q": f"{node.numerator:x}/{node.denominator:x}"}
    return [_plain(part) for part in node] if isinstance(node, tuple) else node


def closed_form(n: Normalizer, node: Node) -> Poly | None:
    """The normal form of what sympy makes of a limit, integral, derivative, sum or product; None
    without one.
    """
    n.spend(12_000)  # at most three questions in one comparison
    if n.bound:
        return None
    line = _ask(json.dumps(_plain(node)))
    if not line:  # the machine is busy: not equal this time, and nothing is remembered
        raise TimeoutError("the worker is not available")
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
    closed = closed_form(n, node)
    return _opaque(n, node) if closed is None else closed


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
