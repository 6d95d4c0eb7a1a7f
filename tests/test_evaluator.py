"""S_cls against a plain forward pass a word; scores that depend on no cache, batch, order or neighbour."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mathref.evaluator import (
    SCORES,
    Words,
    encode_candidate,
    encode_problem,
    log_odds,
    n_tokens,
    score,
    templates,
    verdict_words,
    word_logprobs,
)
from mathref.model import ModelConfig, Transformer
from mathref.prompts import evaluator_prompt
from mathref.runs import ASSETS
from mathref.tokenizer import load_tokenizer

PROBLEM = "What is 12+34?"
SOLUTIONS = [
    "12+34=46.\nThe answer is \\boxed{46}.",
    "\\boxed{46}",
    "First 12+30=42.\nThen 42+4=47.\nThe answer is \\boxed{47}.",
    "12 and 34 make 46, so the answer is \\boxed{46}.",
    "46",
]


class Characters:
    """One id a character, and a token of its own for each of `pieces`, longest first."""

    bos_id, eos_ids = None, (0,)

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.vocab_size = 128 + len(pieces)

    def encode(self, text: str) -> list[int]:
        parts = re.findall("|".join([*map(re.escape, self.pieces), r"[\s\S]"]), text)
        return [128 + self.pieces.index(part) if part in self.pieces else ord(part) for part in parts]

    def decode(self, ids: list[int]) -> str:
        return "".join(self.pieces[i - 128] if i >= 128 else chr(i) for i in ids)

    def save(self, folder: Path) -> None:
        raise NotImplementedError


SHIPPED = load_tokenizer(ASSETS / "tiny")
TOKENIZERS = {
    "shipped": SHIPPED,
    "one-token": Characters(" correct", " incorrect"),
    "one-and-many": Characters(" correct"),
    "many-and-one": Characters(" incorrect"),
    "shared-start": Characters(" in", "correct"),  # [" ", "correct"] and [" in", "correct"]
}
each_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)


def build(vocab_size: int, seed: int = 0, **changes: int) -> Transformer:
    """A random model whose weights are large enough that an error in attention shows in the scores."""
    torch.manual_seed(seed)
    shape = dict(n_layer=2, n_head=4, n_kv_head=2, head_dim=6, n_embd=20, n_inner=28, max_seq_len=512)
    model = Transformer(ModelConfig(vocab_size=vocab_size, **shape | changes)).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * 0.3 + (1.0 if "norm" in name else 0.0))
    return model


def template(tokenizer, solution: str) -> tuple[int, ...]:
    return encode_problem(tokenizer, PROBLEM) + encode_candidate(tokenizer, solution)


def plain(model: Transformer, text: tuple[int, ...], word: tuple[int, ...]) -> torch.Tensor:
    """log p(word | text) by one forward pass over text and word, no cache, no branches."""
    logprobs = model(torch.tensor([[*text, *word]]))[0].log_softmax(dim=-1)
    return sum(logprobs[len(text) - 1 + i, token] for i, token in enumerate(word))


def plain_odds(model: Transformer, tokenizer, solution: str) -> float:
    text, words = template(tokenizer, solution), verdict_words(tokenizer)
    return (plain(model, text, words.correct) - plain(model, text, words.incorrect)).item()


# --- The two words ---


def test_the_shipped_words_are_several_tokens_and_keep_their_space():
    words = verdict_words(SHIPPED)
    assert (len(words.correct), len(words.incorrect)) == (5, 6)
    assert [SHIPPED.decode(word) for word in words] == [" correct", " incorrect"]
    assert [len(word) for word in verdict_words(TOKENIZERS["one-token"])] == [1, 1]


def test_the_template_in_two_parts_is_the_template():
    words = SHIPPED.decode(template(SHIPPED, SOLUTIONS[0])[1:])
    assert words == evaluator_prompt(PROBLEM, SOLUTIONS[0])
    assert template(SHIPPED, SOLUTIONS[0])[0] == SHIPPED.bos_id


class Fixed(Characters):
    def __init__(self, correct: list[int], incorrect: list[int]) -> None:
        super().__init__()
        self.ids = {" correct": correct, " incorrect": incorrect}

    def encode(self, text: str) -> list[int]:
        return self.ids[text]


@pytest.mark.parametrize(
    ("correct", "incorrect"), [([5], [5]), ([5], [5, 6]), ([5, 6, 7], [5, 6]), ([], [5])]
)
def test_words_that_cannot_be_told_apart_are_refused(correct, incorrect):
    """Where one word's ids begin the other's, the probability of the shorter one is that of both."""
    with pytest.raises(ValueError, match="cannot tell them apart") as error:
        verdict_words(Fixed(correct, incorrect))
    assert str(correct) in str(error.value) and "\n" not in str(error.value)
    assert verdict_words(Fixed([5, 6], [5, 7])) == Words((5, 6), (5, 7))  # the same start is no hindrance


# --- Log-probabilities of the words ---


@each_tokenizer
def test_word_logprobs_equal_a_forward_pass_a_word(tokenizer):
    """Rows of different lengths: a branch that saw the other one, or a pad, would shift the numbers."""
    model, words = build(tokenizer.vocab_size), verdict_words(tokenizer)
    texts = [template(tokenizer, solution) for solution in SOLUTIONS]
    expected = [[plain(model, text, word).item() for word in words] for text in texts]
    found = word_logprobs(model, texts, words)
    assert found.shape == (len(texts), 2) and found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert found.std() > 0.5  # the numbers differ, so that the comparison says something


@each_tokenizer
def test_log_odds_are_those_of_a_forward_pass_a_word(tokenizer):
    model = build(tokenizer.vocab_size)
    odds = log_odds(model, tokenizer, PROBLEM, SOLUTIONS)
    assert odds == pytest.approx([plain_odds(model, tokenizer, s) for s in SOLUTIONS], abs=1e-3)


@each_tokenizer
@pytest.mark.parametrize("recompute", [False, True], ids=["plain", "checkpointed"])
def test_the_gradient_is_that_of_two_plain_passes(tokenizer, recompute):
    gradients = []
    weights = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-1.0, 1.0]])  # of the six log-probabilities in a loss
    words, texts = verdict_words(tokenizer), [template(tokenizer, s) for s in SOLUTIONS[:3]]
    for branches in (True, False):
        model = build(tokenizer.vocab_size).train()
        model.checkpoint_layers = recompute
        if branches:
            found = word_logprobs(model, texts, words)
        else:
            found = torch.stack([torch.stack([plain(model, t, word) for word in words]) for t in texts])
        (found * weights).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert gradients[1].norm() > 1
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


# --- Scores of the candidates of a problem ---


@pytest.mark.parametrize("name", ["shipped", "one-token"])
def test_a_score_depends_on_its_own_candidate_alone(name):
    """Property 10 of PAPER.md section 13: not on batch mates, batch size or order."""
    tokenizer = TOKENIZERS[name]
    model = build(tokenizer.vocab_size)
    together = log_odds(model, tokenizer, PROBLEM, SOLUTIONS)
    assert max(together) - min(together) > 1
    for budget in (1, 60, 200):
        cut = log_odds(model, tokenizer, PROBLEM, SOLUTIONS, tokens_per_batch=budget)
        assert cut == pytest.approx(together, abs=1e-3)
    turned = log_odds(model, tokenizer, PROBLEM, SOLUTIONS[::-1])[::-1]
    assert turned == pytest.approx(together, abs=1e-3)
    alone = [log_odds(model, tokenizer, PROBLEM, [solution])[0] for solution in SOLUTIONS]
    assert alone == pytest.approx(together, abs=1e-3)
    expected = [1 / (1 + math.exp(-plain_odds(model, tokenizer, s) / 5)) for s in SOLUTIONS]
    assert score(model, tokenizer, PROBLEM, SOLUTIONS, temperature=5) == pytest.approx(expected, abs=1e-4)


class Counted(Transformer):
    """Keeps the shapes of what it was asked."""

    def hidden(self, tokens, **options):
        self.calls = [*getattr(self, "calls", []), tuple(tokens.shape)]
        return super().hidden(tokens, **options)


def test_what_candidates_share_is_read_once_and_equal_texts_are_scored_once():
    """Every distinct beginning of a template and one of its words is one token of work, none is padding."""
    torch.manual_seed(0)
    model = Counted(build(SHIPPED.vocab_size).config).eval()
    solutions = [SOLUTIONS[0], SOLUTIONS[1], SOLUTIONS[0], SOLUTIONS[0] + " Yes.", SOLUTIONS[0]]
    scores = score(model, SHIPPED, PROBLEM, solutions)
    assert scores[0] == scores[2] == scores[4]
    rows = [template(SHIPPED, s) + word[:-1] for s in solutions for word in verdict_words(SHIPPED)]
    beginnings = {row[:end] for row in rows for end in range(1, len(row) + 1)}
    assert model.calls == [(1, len(beginnings))]
    assert len(beginnings) < sum(map(len, rows)) / 5


@pytest.mark.parametrize("name", ["shipped", "one-token"])
def test_batches_hold_the_tokens_that_were_asked_for(name):
    """The two words were left out of the count, nine tokens a row with the shipped tokenizer."""
    tokenizer = TOKENIZERS[name]
    model = Counted(build(tokenizer.vocab_size).config).eval()

    def widths(budget: int) -> list[int]:
        model.calls = []
        log_odds(model, tokenizer, PROBLEM, SOLUTIONS, tokens_per_batch=budget)
        return [width for _, width in model.calls]

    (total,) = widths(10_000)
    assert widths(total) == [total]
    halves = widths(total - 1)
    assert len(halves) == 2 and max(halves) < total < sum(halves)  # the problem is read twice then
    assert len(widths(1)) == len(SOLUTIONS)


def test_no_solutions_have_no_scores():
    assert score(build(SHIPPED.vocab_size), SHIPPED, PROBLEM, []) == []


def test_a_candidate_beyond_the_context_is_named():
    model = build(SHIPPED.vocab_size, max_seq_len=150)
    long = "1+1=2. " * 60
    with pytest.raises(ValueError, match=r"'What is 12\+34\?': candidate 2 .*context holds 150") as error:
        log_odds(model, SHIPPED, PROBLEM, ["46", "47", long, long])
    assert "\n" not in str(error.value)
    # The last token that fits does fit: the words' last tokens predict nothing and need no place.
    length = n_tokens(
        encode_problem(SHIPPED, PROBLEM), encode_candidate(SHIPPED, "46"), verdict_words(SHIPPED)
    )
    for room in (length, length - 1):
        tight = build(SHIPPED.vocab_size, max_seq_len=room)
        if room == length:
            assert score(tight, SHIPPED, PROBLEM, ["46"]) == pytest.approx(
                score(build(SHIPPED.vocab_size), SHIPPED, PROBLEM, ["46"]), abs=1e-5
            )
        else:
            with pytest.raises(ValueError, match="candidate 0"):
                log_odds(tight, SHIPPED, PROBLEM, ["46"])


def test_a_candidate_beyond_the_context_has_the_lowest_score():
    """It ended the run; the scores of the others do not change with it."""
    model = build(SHIPPED.vocab_size, max_seq_len=150)
    long = "1+1=2. " * 60
    assert score(model, SHIPPED, PROBLEM, [long, *SOLUTIONS, long]) == [
        SCORES[0], *score(model, SHIPPED, PROBLEM, SOLUTIONS), SCORES[0]
    ]  # fmt: skip
    assert score(model, SHIPPED, PROBLEM, [long], temperature=1e3) == [SCORES[0]]
    found = templates(SHIPPED, PROBLEM, [long, "46", long], 150)
    assert list(found.ids) == ["46"] and found.too_long[long] > 150


def test_a_tokenizer_of_another_model_is_refused():
    with pytest.raises(ValueError, match="do not belong together"):
        score(build(100), SHIPPED, PROBLEM, SOLUTIONS)


# --- Extremes, temperature, half precision ---


class Certain(torch.nn.Module):
    """A model of fixed logits: " correct" is `odds` more likely than " incorrect", wherever it stands."""

    def __init__(self, odds: float) -> None:
        super().__init__()
        self.config = build(130).config
        self.logits = torch.nn.Parameter(torch.zeros(130))
        with torch.no_grad():
            self.logits[128] = odds

    def hidden(self, tokens, *, layout=None):
        return torch.zeros(*tokens.shape, 1)

    def head(self, hidden):
        return self.logits.expand(*hidden.shape[:-1], -1)

    def tree_layout(self, tree):
        return None


@pytest.mark.parametrize("odds", [-1e4, -800.0, -40.0, 0.0, 40.0, 800.0, 1e4])
def test_extreme_odds_stay_probabilities(odds):
    """exp(800) overflows, and 1 - 1e-40 is 1.0 in floating point."""
    tokenizer, model = TOKENIZERS["one-token"], Certain(odds)
    assert log_odds(model, tokenizer, "1+1?", ["2"])[0] == pytest.approx(odds, rel=1e-4, abs=1e-5)
    for temperature in (1e-3, 1.0, 1e3):
        value = score(model, tokenizer, "1+1?", ["2"], temperature=temperature)[0]
        assert 0 < value < 1 and (value > 0.5) == (odds > 0)


def test_scores_tie_only_beyond_what_the_docstring_says():
    """It said that a temperature changes no order; in float64 nothing lies between 1 - 2^-53 and 1."""

    def scored(odds: float, temperature: float = 1.0) -> float:
        return score(Certain(odds), TOKENIZERS["one-token"], "1+1?", ["2"], temperature=temperature)[0]

    assert scored(30.0) < scored(30.1) < scored(36.0) < scored(36.8) == scored(50.0)
    assert scored(36.8, 0.5) == scored(50.0, 0.5) > scored(36.8, 2.0) < scored(50.0, 2.0)
    assert scored(-700.0) == scored(-695.0) < scored(-689.0) < scored(-50.0) < scored(-36.8)


def test_temperature_brings_scores_to_one_half_and_keeps_their_order():
    model = build(SHIPPED.vocab_size)
    odds = log_odds(model, SHIPPED, PROBLEM, SOLUTIONS)
    for low, high in ((0.5, 1.0), (1.0, 3.0), (3.0, 100.0)):
        sharp, soft = (score(model, SHIPPED, PROBLEM, SOLUTIONS, temperature=t) for t in (low, high))
        assert all(abs(a - 0.5) > abs(b - 0.5) for a, b in zip(sharp, soft, strict=True))
        order = sorted(range(len(odds)), key=odds.__getitem__)
        assert order == sorted(order, key=sharp.__getitem__) == sorted(order, key=soft.__getitem__)
    by_hand = [1 / (1 + math.exp(-o / 3)) for o in odds]
    assert score(model, SHIPPED, PROBLEM, SOLUTIONS, temperature=3.0) == pytest.approx(by_hand)
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="temperature"):
            score(model, SHIPPED, PROBLEM, SOLUTIONS, temperature=wrong)


@pytest.mark.parametrize("name", ["shipped", "one-token"])
def test_bfloat16_scores_are_near_those_of_float32(name):
    tokenizer = TOKENIZERS[name]
    exact = log_odds(build(tokenizer.vocab_size), tokenizer, PROBLEM, SOLUTIONS)
    rounded = log_odds(build(tokenizer.vocab_size).bfloat16(), tokenizer, PROBLEM, SOLUTIONS)
    spread = max(exact) - min(exact)
    assert rounded == pytest.approx(exact, abs=0.5 * spread) and rounded != exact


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        score(Certain(math.nan), TOKENIZERS["one-token"], "1+1?", ["2"])


def test_scoring_leaves_no_gradient_behind():
    model = build(SHIPPED.vocab_size)
    score(model, SHIPPED, PROBLEM, SOLUTIONS[:2])
    assert all(p.grad is None for p in model.parameters())


def test_log_odds_in_bfloat16_are_not_rounded_to_its_steps():
    """Logits in bfloat16 are multiples of 1/8 from 16 on: of a tenth of GSM8K's problems the best candidates
    were tied, and the one sampled first won.
    """
    tokenizer = TOKENIZERS["one-token"]
    exact = build(tokenizer.vocab_size)
    with torch.no_grad():
        exact.head_weight.mul_(4)  # logits of some tens, as those of real models
    coarse = build(tokenizer.vocab_size).bfloat16()
    coarse.load_state_dict(exact.state_dict())
    solutions = [f"It is {i}, and {i * i} is its square." for i in range(60)]
    found = log_odds(coarse, tokenizer, "What is it?", solutions)
    expected = log_odds(exact, tokenizer, "What is it?", solutions)
    assert len(set(found)) == len(solutions)
    assert np.corrcoef(found, expected)[0, 1] > 0.9
