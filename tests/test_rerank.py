"""mathref.rerank: clusters against a plain first-fit, and the properties of the selection rules."""

from __future__ import annotations

import math
from collections.abc import Hashable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mathref.grader import is_equivalent
from mathref.metrics import majk_at_n
from mathref.rerank import STRATEGIES, cluster, needed, pair_cache, select


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


def test_where_g_is_not_transitive_a_member_may_be_right_and_its_cluster_wrong() -> None:
    """Items 2 and 6 of section 13 hold for an equivalence relation; 5 ~ (A) 5 ~ A, but not 5 ~ A."""
    answers, scores = ["5", "5", "(A) 5"], [0.1, 0.2, 0.9]
    correct = [is_equivalent(answer, "A") for answer in answers]
    assert cluster(answers) == [(0, 1, 2)] and correct == [False, False, True]
    assert select(answers, strategy="maj1") == 0 and majk_at_n(correct, cluster(answers)) == 0.0
    assert correct[select(answers, scores, strategy="rr.majk", k=1)]
    # The other way round, the representative is right and the member that is chosen is not.
    correct = [is_equivalent(answer, "5") for answer in ("(A) 5", "A")]
    assert cluster(["(A) 5", "A"]) == [(0, 1)] and correct == [True, False]


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


# ---- selection: PAPER.md section 13 ------------------------------------------------------------------

# Candidates with an answer that is its own text (g is an equivalence) and a score; few values, so that ties
# are common. Answer "0" is right.
candidates = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 4).map(str)),
        st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1)),
    ),
    min_size=1,
    max_size=16,
)
ks = st.integers(1, 20)


def pick(pairs: list[tuple[str | None, float]], strategy: str, k: int = 8) -> int:
    answers = [answer for answer, _ in pairs]
    clusters = cluster(answers, str.__eq__, None)
    return select(answers, [score for _, score in pairs], strategy=strategy, k=k, clusters=clusters)


def test_the_rules_by_hand() -> None:
    """Clusters (0, 2, 5), (1, 4), (3): each rule has its own winner."""
    answers = ["a", "b", "a", "c", "b", "a", None]
    scores = [0.1, 0.6, 0.2, 0.9, 0.5, 0.3, None]
    clusters = cluster(answers, str.__eq__, None)

    def by(strategy: str, k: int = 8) -> int:
        return select(answers, scores, strategy=strategy, k=k, clusters=clusters)

    assert by("maj1") == 0
    assert by("rr.all") == by("rr.majk", 3) == 3  # 0.9
    assert by("rr.majk", 2) == 1  # 0.6, the best of a and b
    assert by("rr.majk", 1) == 5  # 0.3, the best of a
    assert by("w.rr") == 1  # a 0.6, b 1.1, c 0.9
    assert by("w.rr.majk", 1) == 0
    assert by("maj1.topn", 1) == 3
    assert by("maj1.topn", 3) == 1  # c, b, b
    assert by("maj1.topn", 5) == 1  # c, b, b, a, a: b and a tie, b was sampled first
    assert by("maj1.topn", 6) == 0


@given(candidates, ks)
def test_top_k_with_all_clusters_is_rr_all(pairs: list[tuple[str | None, float]], more: int) -> None:
    """Property 1."""
    n_clusters = len({answer for answer, _ in pairs} - {None})
    assert pick(pairs, "rr.majk", n_clusters + more) == pick(pairs, "rr.all")
    assert pick(pairs, "rr.majk", max(1, n_clusters)) == pick(pairs, "rr.all")


@given(candidates)
def test_top_1_answers_as_maj1_does(pairs: list[tuple[str | None, float]]) -> None:
    """Property 2."""
    assert pairs[pick(pairs, "rr.majk", 1)][0] == pairs[pick(pairs, "maj1")][0]


@given(candidates, st.one_of(st.just(0.0), st.just(5e-324), st.floats(0, 1)))
def test_equal_scores_reduce_the_weighted_vote_to_maj1(
    pairs: list[tuple[str | None, float]], score: float
) -> None:
    """Property 3."""
    equal = [(answer, score) for answer, _ in pairs]
    assert pick(equal, "w.rr") == pick(pairs, "maj1")


@given(candidates, ks)
def test_weighted_top_k_at_its_ends(pairs: list[tuple[str | None, float]], more: int) -> None:
    """Property 4."""
    n_clusters = len({answer for answer, _ in pairs} - {None})
    assert pick(pairs, "w.rr.majk", max(1, n_clusters)) == pick(pairs, "w.rr")
    assert pick(pairs, "w.rr.majk", n_clusters + more) == pick(pairs, "w.rr")
    assert pick(pairs, "w.rr.majk", 1) == pick(pairs, "maj1")


@given(candidates, ks)
def test_top_n_vote_at_its_ends(pairs: list[tuple[str | None, float]], more: int) -> None:
    """Property 5."""
    assert pick(pairs, "maj1.topn", 1) == pick(pairs, "rr.all")
    assert pick(pairs, "maj1.topn", len(pairs)) == pick(pairs, "maj1")
    assert pick(pairs, "maj1.topn", len(pairs) + more) == pick(pairs, "maj1")


@given(candidates, ks, st.sampled_from(STRATEGIES))
def test_no_selector_beats_its_oracle(pairs: list[tuple[str | None, float]], k: int, strategy: str) -> None:
    """Property 6: a right choice needs a right candidate, and RR.TopK one in the top K clusters."""
    correct = [answer == "0" for answer, _ in pairs]
    clusters = cluster([answer for answer, _ in pairs], str.__eq__, None)
    right = correct[pick(pairs, strategy, k)]
    assert right <= any(correct)
    if strategy in ("rr.majk", "w.rr.majk"):
        assert right <= majk_at_n(correct, clusters, k)


def winners(pairs: list[tuple[str | None, float]], strategy: str, k: int) -> set[str | None]:
    """The definitions of section 7 without any order: all answers that may win, ties included."""
    scores: dict[str, list[float]] = {}
    for answer, score in pairs:
        if answer is not None:
            scores.setdefault(answer, []).append(score)
    if not scores:
        return {None}
    if strategy.endswith("majk"):
        scores = dict(sorted(scores.items(), key=lambda item: -len(item[1]))[:k])
    if strategy == "maj1.topn":
        best = sorted((score for found in scores.values() for score in found), reverse=True)[:k]
        scores = {answer: [score for score in found if score in best] for answer, found in scores.items()}
    value = {"rr.all": max, "rr.majk": max, "w.rr": math.fsum, "w.rr.majk": math.fsum}.get(strategy, len)
    top = max(value(found) for found in scores.values())
    return {answer for answer, found in scores.items() if value(found) == top}


@given(candidates, ks, st.sampled_from(STRATEGIES), st.randoms(use_true_random=False))
def test_the_order_of_candidates_decides_ties_only(
    pairs: list[tuple[str | None, float]], k: int, strategy: str, random
) -> None:
    """In every order the choice is one that the definition allows; without a tie it is therefore the same."""
    pairs = list({score: (answer, score) for answer, score in pairs}.values())  # distinct scores
    sizes = [len(c) for c in cluster([answer for answer, _ in pairs], str.__eq__, None)]
    if strategy.endswith("majk"):
        assume(k >= len(sizes) or sizes[k - 1] > sizes[k])  # else order decides which clusters are in
    random.shuffle(pairs)
    assert pairs[pick(pairs, strategy, k)][0] in winners(pairs, strategy, k)


@given(candidates, ks, st.sampled_from(STRATEGIES), st.randoms(use_true_random=False))
def test_only_the_needed_scores_are_read(
    pairs: list[tuple[str | None, float]], k: int, strategy: str, random
) -> None:
    """Any score that `needed` does not name may be missing or nonsense; each that it names is required."""
    answers = [answer for answer, _ in pairs]
    clusters = cluster(answers, str.__eq__, None)
    asked = needed(clusters, strategy, k)
    sparse = [score if i in asked else random.choice([None, math.nan]) for i, (_, score) in enumerate(pairs)]
    assert select(answers, sparse, strategy=strategy, k=k, clusters=clusters) == pick(pairs, strategy, k)
    for i in asked:
        lacking = [None if j == i else score for j, score in enumerate(sparse)]
        with pytest.raises(ValueError, match=rf"{strategy} needs scores that are missing: candidate {i}$"):
            select(answers, lacking, strategy=strategy, k=k, clusters=clusters)


@given(candidates, ks)
def test_the_number_of_scores_needed(pairs: list[tuple[str | None, float]], k: int) -> None:
    """Property 11: RR.TopK scores the members of the top K clusters; no more, and each once."""
    clusters = cluster([answer for answer, _ in pairs], str.__eq__, None)
    held = sum(len(c) for c in clusters[:k])
    answered = sum(answer is not None for answer, _ in pairs)
    for strategy in ("rr.majk", "w.rr.majk"):
        assert len(needed(clusters, strategy, k)) == len(set(needed(clusters, strategy, k))) == held
    for strategy in ("rr.all", "w.rr", "maj1.topn"):
        assert needed(clusters, strategy, k) == tuple(i for i, (a, _) in enumerate(pairs) if a is not None)
        assert len(needed(clusters, strategy, k)) == answered
    assert needed(clusters, "maj1", k) == ()


def test_solutions_without_an_answer_win_only_where_none_has_one() -> None:
    for strategy in STRATEGIES:
        assert select([None, "7", " "], [0.9, 0.1, 0.9], strategy=strategy) == 1
        assert select([None, None], strategy=strategy) == 0


def test_equal_sums_go_to_the_larger_cluster_then_to_the_first() -> None:
    assert select(["1", "2", "2"], [0.5, 0.25, 0.25], strategy="w.rr") == 1
    assert select(["1", "2"], [0.5, 0.5], strategy="w.rr") == 0
    # One tenth ten times is 1.0 exactly, however it is added up: 0.1 + ... + 0.1 alone is less.
    assert select(["1"] + ["2"] * 10, [1.0] + [0.1] * 10, strategy="w.rr") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"strategy": "rr"}, "unknown strategy 'rr', expected one of maj1, rr.all"),
        ({"strategy": "rr.majk", "k": 0}, "rr.majk needs K .* at least 1, got 0"),
        ({"answers": []}, "no candidates"),
        ({"scores": [0.5]}, "got 1 for 3"),
        ({"scores": None}, "w.rr needs scores that are missing: candidate 0, 1, 2"),
        ({"scores": [None] * 9, "answers": list("123456789")}, "0, 1, 2, 3, 4 and 4 more"),
        ({"scores": [0.5, math.nan, 0.5]}, "candidate 1 is nan"),
        ({"scores": [0.5, 0.5, -1.0]}, "candidate 2 is -1.0: expected at least 0"),
    ],
)
def test_mistakes_are_named(arguments: dict, complaint: str) -> None:
    call = {"answers": ["1", "2", "3"], "scores": [0.5, 0.5, 0.5], **arguments}
    with pytest.raises(ValueError, match=complaint):
        select(call.pop("answers"), call.pop("scores"), **call)


def test_ranking_takes_any_finite_score() -> None:
    """Log odds or a reward model's scores rank as well as probabilities."""
    assert select(["1", "2"], [-3.0, -1.5], strategy="rr.all") == 1
    assert select(["1", "2"], [-3.0, -1.5], strategy="maj1.topn", k=1) == 1
