"""The commands as a user types them: the whole path on the built-in problems, and what bad input gets.

The path is walked by processes, as users do; the rest in this process, through what a script's guard calls.
"""

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mathref.runs import run_command

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def process(line, *more):
    """Run a command as a process of its own and return its stdout; it has to succeed."""
    script, *rest = line.split()
    result = subprocess.run(
        [sys.executable, str(ROOT / script), *rest, *map(str, more)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def command(line, *more):
    """The same in this process, without another import of torch: (exit status, stdout, stderr)."""
    script, *rest = line.split()
    main = importlib.import_module(script.removesuffix(".py")).main
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = run_command(main, [*rest, *map(str, more)])
        except SystemExit as ended:  # argparse's own
            status = ended.code
    return status, out.getvalue(), err.getvalue()


def succeed(line, *more):
    status, out, err = command(line, *more)
    assert status == 0, err
    return out


def refused(line, *more):
    """The one line on stderr of a command that ends with status 2."""
    status, _, err = command(line, *more)
    assert status == 2, (status, err)
    lines = [text for text in err.splitlines() if "error:" in text]
    assert "Traceback" not in err and len(lines) == 1, err
    return lines[0]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "ssft"
    flags = "--steps 3 --batch-size 8 --eval-every 2 --n-greedy 4 --n-validation 8 --max-new-tokens 40"
    printed = process(f"train.py --stage ssft {flags}", "--out", folder)
    assert f"wrote {folder}" in printed and "next: python sample.py" in printed
    return folder


def test_fine_tune_sample_evaluate(run_folder, tmp_path):
    assert {"config.json", "model.safetensors", "tokenizer.model", "run.json", "metrics.jsonl"} <= {
        p.name for p in run_folder.iterdir()
    }
    run = json.loads((run_folder / "run.json").read_text())
    assert run["settings"]["seed"] == 0 and run["packages"]["torch"] and run["settings"]["data_digest"]
    samples, greedy, table = tmp_path / "samples.jsonl", tmp_path / "greedy.jsonl", tmp_path / "table.json"
    process("sample.py --limit 3 --n 4 --max-new-tokens 60", "--model", run_folder, "--out", samples)
    succeed("sample.py --limit 3 --greedy --max-new-tokens 60", "--model", run_folder, "--out", greedy)
    printed = process("evaluate.py", samples, greedy, "--json", table)
    assert "pass@1" in printed.lower() and "maj1@4" in printed.lower()
    assert json.loads(table.read_text())
    before = samples.read_bytes()
    succeed("sample.py --limit 3 --n 4 --max-new-tokens 60", "--model", run_folder, "--out", samples)
    assert samples.read_bytes() == before


def test_a_model_is_trained_on_its_own_correct_samples(tmp_path):
    samples = tmp_path / "samples.jsonl"
    flags = "--model tiny --few-shot 2 --style brief --split train --limit 24 --n 8 --max-new-tokens 40"
    succeed(f"sample.py {flags}", "--out", samples)
    printed = succeed(
        "train.py --stage ssft --steps 1 --n-greedy 0 --data", samples, "--out", tmp_path / "run"
    )
    assert f"{samples}: 192 samples of 24 problems, " in printed and " left out: wrong\n" in printed


def test_ablations_and_families_are_said_and_recorded(tmp_path):
    flags = (
        "--stage ssft --steps 1 --batch-size 2 --n-greedy 0 --n-validation 2 --merge-steps 2 --drop-steps 0.2"
    )
    printed = succeed(
        f"train.py {flags} --families gcd,mean --exclude-families mean", "--out", tmp_path / "out"
    )
    assert "builtin: only of the families gcd\n" in printed and " dropped, 2 on a line\n" in printed
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert (settings["merge_steps"], settings["drop_steps"], settings["corrupt_steps"]) == (2, 0.2, 0.0)
    assert (settings["families"], settings["exclude_families"]) == (["gcd", "mean"], ["mean"])
    assert "--drop-steps is 2.0" in refused("train.py --stage ssft --drop-steps 2", "--out", tmp_path / "b")


def test_no_accuracy_is_reported_where_none_was_measured(tmp_path):
    """With --n-greedy 0 the last lines once said pass@1 0.0%, which nobody had measured."""
    flags = "--stage ssft --steps 1 --batch-size 2 --n-greedy 0 --n-validation 2"
    printed = succeed(f"train.py {flags}", "--out", tmp_path / "out")
    assert "validation loss" in printed and "pass@1" not in printed


def test_few_shot_prompting_of_a_shipped_base(tmp_path):
    out = tmp_path / "few-shot.jsonl"
    succeed(
        "sample.py --model tiny --few-shot 2 --style brief --limit 2 --n 2 --max-new-tokens 30", "--out", out
    )
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 3 and "meta" in lines[0] and all(len(line["samples"]) == 2 for line in lines[1:])


def test_a_run_folder_is_not_written_over(run_folder):
    assert "--resume" in refused("train.py --stage ssft --steps 3", "--out", run_folder)
    assert "steps was 3, is 4" in refused(
        "train.py --stage ssft --steps 4 --batch-size 8 --eval-every 2 --n-greedy 4 --n-validation 8 "
        "--max-new-tokens 40 --resume",
        "--out",
        run_folder,
    )


def test_bad_training_data_is_named_with_file_line_and_field(tmp_path):
    out, data = tmp_path / "out", tmp_path / "data.jsonl"
    line = "train.py --stage ssft --steps 1 --data"
    assert "no such file" in refused(line, data, "--out", out)
    data.write_text("")
    assert "empty" in refused(line, data, "--out", out)
    data.write_text('{"problem": "What is 1+1?", "answer": "2", "solution": "\\\\boxed{2}"}\nnot json\n')
    assert f"{data}:2" in refused(line, data, "--out", out)
    data.write_text(
        '{"problem": "What is 1+1?", "answer": "2", "solution": "\\\\boxed{2}"}\n{"answer": "2"}\n'
    )
    message = refused(line, data, "--out", out)
    assert f"{data}:2" in message and "problem" in message
    wrong = {"text": "no", "answer": None, "correct": False}
    data.write_text(json.dumps({"id": "a", "problem": "What is 1+1?", "answer": "2", "samples": [wrong]}))
    assert f"{data}: none of its 1 samples" in refused(line, data, "--out", out)
    assert not out.exists(), "nothing half-written is left behind"


def test_bad_checkpoints_are_one_line(run_folder, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in run_folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:10_000])
    for script in ("sample.py --limit 1 --n 1", "train.py --stage ssft --steps 1"):
        assert "model.safetensors" in refused(script, "--model", broken, "--out", tmp_path / "out")
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"model_type": "mamba"}))
    message = refused("sample.py --limit 1", "--model", broken, "--out", tmp_path / "out")
    assert "mamba" in message and "llama" in message
    (broken / "config.json").write_text(json.dumps(config | {"vocab_size": 10}))
    refused("sample.py --limit 1", "--model", broken, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_values_and_missing_models_are_refused(tmp_path):
    assert "invalid choice" in refused("train.py --stage nonsense")
    assert "tiny or small" in refused("train.py --stage ssft --model nowhere", "--out", tmp_path / "out")
    unknown = refused("train.py --stage ssft --exclude-families gcd,gdc", "--out", tmp_path / "out")
    assert "unknown family 'gdc', expected some of linear" in unknown
    assert "--lr" in refused("train.py --stage ssft --lr -1", "--out", tmp_path / "out")
    assert "not on this machine" in refused(
        "train.py --stage ssft --device cuda:7", "--out", tmp_path / "out"
    )


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_status_1(tmp_path):
    """A file size limit stands in for a full disk: the write fails, and nothing half-written has a name.

    The script itself; the default run has the same of all four commands, forked, in test_crash.py.
    """
    limit = "import resource, signal, sys, runpy; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); sys.argv = sys.argv[1:];"
    limit += "runpy.run_path(sys.argv[0], run_name='__main__')"
    flags = "--stage ssft --steps 1 --batch-size 2 --n-greedy 0 --n-validation 2".split()
    result = subprocess.run(
        [sys.executable, "-c", limit, str(ROOT / "train.py"), *flags, "--out", str(tmp_path / "out")],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    assert not (tmp_path / "out" / "model.safetensors").exists()
    assert not list((tmp_path / "out").glob(".*.tmp"))


@pytest.mark.parametrize("script", ["train.py", "sample.py", "evaluate.py"])
def test_help_answers_without_torch(script):
    code = f"import sys, runpy; sys.argv = ['{script}', '--help']\n"
    code += f"try:\n    runpy.run_path('{script}', run_name='__main__')\n"
    code += "except SystemExit:\n    assert 'torch' not in sys.modules and 'sympy' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and "usage:" in result.stdout, result.stderr


def test_installing_the_package_needs_no_torch_for_the_grader():
    code = "import sys; from mathref.grader import is_equivalent; assert is_equivalent('1/2', '0.5');"
    code += "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
