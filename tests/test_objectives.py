"""What the stages minimise, against full forward passes of one example at a time; steps cut in any way."""

import pytest
import torch

from mathref import linear, vocabulary
from mathref.batches import Example
from mathref.evaluator import verdict_words
from mathref.model import ModelConfig, Transformer
from mathref.objectives import (
    Contrast,
    ContrastiveObjective,
    Joint,
    JointObjective,
    Labelled,
    MarginObjective,
    Pair,
    XentObjective,
    solution_logprobs,
)
from mathref.prompts import generator_prompt
from mathref.runs import ASSETS
from mathref.sampler import sample
from mathref.tokenizer import load_tokenizer
from mathref.trainer import TrainConfig, make_optimizer, mean_loss, optimise_step

TOKENIZER = load_tokenizer(ASSETS / "tiny")
WORDS = verdict_words(TOKENIZER)
GENERATOR = torch.Generator()


def new_model():
    torch.manual_seed(0)
    shape = dict(n_layer=2, n_head=4, n_kv_head=2, head_dim=8, n_embd=24, n_inner=32, max_seq_len=128)
    model = Transformer(ModelConfig(vocab_size=TOKENIZER.vocab_size, **shape))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return model


def ids(length):
    return tuple(torch.randint(3, TOKENIZER.vocab_size, (length,), generator=GENERATOR).tolist())


def example(n_prompt, n_targets):
    return Example(ids(n_prompt + n_targets), n_prompt)


# --- One row at a time, no batch, no branches ---


def logprob(model, context, target):
    """log p(target | context): one forward pass."""
    logits = model(torch.tensor([[*context, *target]]))[0].log_softmax(dim=-1)
    return sum(logits[len(context) - 1 + i, token] for i, token in enumerate(target))


def solution_logprob(model, e):
    return logprob(model, e.ids[: e.n_prompt], e.ids[e.n_prompt :])


def log_score(model, text, word=0):
    both = torch.stack([logprob(model, text, word) for word in WORDS])
    return both[word] - both.logsumexp(0)


def plain_loss(model, objective, item):
    """The objective of one item, written out."""
    if isinstance(objective, MarginObjective):
        return (log_score(model, item.incorrect) - log_score(model, item.correct) + objective.margin).clamp(
            min=0
        )
    if isinstance(objective, XentObjective):
        if objective.over_vocabulary:
            return -logprob(model, item.ids, WORDS[0] if item.is_correct else WORDS[1])
        return -log_score(model, item.ids, 0 if item.is_correct else 1)
    mle = -solution_logprob(model, item.solution) / (len(item.solution.ids) - item.solution.n_prompt)
    if isinstance(objective, JointObjective):
        return plain_loss(model, objective.judge, item.judged) + objective.alpha_2 * mle
    good, bad = (
        solution_logprob(model, e) / ((len(e.ids) - e.n_prompt) if objective.length_normalised else 1)
        for e in (item.correct, item.incorrect)
    )
    return (bad - good + objective.margin).clamp(min=0) + objective.alpha_1 * mle


def pair():
    return Pair(ids(9), ids(23))


def labelled():
    length, coin = torch.randint(5, 40, (2,), generator=GENERATOR).tolist()
    return Labelled(ids(length), coin % 2 == 0)


def contrast():
    return Contrast(example(6, 12), example(6, 5), example(6, 20))


CASES = {
    "margin": (MarginObjective(WORDS, 0.5), pair),
    "xent": (XentObjective(WORDS), labelled),
    "xent-vocab": (XentObjective(WORDS, over_vocabulary=True), labelled),
    "joint-xent": (JointObjective(XentObjective(WORDS), 0.3), lambda: Joint(labelled(), example(5, 17))),
    "joint-margin": (JointObjective(MarginObjective(WORDS, 1.0), 2.0), lambda: Joint(pair(), example(5, 8))),
    "contrastive": (ContrastiveObjective(0.5, 0.7), contrast),
    "contrastive-means": (ContrastiveObjective(0.5, 0.7, length_normalised=True), contrast),
}
each_objective = pytest.mark.parametrize(("objective", "make"), CASES.values(), ids=CASES)


def some(make, n=7):
    GENERATOR.manual_seed(0)
    return [make() for _ in range(n)]


@each_objective
def test_loss_equals_forward_passes_of_one_row_each(objective, make):
    model, items = new_model(), some(make)
    with torch.no_grad():
        expected = torch.stack([plain_loss(model, objective, item) for item in items])
        found = objective.loss(model, items)
    assert expected.max() > expected.min() and expected.max() > 0.1
    torch.testing.assert_close(found, expected.sum(), rtol=1e-4, atol=1e-4)
    config = TrainConfig(steps=1, tokens_per_batch=80)
    assert mean_loss(model, items, objective, config) == pytest.approx(expected.mean().item(), rel=1e-4)


@each_objective
def test_micro_batches_give_the_gradient_of_the_one_large_batch(objective, make):
    """And that gradient is the one of the plain computation: mean over the items of the step."""
    items, gradients, losses = some(make), [], []
    for budget in (1, 90, 10**6):
        model = new_model()
        config = TrainConfig(steps=1, tokens_per_batch=budget, max_grad_norm=1e9)
        loss, _, _ = optimise_step(model, items, objective, make_optimizer(model, config), 1e-3, config)
        losses.append(loss)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    model = new_model()
    torch.stack([plain_loss(model, objective, item) for item in items]).mean().backward()
    plain = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert plain.norm() > 1e-2
    for gradient in gradients:
        torch.testing.assert_close(gradient, plain, rtol=1e-3, atol=1e-5)
    assert losses[0] == pytest.approx(losses[2], rel=1e-5) == pytest.approx(losses[1], rel=1e-5)


@each_objective
def test_the_chunked_head_gives_the_gradient_of_the_plain_one(objective, make, monkeypatch):
    gradients = []
    for few in (10**9, 0):
        monkeypatch.setattr(vocabulary, "FEW", few)
        monkeypatch.setattr(vocabulary, "CPU_CHUNK", 9 * TOKENIZER.vocab_size)
        model, config = new_model(), TrainConfig(steps=1, max_grad_norm=1e9)
        optimise_step(model, some(make), objective, make_optimizer(model, config), 1e-3, config)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


@each_objective
def test_bfloat16_matrix_products_give_a_finite_loss_nearby(objective, make, monkeypatch):
    monkeypatch.setattr(linear, "BFLOAT16_IS_EMULATED", False)
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        model, config = new_model(), TrainConfig(steps=1, dtype=dtype)
        optimizer = make_optimizer(model, config)
        loss, norm, _ = optimise_step(model, some(make), objective, optimizer, 1e-3, config)
        losses.append(loss)
        assert norm > 0
    assert losses[1] == pytest.approx(losses[0], rel=0.1, abs=0.05)


def test_solution_logprobs_are_those_that_the_sampler_reports():
    """Sampling and training must agree on what X is: tokens, end-of-sequence, and where the prompt ends."""
    model = new_model().eval()
    prompts = [generator_prompt("What is 1+1?"), generator_prompt("Find the sum of 3, 4 and 5.")]
    sampled = sample(model, TOKENIZER, prompts, n=4, temperature=1.0, top_p=1.0, max_new_tokens=12, seed=1)
    examples, expected = [], []
    for prompt, completions in zip(prompts, sampled, strict=True):
        start = [TOKENIZER.bos_id, *TOKENIZER.encode(prompt)]
        for completion in completions:
            examples.append(Example([*start, *completion.token_ids], len(start)))
            expected.append(completion.logprob)
    with torch.no_grad():
        assert solution_logprobs(model, examples).tolist() == pytest.approx(expected, abs=1e-3)


def test_means_over_tokens_take_the_advantage_from_short_solutions():
    """Sums prefer the shorter of two solutions whose tokens are equally likely."""
    model = new_model()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()  # every token has probability 1 / V
    item = Contrast(example(3, 20), example(3, 5), example(3, 4))
    uniform = torch.tensor(float(TOKENIZER.vocab_size)).log().item()
    sums, means = (ContrastiveObjective(0.5, 0.0, normalised) for normalised in (False, True))
    assert sums.loss(model, [item]).item() == pytest.approx(15 * uniform + 0.5, rel=1e-5)
    assert means.loss(model, [item]).item() == pytest.approx(0.5, rel=1e-4)
