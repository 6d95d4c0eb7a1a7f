"""Clusters of equivalent answers, the ground of voting and of re-ranking; pure functions, no torch.

Paper: the clusters by g behind Maj1@N, MajK@N (Tables 2 to 4) and the top-K re-ranking (Table 3, Figure 1).
Choices: the paper does not say how clusters are formed when g is not transitive [U]. Here each answer joins
the first existing cluster, in sampling order, whose representative it equals; the representative is the
cluster's first member [P]. A solution without an answer joins no cluster [P]. Two answers with the same
text or the same canonical form (`grader.canonical`) are one answer: they share a cluster without any
comparison [P].
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

from mathref import grader

Cluster: TypeAlias = tuple[int, ...]  # sample indices in sampling order; the first one is the representative
Equivalence: TypeAlias = Callable[[str, str], bool]
Canonical: TypeAlias = Callable[[str], Hashable]


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
