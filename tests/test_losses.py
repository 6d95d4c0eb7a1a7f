"""L_mle against numbers worked out by hand and against torch's own gradient check."""

import math

import torch

from mathref.losses import mle_loss


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
