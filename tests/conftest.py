"""Fixtures that several test modules use."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_counts() -> None:
    """A shell that runs the tests in the background lets them, and all they start, ignore Ctrl-C."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """torch fills memory that nothing was written to with NaN, so that a result that reads it shows it."""
    import torch  # not above: the grader's tests run without it

    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
