"""What the study's files say: the paper's tables with intervals and controls, and its eight orderings judged.

Paper: Tables 2 to 7, Figure 1, section 11 (the orderings that would count as reproducing it), section 12
(what its tables lack).
Choices [P]: where training is repeated with several seeds a problem's value is its mean over them, and
intervals and paired tests resample problems, so that they hold the spread of the problems; the spread of
training is shown beside it as the lowest and highest seed. A comparison takes the seeds that both sides
have. An ordering holds where every comparison it consists of has a 95% interval on the right side of what it
claims, does not hold where one lies on the wrong side, and is undecided otherwise. "Flat" and "about equal"
are differences of less than 2 points, "far above" is one of more than 10. "Weak" and "strong" are the first
and the last of the study's sizes, for PaLM 2-S* and PaLM 2-L; a study of one size has neither.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mathref import plots, report, tables
from mathref.files import atomic_write, read_jsonl
from mathref.metrics import PairedDifference, mean_interval, paired_bootstrap
from mathref.report import Scored, System, Table
from mathref.rerank import LIKELIHOOD
from mathref.samples import read_samples
from mathref.selection import first_samples, scored_share, selected_right
from mathref.study import LOG, LOSSES, SIZES, finished

Source = tuple[str, str]  # file and metric
Values = list[float]  # one per problem, sorted by problem id
Verdict = Literal["holds", "does not hold", "undecided", "not measured"]
COST_KS, COST_NS = (1, 2, 4, 8, 16, 64), (4, 16, 64)
FLAT, FAR = 0.02, 0.10  # "flat" and "about equal" are below, "far above" is beyond
PROMPTED = "fewshot"  # in the names of the files of the bases that nothing trains


@dataclass(frozen=True)
class Study:
    """The files of a study, read on demand."""

    folder: Path
    seeds: int
    sizes: tuple[str, ...]
    n: int  # samples a problem

    @functools.cached_property
    def jobs_done(self) -> dict[str, dict[str, Any]]:
        """The records of the study's log, by job; empty where there is none."""
        return finished(self.folder)

    @functools.cache  # noqa: B019 (one study a process)
    def scored(self, name: str, seed: int) -> Scored | None:
        """The samples file NAME.jsonl of one seed with its metrics; None where it is not there, or where the
        log of the study does not say that it is whole.
        """
        path = self.folder / f"seed{seed}" / f"{name}.jsonl"
        if self.jobs_done and f"seed{seed}/{name}" not in self.jobs_done:
            return None
        return report.score(str(path), *read_samples(path)) if path.exists() else None

    def per_seed(self, name: str, metric: str) -> dict[int, Values]:
        """The values of a metric for every seed that has the file; the greedy file is found by its name.

        A file that is still being written, shorter than another seed's, is left out.
        """
        file = f"{name}-greedy" if metric == "Pass@1" else name
        scored = {seed: self.scored(file, seed) for seed in range(self.seeds)}
        found = {seed: s.values[metric] for seed, s in scored.items() if s is not None and metric in s.values}
        longest = max(map(len, found.values()), default=0)
        return {seed: values for seed, values in found.items() if len(values) == longest}

    def seeds_of(self, *sources: Source) -> list[list[Values]]:
        """The values of all `sources` for every seed that each of them has; empty where one was not measured.

        What is compared was thus trained from the same start. A prompted base is not trained: its one file
        stands for every seed.
        """
        measured = [self.per_seed(*source) for source in sources]
        trained = [set(found) for (name, _), found in zip(sources, measured, strict=True)
                   if PROMPTED not in name]  # fmt: skip
        n_problems = {len(values) for found in measured for values in found.values()}
        if not all(measured) or len(n_problems) > 1:  # one is missing or still growing
            return []
        seeds = sorted(set.intersection(*trained)) if trained else [0]
        return [[found.get(seed) or next(iter(found.values())) for found in measured] for seed in seeds]

    def cell(self, name: str, metric: str) -> str:
        """ "38.8 (34.6-43.1)", with several seeds followed by "[37.9-39.6]", the lowest and the highest."""
        seeds = list(self.per_seed(name, metric).values())
        if not seeds:
            return ""
        values = np.mean(seeds, axis=0).tolist()
        interval = mean_interval(values)
        text = f"{100 * interval.value:.1f} ({100 * interval.low:.1f}-{100 * interval.high:.1f})"
        means = [100 * float(np.mean(v)) for v in seeds]
        return text + (f" [{min(means):.1f}-{max(means):.1f}]" if len(seeds) > 1 else "")

    @property
    def maj(self) -> str:
        return f"Maj1@{self.n}"

    @property
    def oracle(self) -> str:
        return f"Pass@{self.n}"


# ---- Tables ------------------------------------------------------------------------------------------

# What the paper measured, Pass@1 / Maj1@64 / Pass@64 for (S*, L) [V], by the last part of a file's name.
PAPER_ROWS = {
    "fewshot-brief": ("few-shot, brief examples", "17.4 / 27.2 / 67.8", "33.4 / 47.6 / 79.4"),
    "fewshot-detailed": ("few-shot, detailed examples", "19.2 / 27.8 / 70.0", "31.4 / 47.2 / 82.4"),
    "brief-test": ("SSFT, brief solutions", "19.8 / 32.4 / 74.8", "32.8 / 49.2 / 82.2"),
    "detailed-test": ("SSFT, detailed solutions", "20.8 / 41.2 / 73.8", "34.8 / 54.2 / 83.4"),
    "both-test": ("SSFT, both", "22.6 / 38.8 / 72.6", "35.6 / 55.2 / 82.8"),
    "mtsf-margin-test": ("MTSF, margin", "", "37.6 / 57.2 / 82.6"),
    "mtsf-xent-test": ("MTSF, cross-entropy", "", "36.2 / 56.6 / 82.2"),
    "control-test": ("SSFT, then SSFT again (control)", "", ""),
}
OTHER_ROWS = {
    "own-test": "SSFT on own correct solutions",
    "joint-0.1-test": "joint, alpha_2 = 0.1",
    "joint-1-test": "joint, alpha_2 = 1",
    "joint-10-test": "joint, alpha_2 = 10",
    "contrastive-0-test": "contrastive, alpha_1 = 0",
    "contrastive-1-test": "contrastive, alpha_1 = 1",
    "contrastive-10-test": "contrastive, alpha_1 = 10",
    "scr-ssft-test": "evaluator first, then SSFT",
    "merged-test": "SSFT, detailed steps on one line",
    "dropped-test": "SSFT, 30% of the steps left out",
    "wrong10-test": "SSFT, 10% of the steps wrong",
    "wrong30-test": "SSFT, 30% of the steps wrong",
}
OTHER_JUDGES = ("scr-first", "joint-0.1", "joint-1", "joint-10")  # evaluators of the part `order`
TRANSFER_ROWS = {
    "detailed-heldout": "SSFT on all families",
    "without-heldout": "SSFT without these families",
    "without-heldout-by-SIZE-without-xent": "the same, RR.Maj8 and W.RR by its evaluator",
}


def generators(study: Study) -> Table | None:
    """Tables 2, 4 and 5: every generator of the headline part."""
    rows = []
    for size in dict.fromkeys(study.sizes):
        for name, (label, *paper) in PAPER_ROWS.items():
            cells = [study.cell(f"{size}-{name}", m) for m in ("Pass@1", study.maj, study.oracle)]
            if any(cells):
                rows.append([size, label, *cells, paper[SIZES.index(size)]])
    head = ["base", "training", "Pass@1", study.maj, study.oracle, "paper, S* and L"]
    return Table(head, rows) if rows else None


def other_generators(study: Study, names: dict[str, str]) -> Table | None:
    """The generators of the other parts, each beside the one that they are compared with."""
    rows, metrics = [], ("Pass@1", study.maj, study.oracle)
    for size in dict.fromkeys(study.sizes):
        found = {name: label for name, label in names.items() if study.cell(f"{size}-{name}", study.maj)}
        for name, label in ({"detailed-test": "SSFT, detailed solutions"} | found if found else {}).items():
            full, reference = f"{size}-{name}", f"{size}-detailed-test"
            gains = [compare(study, [(full, m)], [(reference, m)]) for m in metrics]
            tail = [str(gain) if gain and full != reference else "" for gain in gains]
            rows.append([size, label, *(study.cell(full, m) for m in metrics), *tail])
    head = ["base", "training", *metrics, *(f"{m} - detailed" for m in metrics)]
    return Table(head, rows) if rows else None


def judged(size: str, generator: str, evaluator: str) -> str:
    """The name of the file with the scores that `evaluator` gave to `generator`'s test candidates."""
    return f"{size}-{generator}-by-{evaluator}"


def rules(study: Study) -> Table | None:
    """Tables 3 and 6, and the combined recipe: what each rule makes of which evaluator's scores."""
    weak, strong = study.sizes[0], study.sizes[-1]
    pairs = [(size, "detailed-test", f"{size}-{loss}") for size in (weak, strong) for loss in LOSSES]
    pairs += [(size, "detailed-test", LIKELIHOOD) for size in (weak, strong)]
    pairs += [(strong, "detailed-test", f"{weak}-xent"), (weak, "detailed-test", f"{strong}-xent")]
    pairs += [(strong, "mtsf-xent-test", f"{strong}-xent")]
    pairs += [(strong, "detailed-test", f"{strong}-{name}") for name in OTHER_JUDGES]
    names = ("RR.All", "RR.Maj8", "W.RR", "W.RR.Maj8", "Maj1.Top8")
    rows = []
    for size, generator, evaluator in dict.fromkeys(pairs):
        name = judged(size, generator, evaluator)
        cells = [study.cell(name, rule) for rule in names]
        if any(cells):
            shown = f"{size}-{generator.removesuffix('-test')}"
            rows.append([evaluator, shown, study.cell(name, study.maj), *cells])
    return Table(["evaluator", "generator", study.maj, *names], rows) if rows else None


def chosen(study: Study, size: str, loss: str) -> Table | None:
    """Table 7 for one evaluator: K and n chosen on validation, and the optimistic choice, seed 0."""
    test = study.scored(judged(size, "detailed-test", f"{size}-{loss}"), 0)
    validation = study.scored(judged(size, "detailed-validation", f"{size}-{loss}"), 0)
    if test is None or validation is None:
        return None
    return tables.selection_table(tables.selections(test, validation, optimistic=True))


def quality(study: Study) -> Table | None:
    """How well each evaluator ranks and how calibrated it is, seed 0."""
    found = []
    for size in dict.fromkeys(study.sizes):
        for name in (*(f"{size}-{judge}" for judge in (*LOSSES, *OTHER_JUDGES)), LIKELIHOOD):
            test = study.scored(judged(size, "detailed-test", name), 0)
            validation = study.scored(judged(size, "detailed-validation", name), 0)
            measured = tables.evaluator_quality(test, validation) if test else None
            if measured:
                found.append((name if size in name else f"{size}, {name}", measured))
    return tables.quality_table(found) if found else None


def cost_grid(study: Study, size: str) -> Table | None:
    """RR.MajK over K and N: accuracy, share of candidates scored, evaluator calls and time a problem."""
    scored = study.scored(judged(size, "detailed-test", f"{size}-xent"), 0)
    if scored is None:
        return None
    spent = tables.cost(scored)
    per_call = (spent["seconds"] or 0.0) / max(1, spent["calls"])
    rows = []
    for n in [n for n in COST_NS if n < scored.n] + [scored.n]:
        problems, clusters = first_samples(scored.problems, scored.clusters, n)
        for k in COST_KS:
            texts = [
                {p.samples[i].text for members in found[:k] for i in members}
                for p, found in zip(problems, clusters, strict=True)
            ]
            calls = sum(map(len, texts)) / len(problems)
            right = report.percent(selected_right(problems, clusters, "rr.majk", k))
            share = 100 * scored_share(problems, clusters, "rr.majk", k)
            time_ms = f"{1000 * calls * per_call:.0f}"
            rows.append([str(n), str(k), right, f"{share:.1f}", f"{calls:.1f}", time_ms])
    return Table(["N", "K", "RR.MajK", "scored %", "calls a problem", "ms a problem"], rows)


def costs(study: Study) -> Table | None:
    """What each job took: wall time, processor time, peak memory, tokens or evaluator calls, seed 0."""
    rows = []
    for name, record in study.jobs_done.items():
        if name.startswith("seed0/"):
            short = name.removeprefix("seed0/")
            memory = "" if record.get("peak_mb") is None else f"{record['peak_mb']:,}"
            cpu = "" if record.get("cpu_s") is None else f"{record['cpu_s']:.0f}"
            last = ">" if record.get("resumed") else ""  # the log has the time of the last part only
            cells = [f"{last}{record['seconds']:.0f}", cpu and last + cpu, memory, _work(study, short)]
            rows.append([short, *cells])
    return Table(["job", "seconds", "processor s", "peak MB", "work"], rows) if rows else None


def _work(study: Study, name: str) -> str:
    """Tokens trained on or written, or evaluator calls."""
    metrics = study.folder / "seed0" / name / "metrics.jsonl"
    if metrics.exists():
        return f"{[line for _, line in read_jsonl(metrics)][-1]['tokens']:,} tokens"
    scored = study.scored(name, 0)
    if scored is None:
        return ""
    if "-by-" in name:
        return f"{tables.cost(scored)['calls']:,} calls"
    return f"{sum(s.tokens or 0 for p in scored.problems for s in p.samples):,} tokens"


def transfer(study: Study) -> Table | None:
    """Held-out families: what generator and evaluator are worth on problems of a kind they never saw."""
    size = study.sizes[-1]
    rows = []
    for name, label in TRANSFER_ROWS.items():
        full = f"{size}-{name.replace('SIZE', size)}"
        cells = [study.cell(full, m) for m in ("Pass@1", study.maj, "RR.Maj8", "W.RR", study.oracle)]
        if any(cells):
            rows.append([size, label, *cells])
    head = ["base", "training", "Pass@1", study.maj, "RR.Maj8", "W.RR", study.oracle]
    return Table(head, rows) if rows else None


# ---- The eight orderings -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference(PairedDifference):
    """The mean over seeds of a paired difference, and that of each seed."""

    by_seed: tuple[float, ...] = ()

    def __str__(self) -> str:
        """In points: "+3.9 (+1.5 to +6.4)", with several seeds "[+3.8 to +4.0]", the lowest and highest."""
        mean, low, high = (f"{100 * value:+.1f}" for value in (self.difference, self.low, self.high))
        seeds = [f"{100 * value:+.1f}" for value in (min(self.by_seed), max(self.by_seed))]
        return f"{mean} ({low} to {high})" + (f" [{' to '.join(seeds)}]" if len(self.by_seed) > 1 else "")


@dataclass(frozen=True)
class Expectation:
    """One paired difference, and where an ordering of the paper says that it lies."""

    label: str
    difference: Difference | None
    expected: Literal["above", "far above", "below", "not above", "equal"]

    @property
    def verdict(self) -> Verdict:
        d = self.difference
        if d is None:
            return "not measured"
        lowest, highest = {
            "above": (0.0, math.inf),
            "far above": (FAR, math.inf),
            "below": (-math.inf, 0.0),
            "not above": (-math.inf, FLAT),
            "equal": (-FLAT, FLAT),
        }[self.expected]
        if lowest < d.low and d.high < highest:
            return "holds"
        return "does not hold" if d.high < lowest or d.low > highest else "undecided"


def overall(comparisons: Sequence[Expectation]) -> Verdict:
    """Holds if all do; does not hold if one does not; else undecided, or not measured where nothing was."""
    verdicts: list[Verdict] = [c.verdict for c in comparisons]
    if not verdicts or all(v == "not measured" for v in verdicts):
        return "not measured"
    if "does not hold" in verdicts:
        return "does not hold"
    return "holds" if all(v == "holds" for v in verdicts) else "undecided"


def compare(study: Study, plus: Sequence[Source], minus: Sequence[Source]) -> Difference | None:
    """What the files `plus` have more than `minus`, summed problem by problem; None where one is missing."""
    found = np.array(study.seeds_of(*plus, *minus))  # (seeds, sources, problems)
    if not found.size:
        return None
    a, b = found[:, : len(plus)].sum(axis=1), found[:, len(plus) :].sum(axis=1)
    paired = paired_bootstrap(a.mean(axis=0).tolist(), b.mean(axis=0).tolist())
    return Difference(*astuple(paired), by_seed=tuple((a - b).mean(axis=1).tolist()))


def orderings(study: Study) -> list[tuple[str, list[Expectation]]]:
    """Section 11 of the specification, one by one, as paired comparisons."""
    weak, strong, maj, oracle = study.sizes[0], study.sizes[-1], study.maj, study.oracle
    own = {size: judged(size, "detailed-test", f"{size}-xent") for size in (weak, strong)}
    margin = judged(strong, "detailed-test", f"{strong}-margin")

    def expect(label: str, a: Source, b: Source, expected: str = "above") -> Expectation:
        return Expectation(label, compare(study, [a], [b]), expected)  # type: ignore[arg-type]

    rows = [f"{size}-{name}" for size in dict.fromkeys((weak, strong)) for name in PAPER_ROWS]
    first = [c for row in rows if study.per_seed(row, maj) for c in (
        expect(f"{row}: {oracle} - {maj}", (row, oracle), (row, maj), "far above"),
        expect(f"{row}: {maj} - Pass@1", (row, maj), (row, "Pass@1")),
    )]  # fmt: skip
    sizes = tuple(dict.fromkeys((weak, strong)))
    style = [expect(f"{s}: detailed - brief, {maj}", (f"{s}-detailed-test", maj), (f"{s}-brief-test", maj))
             for s in sizes]  # fmt: skip
    mtsf = [(f"{strong}-mtsf-{loss}-test", loss) for loss in LOSSES]
    base, control = f"{strong}-detailed-test", f"{strong}-control-test"
    return [
        (f"{oracle} far above {maj}, above Pass@1, in every row", first),
        (f"detailed solutions beat brief ones in {maj}", style),
        ("that gap is one of fine-tuning, not of prompting", [_style_interaction(study, s) for s in sizes]),
        ("RR.Maj8 beats RR.All", [
            expect(f"{s}: RR.Maj8 - RR.All", (own[s], "RR.Maj8"), (own[s], "RR.All")) for s in sizes]),
        ("a strong evaluator beats Maj1, a weak one does not", [
            expect(f"{size}: RR.Maj8 - {maj}", (own[size], "RR.Maj8"), (own[size], maj), expected)
            for size, expected in ((strong, "above"), (weak, "not above"))
            if weak != strong]),
        ("a strong evaluator helps a weak generator, a weak one hurts a strong one", [
            expect(f"{evaluator} over {size}: RR.Maj8 - {maj}",
                   *[(judged(size, "detailed-test", f"{evaluator}-xent"), m) for m in ("RR.Maj8", maj)],
                   expected)
            for evaluator, size, expected in ((strong, weak, "above"), (weak, strong, "below"))
            if weak != strong]),
        ("weighted voting is the best rule; the two losses are about equal", [
            expect(f"{strong}: W.RR.Maj8 - RR.Maj8", (own[strong], "W.RR.Maj8"), (own[strong], "RR.Maj8")),
            expect(f"{strong}: W.RR.Maj8 - {maj}", (own[strong], "W.RR.Maj8"), (own[strong], maj)),
            expect(f"{strong}: W.RR.Maj8, margin - cross-entropy", (margin, "W.RR.Maj8"),
                   (own[strong], "W.RR.Maj8"), "equal")]),
        (f"MTSF lifts Pass@1 and {maj} and leaves {oracle} flat or lower", [
            c for name, loss in mtsf for c in (
                expect(f"MTSF {loss} - SSFT, Pass@1", (name, "Pass@1"), (base, "Pass@1")),
                expect(f"MTSF {loss} - SSFT, {maj}", (name, maj), (base, maj)),
                expect(f"MTSF {loss} - SSFT, {oracle}", (name, oracle), (base, oracle), "not above"),
                expect(f"MTSF {loss} - control, {maj}", (name, maj), (control, maj)))]),
    ]  # fmt: skip


def _style_interaction(study: Study, size: str) -> Expectation:
    """(detailed - brief) after fine-tuning minus the same after prompting, in Maj1, paired by problem."""
    names = ("detailed-test", "brief-test", "fewshot-detailed", "fewshot-brief")
    a, b, c, d = ((f"{size}-{name}", study.maj) for name in names)
    gap = compare(study, (a, d), (b, c))
    return Expectation(f"{size}: gap fine-tuned - gap prompted, {study.maj}", gap, "above")


def ordering_table(found: Sequence[tuple[str, list[Expectation]]]) -> Table:
    """One row a comparison, under the ordering that it belongs to."""
    rows = []
    for number, (claim, comparisons) in enumerate(found, start=1):
        rows.append([f"**{number}. {claim}**", "", f"**{overall(comparisons)}**"])
        rows += [[c.label, str(c.difference), c.verdict] for c in comparisons if c.difference]
    return Table(["ordering of the paper", "difference in points, 95%", "verdict"], rows)


def headline(study: Study) -> str | None:
    """The best full recipe against voting by the base, prompted in either style.

    The paper gains 11.2 with SSFT and RR.Top-8 over brief examples; it reports no MTSF with an evaluator.
    """
    strong = study.sizes[-1]
    best = (judged(strong, "mtsf-xent-test", f"{strong}-xent"), "W.RR.Maj8")
    gains = []
    for style in ("brief", "detailed"):
        base = (f"{strong}-fewshot-{style}", study.maj)
        if difference := compare(study, [best], [base]):
            prompted = f"with {study.maj} and {style} examples {study.cell(*base)}"
            gains.append(f"{prompted}, gain {difference} points")
    if not gains:
        return None
    return (
        f"MTSF generator, evaluator and W.RR.Maj8 on {strong}: {study.cell(*best)}. The prompted base: "
        f"{'; '.join(gains)} (the paper's +11.2, 58.8 against 47.6, is of SSFT with "
        "RR.Top-8 against brief examples)."
    )


# ---- The page ----------------------------------------------------------------------------------------


def figures(study: Study) -> list[Path]:
    """Figure 1 and accuracy against N of the evaluators, calibration, and Pass@k and maj@k; seed 0."""
    made: list[Path] = []
    folder = study.folder / "figures"
    systems: list[System] = []
    validation: dict[str, Scored | None] = {}
    for size in dict.fromkeys(study.sizes):
        test = study.scored(judged(size, "detailed-test", f"{size}-xent"), 0)
        if test:
            systems.append(System(f"{size}, cross-entropy evaluator", test, None, test.values))
            name = judged(size, "detailed-validation", f"{size}-xent")
            validation[test.file] = study.scored(name, 0)
    if not systems:
        return made
    folder.mkdir(parents=True, exist_ok=True)
    drawings: dict[str, Callable[[Path], None]] = {
        "figure1.png": lambda path: plots.plot_selection(systems, path),
        "calibration.png": lambda path: plots.plot_calibration(systems, validation, path),
        "curves.png": lambda path: plots.plot(systems, path),
    }
    for name, draw in drawings.items():
        draw(folder / name)
        made.append(folder / name)
    return made


def write(folder: Path, seeds: int, sizes: Sequence[str], n: int) -> Path:
    """Write FOLDER/RESULTS.md and the figures beside it from the files that are there; returns its path."""
    study = Study(folder, seeds, tuple(sizes), n)
    strong = study.sizes[-1]
    found = orderings(study)
    parts: list[tuple[str, Table | str | None]] = [
        ("Headline", headline(study)),
        ("The paper's eight orderings", ordering_table(found)),
        ("Generators (Tables 2, 4 and 5)", generators(study)),
        ("Evaluators and rules (Tables 3 and 6, and both recipes in one)", rules(study)),
    ]
    parts += [
        (f"Rules of {size}, {loss} evaluator, K and n chosen on validation (Table 7; seed 0)",
         chosen(study, size, loss))
        for size in dict.fromkeys(study.sizes) for loss in LOSSES
    ]  # fmt: skip
    parts += [
        ("Evaluators as classifiers (seed 0)", quality(study)),
        ("Other solutions, orders and objectives", other_generators(study, OTHER_ROWS)),
        ("Held-out families", transfer(study)),
        (f"Cost of RR.MajK with {strong} (seed 0)", cost_grid(study, strong)),
        ("Cost of the jobs (seed 0)", costs(study)),
    ]
    lines = [f"# Study in {folder.name}: N = {n}, {seeds} seed{'s' * (seeds > 1)}", ""]
    for title, part in parts:
        if part:
            lines += [f"## {title}", "", part if isinstance(part, str) else part.markdown(), ""]
    lines += [f"![{path.stem}](figures/{path.name})" for path in figures(study)]
    lines += ["", f"Every command with its time and memory is in {LOG} beside this page.", ""]
    path = folder / "RESULTS.md"
    with atomic_write(path) as page:
        page.write("\n".join(lines).encode())
    return path
