"""Turn samples files into tables: Pass@1, Maj1@N, MajK@N, Pass@k with intervals, and paired comparisons.

Paper: the rows of Tables 2 to 7; with --k-curve the curves of Figure 1 that need no evaluator.
Choices [P]: every value carries a 95% interval over problems, and two systems on the same problems are
compared by paired bootstrap and exact McNemar, because the paper's tables leave open which differences are
noise. Files of any engine are read (shape: docs/walkthrough.md); the verdicts stored in them count unless
--regrade is given.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mathref.runs import run_command

if TYPE_CHECKING:
    from mathref.report import System


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="evaluate.py",
        description="Tables of one or more samples files, with 95% intervals (value, then low-high).",
        epilog="A greedy file and a samples file of one model and the same problems are shown as one system.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="what sample.py wrote, or the same shape")
    parser.add_argument("--k-curve", action="store_true", help="Pass@k and maj@k over k, MajK@N over K")
    parser.add_argument("--plot", metavar="IMAGE", default="", help="draw the curves (.png, .pdf, .svg)")
    parser.add_argument("--json", metavar="FILE", default="", help="write every number as JSON")
    parser.add_argument("--regrade", action="store_true", help="extract and judge every answer anew")
    parser.add_argument(
        "--ties",
        default="first",
        choices=["first", "random", "expected"],
        help="which of the largest clusters wins: sampled first, drawn with --seed, or their average",
    )
    parser.add_argument("--seed", type=int, default=0, help="of random ties and of the subsets behind maj@k")
    return parser.parse_args(argv)


def print_tables(systems: list[System], k_curve: bool) -> None:
    """Main table, Pass@k, one table per level and subject, shares; the curves if asked for."""
    from mathref import report

    print("Percent of problems, 95% interval in brackets.\n")
    print(report.main_table(systems))
    sampled = [s for s in systems if s.sampled and s.sampled.n > 1]
    if sampled:
        print(f"\n{report.pass_table(sampled)}")
    for system in systems:
        for by in ("level", "subject"):
            if table := report.group_table(system, by):
                print(f"\n{system.name} by {by}\n{table}")
    print(f"\n{report.share_table(systems)}")
    for system in sampled if k_curve else []:
        print(f"\n{system.name}\n{report.curve_tables(system.sampled)}")


def compare_all(systems: list[System]) -> tuple[list[str], list[dict[str, Any]]]:
    """Compare every later system with the first: what to print, and the same as plain data."""
    from mathref import report

    texts, results = [], []
    for other in systems[1:]:
        title = f"{other.name} - {systems[0].name}"
        try:
            found = report.compare(other, systems[0])
        except ValueError as error:  # different problems: worth a line, no reason to stop
            texts.append(str(error))
            continue
        table = report.comparison_table(found) if found else "no metric in common"
        texts.append(f"{title}, paired by problem, in points\n{table}")
        results.append({"systems": [other.name, systems[0].name], "metrics": [asdict(c) for c in found]})
    return texts, results


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parse_args(argv)
    start = time.perf_counter()
    from mathref import report  # late: sympy and numpy take most of a second, which --help need not wait for
    from mathref.data import read_samples
    from mathref.files import write_json

    scored = []
    for file in args.files:
        meta, problems = read_samples(file)
        problems = report.regrade(problems) if args.regrade else problems
        scored.append(report.score(file, meta, problems, ties=args.ties, seed=args.seed))
    systems = report.join(scored)
    texts, comparisons = compare_all(systems)
    if args.json:
        data = {
            "ties": args.ties,
            "systems": [report.to_json(s) for s in systems],
            "comparisons": comparisons,
        }
        write_json(args.json, data)
    if args.plot:
        report.plot(systems, args.plot)
    print_tables(systems, args.k_curve)
    print("".join(f"\n{text}\n" for text in texts))
    wrote = "".join(f"; wrote {name}" for name in (args.json, args.plot) if name)
    print(f"{time.perf_counter() - start:.1f} s{wrote}")
    if not args.plot and any(s.sampled for s in systems):
        print(f"next: python evaluate.py {' '.join(args.files)} --k-curve --plot curves.png")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
