"""Hours of training or sampling in minutes of reading: is memory flat, are files closed, is progress true?

Paper: none.
Choices: the commands are those of a user, in a process of their own, on the shipped tiny model and more work
than the time is enough for; small batches, so more steps and more different lengths an hour and less memory
that comes and goes with a batch; training validates every 25 steps, so that what the grader remembers (its
last 4,096 answers) is full before the warm-up ends.
The clock starts with the first progress, the end is a SIGTERM. Every few seconds are read: resident memory,
open files and the progress that lies on the disk. The first fifth is warm-up and counts for nothing.
Neighbouring readings are alike, and a checkpoint that is being written is a spike, so the slope of memory is
that of the medians of ten equal stretches, by least squares, with Student's interval. Memory is flat if the
whole interval is below 1% of it an hour, it grows if the whole interval is above; else the time was too short
to tell. Needs Linux's /proc.

    python bench/soak.py train --minutes 60 --plot soak-train.png
    python bench/soak.py sample --minutes 60 --plot soak-sample.png
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # runs from a checkout, without installation

from mathref.files import write_json  # noqa: E402
from mathref.runs import HelpFormatter, run_command  # noqa: E402

WARM_UP = 0.2  # of the time: caches fill, the longest batch comes along
STRETCHES = 10
STUDENT = 2.306  # 97.5% quantile of Student's distribution with STRETCHES - 2 degrees of freedom
FLAT_SHARE = 0.01  # of the memory, an hour
END_S = 60  # how long a command may take to end when told to


@dataclass(frozen=True)
class Reading:
    """What is known of the process at one moment."""

    seconds: float  # since the first progress
    rss_mb: float
    n_files: int
    progress: int  # optimiser steps, or problems


def command_of(what: str, folder: Path) -> tuple[list[str], Path]:
    """The command line, and the file that grows with its progress."""
    if what == "train":
        flags = ["--stage", "ssft", "--model", "tiny", "--steps", "1000000", "--log-every", "1"]
        flags += ["--batch-size", "8", "--save-every", "200", "--eval-every", "25"]
        flags += ["--out", str(folder / "run")]
        return ["train.py", *flags], folder / "run" / "metrics.jsonl"
    flags = ["--model", "tiny", "--split", "train", "--n", "64", "--batch-rows", "64"]
    flags += ["--out", str(folder / "samples.jsonl")]
    return ["sample.py", *flags], folder / "samples.jsonl"


def progress_in(what: str, file: Path) -> int:
    """Optimiser steps in metrics.jsonl, or problems in a samples file; whole lines count."""
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    if what == "train":
        return json.loads(lines[-1])["step"] if lines else 0
    return max(0, len(lines) - 1)  # the meta line is no problem


def read(what: str, pid: int, file: Path, seconds: float) -> Reading:
    status = Path(f"/proc/{pid}/status").read_text()
    rss = int(status.split("VmRSS:")[1].split()[0]) / 2**10
    return Reading(seconds, rss, len(list(Path(f"/proc/{pid}/fd").iterdir())), progress_in(what, file))


def watch(what: str, folder: Path, minutes: float, every: float) -> tuple[list[Reading], str]:
    """Run the command for some minutes of progress, tell it to stop; the readings, and what it printed."""
    command, file = command_of(what, folder)
    words, readings = folder / "words.txt", []
    with open(words, "w") as printed:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / command[0]), *command[1:]], stdout=printed, stderr=subprocess.STDOUT
        )
    started = None
    try:
        while started is None or time.monotonic() - started < 60 * minutes:
            if process.poll() is not None:
                raise ValueError(f"{command[0]} ended with status {process.returncode}: {words.read_text()}")
            if started is None and progress_in(what, file):
                started = time.monotonic()
            if started is not None:
                readings.append(read(what, process.pid, file, time.monotonic() - started))
            time.sleep(every)
        process.send_signal(signal.SIGTERM)
        process.wait(END_S)
    finally:
        process.kill()
        process.wait()
    if process.returncode != 130:
        raise ValueError(f"{command[0]} ended with status {process.returncode}, expected 130")
    return readings, words.read_text()


# ---- What the readings say ---------------------------------------------------------------------------


def settled(readings: Sequence[Reading]) -> list[Reading]:
    """The readings after the warm-up."""
    start = readings[0].seconds + WARM_UP * (readings[-1].seconds - readings[0].seconds)
    kept = [r for r in readings if r.seconds >= start]
    if len(kept) < 2 * STRETCHES:
        raise ValueError(f"{len(kept)} readings after the warm-up, expected {2 * STRETCHES}: more --minutes")
    return kept


def slope(readings: Sequence[Reading]) -> tuple[float, float]:
    """MB an hour, and half the width of its 95% interval, from the medians of equal stretches of readings."""
    size = len(readings) / STRETCHES
    parts = [readings[round(i * size) : round((i + 1) * size)] for i in range(STRETCHES)]
    hours = [statistics.mean(r.seconds for r in part) / 3600 for part in parts]
    memory = [statistics.median(r.rss_mb for r in part) for part in parts]
    fitted, at_0 = statistics.linear_regression(hours, memory)
    rest = sum((y - at_0 - fitted * x) ** 2 for x, y in zip(hours, memory, strict=True)) / (STRETCHES - 2)
    middle = statistics.mean(hours)
    return fitted, STUDENT * (rest / sum((x - middle) ** 2 for x in hours)) ** 0.5


def foretold(readings: Sequence[Reading]) -> dict[str, float]:
    """At a quarter, half and three quarters of the progress: when its pace said that the end would come, over
    when it came; 1 is the truth. Nothing where there was hardly any progress.
    """
    first, last = readings[0], readings[-1]
    if last.progress - first.progress < STRETCHES:
        return {}
    shares = {}
    for share in (0.25, 0.5, 0.75):
        there = next(
            r for r in readings if r.progress >= first.progress + share * (last.progress - first.progress)
        )
        pace = (there.seconds - first.seconds) / max(1, there.progress - first.progress)
        shares[f"{share:.0%}"] = pace * (last.progress - first.progress) / (last.seconds - first.seconds)
    return shares


def told_at_the_end(what: str, folder: Path, words: str) -> str:
    """Whether the last line agrees with what lies on the disk."""
    if what == "sample":
        return f"{progress_in(what, command_of(what, folder)[1])} problems are in the file"
    import safetensors

    with safetensors.safe_open(folder / "run" / "checkpoint.safetensors", "pt") as file:
        kept = json.loads(file.metadata()["progress"])["step"]
    found = re.search(r"interrupted after step (\d+) of", words)
    if not found or int(found[1]) != kept:
        raise ValueError(f"the checkpoint holds step {kept}, and the last words are: {words[-200:]}")
    return f"stopped after step {kept}, which the checkpoint holds"


def report(what: str, readings: Sequence[Reading]) -> dict[str, object]:
    """Print the verdicts; the numbers behind them."""
    kept = settled(readings)
    change, half = slope(kept)
    typical = statistics.median(r.rss_mb for r in kept)
    bound = FLAT_SHARE * typical
    verdict = "flat" if change + half < bound else "GROWS" if change - half > bound else "undecided"
    files = [min(r.n_files for r in kept), max(r.n_files for r in kept)]
    late = [r.n_files for r in kept[-len(kept) // 4 :]]
    unit = "steps" if what == "train" else "problems"
    print(f"{what}: {readings[-1].seconds:.0f} s, {readings[-1].progress} {unit}, {len(kept)} readings")
    interval = f"{change - half:+.1f} to {change + half:+.1f}"
    print(f"memory {verdict}: {typical:.0f} MB, {change:+.1f} MB an hour ({interval})")
    print(f"open files {files[0]} to {files[1]}, {min(late)} to {max(late)} in the last quarter")
    ahead = foretold(kept)
    shares = ", ".join(f"at {share} {value:.2f}" for share, value in ahead.items())
    print(f"end foretold by the pace so far / true: {shares or 'too little progress to tell'}")
    return {
        "typical_mb": typical,
        "mb_an_hour": change,
        "half_width": half,
        "memory": verdict,
        "files": files,
    } | ahead


def draw(what: str, readings: Sequence[Reading], path: str) -> None:
    from mathref.plots import plot_panels

    minutes = [r.seconds / 60 for r in readings]
    progress = "optimiser steps" if what == "train" else "problems done"
    panels = {
        "resident memory (MB)": [r.rss_mb for r in readings],
        "open files": [r.n_files for r in readings],
        progress: [r.progress for r in readings],
    }
    plot_panels("minutes", minutes, panels, path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("what", choices=["train", "sample"], help="which command")
    parser.add_argument("--minutes", type=float, default=60, help="how long")
    parser.add_argument("--every", type=float, default=2, help="seconds between readings")
    parser.add_argument("--plot", metavar="IMAGE", default="", help="draw the readings")
    parser.add_argument("--json", metavar="FILE", default="", help="write readings and verdicts")
    args = parser.parse_args(argv)
    if not Path("/proc/self/fd").is_dir():
        raise ValueError("this needs Linux's /proc")
    with tempfile.TemporaryDirectory() as folder:
        readings, words = watch(args.what, Path(folder), args.minutes, args.every)
        found = report(args.what, readings)
        print(told_at_the_end(args.what, Path(folder), words))
    if args.plot:
        draw(args.what, readings, args.plot)
    if args.json:
        write_json(args.json, found | {"readings": [vars(r) for r in readings]})
    return 1 if found["memory"] == "GROWS" else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
