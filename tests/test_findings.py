"""The paper's eight orderings, judged on a study whose every number was chosen: each reads what it names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mathref import findings
from mathref.findings import Difference, Expectation, overall
from mathref.scoring import cost_file

PAPER = Path(__file__).resolve().parent.parent.parent / "shared" / "PAPER.md"
N = 12  # samples a problem, in more than eight clusters, so that RR.Maj8 and RR.All part
RIGHT, RIVAL, SINGLES = "1", "2", [str(i) for i in range(3, 12)]

# Of a problem: the answers of its samples, and the scores of those that have another one than 0.1. The last
# of the single answers lie outside the eight largest clusters.
PATTERNS: dict[str, tuple[list[str], dict[str, float]]] = {
    "all rules": ([RIGHT] * 3 + SINGLES, {RIGHT: 0.9}),
    "all but RR.All": ([RIGHT] * 3 + SINGLES, {RIGHT: 0.8, SINGLES[-1]: 0.95}),
    "votes alone": ([RIGHT] * 3 + SINGLES, {RIGHT: 0.8, SINGLES[0]: 0.95}),
    "scores alone": ([RIVAL] * 3 + [RIGHT] * 2 + SINGLES[:7], {RIGHT: 0.9}),
    "weighted votes alone": ([RIVAL] * 3 + [RIGHT] * 2 + SINGLES[:7], {RIGHT: 0.8, SINGLES[0]: 0.95}),
    "none": ([RIVAL] * 3 + SINGLES, {}),
}


def write(folder: Path, name: str, greedy: int | None = None, **counts: int) -> None:
    """NAME.jsonl with so many of 60 pairs of problems of each pattern; NAME-greedy.jsonl, `greedy` solved."""
    kinds = [kind for key, n in counts.items() for kind in [key.replace("_", " ")] * n]
    kinds = [{"all but RR All": "all but RR.All"}.get(kind, kind) for kind in kinds]
    kinds = 2 * (kinds + ["none"] * (60 - len(kinds)))
    lines, once = [{"meta": {"temperature": 0.9}}], [{"meta": {"temperature": 0}}]
    for i, kind in enumerate(kinds):
        answers, scores = PATTERNS[kind]
        found = [{"text": f"It is {a}.", "answer": a, "correct": a == RIGHT, "score": scores.get(a, 0.1)}
                 for a in answers]  # fmt: skip
        if "-by-" not in name:
            for sample in found:
                del sample["score"]
        head = {"id": f"p{i:03d}", "problem": f"problem {i}", "answer": RIGHT}
        lines.append(head | {"samples": found})
        solved = greedy is not None and i % 60 < greedy
        answer = RIGHT if solved else "0"
        once.append(head | {"samples": [{"text": "x", "answer": answer, "correct": solved}]})
    folder.mkdir(parents=True, exist_ok=True)
    for end, rows in (("", lines), ("-greedy", once)) if greedy is not None else (("", lines),):
        (folder / f"{name}{end}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A study that comes out as the paper did: (greedy, voting, any sample) of 60 problems in each row."""
    rows = {
        "tiny-fewshot-brief": (4, 9, 27), "tiny-fewshot-detailed": (4, 9, 27), "tiny-brief-test": (5, 12, 30),
        "tiny-detailed-test": (14, 24, 42), "small-fewshot-brief": (6, 12, 30),
        "small-fewshot-detailed": (8, 15, 33), "small-brief-test": (9, 18, 36),
        "small-detailed-test": (24, 33, 51), "small-mtsf-margin-test": (30, 38, 51),
        "small-mtsf-xent-test": (30, 38, 51), "small-control-test": (28, 34, 51),
    }  # fmt: skip
    seed = tmp_path / "seed0"
    for name, (greedy, voting, oracle) in rows.items():
        write(seed, name, greedy, votes_alone=voting, scores_alone=oracle - voting)
    strong = {"all_rules": 20, "all_but_RR_All": 13, "scores_alone": 12, "weighted_votes_alone": 6}
    for loss in ("xent", "margin"):
        write(seed, f"small-detailed-test-by-small-{loss}", **strong)
    weak = {"all_rules": 8, "all_but_RR_All": 8, "votes_alone": 8}
    write(seed, "tiny-detailed-test-by-tiny-xent", **weak)
    write(seed, "tiny-detailed-test-by-small-xent", all_rules=24, scores_alone=12)
    write(seed, "small-detailed-test-by-tiny-xent", all_rules=20, votes_alone=13)
    write(seed, "small-mtsf-xent-test-by-small-xent", all_rules=45, weighted_votes_alone=6)
    return tmp_path


def verdicts(folder: Path) -> list[str]:
    study = findings.Study(folder, 1, ("tiny", "small"), N)
    return [overall(comparisons) for _, comparisons in findings.orderings(study)]


def test_a_study_that_comes_out_as_the_paper_did_holds_in_all_eight(world: Path) -> None:
    assert verdicts(world) == ["holds"] * 8
    study = findings.Study(world, 1, ("tiny", "small"), N)
    seen = {c.label: 60 * c.difference.difference for _, found in findings.orderings(study) for c in found}
    assert seen["small-detailed-test: Pass@12 - Maj1@12"] == pytest.approx(18)
    assert seen["tiny: detailed - brief, Maj1@12"] == pytest.approx(12)
    assert seen["tiny: gap fine-tuned - gap prompted, Maj1@12"] == pytest.approx(12)
    assert seen["small: gap fine-tuned - gap prompted, Maj1@12"] == pytest.approx(15 - 3)
    assert seen["small: RR.Maj8 - RR.All"] == pytest.approx(45 - 32)
    assert seen["tiny: RR.Maj8 - Maj1@12"] == pytest.approx(16 - 24)
    assert seen["small over tiny: RR.Maj8 - Maj1@12"] == pytest.approx(12)
    assert seen["tiny over small: RR.Maj8 - Maj1@12"] == pytest.approx(-13)
    assert seen["small: W.RR.Maj8 - Maj1@12"] == pytest.approx(51 - 33)
    assert seen["MTSF xent - control, Maj1@12"] == pytest.approx(38 - 34)
    assert seen["MTSF xent - SSFT, Pass@1"] == pytest.approx(30 - 24)
    assert seen["MTSF xent - SSFT, Pass@12"] == pytest.approx(51 - 51)
    page = findings.headline(study)
    assert page.startswith("MTSF generator, evaluator and W.RR.Maj8 on small: 85.0 (")
    assert "brief examples 20.0 (" in page and "gain +65.0 (" in page and "gain +60.0 (" in page


def test_what_reranking_costs_is_counted_over_k_and_n(world: Path) -> None:
    """42 of 60 problems have ten clusters, 3 + 9 * 1 samples; 18 have nine, 3 + 2 + 7 * 1; a text each."""
    path = world / "seed0" / "small-detailed-test-by-small-xent.jsonl"
    calls = 2 * (42 * 10 + 18 * 9)
    cost_file(path).write_text(json.dumps({"seconds": calls / 100}))  # 10 ms each
    table = findings.cost_grid(findings.Study(world, 1, ("tiny", "small"), N), "small")
    assert table is not None
    cells = {(row[0], row[1]): row[3:] for row in table.rows}
    assert cells["12", "1"] == ["25.0", "1.0", "10"]
    assert cells["12", "8"] == [f"{100 * (42 * 10 + 18 * 11) / (60 * 12):.1f}", "8.0", "80"]
    assert cells["12", "64"] == ["100.0", "9.7", "97"]
    assert cells["4", "1"] == ["75.0", "1.0", "10"] and cells["4", "2"] == ["100.0", "2.0", "20"]


@pytest.mark.parametrize(
    ("ordering", "name", "change"),
    [
        (1, "tiny-brief-test", dict(greedy=12, votes_alone=12, scores_alone=18)),  # voting gains nothing
        (2, "tiny-brief-test", dict(greedy=5, votes_alone=30, scores_alone=10)),
        (3, "small-fewshot-detailed", dict(greedy=8, votes_alone=30, scores_alone=10)),
        (4, "tiny-detailed-test-by-tiny-xent", dict(all_rules=24)),
        (5, "tiny-detailed-test-by-tiny-xent", dict(all_rules=8, all_but_RR_All=16, scores_alone=8)),
        (6, "small-detailed-test-by-tiny-xent", dict(all_rules=33, scores_alone=8)),
        (7, "small-detailed-test-by-small-margin", dict(all_rules=30)),
        (8, "small-mtsf-margin-test", dict(greedy=33, votes_alone=30, scores_alone=21)),
        (8, "small-control-test", dict(greedy=28, votes_alone=40, scores_alone=11)),
    ],
)
def test_each_ordering_falls_by_its_own_file(world: Path, ordering: int, name: str, change: dict) -> None:
    write(world / "seed0", name, **change)
    found = verdicts(world)
    assert found[ordering - 1] != "holds"


@pytest.mark.parametrize(
    ("expected", "low", "high", "verdict"),
    [
        ("far above", 0.101, 0.5, "holds"),  # far: more than 10 points
        ("far above", 0.099, 0.5, "undecided"),
        ("equal", -0.019, 0.019, "holds"),  # equal and flat: less than 2 points
        ("equal", -0.021, 0.0, "undecided"),
        ("not above", -0.5, 0.019, "holds"),
        ("not above", -0.5, 0.021, "undecided"),
    ],
)
def test_the_bounds_of_the_words(expected: str, low: float, high: float, verdict: str) -> None:
    assert Expectation("", Difference((low + high) / 2, low, high, 0.5), expected).verdict == verdict


@pytest.mark.skipif(not PAPER.is_file(), reason="the specification is not in ../shared")
def test_the_papers_own_numbers_are_those_of_its_tables() -> None:
    """Tables 2 and 4, and the sentence of Table 5, as the specification has them."""
    lines = PAPER.read_text(encoding="utf-8").splitlines()

    def row(table: str, start: str) -> list[str]:
        first = next(i for i, line in enumerate(lines) if line.startswith(f"{table} [V]"))
        found = next(line for line in lines[first:] if line.startswith(f"| {start} |"))
        return re.findall(r"\d+\.\d", found)

    for name, start in (
        ("fewshot-brief", "few-shot (no tuning)"),
        ("brief-test", "MATH"),
        ("detailed-test", "PRM800K"),
        ("both-test", "MATH + PRM800K"),
    ):
        of_both = row("Table 2", start)
        assert findings.PAPER_ROWS[name][1:] == (" / ".join(of_both[:3]), " / ".join(of_both[3:]))
    for loss in ("margin", "xent"):
        assert findings.PAPER_ROWS[f"mtsf-{loss}-test"][1:] == (
            "",
            " / ".join(row("Table 4", f"MTSF | cls-{loss}")),
        )
    sentence = " ".join(lines)
    weak, strong = findings.PAPER_ROWS["fewshot-detailed"][1:]
    assert f"is {weak} for S* and {strong} for L" in sentence
    assert findings.PAPER_ROWS["control-test"][1:] == ("", "")  # which the paper does not have
