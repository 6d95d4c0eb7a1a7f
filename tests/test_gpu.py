"""An accelerator computes what the CPU does; skipped where there is none (`pytest -m gpu -rs` says so)."""

import pytest
import torch
from test_families import EACH, our_model, random_tokens
from test_lora import adapted, steps

from mathref.batches import encode_example
from mathref.checkpoint import CHECKPOINT, Progress, load_checkpoint, save_checkpoint
from mathref.cuda_graph import DecodingStep
from mathref.kv_cache import KVCache
from mathref.lora import LoRAConfig
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


def test_a_resumed_run_takes_the_steps_of_an_undisturbed_one(tmp_path):
    """The optimiser's step count is fused AdamW's own: it has to lie on the GPU after loading, too."""
    tokenizer = load_tokenizer(ASSETS / "tiny")
    items = [encode_example(tokenizer, p.problem, p.detailed) for p in generate("train", 16)]
    config = TrainConfig(steps=4)

    def start():
        model = load_model(ASSETS / "tiny", "cuda", torch.float32)
        return model, make_optimizer(model, config)

    def take(model, optimizer, n):
        for _ in range(n):
            optimise_step(model, items, SolutionLikelihood(), optimizer, 1e-3, config)
            optimizer.step()

    whole = start()
    take(*whole, 4)
    first, then = start(), start()
    take(*first, 2)
    save_checkpoint(tmp_path / CHECKPOINT, *first, Progress(step=2), "")
    load_checkpoint(tmp_path / CHECKPOINT, *then, "")
    take(*then, 2)
    for a, b in zip(whole[0].parameters(), then[0].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", EACH)
def test_a_recorded_step_is_the_step(case, dtype):
    """To the last bit what the same padded batch gives without recording; rows leave and are copied."""
    model = our_model(case).to("cuda", dtype)
    caches = [KVCache(model.config, 0, 40, device="cuda", dtype=dtype) for _ in range(3)]
    recorded, padded, plain = (
        DecodingStep(model, cache, pad=pad) for cache, pad in zip(caches, (None, True, False), strict=True)
    )
    padded.records = False
    assert recorded.records and recorded.pad
    mask = torch.arange(9) < torch.tensor([3, 9, 9, 1, 3]).unsqueeze(1)
    for cache in caches:
        prompts = KVCache(model.config, 5, 40, device="cuda", dtype=dtype)
        model.hidden(random_tokens(5, 9).cuda(), mask=mask.cuda(), kv_cache=prompts)
        cache.extend(prompts)
    for i in range(30):
        if i == 12:
            for cache in caches:
                cache.select(torch.tensor([4, 0, 2], device="cuda"))
                cache.copy_rows(torch.tensor([2, 0], device="cuda"), torch.tensor([3, 4], device="cuda"))
        tokens = random_tokens(5, seed=i).cuda()
        a, b, c = (step(tokens) for step in (recorded, padded, plain))
        assert torch.equal(a, b)
        if dtype == torch.float32:
            torch.testing.assert_close(a, c, rtol=1e-3, atol=1e-3)
    assert any(recorded._graphs.values()) and not any(padded._graphs.values())


def test_samples_do_not_depend_on_recording(monkeypatch):
    """The whole loop in bfloat16 with refill: texts, tokens and log-probabilities, bit for bit."""
    tokenizer = load_tokenizer(ASSETS / "small")
    model = load_model(ASSETS / "small", "cuda", torch.bfloat16)
    prompts = [generator_prompt(p.problem) for p in generate("validation", 40)]

    def draw():
        return sample(model, tokenizer, prompts, n=8, max_new_tokens=100, batch_rows=64)

    found = draw()
    assert draw() == found
    create = DecodingStep.__init__

    def without_recording(step, *args):
        create(step, *args)
        step.records = False

    monkeypatch.setattr(DecodingStep, "__init__", without_recording)
    assert draw() == found


def test_frozen_bfloat16_weights_take_the_steps_of_float32():
    """LoRA on a GPU: autocast makes bfloat16 of frozen weights in each product anyway."""
    config = TrainConfig(steps=3, dtype=torch.bfloat16, tokens_per_batch=64)
    found = []
    for widen in (False, True):
        model = load_model(ASSETS / "tiny", "cpu", torch.bfloat16)
        model = adapted(model.float() if widen else model, LoRAConfig(4, 8.0)).cuda()
        found.append((steps(model, config), [p.float() for p in model.parameters()]))
    (narrow, weights), (wide, others) = found
    assert narrow == wide and narrow[2] < narrow[0]
    assert all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))
