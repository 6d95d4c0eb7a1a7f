"""The equations of sections 4, 6.2 and 8 against numbers worked out by hand and torch's gradient check."""

import functools
import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from mathref.losses import (
    contrastive_loss,
    joint_loss,
    log_score_cls,
    margin_loss,
    mle_loss,
    seq_loss,
    vocab_xent_loss,
    xent_loss,
)

# log p of " correct" and " incorrect" of three candidates: S_cls = 3/4, 1/2, 1/10.
BOTH = torch.tensor([[0.3, 0.1], [0.2, 0.2], [0.01, 0.09]]).log()
LABELS = torch.tensor([True, False, False])


def random(*shape, seed=0):
    numbers = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return numbers.requires_grad_()


def test_value_by_hand():
    # softmax of (0, ln 3) is (1/4, 3/4); -log 3/4 - log 1/4 = log 16/3
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    assert math.isclose(mle_loss(logits, torch.tensor([1, 0])).item(), math.log(16 / 3), rel_tol=1e-6)


def test_gradient_is_probability_minus_target():
    logits = torch.tensor([[0.0, math.log(3)]], requires_grad=True)
    mle_loss(logits, torch.tensor([0])).backward()
    assert torch.allclose(logits.grad, torch.tensor([[0.25 - 1, 0.75]]))


def test_adding_a_constant_to_all_logits_changes_nothing():
    logits, targets = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), torch.arange(5)
    assert torch.allclose(mle_loss(logits, targets), mle_loss(logits + 100, targets), atol=1e-3)


def test_half_precision_logits_are_summed_in_float32():
    # In bfloat16 a sum of 2000 terms of 0.69 stalls long before 1386.
    loss = mle_loss(torch.zeros(2000, 2, dtype=torch.bfloat16), torch.zeros(2000, dtype=torch.long))
    assert loss.dtype == torch.float32 and abs(loss.item() - 2000 * math.log(2)) < 0.1


# --- Values by hand ---


def test_score_of_the_two_words_by_hand():
    assert log_score_cls(BOTH).exp().tolist() == pytest.approx([3 / 4, 1 / 2, 1 / 10])


def test_margin_by_hand():
    """S+ = 3/4 and 1/2 against S- = 1/2 and 1/10 at lambda = 1: only a gap below log e costs."""
    log_scores = torch.tensor([3 / 4, 1 / 2]).log(), torch.tensor([1 / 2, 1 / 10]).log()
    # log 2/3 + 1 = 0.5945; log 1/5 + 1 < 0
    assert margin_loss(*log_scores, 1.0).item() == pytest.approx(math.log(2 / 3) + 1)
    assert margin_loss(*log_scores, 2.0).item() == pytest.approx(math.log(2 / 3) + math.log(1 / 5) + 4)


def test_cross_entropy_by_hand():
    # -log 3/4 - log (1 - 1/2) - log (1 - 1/10)
    assert xent_loss(BOTH, LABELS).item() == pytest.approx(-math.log(3 / 4 * 1 / 2 * 9 / 10))
    # over the whole vocabulary the very words: -log 0.3 - log 0.2 - log 0.09
    assert vocab_xent_loss(BOTH, LABELS).item() == pytest.approx(-math.log(0.3 * 0.2 * 0.09), rel=1e-6)


def test_losses_on_the_generator_by_hand():
    correct, incorrect = torch.tensor([-10.0, -3.0]), torch.tensor([-9.0, -8.0])
    assert seq_loss(correct, incorrect, 0.5).item() == pytest.approx(1.5)  # 1 + 0.5, and 0
    assert contrastive_loss(torch.tensor(1.5), torch.tensor(2.0), 0.1).item() == pytest.approx(1.7)
    assert joint_loss(torch.tensor(0.7), torch.tensor(2.0), 3.0).item() == pytest.approx(6.7)


# --- Properties 7 and 8 of PAPER.md section 13 ---


def test_scores_of_the_two_words_sum_to_one_and_a_constant_changes_nothing():
    both = random(50, 2).detach() * 20
    score, other = log_score_cls(both).exp(), log_score_cls(both.flip(1)).exp()
    assert torch.allclose(score + other, torch.ones(50, dtype=torch.float64), rtol=1e-12)
    assert torch.allclose(log_score_cls(both - 137), log_score_cls(both), rtol=1e-9)
    assert torch.allclose(xent_loss(both - 137, both[:, 0] > 0), xent_loss(both, both[:, 0] > 0), rtol=1e-9)


@pytest.mark.parametrize("gap", [0.5, 0.75, 3.0])
def test_margin_loss_is_exactly_zero_from_lambda_on(gap):
    correct = torch.tensor([-0.25], requires_grad=True)
    incorrect = torch.tensor([-0.25 - gap], requires_grad=True)
    loss = margin_loss(correct, incorrect, 0.5)
    loss.backward()
    assert loss.item() == 0 and correct.grad.item() == 0 == incorrect.grad.item()


def test_margin_gradient_pushes_the_two_apart():
    correct, incorrect = torch.tensor([-0.5], requires_grad=True), torch.tensor([-0.75], requires_grad=True)
    loss = margin_loss(correct, incorrect, 0.5)
    loss.backward()
    assert loss.item() == 0.25 and correct.grad.item() == -1 and incorrect.grad.item() == 1
    # Through S_cls the gradient reaches both words of both candidates, with opposite signs.
    both = torch.tensor([[0.0, 0.1], [0.0, 0.2]], requires_grad=True)
    margin_loss(*log_score_cls(both).chunk(2), 1.0).backward()
    assert both.grad.sign().tolist() == [[-1, 1], [1, -1]]


def test_cross_entropy_is_bce_with_logits_on_the_log_odds():
    both, labels = random(40, 2) * 5, random(40, seed=1) > 0
    expected = F.binary_cross_entropy_with_logits(both[:, 0] - both[:, 1], labels.double(), reduction="sum")
    by_log_score = -torch.where(labels, log_score_cls(both), log_score_cls(both.flip(1))).sum()
    assert torch.allclose(xent_loss(both, labels), expected) and torch.allclose(by_log_score, expected)


def test_cross_entropy_over_the_vocabulary_punishes_other_words_too():
    """A third of the mass on other words: no loss for p_cls of two words, a loss for p_cls of all."""
    both, shifted = BOTH[:1], BOTH[:1] - math.log(3)
    assert xent_loss(shifted, LABELS[:1]).item() == pytest.approx(xent_loss(both, LABELS[:1]).item())
    difference = vocab_xent_loss(shifted, LABELS[:1]) - vocab_xent_loss(both, LABELS[:1])
    assert difference.item() == pytest.approx(math.log(3))


# --- Gradients and extremes ---


@pytest.mark.parametrize("loss", [xent_loss, vocab_xent_loss])
def test_gradients_of_cross_entropies_by_finite_differences(loss):
    labels = torch.tensor([True, False, True, False, False])
    assert gradcheck(lambda both: loss(both, labels), (random(5, 2),))


@pytest.mark.parametrize("loss", [margin_loss, seq_loss])
def test_gradients_of_margins_by_finite_differences(loss):
    """Both branches of the maximum; no row lies on its edge, where there is no derivative."""
    correct, incorrect = random(6), random(6, seed=1)
    gaps = (correct - incorrect - 0.5).detach()
    assert gaps.min() < -1e-3 and gaps.max() > 1e-3 and gaps.abs().min() > 1e-3
    assert gradcheck(functools.partial(loss, margin=0.5), (correct, incorrect))


def test_gradients_of_score_and_sums_by_finite_differences():
    assert gradcheck(log_score_cls, (random(5, 2),))
    assert gradcheck(lambda a, b: contrastive_loss(a, b, 0.3), (random(1), random(1, seed=1)))
    assert gradcheck(lambda a, b: joint_loss(a, b, 0.3), (random(1), random(1, seed=1)))
    targets = torch.tensor([0, 3, 2])
    both = random(3, 4)
    mle_loss(both, targets).backward()  # float32 inside, which finite differences cannot follow
    assert torch.allclose(both.grad, both.softmax(1).detach() - F.one_hot(targets, 4), atol=1e-6)


@pytest.mark.parametrize("odds", [-1e4, 1e4])
def test_extreme_log_odds_give_finite_losses_and_gradients(odds):
    """log(sigmoid(-1e4)) is -inf and its gradient NaN when the probability is computed first."""
    for label in (True, False):
        for loss in (
            lambda both: xent_loss(both, torch.tensor([label])),  # noqa: B023 (called in this very turn)
            lambda both: vocab_xent_loss(both, torch.tensor([label])),  # noqa: B023
            lambda both: margin_loss(log_score_cls(both), log_score_cls(both.flip(1)), 0.5),
        ):
            both = torch.tensor([[min(odds, 0.0), min(-odds, 0.0)]], requires_grad=True)
            value = loss(both)
            value.backward()
            assert value.isfinite() and both.grad.isfinite().all()
    both = torch.tensor([[-1e4, 0.0]], requires_grad=True)
    wrong = xent_loss(both, torch.tensor([True]))
    wrong.backward()
    assert wrong.item() == 1e4 and both.grad.tolist() == [[-1.0, 1.0]]  # what is most wrong still learns
