"""mathref.metrics against hand-computed values, brute force over subsets, and the orderings that hold."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathref.metrics import (
    ALL_SIGNS,
    FEW,
    bootstrap_interval,
    maj_at_k,
    majk_at_n,
    mcnemar,
    mean_interval,
    paired_bootstrap,
    pass_at_k,
    wilson_interval,
)


def by_label(labels: list[int | None]) -> list[tuple[int, ...]]:
    """Clusters of equal labels, largest first, ties in sampling order; independent of rerank.cluster."""
    found: dict[int, list[int]] = {}
    for i, label in enumerate(labels):
        if label is not None:
            found.setdefault(label, []).append(i)
    return [tuple(c) for c in sorted(found.values(), key=lambda c: (-len(c), c[0]))]


# Votes in which g is an equivalence relation: label 0 is the right answer, None has no answer.
votes = st.lists(st.sampled_from([None, 0, 1, 2, 3, 4]), min_size=1, max_size=12)


# ---- Pass@k ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        (3, 1, 2, Fraction(2, 3)),  # 3 pairs, 2 of them hold the right one
        (4, 2, 2, Fraction(5, 6)),
        (64, 0, 64, Fraction(0)),
        (64, 1, 64, Fraction(1)),
        (5, 3, 3, Fraction(1)),  # only two wrong ones: three must hold a right one
        (10, 3, 1, Fraction(3, 10)),
    ],
)
def test_pass_at_k_by_hand(n: int, c: int, k: int, expected: Fraction) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(float(expected), abs=1e-15)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(
    correct: list[bool], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(correct)))
    subsets = list(itertools.combinations(correct, k))
    expected = sum(any(subset) for subset in subsets) / len(subsets)
    assert pass_at_k(len(correct), sum(correct), k) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("c", "k"), [(1, 1), (1, 5000), (37, 100), (5000, 2), (9999, 1), (3, 9990)])
def test_pass_at_k_is_stable_for_ten_thousand_samples(c: int, k: int) -> None:
    n = 10_000
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert pass_at_k(n, c, k) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 1, 0), (4, 1, 5)])
def test_pass_at_k_refuses_impossible_counts(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match=f"n = {n}, c = {c}, k = {k}"):
        pass_at_k(n, c, k)


# ---- Maj1@N, MajK@N ----------------------------------------------------------------------------------


def test_majority_takes_the_largest_cluster() -> None:
    clusters = by_label([1, 0, 0, 2, 0, 1])
    correct = [False, True, True, False, True, False]
    assert clusters == [(1, 2, 4), (0, 5), (3,)]
    assert majk_at_n(correct, clusters) == 1.0


def test_tie_rules_are_told_apart() -> None:
    """A tie neither loses the answer nor draws lots unasked (reasoning-from-scratch #159)."""
    correct, clusters = [False, True, False, True], [(0, 2), (1, 3)]
    assert majk_at_n(correct, clusters, ties="first") == 0.0
    assert majk_at_n(correct, clusters, ties="expected") == 0.5
    drawn = [majk_at_n(correct, clusters, ties="random", seed=seed) for seed in range(200)]
    assert set(drawn) == {0.0, 1.0}
    assert 0.35 < np.mean(drawn) < 0.65  # five standard errors of a fair coin around one half
    assert drawn == [majk_at_n(correct, clusters, ties="random", seed=seed) for seed in range(200)]


def test_expected_ties_count_the_places_left() -> None:
    """Two of four tied clusters fit and one of them is right: 1 - C(3, 2) / C(4, 2) = 1/2."""
    correct = [False, False, False, True, False, False]
    clusters = [(0, 5), (1,), (2,), (3,), (4,)]
    assert majk_at_n(correct, clusters, 3, ties="expected") == pytest.approx(0.5)
    assert majk_at_n(correct, clusters, 3, ties="first") == 0.0  # (1,) and (2,) were sampled first
    assert majk_at_n(correct, clusters, 4, ties="first") == 1.0


def test_single_sample_and_no_answers() -> None:
    """One sample votes for itself (its_hub PR #130); without any answer the vote is lost."""
    for ties in ("first", "random", "expected"):
        assert majk_at_n([True], [(0,)], ties=ties) == 1.0
        assert majk_at_n([False, False], [], ties=ties) == 0.0
        assert maj_at_k([False, False], [], 2, ties=ties) == 0.0
    assert majk_at_n([], []) == 0.0


def test_unknown_tie_rule_is_named() -> None:
    with pytest.raises(ValueError, match="'frist'.*first, random, expected"):
        majk_at_n([True], [(0,)], ties="frist")  # type: ignore[arg-type]


@given(votes, st.integers(1, 6), st.integers(1, 6), st.sampled_from(["first", "random", "expected"]))
def test_maj1_below_majk_below_pass(labels: list[int | None], k: int, more: int, ties: str) -> None:
    """Maj1@N <= MajK@N <= MajK'@N <= Pass@N for K <= K', equal at the end with all clusters in."""
    correct = [label == 0 for label in labels]
    clusters = by_label(labels)
    oracle = pass_at_k(len(correct), sum(correct), len(correct))
    one, few, many = (majk_at_n(correct, clusters, m, ties=ties) for m in (1, k, k + more))
    assert one <= few + 1e-12 and few <= many + 1e-12 and many <= oracle + 1e-12
    assert majk_at_n(correct, clusters, max(1, len(clusters)), ties=ties) == oracle


@given(votes)
def test_expected_tie_is_the_mean_over_orders(labels: list[int | None]) -> None:
    """The expectation equals the average of first-tie voting over all orders of the tied clusters."""
    correct = [label == 0 for label in labels]
    clusters = by_label(labels)
    if clusters:
        top = [c for c in clusters if len(c) == len(clusters[0])]
        mean = np.mean([majk_at_n(correct, list(order)) for order in itertools.permutations(top)])
        assert majk_at_n(correct, clusters, ties="expected") == pytest.approx(mean)


# ---- maj@k -------------------------------------------------------------------------------------------


@given(votes, st.sampled_from(["first", "expected"]))
def test_maj_at_k_ends_are_exact(labels: list[int | None], ties: str) -> None:
    correct = [label == 0 for label in labels]
    clusters = by_label(labels)
    assert maj_at_k(correct, clusters, 1) == pytest.approx(np.mean(correct))
    assert maj_at_k(correct, clusters, len(labels), ties=ties) == majk_at_n(correct, clusters, ties=ties)


@pytest.mark.parametrize("ties", ["first", "expected"])
@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_maj_at_k_agrees_with_all_subsets(k: int, ties: str) -> None:
    """The seeded estimate lies within four standard errors of the vote over every subset."""
    labels = [1, 0, 0, None, 2, 0, 1]
    correct = [label == 0 for label in labels]
    exact = []
    for subset in itertools.combinations(range(len(labels)), k):
        chosen = [labels[i] for i in subset]
        exact.append(majk_at_n([label == 0 for label in chosen], by_label(chosen), ties=ties))
    estimate = maj_at_k(correct, by_label(labels), k, ties=ties, draws=4000, seed=3)
    assert abs(estimate - np.mean(exact)) < 4 * 0.5 / math.sqrt(4000)


def test_maj_at_k_random_ties_average_out() -> None:
    correct, clusters = [True, False, False], [(0,), (1,), (2,)]
    estimate = maj_at_k(correct, clusters, 2, ties="random", draws=4000)
    assert abs(estimate - 1 / 3) < 4 * 0.5 / math.sqrt(
        4000
    )  # 2/3 hold the right one, which wins half of them


def test_maj_at_k_is_seeded() -> None:
    correct, clusters = [True, False, False, True, False], [(0, 3), (1, 2), (4,)]
    values = [maj_at_k(correct, clusters, 3, draws=50, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert values[0] == values[1]
    assert len(set(values)) > 1


# ---- intervals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percent", "low", "high"),
    [(35.6, 31.5, 39.9), (55.2, 50.8, 59.5), (58.8, 54.4, 63.0), (61.2, 56.9, 65.4)],
)
def test_wilson_interval_of_the_papers_headlines(percent: float, low: float, high: float) -> None:
    interval = wilson_interval(round(percent * 5), 500)
    assert (round(100 * interval.low, 1), round(100 * interval.high, 1)) == (low, high)
    assert interval.value == pytest.approx(percent / 100)


@given(st.integers(1, 2000), st.data())
def test_wilson_ends_solve_their_equation(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    interval = wilson_interval(successes, n)
    share = successes / n
    assert 0 <= interval.low <= share <= interval.high <= 1
    for end in {interval.low, interval.high} - {0.0, 1.0}:
        assert abs(share - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), abs=1e-6)


def test_wilson_refuses_nonsense() -> None:
    for successes, n in [(0, 0), (3, 2), (-1, 5)]:
        with pytest.raises(ValueError, match="Wilson"):
            wilson_interval(successes, n)
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, confidence=95)


def test_bootstrap_interval_matches_the_normal_theory() -> None:
    values = np.random.default_rng(5).random(500)
    interval = bootstrap_interval(values, draws=4000)
    half = 1.96 * values.std() / math.sqrt(500)
    assert interval.value == pytest.approx(values.mean())
    assert interval.value - interval.low == pytest.approx(half, rel=0.1)
    assert interval.high - interval.value == pytest.approx(half, rel=0.1)


def test_mean_interval_picks_by_the_values() -> None:
    assert mean_interval([1, 0, 1, 1]) == wilson_interval(3, 4)
    many = np.random.default_rng(0).random(FEW).tolist()
    assert mean_interval(many) == bootstrap_interval(many)
    assert mean_interval(many[1:]) == wilson_interval(sum(many[1:]), FEW - 1)


@pytest.mark.parametrize("values", [[0.359], [0.25] * 3, [0.5] * 200, [0.3, 0.4]])
def test_few_or_equal_fractions_are_not_certain(values: list[float]) -> None:
    """One problem solved in 35.9% of its samples was shown as 35.9 (35.9-35.9)."""
    interval = mean_interval(values)
    assert interval.value == pytest.approx(np.mean(values))
    assert interval.high - interval.low > 1 / (1 + len(values))


def test_intervals_of_few_problems_hold_the_mean() -> None:
    """95% intervals of 8 problems that are solved in 0 to 64 of 64 samples; resampling held 88% of them."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(300):
        values = rng.binomial(64, rng.beta(0.3, 0.6, size=8)) / 64
        interval = mean_interval(values.tolist())
        held += interval.low <= 1 / 3 <= interval.high
    assert held >= 0.95 * 300


# ---- paired tests ------------------------------------------------------------------------------------


def test_mcnemar_by_hand() -> None:
    """One problem against six: p = 2 (C(7,0) + C(7,1)) / 2^7 = 16/128."""
    a = [1] + [0] * 6 + [1, 0, 1]
    b = [0] + [1] * 6 + [1, 0, 1]
    test = mcnemar(a, b)
    assert (test.only_a, test.only_b, test.p_value) == (1, 6, 0.125)
    assert mcnemar(b, a).p_value == 0.125
    assert mcnemar(a, a) == type(test)(0, 0, 1.0)
    assert mcnemar([1, 0], [0, 1]).p_value == 1.0  # an even split: the two-sided sum is capped at 1


def test_mcnemar_on_many_differences() -> None:
    """1200 against 1000 out of 2200: the exact p is near the normal one, and large powers do not overflow."""
    test = mcnemar([1] * 1200 + [0] * 1000, [0] * 1200 + [1] * 1000)
    normal = math.erfc((200 - 1) / math.sqrt(2200) / math.sqrt(2))
    assert test.p_value == pytest.approx(normal, rel=0.02)


def test_paired_bootstrap_sees_a_paired_difference() -> None:
    """One constant gain on each problem is certain, however widely the problems themselves scatter."""
    rng = np.random.default_rng(0)
    a = rng.random(100)
    result = paired_bootstrap(a + 0.05, a)
    assert result.difference == pytest.approx(0.05)
    assert result.low == pytest.approx(0.05) and result.high == pytest.approx(0.05)
    assert result.p_value < 0.001
    assert paired_bootstrap(a, a).p_value == 1.0


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([1] * 5, 2 / 32),  # resampling never finds a sum of 0 there: it said 0.0002
        ([0.25] * 5 + [0] * 20, 2 / 32),  # problems without a difference say nothing
        ([1, 1, -1], 1.0),  # |sum| is at least 1 for every sign pattern
        ([0.5, 0.25, -0.125], 4 / 8),  # |sums| 0.875, 0.625, 0.375, 0.125, each twice; 0.625 and up count
        ([0.1, 0.2, 0.3], 2 / 8),  # 0.1 + 0.2 + 0.3 and its mirror image are rounded differently
        ([0], 1.0),
    ],
)
def test_permutation_p_by_hand(differences: list[float], expected: float) -> None:
    for sign in (1, -1):
        found = paired_bootstrap([sign * d for d in differences], [0] * len(differences))
        assert found.p_value == pytest.approx(expected)


def test_permutation_p_of_outcomes_is_that_of_mcnemar() -> None:
    """Exactly where every sign pattern is looked at, nearly where they are drawn; never 0."""
    for only_a, only_b in ((9, 3), (5, 0), (9, 4), (40, 25), (60, 50)):
        a, b = [1] * only_a + [0] * only_b + [1, 0], [0] * only_a + [1] * only_b + [1, 0]
        tolerance = 1e-12 if only_a + only_b <= ALL_SIGNS else 0.015
        assert paired_bootstrap(a, b).p_value == pytest.approx(mcnemar(a, b).p_value, abs=tolerance)
    assert paired_bootstrap([1] * 300, [0] * 300, draws=100).p_value == 1 / 101


@pytest.mark.parametrize("n", [8, 60])
def test_permutation_p_is_calibrated_and_seeded(n: int) -> None:
    """No difference in truth: p < 0.1 in at most some 10% of the trials, with few problems, too."""
    rng = np.random.default_rng(1)
    for fractions in (False, True):
        below = 0
        for _ in range(200):
            a, b = rng.random((2, n)) if fractions else rng.random((2, n)) < 0.4
            below += paired_bootstrap(a, b, draws=500).p_value < 0.1
        assert below <= 34 and (below >= 6 or n == 8)
    assert paired_bootstrap([1, 0, 0], [0, 0, 1], seed=4) == paired_bootstrap([1, 0, 0], [0, 0, 1], seed=4)


def test_paired_tests_refuse_unpaired_input() -> None:
    for function in (mcnemar, paired_bootstrap):
        with pytest.raises(ValueError, match="2 and 1 values"):
            function([1, 0], [1])
    with pytest.raises(ValueError, match="paired_bootstrap"):
        mcnemar([0.5], [1])


def test_no_torch_is_imported() -> None:
    code = "import sys, mathref.metrics, mathref.rerank; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_interval_of_many_differences_is_that_of_the_normal_distribution() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.6, 0.3, 2000), rng.normal(0.5, 0.3, 2000)
    found = paired_bootstrap(a.tolist(), b.tolist())
    half = 1.96 * (a - b).std(ddof=1) / math.sqrt(2000)
    assert found.low == pytest.approx((a - b).mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx((a - b).mean() + half, abs=0.05 * half)
