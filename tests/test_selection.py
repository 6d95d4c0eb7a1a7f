"""mathref.selection and mathref.tables on small scored files: values, cost, choice of K, cells of tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathref import report, tables
from mathref.adaptive import replay
from mathref.calibration import fitted_on
from mathref.formats import Sample, SampledProblem
from mathref.metrics import wilson_interval
from mathref.rerank import STRATEGIES, cluster, select
from mathref.selection import (
    best_k,
    clusters_of,
    cost_curve,
    first_samples,
    is_covered,
    ks_up_to,
    prefix_curve,
    scored_share,
    strategy_curve,
    strategy_name,
    strategy_values,
)

META = {"model": "ssft", "model_digest": "d1", "evaluator": "scr", "evaluator_digest": "e1"}


def problem(name: str, answers: str, scores: list[float | None]) -> SampledProblem:
    """One sample per letter: "A" is right, "-" has no answer."""
    samples = [
        Sample(f"{name} {i}", None if letter == "-" else letter, letter == "A", score=score)
        for i, (letter, score) in enumerate(zip(answers, scores, strict=True))
    ]
    return SampledProblem(name, f"Problem {name}", "A", tuple(samples))


# p: the vote is right, the best score wrong; q: the vote is wrong, all rules with scores right; r: none.
PROBLEMS = [
    problem("p", "AABC-", [0.6, 0.5, 0.9, 0.1, None]),
    problem("q", "BABC-", [0.1, 0.8, 0.2, 0.3, None]),
    problem("r", "CC---", [0.5, 0.4, None, None, None]),
]


def test_values_by_hand() -> None:
    assert strategy_values(PROBLEMS, k=2) == {
        "maj1": [1.0, 0.0, 0.0],
        "rr.all": [0.0, 1.0, 0.0],
        "rr.majk": [0.0, 1.0, 0.0],
        "w.rr": [1.0, 1.0, 0.0],
        "w.rr.majk": [1.0, 1.0, 0.0],
        "maj1.topn": [1.0, 1.0, 0.0],  # p: B and A tie, q: A and C; each time A was sampled first
    }
    assert strategy_values(PROBLEMS, k=1)["rr.majk"] == [1.0, 0.0, 0.0]


def test_cost_counts_all_candidates() -> None:
    """Of 15 candidates 2 + 2 + 2 are in the largest cluster and 10 have an answer."""
    clusters = clusters_of(PROBLEMS)
    assert cost_curve(PROBLEMS, clusters, [1, 2, 3, 9]) == {1: 6 / 15, 2: 8 / 15, 3: 10 / 15, 9: 10 / 15}
    assert scored_share(PROBLEMS, clusters, "w.rr") == 10 / 15
    assert scored_share(PROBLEMS, clusters, "maj1") == 0


def test_rules_without_their_scores_are_left_out() -> None:
    part = [*PROBLEMS[:2], problem("r", "CCB--", [0.5, 0.4, None, None, None])]
    clusters = clusters_of(part)
    assert set(strategy_values(part, k=1)) == {"maj1", "rr.majk", "w.rr.majk"}
    assert not is_covered(part, clusters, "rr.all")
    assert set(strategy_curve(part, clusters, [1, 2])["rr.majk"]) == {1}
    negative = [problem("p", "AB", [-1.0, 2.0])]  # another engine's rewards rank, but are no weights
    assert set(strategy_values(negative)) == {"maj1", "rr.all", "rr.majk", "maj1.topn"}


answer_lists = st.lists(st.sampled_from("ABCDE-"), min_size=1, max_size=12).map("".join)


@given(answer_lists, st.integers(1, 12), st.randoms(use_true_random=False))
def test_a_prefix_is_what_fewer_samples_would_have_been(answers: str, n: int, random) -> None:
    full = [problem("p", answers, [random.random() for _ in answers])]
    clusters = [cluster([s.answer for s in full[0].samples], str.__eq__, None)]
    cut, kept = first_samples(full, clusters, n)
    assert kept == [cluster([s.answer for s in full[0].samples[:n]], str.__eq__, None)]
    for strategy, values in prefix_curve(full, clusters, [n], k=2)[n].items():
        chosen = select([s.answer for s in cut[0].samples], [s.score for s in cut[0].samples],
                        strategy=strategy, k=2, clusters=kept[0])  # fmt: skip
        assert values == [float(cut[0].samples[chosen].correct)]


def test_ks_end_at_n_and_the_cheapest_best_k_wins() -> None:
    assert ks_up_to(4) == [1, 2, 3, 4] and ks_up_to(11) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert best_k({4: [1.0, 1.0], 2: [1.0, 1.0], 1: [0.0, 1.0]}) == 2


def test_names_are_the_papers() -> None:
    assert [strategy_name(s, 8) for s in STRATEGIES] == [
        "Maj1",
        "RR.All",
        "RR.Maj8",
        "W.RR",
        "W.RR.Maj8",
        "Maj1.Top8",
    ]


# ---- tables ------------------------------------------------------------------------------------------


def scored(
    problems: list[SampledProblem], file: str = "test.jsonl", k: int = 8, **meta: object
) -> report.Scored:
    return report.score(file, META | meta, problems, k=k)


VALIDATION = [
    problem("v", "AABC", [0.6, 0.5, 0.9, 0.1]),  # right with K = 1 only
    problem("w", "AABC", [0.6, 0.5, 0.9, 0.1]),
]


def test_k_is_chosen_on_validation_and_hindsight_is_marked() -> None:
    test = scored(PROBLEMS, k=3)
    found = tables.selections(test, scored(VALIDATION, "v.jsonl"), optimistic=True)
    chosen = {(s.strategy, s.chosen): s for s in found}
    assert chosen["rr.majk", "validation"].k == 1 and chosen["rr.majk", "validation"].values == [
        1.0,
        0.0,
        0.0,
    ]
    assert chosen["rr.majk", "given"].k == 3
    assert chosen["w.rr.majk", "optimistic"].k == 2  # q needs its second cluster
    assert chosen["w.rr.majk", "optimistic"].name == "W.RR.Maj2 (optimistic)"
    assert {s.strategy for s in found if s.chosen != "given"} == {"rr.majk", "w.rr.majk", "maj1.topn"}
    difference = chosen["w.rr", "given"].versus_maj1
    assert difference.difference.difference == pytest.approx(1 / 3)
    assert (difference.mcnemar.only_a, difference.mcnemar.only_b) == (1, 0)
    assert chosen["maj1", "given"].versus_maj1 is None
    assert [s.chosen for s in tables.selections(test)] == ["given"] * 6


def test_validation_is_matched_by_generator_and_evaluator() -> None:
    test = scored(PROBLEMS)
    right, other = scored(VALIDATION, "v.jsonl"), scored(VALIDATION, "o.jsonl", evaluator_digest="e2")
    assert tables.matching_validation(test, [other, right]) is right
    assert tables.matching_validation(test, [other]) is None
    assert tables.matching_validation(scored(PROBLEMS, model_digest="d2"), [right]) is None
    with pytest.raises(ValueError, match="v.jsonl shares 1 problems with test.jsonl"):
        tables.matching_validation(test, [scored([PROBLEMS[0]], "v.jsonl")])


def test_tables_6_and_7_hold_the_values() -> None:
    systems = report.join(
        [scored(PROBLEMS), scored(PROBLEMS, "b.jsonl", evaluator="big", evaluator_digest="b")]
    )
    table = tables.strategy_table(systems)
    assert table.head == ["rule", "ssft by scr", "ssft by big"]
    cells = {row[0]: row[1:] for row in table.rows}
    assert list(cells) == [
        "Maj1@N", "RR.All", "RR.Maj8", "W.RR", "W.RR.Maj8", "Maj1.Top8", "Pass@N",
    ]  # fmt: skip
    two = wilson_interval(2, 3)
    assert cells["W.RR"] == [f"66.7 ({100 * two.low:.1f}-{100 * two.high:.1f})"] * 2
    wide = tables.evaluator_table(systems)
    assert [row[:3] for row in wide.rows] == [["scr", "ssft", "3"], ["big", "ssft", "3"]]
    assert wide.rows[0][3:] == [cells[column][0] for column in wide.head[3:]] and len(wide.head) == 10
    rows = {row[0]: row for row in tables.selection_table(tables.selections(systems[0].sampled)).rows}
    assert rows["W.RR"][2] == "66.7" and rows["W.RR"][3].startswith("+33.3 (")
    assert rows["Maj1"][2:] == ["0.0", "", "", "", "", ""]


def test_a_greedy_file_stands_beside_every_evaluator_of_its_generator() -> None:
    greedy = [SampledProblem(p.id, p.problem, "A", (Sample("", "A", True),)) for p in PROBLEMS]
    meta = {"model": "ssft", "model_digest": "d1", "temperature": 0}
    systems = report.join(
        [report.score("g.jsonl", meta, greedy), scored(PROBLEMS), scored(PROBLEMS, "b.jsonl")]
    )
    assert len(systems) == 2
    table = tables.strategy_table(systems)
    assert table.rows[0][0] == "Pass@1" and table.rows[0][1] == table.rows[0][2] == "100.0 (43.9-100.0)"


def test_systems_are_compared_in_every_rule() -> None:
    worse = [problem(p.id, "".join(s.answer or "-" for s in p.samples), [0.5] * 5) for p in PROBLEMS]
    first, second = report.join([scored(PROBLEMS), scored(worse, "b.jsonl", evaluator="big")])
    found = {c.metric: c for c in report.compare(first, second)}
    assert {"RR.All", "RR.Maj8", "W.RR", "W.RR.Maj8", "Maj1.Top8"} <= set(found)
    assert found["W.RR"].difference.difference == pytest.approx(1 / 3)  # equal scores: W.RR is Maj1


def test_curves_and_adaptive_tables() -> None:
    test = scored(PROBLEMS)
    curve = tables.strategy_curve_table(test)
    assert curve.head == ["K (n)", "RR.MajK", "W.RR.MajK", "Maj1.Topn", "scored %"]
    assert [row[0] for row in curve.rows] == ["1", "2", "3", "4", "5"]
    assert [row[-1] for row in curve.rows] == ["40.0", "53.3", "66.7", "66.7", "66.7"]
    prefix = tables.prefix_table(test)
    assert [row[0] for row in prefix.rows] == ["1", "2", "4", "5"] and len(prefix.head) == 7
    adaptive = tables.adaptive_table(replay(test.problems, test.clusters))
    assert adaptive.rows[0][:3] == ["all samples", "5.0", "100.0"]
    assert adaptive.rows[1][4].startswith("+0.0 (-")  # no difference, but of very few problems


def test_cost_is_read_from_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    assert tables.cost(scored(PROBLEMS, str(file))) == {
        "candidates": 15,
        "scored": 10,
        "calls": 10,
        "seconds": None,
    }
    (tmp_path / "s.jsonl.cost.json").write_text('{"seconds": 1.25}')
    (row,) = tables.cost_table([scored(PROBLEMS, str(file))]).rows
    assert row == [str(file), "15", "10", "66.7", "10", "1.2"]


def test_json_is_json() -> None:
    (system,) = report.join([scored(PROBLEMS)])
    found = tables.to_json(system, scored(VALIDATION, "v.jsonl"), adaptive=True)
    assert json.loads(json.dumps(found, allow_nan=False))["cost_curve"]["1"] == 0.4
    assert {s["chosen"] for s in found["strategies"]} == {"given", "validation", "optimistic"}
    assert found["evaluator"]["candidates"] == 10 and found["evaluator"]["temperature"] > 0


def test_markdown_holds_the_same_cells() -> None:
    table = report.Table(["rule", "solved"], [["W.RR", "1.0"], ["a|b", ""]])
    assert table.markdown() == "| rule | solved |\n| --- | ---: |\n| W.RR | 1.0 |\n| a\\|b |  |"
    assert str(table) == "rule  solved\n------------\nW.RR     1.0\na|b"


def test_small_p_values_are_not_zero() -> None:
    assert [report.p_value(p) for p in (0.00009, 0.0001, 0.25, 0.0)] == [
        "<0.0001",
        "0.0001",
        "0.2500",
        "<0.0001",
    ]


def test_the_first_samples_are_those_drawn_first() -> None:
    samples = tuple(Sample(str(i), str(i % 2), i % 2 == 0) for i in range(6))
    problem = SampledProblem("p", "P", "0", samples)
    cut, clusters = first_samples([problem], [[(0, 2, 4), (1, 3, 5)]], 3)
    assert [s.text for s in cut[0].samples] == ["0", "1", "2"] and clusters == [[(0, 2), (1,)]]


def test_scores_of_other_prompts_choose_nothing() -> None:
    """K and n come from validation samples of the same prompt: four examples in it make another generator."""
    meta = {"model_digest": "m", "evaluator_digest": "e", "few_shot": 0}
    files = []
    for name, few_shot in (("a", 0), ("b", 0), ("c", 4)):
        problem = SampledProblem(name, "P", "1", (Sample("x", "1", True), Sample("y", "2", False)))
        files.append(report.score(name, meta | {"few_shot": few_shot}, [problem]))
    assert tables.pair_key(files[0]) == tables.pair_key(files[1]) != tables.pair_key(files[2])


def test_what_is_chosen_is_that_of_the_validation_file_where_the_test_file_says_otherwise() -> None:
    """K = 1 was the best on both files of the tests, so that choosing it on the test problems passed."""
    best_is_1 = [problem(f"t{i}", "AABC", [0.6, 0.5, 0.9, 0.1]) for i in range(3)]
    best_is_2 = [problem(f"v{i}", "BBAC", [0.1, 0.2, 0.9, 0.1]) for i in range(3)]
    test, validation = scored(best_is_1), scored(best_is_2, "v.jsonl")
    found = {(s.strategy, s.chosen): s.k for s in tables.selections(test, validation, optimistic=True)}
    assert found["rr.majk", "validation"] == 2 and found["rr.majk", "optimistic"] == 1
    assert found["w.rr.majk", "validation"] == 2
    temperature = tables.evaluator_quality(test, validation).temperature
    assert temperature == fitted_on(validation.problems) != fitted_on(test.problems)
