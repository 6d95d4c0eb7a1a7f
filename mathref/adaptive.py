"""Adaptive stopping, replayed from a samples file: how few samples would have given the same vote?

Paper: none; the cost that Maj1@N (Tables 2 to 7) leaves out: N = 64 samples for easy and hard problems alike.
Choices [P]: samples count in the order in which they were drawn, one at a time, up to N. Two rules: stop when
the leading cluster cannot be overtaken or tied by the samples left, which never changes the vote ("settled");
or when, of the two largest clusters with v1 and v2 votes, the first is the more probable answer with a
posterior above a threshold: P(p > 1/2) for p ~ Beta(v1 + 1, v2 + 1), the rule of Adaptive-Consistency
(Aggarwal et al. 2023, arXiv 2305.11860). Solutions without an answer are drawn and paid for, and do not vote.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mathref.formats import SampledProblem
from mathref.rerank import Cluster

THRESHOLDS = (0.8, 0.9, 0.95, 0.99, 0.999)


@dataclass(frozen=True)
class Stopped:
    """What one rule reaches: per problem the samples drawn and whether the vote at that point is right."""

    rule: str
    spent: list[int]
    right: list[float]


@functools.cache  # pairs of votes come back in every problem
def posterior_lead(first: int, second: int) -> float:
    """P(p > 1/2) for p ~ Beta(first + 1, second + 1): the leader is the more probable of the two answers.

    Equals P(Binomial(first + second + 1, 1/2) <= first). Examples: (0, 0) -> 0.5, (1, 0) -> 0.75, (3, 0) ->
    0.9375.
    """
    n = first + second + 1
    return sum(math.comb(n, i) for i in range(first + 1)) / 2**n


def stop(clusters: Sequence[Cluster], n: int, threshold: float | None) -> tuple[int, int | None]:
    """Number of samples drawn of n, and the representative of the cluster that then wins (None: no votes).

    `threshold` None is the settled rule, else the posterior one. Ties go to the cluster sampled first.
    """
    cluster_of = {i: number for number, members in enumerate(clusters) for i in members}
    votes = [0] * len(clusters)
    for drawn in range(1, n + 1):
        if (number := cluster_of.get(drawn - 1)) is not None:
            votes[number] += 1
        first, second = _two_largest(votes)
        if threshold is None:
            done = first - second > n - drawn
        else:
            done = posterior_lead(first, second) > threshold
        if done or drawn == n:
            break
    if not any(votes):
        return n, None
    return drawn, min(c[0] for c, v in zip(clusters, votes, strict=True) if v == first)


def _two_largest(votes: Sequence[int]) -> tuple[int, int]:
    first = second = 0
    for count in votes:
        if count > first:
            first, second = count, first
        elif count > second:
            second = count
    return first, second


def replay(
    problems: Sequence[SampledProblem],
    clusters: Sequence[Sequence[Cluster]],
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[Stopped]:
    """Every rule on every problem: all samples, the settled rule, the posterior rule at each threshold."""
    if wrong := [t for t in thresholds if not 0.5 <= t < 1]:
        raise ValueError(f"a threshold must be at least 0.5 and below 1, got {wrong[0]}")
    full = [len(p.samples) for p in problems]
    rules: list[tuple[str, float | None]] = [("settled", None)]
    rules += [(f"posterior > {threshold:g}", threshold) for threshold in thresholds]
    votes = [_verdict(p, c[0][0] if c else None) for p, c in zip(problems, clusters, strict=True)]
    results = [Stopped("all samples", full, votes)]
    for name, threshold in rules:
        outcomes = [stop(c, n, threshold) for c, n in zip(clusters, full, strict=True)]
        right = [_verdict(p, winner) for p, (_, winner) in zip(problems, outcomes, strict=True)]
        results.append(Stopped(name, [drawn for drawn, _ in outcomes], right))
    return results


def _verdict(problem: SampledProblem, winner: int | None) -> float:
    """1.0 if the winner is right; where no sample has an answer the first one stands, as in metrics."""
    if not problem.samples:
        return 0.0
    return float(problem.samples[winner or 0].correct)
