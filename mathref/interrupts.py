"""Being told to stop: SIGTERM is Ctrl-C, and what belongs together is done or not done.

Paper: none. Schedulers send SIGTERM before they kill, with seconds or minutes to go.
Choices [P]: both arrive as KeyboardInterrupt, which `runs.run_command` turns into one line and exit status
130; `uninterrupted` holds it back for the moment in which weights, progress and files change together.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does, unless the process was started to ignore it."""
    ours = _in_main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block has ended: what belongs together in it is done or not done."""
    arrived: list[int] = []
    stops = (signal.SIGINT, signal.SIGTERM) if _in_main_thread() else ()
    before = {number: signal.getsignal(number) for number in stops}
    before = {number: handler for number, handler in before.items() if callable(handler)}
    try:
        for number in before:
            signal.signal(number, lambda number, _: arrived.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])


def _in_main_thread() -> bool:
    """Whether signals can arrive here: Python handles them in the main thread alone."""
    return threading.current_thread() is threading.main_thread()
