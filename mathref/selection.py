"""What the selection rules reach on a scored samples file: accuracy, cost, curves, and a choice of K.

Paper: the accuracies of Tables 3, 6 and 7, both halves of Figure 1.
Choices [P]: every function works on problems with stored scores and their clusters (`clusters_of`) and
returns one value per problem, 1.0 where the rule's choice is right, so that intervals and paired tests can
follow. A rule whose scores are not all in the file is left out, and so is a sum of scores where one is
negative. K and n are chosen on validation problems, the smallest (cheapest) of the best; what is chosen on
the test problems themselves is called optimistic, as the paper does (Table 7). Accuracy against N, which the
paper does not show, takes the first N samples of a problem for a smaller N.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mathref.formats import SampledProblem
from mathref.rerank import (
    DEFAULT_K,
    STRATEGIES,
    WEIGHTED,
    WITH_K,
    Cluster,
    Strategy,
    cluster,
    needed,
    pair_cache,
    select,
)

Clusters = Sequence[Sequence[Cluster]]  # one list of clusters per problem

# Values of K and n at which curves are drawn and choices are made.
KS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 192, 256)
_NAMES = {"maj1": "Maj1", "rr.all": "RR.All", "rr.majk": "RR.Maj", "w.rr": "W.RR", "w.rr.majk": "W.RR.Maj"}


def strategy_name(strategy: Strategy, k: int | str = DEFAULT_K) -> str:
    """The paper's name of a rule: "RR.All", "RR.Maj8", "Maj1.Top5"; a letter for k gives the general one."""
    name = _NAMES.get(strategy, "Maj1.Top")
    return f"{name}{k}" if strategy in WITH_K else name


def clusters_of(problems: Sequence[SampledProblem]) -> list[list[Cluster]]:
    """The answer clusters of every problem."""
    equivalent = pair_cache()
    return [cluster([s.answer for s in p.samples], equivalent) for p in problems]


def ks_up_to(n: int) -> list[int]:
    """The values of K (or n) for N samples: those of KS below N, and N."""
    return [k for k in KS if k < n] + [n]


def is_covered(
    problems: Sequence[SampledProblem], clusters: Clusters, strategy: Strategy, k: int = DEFAULT_K
) -> bool:
    """Whether the file holds every score that the rule reads, and none below 0 where they are summed."""
    least = 0.0 if strategy in WEIGHTED else -math.inf
    for problem, found in zip(problems, clusters, strict=True):
        scores = [problem.samples[i].score for i in needed(found, strategy, k)]
        if any(score is None or score < least for score in scores):
            return False
    return True


def scored_share(
    problems: Sequence[SampledProblem], clusters: Clusters, strategy: Strategy, k: int = DEFAULT_K
) -> float:
    """Share of all candidates, those without an answer included, that the rule has to score."""
    total = sum(len(p.samples) for p in problems)
    return sum(len(needed(found, strategy, k)) for found in clusters) / total


def selected_right(
    problems: Sequence[SampledProblem], clusters: Clusters, strategy: Strategy, k: int = DEFAULT_K
) -> list[float]:
    """1.0 for each problem whose selected candidate is right, else 0.0; without samples it is unsolved."""
    right = []
    for problem, found in zip(problems, clusters, strict=True):
        answers, scores = [s.answer for s in problem.samples], [s.score for s in problem.samples]
        chosen = select(answers, scores, strategy=strategy, k=k, clusters=found) if answers else None
        right.append(float(chosen is not None and problem.samples[chosen].correct))
    return right


def strategy_values(
    problems: Sequence[SampledProblem],
    *,
    k: int = DEFAULT_K,
    strategies: Sequence[Strategy] = STRATEGIES,
    clusters: Clusters | None = None,
) -> dict[Strategy, list[float]]:
    """For every rule that the stored scores allow: 1.0 or 0.0 per problem (a row of Tables 3, 6 and 7)."""
    clusters = clusters_of(problems) if clusters is None else clusters
    allowed = [s for s in strategies if is_covered(problems, clusters, s, k)]
    return {s: selected_right(problems, clusters, s, k) for s in allowed}


def strategy_curve(
    problems: Sequence[SampledProblem], clusters: Clusters, ks: Sequence[int]
) -> dict[Strategy, dict[int, list[float]]]:
    """Figure 1, left: for each rule that reads K (or n) its values at each of `ks` that the scores allow."""
    return {
        s: {k: selected_right(problems, clusters, s, k) for k in ks if is_covered(problems, clusters, s, k)}
        for s in WITH_K
    }


def cost_curve(problems: Sequence[SampledProblem], clusters: Clusters, ks: Sequence[int]) -> dict[int, float]:
    """Figure 1, right: the share of candidates in the K largest clusters, which RR.MajK has to score."""
    return {k: scored_share(problems, clusters, "rr.majk", k) for k in ks}


def first_samples(
    problems: Sequence[SampledProblem], clusters: Clusters, n: int
) -> tuple[list[SampledProblem], list[list[Cluster]]]:
    """The problems as if only their first n samples had been drawn, with their clusters.

    First-fit clusters of a prefix are the prefixes of the clusters, so that g is not asked again.
    """
    cut = [SampledProblem(p.id, p.problem, p.answer, p.samples[:n], p.level, p.subject) for p in problems]
    kept = []
    for found in clusters:
        shorter = [part for c in found if (part := tuple(i for i in c if i < n))]
        kept.append(sorted(shorter, key=lambda c: (-len(c), c[0])))
    return cut, kept


def prefix_curve(
    problems: Sequence[SampledProblem], clusters: Clusters, ns: Sequence[int], k: int = DEFAULT_K
) -> dict[int, dict[Strategy, list[float]]]:
    """Accuracy against the number of samples: every rule on the first n samples, for each of `ns`."""
    curve = {}
    for n in ns:
        cut, kept = first_samples(problems, clusters, n)
        curve[n] = strategy_values(cut, k=k, clusters=kept)
    return curve


def best_k(curve: dict[int, list[float]]) -> int:
    """The K (or n) of the highest accuracy in a curve; of several the smallest, which is the cheapest."""
    return max(sorted(curve), key=lambda k: sum(curve[k]))
