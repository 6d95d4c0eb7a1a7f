"""Kill -9 at any moment of any command: what goes on afterwards ends as if nothing had happened.

The processes are real and so is the signal. They are forked from one that has imported torch
(multiprocessing's fork server), since ten imports would take longer than all that is tested here.
"""

import dataclasses
import importlib
import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import safetensors
from tqdm import tqdm

from mathref.files import read_jsonl
from mathref.problems import generate
from mathref.runs import run_command

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = multiprocessing.get_context("forkserver")
IMPORTED = ["train", "sample", "rerank", "evaluate", "matplotlib.pyplot", "sentencepiece", "sympy"]
IMPORTED += [f"mathref.{name}" for name in ("stages", "trainer", "candidates", "tables", "plots", "weights")]
IMPORTED += ["torch._dynamo", "torch.distributed.fsdp", "torch.distributed.tensor"]  # imported by optimisers
IMPORTED += ["crash_preload"]
# What a comparison leaves out: no two runs take the same time, and somebody may edit the source meanwhile.
TIMED = ("seconds", "commit")
KILLS = {"train": 3, "mtsf": 2, "sample": 2, "rerank": 2, "evaluate": 1}  # of the default run
AT_ONCE = 4  # processes of the longest test: they wait for the disk most of the time


# --- Commands in processes of their own ---


@dataclasses.dataclass(frozen=True)
class Command:
    """One of the four commands, and how long it takes undisturbed."""

    script: str
    argv: list[str]
    folder: Path  # it runs there
    seconds: float = 0.0


def perform(command, words, kill_before, largest_file):
    """In the child: run the command and print into the file `words`.

    With `kill_before` N it kills itself immediately before the N-th change of a file; with `largest_file` no
    file gets more bytes, which stands in for a full disk.
    """
    changes = 0

    def count(event, args):
        nonlocal changes
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.rename", "os.remove", "os.truncate", "os.mkdir", "os.link"):
            changes += 1
            if changes == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)

    tqdm.set_lock(
        threading.RLock()
    )  # the bar's own lock is shared by processes; a kill would leave it behind
    sys.stdout = sys.stderr = open(words, "w", buffering=1)
    sys.addaudithook(count)
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    os.chdir(command.folder)
    status = run_command(importlib.import_module(command.script).main, command.argv)
    sys.exit(status)


def start(command, words, *, kill_before=None, largest_file=None):
    process = PROCESSES.Process(target=perform, args=(command, words, kill_before, largest_file))
    process.start()
    return process


def finish(process, words):
    """Wait for a process that has to succeed."""
    process.join(120)
    assert process.exitcode == 0, words.read_text()


@pytest.fixture(scope="module", autouse=True)
def fork_server():
    """One thread, so that results repeat; torch imported, so that a start takes no time."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "PYTHONPATH")}
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    PROCESSES.set_forkserver_preload([*IMPORTED, Path(__file__).stem])
    yield
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


# --- What is run ---

TRAINING = "--steps 8 --batch-size 2 --eval-every 4 --save-every 2 --log-every 1 --n-greedy 2"
SHORT = "--steps 2 --eval-every 2 --save-every 1"


def commands(name, inputs, folder):
    """The commands of one case, with all that they write in `folder`."""
    data = f"--data {inputs / 'data.jsonl'}"
    training = f"{TRAINING} --n-validation 4 {data} --max-new-tokens 8 --resume --out {folder / 'run'}"
    sampling = f"--model tiny {data} --limit 20 --n 2 --batch-rows 2 --max-new-tokens 8"
    scoring = f"--evaluator tiny --samples {inputs / 'samples.jsonl'} --out {folder / 'scored.jsonl'}"
    images = f"--json {folder / 'table.json'} --rerank-plot {folder / 'figure.png'}"
    lines = {
        "train": [f"train --stage ssft {training}"],
        # Short stages, since what it adds to the case above is the change from one to the next. A stage's
        # settings name the folder of the one before, so only relative names make the same files elsewhere.
        "mtsf": [f"train --stage mtsf --sequence ssft,ssft {training} {SHORT} --out run"],
        "sample": [f"sample {sampling} --out {folder / 'samples.jsonl'}"],
        # The second adds scores to those of the first.
        "rerank": [f"rerank {scoring} --strategy rr.majk --k 1", f"rerank {scoring}"],
        "evaluate": [f"evaluate {inputs / 'scored.jsonl'} {images}"],
    }
    return [Command(line.split()[0], line.split()[1:], folder) for line in lines[name]]


@dataclasses.dataclass
class Undisturbed:
    """The inputs, and each case's results and commands as they are when nothing happens."""

    inputs: Path
    cases: dict[str, tuple[Path, list[Command]]] = dataclasses.field(default_factory=dict)

    def of(self, name):
        if name not in self.cases:
            folder, timed = self.inputs.parent / name, []
            folder.mkdir()
            for command in commands(name, self.inputs, folder):
                began = time.perf_counter()
                finish(start(command, self.inputs / "words.txt"), self.inputs / "words.txt")
                timed.append(dataclasses.replace(command, seconds=time.perf_counter() - began))
            self.cases[name] = folder, timed
        return self.cases[name]

    def again(self, name, folder):
        """The case's commands, to be run into another folder."""
        timed = self.of(name)[1]
        new = commands(name, self.inputs, folder)
        return [dataclasses.replace(n, seconds=t.seconds) for n, t in zip(new, timed, strict=True)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Inputs made once: problems, samples whose answers differ, and scores of them."""
    inputs = tmp_path_factory.mktemp("crash") / "inputs"
    inputs.mkdir()
    problems = generate("train", 40)
    with open(inputs / "data.jsonl", "w") as data:
        for p in problems:
            print(json.dumps({"problem": p.problem, "answer": p.answer, "solution": p.detailed}), file=data)
    with open(inputs / "samples.jsonl", "w") as samples:
        for i, p in enumerate(problems):
            found = [
                {"text": f"So it is \\boxed{{{j % 5}}}, {i}, {j}.", "answer": str(j % 5)} for j in range(8)
            ]
            record = {"id": str(i), "problem": p.problem, "answer": str(i % 7), "samples": found}
            print(json.dumps(record), file=samples)
    made = Undisturbed(inputs)
    scored = made.of("rerank")[0] / "scored.jsonl"
    (inputs / "scored.jsonl").write_bytes(scored.read_bytes())
    return made


# --- Comparing ---


def untimed(record):
    return {name: value for name, value in record.items() if name not in TIMED}


def content(path):
    """What a file holds, byte for byte, but for the seconds in it."""
    if path.name == "metrics.jsonl":
        return [untimed(record) for _, record in read_jsonl(path)]
    if path.name.endswith(".cost.json") or path.name == "run.json":
        return untimed(json.loads(path.read_text()))
    if path.name == "checkpoint.safetensors":
        with safetensors.safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        progress = json.loads(metadata["progress"])
        return tensors, metadata["fingerprint"], untimed(progress) | {"line": untimed(progress["line"])}
    return path.read_bytes()


def all_files(folder):
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_same(folder, expected):
    """The same files, nothing temporary among them, with the same content."""
    found, wanted = all_files(folder), all_files(expected)
    assert {name for name in found if not name.endswith(".tmp") or "run/" in name} == set(wanted)
    for name in wanted:
        assert content(found[name]) == content(wanted[name]), name


def assert_whole(folder):
    """No file under its own name is half-written; a line that grows may lack its end."""
    for name, path in all_files(folder).items():
        if path.name.startswith("."):
            continue
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, "pt") as file:
                assert all(file.get_tensor(key).isfinite().all() for key in file.keys()), name  # noqa: SIM118
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif ".jsonl" in path.suffixes:
            for line in path.read_bytes().splitlines(keepends=True):
                assert not line.endswith(b"\n") or json.loads(line), name
        elif path.suffix == ".png":
            assert path.read_bytes().endswith(b"IEND\xaeB`\x82"), name


# --- The tests ---


def killed_and_resumed(undisturbed, name, folder, rng, n_kills):
    """Run a case with up to `n_kills` kills at random moments; compare; how many met a living process."""
    folder.mkdir()
    words, hits = folder.with_suffix(".txt"), 0
    for command in undisturbed.again(name, folder):
        while hits < n_kills:
            process = start(command, words)
            process.join(rng.uniform(0, command.seconds))
            process.kill()
            process.join()
            if process.exitcode != -signal.SIGKILL:
                break  # it was faster
            hits += 1
            assert_whole(folder)
        finish(start(command, words), words)
    assert_same(folder, undisturbed.of(name)[0])
    return hits


def kill_at_random(undisturbed, name, folder, seed, n_kills):
    rng, hits, runs = random.Random(f"{seed} {name}"), 0, 0
    while hits < n_kills:
        runs += 1
        hits += killed_and_resumed(undisturbed, name, folder / f"{name}-{runs}", rng, min(5, n_kills - hits))
    print(f"{name}, seed {seed}: {hits} kills in {runs} runs, all resumed to the undisturbed result")


@pytest.mark.parametrize("name", KILLS)
def test_killed_at_random_moments(undisturbed, tmp_path, name):
    kill_at_random(undisturbed, name, tmp_path, seed=0, n_kills=KILLS[name])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("name", KILLS)
def test_killed_at_many_random_moments(undisturbed, tmp_path, name, seed):
    """250 kills; `-s` shows the summary."""
    kill_at_random(undisturbed, name, tmp_path, seed, n_kills=10)


def killed_before(undisturbed, name, n, folder):
    """Kill a case's last command before its n-th change of a file, resume, compare; False if it has fewer."""
    words = folder.with_suffix(".txt")
    folder.mkdir()
    *earlier, command = undisturbed.again(name, folder)
    for one in earlier:
        finish(start(one, words), words)
    process = start(command, words, kill_before=n)
    process.join(120)
    if process.exitcode == 0:
        return False
    assert process.exitcode == -signal.SIGKILL, words.read_text()
    assert_whole(folder)
    finish(start(command, words), words)
    assert_same(folder, undisturbed.of(name)[0])
    shutil.rmtree(folder)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLS)
def test_killed_before_every_change_of_a_file(undisturbed, tmp_path, name):
    """Not a sample of moments but all that matter: before each open for writing, rename, removal, link."""
    undisturbed.of(name)
    n_changes = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in itertools.count(1, AT_ONCE):
            places = [(n, tmp_path / f"{n}") for n in range(first, first + AT_ONCE)]
            killed = list(pool.map(lambda place: killed_before(undisturbed, name, *place), places))
            n_changes += sum(killed)
            if not all(killed):
                break
    print(f"{name}: killed before each of {n_changes} changes of files (last command), resumed from all")
    assert n_changes > 2


# --- Told to stop ---


def wait_for_lines(path, n, process):
    """Until the file holds `n` whole lines, which the process must be alive to have written."""
    while not (path.exists() and path.read_bytes().count(b"\n") >= n):
        assert process.is_alive(), "ended before it was told to"
        time.sleep(0.005)


def error_line(words):
    """The one line that says what went wrong, or what to do."""
    lines = [line for line in words.read_text().splitlines() if "error:" in line]
    assert len(lines) == 1 and "Traceback" not in words.read_text(), words.read_text()
    return lines[0]


@pytest.mark.parametrize(
    ("name", "file", "number"),
    [("train", "run/metrics.jsonl", signal.SIGTERM), ("sample", "samples.jsonl", signal.SIGINT)],
)
def test_told_to_stop_it_keeps_what_is_finished(undisturbed, tmp_path, name, file, number):
    folder, words = tmp_path / "folder", tmp_path / "words.txt"
    folder.mkdir()
    (command,) = undisturbed.again(name, folder)
    process = start(command, words)
    wait_for_lines(folder / file, 3, process)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == 130, words.read_text()
    said = error_line(words)
    assert "interrupted" in said and "the same command goes on" in said and "--resume" in said
    if name == "train":  # not the last of --save-every: the very step
        step = int(re.search(r"after step (\d+) of 8;", said)[1])
        assert content(folder / "run" / "checkpoint.safetensors")[2]["step"] == step
        assert step >= 3
    finish(start(command, words), words)
    assert_same(folder, undisturbed.of(name)[0])


# --- Two at once, no room, no permission ---


@pytest.mark.parametrize(("name", "file"), [("train", "run/metrics.jsonl"), ("sample", "samples.jsonl")])
def test_the_second_process_is_told_who_is_writing(undisturbed, tmp_path, name, file):
    folder, words, others = tmp_path / "folder", tmp_path / "words.txt", tmp_path / "others.txt"
    folder.mkdir()
    (command,) = undisturbed.again(name, folder)
    first = start(command, words)
    wait_for_lines(folder / file, 1, first)
    os.kill(first.pid, signal.SIGSTOP)  # so that it cannot end meanwhile
    second = start(command, others)
    second.join(60)
    os.kill(first.pid, signal.SIGCONT)
    assert second.exitcode == 2
    said = rf"error: {folder}/\S+ is being written by another process, {first.pid}; "
    assert re.search(said, error_line(others))
    finish(first, words)
    assert_same(folder, undisturbed.of(name)[0])


@pytest.mark.parametrize(
    ("name", "largest_file", "refused"),
    [
        ("train", 5_000_000, "checkpoint.safetensors"),
        ("sample", 4_000, "samples.jsonl"),
        ("rerank", 8_000, "scored.jsonl"),
        ("evaluate", 2_000, "table.json"),
    ],
)
def test_a_full_disk_is_one_line_and_the_run_goes_on(undisturbed, tmp_path, name, largest_file, refused):
    folder, words = tmp_path / "folder", tmp_path / "words.txt"
    folder.mkdir()
    for command in undisturbed.again(name, folder):
        process = start(command, words, largest_file=largest_file)
        process.join(60)
        if process.exitcode:
            break
    assert process.exitcode == 1, words.read_text()
    said = error_line(words)
    assert refused in said and "make room, then the same command goes on" in said
    assert_whole(folder)
    for command in undisturbed.again(name, folder):
        finish(start(command, words), words)
    assert_same(folder, undisturbed.of(name)[0])


@pytest.mark.parametrize("name", ["train", "sample", "rerank", "evaluate"])
def test_a_folder_that_nobody_may_write_is_one_line(undisturbed, tmp_path, name):
    """The superuser may write anywhere but in the system's own folder."""
    undisturbed.of(name)
    folder, words = tmp_path, tmp_path / "words.txt"
    if os.geteuid():
        folder = tmp_path / "folder"
        folder.mkdir(mode=0o555)
    elif Path("/sys/kernel").exists():
        folder = Path("/sys/kernel")
    command = undisturbed.again(name, folder)[0]
    process = start(command, words)
    process.join(60)
    assert process.exitcode == 1, words.read_text()
    assert f"'{folder}/" in error_line(words) and "choose another place" in error_line(words)
