"""mathref.adaptive: stopping by hand, against a plain replay, and the rule that never changes the vote."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathref.adaptive import posterior_lead, replay, stop
from mathref.formats import Sample, SampledProblem
from mathref.rerank import cluster, select

votes = st.lists(st.sampled_from([None, "a", "b", "c", "d"]), min_size=1, max_size=24)


def clusters_of(answers: list[str | None]) -> list[tuple[int, ...]]:
    return cluster(answers, str.__eq__, None)


@pytest.mark.parametrize(
    ("first", "second", "expected"), [(0, 0, 1 / 2), (1, 0, 3 / 4), (3, 0, 15 / 16), (2, 1, 11 / 16)]
)
def test_posterior_by_hand(first: int, second: int, expected: float) -> None:
    assert posterior_lead(first, second) == expected


def test_posterior_is_the_integral_of_the_beta_density() -> None:
    """P(p > 1/2) under Beta(8, 4), by the trapezoidal rule."""
    steps = 20000
    norm = math.gamma(12) / math.gamma(8) / math.gamma(4)
    points = [0.5 + 0.5 * i / steps for i in range(steps + 1)]
    values = [norm * x**7 * (1 - x) ** 3 for x in points]
    area = (sum(values) - (values[0] + values[-1]) / 2) * 0.5 / steps
    assert posterior_lead(7, 3) == pytest.approx(area, abs=1e-7)


def test_stopping_by_hand() -> None:
    """Four of seven settle a vote; three in a row pass 0.9 (15/16), four pass 0.95 (31/32)."""
    answers = ["a", "a", "a", "a", "b", "b", "b"]
    clusters = clusters_of(answers)
    assert stop(clusters, 7, None) == (4, 0)
    assert stop(clusters, 7, 0.9) == (3, 0)
    assert stop(clusters, 7, 0.95) == (4, 0)
    assert stop(clusters, 7, 0.99) == (7, 0)  # never reached: all are drawn
    assert stop(clusters_of(["b", "b", "b", "a", "a", "a", "a"]), 7, 0.9) == (3, 0)  # stopped too early


def test_solutions_without_an_answer_are_paid_for() -> None:
    assert stop(clusters_of([None, None, "a", "a", None]), 5, 0.85) == (4, 2)
    assert stop([], 5, None) == (5, None)
    assert stop([], 0, None) == (0, None)


@given(votes)
def test_the_settled_rule_never_changes_the_vote(answers: list[str | None]) -> None:
    clusters = clusters_of(answers)
    drawn, winner = stop(clusters, len(answers), None)
    assert 1 <= drawn <= len(answers)
    assert (winner or 0) == select(answers, strategy="maj1", clusters=clusters)


@given(votes, st.sampled_from([0.5, 0.8, 0.95]))
def test_the_winner_is_the_vote_among_the_samples_drawn(answers: list[str | None], threshold: float) -> None:
    drawn, winner = stop(clusters_of(answers), len(answers), threshold)
    assert (winner or 0) == select(answers[:drawn], strategy="maj1", clusters=clusters_of(answers[:drawn]))


@given(votes, st.floats(0.5, 0.99), st.floats(0.5, 0.99))
def test_more_certainty_costs_more_samples(answers: list[str | None], a: float, b: float) -> None:
    clusters = clusters_of(answers)
    spent = [stop(clusters, len(answers), threshold)[0] for threshold in sorted((a, b))]
    assert spent[0] <= spent[1]


def test_replay_reports_every_rule() -> None:
    problems = [
        SampledProblem(name, name, "a", tuple(Sample("", x, x == "a") for x in answers))
        for name, answers in (("p", ["b", "b", "b", "a", "a", "a", "a"]), ("q", ["a"] * 7), ("r", []))
    ]
    found = {
        s.rule: s
        for s in replay(problems, [clusters_of([s.answer for s in p.samples]) for p in problems], [0.9])
    }
    assert found["all samples"].right == found["settled"].right == [1.0, 1.0, 0.0]
    assert found["settled"].spent == [7, 4, 0]
    assert (found["posterior > 0.9"].spent, found["posterior > 0.9"].right) == ([3, 3, 0], [0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="threshold must be at least 0.5 and below 1, got 1"):
        replay(problems, [[]] * 3, [0.9, 1])


def test_a_lead_that_the_rest_can_still_draw_level_with_is_not_settled():
    """Two votes ahead with two to come may end in a tie, which goes to the cluster sampled first."""
    assert stop([(0, 1), (2, 3)], 4, None) == (4, 0)
    assert stop([(0, 1, 2), (3,)], 4, None) == (3, 0)
