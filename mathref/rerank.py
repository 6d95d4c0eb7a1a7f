"""Clusters of equivalent answers, and the rules that select one of N candidates; pure functions, no torch.

Paper: the clusters by g behind Maj1@N (Tables 2 to 4) and MajK@N (section 5; in no table); the selection
rules of Tables 3, 6, 7 and Figure 1 (section 7), with S_cls of an evaluator as score. RR.All and RR.MajK are
defined there; the rules of W.RR, W.RR.MajK and Maj1.TopN are read from their names [S]+[M].
Choices: the paper does not say how clusters are formed when g is not transitive [U]. Here each answer joins
the first existing cluster, in sampling order, whose representative it equals; the representative is the
cluster's first member [P]. g is an equivalence relation but for the cases that docs/GRADER.md names (5 ~ (A)
5 ~ A, but not 5 ~ A): there RR.Maj1 may take a member that is right where Maj1's representative is wrong
(section 13, items 2 and 6), or the reverse. A solution without an answer joins no cluster [P]. Two answers
with the same text or the same canonical form (`grader.canonical`) are one answer: they share a cluster
without any comparison [P]. A solution without an answer wins only where no solution has one; its score is
therefore never asked for, but it counts in N wherever a share of candidates is given [P]. W.RR sums s_i, not
log s_i [P]: with equal scores it is then Maj1. A vote (Maj1, W.RR, Maj1.TopN) elects a cluster, whose first
voting member is the index returned; RR returns the best solution itself [P]. Ties [P]: a vote goes to the
larger cluster, then to the one sampled first; equal scores to the solution sampled first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, TypeAlias, get_args

from mathref import grader

Cluster: TypeAlias = tuple[int, ...]  # sample indices in sampling order; the first one is the representative
Equivalence: TypeAlias = Callable[[str, str], bool]
Canonical: TypeAlias = Callable[[str], Hashable]
Ties: TypeAlias = Literal["first", "random", "expected"]
Strategy: TypeAlias = Literal["maj1", "rr.all", "rr.majk", "w.rr", "w.rr.majk", "maj1.topn"]

TIES: tuple[Ties, ...] = get_args(Ties)  # which of the largest clusters wins a vote (metrics.py)
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
WEIGHTED: tuple[Strategy, ...] = ("w.rr", "w.rr.majk")  # those that add scores up
TOP_CLUSTERS: tuple[Strategy, ...] = ("rr.majk", "w.rr.majk")  # K counts clusters
WITH_K: tuple[Strategy, ...] = (*TOP_CLUSTERS, "maj1.topn")  # those that read k; maj1.topn calls it n
DEFAULT_K = 8  # the K of the paper's headline (Table 3)
LIKELIHOOD = "likelihood"  # the control in an evaluator's place: the generator's own probabilities


def pair_cache(equivalent: Equivalence = grader.is_equivalent) -> Equivalence:
    """Return g with a memory of the pairs it has judged, in either order.

    Within one problem no pair is judged twice anyway (see `cluster`); over a test set the same wrong
    answers come back, and one comparison through sympy costs milliseconds.
    """
    known: dict[tuple[str, str], bool] = {}

    def remembered(a: str, b: str) -> bool:
        pair = (a, b) if a <= b else (b, a)
        if pair not in known:
            known[pair] = equivalent(a, b)
        return known[pair]

    return remembered


def _names(answer: str, canonical: Canonical | None) -> list[Hashable]:
    """The keys under which an answer is known: its text, and its canonical form where it has one."""
    key = canonical(answer) if canonical else None
    return [("text", answer)] if key is None else [("text", answer), ("canonical", key)]


def cluster(
    answers: Sequence[str | None],
    equivalent: Equivalence = grader.is_equivalent,
    canonical: Canonical | None = grader.canonical,
) -> list[Cluster]:
    """Group N answers into clusters of equivalent ones, the largest first.

    Returns tuples of indices into `answers`. Clusters of one size stand in the order in which their first
    members were sampled; None and blank answers are in no cluster. Example: ["1/2", "3", None, "0.5", "4"]
    -> [(0, 3), (1,), (4,)]. With another `equivalent` than the grader's, pass `canonical=None` or the key
    function that belongs to it: equal keys must mean equal answers, a key of None says nothing.

    Cost: at most one call of `equivalent` per distinct answer and earlier cluster, not per pair of samples.
    """
    clusters: list[list[int]] = []
    home: dict[Hashable, list[int]] = {}  # text or canonical form of an earlier answer -> its cluster
    for i, answer in enumerate(answers):
        if answer is None or not answer.strip():
            continue
        text = ("text", answer)
        names = [text] if text in home else _names(answer, canonical)
        members = next((home[name] for name in names if name in home), None)
        if members is None:
            members = next((c for c in clusters if equivalent(answers[c[0]], answer)), None)
        if members is None:
            members = []
            clusters.append(members)
        members.append(i)
        for name in names:
            home.setdefault(name, members)
    return [
        tuple(c) for c in sorted(clusters, key=len, reverse=True)
    ]  # sorted() is stable: ties keep their order


# ---- selecting one candidate -------------------------------------------------------------------------


def check_strategy(strategy: str, k: int) -> None:
    """Raise ValueError for an unknown strategy, or a K (n) below 1."""
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown strategy {strategy!r}, expected one of {', '.join(STRATEGIES)}")
    if k < 1:
        raise ValueError(f"{strategy} needs K (or n) of at least 1, got {k}")


def needed(clusters: Sequence[Cluster], strategy: Strategy, k: int = DEFAULT_K) -> tuple[int, ...]:
    """Indices of the candidates whose scores a strategy reads, in sampling order; all else is not worth
    scoring.

    maj1: none; rr.majk, w.rr.majk: the members of the K largest clusters; the others: all with an answer.
    Example: clusters (0, 3), (1,), (4,), K = 2 -> rr.majk (0, 1, 3), w.rr (0, 1, 3, 4).
    """
    check_strategy(strategy, k)
    if strategy == "maj1":
        return ()
    pool = clusters[:k] if strategy in TOP_CLUSTERS else clusters
    return tuple(sorted(itertools.chain.from_iterable(pool)))


def select(
    answers: Sequence[str | None],
    scores: Sequence[float | None] | None = None,
    *,
    strategy: Strategy = "w.rr",
    k: int = DEFAULT_K,
    clusters: Sequence[Cluster] | None = None,
) -> int:
    """Index of the candidate that a strategy answers with.

    With clusters C_1, C_2, ... by decreasing size and scores s_i = S_cls(X_i | P):

        maj1       the representative of C_1
        rr.all     argmax_i s_i
        rr.majk    argmax_i s_i over the members of C_1 .. C_K
        w.rr       the representative of argmax_C sum_{i in C} s_i               [S]+[M]
        w.rr.majk  the same over C_1 .. C_K                                      [S]+[M]
        maj1.topn  majority vote among the n = k best-scored candidates          [S]+[M]

    A score may be None (`scores` too) where `needed` does not name it. `clusters` are those of `answers`,
    where the caller has them. Raises ValueError for missing scores, naming them; for a NaN or infinite
    score; and for a negative one where scores are summed.
    """
    check_strategy(strategy, k)
    if not answers:
        raise ValueError("nothing to select from: no candidates")
    clusters = cluster(answers) if clusters is None else clusters
    if not clusters:
        return 0  # no solution has an answer: the first one stands, as in metrics.majk_at_n
    if strategy == "maj1":
        return clusters[0][0]
    candidates = needed(clusters, strategy, k)
    s = _checked_scores(scores, candidates, strategy, len(answers))
    if strategy in ("rr.all", "rr.majk"):
        return max(candidates, key=s.__getitem__)  # max() takes the first of equals
    if strategy in WEIGHTED:
        pool = clusters[:k] if strategy == "w.rr.majk" else clusters
        # fsum() rounds once, so the sum does not depend on the order of the candidates.
        return max(pool, key=lambda c: math.fsum(s[i] for i in c))[0]
    best = set(sorted(candidates, key=lambda i: (-s[i], i))[:k])
    votes = [voters for c in clusters if (voters := [i for i in c if i in best])]
    return max(votes, key=lambda voters: (len(voters), -voters[0]))[0]


def _checked_scores(
    scores: Sequence[float | None] | None, candidates: Sequence[int], strategy: Strategy, n: int
) -> dict[int, float]:
    """The scores of `candidates` by index, all there and fit for the strategy."""
    if scores is None:
        scores = [None] * n
    if len(scores) != n:
        raise ValueError(f"expected one score (or None) per candidate, got {len(scores)} for {n}")
    found = {i: score for i in candidates if (score := scores[i]) is not None}
    if missing := [i for i in candidates if i not in found]:
        shown = ", ".join(map(str, missing[:5])) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        raise ValueError(f"{strategy} needs scores that are missing: candidate {shown}")
    for i, score in found.items():
        if not math.isfinite(score):
            raise ValueError(f"the score of candidate {i} is {score}, expected a finite number")
        if score < 0 and strategy in WEIGHTED:
            raise ValueError(
                f"{strategy} sums scores, and that of candidate {i} is {score}: expected at least 0"
            )
    return found
