"""The grader against Math-Verify in one run: accuracy on labelled cases, time of every pair.

Paper: none (section 9 names no implementation to be compared with).
Choices: each pair is timed alone, without the grader's memory of earlier answers; CPU time is reported beside
wall time, since other work on the machine stretches the latter. Math-Verify (requirements-dev.txt) is called
as its documentation asks, parse and verify, with LaTeX between dollars. The PRM800K and Qwen graders are no
packages.

    python bench/grader.py [--cases FILE]... [--math math_train.jsonl.gz] [--pairs 500] [--json FILE]
"""

from __future__ import annotations

import argparse
import logging
import random
import re
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout, without installation

from mathref import grader  # noqa: E402
from mathref.files import read_jsonl, write_json  # noqa: E402

Pair = tuple[str, str, bool | None]  # gold, pred, expected (None: not labelled)
DEFAULT_CASES = Path(__file__).parent.parent / "tests" / "grader_cases.jsonl"


def math_verify() -> Callable[[str, str], bool] | None:
    """Math-Verify as a function of two answers, or None where it is not installed."""
    try:
        from math_verify import parse, verify
    except ImportError:
        return None
    logging.disable(logging.CRITICAL)  # it reports each of its timeouts

    def wrap(answer: str) -> str:
        return answer if re.search(r"(?<!\\)\$|\\boxed", answer) else f"${answer}$"

    return lambda gold, pred: bool(verify(parse(wrap(gold)), parse(wrap(pred))))


def mathref(gold: str, pred: str) -> bool:
    """This grader, its memory emptied first."""
    grader._read_cached.cache_clear()
    return grader.is_equivalent(gold, pred)


def labelled(paths: list[Path]) -> list[Pair]:
    """The equivalence cases of the given files."""
    rows = [
        record for path in paths for _, record in read_jsonl(path) if record.get("kind", "equiv") == "equiv"
    ]
    return [(row["gold"], row["pred"], row["expected"]) for row in rows]


def math_pairs(path: Path, count: int, seed: int) -> list[Pair]:
    """MATH answers, each against a random other answer of the same problem type."""
    by_subject: dict[str, list[str]] = defaultdict(list)
    for _, record in read_jsonl(path):
        by_subject[record["subject"]].append(record["answer"])
    rng = random.Random(seed)
    subjects = sorted(by_subject)
    return [(*rng.sample(by_subject[rng.choice(subjects)], 2), None) for _ in range(count)]


def measure(function: Callable[[str, str], bool], pairs: list[Pair]) -> dict[str, Any]:
    """Verdicts against labels, and median and 99th percentile of CPU and wall time in microseconds."""
    function("2", "3"), function(r"\sin 1+\sqrt{2}", "x")  # imports happen before the clock starts
    cpu, wall, wrong_true, wrong_false, equal = [], [], 0, 0, 0
    for gold, pred, expected in pairs:
        start = time.process_time_ns(), time.perf_counter_ns()
        try:
            verdict = function(gold, pred)
        except Exception:  # a grader that raises has said no
            verdict = False
        cpu.append((time.process_time_ns() - start[0]) / 1000)
        wall.append((time.perf_counter_ns() - start[1]) / 1000)
        equal += verdict
        wrong_true += expected is False and verdict
        wrong_false += expected is True and not verdict
    right = len(pairs) - wrong_true - wrong_false
    summary = {"pairs": len(pairs), "accuracy": right / len(pairs), "equal": equal}
    summary |= {"false_positives": wrong_true, "false_negatives": wrong_false}
    for name, values in (("cpu", sorted(cpu)), ("wall", sorted(wall))):
        summary[f"{name}_median_us"] = round(statistics.median(values), 1)
        summary[f"{name}_p99_us"] = round(values[min(len(values) - 1, int(0.99 * len(values)))], 1)
        summary[f"{name}_pairs_per_s"] = round(1e6 * len(values) / sum(values), 1)
    return summary


def main(arguments: list[str] | None = None) -> int:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], formatter_class=formatter)
    parser.add_argument(
        "--cases", type=Path, action="append", help=f"labelled cases (default: {DEFAULT_CASES.name})"
    )
    parser.add_argument("--math", type=Path, help="MATH as JSON Lines with answer and subject")
    parser.add_argument("--pairs", type=int, default=500, help="MATH pairs to draw")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn pairs")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    sets = {"cases": labelled(options.cases or [DEFAULT_CASES])}
    if options.math:
        sets["math"] = math_pairs(options.math, options.pairs, options.seed)
    graders: dict[str, Callable[[str, str], bool]] = {"mathref": mathref}
    if (peer := math_verify()) is not None:
        graders["math-verify"] = peer
    results: dict[str, Any] = {}
    for set_name, pairs in sets.items():
        for name, function in graders.items():
            figures = results[f"{set_name}/{name}"] = measure(function, pairs)
            print(
                f"{set_name:6s} {name:12s} "
                + "  ".join(f"{key} {value:g}" for key, value in figures.items()),
                flush=True,
            )
        if len(graders) == 2:
            ours, theirs = (results[f"{set_name}/{name}"]["cpu_median_us"] for name in graders)
            print(f"{set_name:6s} median speed-up {theirs / ours:.0f}x (CPU)")
    if options.json:
        write_json(options.json, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
