"""Two programs that do the same work, side by side: how the speed benchmarks measure.

Paper: none.
Choices: each side lives in a process of its own, loads once, and waits while the other works; the rounds take
turns, so that what else the machine does meets both, and a ratio is formed within a round. Reported are the
median ratio and the smallest and largest one. Peak memory is that of the process, weights included, and on a
GPU, where both processes live side by side, what each one's tensors took of it. No clock stops before the
device has. The ceiling is a large matrix product in the same type on the same threads or the same GPU: what
the arithmetic units give when nothing else is in their way.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # runs from a checkout, without installation

from mathref.files import write_json  # noqa: E402

# How far the log-odds of the two sides may differ: kernels round differently, and bfloat16 has 8 bits.
ROUNDING = {"float32": 0.01, "bfloat16": 0.5}

Work = Callable[[], dict[str, Any]]  # does one round; {"units": tokens done, ...}


def peak_mb() -> int:
    """Largest resident memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux lets a process begin with its parent's ru_maxrss
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return round(int(lines["VmHWM"].split()[0]) / 2**10)
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)  # bytes on macOS


def device_peak_mb() -> int | None:
    """Most GPU memory that this process's tensors have taken so far, in MB; None without a GPU in use."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return round(torch.cuda.max_memory_allocated() / 2**20)


def synchronise() -> None:
    """Wait until the GPU, if this process uses one, has done all that it was given."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def release() -> None:
    """Give GPU memory that this process holds and no longer needs back to the others."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def peaks() -> dict[str, int]:
    """Peak memory of this process so far in MB: "peak_mb", and on a GPU "device_peak_mb"."""
    device = device_peak_mb()
    return {"peak_mb": peak_mb()} | ({} if device is None else {"device_peak_mb": device})


def memory(rounds: Sequence[dict[str, Any]]) -> dict[str, int]:
    """The largest `peaks` among rounds."""
    names = [name for name in ("peak_mb", "device_peak_mb") if name in rounds[0]]
    return {name: max(r[name] for r in rounds) for name in names}


def memory_line(found: dict[str, int]) -> str:
    """ "peak 1,234 MB" of the process, ", 567 MB of the GPU" behind it."""
    device = f", {found['device_peak_mb']:,} MB of the GPU" if "device_peak_mb" in found else ""
    return f"peak {found['peak_mb']:,} MB{device}"


def _serve(connection: Any, setup: Callable[..., Work], options: dict[str, Any]) -> None:
    """The process of one side: set up, then a round for every message until None comes."""
    work = setup(**options)
    connection.send("ready")
    while connection.recv() is not None:
        synchronise()
        start = time.perf_counter()
        done = work()
        synchronise()
        done["seconds"] = time.perf_counter() - start
        connection.send(done | peaks())


@dataclass
class Side:
    """One of the programs compared: `setup(**options)`, in a new process, returns its round of work."""

    name: str
    setup: Callable[..., Work]
    options: dict[str, Any]
    rounds: list[dict[str, Any]] = field(default_factory=list)  # the first of which warms up

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.setup, self.options), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def round(self) -> None:
        self._connection.send("go")
        self.rounds.append(self._answer())

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
        """Units a second in each round that counts."""
        return [r["units"] / r["seconds"] for r in self.rounds[1:]]


def interleave(sides: Sequence[Side], rounds: int) -> None:
    """Run `rounds` rounds of every side in turn, after one that does not count."""
    for side in sides:
        side.start()
    try:
        for _ in range(1 + rounds):
            for side in sides:
                side.round()
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
    digits = 0 if min(ours.rates + peer.rates) >= 100 else 2
    for side in (ours, peer):
        peak = memory(side.rounds)
        percent = None if ceiling is None else 100 * statistics.median(side.rates) / ceiling
        share = "" if percent is None else f", {percent:.0f}% of the ceiling"
        print(f"  {side.name:40s} {spread(side.rates, digits)} {unit}{share}, {memory_line(peak)}")
        figures[side.name] = {"rates": side.rates, **peak}
    print(f"  ratio {spread(ratios)}, median (smallest-largest) of {len(ratios)} rounds", flush=True)
    return figures


def compare_each(
    ours: Side, peers: Sequence[Side], *, unit: str = "tokens/s", ceiling: float | None = None
) -> dict[str, Any]:
    """`compare` with each of the peer's settings; the figures name the fastest of them."""
    figures: dict[str, Any] = {"best_peer": max(peers, key=lambda side: sum(side.rates)).name}
    for peer in peers:
        figures[f"against {peer.name}"] = compare(ours, peer, unit=unit, ceiling=ceiling)
    return figures


def require_agreement(what: str, difference: float, limit: float) -> None:
    """Print by how much the two sides differ in `what`; ValueError where that is no rounding any more."""
    print(f"{what}: largest difference {difference:.1e}")
    if not difference <= limit:
        raise ValueError(
            f"{what}: the sides differ by {difference:.2g}, expected {limit} at most; they do not compute "
            "the same thing, so their speed cannot be compared"
        )


def matmul_flops(dtype: str, device: torch.device, seconds: float = 1.0) -> float:
    """FLOP a second of square matrix products in `dtype` on a GPU, or on the threads that torch uses."""
    import torch

    from mathref.linear import linear  # as the model has them: in float32 where a CPU emulates bfloat16

    size = 8192 if device.type == "cuda" else 1536
    a = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    linear(a, a).sum()
    synchronise()
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        linear(a, a)
        synchronise()
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def to_length(text: Any, length: int) -> Any:
    """A text or a list, repeated and cut to `length`; as it is for 0."""
    return (text * -(-length // len(text)))[:length] if length else text


def product_weights(model: str) -> tuple[int, int]:
    """How many weights a token is multiplied with in the layers, and how many in the head.

    One of them costs 2 FLOP a token, and 6 with the gradients by input and weight.
    """
    from mathref.weights import load_model

    network = load_model(model)
    layers = sum(p.numel() for p in network.blocks.parameters() if p.dim() == 2)
    return layers, network.head_weight.numel()


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
    made.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda"], help="of both sides; auto: cuda if there"
    )
    made.add_argument("--rounds", type=int, default=3, help="that count, after one that does not")
    made.add_argument("--threads", type=int, default=0, help="0: as many as torch takes")
    made.add_argument("--json", type=Path, help="also write all figures here")
    made.add_argument(
        "--curve",
        nargs="+",
        metavar=("FLAG", "VALUE"),
        help="measure once for each value of a flag: its name without dashes, then values",
    )
    return made


def along_curve(
    args: argparse.Namespace, flags: Sequence[str], measure: Callable[[argparse.Namespace], dict[str, Any]]
) -> dict[str, Any]:
    """The figures of `measure(args)`; with --curve those of each value by its name, and a table of them.

    `flags`: those that may vary. ValueError for another one, or for values that it does not take.
    """
    if args.curve is None:
        return measure(args)
    flag, *values = args.curve
    if flag not in flags or not values:
        raise ValueError(f"--curve {flag}: expected one of {', '.join(flags)}, then one value or more")
    name = flag.replace("-", "_")
    kind = type(getattr(args, name))
    try:
        settings = {value: kind(value) for value in values}
    except ValueError:
        raise ValueError(f"--curve {flag} {' '.join(values)}: expected values as --{flag} takes") from None
    figures = {}
    for value, setting in settings.items():
        print(f"--{flag} {value}")
        figures[value] = measure(argparse.Namespace(**vars(args) | {name: setting}))
    print(f"\n{flag}: rate and peak memory of each side; ratio to the fastest peer")
    for value, found in figures.items():
        print(f"  {value:>12s} {curve_line(found)}")
    return {"curve": flag, "values": figures}


def curve_line(figures: dict[str, Any]) -> str:
    """What `compare` or `compare_each` has found, in one line."""
    best = figures.get("best_peer")
    compared = figures if best is None else figures[f"against {best}"]
    sides = {name: side for name, side in compared.items() if isinstance(side, dict) and "rates" in side}
    taken = {name: side.get("device_peak_mb", side["peak_mb"]) for name, side in sides.items()}
    shown = [
        f"{name} {statistics.median(side['rates']):,.1f}/s, {taken[name]:,} MB"
        for name, side in sides.items()
    ]
    return "; ".join([*shown, f"ratio {spread(compared['ratio'])}"])


def shared_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `parser` has read and every side's setup takes; "device" names the one that `auto` stands for."""
    device = set_up(args.device, args.threads)
    paths = {"model": str(args.model), "data": str(args.data)}
    return paths | {"dtype": args.dtype, "device": str(device), "threads": args.threads}


def write_figures(path: Path | None, figures: dict[str, Any]) -> None:
    """Write the figures, if a file was asked for."""
    if path is not None:
        write_json(path, figures)


def set_up(device: str, threads: int) -> torch.device:
    """The device that `--device` names, and as many threads as `--threads` says (0: as torch has it).

    Both sides get what the commands set on a GPU (runs.pick_device). ValueError for a device that is not
    there.
    """
    import torch

    from mathref.runs import pick_device

    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return pick_device(device)
