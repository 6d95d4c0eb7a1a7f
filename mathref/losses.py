"""The training objectives, one function an equation.

Paper: section 4 (L_mle); section 6.2, Eqs. 8 and 9 (L_cls-margin, L_cls-xent); section 8 (L_seq and L_ctr on
the generator itself, the joint L_mul, whose form is [M]: the two ideas that sequential fine-tuning replaces).
Choices [P]: a loss returns the sum over its rows or targets; the trainer divides once by their number in the
whole optimiser step, so that splitting a step into micro-batches never changes the gradient. Scores stay in
log space: log S_cls = logsigmoid(log-odds), never the logarithm of a quotient of probabilities.

Shapes: B rows (one candidate or one pair each), M target tokens, V vocabulary.
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


def log_score_cls(word_logprobs: torch.Tensor) -> torch.Tensor:
    """log S_cls(X | P) = log [ p("correct" | T) / (p("correct" | T) + p("incorrect" | T)) ]   [section 6.1]

    word_logprobs (B, 2): log p_M of " correct" and of " incorrect" after the template T(P, X). Returns (B,).
    A constant added to both changes nothing, and the scores of the two words sum to 1.
    """
    return F.logsigmoid(word_logprobs[:, 0] - word_logprobs[:, 1])  # (B,)


def margin_loss(
    log_score_correct: torch.Tensor, log_score_incorrect: torch.Tensor, margin: float
) -> torch.Tensor:
    """L_cls-margin = max(0, log S_cls(X_incorrect | P) - log S_cls(X_correct | P) + lambda)   [Eq. 8]

    Both (B,), one pair of candidates of one problem a row; lambda is `margin`. Returns the sum.
    """
    return torch.relu(log_score_incorrect - log_score_correct + margin).sum()


def xent_loss(word_logprobs: torch.Tensor, is_correct: torch.Tensor) -> torch.Tensor:
    """L_cls-xent = - 1{X correct} log p_cls("correct" | X, P) - 1{X incorrect} log p_cls("incorrect" | X, P)
    [Eq. 9]

    p_cls is normalised over the two words: binary cross-entropy on their log-odds. word_logprobs (B, 2),
    is_correct (B,) bool. Returns the sum.
    """
    log_odds = word_logprobs[:, 0] - word_logprobs[:, 1]  # (B,)
    return F.binary_cross_entropy_with_logits(log_odds, is_correct.to(log_odds.dtype), reduction="sum")


def vocab_xent_loss(word_logprobs: torch.Tensor, is_correct: torch.Tensor) -> torch.Tensor:
    """Eq. 9 with p_cls over the whole vocabulary: - log p_M(the right word | T)   [`--xent-space vocab`]

    word_logprobs (B, 2), is_correct (B,) bool. Returns the sum.
    """
    return -torch.where(is_correct, word_logprobs[:, 0], word_logprobs[:, 1]).sum()


def seq_loss(logprob_correct: torch.Tensor, logprob_incorrect: torch.Tensor, margin: float) -> torch.Tensor:
    """L_seq = max(0, log p_M(X_incorrect | P) - log p_M(X_correct | P) + lambda)   [section 8]

    Both (B,): log-probabilities of whole solutions, or their means over tokens (`--length-normalised`: the
    paper does not say which). Returns the sum.
    """
    return torch.relu(logprob_incorrect - logprob_correct + margin).sum()


def contrastive_loss(l_seq: torch.Tensor, l_mle: torch.Tensor, alpha_1: float) -> torch.Tensor:
    """L_ctr = L_seq + alpha_1 L_mle   [section 8]"""
    return l_seq + alpha_1 * l_mle


def joint_loss(l_cls: torch.Tensor, l_mle: torch.Tensor, alpha_2: float) -> torch.Tensor:
    """L_mul = L_cls + alpha_2 L_mle   [section 8]"""
    return l_cls + alpha_2 * l_mle
