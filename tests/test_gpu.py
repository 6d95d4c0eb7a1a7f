"""An accelerator computes what the CPU does; skipped where there is none (`pytest -m gpu -rs` says so)."""

import pytest
import torch

from mathref.batches import encode_example
from mathref.problems import generate
from mathref.prompts import generator_prompt
from mathref.runs import ASSETS
from mathref.sampler import sample
from mathref.tokenizer import load_tokenizer
from mathref.trainer import SolutionLikelihood, TrainConfig, make_optimizer, optimise_step
from mathref.weights import load_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.mark.parametrize("options", [{"n": 1, "temperature": 0}, {"n": 4}], ids=["greedy", "nucleus"])
def test_a_gpu_writes_the_texts_of_the_cpu(options):
    """In float32: the random numbers are the CPU's, and rounding may flip a draw on the edge now and then."""
    tokenizer = load_tokenizer(ASSETS / "small")
    prompts = [generator_prompt(p.problem) for p in generate("validation", 60)]
    here, there = (
        sample(
            load_model(ASSETS / "small", device, torch.float32),
            tokenizer,
            prompts,
            max_new_tokens=64,
            **options,
        )
        for device in ("cpu", "cuda")
    )
    equal = [a.text == b.text for x, y in zip(here, there, strict=True) for a, b in zip(x, y, strict=True)]
    assert sum(equal) >= 0.99 * len(equal)


def test_a_gpu_takes_the_same_step():
    tokenizer = load_tokenizer(ASSETS / "tiny")
    items = [encode_example(tokenizer, p.problem, p.detailed) for p in generate("train", 32)]
    config, found = TrainConfig(steps=2), []
    for device in ("cpu", "cuda"):
        model = load_model(ASSETS / "tiny", device, torch.float32)
        optimizer = make_optimizer(model, config)
        for _ in range(2):
            step = optimise_step(model, items, SolutionLikelihood(), optimizer, 1e-3, config)
            optimizer.step()
            found.append(step)
    for cpu, gpu in zip(found[:2], found[2:], strict=True):
        assert gpu[:2] == pytest.approx(cpu[:2], rel=1e-3) and gpu[2] == cpu[2]
