"""mathref.simulated: the scores have the quality that they are said to have, and the limits are known."""

from __future__ import annotations

import math
import random
from statistics import mean

import numpy as np
import pytest

from mathref.calibration import pairwise_accuracy, scored_arrays
from mathref.formats import Sample, SampledProblem
from mathref.selection import clusters_of
from mathref.simulated import RULES, simulate, with_scores


def problem(name: str, answers: str, gold: str = "a") -> SampledProblem:
    samples = tuple(Sample(f"{name} {i} {a}", a, a == gold) for i, a in enumerate(answers))
    return SampledProblem(name, name, gold, samples)


# Maj1 solves the first and the third of these problems, some sample solves all but the last one.
PROBLEMS = [problem("p", "aab"), problem("q", "abbb"), problem("r", "aaaa"), problem("s", "bcb")]


@pytest.mark.parametrize("quality", [0.6, 0.75, 0.9])
def test_pairs_are_ordered_rightly_as_often_as_asked(quality: float) -> None:
    rng = random.Random(0)
    distance = {0.6: 0.35829, 0.75: 0.95387, 0.9: 1.81239}[quality]  # sqrt(2) times the normal quantile
    scored = [with_scores(problem(str(i), "ab" * 8), distance, rng) for i in range(400)]
    assert mean(pairwise_accuracy(*scored_arrays(scored))) == pytest.approx(quality, abs=0.01)


def test_scores_are_calibrated_where_both_kinds_are_as_frequent() -> None:
    rng = random.Random(1)
    scores, labels = map(np.concatenate, scored_arrays(
        [with_scores(problem(str(i), "ab" * 8), 1.5, rng) for i in range(800)]
    ))  # fmt: skip
    for low in (0.1, 0.3, 0.5, 0.7):
        chosen = (scores >= low) & (scores < low + 0.1)
        assert labels[chosen].mean() == pytest.approx(scores[chosen].mean(), abs=0.04)


@pytest.mark.parametrize("quality", [0.6, 0.75, 0.9])
def test_of_one_right_and_one_wrong_solution_the_right_one_wins_as_often_as_asked(quality: float) -> None:
    """The share of pairs that are ordered rightly, asked of the rule; deviation of 4,000 draws: 0.008."""
    pair = [problem("p", "ab")]
    (found,) = simulate(pair, clusters_of(pair), qualities=[quality], draws=4000)
    assert found.right["rr.all"] == pytest.approx([quality], abs=0.03)


def test_equal_solutions_have_equal_scores() -> None:
    twice = SampledProblem("p", "p", "a", (Sample("x", "a", True), Sample("x", "a", True)))
    first, second = with_scores(twice, 1.0, random.Random(0)).samples
    assert first.score == second.score


def test_a_perfect_evaluator_finds_every_right_sample() -> None:
    (found,) = simulate(PROBLEMS, clusters_of(PROBLEMS), qualities=[1 - 1e-12])
    assert found.right == {
        "maj1": [1, 0, 1, 0],
        "rr.all": [1, 1, 1, 0],
        "rr.majk": [1, 1, 1, 0],
        "w.rr": [1, 1, 1, 0],
    }


def test_a_useless_evaluator_chooses_by_lot_and_leaves_the_vote_alone() -> None:
    (found,) = simulate(PROBLEMS, clusters_of(PROBLEMS), qualities=[0.5 + 1e-9], draws=2000)
    assert found.right["w.rr"] == pytest.approx([1, 0, 1, 0])
    assert found.right["rr.all"] == pytest.approx([2 / 3, 1 / 4, 1, 0], abs=0.04)


def test_a_draw_repeats_with_its_seed() -> None:
    first, again, other = (simulate(PROBLEMS, clusters_of(PROBLEMS), seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert set(first[0].right) == set(RULES)
    assert all(0 <= v <= 1 and not math.isnan(v) for s in first for vs in s.right.values() for v in vs)


@pytest.mark.parametrize("quality", [0.5, 1.0, 0.2])
def test_an_impossible_quality_is_refused(quality: float) -> None:
    with pytest.raises(ValueError, match="above 0.5 and below 1"):
        simulate(PROBLEMS, clusters_of(PROBLEMS), qualities=[quality])
