"""Two programs that do the same work, side by side: how the speed benchmarks measure.

Paper: none.
Choices: each side lives in a process of its own, loads once, and waits while the other works; the rounds take
turns, so that what else the machine does meets both, and a ratio is formed within a round. Reported are the
median ratio and the smallest and largest one. Peak memory is that of the process, weights included. The
ceiling is a large matrix product in the same type on the same threads: what the arithmetic units give when
nothing else is in their way.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # runs from a checkout, without installation

Work = Callable[[], dict[str, Any]]  # does one round; {"units": tokens done, ...}


def peak_mb() -> int:
    """Largest resident memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux lets a process begin with its parent's ru_maxrss
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return round(int(lines["VmHWM"].split()[0]) / 2**10)
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)  # bytes on macOS


def _serve(connection: Any, setup: Callable[..., Work], options: dict[str, Any]) -> None:
    """The process of one side: set up, then a round for every message until None comes."""
    work = setup(**options)
    connection.send("ready")
    while connection.recv() is not None:
        start = time.perf_counter()
        done = work()
        done["seconds"] = time.perf_counter() - start
        done["peak_mb"] = peak_mb()
        connection.send(done)


@dataclass
class Side:
    """One of the programs compared: `setup(**options)`, in a new process, returns its round of work."""

    name: str
    setup: Callable[..., Work]
    options: dict[str, Any]
    rounds: list[dict[str, Any]] = field(default_factory=list)  # those that count
    first: dict[str, Any] = field(default_factory=dict)  # what the very first one returned

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.setup, self.options), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def round(self) -> dict[str, Any]:
        self._connection.send("go")
        done = self._answer()
        self.first = self.first or done
        self.rounds.append(done)
        return done

    def stop(self) -> None:
        self._connection.send(None)
        self._process.join()

    def _answer(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:  # its own traceback stands above
            raise ChildProcessError(f"{self.name}: its process ended") from None

    @property
    def rates(self) -> list[float]:
        """Units a second, round by round."""
        return [r["units"] / r["seconds"] for r in self.rounds]


def interleave(sides: Sequence[Side], rounds: int, *, warm_up: bool = True) -> None:
    """Run `rounds` rounds of every side in turn, after one that does not count."""
    for side in sides:
        side.start()
    try:
        for counted in [False] * warm_up + [True] * rounds:
            for side in sides:
                side.round()
                if not counted:
                    side.rounds.clear()
    finally:
        for side in sides:
            side.stop()


def spread(values: Sequence[float], digits: int = 2) -> str:
    """ "median (smallest-largest)"."""
    low, middle, high = (f"{f(values):,.{digits}f}" for f in (min, statistics.median, max))
    return f"{middle} ({low}-{high})"


def compare(
    ours: Side, peer: Side, *, unit: str = "tokens/s", ceiling: float | None = None
) -> dict[str, Any]:
    """Print one line a side and one with the ratio; returns the figures.

    `ceiling`: units a second that the arithmetic alone would allow.
    """
    ratios = [a / b for a, b in zip(ours.rates, peer.rates, strict=True)]
    figures: dict[str, Any] = {"ratio": ratios}
    for side in (ours, peer):
        peak = max(r["peak_mb"] for r in side.rounds)
        share = (
            ""
            if ceiling is None
            else f", {100 * statistics.median(side.rates) / ceiling:.0f}% of the ceiling"
        )
        print(f"  {side.name:40s} {spread(side.rates, 0)} {unit}{share}, peak {peak:,} MB")
        figures[side.name] = {"rates": side.rates, "peak_mb": peak}
    print(f"  ratio {spread(ratios)}, median (smallest-largest) of {len(ratios)} rounds", flush=True)
    return figures


def matmul_flops(dtype: str, size: int = 1536, seconds: float = 1.0) -> float:
    """FLOP a second of square matrix products in `dtype` on the threads that torch uses."""
    import torch

    a = torch.randn(size, size, dtype=getattr(torch, dtype))
    (a @ a).sum()
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ a
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def parser(doc: str) -> argparse.ArgumentParser:
    """The flags that the speed benchmarks share."""
    made = argparse.ArgumentParser(
        description=doc.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument("--model", type=Path, required=True, help="checkpoint folder, read by both sides")
    made.add_argument("--data", type=Path, required=True, help="problems, such as gsm8k_test.jsonl")
    made.add_argument(
        "--dtype", default="float32", choices=["float32", "bfloat16"], help="of weights and work"
    )
    made.add_argument("--rounds", type=int, default=3, help="that count, after one that does not")
    made.add_argument("--threads", type=int, default=0, help="0: as many as torch takes")
    made.add_argument("--json", type=Path, help="also write all figures here")
    return made


def write_json(path: Path | None, figures: dict[str, Any]) -> None:
    """Write the figures, if a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def set_threads(n: int) -> None:
    """Let torch use `n` threads; 0 leaves it as it is."""
    import torch

    if n:
        torch.set_num_threads(n)
