"""Run folders and the end of a command: what a user causes is one line and status 2."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mathref.files import read_json
from mathref.runs import (
    HelpFormatter,
    comma_list,
    open_run,
    pick_device,
    pick_dtype,
    resolve_model,
    run_command,
)

ROOT = Path(__file__).resolve().parent.parent


def test_a_device_out_of_memory_is_one_line_with_what_takes_less(capsys):
    """torch's own error is a RuntimeError: the usual first failure of a large model was a traceback."""

    def main(argv):
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which"
        )

    assert run_command(main) == 1
    line = capsys.readouterr().err
    assert "error: CUDA out of memory. Tried to allocate 2.00 GiB. Less is taken with a smaller" in line
    assert "--activation-checkpointing" in line and line.count("\n") == 1


def test_a_named_gpu_becomes_the_current_one(monkeypatch):
    """Steps of decoding are recorded on the current one: recorded elsewhere, they replayed nothing."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert pick_device("cuda:1") == torch.device("cuda:1") and chosen == [torch.device("cuda:1")]
    with pytest.raises(ValueError, match="^--device cuda:2: not on this machine, which has 2 GPUs"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["cpu:x", "cpu:-2", "tpu", "cuda:99", ""])
def test_an_unknown_device_is_a_mistake(name):
    """Some names passed the check of their first word and ended in torch's own error."""
    with pytest.raises(ValueError, match=f"^--device {name}: "):
        pick_device(name)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("no\nsuch thing"), 2),
        (FileNotFoundError("data.jsonl: no such file"), 2),
        (OSError(28, "No space left on device"), 1),
        (FloatingPointError("loss nan"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_known_errors_end_in_one_line(error, status, capsys):
    def main(argv):
        raise error

    assert run_command(main, []) == status
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "error:" in shown and "Traceback" not in shown


@pytest.mark.parametrize("lines", [1, 100_000], ids=["at the end", "on the way"])
@pytest.mark.parametrize("broken", ["stdout", "stdout and stderr", "another pipe"])
def test_a_reader_that_leaves_is_no_error(lines, broken):
    """`evaluate.py FILE | head` said "error: [Errno 32] Broken pipe"; a pipe of another kind still is one."""
    script = """
import os, sys
from mathref.runs import run_command
def main(argv):
    for number in range(int(argv[0])):
        print(number)
    if argv[1] == "another pipe":
        raise BrokenPipeError(32, "the server hung up")
sys.exit(run_command(main, sys.argv[1:]))
"""
    reading, writing = os.pipe()
    os.close(reading)
    nobody, own = broken != "another pipe", "stderr" not in broken
    done = subprocess.run(
        [sys.executable, "-c", script, str(lines), broken],
        stdout=writing if nobody else subprocess.DEVNULL,
        stderr=subprocess.PIPE if own else writing,
        text=True,
        cwd=ROOT,
    )
    os.close(writing)
    assert done.returncode == (141 if nobody else 1)
    assert not own or done.stderr == ("" if nobody else "-c: error: [Errno 32] the server hung up\n")


def test_a_closed_standard_output_is_no_error(monkeypatch, capsys):
    """Python has None in its place (`evaluate.py FILE >&-`): "'NoneType' object has no attribute 'flush'"."""

    def main(argv):
        print("unheard")
        if argv:
            raise BrokenPipeError(32, "the server hung up")

    monkeypatch.setattr(sys, "stdout", None)
    assert run_command(main, []) == 0 and run_command(main, ["broken"]) == 1
    assert capsys.readouterr().err.endswith("error: [Errno 32] the server hung up\n")


def test_our_own_mistakes_keep_their_traceback():
    def main(argv):
        raise AssertionError("a bug")

    with pytest.raises(AssertionError):
        run_command(main, [])


def test_a_folder_that_holds_a_run_is_refused_and_resumed(tmp_path):
    folder = tmp_path / "run"
    with open_run(folder, {"lr": 1.0, "seed": 0}, resume=False) as first:
        pass
    assert read_json(folder / "run.json")["settings"] == {"lr": 1.0, "seed": 0}
    with (
        pytest.raises(FileExistsError, match="--resume"),
        open_run(folder, {"lr": 1.0, "seed": 0}, resume=False),
    ):
        pass
    with open_run(folder, {"lr": 1.0, "seed": 0}, resume=True) as again:
        assert again == first
    with (
        pytest.raises(ValueError, match="seed was 0, is 1"),
        open_run(folder, {"lr": 1.0, "seed": 1}, resume=True),
    ):
        pass


@pytest.mark.parametrize("content", ["[]", '"a"', "null", "{}", '{"settings": []}', '{"settings": null}'])
def test_a_run_json_of_another_shape_is_one_line(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    expected = r"run\.json: expected an object with the run's 'settings'.*choose another --out"
    with pytest.raises(ValueError, match=expected), open_run(tmp_path, {}, resume=True):
        pass
    assert (tmp_path / "run.json").read_text() == content


def test_a_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="not empty"), open_run(tmp_path, {}, resume=True):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_resume_starts_where_nothing_is(tmp_path):
    with open_run(tmp_path / "new" / "run", {"seed": 0}, resume=True):
        assert (tmp_path / "new" / "run" / "run.json").exists()
    assert [p.name for p in (tmp_path / "new" / "run").iterdir()] == ["run.json"]  # the lock is gone


def test_unknown_models_and_devices_are_one_clear_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="tiny or small"):
        resolve_model(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        resolve_model(str(tmp_path))
    with pytest.raises(ValueError, match="not on this machine"):
        pick_device("tpu")
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_dtype("auto", torch.device("cpu")) == torch.float32
    assert pick_dtype("auto", torch.device("cuda")) == torch.bfloat16


def test_a_kill_before_run_json_was_whole_blocks_nothing(tmp_path):
    """Its temporary file made the folder "not empty", and --resume refused what it should have started."""
    (tmp_path / ".run.json.123.tmp").write_text('{"settings": {')
    (tmp_path / ".lock").write_text("123")
    with open_run(tmp_path, {"seed": 0}, resume=True):
        assert not (tmp_path / ".run.json.123.tmp").exists()
    assert read_json(tmp_path / "run.json")["settings"] == {"seed": 0}
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"), open_run(other, {"seed": 0}, resume=True):
        pass


def test_help_shows_a_list_as_it_would_be_typed():
    """It was Python's own spelling, ['ssft', 'scr', 'ssft'], which the flag does not take."""
    parser = argparse.ArgumentParser(formatter_class=HelpFormatter)
    parser.add_argument("--sequence", type=comma_list, default=["a", "b"], help="stages")
    parser.add_argument("--data", nargs="+", default=["a", "b"], help="files")
    parser.add_argument("--plot", default="", help="image")
    parser.add_argument("--more", nargs="*", default=[], help="others")
    shown = " ".join(parser.format_help().split())
    assert "stages (default: a,b)" in shown and "files (default: a b)" in shown
    assert "(default: )" not in shown  # of a flag that is empty unless it is given
