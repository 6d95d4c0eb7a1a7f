"""mathref.rerank.cluster against a plain first-fit, and the voting cases users ran into."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from mathref.metrics import majk_at_n
from mathref.rerank import cluster, pair_cache


def first_fit(answers: list[str | None], equivalent) -> list[tuple[int, ...]]:
    """The definition, read aloud: compare with the first member of each cluster in order of creation."""
    clusters: list[list[int]] = []
    for i, answer in enumerate(answers):
        if answer is None:
            continue
        for members in clusters:
            if equivalent(answers[members[0]], answer):
                members.append(i)
                break
        else:
            clusters.append([i])
    order = sorted(range(len(clusters)), key=lambda j: (-len(clusters[j]), j))
    return [tuple(clusters[j]) for j in order]


def close(a: str, b: str) -> bool:
    """An equivalence that is not transitive: numbers at most 1 apart."""
    return abs(int(a) - int(b)) <= 1


def same_parity(a: str, b: str) -> bool:
    return int(a) % 2 == int(b) % 2


answer_lists = st.lists(st.one_of(st.none(), st.integers(0, 12).map(str)), max_size=30)


def test_equivalent_answers_vote_together() -> None:
    """Voting by text splits 0.5 from \\frac{1}{2} and loses the majority (deepconf #15)."""
    answers = ["3", "0.5", r"\frac{1}{2}", "3", "1/2", None]
    clusters = cluster(answers)
    assert clusters == [(1, 2, 4), (0, 3)]
    correct = [answer not in (None, "3") for answer in answers]
    assert majk_at_n(correct, clusters) == 1.0


def test_ties_keep_sampling_order_and_none_joins_nothing() -> None:
    """Equal sizes lose no answer: sampled first, stands first (reasoning-from-scratch #159)."""
    assert cluster(["b", None, "a", "a", "b", None, "c"], str.__eq__, None) == [(0, 4), (2, 3), (6,)]
    assert cluster([None, "", " "], str.__eq__, None) == []
    assert cluster([], str.__eq__, None) == []
    assert cluster(["7"]) == [(0,)]


def test_representative_is_the_first_member() -> None:
    """2 joins 1 (its representative), 3 does not, though it is close to 2: g is not transitive."""
    assert cluster(["1", "2", "3"], close, None) == [(0, 1), (2,)]
    assert cluster(["2", "1", "3"], close, None) == [(0, 1, 2)]


@given(answer_lists)
def test_it_is_first_fit_even_where_g_is_not_transitive(answers: list[str | None]) -> None:
    assert cluster(answers, close, None) == first_fit(answers, close)


@given(answer_lists)
def test_canonical_keys_change_the_cost_only(answers: list[str | None]) -> None:
    """Keys that imply equivalence, known for some answers only, give the clusters that g alone gives."""

    def key(answer: str) -> Hashable | None:
        return None if int(answer) % 3 == 0 else int(answer) % 2

    assert cluster(answers, same_parity, key) == first_fit(answers, same_parity)


@given(answer_lists)
def test_each_answer_is_in_exactly_one_cluster(answers: list[str | None]) -> None:
    clusters = cluster(answers, close, None)
    members = sorted(i for c in clusters for i in c)
    assert members == [i for i, answer in enumerate(answers) if answer is not None]
    assert [len(c) for c in clusters] == sorted((len(c) for c in clusters), reverse=True)
    assert all(list(c) == sorted(c) for c in clusters)


def test_no_pair_is_judged_twice() -> None:
    """64 samples with three distinct answers cost at most the three pairs of distinct answers."""
    asked = []

    def counting(a: str, b: str) -> bool:
        asked.append(frozenset((a, b)))
        return a == b

    cluster(["1", "2", "3", "2"] * 16, counting, None)
    assert len(asked) == len(set(asked)) == 3

    asked.clear()
    remembered = pair_cache(counting)
    for _ in range(5):
        cluster(["1", "2", "3"], remembered, None)
        cluster(["3", "1", "2"], remembered, None)
    assert len(asked) == 3


def test_canonical_form_saves_the_comparison() -> None:
    def refuse(a: str, b: str) -> bool:
        raise AssertionError(f"{a} and {b} have the same key and need no comparison")

    assert cluster(["2", "02", "2.0"], refuse, float) == [(0, 1, 2)]
