"""What a GPU records is decoding of a padded batch: here on the CPU, test_gpu.py has the recording itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_families import EACH, our_model, random_tokens
from test_sampler import MANY, TOKENIZER, tiny_model

from mathref import cuda_graph, sampler
from mathref.cuda_graph import DecodingStep, padded_rows
from mathref.kv_cache import KVCache
from mathref.sampler import sample


@pytest.fixture
def unwritten_memory_is_nan() -> Iterator[None]:
    """torch fills what it would leave as it is, in this mode."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@given(st.integers(2, 10**4))
def test_padding_is_at_most_a_quarter_and_shapes_are_few(rows: int) -> None:
    padded = padded_rows(rows)
    assert rows <= padded <= 1.25 * rows
    assert padded_rows(padded) == padded
    assert len({padded_rows(n) for n in range(rows // 2 + 1, rows + 1)}) <= 5  # four an octave, and its end


@torch.no_grad()
@pytest.mark.parametrize("case", EACH)
@pytest.mark.usefixtures("unwritten_memory_is_nan")
def test_a_padded_step_is_the_step(case: str) -> None:
    """Rows of several lengths: one alone, four come in, two leave, two are copied, six come in."""
    model = our_model(case).double()
    caches, steps = [], []
    for pad in (False, True):
        cache = KVCache(model.config, 0, 40, device="cpu", dtype=torch.float64)
        caches.append(cache)
        steps.append(DecodingStep(model, cache, pad=pad))

    def enter(lengths: list[int]) -> None:
        mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
        tokens = random_tokens(*mask.shape, seed=len(lengths))
        for cache in caches:
            prompts = KVCache(model.config, len(lengths), 40, device="cpu", dtype=torch.float64)
            model.hidden(tokens, mask=mask, kv_cache=prompts)
            cache.extend(prompts)

    def go_on(n: int) -> None:
        for i in range(n):
            tokens = random_tokens(len(caches[0].lengths), seed=i)
            plain, padded = (step(tokens) for step in steps)
            assert plain.isfinite().all()
            # Gemma has parts in float32 whatever the model is in.
            torch.testing.assert_close(padded, plain, rtol=1e-4, atol=1e-4)
        assert caches[0].longest == caches[1].longest
        assert torch.equal(caches[0].lengths, caches[1].lengths)

    enter([6])
    go_on(2)  # a row alone
    enter([3, 9, 9, 1])
    go_on(8)
    for cache in caches:
        cache.select(torch.tensor([4, 0, 2]))
        cache.copy_rows(torch.tensor([2, 0]), torch.tensor([3, 4]))
    go_on(4)
    enter([2, 11, 5, 1, 2, 2])
    go_on(40 - caches[0].longest)  # to the end of the cache, which is no multiple of anything


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.usefixtures("unwritten_memory_is_nan")
def test_samples_of_padded_batches_are_those_of_plain_ones(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole loop, with refill, in which a padded shape is met again and again."""
    model = tiny_model().double()
    draw = partial(sample, model, TOKENIZER, MANY, n=3, temperature=temperature, max_new_tokens=90)
    plain = draw(batch_rows=6)
    made: list[DecodingStep] = []

    def padded(*args: object) -> DecodingStep:
        made.append(DecodingStep(*args, pad=True))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(sampler, "DecodingStep", padded)
    monkeypatch.setattr(cuda_graph, "KEYS", 16)  # the model's context is 64
    assert draw(batch_rows=6) == plain
    shapes = {shape for step in made for shape in step._graphs}
    assert len({keys for _, keys in shapes}) > 1
    assert len({rows for rows, _ in shapes}) > 1


def test_a_cpu_pads_nothing_and_records_nothing() -> None:
    model = tiny_model()
    step = DecodingStep(model, KVCache(model.config, 1, 8, device="cpu", dtype=torch.float32))
    assert not step.pad and not step.records
