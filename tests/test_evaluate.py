"""evaluate.py end to end on small files: the numbers against hand-computed ones, the joins, and bad input."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import evaluate
from mathref.runs import run_command

ROOT = Path(evaluate.__file__).parent


def problem_line(number: int, answers: str, *, level: int | None = None, subject: str | None = None) -> dict:
    """One line of a samples file; each letter of `answers` is one sample: "A" is right, "-" has no answer."""
    samples = [
        {
            "text": "" if letter == "-" else f"So it is \\boxed{{{letter}}}.",
            "answer": None if letter == "-" else letter,
            "correct": letter == "A",
            "logprob": -1.0,
            "tokens": 10,
            "finish_reason": "length" if letter == "-" else "stop",
        }
        for letter in answers
    ]
    line: dict[str, Any] = {"id": f"p{number}", "problem": f"Problem {number}", "answer": "A"}
    line |= {"level": level, "subject": subject, "samples": samples}
    return {key: value for key, value in line.items() if value is not None}


def write(path: Path, lines: list[dict], meta: dict | None = None) -> str:
    records = [{"meta": meta}, *lines] if meta else lines
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def run(*argv: str) -> int:
    return run_command(evaluate.main, list(argv))


@pytest.fixture
def sampled(tmp_path: Path) -> str:
    """Three problems of four samples: a clear vote, a vote that fails, and one without any right answer."""
    lines = [
        problem_line(1, "AAB-", level=1, subject="Algebra"),
        problem_line(2, "BBAC", level=1, subject="Algebra"),
        problem_line(3, "CC--", level=5, subject="Geometry"),
    ]
    return write(tmp_path / "s.jsonl", lines, {"model": "ssft", "model_digest": "d1", "temperature": 0.9})


@pytest.fixture
def greedy(tmp_path: Path) -> str:
    lines = [problem_line(3, "A"), problem_line(1, "A"), problem_line(2, "B")]
    return write(tmp_path / "g.jsonl", lines, {"model": "ssft", "model_digest": "d1", "temperature": 0})


def numbers(tmp_path: Path, *argv: str) -> dict[str, Any]:
    out = tmp_path / "out.json"
    assert run(*argv, "--json", str(out)) == 0
    return json.loads(out.read_text())


def test_the_metrics_by_hand(tmp_path: Path, sampled: str) -> None:
    """mean (2 + 1 + 0) / 12; Maj1: 1, 0, 0; Maj8: 1, 1, 0; Pass@2: 5/6, 1/2, 0; Pass@4: 1, 1, 0."""
    (system,) = numbers(tmp_path, sampled)["systems"]
    values = {name: metric["value"] for name, metric in system["metrics"].items()}
    assert values == pytest.approx(
        {"mean@4": 1 / 4, "Maj1@4": 1 / 3, "Maj8@4": 2 / 3, "Pass@2": 4 / 9, "Pass@4": 2 / 3}
    )
    assert all(metric["low"] <= metric["value"] <= metric["high"] for metric in system["metrics"].values())
    assert system["files"][0]["truncated"] == system["files"][0]["no_answer"] == 3 / 12
    assert system["by_level"]["1"]["problems"] == 2 and system["by_level"]["1"]["Maj1@4"]["value"] == 0.5
    assert system["by_subject"]["Geometry"]["Pass@4"]["value"] == 0.0
    assert system["cluster_curve"]["1"]["share"] == 6 / 12  # AA, BB, CC
    assert system["k_curve"]["1"]["maj"]["value"] == pytest.approx(1 / 4)
    assert system["k_curve"]["4"]["maj"]["value"] == pytest.approx(1 / 3)


def test_a_greedy_file_joins_the_samples_of_its_model(
    tmp_path: Path, sampled: str, greedy: str, capsys: pytest.CaptureFixture
) -> None:
    (system,) = numbers(tmp_path, greedy, sampled)["systems"]
    assert system["metrics"]["Pass@1"]["value"] == pytest.approx(2 / 3)
    assert system["metrics"]["Pass@4"]["value"] == pytest.approx(2 / 3)
    shown = capsys.readouterr().out.splitlines()
    row = next(line for line in shown if line.startswith("ssft "))
    assert "66.7 (" in row and "25.0 (" in row  # Pass@1 and mean@N share a line
    assert next(line for line in shown if line.startswith("Pass@1, sampled")).endswith(")")


def test_another_models_greedy_file_stays_apart(tmp_path: Path, sampled: str) -> None:
    lines = [problem_line(n, "A") for n in (1, 2, 3)]
    other = write(tmp_path / "o.jsonl", lines, {"model": "tiny", "model_digest": "d2", "temperature": 0})
    names = [system["system"] for system in numbers(tmp_path, sampled, other)["systems"]]
    assert names == ["ssft", "tiny"]


@pytest.mark.parametrize("change", [{"few_shot": 4}, {"style": "brief"}, {"shots": "s2"}])
def test_a_greedy_file_of_another_prompt_stays_apart(tmp_path: Path, sampled: str, change: dict) -> None:
    meta = {"model": "ssft", "model_digest": "d1", "temperature": 0} | change
    other = write(tmp_path / "o.jsonl", [problem_line(n, "A") for n in (1, 2, 3)], meta)
    assert len(numbers(tmp_path, sampled, other)["systems"]) == 2


def test_one_sample_at_a_temperature_is_not_greedy(tmp_path: Path) -> None:
    file = write(tmp_path / "s.jsonl", [problem_line(1, "A")], {"model": "m", "temperature": 0.9})
    assert "Pass@1" not in numbers(tmp_path, file)["systems"][0]["metrics"]


def test_two_systems_on_the_same_problems_are_compared(tmp_path: Path, sampled: str) -> None:
    """Maj1 of the second file is right on all three problems: two more than the first file."""
    lines = [problem_line(n, "AA") for n in (1, 2, 3)]
    other = write(tmp_path / "o.jsonl", lines, {"model": "better", "model_digest": "d2"})
    (comparison,) = numbers(tmp_path, sampled, other)["comparisons"]
    assert comparison["systems"] == ["better", "ssft"]
    metrics = {metric["metric"]: metric for metric in comparison["metrics"]}
    assert metrics["mean@2 - mean@4"]["difference"]["difference"] == pytest.approx(3 / 4)
    assert metrics["mean@2 - mean@4"]["mcnemar"] is None
    assert metrics["Maj1@2 - Maj1@4"]["mcnemar"] == {"only_a": 2, "only_b": 0, "p_value": 0.5}


def test_different_problems_are_not_compared(
    tmp_path: Path, sampled: str, capsys: pytest.CaptureFixture
) -> None:
    other = write(tmp_path / "o.jsonl", [problem_line(n, "AA") for n in (3, 4)], {"model": "x"})
    assert numbers(tmp_path, sampled, other)["comparisons"] == []
    assert "different problems (2 and 3, 1 in common)" in capsys.readouterr().out


def test_tie_rules_reach_the_table(tmp_path: Path) -> None:
    """B and A tie: B was sampled first and is wrong, the expectation is one half."""
    file = write(tmp_path / "t.jsonl", [problem_line(1, "BA")])
    for ties, expected in (("first", 0.0), ("expected", 0.5)):
        (system,) = numbers(tmp_path, file, "--ties", ties)["systems"]
        assert system["metrics"]["Maj1@2"]["value"] == expected


def test_each_problem_draws_among_its_own_equal_clusters(tmp_path: Path) -> None:
    """One seed for all problems drew the same place in each: with seed 0 always the later of two."""
    lines = [problem_line(i, "AB") for i in range(100)]  # two clusters of one, the first of them right
    shares = [
        numbers(tmp_path, write(tmp_path / "s.jsonl", lines), "--ties", "random", "--seed", str(seed))[
            "systems"
        ][0]["metrics"]["Maj1@2"]["value"]
        for seed in range(3)
    ]
    assert all(0.3 < share < 0.7 for share in shares) and len(set(shares)) > 1


def test_the_curve_ends_in_the_table(tmp_path: Path) -> None:
    """All problems of the curve drew with one seed, the table's each with its own: 1.0 stood beside 0.4."""
    file = write(tmp_path / "s.jsonl", [problem_line(i, "AB") for i in range(40)])
    (system,) = numbers(tmp_path, file, "--ties", "random", "--k-curve")["systems"]
    assert system["k_curve"]["2"]["maj"] == system["metrics"]["Maj1@2"]
    assert 0.2 < system["metrics"]["Maj1@2"]["value"] < 0.8


def test_files_of_one_name_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Both rows of A/cand.jsonl and B/cand.jsonl were named "x (cand)"; a file given twice is a mistake."""
    files = []
    for folder in ("A", "B", "C"):
        (tmp_path / folder).mkdir()
        name = "other.jsonl" if folder == "C" else "cand.jsonl"
        files.append(write(tmp_path / folder / name, [problem_line(1, "AB")], {"model": "x"}))
    names = [system["system"] for system in numbers(tmp_path, *files)["systems"]]
    assert names == [f"x ({files[0]})", f"x ({files[1]})", "x (other)"]
    capsys.readouterr()
    assert run(files[0], files[1], f"{tmp_path}/A/../A/cand.jsonl") == 2
    assert f"FILE {tmp_path}/A/../A/cand.jsonl: is given twice" in capsys.readouterr().err


def test_stored_verdicts_count_unless_regraded(tmp_path: Path) -> None:
    """A foreign engine's wrong verdict stands as it is; --regrade reads the text again."""
    line = problem_line(1, "AAA")
    line["answer"] = r"\frac{1}{2}"
    for sample in line["samples"]:
        sample |= {"text": r"\boxed{0.5}", "answer": "0.5", "correct": False}
    file = write(tmp_path / "f.jsonl", [line])
    assert numbers(tmp_path, file)["systems"][0]["metrics"]["Maj1@3"]["value"] == 0.0
    assert numbers(tmp_path, file, "--regrade")["systems"][0]["metrics"]["Maj1@3"]["value"] == 1.0


def test_samples_of_another_engine(tmp_path: Path) -> None:
    """Without meta, tokens, levels and with unequal counts, one problem even empty: it still counts."""
    lines = [problem_line(1, "AAB"), problem_line(2, "B"), problem_line(3, "")]
    for line in lines:
        line["samples"] = [{"text": s["text"]} for s in line["samples"]]
    with gzip.open(tmp_path / "e.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    (system,) = numbers(tmp_path, str(tmp_path / "e.jsonl.gz"))["systems"]
    assert system["system"] == "e"
    assert system["metrics"]["Pass@3"]["value"] == pytest.approx(1 / 3)
    assert system["metrics"]["mean@3"]["value"] == pytest.approx(2 / 9)
    assert system["by_level"] == {}


def test_curves_and_plot(tmp_path: Path, sampled: str, greedy: str, capsys: pytest.CaptureFixture) -> None:
    for ending, head in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        image = tmp_path / f"curves{ending}"
        assert run(sampled, greedy, "--k-curve", "--plot", str(image)) == 0
        assert image.read_bytes().startswith(head)
    out = capsys.readouterr().out
    assert "maj@k" in out and "samples held %" in out and "curves.pdf" in out


# ---- scored files ------------------------------------------------------------------------------------

EVALUATOR = {"model": "ssft", "model_digest": "d1", "evaluator": "scr", "evaluator_digest": "e1"}


def scored_line(number: int, answers: str, scores: list[float]) -> dict:
    """One line whose samples have scores, those without an answer none."""
    line = problem_line(number, answers)
    for sample, score in zip(line["samples"], scores, strict=False):
        sample["score"] = score
    return line


@pytest.fixture
def scored(tmp_path: Path) -> str:
    """The vote is right on problem 1, the scores are on 2, nothing is on 3."""
    lines = [
        scored_line(1, "AAB-", [0.3, 0.2, 0.6]),
        scored_line(2, "BBAC", [0.1, 0.1, 0.9, 0.3]),
        scored_line(3, "CC--", [0.9, 0.9]),
    ]
    return write(tmp_path / "scored.jsonl", lines, EVALUATOR)


@pytest.fixture
def validation(tmp_path: Path) -> str:
    """Re-ranking more than the largest cluster loses both problems: K = 1 is chosen."""
    lines = [scored_line(n, "AAB", [0.3, 0.2, 0.6]) for n in (11, 12)]
    return write(tmp_path / "validation.jsonl", lines, EVALUATOR)


def test_a_scored_file_by_hand(
    tmp_path: Path, scored: str, validation: str, capsys: pytest.CaptureFixture
) -> None:
    """RR.All: wrong, right, wrong; W.RR: B 0.6 beats A 0.5 on problem 1, A wins 2."""
    found = numbers(tmp_path, scored, "--validation", validation, "--adaptive", "--k-curve")
    (system,) = found["systems"]
    rules = {(s["strategy"], s["chosen"]): s for s in system["strategies"]}
    assert rules["maj1", "given"]["solved"]["value"] == pytest.approx(1 / 3)
    assert rules["rr.all", "given"]["solved"]["value"] == pytest.approx(1 / 3)
    assert rules["rr.all", "given"]["versus_maj1"]["mcnemar"]["only_a"] == 1
    assert rules["rr.all", "given"]["scored_share"] == 9 / 12
    assert rules["rr.majk", "validation"]["k"] == 1 and system["validation"] == validation
    assert system["cost_curve"] == {"1": 6 / 12, "2": 8 / 12, "3": 9 / 12, "4": 9 / 12}
    assert system["cost"] == {"candidates": 12, "scored": 9, "calls": 6, "seconds": None}  # equal texts
    assert system["adaptive"][0]["mean_samples"] == 4 and found["k"] == 8
    shown = capsys.readouterr().out
    for text in ("RR.Maj1 (validation)", "(optimistic)", "chosen on", "Figure 1", "first N samples", "AUC"):
        assert text in shown


def test_k_of_the_rules(tmp_path: Path, scored: str) -> None:
    metrics = numbers(tmp_path, scored, "--k", "1")["systems"][0]["metrics"]
    assert metrics["RR.Maj1"]["value"] == pytest.approx(1 / 3) and "RR.Maj8" not in metrics
    assert run(scored, "--k", "0") == 2 and run(scored, "--seed", "-1", "--k-curve") == 2


def test_pictures_of_scored_files(tmp_path: Path, scored: str, validation: str, sampled: str) -> None:
    one, two = tmp_path / "figure1.png", tmp_path / "calibration.svg"
    more = ["--rerank-plot", str(one), "--calibration-plot", str(two), "--validation", validation]
    assert run(scored, sampled, *more) == 0
    assert one.read_bytes().startswith(b"\x89PNG") and two.read_bytes().startswith(b"<?xml")
    for flag in ("--rerank-plot", "--calibration-plot"):
        assert run(sampled, flag, str(tmp_path / "none.png")) == 2
    assert not (tmp_path / "none.png").exists()


def test_problems_that_are_all_right_or_all_wrong_still_calibrate(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """No pair within a problem: that cell is empty. A file of one class beside it is left out of the plot."""
    both = [scored_line(1, "AA", [0.9, 0.8]), scored_line(2, "BC", [0.1, 0.85])]
    files = [
        write(tmp_path / "both.jsonl", both, EVALUATOR),
        write(tmp_path / "right.jsonl", both[:1], {**EVALUATOR, "evaluator": "other"}),
    ]
    image = tmp_path / "c.svg"
    found = numbers(tmp_path, *files, "--calibration-plot", str(image))["systems"]
    assert found[0]["evaluator"]["pairwise"] is None and found[0]["evaluator"]["auc"]["value"] == 0.75
    assert found[1]["evaluator"] is None and image.exists()
    assert re.search(r"^ssft by scr +4 +0\.750 \(.*\) +0\.1", capsys.readouterr().out, re.MULTILINE)
    assert run(files[1], "--calibration-plot", str(tmp_path / "none.svg")) == 2
    assert "no file has scores from 0 to 1 of both right and wrong" in capsys.readouterr().err


def test_tables_as_markdown(scored: str, sampled: str, capsys: pytest.CaptureFixture) -> None:
    assert run(scored, sampled, "--markdown") == 0
    shown = capsys.readouterr().out
    assert "\n| evaluator | generator | problems | Maj1@N | RR.All |" in shown
    assert "\n| scr | ssft | 3 | 33.3 (6.1-79.2) | 33.3 (6.1-79.2) |" in shown
    tables = [block for block in shown.split("\n\n") if "|" in block]
    assert len(tables) > 6 and all(line.startswith("|") for block in tables for line in block.splitlines())


def test_validation_must_fit(
    tmp_path: Path, scored: str, sampled: str, capsys: pytest.CaptureFixture
) -> None:
    other = write(
        tmp_path / "o.jsonl", [scored_line(11, "A", [0.5])], {**EVALUATOR, "evaluator_digest": "e2"}
    )
    overlapping = write(tmp_path / "t.jsonl", [scored_line(1, "A", [0.5])], EVALUATOR)
    for file, complaint in (
        (other, "no evaluated file has its generator and evaluator"),
        (sampled, "holds no scores; score it with rerank.py"),
        (overlapping, "shares 1 problems with"),
    ):
        assert run(scored, "--validation", file) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and complaint in error


def test_validation_candidates_drawn_otherwise_are_told(
    tmp_path: Path, scored: str, capsys: pytest.CaptureFixture
) -> None:
    """K chosen on 3 samples at another temperature was shown as if it were that of 4."""
    lines = [scored_line(n, "AAB", [0.3, 0.2, 0.6]) for n in (11, 12)]
    test = write(tmp_path / "t.jsonl", [scored_line(1, "AABC", [0.3, 0.2, 0.6, 0.1])],
                 {**EVALUATOR, "temperature": 0.9, "n": 4})  # fmt: skip
    for meta, said in (
        ({"temperature": 0.6, "n": 3}, "(n is 3, not 4, temperature is 0.6, not 0.9)"),
        ({"top_p": 1.0}, "(n is 3, not 4)"),  # what a file does not say is not held against it
    ):
        file = write(tmp_path / "v.jsonl", lines, EVALUATOR | meta)
        assert run(test, "--validation", file) == 0
        note = f"note: --validation {file}: its candidates were drawn otherwise than those of {test} {said}"
        assert note in capsys.readouterr().err
    same = write(tmp_path / "v.jsonl", [scored_line(11, "AABC", [0.3, 0.2, 0.6, 0.1])], EVALUATOR)
    assert run(test, "--validation", same) == 0 and "note:" not in capsys.readouterr().err


def test_a_second_validation_file_is_told_of_the_first(
    tmp_path: Path, scored: str, validation: str, capsys: pytest.CaptureFixture
) -> None:
    """It was told that no evaluated file had its generator and evaluator, which the first file disproved."""
    second = write(tmp_path / "v2.jsonl", [scored_line(13, "AAB", [0.3, 0.2, 0.6])], EVALUATOR)
    assert run(scored, "--validation", validation, second) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no evaluated file" not in error
    assert f"--validation {second}: {validation} is of the same generator and evaluator" in error


def test_a_clear_difference_has_no_p_value_of_zero(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """McNemar's p of 20 problems against none is 2e-6 and was printed as 0.0000."""
    files = [
        write(tmp_path / f"{name}.jsonl", [problem_line(n, letters) for n in range(20)], {"model": name})
        for name, letters in (("worse", "BB"), ("better", "AA"))
    ]
    assert run(*files) == 0
    shown = capsys.readouterr().out
    assert "<0.0001" in shown and "0.0000" not in shown and "permutation p" in shown


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no such file"),
        ("", "empty"),
        ('{"meta": {}}\n', "no problems yet"),
        ('{"id": "a"}\nnot json\n', "missing"),
        ('{"id": "a", "problem": "b", "answer": "c", "samples": []}\nnot json\n', ":2: not JSON"),
        ('{"id": "a", "problem": "b", "answer": "c", "samples": []}\n', "no problem has a sample"),
        ('{"id": "a", "problem": "b", "answer": "c"}\n', "sample.py"),
        (
            '{"id": "a", "problem": "b", "answer": "c", "samples": [{"text": "", "score": NaN}]}\n',
            "sample 0: field 'score' is nan",
        ),
    ],
)
def test_bad_files_get_one_line(
    tmp_path: Path, content: str | None, complaint: str, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "bad.jsonl"
    if content is not None:
        path.write_text(content)
    assert run(str(path)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1 and "bad.jsonl" in captured.err and complaint in captured.err


@pytest.mark.parametrize("flag", ["--json", "--plot", "--rerank-plot", "--calibration-plot"])
def test_no_file_that_is_read_is_written_over(
    tmp_path: Path, scored: str, validation: str, flag: str, capsys: pytest.CaptureFixture
) -> None:
    """`evaluate.py s.jsonl --json s.jsonl` left the numbers in the place of the samples."""
    before = Path(scored).read_bytes(), Path(validation).read_bytes()
    image = str(tmp_path / "image.svg")
    for written, name in ((scored, "FILE"), (validation, "--validation"), (image, "--json|--plot")):
        other = ["--plot" if flag == "--json" else "--json", image]
        assert run(scored, "--validation", validation, *other, flag, written) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and re.search(f"error: --.*: ({name}|{flag}) is the same file", error)
    assert (Path(scored).read_bytes(), Path(validation).read_bytes()) == before
    assert not Path(image).exists()


def test_plot_mistakes_get_one_line(
    tmp_path: Path, sampled: str, greedy: str, capsys: pytest.CaptureFixture
) -> None:
    assert run(sampled, "--plot", str(tmp_path / "curves.txt")) == 2
    assert "unknown image format" in capsys.readouterr().err
    assert run(greedy, "--plot", str(tmp_path / "curves.png")) == 2
    assert "several samples" in capsys.readouterr().err
    assert list(tmp_path.glob("curves*")) == []


def test_help_is_fast_and_complete() -> None:
    before = sum(os.times()[2:4])  # CPU time of finished child processes: a busy machine does not change it
    shown = subprocess.run(
        [sys.executable, str(ROOT / "evaluate.py"), "--help"], capture_output=True, text=True, timeout=120
    )
    assert sum(os.times()[2:4]) - before < 1
    for flag in (
        "--k-curve",
        "--plot",
        "--json",
        "--regrade",
        "--ties",
        "--seed",
        "--validation",
        "--adaptive",
    ):
        assert flag in shown.stdout
    code = "import evaluate, sys; sys.exit(any(m in sys.modules for m in ('torch', 'sympy', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0
