"""mathref.calibration against hand-computed values and brute force over pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathref.calibration import (
    UNREAD,
    at_temperature,
    auc,
    auc_interval,
    brier,
    calibration_error,
    fit_temperature,
    fitted_on,
    log_odds,
    pairwise_accuracy,
    quality,
    reliability,
    scored_arrays,
    smoothed,
)
from mathref.formats import Sample, SampledProblem

scored = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), st.booleans()), min_size=1, max_size=30
)


def arrays(pairs: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s for s, _ in pairs]), np.array([float(y) for _, y in pairs])


def problem(name: str, scores: list[float | None], right: list[int]) -> SampledProblem:
    samples = [Sample(str(i), "1", i in right, score=score) for i, score in enumerate(scores)]
    return SampledProblem(name, name, "1", tuple(samples))


def test_auc_by_hand() -> None:
    """Right 0.9 and 0.4, wrong 0.4 and 0.1: three pairs in order, one tie."""
    scores, labels = np.array([0.9, 0.4, 0.4, 0.1]), np.array([1.0, 1.0, 0.0, 0.0])
    assert auc(scores, labels) == 3.5 / 4
    assert auc(np.ones(4), labels) == 0.5
    assert auc(-scores, labels) == 0.5 / 4
    assert math.isnan(auc(scores, np.ones(4)))
    assert math.isnan(auc(np.array([]), np.array([])))


@given(scored)
def test_auc_is_the_share_of_ordered_pairs(pairs: list[tuple[float, bool]]) -> None:
    right, wrong = [s for s, y in pairs if y], [s for s, y in pairs if not y]
    if right and wrong:
        wins = [(a > b) + (a == b) / 2 for a in right for b in wrong]
        assert auc(*arrays(pairs)) == pytest.approx(np.mean(wins))


def test_auc_interval_resamples_problems_not_candidates() -> None:
    """64 copies of a candidate are one observation: the interval does not shrink to an eighth."""
    rng = np.random.default_rng(0)
    labels = [np.array([1.0, 0.0]) for _ in range(40)]
    scores = [rng.normal(y, 1.5) for y in labels]
    few = auc_interval(scores, labels)
    many = auc_interval([np.repeat(s, 64) for s in scores], [np.repeat(y, 64) for y in labels])
    assert many == few and few.low < few.value < few.high
    assert few.value == pytest.approx(auc(np.concatenate(scores), np.concatenate(labels)))
    assert auc_interval(scores, labels, seed=1) != few


def test_pairwise_accuracy_needs_both_classes() -> None:
    """Problem 1: 0.9 beats 0.1 and ties with 0.9 -> 3/4; problem 2 has right candidates only."""
    scores = [np.array([0.9, 0.1, 0.9]), np.array([0.3, 0.2])]
    labels = [np.array([1.0, 0.0, 0.0]), np.array([1.0, 1.0])]
    assert pairwise_accuracy(scores, labels) == [0.75]


def test_calibration_by_hand() -> None:
    """Bins (0.1, 0.3 | 0.6, 0.8): means 0.2 and 0.7 against shares 0.5 and 1.0, both 0.3 off."""
    scores, labels = np.array([0.6, 0.1, 0.8, 0.3]), np.array([1.0, 0.0, 1.0, 1.0])
    curve = reliability(scores, labels, bins=2)
    assert [(b.score, b.right, b.count) for b in curve] == [
        (pytest.approx(0.2), 0.5, 2),
        (pytest.approx(0.7), 1.0, 2),
    ]
    assert calibration_error(curve) == pytest.approx(0.3)
    assert brier(scores, labels) == pytest.approx((0.16 + 0.01 + 0.04 + 0.49) / 4)


def test_bins_have_equal_counts_and_the_order_of_candidates_is_nothing() -> None:
    scores = np.array([0.5] * 7 + [0.9] * 4)
    labels = np.array([1.0, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1])
    curve = reliability(scores, labels, bins=4)
    assert [b.count for b in curve] == [3, 3, 3, 2]
    assert [b.right for b in curve] == pytest.approx([4 / 7, 4 / 7, (4 / 7 + 3 / 4 + 3 / 4) / 3, 3 / 4])
    order = np.random.default_rng(0).permutation(11)
    assert reliability(scores[order], labels[order], bins=4) == curve
    assert sum(b.count for b in reliability(scores, labels, bins=50)) == 11


@pytest.mark.parametrize("bins", [1, 3, 10])
def test_equal_scores_that_are_right_as_often_as_they_say_are_calibrated(bins: int) -> None:
    """Sorted by label and cut into bins, a thousand candidates at 0.5, half of them right, had ECE 0.5."""
    alike = np.full(1000, 0.5)
    labels = np.tile([1.0, 0.0], 500)
    assert calibration_error(reliability(alike, labels, bins)) == 0
    scores = np.repeat([0.2, 0.6, 0.8], [5, 10, 15])  # edges between bins cut through each of them
    labels = np.concatenate([np.arange(n) < share * n for n, share in ((5, 0.2), (10, 0.6), (15, 0.8))])
    assert calibration_error(reliability(scores, labels.astype(float), bins)) == pytest.approx(0, abs=1e-12)


def test_temperature_of_two_values_by_hand() -> None:
    """All log odds are +-1 and 3 of 4 point the right way: sigmoid(1 / T) = 3/4, T = 1 / log 3."""
    odds, labels = np.array([1.0, -1.0, 1.0, -1.0]), np.array([1.0, 0.0, 1.0, 1.0])
    assert fit_temperature(odds, labels) == pytest.approx(1 / math.log(3))


def test_temperature_is_recovered_and_lowers_the_loss() -> None:
    rng = np.random.default_rng(3)
    true_odds = rng.normal(0, 2, 40000)
    labels = (rng.random(40000) < 1 / (1 + np.exp(-true_odds))).astype(float)
    assert fit_temperature(2.5 * true_odds, labels) == pytest.approx(2.5, rel=0.05)
    assert fit_temperature(0.4 * true_odds, labels) == pytest.approx(0.4, rel=0.05)


def test_temperature_at_its_ends() -> None:
    """Scores that always rank wrongly say nothing (T large); scores that never err may be sharp (T small)."""
    odds = np.array([2.0, -1.0, 3.0])
    assert fit_temperature(odds, np.array([0.0, 1.0, 0.0])) == pytest.approx(1e3)
    assert fit_temperature(odds, np.array([1.0, 0.0, 1.0])) < 0.2


@given(st.lists(st.floats(0.001, 0.999), min_size=2, max_size=9), st.floats(0.05, 20))
def test_temperature_keeps_the_order(scores: list[float], temperature: float) -> None:
    before = np.array(scores)
    after = at_temperature(before, temperature)
    assert np.all(np.diff(after[np.argsort(before)]) >= 0)
    assert at_temperature(before, 1.0) == pytest.approx(before)


def test_scores_rounded_to_their_ends_stay_finite() -> None:
    odds = log_odds(np.array([0.0, 0.5, 1.0]))
    assert np.isfinite(odds).all() and odds[1] == 0 and odds[0] == pytest.approx(-odds[2], rel=1e-4)
    assert np.isfinite(at_temperature(np.array([0.0, 1.0]), 1e-3)).all()


def test_quality_of_a_samples_file() -> None:
    """Unscored candidates do not count; the temperature comes from other problems."""
    test = [problem("a", [0.9, 0.2, None], [0]), problem("b", [0.6, 0.7], [0])]
    found = quality(test)
    assert (found.candidates, found.temperature, found.curve_fitted) == (4, None, None)
    assert found.auc.value == 0.75 and found.pairwise.value == 0.5
    assert found.brier == pytest.approx((0.01 + 0.04 + 0.16 + 0.49) / 4)
    temperature = fitted_on([problem("v", [1 / (1 + math.e), math.e / (1 + math.e)] * 2, [1, 2, 3])])
    # Smoothed, the labels are 1/3 and 4/5: the slope is 0 at sigmoid(1 / T) = 37/60.
    assert temperature == pytest.approx(1 / math.log(37 / 23), rel=1e-6)
    fitted = quality(test, temperature)
    assert fitted.auc == found.auc and fitted.temperature == temperature
    assert fitted.brier_fitted == pytest.approx(
        brier(at_temperature(np.array([0.9, 0.2, 0.6, 0.7]), temperature), np.array([1.0, 0, 1, 0]))
    )


def test_no_problem_with_both_classes_leaves_all_but_the_pairs() -> None:
    """One problem is all right, the other all wrong: said to be of one class, and left out whole."""
    test = [problem("a", [0.9, 0.8], [0, 1]), problem("b", [0.1, 0.85], [])]
    found = quality(test)
    assert found.pairwise is None and found.auc.value == 0.75
    assert found.brier == pytest.approx((0.01 + 0.04 + 0.01 + 0.85**2) / 4)


def test_a_few_separable_validation_candidates_ask_for_no_extreme_temperature() -> None:
    """Likelihood of plain labels asks for T = 0, and got 0.001: 0.7 and 0.6 both became 1.0."""
    temperature = fitted_on([problem("v", [0.7, 0.6, 0.4], [0, 1])])
    assert 0.1 < temperature < 10
    assert len(set(at_temperature(np.array([0.7, 0.6, 0.4]), temperature))) == 3


@pytest.mark.parametrize(
    "problems",
    [
        [problem("a", [None, None], [0])],
        [problem("a", [0.4, 0.5], []), problem("b", [0.4], [])],
        [problem("a", [0.4, 0.5], [0, 1])],
        [problem("a", [-3.0, 2.0], [0])],  # log odds of another engine: no probabilities
        [problem("a", [], [])],
    ],
)
def test_no_quality_where_nothing_can_be_said(problems: list[SampledProblem]) -> None:
    assert quality(problems) is None


def test_smoothed_labels_by_hand() -> None:
    """Three right, one wrong: 4/5 and 1/3."""
    assert smoothed(np.array([1.0, 0.0, 1.0, 1.0])).tolist() == pytest.approx([4 / 5, 1 / 3, 4 / 5, 4 / 5])


def test_a_perfect_order_still_gives_scores_that_rank() -> None:
    """Likelihood alone asks for T = 0, where every score is rounded to 0 or 1 and ties with the next."""
    odds, labels = np.array([3.0, 2.0, 1.5, -1.0, -2.0, -2.5]), np.array([1.0, 1, 1, 0, 0, 0])
    temperature = fit_temperature(odds, smoothed(labels))
    scores = at_temperature(1 / (1 + np.exp(-odds)), temperature)
    assert 0.5 < temperature < 5 and len(set(scores)) == 6 and scores.max() < 0.99
    many = np.tile(labels, 2000)  # with many candidates nothing changes
    rng = np.random.default_rng(0)
    noisy = np.tile(odds, 2000) + rng.normal(0, 3, len(many))
    assert fit_temperature(noisy, smoothed(many)) == pytest.approx(fit_temperature(noisy, many), rel=0.01)


def test_what_was_not_read_is_no_judgement():
    read, unread = Sample("a", "1", True, score=0.9), Sample("b", "2", False, score=UNREAD)
    samples = (read, unread, Sample("c", "3", False))
    scores, labels = scored_arrays([SampledProblem("p", "P", "1", samples)])
    assert scores[0].tolist() == [0.9] and labels[0].tolist() == [1.0]
