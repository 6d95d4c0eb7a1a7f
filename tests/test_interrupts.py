"""Told to stop at any place of the training loop: nothing is torn, and resuming gives the undisturbed run."""

import json
import os
import signal

import pytest
import safetensors.torch
import torch

from mathref.batches import Example
from mathref.checkpoint import CHECKPOINT, METRICS
from mathref.interrupts import terminable, uninterrupted
from mathref.model import ModelConfig, Transformer
from mathref.trainer import SolutionLikelihood, TrainConfig, mean_loss, train

CONFIG = ModelConfig(
    vocab_size=50, n_layer=1, n_head=2, n_kv_head=2, head_dim=8, n_embd=16, n_inner=32, max_seq_len=32
)
ITEMS = [Example([1 + (7 * i + j) % 49 for j in range(4 + i % 5)], 2) for i in range(20)]
LOOP = TrainConfig(steps=8, batch_size=4, lr=1e-2, save_every=5, log_every=2, eval_every=3, warmup_steps=2)


def told(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


class Told(SolutionLikelihood):
    """The loss, with signals at chosen calls of the places that a signal can hit."""

    def __init__(self, place, at):
        self.place, self.at, self.calls = place, at, dict.fromkeys(("loss", "update", "validate", "save"), 0)

    def reach(self, place):
        self.calls[place] += 1
        if place == self.place and self.calls[place] == self.at:
            told()

    def loss(self, model, items):
        self.reach("loss")
        return super().loss(model, items)


def run(folder, place="", at=0, resume=False):
    """Train a small model, which a signal reaches at the `at`-th visit of `place`."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model, objective = Transformer(CONFIG), Told(place, at)

    def validate(model):
        value = mean_loss(model, ITEMS[:8], SolutionLikelihood(), LOOP)
        objective.reach("validate")
        return {"val/loss": value}

    def save_best(model):
        safetensors.torch.save_file({k: v.clone() for k, v in model.state_dict().items()}, folder / "best")
        objective.reach("save")

    with pytest.MonkeyPatch.context() as patch, terminable():
        update = torch.optim.AdamW.step

        def step(self, *more):
            objective.reach("update")
            return update(self, *more)

        patch.setattr(torch.optim.AdamW, "step", step)
        return train(
            model, ITEMS, objective, LOOP, folder, validate=validate, save_best=save_best, resume=resume
        )


def results(folder):
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    tensors = {
        f"{name} {key}": tensor.numpy().tobytes()
        for name in ("best", CHECKPOINT)
        for key, tensor in safetensors.torch.load_file(folder / name).items()
    }
    return lines, tensors


@pytest.mark.parametrize(
    ("place", "at", "step"),
    [
        ("loss", 2, 1),  # in the middle of the second step, whose gradient is given up
        ("loss", 6, 5),
        ("update", 4, 4),  # while weights change: the change is finished
        ("validate", 1, 3),  # the step is done, its validation is done again
        ("validate", 3, 8),
        ("save", 2, 6),
    ],
)
def test_a_signal_at_any_place_saves_that_step_and_loses_nothing(tmp_path, place, at, step):
    undisturbed = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt, match=rf"after step {step} of 8"):
        run(tmp_path / "told", place, at)
    with safetensors.safe_open(tmp_path / "told" / CHECKPOINT, "pt") as file:
        assert json.loads(file.metadata()["progress"])["step"] == step
    resumed = run(tmp_path / "told", resume=True)
    assert results(tmp_path / "told") == results(tmp_path / "whole")
    assert (resumed.step, resumed.best, resumed.best_step, resumed.tokens) == (
        undisturbed.step,
        undisturbed.best,
        undisturbed.best_step,
        undisturbed.tokens,
    )


def test_before_the_first_step_there_is_nothing_to_save(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="after step 0 of 8"):
        run(tmp_path / "told", "loss", 1)
    assert not (tmp_path / "told" / CHECKPOINT).exists()
    run(tmp_path / "told", resume=True)
    run(tmp_path / "whole")
    assert results(tmp_path / "told") == results(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_block_ends_before_the_signal_counts(number):
    reached = []
    with terminable():
        with pytest.raises(KeyboardInterrupt), uninterrupted():
            told(number)
            told(number)  # an impatient second one
            reached.append("end")
        with pytest.raises(KeyboardInterrupt):  # afterwards it counts at once
            told(number)
            reached.append("never")
    assert reached == ["end"] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_error_of_the_block_comes_first():
    with terminable(), pytest.raises(OSError, match="no room"), uninterrupted():
        told()
        raise OSError("no room")


def test_who_ignores_signals_goes_on_ignoring_them():
    """A shell starts background processes with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            told(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
