"""sample.py end to end with a random tiny model: resuming to the byte, refusals, few-shot, bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import sample
from mathref.formats import Problem
from mathref.grader import grade
from mathref.model import ModelConfig, Transformer
from mathref.runs import run_command
from mathref.samples import read_samples
from mathref.tokenizer import train_sentencepiece
from mathref.weights import save_model

ROOT = Path(sample.__file__).parent
PROBLEMS = [{"id": f"p{i}", "problem": f"What is {i}+{i}?", "answer": str(2 * i), "level": 1 + i % 5,
             "solution": f"Adding, {i}+{i}={2 * i}. \\boxed{{{2 * i}}}"} for i in range(12)]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a random model, and problems.jsonl and others.jsonl beside it."""
    root = tmp_path_factory.mktemp("sample")
    lines = [f"Problem: {p['problem']}\nSolution: {p['solution']}" for p in PROBLEMS]
    tokenizer = train_sentencepiece(lines * 4, 310)
    torch.manual_seed(0)
    model = Transformer(
        ModelConfig(
            vocab_size=310,
            n_layer=1,
            n_head=2,
            n_kv_head=1,
            head_dim=8,
            n_embd=16,
            n_inner=16,
            max_seq_len=256,
        )
    )
    save_model(model, root / "model")
    tokenizer.save(root / "model")
    (root / "problems.jsonl").write_text("".join(json.dumps(p) + "\n" for p in PROBLEMS))
    others = [{**p, "id": f"o{i}", "problem": f"And {p['problem']}"} for i, p in enumerate(PROBLEMS)]
    (root / "others.jsonl").write_text("".join(json.dumps(p) + "\n" for p in PROBLEMS[:3] + others))
    return root


def arguments(folder: Path, out: Path, *more: str) -> list[str]:
    fixed = ["--model", str(folder / "model"), "--data", str(folder / "problems.jsonl"), "--out", str(out)]
    small = ["--n", "6", "--max-new-tokens", "12", "--batch-rows", "16", "--device", "cpu"]
    return [*fixed, *small, *more]


def run(folder: Path, out: Path, *more: str) -> int:
    return run_command(sample.main, arguments(folder, out, *more))


def test_the_file_says_what_was_done(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "s.jsonl"
    assert run(folder, out, "--seed", "3") == 0
    meta, problems = read_samples(out)
    assert meta["model"] == "model" and meta["n"] == 6 and meta["seed"] == 3 and meta["temperature"] == 0.9
    assert [p.id for p in problems] == [p["id"] for p in PROBLEMS]
    assert [p.level for p in problems] == [p["level"] for p in PROBLEMS]
    for problem in problems:
        assert len(problem.samples) == 6 and len({s.text for s in problem.samples}) > 1
        for s in problem.samples:
            assert s.correct == grade(s.text, problem.answer)
            assert s.logprob < 0 and 1 <= s.tokens <= 12 and s.finish_reason in ("stop", "length")
    shown = capsys.readouterr().out
    assert str(out) in shown and "72 samples" in shown and f"next: python evaluate.py {out}" in shown


def test_a_cut_file_is_completed_to_the_byte(folder: Path, tmp_path: Path) -> None:
    """Killed between two problems of one batch, in a line, before the first: the same bytes in the end."""
    whole = tmp_path / "whole.jsonl"
    assert run(folder, whole) == 0
    lines = whole.read_bytes().splitlines(keepends=True)
    for kept in (b"".join(lines[:2]), b"".join(lines[:6]) + lines[6][:40], lines[0], b""):
        part = tmp_path / "part.jsonl"
        part.write_bytes(kept)
        assert run(folder, part) == 0
        assert part.read_bytes() == whole.read_bytes()
    stamp = whole.stat().st_mtime_ns
    assert run(folder, whole) == 0  # nothing left to do
    assert whole.stat().st_mtime_ns == stamp


def test_kill_minus_nine_loses_one_batch_at_most(folder: Path, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    long = ("--max-new-tokens", "120")
    command = [sys.executable, str(ROOT / "sample.py"), *arguments(folder, part, *long)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if part.exists() and part.read_bytes().count(b"\n") >= 3:
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert part.read_bytes().count(b"\n") >= 3
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the killed run: the number of threads changes sums in the last bits
    try:
        assert run(folder, part, *long) == 0 and run(folder, whole, *long) == 0
    finally:
        torch.set_num_threads(threads)
    assert part.read_bytes() == whole.read_bytes()


def test_another_run_is_refused_and_kept(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "s.jsonl"
    assert run(folder, out) == 0
    before = out.read_bytes()
    capsys.readouterr()
    assert run(folder, out, "--seed", "1") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "seed" in error and "--overwrite" in error
    assert out.read_bytes() == before
    assert run(folder, out, "--seed", "1", "--overwrite") == 0
    assert read_samples(out)[0]["seed"] == 1


def test_greedy_is_one_solution(folder: Path, tmp_path: Path) -> None:
    fixed = [
        "--model",
        str(folder / "model"),
        "--data",
        str(folder / "problems.jsonl"),
        "--max-new-tokens",
        "9",
    ]
    found = []
    for name, more in (("a", ["--greedy"]), ("b", ["--greedy", "--seed", "8"])):
        assert run_command(sample.main, [*fixed, "--out", str(tmp_path / name), *more]) == 0
        meta, problems = read_samples(tmp_path / name)
        assert (meta["n"], meta["temperature"]) == (1, 0)
        found.append([[s.text for s in p.samples] for p in problems])
    assert found[0] == found[1] and {len(samples) for samples in found[0]} == {1}


def test_shots_are_never_evaluated_problems(folder: Path, tmp_path: Path) -> None:
    """others.jsonl repeats three of the evaluated problems: they cannot be drawn as examples."""
    args = sample.parse_args(arguments(folder, tmp_path / "s", "--few-shot", "12", "--shots",
                                       str(folder / "others.jsonl")))  # fmt: skip
    from mathref.data import load_problems

    evaluated = load_problems(str(folder / "problems.jsonl")).problems
    shots = sample.draw_shots(args, evaluated)
    assert len(shots) == 12 and all(shot.problem.startswith("And") for shot in shots)
    assert shots == sample.draw_shots(args, evaluated)
    args.seed = 1
    assert shots != sample.draw_shots(args, evaluated)


def test_few_shot_reaches_the_prompt_and_the_meta_line(folder: Path, tmp_path: Path) -> None:
    shots = ("--few-shot", "2", "--shots", str(folder / "others.jsonl"), "--limit", "3")
    assert run(folder, tmp_path / "few", *shots) == 0
    assert run(folder, tmp_path / "none", "--limit", "3") == 0
    (few, with_shots), (none, without) = read_samples(tmp_path / "few"), read_samples(tmp_path / "none")
    assert few["few_shot"] == 2 and few["shots"] and none["few_shot"] == 0 and none["shots"] is None
    assert len(with_shots) == len(without) == 3
    assert with_shots[0].samples[0].logprob != without[0].samples[0].logprob


def test_families_are_in_the_meta_line_where_they_are_used(folder: Path, tmp_path: Path) -> None:
    """Only there: a samples file made before the flag existed is still continued."""
    out = tmp_path / "s.jsonl"
    builtin = ("--data", "builtin", "--limit", "2", "--n", "1")
    assert run(folder, out, *builtin, "--families", "gcd,linear") == 0
    meta, problems = read_samples(out)
    assert meta["families"] == ["linear", "gcd"] and {p.id.split("-")[0] for p in problems} == {
        "linear",
        "gcd",
    }
    assert run(folder, out, *builtin, "--families", "linear,gcd") == 0
    assert run(folder, out, *builtin, "--families", "linear") == 2
    assert run(folder, tmp_path / "all.jsonl", *builtin) == 0
    assert "families" not in read_samples(tmp_path / "all.jsonl")[0]


@pytest.mark.parametrize("flags", ["--temperature 0.7", "--top-p 0.5", "--top-k 9", "--n 2"])
def test_greedy_leaves_nothing_to_choose(flags: str) -> None:
    """All but --n were passed over, and the file was another one than its command said."""
    with pytest.raises(ValueError, match=f"--greedy writes one solution .*, not {flags}"):
        sample.parse_args(["--greedy", *flags.split()])
    args = sample.parse_args("--greedy --n 1 --temperature 0 --top-p 1".split())
    assert (args.n, args.temperature, args.top_p, args.top_k) == (1, 0, 1, 0)


def test_default_names_tell_runs_apart() -> None:
    def name(*argv: str) -> str:
        return sample.default_out(sample.parse_args(list(argv)), "ssft").as_posix()

    assert name() == "samples/ssft-test-n64-t0.9.jsonl"
    assert name("--greedy") == "samples/ssft-test-greedy.jsonl"
    assert name("--few-shot", "4", "--style", "brief") == "samples/ssft-test-4shot-brief-n64-t0.9.jsonl"
    assert name("--data", "x/math500.jsonl.gz", "--n", "8") == "samples/ssft-math500-n8-t0.9.jsonl"
    assert name("--families", "gcd, linear") == "samples/ssft-test-n64-t0.9-only-gcd-linear.jsonl"
    assert name("--exclude-families", "gcd") == "samples/ssft-test-n64-t0.9-without-gcd.jsonl"
    assert name("--limit", "5", "--seed", "2", "--top-p", "1", "--split", "train") == (
        "samples/ssft-train-n64-t0.9-p1-seed2-first5.jsonl"
    )


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--top-p", "2"], "--top-p must be"),
        (["--n", "0"], "--n must be at least 1"),
        (["--limit", "-1"], "--limit is -1"),
        (["--greedy"], "--greedy writes one solution a problem, of the most probable tokens, not --n 6"),
        (["--max-new-tokens", "0"], "--max-new-tokens must be at least 1, got 0"),
        (["--server", ""], "--server is empty, expected an address"),
        (["--split", "train"], "--split would be ignored with --data"),
        (["--shots", "{folder}/others.jsonl"], "--shots would be ignored without --few-shot"),
        (["--style", "brief"], "--style would be ignored without --few-shot"),
        (
            ["--few-shot", "1", "--shots", "{folder}/others.jsonl", "--style", "brief"],
            "--style would be ignored with --shots",
        ),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--families", "gcd"], "problems.jsonl: --families and --exclude-families are for --data builtin"),
        (["--data", "builtin", "--families", "gdc"], "unknown family 'gdc', expected some of linear, system"),
        (["--model", "nowhere"], "nowhere"),
        (["--few-shot", "99", "--shots", "{folder}/others.jsonl"], "only 12 solved problems"),
        (
            ["--few-shot", "10", "--shots", "{folder}/others.jsonl"],
            "problem p0: its prompt has .* or take fewer examples than --few-shot 10",
        ),
        (["--device", "cuda:99"], "--device cuda:99"),
        (["--out", "."], ".: is a folder, expected the name of a file"),
    ],
)
def test_mistakes_get_one_line_and_no_file(
    folder: Path, tmp_path: Path, more: list[str], complaint: str, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "s.jsonl"
    assert run(folder, out, *(word.format(folder=folder) for word in more)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(complaint, error)
    assert not out.exists()


@pytest.mark.parametrize("flag", ["--data", "--shots"])
def test_no_file_that_is_read_is_written_over(
    folder: Path, tmp_path: Path, flag: str, capsys: pytest.CaptureFixture
) -> None:
    """`--data ok.jsonl --out ok.jsonl --overwrite` left the samples of a run in the place of its problems."""
    read = tmp_path / "read.jsonl"
    read.write_bytes(before := (folder / "others.jsonl").read_bytes())
    assert run(folder, read, flag, str(read), "--few-shot", "1", "--overwrite") == 2
    assert f"--out {read}: {flag} is the same file; name another one" in capsys.readouterr().err
    assert read.read_bytes() == before


def test_an_evaluator_in_a_generators_place_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    note = folder / "model" / "run.json"
    for stage in ("scr", "ssft"):
        note.write_text(json.dumps({"settings": {"stage": stage}}))
        try:
            assert run(folder, tmp_path / "s.jsonl", "--limit", "1") == 0
        finally:
            note.unlink()
        assert ("was trained last as an evaluator" in capsys.readouterr().err) is (stage == "scr")


def test_a_samples_file_is_no_problem_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "s.jsonl"
    solved = {"id": "a", "problem": "P", "answer": "1", "samples": [{"text": "\\boxed{1}"}]}
    out.write_text(json.dumps(solved) + "\n")
    assert run(folder, tmp_path / "t.jsonl", "--data", str(out)) == 2
    assert "this is a samples file, expected problems" in capsys.readouterr().err


def test_without_a_model_the_error_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(sample.main, []) == 2
    assert "python train.py --stage ssft" in capsys.readouterr().err


def test_help_is_fast_and_complete() -> None:
    before = sum(os.times()[2:4])  # CPU time of finished child processes: a busy machine does not change it
    shown = subprocess.run(
        [sys.executable, str(ROOT / "sample.py"), "--help"], capture_output=True, text=True, timeout=120
    )
    assert sum(os.times()[2:4]) - before < 1
    for flag in (
        "--model",
        "--data",
        "--split",
        "--n N",
        "--temperature",
        "--top-p",
        "--greedy",
        "--few-shot",
    ):
        assert flag in shown.stdout
    code = "import sample, sys; sys.exit(any(m in sys.modules for m in ('torch', 'sympy', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0


def test_a_shot_set_otherwise_than_an_evaluated_problem_is_that_problem(tmp_path: Path) -> None:
    """Texts were compared as they stand: "$2 + 3$" was an example for "$2+3$", with the solution."""
    lines = [{"problem": f"Compute ${a} + 3$.", "answer": str(a + 3), "solution": f"\\boxed{{{a + 3}}}"}
             for a in (2, 4)]  # fmt: skip
    shots = tmp_path / "shots.jsonl"
    shots.write_text("".join(json.dumps(line) + "\n" for line in lines))
    args = sample.parse_args(["--few-shot", "1", "--shots", str(shots)])
    evaluated = [Problem("a", "Compute $2+3$.", "5")]
    assert [p.answer for p in sample.draw_shots(args, evaluated)] == ["7"]


def test_seeds_are_whole_in_a_default_name() -> None:
    """Two seeds of eight digits had one name, 2.02611e+07."""
    names = [
        sample.default_out(sample.parse_args(["--seed", seed]), "ssft").name
        for seed in ("20261126", "20261127")
    ]
    assert names == ["ssft-test-n64-t0.9-seed20261126.jsonl", "ssft-test-n64-t0.9-seed20261127.jsonl"]
