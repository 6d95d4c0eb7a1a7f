"""The training objectives, one function an equation.

Paper: section 4 (L_mle). The evaluator's losses (Eqs. 8 and 9) and the two objectives that sequential
fine-tuning replaces belong here too.
Choices [P]: a loss returns the sum over its targets; the trainer divides once by the number of targets of
the whole optimiser step, so that splitting a step into micro-batches never changes the gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def mle_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """L_mle(X, P) = - sum_i log p_M(x_i | x_<i, P)   [section 4]

    logits (M, V): the predictions of the M solution tokens, the end-of-sequence token among them; targets
    (M,). Prompt tokens are left out by the caller, who never computes their logits. Returns a scalar in
    float32.
    """
    return F.cross_entropy(logits.float(), targets, reduction="sum")
