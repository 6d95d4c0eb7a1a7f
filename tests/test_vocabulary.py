"""The chunked head against the plain one: values, gradients, and that no tensor of all logits exists."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mathref import vocabulary
from mathref.model import ModelConfig, Transformer
from mathref.vocabulary import target_logprobs, target_loss

CONFIG = ModelConfig(
    vocab_size=70, n_layer=1, n_head=2, n_kv_head=1, head_dim=8, n_embd=16, n_inner=24, max_seq_len=32
)
FAMILIES = {
    "tied": replace(CONFIG, tie_embeddings=True),
    "untied": replace(CONFIG, tie_embeddings=False),
    "capped": replace(CONFIG, tie_embeddings=True, logit_softcap=1.5),
}
M = 23
each_family = pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)


@pytest.fixture
def chunks_of_five(monkeypatch):
    """23 targets in chunks of 5: the last one is not full."""
    monkeypatch.setattr(vocabulary, "FEW", 0)
    monkeypatch.setattr(vocabulary, "CPU_CHUNK", 5 * CONFIG.vocab_size + 3)


def problem(config):
    """A model with logits as large as a trained one has, a stream, targets and their weights."""
    torch.manual_seed(0)
    model = Transformer(config)
    with torch.no_grad():
        model.head_weight.normal_(0.0, 0.7)
    hidden = torch.randn(M, config.n_embd, requires_grad=True)
    return model, hidden, torch.randint(config.vocab_size, (M,)), torch.randn(M)


def plain_logprobs(model, hidden, targets):
    """torch's own, on the logits of all positions."""
    z = F.linear(hidden, model.head_weight)
    cap = model.config.logit_softcap
    z = z if cap is None else cap * torch.tanh(z / cap)
    return -F.cross_entropy(z.float(), targets, reduction="none")


def value_and_gradients(model, hidden, compute):
    model.zero_grad()
    hidden.grad = None
    value = compute()
    value.sum().backward()
    return value.detach(), hidden.grad.clone(), model.head_weight.grad.clone()


@each_family
def test_loss_and_gradients_are_those_of_all_logits(config, chunks_of_five):
    model, hidden, targets, _ = problem(config)
    found = value_and_gradients(model, hidden, lambda: target_loss(model, hidden, targets) / 7)
    expected = value_and_gradients(model, hidden, lambda: -plain_logprobs(model, hidden, targets).sum() / 7)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert expected[1].abs().max() > 0.01 < expected[2].abs().max()


@each_family
def test_logprobs_and_gradients_with_a_weight_each_are_those_of_all_logits(config, chunks_of_five):
    model, hidden, targets, weights = problem(config)
    found = value_and_gradients(model, hidden, lambda: weights * target_logprobs(model, hidden, targets))
    expected = value_and_gradients(model, hidden, lambda: weights * plain_logprobs(model, hidden, targets))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@each_family
def test_bfloat16_products_come_as_close_as_the_plain_ones(config, chunks_of_five):
    """Against float64 neither is exact: the chunked gradient is allowed twice the plain one's error."""
    model, hidden, targets, _ = problem(config)

    def distance(gradients, exact):
        return [(a.double() - b).norm() / b.norm() for a, b in zip(gradients, exact, strict=True)]

    with torch.autocast("cpu", torch.bfloat16):
        found = value_and_gradients(model, hidden, lambda: target_loss(model, hidden, targets))
        plain = value_and_gradients(model, hidden, lambda: -plain_logprobs(model, hidden, targets).sum())
    assert found[0].dtype == torch.float32 == found[2].dtype
    model, wide = model.double(), hidden.detach().double().requires_grad_()
    exact = value_and_gradients(model, wide, lambda: -plain_logprobs(model, wide, targets).sum())
    for ours, theirs in zip(distance(found, exact), distance(plain, exact), strict=True):
        assert ours < 2 * theirs + 2e-3 and ours < 0.03


def test_a_frozen_head_gets_no_gradient_and_the_stream_its_own(chunks_of_five):
    model, hidden, targets, _ = problem(FAMILIES["untied"])
    expected = value_and_gradients(model, hidden, lambda: target_loss(model, hidden, targets))[1]
    model.lm_head.weight.requires_grad_(False)
    model.zero_grad()
    hidden.grad = None
    target_loss(model, hidden, targets).backward()
    torch.testing.assert_close(hidden.grad, expected)
    assert model.lm_head.weight.grad is None


def test_without_gradients_the_value_is_the_same(chunks_of_five):
    model, hidden, targets, _ = problem(FAMILIES["tied"])
    with torch.no_grad():
        value = target_loss(model, hidden, targets)
    torch.testing.assert_close(value, target_loss(model, hidden, targets).detach())


class LargestTensor(TorchDispatchMode):
    """The most elements that the result of any operation has."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.size = max(self.size, result.numel())
        return result


@pytest.mark.parametrize("compute", [target_loss, target_logprobs])
def test_no_operation_makes_more_logits_than_a_chunk_has(compute, chunks_of_five):
    model, hidden, targets, _ = problem(FAMILIES["tied"])
    with LargestTensor() as largest:
        compute(model, hidden, targets).sum().backward()
    weight = model.head_weight.numel()
    assert largest.size == weight and 5 * CONFIG.vocab_size < weight < M * CONFIG.vocab_size


def test_few_logits_take_the_plain_way_and_many_do_not(monkeypatch):
    """The shipped models' logits do; those of 49,152 words and hundreds of targets do not."""
    for vocab_size, n_targets, plain in ((768, 1024, True), (49152, 640, False)):
        model = Transformer(replace(CONFIG, vocab_size=vocab_size))
        hidden = torch.randn(n_targets, CONFIG.n_embd)
        loss = target_loss(model, hidden, torch.zeros(n_targets, dtype=torch.long))
        assert ("_Loss" in type(loss.grad_fn).__name__) == (not plain)
