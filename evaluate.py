"""Turn samples files into tables: Pass@1, Maj1@N, MajK@N, Pass@k, the selection rules of scored files.

Paper: the rows of Tables 2 to 7; with --k-curve and --rerank-plot the curves of Figure 1.
Choices [P]: every value carries a 95% interval over problems, and two systems, or a selection rule and Maj1,
are compared on the same problems by a bootstrap interval, a permutation test and exact McNemar, because the
paper's tables leave open which differences are noise. K and n are chosen on --validation files; the best ones
on the evaluated problems are shown beside them, marked optimistic. Files of any engine are read (shape:
mathref/samples.py); the verdicts stored in them count unless --regrade is given.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mathref.files import keep_apart
from mathref.rerank import DEFAULT_K, TIES
from mathref.runs import VERSION, HelpFormatter, check_least, run_command, spelled

if TYPE_CHECKING:
    from mathref.report import Scored, System, Table


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Tables of one or more samples files, with 95%% intervals (value, then low-high).",
        epilog="A greedy file and a samples file of one model and the same problems are shown as one system.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="what sample.py or rerank.py wrote, or alike"
    )
    add = parser.add_argument_group("what to show").add_argument
    add("--k-curve", action="store_true", help="Pass@k and maj@k over k; MajK@N and the rules over K and N")
    add("--adaptive", action="store_true", help="adaptive stopping: accuracy against samples spent")
    add("--simulate", action="store_true", help="the rules with simulated evaluators: how good must one be?")
    add("--plot", metavar="IMAGE", default="", help="draw the curves that need no scores (.png, .pdf, .svg)")
    add(
        "--rerank-plot",
        metavar="IMAGE",
        default="",
        help="draw Figure 1 and accuracy against N, scored files",
    )
    add("--calibration-plot", metavar="IMAGE", default="", help="draw how true the scores are (scored files)")
    add("--markdown", action="store_true", help="print the tables as Markdown")
    add("--json", metavar="FILE", default="", help="write every number as JSON")
    add = parser.add_argument_group("how to count").add_argument
    add("--regrade", action="store_true", help="extract and judge every answer anew")
    add("--skip-bad-lines", action="store_true", help="leave bad lines of the files out, and list them")
    add("--k", type=int, metavar="K", default=DEFAULT_K, help="K (and n) of RR.MajK, W.RR.MajK and Maj1.TopN")
    add(
        "--validation",
        nargs="+",
        metavar="FILE",
        default=[],
        help="scored samples of validation problems by the same generator and evaluator: K, n and the "
        "temperature of the scores are chosen there",
    )
    add(
        "--ties",
        default="first",
        choices=TIES,
        help="which of the largest clusters wins: sampled first, drawn with --seed, or their average; "
        "selection rules always take the one sampled first",
    )
    add("--seed", type=int, default=0, help="of random ties and of the subsets behind maj@k")
    parser.add_argument("--version", action="version", version=VERSION)
    args = parser.parse_args(argv)
    check_least(args, k=1, seed=0)
    files = [os.path.realpath(file) for file in args.files]
    if twice := [given for place, given in enumerate(args.files) if files.index(files[place]) < place]:
        raise ValueError(f"FILE {twice[0]}: is given twice; a file is one system")
    images = {
        "--plot": args.plot,
        "--rerank-plot": args.rerank_plot,
        "--calibration-plot": args.calibration_plot,
    }
    keep_apart({"FILE": args.files, "--validation": args.validation}, {"--json": args.json, **images})
    return args


def read_scored(files: list[str], args: argparse.Namespace) -> list[Scored]:
    """Read samples files and work out their metrics."""
    from mathref import report
    from mathref.samples import read_samples_noted

    scored = []
    for file in files:
        meta, problems, notes = read_samples_noted(file, skip_bad_lines=args.skip_bad_lines)
        for note in notes:
            print(note, file=sys.stderr)
        problems = report.regrade(problems) if args.regrade else problems
        scored.append(report.score(file, meta, problems, ties=args.ties, seed=args.seed, k=args.k))
    return scored


def show(title: str, table: Table, markdown: bool) -> None:
    """Print a table below an empty line and its title, if it has one."""
    heading = f"\n{title}" if title else ""
    print(heading, table.markdown() if markdown else table, sep="\n\n" if heading and markdown else "\n")


def print_tables(systems: list[System], args: argparse.Namespace) -> None:
    """Main table, Pass@k, one table per level and subject, shares; the curves if asked for."""
    from mathref import report, tables
    from mathref.adaptive import replay
    from mathref.simulated import simulate

    print("Percent of problems, 95% interval in brackets.")
    show("", report.main_table(systems), args.markdown)
    sampled = [s for s in systems if s.sampled and s.sampled.n > 1]
    if sampled:
        show("", report.pass_table(sampled), args.markdown)
    for system in systems:
        for by in ("level", "subject"):
            if table := report.group_table(system, by):
                show(f"{system.name} by {by}", table, args.markdown)
    show("", report.share_table(systems), args.markdown)
    for system in sampled if args.k_curve else []:
        samples, clusters = report.curve_tables(system.sampled)
        show(system.name, samples, args.markdown)
        show("", clusters, args.markdown)
    for system in sampled if args.adaptive else []:
        stopped = replay(system.sampled.problems, system.sampled.clusters)
        show(f"{system.name}, adaptive stopping", tables.adaptive_table(stopped), args.markdown)
    for system in sampled if args.simulate else []:
        found = simulate(system.sampled.problems, system.sampled.clusters, k=args.k, seed=args.seed)
        show(f"{system.name}, simulated evaluators", tables.simulated_table(found, args.k), args.markdown)


def print_selection(
    systems: list[System], validation: dict[str, Scored | None], args: argparse.Namespace
) -> None:
    """The tables of scored files: rules side by side, each against Maj1, cost, quality of the scores."""
    from mathref import tables

    overview = tables.evaluator_table(systems) if args.markdown else tables.strategy_table(systems)
    show("Selection by an evaluator's scores", overview, args.markdown)
    qualities = []
    for system in systems:
        chosen = validation[system.sampled.file]
        source = f", K and n chosen on {chosen.file}" if chosen else ""
        found = tables.selections(system.sampled, chosen, optimistic=args.k_curve or bool(args.validation))
        show(f"{system.name}: rules against Maj1, paired by problem, in points{source}",
             tables.selection_table(found), args.markdown)  # fmt: skip
        if quality := tables.evaluator_quality(system.sampled, chosen):
            qualities.append((system.name, quality))
        if args.k_curve:
            curve, prefix = tables.strategy_curve_table(system.sampled), tables.prefix_table(system.sampled)
            show(f"{system.name}: rules over K (n), Figure 1", curve, args.markdown)
            show(f"{system.name}: rules on the first N samples", prefix, args.markdown)
    if qualities:
        show("Scores of right and wrong candidates", tables.quality_table(qualities), args.markdown)
    show("Cost", tables.cost_table([s.sampled for s in systems]), args.markdown)


def compare_all(systems: list[System], markdown: bool) -> tuple[list[str], list[dict[str, Any]]]:
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
        table = report.comparison_table(found)
        text = "no metric in common" if not found else table.markdown() if markdown else str(table)
        texts.append(f"{title}, paired by problem, in points\n" + ("\n" if markdown else "") + text)
        results.append({"systems": [other.name, systems[0].name], "metrics": [asdict(c) for c in found]})
    return texts, results


def match_validation(systems: list[System], args: argparse.Namespace) -> dict[str, Scored | None]:
    """The validation file of every scored file, None without one; one that is not used is refused."""
    from mathref.tables import matching_validation, other_decoding, pair_key

    given = read_scored(args.validation, args)
    if bare := [v.file for v in given if not v.is_scored]:
        raise ValueError(f"--validation {bare[0]}: holds no scores; score it with rerank.py")
    found = {s.sampled.file: matching_validation(s.sampled, given) for s in systems}
    used = {pair_key(v): v.file for v in found.values() if v}
    for v in given:
        taken = used.get(pair_key(v))
        if taken is None:
            raise ValueError(
                f"--validation {v.file}: no evaluated file has its generator and evaluator (with the same "
                "prompt, dtype and temperature of the scores)"
            )
        if taken != v.file:
            raise ValueError(
                f"--validation {v.file}: {taken} is of the same generator and evaluator and was taken "
                "already; name one of the two"
            )
    for s in systems:
        v = found[s.sampled.file]
        if v and (differing := other_decoding(s.sampled, v)):
            print(
                f"note: --validation {v.file}: its candidates were drawn otherwise than those of "
                f"{s.sampled.file} ({differing}); what is best there need not be best here",
                file=sys.stderr,
            )
    return found


def draw(systems: list[System], scored: list[System], validation: dict[str, Scored | None],
         args: argparse.Namespace) -> None:  # fmt: skip
    """Make the images that were asked for."""
    from mathref import plots

    if args.plot:
        plots.plot(systems, args.plot)
    if args.rerank_plot:
        plots.plot_selection(scored, args.rerank_plot)
    if args.calibration_plot:
        plots.plot_calibration(scored, validation, args.calibration_plot)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parse_args(argv)
    start = time.perf_counter()
    from mathref import report, tables  # late: sympy and numpy take most of a second, --help need not wait
    from mathref.files import write_json

    systems = report.join(read_scored(args.files, args))
    sampled = [s for s in systems if s.sampled and s.sampled.n > 1]
    scored = [s for s in sampled if s.sampled.is_scored]
    validation = match_validation(scored, args)
    texts, comparisons = compare_all(systems, args.markdown)
    if args.json:
        data: dict[str, Any] = {"ties": args.ties, "k": args.k, "systems": [], "comparisons": comparisons}
        for s in systems:
            chosen = validation.get(s.sampled.file) if s.sampled else None
            more = tables.to_json(s, chosen, adaptive=args.adaptive) if s in sampled else {}
            data["systems"].append(report.to_json(s) | more)
        write_json(args.json, data)
    draw(systems, scored, validation, args)
    print_tables(systems, args)
    if scored:
        print_selection(scored, validation, args)
    print("".join(f"\n{text}\n" for text in texts))
    images = (args.plot, args.rerank_plot, args.calibration_plot)
    wrote = "".join(f"; wrote {name}" for name in (args.json, *images) if name)
    print(f"{time.perf_counter() - start:.1f} s{wrote}")
    if sampled and not any(images):
        image = ("--rerank-plot", "figure1.png") if scored else ("--plot", "curves.png")
        print(f"next: {spelled('evaluate.py', *args.files, '--k-curve', *image)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
