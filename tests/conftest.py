"""Fixtures that several test modules use."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

# The same examples in every run: a failure is one of the change at hand.
hypothesis.settings.register_profile("fixed", derandomize=True, database=None)
hypothesis.settings.load_profile("fixed")

if TYPE_CHECKING:
    from mathref.stages import Stage


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_counts() -> None:
    """A shell that runs the tests in the background lets them, and all they start, ignore Ctrl-C."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stage, Path]:
    """A pre-training stage of the smallest size, and its untrained model saved as a checkpoint."""
    import torch  # not above: the grader's tests run without it

    from mathref import pretraining
    from mathref.trainer import TrainConfig
    from mathref.weights import save_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "TOKENIZER_DOCUMENTS", 300)  # enough for the tests, and quick
        config = TrainConfig(steps=2, batch_size=3)
        stage = pretraining.pretrain("tiny", config, device=torch.device("cpu"), n_validation=4)
    folder = tmp_path_factory.mktemp("base")
    save_model(stage.model, folder)
    stage.tokenizer.save(folder)
    return stage, folder


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """torch fills memory that nothing was written to with NaN, so that a result that reads it shows it."""
    import torch

    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
