"""mathref.scoring with a counting evaluator: what is scored, what is not, and what a kill leaves behind."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mathref.formats import Sample, SampledProblem
from mathref.rerank import LIKELIHOOD, STRATEGIES
from mathref.samples import SamplesFile, read_samples
from mathref.scoring import (
    cost_file,
    kept_seconds,
    likelihood,
    open_scored,
    samples_digest,
    score_file,
    score_problem,
    wanted_indices,
    without_scores,
)

META = {"model": "ssft", "evaluator": "scr"}


def sampled(number: int, answers: str) -> SampledProblem:
    """A problem with one sample per letter: "A" is right, "-" has no answer; texts differ."""
    samples = tuple(
        Sample(f"{number}.{i} gives {letter}", None if letter == "-" else letter, letter == "A")
        for i, letter in enumerate(answers)
    )
    return SampledProblem(f"p{number}", f"Problem {number}", "A", samples)


PROBLEMS = [sampled(1, "AABBBC-"), sampled(2, "--"), sampled(3, "ABCDAB"), sampled(4, "A")]


class Counting:
    """An evaluator whose scores depend on the text alone, and which fails when it sees a text again."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.seen: list[tuple[str, str]] = []
        self.fail_at = fail_at

    def __call__(self, problem: str, solutions: Sequence[str]) -> list[float]:
        if self.fail_at is not None and len({p for p, _ in self.seen}) >= self.fail_at:
            raise KeyboardInterrupt
        pairs = [(problem, text) for text in solutions]
        assert not set(pairs) & set(self.seen) and len(pairs) == len(set(pairs)), "scored twice"
        self.seen += pairs
        return [value(text) for text in solutions]


def value(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def run(out: Path, evaluator: Counting, strategies: Sequence[str] = STRATEGIES, k: int = 8) -> list[str]:
    open_scored(out, META, PROBLEMS)
    return list(score_file(out, META, PROBLEMS, wanted_indices(PROBLEMS, strategies, k), evaluator))


def whole(tmp_path: Path, strategies: Sequence[str] = STRATEGIES, k: int = 8) -> bytes:
    """The bytes of an undisturbed run."""
    out = tmp_path / "whole.jsonl"
    run(out, Counting(), strategies, k)
    return out.read_bytes()


@pytest.mark.parametrize(
    ("strategies", "k", "expected"),
    [
        (["maj1"], 8, {"p1": (), "p2": (), "p3": (), "p4": ()}),
        (["rr.majk"], 1, {"p1": (2, 3, 4), "p2": (), "p3": (0, 4), "p4": (0,)}),
        (["w.rr.majk", "maj1"], 2, {"p1": (0, 1, 2, 3, 4), "p2": (), "p3": (0, 1, 4, 5), "p4": (0,)}),
        (["rr.majk", "w.rr"], 1, {"p1": (0, 1, 2, 3, 4, 5), "p2": (), "p3": (0, 1, 2, 3, 4, 5), "p4": (0,)}),
    ],
)
def test_only_what_the_rules_read_is_scored(
    tmp_path: Path, strategies: list[str], k: int, expected: dict[str, tuple[int, ...]]
) -> None:
    assert wanted_indices(PROBLEMS, strategies, k) == expected
    evaluator = Counting()
    run(tmp_path / "s.jsonl", evaluator, strategies, k)
    assert len(evaluator.seen) == sum(map(len, expected.values()))
    meta, problems = read_samples(tmp_path / "s.jsonl")
    assert meta == META and [p.id for p in problems] == [p.id for p in PROBLEMS]
    for before, after in zip(PROBLEMS, problems, strict=True):
        scored = tuple(i for i, s in enumerate(after.samples) if s.score is not None)
        assert scored == expected[after.id]
        assert all(s.score in (None, value(s.text)) for s in after.samples)
        assert [s.text for s in after.samples] == [s.text for s in before.samples]


def test_more_rules_cost_only_what_is_missing(tmp_path: Path) -> None:
    """One counting evaluator over three runs: the third adds nothing, and the file is that of one run."""
    out, evaluator = tmp_path / "s.jsonl", Counting()
    run(out, evaluator, ["rr.majk"], 1)
    assert len(evaluator.seen) == 6
    assert run(out, evaluator, ["w.rr"]) == ["p1", "p3"]
    assert len(evaluator.seen) == 13
    before = out.read_bytes()
    assert run(out, evaluator) == [] and len(evaluator.seen) == 13
    assert out.read_bytes() == before == whole(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("s.*")) == ["s.jsonl", "s.jsonl.cost.json"]


def test_a_cut_file_is_completed_to_the_byte(tmp_path: Path) -> None:
    complete, out = whole(tmp_path), tmp_path / "s.jsonl"
    lines = complete.splitlines(keepends=True)
    for kept in (b"", lines[0], b"".join(lines[:3]), b"".join(lines[:2]) + lines[2][:50], complete):
        out.write_bytes(kept)
        run(out, Counting())
        assert out.read_bytes() == complete


@pytest.mark.parametrize("fail_at", [0, 1, 2])
def test_a_killed_extension_loses_nothing(tmp_path: Path, fail_at: int) -> None:
    """Killed while a later run adds scores: what it had scored is kept and not scored again."""
    out, first = tmp_path / "s.jsonl", Counting()
    run(out, first, ["rr.majk"], 1)
    killed = Counting(fail_at)
    try:
        run(out, killed)
    except KeyboardInterrupt:
        assert fail_at < 2
    part = out.with_name(out.name + ".part0")
    if part.exists():
        part.write_bytes(part.read_bytes() + b'{"id": "p9", "pro')  # and an unfinished line
    again = Counting()
    again.seen = first.seen + killed.seen
    run(out, again)
    assert out.read_bytes() == whole(tmp_path)
    assert len(again.seen) == 13 and not part.exists()


def test_equal_texts_are_one_call() -> None:
    """Samples 0, 2 and 3 say the same; 3 is asked for later and is there already."""
    texts = ["same", "other", "same", "same"]
    problem = SampledProblem("p", "P", "1", tuple(Sample(text, "1", True) for text in texts))
    evaluator = Counting()
    once = score_problem(problem, (0, 1, 2), evaluator)
    assert [text for _, text in evaluator.seen] == ["same", "other"]
    twice = score_problem(once, (0, 1, 2, 3), evaluator)
    assert len(evaluator.seen) == 2
    assert [s.score for s in twice.samples] == [value(text) for text in texts]


def test_scores_of_another_evaluator_are_not_taken_over(tmp_path: Path) -> None:
    scored = [score_problem(p, range(len(p.samples)), lambda _, texts: [0.5] * len(texts)) for p in PROBLEMS]
    out = tmp_path / "s.jsonl"
    open_scored(out, META, PROBLEMS)
    list(score_file(out, META, scored, wanted_indices(scored, ["rr.majk"], 1), Counting()))
    found = [s.score for p in read_samples(out)[1] for s in p.samples]
    assert 0.5 not in found and None in found
    assert samples_digest(scored) == samples_digest(PROBLEMS)


def test_a_mended_samples_file_changes_all_but_the_scores(tmp_path: Path) -> None:
    """Stale verdicts stayed in the scored file: its digest did not see them, and its lines were not read."""
    out, evaluator = tmp_path / "s.jsonl", Counting()
    run(out, evaluator)
    before = {p.id: [s.score for s in p.samples] for p in read_samples(out)[1]}
    calls = len(evaluator.seen)
    mended = [
        dataclasses.replace(
            p,
            answer="C",
            samples=tuple(
                dataclasses.replace(s, answer=s.answer or "D", correct=s.answer == "C", logprob=-1.0)
                for s in p.samples
            ),
        )
        for p in PROBLEMS
    ]
    assert samples_digest(mended) == samples_digest(PROBLEMS)
    wanted = wanted_indices(PROBLEMS, STRATEGIES, 8)
    open_scored(out, META, mended)
    assert list(score_file(out, META, mended, wanted, evaluator)) == [] and len(evaluator.seen) == calls
    found = read_samples(out)[1]
    assert {p.id: [s.score for s in p.samples] for p in found} == before
    assert [without_scores(p) for p in found] == mended
    # An answer where there was none asks for a score of its own, and for no other.
    wanted = wanted_indices(mended, STRATEGIES, 8)
    assert list(score_file(out, META, mended, wanted, evaluator)) == ["p1", "p2"]
    assert len(evaluator.seen) == calls + 3


def test_likelihoods_follow_the_log_probabilities(tmp_path: Path) -> None:
    out, meta = tmp_path / "s.jsonl", {"evaluator": LIKELIHOOD}
    for logprob in (-1.0, -2.0):
        samples = [
            dataclasses.replace(p, samples=tuple(dataclasses.replace(s, logprob=logprob) for s in p.samples))
            for p in PROBLEMS
        ]
        open_scored(out, meta, samples)
        list(score_file(out, meta, samples, wanted_indices(samples, STRATEGIES, 8), likelihood(samples)))
        found = {s.score for p in read_samples(out)[1] for s in p.samples}
        assert found == {math.exp(logprob), None}


def test_the_cost_is_kept_over_runs(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    run(out, Counting(), ["rr.majk"], 1)
    first = json.loads(cost_file(out).read_text())
    assert first["candidates"] == 16 and first["scored"] == first["calls"] == 6 and first["seconds"] >= 0
    cost_file(out).write_text(json.dumps({**first, "seconds": 100.0}))
    run(out, Counting(), ["w.rr"])
    second = json.loads(cost_file(out).read_text())
    assert second["scored"] == 13 and second["seconds"] >= 100.0


def test_another_evaluators_file_is_refused_and_kept(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    run(out, Counting())
    before = out.read_bytes()
    with pytest.raises(ValueError, match="evaluator is .*--overwrite"):
        open_scored(out, {**META, "evaluator": "other"}, PROBLEMS)
    assert out.read_bytes() == before
    assert open_scored(out, {**META, "evaluator": "other"}, PROBLEMS, overwrite=True) == {}
    assert not cost_file(out).exists()


def test_a_gzip_file_is_extended_too(tmp_path: Path) -> None:
    out, evaluator = tmp_path / "s.jsonl.gz", Counting()
    run(out, evaluator, ["rr.majk"], 1)
    run(out, evaluator)
    assert [s.score is None for p in read_samples(out)[1] for s in p.samples].count(False) == 13
    with SamplesFile(out, META) as file:
        assert file.done == {p.id for p in PROBLEMS}


def test_no_torch_is_imported() -> None:
    modules = "mathref.scoring, mathref.tables, mathref.plots, mathref.adaptive, mathref.calibration"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_digest_is_of_the_solutions():
    """Verdicts may be mended, solutions may not: other texts have no scores yet."""
    one = SampledProblem("p", "P", "1", (Sample("It is 1.", "1", True),))
    mended = SampledProblem("p", "P", "2", (Sample("It is 1.", "1", False),))
    other = SampledProblem("p", "P", "1", (Sample("So it is 1.", "1", True),))
    assert samples_digest([one]) == samples_digest([mended]) != samples_digest([other])


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"seconds": null}', '{"seconds": "x"}'])
def test_a_cost_file_of_another_shape_is_named(tmp_path: Path, content: str) -> None:
    """It ended evaluate.py and rerank.py in a KeyError or a TypeError."""
    open_scored(tmp_path / "s.jsonl", META, PROBLEMS)
    cost_file(tmp_path / "s.jsonl").write_text(content)
    with pytest.raises(ValueError, match=r"s\.jsonl\.cost\.json: 'seconds' is .*; remove the file"):
        kept_seconds(tmp_path / "s.jsonl")
    with pytest.raises(ValueError, match=r"s\.jsonl\.cost\.json: 'seconds' is .*; remove the file"):
        list(score_file(tmp_path / "s.jsonl", META, PROBLEMS, {p.id: () for p in PROBLEMS}, lambda *_: []))
