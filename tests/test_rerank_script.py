"""rerank.py end to end with a random tiny evaluator: what it writes, adds, keeps and refuses."""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import evaluate
import rerank
from mathref.evaluator import SCORES, log_odds, score
from mathref.model import ModelConfig, Transformer
from mathref.runs import run_command
from mathref.samples import read_samples
from mathref.tokenizer import load_tokenizer, train_sentencepiece
from mathref.weights import load_model, save_model

ROOT = Path(rerank.__file__).parent
# Problem i has answer 2i; the samples of problem 2 have no answer at all, two samples of each are equal.
LINES = [
    {
        "id": f"p{i}",
        "problem": f"What is {i}+{i}?",
        "answer": str(2 * i),
        "samples": [
            {"text": f"So {i}+{i}={a}." + ("" if i == 2 else f" The answer is \\boxed{{{a}}}.")}
            for a in (2 * i, 2 * i + 1, 2 * i, 2 * i + 1, 2 * i + 1, 99)
        ],
    }
    for i in range(5)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluator's folder `scr` with random weights, and samples of another engine beside it."""
    root = tmp_path_factory.mktemp("rerank")
    lines = [f"{line['problem']} {s['text']} correct incorrect" for line in LINES for s in line["samples"]]
    tokenizer = train_sentencepiece(lines * 4, 310)
    torch.manual_seed(0)
    shape = {"n_layer": 1, "n_head": 2, "n_kv_head": 1, "head_dim": 8, "n_embd": 16, "n_inner": 16}
    save_model(Transformer(ModelConfig(vocab_size=310, max_seq_len=256, **shape)), root / "scr")
    tokenizer.save(root / "scr")
    (root / "foreign.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return root


def run(folder: Path, out: Path, *more: str) -> int:
    fixed = [
        "--evaluator",
        str(folder / "scr"),
        "--samples",
        str(folder / "foreign.jsonl"),
        "--device",
        "cpu",
    ]
    return run_command(rerank.main, [*fixed, "--out", str(out), *more])


def test_samples_of_another_engine_are_scored(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "s.jsonl"
    assert run(folder, out) == 0
    meta, problems = read_samples(out)
    assert meta["evaluator"] == "scr" and meta["evaluator_digest"] and meta["samples_digest"]
    assert meta["evaluator_dtype"] == "float32" and meta["evaluator_temperature"] == 1.0
    model, tokenizer = load_model(folder / "scr"), load_tokenizer(folder / "scr")
    for line, problem in zip(LINES, problems, strict=True):
        texts = [s.text for s in problem.samples]
        assert texts == [s["text"] for s in line["samples"]]
        if problem.id == "p2":
            assert [s.score for s in problem.samples] == [None] * 6
        else:
            expected = score(model, tokenizer, problem.problem, texts)
            assert [s.score for s in problem.samples] == pytest.approx(expected, abs=1e-6)
    shown = capsys.readouterr().out
    assert "24 of 30 candidates scored (80.0%)" in shown and "12 evaluator calls" in shown
    for rule in ("Maj1", "RR.All", "RR.Maj8", "W.RR", "W.RR.Maj8", "Maj1.Top8", "Pass@6"):
        assert f"\n{rule}" in shown
    assert f"next: python evaluate.py {out}" in shown
    cost = json.loads((tmp_path / "s.jsonl.cost.json").read_text())
    assert (cost["scored"], cost["calls"]) == (24, 12) and cost["seconds"] > 0


def test_the_rules_ask_for_their_candidates_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over four runs no text of a problem reaches the evaluator twice, and the last run loads none."""
    calls: list[tuple[str, str]] = []

    def load(*_: object):
        def counting(problem: str, texts: list[str]) -> list[float]:
            calls.extend((problem, text) for text in texts)
            return [0.25 + 0.5 * text.endswith("{99}.") for text in texts]

        return counting

    monkeypatch.setattr(rerank, "load_evaluator", load)
    out = tmp_path / "s.jsonl"
    assert run(folder, out, "--strategy", "maj1") == 0 and calls == []
    assert run(folder, out, "--strategy", "rr.majk", "--k", "1") == 0
    assert len(calls) == 4  # the largest cluster of four problems, whose texts are equal
    assert run(folder, out) == 0
    assert len(calls) == len(set(calls)) == 12
    monkeypatch.setattr(rerank, "load_evaluator", lambda *_: pytest.fail("nothing is left to score"))
    before = out.read_bytes()
    assert run(folder, out, "--strategy", "w.rr", "--k", "3") == 0
    assert out.read_bytes() == before


def test_a_cut_file_is_completed_to_the_byte(folder: Path, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    assert run(folder, whole) == 0
    lines = whole.read_bytes().splitlines(keepends=True)
    for kept in (lines[0], b"".join(lines[:3]), b"".join(lines[:4]) + lines[4][:60]):
        part.write_bytes(kept)
        assert run(folder, part) == 0
        assert part.read_bytes() == whole.read_bytes()


def test_the_next_command_works(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A blank in a path made two words of it, and after maj1, which scores nothing, nothing was to plot."""
    (tmp_path / "my samples").mkdir()
    out = tmp_path / "my samples" / "s.jsonl"
    for rule, flag in (("maj1", "--plot curves.png"), ("rr.majk", "--rerank-plot figure1.png")):
        assert run(folder, out, "--strategy", rule) == 0
        following = capsys.readouterr().out.splitlines()[-1]
        assert following == f"next: python evaluate.py '{out}' --k-curve {flag}"
        words = shlex.split(following)[3:-1]
        assert run_command(evaluate.main, [*words, str(tmp_path / f"{rule}.svg")]) == 0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"stage": "ssft"}, True),
        ({"stage": "mtsf", "sequence": ["ssft", "scr", "ssft"]}, True),
        ({"stage": "mtsf", "sequence": ["ssft", "scr"]}, False),
        ({"stage": "scr", "sequence": ["ssft", "scr", "ssft"]}, False),
        ([], False),
    ],
)
def test_a_generator_in_an_evaluators_place_is_told(
    folder: Path, tmp_path: Path, settings: object, told: bool, capsys: pytest.CaptureFixture
) -> None:
    """Its scores are those of a model that was never asked to judge, and nothing said so."""
    note = folder / "scr" / "run.json"
    note.write_text(json.dumps({"settings": settings}))
    try:
        assert run(folder, tmp_path / "s.jsonl", "--limit", "1") == 0
    finally:
        note.unlink()
    assert ("was trained last as a generator (--stage ssft)" in capsys.readouterr().err) is told


def test_evaluate_reads_what_rerank_wrote(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "s.jsonl"
    assert run(folder, out) == 0
    capsys.readouterr()
    numbers = tmp_path / "n.json"
    assert run_command(evaluate.main, [str(out), "--k-curve", "--json", str(numbers)]) == 0
    shown = capsys.readouterr().out
    assert "Selection by an evaluator's scores" in shown and "evaluator seconds" in shown
    (system,) = json.loads(numbers.read_text())["systems"]
    assert system["cost"]["calls"] == 12 and system["cost_curve"]["6"] == 0.8
    assert {"RR.All", "W.RR", "Maj1.Top8"} <= set(system["metrics"])


def test_the_calibration_of_the_evaluator_is_used(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out, calibration = tmp_path / "s.jsonl", folder / "scr" / "calibration.json"
    calibration.write_text('{"temperature": 2.5, "candidates": 10}')
    try:
        assert run(folder, out) == 0
    finally:
        calibration.unlink()
    assert "scores at temperature 2.5" in capsys.readouterr().err
    assert run(folder, out) == 2  # those are other scores than the uncalibrated ones
    assert "evaluator_temperature is 2.5 there, 1.0 here" in capsys.readouterr().err
    meta, problems = read_samples(out)
    model, tokenizer = load_model(folder / "scr"), load_tokenizer(folder / "scr")
    (odds,) = log_odds(model, tokenizer, problems[0].problem, [problems[0].samples[0].text])
    assert problems[0].samples[0].score == pytest.approx(1 / (1 + math.exp(-odds / 2.5)), abs=1e-6)


def test_the_generators_own_likelihood_is_the_control(folder: Path, tmp_path: Path) -> None:
    """RR.All then takes the sample that its generator found most probable; no model is loaded."""
    lines = json.loads(json.dumps(LINES))
    for i, line in enumerate(lines):
        for place, sample in enumerate(line["samples"]):
            sample["logprob"] = -1.0 - (place + i) % 6
    samples, out = tmp_path / "with.jsonl", tmp_path / "s.jsonl"
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(folder, out, "--evaluator", "likelihood", "--samples", str(samples)) == 0
    meta, problems = read_samples(out)
    assert meta["evaluator"] == "likelihood"
    # Problem 0: the texts 0, 1, 0, 1, 1, 99 have -1, -2, ..., -6; equal texts have one logprob, the last.
    assert [s.score for s in problems[0].samples] == [math.exp(-p) for p in (3, 5, 3, 5, 5, 6)]
    assert all(s.score is None for s in problems[2].samples)  # without an answer nothing is scored


def test_the_likelihood_of_a_scored_file_is_no_evaluators(folder: Path, tmp_path: Path) -> None:
    """The other evaluator's digest stayed in the file, and K and n were chosen with that one's scores."""
    lines = json.loads(json.dumps(LINES))
    for sample in (sample for line in lines for sample in line["samples"]):
        sample["logprob"] = -1.0
    samples, scored, out = (tmp_path / name for name in ("with.jsonl", "scored.jsonl", "likelihood.jsonl"))
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(folder, scored, "--samples", str(samples)) == 0
    before = read_samples(scored)[0]
    assert run(folder, out, "--evaluator", "likelihood", "--samples", str(scored)) == 0
    meta = read_samples(out)[0]
    assert {k for k in before if k.startswith("evaluator")} > {"evaluator", "evaluator_digest"}
    assert {k: v for k, v in meta.items() if k.startswith("evaluator")} == {"evaluator": "likelihood"}


def changed(folder: Path, tmp_path: Path, change: Callable[[dict], None]) -> Path:
    """The samples of `folder` with a change to each line."""
    lines = json.loads(json.dumps(LINES))
    for line in lines:
        change(line)
    samples = tmp_path / "changed.jsonl"
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return samples


def test_a_mended_samples_file_is_taken_up_without_scoring_anew(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference answers were wrong: rerank.py went on with the verdicts that it had copied."""
    out = tmp_path / "s.jsonl"
    assert run(folder, out) == 0
    before = read_samples(out)[1]
    monkeypatch.setattr(rerank, "load_evaluator", lambda *_: pytest.fail("nothing is left to score"))

    def mend(line: dict) -> None:
        line["answer"] = "99"

    assert run(folder, out, "--samples", str(changed(folder, tmp_path, mend))) == 0
    after = read_samples(out)[1]
    assert {p.answer for p in after} == {"99"}
    for old, new in zip(before, after, strict=True):
        assert [s.score for s in new.samples] == [s.score for s in old.samples]
        assert [s.correct for s in new.samples] == [s.answer == "99" for s in new.samples]


def test_candidates_beyond_the_context_do_not_end_the_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """One of them ended the run when its problem's turn came, and every further run at the same place."""

    def lengthen(line: dict) -> None:
        for sample in line["samples"][:1] if line["id"] in ("p1", "p3") else []:
            sample["text"] = "So it is. " * 60 + sample["text"]
        if line["id"] == "p2":  # without an answer nobody asks for a score
            line["samples"][0]["text"] = "So it is. " * 60

    options = ("--samples", str(changed(folder, tmp_path, lengthen)))
    out = tmp_path / "s.jsonl"
    told = "2 of 24 candidates and their template do not fit the evaluator's context of 256 tokens"
    load = rerank.load_evaluator
    monkeypatch.setattr(rerank, "load_evaluator", lambda *_: pytest.fail("told before"))
    with pytest.raises(pytest.fail.Exception):
        run(folder, out, *options)
    assert capsys.readouterr().err.count(told) == 1
    monkeypatch.setattr(rerank, "load_evaluator", load)
    assert run(folder, out, *options) == 0
    assert run(folder, tmp_path / "short.jsonl") == 0
    found, short = (read_samples(file)[1] for file in (out, tmp_path / "short.jsonl"))
    lowest = [(p.id, i) for p in found for i, s in enumerate(p.samples) if s.score == SCORES[0]]
    assert lowest == [("p1", 0), ("p3", 0)]
    for p, q in zip(found, short, strict=True):  # the others have the scores that they have without them
        kept = [i for i in range(6) if (p.id, i) not in lowest]
        expected = [q.samples[i].score for i in kept]
        assert [p.samples[i].score for i in kept] == pytest.approx(expected, abs=1e-6)
    capsys.readouterr()
    assert run(folder, out, *options) == 0 and told not in capsys.readouterr().err


def test_the_likelihood_needs_logprobs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(folder, tmp_path / "s.jsonl", "--evaluator", "likelihood") == 2
    assert "problem p0: a sample without 'logprob'" in capsys.readouterr().err


def test_default_names_are_made_of_both() -> None:
    def name(*argv: str) -> str:
        return rerank.default_out(rerank.parse_args(list(argv))).as_posix()

    assert name() == "samples/ssft-test-n64-t0.9-by-scr.jsonl"
    assert name("--samples", "x/api.jsonl.gz", "--limit", "5") == "samples/api-by-scr-first5.jsonl"


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--k", "0"], "--k is 0, expected at least 1"),
        (["--limit", "-1"], "--limit is -1"),
        (["--tokens-per-batch", "0"], "--tokens-per-batch is 0"),
        (["--evaluator", "nowhere"], "--evaluator nowhere"),
        (["--samples", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--samples", "{out}"], "--samples is the same file; name another one"),
        (["--device", "cuda:99"], "--device cuda:99"),
    ],
)
def test_mistakes_get_one_line_and_no_file(
    folder: Path, tmp_path: Path, more: list[str], complaint: str, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "s.jsonl"
    assert run(folder, out, *(word.format(out=out) for word in more)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and complaint in error
    assert not out.exists()


@pytest.mark.parametrize(
    "content", ['{"temperature": 0}', '{"temperature": "1"}', "[1]", '{"temperature": NaN}', "{"]
)
def test_a_broken_calibration_file_is_named(
    folder: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture
) -> None:
    calibration = folder / "scr" / "calibration.json"
    calibration.write_text(content)
    try:
        assert run(folder, tmp_path / "s.jsonl") == 2
    finally:
        calibration.unlink()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "calibration.json" in error


def test_another_evaluators_file_is_kept(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "s.jsonl"
    assert run(folder, out, "--limit", "2") == 0
    before = out.read_bytes()
    capsys.readouterr()
    assert run(folder, out) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "samples_digest" in error and "--overwrite" in error
    assert out.read_bytes() == before
    assert run(folder, out, "--overwrite") == 0
    assert len(read_samples(out)[1]) == 5


def test_without_evaluator_or_samples_the_error_says_how_to_get_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(rerank.main, []) == 2
    assert "python train.py --stage scr" in capsys.readouterr().err
    assert run_command(rerank.main, ["--evaluator", str(folder / "scr")]) == 2
    assert "python sample.py" in capsys.readouterr().err


def test_help_is_fast_and_complete() -> None:
    before = sum(os.times()[2:4])  # CPU time of finished child processes: a busy machine does not change it
    shown = subprocess.run(
        [sys.executable, str(ROOT / "rerank.py"), "--help"], capture_output=True, text=True, timeout=120
    )
    assert sum(os.times()[2:4]) - before < 1
    for flag in ("--evaluator", "--samples", "--strategy", "--k K", "--out", "--limit"):
        assert flag in shown.stdout
    code = "import rerank, sys; sys.exit(any(m in sys.modules for m in ('torch', 'sympy', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0
