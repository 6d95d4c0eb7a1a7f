"""Samples files reduced to one value per problem, and the tables and plots made of them.

Paper: the columns of Tables 2 to 7 (Pass@1, Maj1@64, Pass@64) and the curves of Figure 1.
Choices: the paper gives no intervals; every value here has its 95% interval over problems [P]. Pass@1 is the
greedy solution; the accuracy of single samples is named mean@N. A greedy file and a samples file of the same
model, prompt and problems are shown as one system, as a row of the paper's tables is. Solutions without an
answer count in N; a problem without samples counts as unsolved [P].
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mathref.data import Sample, SampledProblem
from mathref.metrics import (
    McNemar,
    PairedDifference,
    Ties,
    maj_at_k,
    majk_at_n,
    mcnemar,
    mean_interval,
    paired_bootstrap,
    pass_at_k,
)
from mathref.rerank import Cluster, cluster, pair_cache

MAJ_K = 8  # the K of the paper's headline (Table 3)
CLUSTER_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 60, 100)  # values of K in the cluster curve
# Okabe and Ito's palette, told apart under every common form of colour blindness; black last, yellow left
# out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class Scored:
    """A samples file with one value per problem for every metric; problems are sorted by id."""

    file: str
    meta: dict[str, Any]
    problems: tuple[SampledProblem, ...]
    clusters: tuple[list[Cluster], ...]
    n: int  # samples per problem; the most, where problems differ
    n_least: int  # the fewest a problem with samples has: Pass@k exists up to this k
    greedy: bool
    values: dict[str, list[float]]
    ties: Ties
    seed: int

    @functools.cached_property
    def sample_curve(self) -> dict[int, dict[str, list[float]]]:
        """For k = 1, 2, 4, ... samples: Pass@k ("pass") and maj@k ("maj") of every problem."""
        curve: dict[int, dict[str, list[float]]] = {}
        for k in powers_of_two(self.n_least):
            curve[k] = {"pass": [], "maj": []}
            for flags, clusters in zip(self.flags, self.clusters, strict=True):
                maj = maj_at_k(flags, clusters, k, ties=self.ties, seed=self.seed) if flags else 0.0
                curve[k]["pass"].append(pass_at_k(len(flags), sum(flags), k) if flags else 0.0)
                curve[k]["maj"].append(maj)
        return curve

    @functools.cached_property
    def cluster_curve(self) -> dict[int, dict[str, Any]]:
        """For K clusters: MajK@N of every problem ("majk"), and the share of all samples that they hold.

        The share is what a top-K re-ranking would have to score (Figure 1, right).
        """
        most = max(1, *map(len, self.clusters))
        total = sum(map(len, self.flags))
        curve: dict[int, dict[str, Any]] = {}
        for k in [k for k in CLUSTER_COUNTS if k < most] + [most]:
            majority = zip(self.flags, self.clusters, strict=True)
            values = [majk_at_n(f, c, k, ties=self.ties, seed=self.seed) for f, c in majority]
            held = sum(len(members) for clusters in self.clusters for members in clusters[:k])
            curve[k] = {"majk": values, "share": held / total}
        return curve

    @property
    def flags(self) -> list[list[bool]]:
        """The stored verdicts, one list per problem."""
        return [[s.correct for s in p.samples] for p in self.problems]


@dataclass(frozen=True)
class System:
    """What one row of the main table shows: samples, the greedy solution, or both of one model."""

    name: str
    sampled: Scored | None
    greedy: Scored | None
    values: dict[str, list[float]] = field(repr=False)

    @property
    def problems(self) -> tuple[SampledProblem, ...]:
        return (self.sampled or self.greedy).problems  # type: ignore[union-attr]

    @property
    def parts(self) -> list[Scored]:
        return [part for part in (self.greedy, self.sampled) if part is not None]


# ---- from samples to values --------------------------------------------------------------------------


def regrade(problems: Iterable[SampledProblem]) -> list[SampledProblem]:
    """Extract and judge every answer anew with the g of this version, whatever the file says."""
    from mathref.grader import extract_answer, is_equivalent

    result = []
    for problem in problems:
        verdicts: dict[str | None, bool] = {None: False}
        samples = []
        for sample in problem.samples:
            answer = extract_answer(sample.text)
            if answer not in verdicts:
                verdicts[answer] = is_equivalent(answer, problem.answer)
            samples.append(dataclasses.replace(sample, answer=answer, correct=verdicts[answer]))
        result.append(dataclasses.replace(problem, samples=tuple(samples)))
    return result


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4, ... below n, and n itself."""
    return [1 << i for i in range(n.bit_length()) if 1 << i < n] + [n]


def score(
    file: str,
    meta: dict[str, Any],
    problems: Sequence[SampledProblem],
    *,
    ties: Ties = "first",
    seed: int = 0,
) -> Scored:
    """Cluster each problem's answers and work out every metric for every problem."""
    if not problems:
        raise ValueError(f"{file}: holds no problems yet; sample.py writes them")
    ordered = tuple(sorted(problems, key=lambda p: p.id))
    counts = [len(p.samples) for p in ordered]
    n, n_least = max(counts), min((count for count in counts if count), default=0)
    if n == 0:
        raise ValueError(f"{file}: no problem has a sample; expected at least one solution a problem")
    equivalent = pair_cache()
    clusters = tuple(cluster([s.answer for s in p.samples], equivalent) for p in ordered)
    flags = [[s.correct for s in p.samples] for p in ordered]
    greedy = n == 1 and meta.get("temperature", 0) == 0  # a foreign file with one solution is taken as greedy
    if greedy:
        values = {"Pass@1": [float(any(f)) for f in flags]}
    else:
        majority = list(zip(flags, clusters, strict=True))
        values = {f"mean@{n}": [sum(f) / len(f) if f else 0.0 for f in flags]}
        if n > 1:
            for k in (1, MAJ_K):
                values[f"Maj{k}@{n}"] = [majk_at_n(f, c, k, ties=ties, seed=seed) for f, c in majority]
            for k in powers_of_two(n_least)[1:]:
                values[f"Pass@{k}"] = [pass_at_k(len(f), sum(f), k) if f else 0.0 for f in flags]
            values[f"Pass@{n}"] = [float(any(f)) for f in flags]
    return Scored(file, meta, ordered, clusters, n, n_least, greedy, values, ties, seed)


def _join_key(scored: Scored) -> Hashable:
    """What a greedy file and a samples file must share to be one system; None where the file does not say."""
    meta = scored.meta
    if not meta.get("model_digest"):
        return None
    prompt = tuple(str(meta.get(name)) for name in ("model_digest", "few_shot", "style", "shots"))
    return (*prompt, same_problems_key(scored.problems))


def same_problems_key(problems: Sequence[SampledProblem]) -> Hashable:
    """Equal for two files exactly if they cover the same problems (id and text)."""
    return tuple((p.id, p.problem) for p in problems)


def _name(scored: Scored) -> str:
    model = str(scored.meta.get("model") or Path(scored.file).name.split(".")[0])
    shots = scored.meta.get("few_shot")
    return f"{model} {shots}-shot {scored.meta.get('style') or ''}".strip() if shots else model


def join(files: Sequence[Scored]) -> list[System]:
    """One system per samples file, with the greedy file of the same model and problems beside it, in order.

    A greedy file that no samples file takes stands for itself. Systems of one name get their file names
    added.
    """
    greedy = {key: f for f in files if f.greedy and (key := _join_key(f)) is not None}
    taken = {id(partner) for f in files if not f.greedy and (partner := greedy.get(_join_key(f)))}
    rows = [f for f in files if not (f.greedy and id(f) in taken)]
    names = [_name(f) for f in rows]
    systems = []
    for f, name in zip(rows, names, strict=True):
        if names.count(name) > 1:
            name = f"{name} ({Path(f.file).name.split('.jsonl')[0]})"
        partner = None if f.greedy else greedy.get(_join_key(f))
        values = {**(partner.values if partner else {}), **f.values}
        systems.append(System(name, None if f.greedy else f, f if f.greedy else partner, values))
    return systems


# ---- tables ------------------------------------------------------------------------------------------


def percent(values: Sequence[float]) -> str:
    """Mean of 0..1 values as "35.6 (31.5-39.9)"."""
    interval = mean_interval(values)
    return f"{100 * interval.value:.1f} ({100 * interval.low:.1f}-{100 * interval.high:.1f})"


def format_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns aligned by spaces, the first to the left, the others to the right."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append("  ".join([row[0].ljust(widths[0]), *rest]).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def headline_metrics(system: System) -> list[str]:
    """The metrics of the main table, in its order: Pass@1, mean, Maj1, Maj8 and the oracle Pass@N."""
    n = system.sampled.n if system.sampled else 1
    wanted = [
        "Pass@1",
        *([f"mean@{n}", f"Maj1@{n}", f"Maj{MAJ_K}@{n}", f"Pass@{n}"] if system.sampled else []),
    ]
    return [name for name in wanted if name in system.values]


def main_table(systems: Sequence[System]) -> str:
    """One row per system: Pass@1, mean@N, Maj1@N, Maj8@N, Pass@N, in percent with their intervals."""
    kinds = ("Pass@1", "mean", "Maj1", f"Maj{MAJ_K}", "Pass")
    named = [{_kind(name): name for name in headline_metrics(system)} for system in systems]
    shown = [kind for kind in kinds if any(kind in names for names in named)]
    rows = []
    for system, names in zip(systems, named, strict=True):
        cells = [percent(system.values[names[kind]]) if kind in names else "" for kind in shown]
        rows.append([system.name, str(len(system.problems)), _samples(system.sampled), *cells])
    head = [kind if kind == "Pass@1" else f"{kind}@N" for kind in shown]
    return format_table(["system", "problems", "N", *head], rows)


def _kind(name: str) -> str:
    """What a metric is without its N: "Maj1@64" -> "Maj1"; the greedy "Pass@1" is a kind of its own."""
    return name if name == "Pass@1" else name.split("@")[0]


def _samples(scored: Scored | None) -> str:
    if scored is None:
        return ""
    return str(scored.n) if scored.n == scored.n_least else f"{scored.n_least}-{scored.n}"


def pass_table(systems: Sequence[System]) -> str:
    """One row per k, one column per system with samples: the unbiased Pass@k."""
    sampled = [s for s in systems if s.sampled]
    ks = sorted({k for s in sampled for k in [*powers_of_two(s.sampled.n_least), s.sampled.n] if k})
    rows = []
    for k in ks:
        columns = [s.values.get(f"mean@{s.sampled.n}" if k == 1 else f"Pass@{k}") for s in sampled]
        label = "Pass@1, sampled" if k == 1 else f"Pass@{k}"  # Pass@1 alone is the greedy solution
        rows.append([label, *(percent(values) if values else "" for values in columns)])
    return format_table(["", *(s.name for s in sampled)], rows)


def groups(system: System, by: str) -> dict[str, list[int]]:
    """Positions of the problems of each level or subject (`by`), sorted; empty if no problem has one."""
    found: dict[Any, list[int]] = {}
    for i, problem in enumerate(system.problems):
        found.setdefault(getattr(problem, by), []).append(i)
    if set(found) == {None}:
        return {}
    ordered = sorted(found, key=lambda value: (value is None, value if value is not None else 0))
    return {"unknown" if value is None else str(value): found[value] for value in ordered}


def group_table(system: System, by: str) -> str | None:
    """The main table's metrics of one system per level or subject; None where the problems have none."""
    rows = []
    names = headline_metrics(system)
    for value, places in groups(system, by).items():
        cells = [percent([system.values[name][i] for i in places]) for name in names]
        rows.append([value, str(len(places)), *cells])
    return format_table([by, "problems", *names], rows) if rows else None


def shares(scored: Scored) -> dict[str, float | None]:
    """Share of samples cut off by the length limit, share without an answer, and tokens per sample."""
    samples: list[Sample] = [s for p in scored.problems for s in p.samples]
    known = [s.tokens for s in samples if s.tokens is not None]
    return {
        "truncated": sum(s.finish_reason == "length" for s in samples) / len(samples),
        "no_answer": sum(not (s.answer or "").strip() for s in samples) / len(samples),
        "tokens": sum(known) / len(known) if known else None,
    }


def share_table(systems: Sequence[System]) -> str:
    """One row per file: samples per problem, truncated and unanswered share, mean length."""
    rows = []
    for scored in {id(part): part for system in systems for part in system.parts}.values():
        share = shares(scored)
        tokens = "" if share["tokens"] is None else f"{share['tokens']:.0f}"
        cut, mute = (f"{100 * share[name]:.1f}" for name in ("truncated", "no_answer"))
        rows.append([scored.file, _samples(scored), cut, mute, tokens])
    return format_table(["file", "samples", "truncated %", "no answer %", "tokens"], rows)


# ---- comparisons -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """One metric of two systems on the same problems; McNemar only where both are 0 or 1 per problem."""

    metric: str
    difference: PairedDifference
    mcnemar: McNemar | None


def compare(a: System, b: System) -> list[Comparison]:
    """Paired bootstrap, and McNemar where it applies, of a - b for every metric of the main table both have.

    Metrics pair up by kind, so that Maj1@64 meets Maj1@16. ValueError if the two cover different problems.
    """
    if same_problems_key(a.problems) != same_problems_key(b.problems):
        ids = [{(p.id, p.problem) for p in s.problems} for s in (a, b)]
        raise ValueError(
            f"{a.name} and {b.name} cover different problems ({len(ids[0])} and {len(ids[1])}, "
            f"{len(ids[0] & ids[1])} in common): no paired comparison"
        )
    kinds = {_kind(name): name for name in headline_metrics(b)}
    found = []
    for name in headline_metrics(a):
        if _kind(name) in kinds:
            other = kinds[_kind(name)]
            x, y = a.values[name], b.values[other]
            label = name if name == other else f"{name} - {other}"
            binary = set(x) <= {0, 1} and set(y) <= {0, 1}
            found.append(Comparison(label, paired_bootstrap(x, y), mcnemar(x, y) if binary else None))
    return found


def comparison_table(found: Sequence[Comparison]) -> str:
    """Differences in points with intervals, bootstrap p, and McNemar's counts and exact p."""
    rows = []
    for c in found:
        d, m = c.difference, c.mcnemar
        tail = [str(m.only_a), str(m.only_b), f"{m.p_value:.4f}"] if m else ["", "", ""]
        interval = f"{100 * d.difference:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})"
        rows.append([c.metric, interval, f"{d.p_value:.4f}", *tail])
    head = ["metric", "difference", "bootstrap p", "only first", "only second", "McNemar p"]
    return format_table(head, rows)


# ---- curves ------------------------------------------------------------------------------------------


def curve_tables(scored: Scored) -> str:
    """Both curves of one samples file as text."""
    first = format_table(
        ["k samples", "Pass@k", "maj@k"],
        [[str(k), percent(v["pass"]), percent(v["maj"])] for k, v in scored.sample_curve.items()],
    )
    second = format_table(
        ["K clusters", f"MajK@{scored.n}", "samples held %"],
        [[str(k), percent(v["majk"]), f"{100 * v['share']:.1f}"] for k, v in scored.cluster_curve.items()],
    )
    return f"{first}\n\n{second}"


def _interval(values: Sequence[float]) -> dict[str, float]:
    return dataclasses.asdict(mean_interval(values))


def to_json(system: System) -> dict[str, Any]:
    """Everything the tables show of a system, and its curves, as plain data between 0 and 1."""
    result: dict[str, Any] = {
        "system": system.name,
        "files": [{"file": p.file, "meta": p.meta, "samples": p.n, **shares(p)} for p in system.parts],
        "problems": len(system.problems),
        "metrics": {name: _interval(values) for name, values in system.values.items()},
    }
    for by in ("level", "subject"):
        result[f"by_{by}"] = {
            value: {
                "problems": len(places),
                **{m: _interval([system.values[m][i] for i in places]) for m in headline_metrics(system)},
            }
            for value, places in groups(system, by).items()
        }
    if system.sampled:
        curve, clusters = system.sampled.sample_curve, system.sampled.cluster_curve
        result["k_curve"] = {k: {name: _interval(v[name]) for name in v} for k, v in curve.items()}
        result["cluster_curve"] = {
            k: {"majk": _interval(v["majk"]), "share": v["share"]} for k, v in clusters.items()
        }
    return result


# ---- plots -------------------------------------------------------------------------------------------


def _band(
    axes: Any, x: Sequence[int], series: Sequence[Sequence[float]], style: dict[str, Any], **line: Any
) -> None:
    """A line of means with a pale band of 95% intervals; everything in percent."""
    intervals = [mean_interval(values) for values in series]
    axes.plot(x, [100 * v.value for v in intervals], **{**style, **line})
    low, high = ([100 * getattr(v, end) for v in intervals] for end in ("low", "high"))
    axes.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)


def _plot_samples(axes: Any, system: System, style: dict[str, Any]) -> None:
    curve = system.sampled.sample_curve
    ks = list(curve)
    _band(axes, ks, [v["pass"] for v in curve.values()], style)
    _band(axes, ks, [v["maj"] for v in curve.values()], style, linestyle="--", markerfacecolor="white")
    if "Pass@1" in system.values:
        greedy = 100 * mean_interval(system.values["Pass@1"]).value
        axes.plot(
            [1], [greedy], marker="*", markersize=13, color=style["color"], markeredgecolor="white", zorder=5
        )


def _plot_clusters(axes: Any, system: System, style: dict[str, Any]) -> None:
    curve = system.sampled.cluster_curve
    ks = list(curve)
    _band(axes, ks, [v["majk"] for v in curve.values()], style)
    axes.plot(ks, [100 * v["share"] for v in curve.values()], **{**style, "marker": None}, linestyle=":")


def _legend(axes: Any, kinds: dict[str, dict[str, Any]]) -> None:
    """Say what the line styles mean, in grey: colours and markers stand for the systems."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color="0.3", label=label, **kind) for label, kind in kinds.items()]
    axes.legend(handles=handles, loc="best", frameon=False, fontsize=9)


def _finish_axes(axes: Any, label: str) -> None:
    from matplotlib.ticker import MultipleLocator, StrMethodFormatter

    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_major_locator(MultipleLocator(10))
    axes.set_ylim(0, min(100, axes.get_ylim()[1]) + 2)  # 2 points for markers that lie at the top
    axes.set_xlabel(label)
    axes.grid(color="0.9", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)


def plot(systems: Sequence[System], path: str | Path) -> None:
    """Draw accuracy against samples (left) and against clusters (right, after Figure 1) into an image file.

    Lines differ in style and marker as well as in colour, so that a grey print can be read. ValueError if
    there is no file with several samples a problem, or if the name's ending is no image format.
    """
    import matplotlib  # late: takes a second, and only plots need it

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    sampled = [s for s in systems if s.sampled and s.sampled.n > 1]
    if not sampled:
        raise ValueError("nothing to plot: expected a file with several samples a problem (sample.py --n 64)")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    handles = []
    for i, system in enumerate(sampled):
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "markersize": 5}
        _plot_samples(left, system, style)
        _plot_clusters(right, system, style)
        handles.append(Line2D([], [], label=f"{system.name}, N = {system.sampled.n}", **style))
    left.set_ylabel("problems solved (%)")
    right.set_ylabel("problems solved, samples held (%)")
    star = {"marker": "*", "linestyle": "", "markersize": 11}
    _legend(left, {"Pass@k": {}, "maj@k": {"linestyle": "--"}, "Pass@1 (greedy)": star})
    _legend(right, {"MajK@N (oracle over K clusters)": {}, "samples in the K clusters": {"linestyle": ":"}})
    _finish_axes(left, "k samples")
    _finish_axes(right, "K largest clusters")
    figure.legend(handles=handles, loc="outside upper center", ncols=min(3, len(handles)), frameon=False)
    try:
        figure.savefig(path, dpi=160)
    except ValueError:  # matplotlib's words for an unknown ending
        endings = ", ".join(sorted(figure.canvas.get_supported_filetypes()))
        raise ValueError(
            f"{path}: unknown image format, expected a name ending in one of {endings}"
        ) from None
    finally:
        pyplot.close(figure)
