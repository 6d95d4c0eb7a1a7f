"""The paper's tables about evaluators and selection rules, made from scored samples files.

Paper: Tables 3, 6 and 7 and the numbers behind Figure 1; the cost in evaluator calls (section 7).
Choices [P]: each rule is compared with Maj1 on the same problems by paired tests, which the paper does not
do. K and n are the given ones, those chosen on the validation file of the same generator and evaluator, and
the best ones on the test problems themselves, marked "optimistic" (Table 7). Ties between clusters go to the
one sampled first, whatever report.py's `ties` is.

Every function returns a `report.Table` (str() for a terminal, .markdown() for a page) or plain data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mathref.adaptive import Stopped, replay
from mathref.calibration import Quality, fitted_on, quality
from mathref.metrics import Interval
from mathref.report import (
    Comparison,
    Scored,
    System,
    Table,
    compare_values,
    difference_cells,
    interval_json,
    percent,
    selection_metrics,
)
from mathref.rerank import STRATEGIES, WITH_K, Strategy
from mathref.scoring import count_scored, kept_seconds
from mathref.selection import (
    best_k,
    cost_curve,
    is_covered,
    ks_up_to,
    scored_share,
    selected_right,
    strategy_name,
)
from mathref.simulated import Simulated

DECODING = ("n", "temperature", "top_p", "top_k", "max_new_tokens")  # what a choice of K and n hangs on
Chosen = Literal["given", "validation", "optimistic"]


def _columns(systems: Sequence[System]) -> list[str]:
    """Names of the rules (and oracles) that one of the systems has, Pass@1 first and Pass@N last."""
    rules = dict.fromkeys(name for system in systems for name in selection_metrics(system))
    greedy = ["Pass@1"] if any("Pass@1" in system.values for system in systems) else []
    return [*greedy, "Maj1@N", *rules, "Pass@N"]


def _cell(system: System, column: str) -> str:
    values = system.values.get(column.replace("@N", f"@{system.sampled.n}"))
    return percent(values) if values else ""


def strategy_table(systems: Sequence[System]) -> Table:
    """Tables 3 and 6 for a narrow page: one column per system with scores, one row per rule."""
    rows = [[column, *(_cell(s, column) for s in systems)] for column in _columns(systems)]
    return Table(["rule", *(s.name for s in systems)], rows)


def evaluator_table(systems: Sequence[System]) -> Table:
    """Tables 3 and 6 as the paper sets them: one row per evaluator and generator, one column per rule."""
    columns = _columns(systems)
    rows = []
    for system in systems:
        names = (str(system.sampled.meta.get(kind) or "?") for kind in ("evaluator", "model"))
        rows.append([*names, str(len(system.problems)), *(_cell(system, column) for column in columns)])
    return Table(["evaluator", "generator", "problems", *columns], rows)


# ---- one file: rules against Maj1 --------------------------------------------------------------------


@dataclass(frozen=True)
class Selected:
    """One selection rule on one file: its values per problem, its cost, and its comparison with Maj1."""

    strategy: Strategy
    k: int | None  # None where the rule reads none
    chosen: Chosen
    values: list[float]
    share: float
    versus_maj1: Comparison | None

    @property
    def name(self) -> str:
        """As in Table 7; says where K or n comes from if it was not given."""
        name = strategy_name(self.strategy, self.k or "")
        source = {"given": "", "validation": " (validation)", "optimistic": " (optimistic)"}
        return name + source[self.chosen]


def pair_key(scored: Scored) -> Hashable:
    """Which generator and which evaluator a scored file is of: equal for its validation file."""
    names = ("few_shot", "style", "shots", "evaluator_temperature", "evaluator_dtype")
    generator, evaluator = (
        scored.meta.get(f"{kind}_digest") or scored.meta.get(kind) for kind in ("model", "evaluator")
    )
    return (str(generator), str(evaluator), *(str(scored.meta.get(name)) for name in names))


def other_decoding(test: Scored, validation: Scored) -> str:
    """How the candidates of a validation file were drawn otherwise than those of the test file; "": they were
    not, as far as the files say. Neither K nor n that is best of 8 candidates need be that of 64.
    """
    drawn = [scored.meta | {"n": scored.n} for scored in (validation, test)]
    names = [n for n in DECODING if all(n in meta for meta in drawn) and drawn[0][n] != drawn[1][n]]
    return ", ".join(f"{name} is {drawn[0][name]!r}, not {drawn[1][name]!r}" for name in names)


def matching_validation(test: Scored, validations: Sequence[Scored]) -> Scored | None:
    """The validation file of the same generator and evaluator as a test file, or None.

    Raises ValueError where it shares a problem with the test file: nothing may be chosen on test problems.
    """
    for validation in validations:
        if pair_key(validation) == pair_key(test):
            shared = {p.problem for p in validation.problems} & {p.problem for p in test.problems}
            if shared:
                raise ValueError(
                    f"{validation.file} shares {len(shared)} problems with {test.file}: K chosen there is "
                    "chosen on the test problems; expected other problems (sample.py --split validation)"
                )
            return validation
    return None


def selections(test: Scored, validation: Scored | None = None, *, optimistic: bool = False) -> list[Selected]:
    """Every rule that the scores allow: with the given K, K chosen on `validation`, and the best K here.

    Rules come in the order of Table 7, Maj1 first.
    """
    maj1 = selected_right(test.problems, test.clusters, "maj1")
    found = []
    for strategy in STRATEGIES:
        ks: list[tuple[int, Chosen]] = [(test.k, "given")]
        if strategy in WITH_K and validation and validation.strategy_curve[strategy]:
            ks.append((best_k(validation.strategy_curve[strategy]), "validation"))
        if strategy in WITH_K and optimistic and test.strategy_curve[strategy]:
            ks.append((best_k(test.strategy_curve[strategy]), "optimistic"))
        for k, chosen in ks:
            if not is_covered(test.problems, test.clusters, strategy, k):
                continue
            values = selected_right(test.problems, test.clusters, strategy, k)
            name = strategy_name(strategy, k)
            versus = None if strategy == "maj1" else compare_values(f"{name} - Maj1", values, maj1)
            share = scored_share(test.problems, test.clusters, strategy, k)
            found.append(Selected(strategy, k if strategy in WITH_K else None, chosen, values, share, versus))
    return found


def selection_table(found: Sequence[Selected]) -> Table:
    """Table 7 with what it lacks: intervals, cost, and the paired tests against Maj1, in points."""
    rows = []
    for s in found:
        tail = difference_cells(s.versus_maj1) if s.versus_maj1 else [""] * 5
        rows.append([s.name, percent(s.values), f"{100 * s.share:.1f}", *tail])
    head = ["rule", "solved", "scored %", "rule - Maj1", "permutation p", "only rule", "only Maj1"]
    return Table([*head, "McNemar p"], rows)


def strategy_curve_table(scored: Scored) -> Table:
    """Figure 1 in numbers: each rule that reads K (or n) at every K, and the share of candidates scored."""
    shares = cost_curve(scored.problems, scored.clusters, ks_up_to(scored.n))
    curves = {s: curve for s, curve in scored.strategy_curve.items() if curve}
    rows = [
        [str(k), *(percent(c[k]) if k in c else "" for c in curves.values()), f"{100 * share:.1f}"]
        for k, share in shares.items()
    ]
    return Table(
        ["K (n)", *(strategy_name(s, "n" if "topn" in s else "K") for s in curves), "scored %"], rows
    )


def prefix_table(scored: Scored) -> Table:
    """Accuracy against the number of samples: every rule on the first N samples of each problem."""
    curve = scored.prefix_curve
    shown = [s for s in STRATEGIES if any(s in values for values in curve.values())]
    rows = [
        [str(n), *(percent(values[s]) if s in values else "" for s in shown)] for n, values in curve.items()
    ]
    return Table(["first N", *(strategy_name(s, scored.k) for s in shown)], rows)


# ---- scores as probabilities, cost, adaptive stopping ------------------------------------------------


def evaluator_quality(test: Scored, validation: Scored | None = None) -> Quality | None:
    """AUC, calibration and the like of a file's scores; with T fitted on `validation` where it is given."""
    return quality(test.problems, fitted_on(validation.problems) if validation else None)


def quality_table(found: Sequence[tuple[str, Quality]]) -> Table:
    """One row per system: how its evaluator ranks (AUC, pairs) and how calibrated it is (Brier, ECE).

    T comes on top of the temperature that the file was scored at. Where train.py fitted that one, T says how
    much these candidates differ from those of the fit, which are distinct and finished ones only.
    """
    rows = []
    for name, q in found:
        fitted = [""] * 3
        if q.temperature is not None:
            fitted = [f"{q.temperature:.3g}", f"{q.brier_fitted:.3f}", f"{q.ece_fitted:.3f}"]
        pairs = _fraction(q.pairwise) if q.pairwise else ""
        cells = [_fraction(q.auc), pairs, f"{q.brier:.3f}", f"{q.ece:.3f}"]
        rows.append([name, f"{q.candidates}", *cells, *fitted])
    head = ["evaluator", "candidates", "AUC", "pairs in a problem", "Brier", "ECE"]
    return Table([*head, "T (validation)", "Brier at T", "ECE at T"], rows)


def _fraction(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f}-{interval.high:.3f})"


def cost(scored: Scored) -> dict[str, float | None]:
    """Candidates, scored ones, evaluator calls; seconds as rerank.py kept them (None: nothing is kept)."""
    return {**count_scored(scored.problems), "seconds": kept_seconds(Path(scored.file))}


def cost_table(files: Sequence[Scored]) -> Table:
    """One row per scored file: candidates scored, evaluator calls, and seconds where they were kept."""
    rows = []
    for scored in files:
        spent = cost(scored)
        share = f"{100 * spent['scored'] / spent['candidates']:.1f}"
        counts = [f"{spent[name]:,}" for name in ("candidates", "scored", "calls")]
        seconds = "" if spent["seconds"] is None else f"{spent['seconds']:.1f}"
        rows.append([scored.file, *counts[:2], share, counts[2], seconds])
    return Table(["file", "candidates", "scored", "scored %", "evaluator calls", "evaluator seconds"], rows)


def adaptive_table(found: Sequence[Stopped]) -> Table:
    """Accuracy against mean samples spent (`adaptive.replay`), each rule compared with all samples."""
    everything = found[0]
    rows = []
    for stopped in found:
        spent, total = sum(stopped.spent), sum(everything.spent)
        cells = [f"{spent / len(stopped.spent):.1f}", f"{100 * spent / total:.1f}", percent(stopped.right)]
        tail = [""] * 5
        if stopped is not everything:
            tail = difference_cells(compare_values(stopped.rule, stopped.right, everything.right))
        rows.append([stopped.rule, *cells, *tail])
    head = [
        "stop when",
        "samples",
        "of all %",
        "solved",
        "rule - all",
        "permutation p",
        "only rule",
        "only all",
    ]
    return Table([*head, "McNemar p"], rows)


def simulated_table(found: Sequence[Simulated], k: int) -> Table:
    """What the rules reach with evaluators of known quality (`simulated.simulate`)."""
    rules = list(found[0].right)
    rows = [[f"{s.quality:.2f}", *(percent(s.right[rule]) for rule in rules)] for s in found]
    return Table(["pairs ordered rightly", *(strategy_name(rule, k) for rule in rules)], rows)


# ---- JSON --------------------------------------------------------------------------------------------


def to_json(system: System, validation: Scored | None = None, *, adaptive: bool = False) -> dict[str, Any]:
    """Everything above of one system as plain data between 0 and 1; with no scores only adaptive stopping."""
    scored = system.sampled
    result: dict[str, Any] = {}
    if scored.is_scored:
        found = evaluator_quality(scored, validation)
        result = {
            "validation": validation.file if validation else None,
            "cost": cost(scored),
            "strategies": [_selected_json(s) for s in selections(scored, validation, optimistic=True)],
            "strategy_curve": {
                s: {k: interval_json(v) for k, v in curve.items()}
                for s, curve in scored.strategy_curve.items()
            },
            "cost_curve": cost_curve(scored.problems, scored.clusters, ks_up_to(scored.n)),
            "evaluator": dataclasses.asdict(found) if found else None,
        }
    if scored.is_scored or adaptive:
        result["prefix_curve"] = {
            n: {s: interval_json(v) for s, v in values.items()} for n, values in scored.prefix_curve.items()
        }
    if adaptive:
        result["adaptive"] = [
            {
                "rule": s.rule,
                "mean_samples": sum(s.spent) / len(s.spent),
                "solved": interval_json(s.right),
            }
            for s in replay(scored.problems, scored.clusters)
        ]
    return result


def _selected_json(selected: Selected) -> dict[str, Any]:
    versus = selected.versus_maj1
    return {
        "strategy": selected.strategy,
        "k": selected.k,
        "chosen": selected.chosen,
        "solved": interval_json(selected.values),
        "scored_share": selected.share,
        "versus_maj1": dataclasses.asdict(versus) if versus else None,
    }
