"""How good must an evaluator be before re-ranking pays? The selection rules on scores of a known quality.

Paper: none; what its Tables 3 and 6 leave open is why one evaluator beats Maj1 and another loses to it.
Choices [P]: the scores of a problem's distinct solutions are those of an ideal evaluator that is right in a
share q of all (correct, incorrect) pairs: normal with variance 1 and mean d for correct, 0 for incorrect
solutions, where d = sqrt(2) Phi^-1(q); S_cls = sigmoid(d x - d^2 / 2) is calibrated where both are as
frequent. Real evaluators err on the same solutions that the generator prefers, so they need more than the
simulated ones. Each draw simulates all problems anew; a problem's value is its mean over the draws.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from mathref.formats import SampledProblem
from mathref.rerank import DEFAULT_K, Strategy
from mathref.selection import Clusters, selected_right

# Share of the pairs in a problem that a simulated evaluator orders rightly.
QUALITIES = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
RULES: tuple[Strategy, ...] = ("maj1", "rr.all", "rr.majk", "w.rr")


@dataclass(frozen=True)
class Simulated:
    """Per rule and problem: how often it is right, over all draws, with an evaluator of quality q."""

    quality: float
    right: dict[Strategy, list[float]]


def with_scores(problem: SampledProblem, distance: float, rng: random.Random) -> SampledProblem:
    """The problem with simulated scores; equal solutions have equal ones. `distance` is d."""
    score: dict[str, float] = {}
    for sample in problem.samples:
        x = rng.gauss(distance if sample.correct else 0.0, 1.0)
        score.setdefault(sample.text, 1 / (1 + math.exp(-distance * (x - distance / 2))))
    samples = tuple(dataclasses.replace(s, score=score[s.text]) for s in problem.samples)
    return dataclasses.replace(problem, samples=samples)


def simulate(
    problems: Sequence[SampledProblem],
    clusters: Clusters,
    *,
    qualities: Sequence[float] = QUALITIES,
    k: int = DEFAULT_K,
    draws: int = 5,
    seed: int = 0,
) -> list[Simulated]:
    """Every rule of RULES with evaluators of the given qualities.

    Raises ValueError for a quality that is not above 0.5 and below 1.
    """
    if wrong := [q for q in qualities if not 0.5 < q < 1]:
        raise ValueError(f"a share of pairs ordered rightly must be above 0.5 and below 1, got {wrong[0]}")
    found = []
    for quality in qualities:
        rng = random.Random(f"{seed}-{quality}")
        distance = math.sqrt(2) * NormalDist().inv_cdf(quality)
        right: dict[Strategy, list[float]] = {rule: [0.0] * len(problems) for rule in RULES}
        for _ in range(draws):
            scored = [with_scores(problem, distance, rng) for problem in problems]
            for rule, values in right.items():
                for place, value in enumerate(selected_right(scored, clusters, rule, k)):
                    values[place] += value / draws
        found.append(Simulated(quality, right))
    return found
