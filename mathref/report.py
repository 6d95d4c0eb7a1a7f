"""Samples files reduced to one value per problem, and the tables made of them.

Paper: the columns of Tables 2 to 7 (Pass@1, Maj1@64, Pass@64); tables of evaluators are in tables.py.
Choices: the paper gives no intervals; every value here has its 95% interval over problems [P]. Pass@1 is the
greedy solution; the accuracy of single samples is named mean@N. A greedy file and a samples file of the same
model, prompt and problems are shown as one system, as a row of the paper's tables is. Solutions without an
answer count in N; a problem without samples counts as unsolved [P]. The selection rules that a file's stored
scores allow are values like the others, so that files are compared in them too.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mathref.files import digest_text
from mathref.formats import Sample, SampledProblem
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
from mathref.rerank import DEFAULT_K, STRATEGIES, Cluster, Strategy
from mathref.selection import (
    clusters_of,
    ks_up_to,
    prefix_curve,
    strategy_curve,
    strategy_name,
    strategy_values,
)

CLUSTER_COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 60, 100)  # values of K in the cluster curve


def tie_seed(seed: int, problem_id: str) -> int:
    """Another one for each problem: with one for all, every draw between two clusters would take the same."""
    return int(digest_text(f"{seed} {problem_id}"), 16)


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
    k: int = DEFAULT_K  # K and n of the selection rules

    @property
    def tie_seeds(self) -> list[int]:
        """Of the draws among equal clusters and of subsets, problem by problem."""
        return [tie_seed(self.seed, p.id) for p in self.problems]

    @functools.cached_property
    def sample_curve(self) -> dict[int, dict[str, list[float]]]:
        """For k = 1, 2, 4, ... samples: Pass@k ("pass") and maj@k ("maj") of every problem."""
        curve: dict[int, dict[str, list[float]]] = {}
        for k in powers_of_two(self.n_least):
            curve[k] = {"pass": [], "maj": []}
            for flags, clusters, seed in zip(self.flags, self.clusters, self.tie_seeds, strict=True):
                maj = maj_at_k(flags, clusters, k, ties=self.ties, seed=seed) if flags else 0.0
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
            majority = zip(self.flags, self.clusters, self.tie_seeds, strict=True)
            values = [majk_at_n(f, c, k, ties=self.ties, seed=seed) for f, c, seed in majority]
            held = sum(len(members) for clusters in self.clusters for members in clusters[:k])
            curve[k] = {"majk": values, "share": held / total}
        return curve

    @functools.cached_property
    def strategy_curve(self) -> dict[Strategy, dict[int, list[float]]]:
        """For each selection rule that reads K (or n) its values at every K: Figure 1, left."""
        return strategy_curve(self.problems, self.clusters, ks_up_to(self.n))

    @functools.cached_property
    def prefix_curve(self) -> dict[int, dict[Strategy, list[float]]]:
        """For the first 1, 2, 4, ... samples of every problem: the values of each selection rule."""
        return prefix_curve(self.problems, self.clusters, powers_of_two(self.n), self.k)

    @property
    def is_scored(self) -> bool:
        """Whether an evaluator has scored any of the samples."""
        return any(s.score is not None for p in self.problems for s in p.samples)

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
    k: int = DEFAULT_K,
) -> Scored:
    """Cluster each problem's answers and work out every metric for every problem.

    Selection rules that need scores (with K or n = `k`) are among them where the file has the scores.
    """
    if not problems:
        raise ValueError(f"{file}: holds no problems yet; sample.py writes them")
    ordered = tuple(sorted(problems, key=lambda p: p.id))
    counts = [len(p.samples) for p in ordered]
    n, n_least = max(counts), min((count for count in counts if count), default=0)
    if n == 0:
        raise ValueError(f"{file}: no problem has a sample; expected at least one solution a problem")
    clusters = tuple(clusters_of(ordered))
    flags = [[s.correct for s in p.samples] for p in ordered]
    greedy = n == 1 and meta.get("temperature", 0) == 0  # a foreign file with one solution is taken as greedy
    if greedy:
        values = {"Pass@1": [float(any(f)) for f in flags]}
    else:
        seeds = [tie_seed(seed, p.id) for p in ordered]
        majority = list(zip(flags, clusters, seeds, strict=True))
        values = {f"mean@{n}": [sum(f) / len(f) if f else 0.0 for f in flags]}
        if n > 1:
            for m in (1, DEFAULT_K):
                values[f"Maj{m}@{n}"] = [majk_at_n(f, c, m, ties=ties, seed=s) for f, c, s in majority]
            for m in powers_of_two(n_least)[1:]:
                values[f"Pass@{m}"] = [pass_at_k(len(f), sum(f), m) if f else 0.0 for f in flags]
            values[f"Pass@{n}"] = [float(any(f)) for f in flags]
    scored = Scored(file, meta, ordered, clusters, n, n_least, greedy, values, ties, seed, k)
    if scored.is_scored and not greedy:
        found = strategy_values(ordered, k=k, strategies=STRATEGIES[1:], clusters=clusters)
        values.update({strategy_name(strategy, k): right for strategy, right in found.items()})
    return scored


def _join_key(scored: Scored) -> Hashable:
    """What a greedy file and a samples file must share to be one system; None where the file does not say."""
    meta = scored.meta
    if not (meta.get("model_digest") or meta.get("server")):  # a server's model is known by name and address
        return None
    of = ("model_digest", "few_shot", "style", "shots", *(("server", "model") if meta.get("server") else ()))
    return (*(str(meta.get(name)) for name in of), same_problems_key(scored.problems))


def same_problems_key(problems: Sequence[SampledProblem]) -> Hashable:
    """Equal for two files exactly if they cover the same problems (id and text)."""
    return tuple((p.id, p.problem) for p in problems)


def _name(scored: Scored) -> str:
    model = str(scored.meta.get("model") or Path(scored.file).name.split(".")[0])
    shots = scored.meta.get("few_shot")
    name = f"{model} {shots}-shot {scored.meta.get('style') or ''}".strip() if shots else model
    return f"{name} by {evaluator}" if (evaluator := scored.meta.get("evaluator")) else name


def _stem(scored: Scored) -> str:
    return Path(scored.file).name.split(".jsonl")[0]


def join(files: Sequence[Scored]) -> list[System]:
    """One system per samples file, with the greedy file of the same model and problems beside it, in order.

    A greedy file that no samples file takes stands for itself. Systems of one name get their file names
    added, and those of one file name their paths.
    """
    greedy = {key: f for f in files if f.greedy and (key := _join_key(f)) is not None}
    taken = {id(partner) for f in files if not f.greedy and (partner := greedy.get(_join_key(f)))}
    rows = [f for f in files if not (f.greedy and id(f) in taken)]
    names = [_name(f) for f in rows]
    systems = []
    for f, name in zip(rows, names, strict=True):
        if names.count(name) > 1:
            alike = [_stem(other) for other, known in zip(rows, names, strict=True) if known == name]
            name = f"{name} ({f.file if alike.count(_stem(f)) > 1 else _stem(f)})"
        partner = None if f.greedy else greedy.get(_join_key(f))
        values = {**(partner.values if partner else {}), **f.values}
        systems.append(System(name, None if f.greedy else f, f if f.greedy else partner, values))
    return systems


# ---- tables ------------------------------------------------------------------------------------------


def percent(values: Sequence[float]) -> str:
    """Mean of 0..1 values as "35.6 (31.5-39.9)"."""
    interval = mean_interval(values)
    return f"{100 * interval.value:.1f} ({100 * interval.low:.1f}-{100 * interval.high:.1f})"


def p_value(p: float) -> str:
    """A p-value with four digits; what would round to zero is "<0.0001"."""
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


@dataclass(frozen=True)
class Table:
    """A table of texts: str() aligns it for a terminal, markdown() makes a page of it."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        """Columns aligned by spaces, the first to the left, the others to the right."""
        cells = [self.head, *self.rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.head))]
        lines = []
        for row in cells:
            rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
            lines.append("  ".join([row[0].ljust(widths[0]), *rest]).rstrip())
        lines.insert(1, "-" * max(map(len, lines)))
        return "\n".join(lines)

    def markdown(self) -> str:
        """The same cells as a table of GitHub's Markdown."""
        rule = ["---"] + ["---:"] * (len(self.head) - 1)
        cells = ([cell.replace("|", "\\|") for cell in row] for row in [self.head, rule, *self.rows])
        return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def headline_metrics(system: System) -> list[str]:
    """The metrics of the main table, in its order: Pass@1, mean, Maj1, Maj8 and the oracle Pass@N."""
    n = system.sampled.n if system.sampled else 1
    wanted = [
        "Pass@1",
        *([f"mean@{n}", f"Maj1@{n}", f"Maj{DEFAULT_K}@{n}", f"Pass@{n}"] if system.sampled else []),
    ]
    return [name for name in wanted if name in system.values]


def selection_metrics(system: System) -> list[str]:
    """The selection rules, Maj1 apart, that the scores of a system's samples file allow."""
    if system.sampled is None:
        return []
    names = [strategy_name(strategy, system.sampled.k) for strategy in STRATEGIES[1:]]
    return [name for name in names if name in system.values]


def main_table(systems: Sequence[System]) -> Table:
    """One row per system: Pass@1, mean@N, Maj1@N, Maj8@N, Pass@N, in percent with their intervals."""
    kinds = ("Pass@1", "mean", "Maj1", f"Maj{DEFAULT_K}", "Pass")
    named = [{_kind(name): name for name in headline_metrics(system)} for system in systems]
    shown = [kind for kind in kinds if any(kind in names for names in named)]
    rows = []
    for system, names in zip(systems, named, strict=True):
        cells = [percent(system.values[names[kind]]) if kind in names else "" for kind in shown]
        rows.append([system.name, str(len(system.problems)), _samples(system.sampled), *cells])
    head = [kind if kind == "Pass@1" else f"{kind}@N" for kind in shown]
    return Table(["system", "problems", "N", *head], rows)


def _kind(name: str) -> str:
    """What a metric is without its N: "Maj1@64" -> "Maj1"; the greedy "Pass@1" is a kind of its own."""
    return name if name == "Pass@1" else name.split("@")[0]


def _samples(scored: Scored | None) -> str:
    if scored is None:
        return ""
    return str(scored.n) if scored.n == scored.n_least else f"{scored.n_least}-{scored.n}"


def pass_table(systems: Sequence[System]) -> Table:
    """One row per k, one column per system with samples: the unbiased Pass@k."""
    sampled = [s for s in systems if s.sampled]
    ks = sorted({k for s in sampled for k in [*powers_of_two(s.sampled.n_least), s.sampled.n] if k})
    rows = []
    for k in ks:
        columns = [s.values.get(f"mean@{s.sampled.n}" if k == 1 else f"Pass@{k}") for s in sampled]
        label = "Pass@1, sampled" if k == 1 else f"Pass@{k}"  # Pass@1 alone is the greedy solution
        rows.append([label, *(percent(values) if values else "" for values in columns)])
    return Table(["", *(s.name for s in sampled)], rows)


def groups(system: System, by: str) -> dict[str, list[int]]:
    """Positions of the problems of each level or subject (`by`), sorted; empty if no problem has one."""
    found: dict[Any, list[int]] = {}
    for i, problem in enumerate(system.problems):
        found.setdefault(getattr(problem, by), []).append(i)
    if set(found) == {None}:
        return {}
    ordered = sorted(found, key=lambda value: (value is None, value if value is not None else 0))
    return {"unknown" if value is None else str(value): found[value] for value in ordered}


def group_table(system: System, by: str) -> Table | None:
    """The main table's metrics of one system per level or subject; None where the problems have none."""
    rows = []
    names = headline_metrics(system)
    for value, places in groups(system, by).items():
        cells = [percent([system.values[name][i] for i in places]) for name in names]
        rows.append([value, str(len(places)), *cells])
    return Table([by, "problems", *names], rows) if rows else None


def shares(scored: Scored) -> dict[str, float | None]:
    """Share of samples cut off by the length limit, share without an answer, and tokens per sample."""
    samples: list[Sample] = [s for p in scored.problems for s in p.samples]
    known = [s.tokens for s in samples if s.tokens is not None]
    return {
        "truncated": sum(s.finish_reason == "length" for s in samples) / len(samples),
        "no_answer": sum(not (s.answer or "").strip() for s in samples) / len(samples),
        "tokens": sum(known) / len(known) if known else None,
    }


def share_table(systems: Sequence[System]) -> Table:
    """One row per file: samples per problem, truncated and unanswered share, mean length."""
    rows = []
    for scored in {id(part): part for system in systems for part in system.parts}.values():
        share = shares(scored)
        tokens = "" if share["tokens"] is None else f"{share['tokens']:.0f}"
        cut, mute = (f"{100 * share[name]:.1f}" for name in ("truncated", "no_answer"))
        rows.append([scored.file, _samples(scored), cut, mute, tokens])
    return Table(["file", "samples", "truncated %", "no answer %", "tokens"], rows)


# ---- comparisons -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """One metric of two systems on the same problems; McNemar only where both are 0 or 1 per problem."""

    metric: str
    difference: PairedDifference
    mcnemar: McNemar | None


def compare_values(metric: str, x: Sequence[float], y: Sequence[float]) -> Comparison:
    """The paired tests of x - y, one value per problem each."""
    binary = set(x) <= {0, 1} and set(y) <= {0, 1}
    return Comparison(metric, paired_bootstrap(x, y), mcnemar(x, y) if binary else None)


def compare(a: System, b: System) -> list[Comparison]:
    """Paired tests of a - b for every metric of the main table and every selection rule that both have.

    Metrics pair up by kind, so that Maj1@64 meets Maj1@16. ValueError if the two cover different problems.
    """
    if same_problems_key(a.problems) != same_problems_key(b.problems):
        ids = [{(p.id, p.problem) for p in s.problems} for s in (a, b)]
        raise ValueError(
            f"{a.name} and {b.name} cover different problems ({len(ids[0])} and {len(ids[1])}, "
            f"{len(ids[0] & ids[1])} in common): no paired comparison"
        )
    kinds = {_kind(name): name for name in [*headline_metrics(b), *selection_metrics(b)]}
    found = []
    for name in [*headline_metrics(a), *selection_metrics(a)]:
        if _kind(name) in kinds:
            other = kinds[_kind(name)]
            label = name if name == other else f"{name} - {other}"
            found.append(compare_values(label, a.values[name], b.values[other]))
    return found


def difference_cells(comparison: Comparison) -> list[str]:
    """Difference in points with its interval, permutation p, and McNemar's counts and exact p."""
    d, m = comparison.difference, comparison.mcnemar
    tail = [str(m.only_a), str(m.only_b), p_value(m.p_value)] if m else ["", "", ""]
    points = f"{100 * d.difference:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})"
    return [points, p_value(d.p_value), *tail]


def comparison_table(found: Sequence[Comparison]) -> Table:
    """Differences in points with intervals, permutation p, and McNemar's counts and exact p."""
    head = ["metric", "difference", "permutation p", "only first", "only second", "McNemar p"]
    return Table(head, [[c.metric, *difference_cells(c)] for c in found])


# ---- curves ------------------------------------------------------------------------------------------


def curve_tables(scored: Scored) -> list[Table]:
    """Both curves of one samples file: over k samples, and over K clusters."""
    samples = [[str(k), percent(v["pass"]), percent(v["maj"])] for k, v in scored.sample_curve.items()]
    clusters = [
        [str(k), percent(v["majk"]), f"{100 * v['share']:.1f}"] for k, v in scored.cluster_curve.items()
    ]
    return [
        Table(["k samples", "Pass@k", "maj@k"], samples),
        Table(["K clusters", f"MajK@{scored.n}", "samples held %"], clusters),
    ]


def interval_json(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95% interval as plain data."""
    return dataclasses.asdict(mean_interval(values))


def to_json(system: System) -> dict[str, Any]:
    """Everything the tables show of a system, and its curves, as plain data between 0 and 1."""
    result: dict[str, Any] = {
        "system": system.name,
        "files": [{"file": p.file, "meta": p.meta, "samples": p.n, **shares(p)} for p in system.parts],
        "problems": len(system.problems),
        "metrics": {name: interval_json(values) for name, values in system.values.items()},
    }
    for by in ("level", "subject"):
        result[f"by_{by}"] = {
            value: {
                "problems": len(places),
                **{m: interval_json([system.values[m][i] for i in places]) for m in headline_metrics(system)},
            }
            for value, places in groups(system, by).items()
        }
    if system.sampled:
        curve, clusters = system.sampled.sample_curve, system.sampled.cluster_curve
        result["k_curve"] = {k: {name: interval_json(v[name]) for name in v} for k, v in curve.items()}
        result["cluster_curve"] = {
            k: {"majk": interval_json(v["majk"]), "share": v["share"]} for k, v in clusters.items()
        }
    return result
