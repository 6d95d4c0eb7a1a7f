"""What each stage minimises: the equations of losses.py applied to batches of token ids.

Paper: section 6.2 (the evaluator: no loss on problem or solution tokens); section 8 (contrastive learning
on the generator, and the joint loss).
Choices [P]: an objective returns a sum over its items and the trainer divides by their number in the whole
step. In L_ctr and L_mul the likelihood of a solution is its mean over tokens, so that alpha_1 and alpha_2
weigh terms of one order of size whatever the solutions' lengths; with `--length-normalised` L_seq uses
means too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from mathref.batches import Example
from mathref.evaluator import Ids, Words, word_logprobs
from mathref.losses import (
    contrastive_loss,
    joint_loss,
    log_score_cls,
    margin_loss,
    seq_loss,
    vocab_xent_loss,
    xent_loss,
)
from mathref.model import Transformer
from mathref.trainer import Objective, predicting_states
from mathref.vocabulary import target_logprobs

Item = TypeVar("Item")


@dataclass(frozen=True)
class Labelled:
    """A candidate in its template T(P, X), and whether it is correct."""

    ids: Ids
    is_correct: bool


@dataclass(frozen=True)
class Pair:
    """A correct and an incorrect candidate of one problem, each in its template T(P, X)."""

    correct: Ids
    incorrect: Ids


@dataclass(frozen=True)
class Joint(Generic[Item]):
    """An item of the evaluator's loss and a solution to imitate."""

    judged: Item
    solution: Example


@dataclass(frozen=True)
class Contrast:
    """A correct and an incorrect solution of one problem as the generator writes them, and one to imitate."""

    correct: Example
    incorrect: Example
    solution: Example


@dataclass(frozen=True)
class MarginObjective:
    """L_cls-margin, Eq. 8, mean over pairs."""

    words: Words
    margin: float

    def n_tokens(self, item: Pair) -> int:
        return len(item.correct) + len(item.incorrect)

    def weight(self, item: Pair) -> int:
        return 1

    def loss(self, model: Transformer, items: Sequence[Pair]) -> torch.Tensor:
        texts = [pair.correct for pair in items] + [pair.incorrect for pair in items]
        log_scores = log_score_cls(word_logprobs(model, texts, self.words))  # (2B,)
        correct, incorrect = log_scores.chunk(2)  # (B,) each
        return margin_loss(correct, incorrect, self.margin)


@dataclass(frozen=True)
class XentObjective:
    """L_cls-xent, Eq. 9, mean over candidates; `over_vocabulary`: p_cls is normalised over all tokens."""

    words: Words
    over_vocabulary: bool = False

    def n_tokens(self, item: Labelled) -> int:
        return len(item.ids)

    def weight(self, item: Labelled) -> int:
        return 1

    def loss(self, model: Transformer, items: Sequence[Labelled]) -> torch.Tensor:
        both = word_logprobs(model, [item.ids for item in items], self.words)  # (B, 2)
        is_correct = torch.tensor([item.is_correct for item in items], device=both.device)  # (B,)
        return (vocab_xent_loss if self.over_vocabulary else xent_loss)(both, is_correct)


@dataclass(frozen=True)
class JointObjective(Generic[Item]):
    """L_mul = L_cls + alpha_2 L_mle on one model, mean over items; L_mle is the mean over a solution's
    tokens.
    """

    judge: Objective[Item]
    alpha_2: float

    def n_tokens(self, item: Joint[Item]) -> int:
        return self.judge.n_tokens(item.judged) + len(item.solution.ids)

    def weight(self, item: Joint[Item]) -> int:
        return 1

    def loss(self, model: Transformer, items: Sequence[Joint[Item]]) -> torch.Tensor:
        l_cls = self.judge.loss(model, [item.judged for item in items])
        return joint_loss(l_cls, -_mean_logprobs(model, [i.solution for i in items]).sum(), self.alpha_2)


@dataclass(frozen=True)
class ContrastiveObjective:
    """L_ctr = L_seq + alpha_1 L_mle on the generator, mean over items; L_mle is the mean over tokens."""

    margin: float
    alpha_1: float
    length_normalised: bool = False

    def n_tokens(self, item: Contrast) -> int:
        return len(item.correct.ids) + len(item.incorrect.ids) + len(item.solution.ids)

    def weight(self, item: Contrast) -> int:
        return 1

    def loss(self, model: Transformer, items: Sequence[Contrast]) -> torch.Tensor:
        sampled = [item.correct for item in items] + [item.incorrect for item in items]
        logprobs = solution_logprobs(model, sampled)  # (2B,)
        if self.length_normalised:
            logprobs = logprobs / _target_counts(sampled, logprobs)
        correct, incorrect = logprobs.chunk(2)  # (B,) each
        l_mle = -_mean_logprobs(model, [item.solution for item in items]).sum()
        return contrastive_loss(seq_loss(correct, incorrect, self.margin), l_mle, self.alpha_1)


def solution_logprobs(model: Transformer, examples: Sequence[Example]) -> torch.Tensor:
    """log p_M(X | P) of each example, summed over its targets: (B,) float32."""
    hidden, batch = predicting_states(model, examples)  # (M, C)
    logprobs = target_logprobs(model, hidden, batch.targets)  # (M,)
    return logprobs.new_zeros(len(examples)).index_add(0, batch.example, logprobs)


def _mean_logprobs(model: Transformer, examples: Sequence[Example]) -> torch.Tensor:
    """Mean log-probability of the targets of each example: (B,)."""
    logprobs = solution_logprobs(model, examples)
    return logprobs / _target_counts(examples, logprobs)


def _target_counts(examples: Sequence[Example], like: torch.Tensor) -> torch.Tensor:
    return like.new_tensor([len(e.ids) - e.n_prompt for e in examples])  # (B,)
