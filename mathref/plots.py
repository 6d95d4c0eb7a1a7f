"""Figures of samples files: accuracy against samples, clusters and K; calibration of an evaluator's scores.

Paper: Figure 1 (`plot_selection`); `plot` has the curves that need no evaluator.
Choices [P]: shaded bands are 95% intervals over problems. Lines differ in style and marker as well as in
colour, so that a grey print can be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from mathref.files import atomic_write
from mathref.metrics import mean_interval
from mathref.report import Scored, System
from mathref.rerank import Strategy
from mathref.selection import cost_curve, is_covered, ks_up_to, selected_right, strategy_name
from mathref.tables import evaluator_quality

# Okabe and Ito's palette, told apart under every common form of colour blindness; black last, yellow left
# out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def _figure(n_rows: int, n_columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """A figure without a window, and its axes as an array (n_rows, n_columns)."""
    import matplotlib  # late: takes a second, and only plots need it

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False)


def _draw(figure: Any, file: IO[bytes], path: str | Path, kind: str) -> None:
    try:
        figure.savefig(file, dpi=160, format=kind)
    except ValueError:  # matplotlib's words for an unknown ending
        endings = ", ".join(sorted(figure.canvas.get_supported_filetypes()))
        raise ValueError(
            f"{path}: unknown image format, expected a name ending in one of {endings}"
        ) from None


def _save(figure: Any, path: str | Path) -> None:
    """Write the figure in the format of the name's ending, whole or not at all, and close it."""
    from matplotlib import pyplot

    kind = Path(path).suffix.removeprefix(".") or "png"  # as matplotlib takes a name without an ending
    try:
        with atomic_write(path) as file:
            _draw(figure, file, path, kind)
    finally:
        pyplot.close(figure)


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
    from matplotlib.lines import Line2D

    sampled = [s for s in systems if s.sampled and s.sampled.n > 1]
    if not sampled:
        raise ValueError("nothing to plot: expected a file with several samples a problem (sample.py --n 64)")
    figure, ((left, right),) = _figure(1, 2, (10, 4.6))
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
    _save(figure, path)


# ---- scored files ------------------------------------------------------------------------------------

NO_SCORES = "nothing to plot: expected a file with scores (rerank.py --evaluator runs/scr --samples FILE)"

# Each rule has one look in every panel: colour and marker; rules that do not read K are lines without one.
RULES: dict[Strategy, dict[str, Any]] = {
    "rr.majk": {"color": COLOURS[0], "marker": "o"},
    "w.rr.majk": {"color": COLOURS[1], "marker": "s"},
    "maj1.topn": {"color": COLOURS[2], "marker": "^"},
    "rr.all": {"color": COLOURS[0], "linestyle": "--"},
    "w.rr": {"color": COLOURS[1], "linestyle": "-."},
    "maj1": {"color": COLOURS[6], "linestyle": ":"},
}


def _plot_rules(axes: Any, scored: Scored) -> None:
    """Figure 1, left: rules that read K as curves with their intervals, the others as level lines."""
    for strategy, curve in scored.strategy_curve.items():
        if curve:
            label = strategy_name(strategy, "N" if strategy == "maj1.topn" else "K")
            _band(axes, list(curve), list(curve.values()), {"markersize": 4, **RULES[strategy]}, label=label)
    for strategy in ("rr.all", "w.rr", "maj1"):
        if is_covered(scored.problems, scored.clusters, strategy):
            values = selected_right(scored.problems, scored.clusters, strategy)
            level = 100 * mean_interval(values).value
            axes.axhline(level, linewidth=1.4, label=strategy_name(strategy), **RULES[strategy])


def _plot_cost(axes: Any, scored: Scored) -> None:
    """Figure 1, right: share of the candidates that are in the K largest clusters."""
    curve = cost_curve(scored.problems, scored.clusters, ks_up_to(scored.n))
    axes.plot(list(curve), [100 * share for share in curve.values()], color="0.2", marker="o", markersize=4)


def _plot_prefix(axes: Any, scored: Scored) -> None:
    """Every rule on the first N samples, without bands: the lines lie close together."""
    for strategy, look in RULES.items():
        points = {n: values[strategy] for n, values in scored.prefix_curve.items() if strategy in values}
        if points:
            levels = [100 * mean_interval(values).value for values in points.values()]
            axes.plot(list(points), levels, markersize=4, label=strategy_name(strategy, scored.k), **look)
    n = list(scored.prefix_curve)
    oracle = [100 * mean_interval([any(f[:k]) for f in scored.flags]).value for k in n]
    axes.plot(n, oracle, color="0.6", linewidth=1, label="Pass@N")


def _label_axes(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="0.9", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)


def plot_selection(systems: Sequence[System], path: str | Path) -> None:
    """Draw Figure 1 (accuracy over K and n, candidates scored) and accuracy against N, one row a system.

    ValueError if no file has scores, or if the name's ending is no image format.
    """
    if not systems:
        raise ValueError(NO_SCORES)
    figure, rows = _figure(len(systems), 3, (15, 4.4 * len(systems)))
    for (left, middle, right), system in zip(rows, systems, strict=True):
        _plot_rules(left, system.sampled)
        _plot_cost(middle, system.sampled)
        _plot_prefix(right, system.sampled)
        _label_axes(left, "K clusters (n solutions for Maj1.TopN)", "problems solved (%)")
        _label_axes(middle, "K clusters", "candidates scored (%)")
        _label_axes(right, "first N samples", "problems solved (%)")
        middle.set_ylim(0, 102)
        right.set_xscale("log", base=2)
        right.xaxis.set_major_formatter("{x:g}")
        left.set_title(system.name, loc="left", fontsize=10)
        left.legend(frameon=False, fontsize=8, ncols=2)
        right.legend(frameon=False, fontsize=8, ncols=2)
    _save(figure, path)


def plot_calibration(
    systems: Sequence[System], validation: Mapping[str, Scored | None], path: str | Path
) -> None:
    """Draw the share of right candidates against the score, one line a system; dashed: at the fitted T.

    `validation` holds the validation file of each samples file (None: none), as `tables.evaluator_quality`. A
    system with nothing to show is left out; ValueError where none has anything.
    """
    found = [(s, evaluator_quality(s.sampled, validation[s.sampled.file])) for s in systems]
    found = [(system, quality) for system, quality in found if quality]
    if not found:
        nothing = "nothing to calibrate: no file has scores from 0 to 1 of both right and wrong candidates"
        raise ValueError(nothing if systems else NO_SCORES)
    figure, ((axes,),) = _figure(1, 1, (5.6, 5.2))
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="as it should be")
    for i, (system, quality) in enumerate(found):
        look = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "markersize": 5}
        label = f"{system.name}, ECE {quality.ece:.3f}"
        axes.plot([b.score for b in quality.curve], [b.right for b in quality.curve], label=label, **look)
        if quality.curve_fitted:
            label = f"at T = {quality.temperature:.2g}, ECE {quality.ece_fitted:.3f}"
            points = [(b.score, b.right) for b in quality.curve_fitted]
            axes.plot(
                *zip(*points, strict=True), label=label, linestyle="--", markerfacecolor="white", **look
            )
    _label_axes(axes, "score S (mean of a bin of equal count)", "share of right candidates")
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def plot_panels(
    label: str, x: Sequence[float], panels: Mapping[str, Sequence[float]], path: str | Path
) -> None:
    """Draw several quantities over one x, a panel each, from zero on."""
    figure, (row,) = _figure(1, len(panels), (5 * len(panels), 4))
    for axes, (name, y), colour in zip(row, panels.items(), COLOURS, strict=False):
        axes.plot(x, y, color=colour, linewidth=1.2)
        axes.set_ylim(0, 1.1 * max(y) or 1)
        _label_axes(axes, label, name)
    _save(figure, path)
