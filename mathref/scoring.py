"""Scores in a samples file: only those that are needed, none twice, through any number of kills and runs.

Paper: section 7, the cost of a selection rule, which is the number of candidates that it scores (Figure 1,
right).
Choices [P]: solutions of one problem with the same text are one call of the evaluator. The scored file grows
by whole lines in the order of the samples file, so that a killed run continues at the next problem. A later
run that needs more scores (another rule, a larger K) computes what is missing: the lines concerned go to
FILE.part0 first, as several processes write FILE.part0, FILE.part1 ... (parts.py); whatever a kill leaves is
used. What a scored line holds beside its scores follows the samples file. Beside FILE lies FILE.cost.json:
what was scored, and the evaluator's seconds summed over all runs.

No torch here: an evaluator is any function from a problem and its solutions to scores.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from mathref import processes
from mathref.files import digest_text, read_json, write_json
from mathref.formats import SampledProblem
from mathref.parts import my_share, open_shared, take_up
from mathref.rerank import LIKELIHOOD, Strategy, cluster, needed, pair_cache
from mathref.samples import lock_of, read_samples, write_samples

Evaluator: TypeAlias = Callable[[str, Sequence[str]], list[float]]  # problem, N solutions -> N scores
SAVE_COST_S = 10.0  # seconds of evaluation that a kill may leave out of the cost file


def likelihood(problems: Sequence[SampledProblem]) -> Evaluator:
    """The generator's own probability exp(logprob) of each sampled solution, as an evaluator: the control.

    Raises ValueError, naming a problem, where the samples came without log-probabilities.
    """
    logprobs: dict[tuple[str, str], float] = {}
    for problem in problems:
        for sample in problem.samples:
            if sample.logprob is None:
                raise ValueError(
                    f"problem {problem.id}: a sample without 'logprob', which the likelihood needs; sample "
                    "with sample.py, or rank with an evaluator"
                )
            logprobs[problem.problem, sample.text] = sample.logprob
    # Far below the smallest float all would be 0 and tie; no solution is that long and that unlikely.
    return lambda problem, solutions: [math.exp(max(logprobs[problem, text], -700)) for text in solutions]


def without_scores(problem: SampledProblem) -> SampledProblem:
    """The problem as sampled, before any evaluator saw it."""
    samples = tuple(dataclasses.replace(s, score=None) for s in problem.samples)
    return dataclasses.replace(problem, samples=samples)


def samples_digest(problems: Sequence[SampledProblem]) -> str:
    """Short digest of the problems and their solutions, which says what a scored file scores.

    Answers, verdicts and log-probabilities are not in it: `open_scored` brings those up to date.
    """
    return digest_text(json.dumps([[p.id, p.problem, [s.text for s in p.samples]] for p in problems]))


def _refreshed(scored: SampledProblem, sampled: SampledProblem, by_likelihood: bool) -> SampledProblem:
    """A problem as the samples file has it now, with the scores of its scored line.

    Scores that are likelihoods go where a log-probability they were made of has changed.
    """
    logprobs = [[s.logprob for s in problem.samples] for problem in (scored, sampled)]
    if by_likelihood and logprobs[0] != logprobs[1]:
        return without_scores(sampled)
    pairs = zip(sampled.samples, scored.samples, strict=True)
    samples = tuple(dataclasses.replace(sample, score=there.score) for sample, there in pairs)
    return dataclasses.replace(sampled, samples=samples)


def wanted_indices(
    problems: Sequence[SampledProblem], strategies: Sequence[Strategy], k: int
) -> dict[str, tuple[int, ...]]:
    """For each problem's id the candidates whose score one of the strategies reads."""
    equivalent = pair_cache()
    wanted = {}
    for problem in problems:
        clusters = cluster([s.answer for s in problem.samples], equivalent)
        wanted[problem.id] = tuple(sorted({i for s in strategies for i in needed(clusters, s, k)}))
    return wanted


def missing(problem: SampledProblem, indices: Sequence[int]) -> list[int]:
    """Those of the candidates that have no score yet."""
    return [i for i in indices if problem.samples[i].score is None]


def score_problem(problem: SampledProblem, indices: Sequence[int], evaluator: Evaluator) -> SampledProblem:
    """The problem with a score for each of `indices`; scores that are there stay, equal texts share one."""
    known = {s.text: s.score for s in problem.samples if s.score is not None}
    lacking = missing(problem, indices)
    texts = list(dict.fromkeys(t for i in lacking if (t := problem.samples[i].text) not in known))
    if texts:
        known |= zip(texts, map(float, evaluator(problem.problem, texts)), strict=True)
    samples = list(problem.samples)
    for i in lacking:
        samples[i] = dataclasses.replace(samples[i], score=known[samples[i].text])
    return dataclasses.replace(problem, samples=tuple(samples))


def cost_file(out: Path) -> Path:
    """Where the cost of a scored file is kept."""
    return out.with_name(out.name + ".cost.json")


def kept_seconds(out: Path) -> float | None:
    """The evaluator's seconds that the cost file of a scored file keeps, None without one.

    Raises ValueError for a cost file of another shape.
    """
    path = cost_file(out)
    if not path.exists():
        return None
    content = read_json(path)
    seconds = content.get("seconds") if isinstance(content, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise ValueError(
            f"{path}: 'seconds' is {seconds!r}, expected a number of at least 0; remove the file, rerank.py "
            "makes it anew"
        )
    return seconds


def open_scored(
    out: Path, meta: dict[str, Any], problems: Sequence[SampledProblem], *, overwrite: bool = False
) -> dict[str, SampledProblem]:
    """Create a scored file, or take up the one that is there; returns its problems by id.

    Of its lines only the scores stay, all else is what `problems`, those of the samples file, have now: an
    answer or a verdict that was mended there needs no new scores. Raises ValueError where the file belongs to
    other samples or another evaluator, unless `overwrite`.
    """

    def refresh() -> None:
        sampled = {p.id: p for p in problems}
        there = read_samples(out)[1]
        found = [_refreshed(p, sampled[p.id], meta["evaluator"] == LIKELIHOOD) for p in there]
        if found != there:
            write_samples(out, meta, found)

    with processes.held_by_first(lock_of(out)):
        take_up(out, meta, overwrite=overwrite)
        if overwrite:
            cost_file(out).unlink(missing_ok=True)
        processes.on_first(refresh)
    return {p.id: p for p in read_samples(out)[1]}


def lacking(
    problems: Sequence[SampledProblem],
    there: dict[str, SampledProblem],
    wanted: dict[str, tuple[int, ...]],
) -> list[tuple[SampledProblem, list[int]]]:
    """What a scored file lacks: each problem that is not `there`, or has a wanted candidate without a score,
    with the scores it has, and the indices of those candidates.
    """
    found = []
    for problem in problems:
        known = there.get(problem.id) or without_scores(problem)
        indices = missing(known, wanted[problem.id])
        if indices or problem.id not in there:
            found.append((known, indices))
    return found


class _Timed:
    """An evaluator with the seconds spent in it, `before` by earlier runs on one file, and `now`; the cost
    file keeps them.
    """

    def __init__(self, evaluator: Evaluator, out: Path, *, saves: bool) -> None:
        self._evaluator, self._path, self._saves = evaluator, cost_file(out), saves
        self.before = kept_seconds(out) or 0.0
        self.now = self._saved = 0.0

    def __call__(self, problem: str, solutions: Sequence[str]) -> list[float]:
        start = time.perf_counter()
        scores = self._evaluator(problem, solutions)
        self.now += time.perf_counter() - start
        if self.now - self._saved > SAVE_COST_S:
            self.save()
        return scores

    def save(self) -> None:
        if self._saves and self.now > self._saved:
            write_json(self._path, {"seconds": round(self.before + self.now, 3)})
            self._saved = self.now


def count_scored(problems: Sequence[SampledProblem]) -> dict[str, int]:
    """Candidates, how many have a score, and of how many distinct texts: the evaluator's calls, but for
    texts too long to be read.
    """
    scored = [{s.text for s in p.samples if s.score is not None} for p in problems]
    return {
        "candidates": sum(len(p.samples) for p in problems),
        "scored": sum(s.score is not None for p in problems for s in p.samples),
        "calls": sum(map(len, scored)),
    }


def record_cost(out: Path, seconds: float | None = None) -> None:
    """Write the cost file of a scored file that is done; a kill may have come before it.

    `seconds` in the evaluator are by default those that it knows already.
    """
    if seconds is None:
        seconds = kept_seconds(out) or 0.0
    write_json(cost_file(out), {**count_scored(read_samples(out)[1]), "seconds": round(seconds, 3)})


def score_file(
    out: Path,
    meta: dict[str, Any],
    problems: Sequence[SampledProblem],
    wanted: dict[str, tuple[int, ...]],
    evaluator: Evaluator,
) -> Iterator[str]:
    """Bring `out` to hold every wanted score; yields the id of each problem that had to be worked on.

    `problems` are those of the samples file, `wanted` the candidates to score by id (`wanted_indices`), and
    `out` is as `open_scored` left it. When the iterator ends, `out` holds all problems in their order, and
    the cost file says what that took. Of torchrun's processes each works on its share of the problems.
    """
    with processes.held_by_first(lock_of(out)):
        there = {p.id: p for p in read_samples(out)[1]}
        todo = lacking(problems, there, wanted)
        ids = [p.id for p in problems]
        grows = list(there) == ids[: len(there)] and not any(p.id in there for p, _ in todo)
        timed = _Timed(evaluator, out, saves=processes.is_first())
        try:
            with open_shared(out, meta, ids, grows=grows) as file:
                for problem, indices in my_share(todo):
                    file.append([score_problem(problem, indices, timed)])
                    yield problem.id
        finally:
            timed.save()
        processes.on_first(record_cost, out, timed.before + processes.total(timed.now))
