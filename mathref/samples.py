r"""Samples files: the solutions that a model wrote of each problem, and what was found out about them.

Paper: section 5 (the N samples of a problem), section 7 (their scores).
Choices: one JSON line a problem, appended whole, so that a killed run goes on with the next problem; a first
line says where the samples come from, and samples of another origin are never added to them [P].
Samples of any engine are read: only `id`, `problem`, `answer` and the `text` of each sample must be there; a
missing `answer` or `correct` is worked out (formats.py).

A samples file of one problem:
    {"meta": {"model": "runs/ssft", "temperature": 0.9, "seed": 0}}
    {"id": "a1", "problem": "What is 1+1?", "answer": "2", "samples": [{"text": "The answer is \\boxed{2}.",
     "answer": "2", "correct": true, "logprob": -1.5, "tokens": 9, "finish_reason": "stop"}]}
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mathref.files import (
    append_jsonl,
    atomic_write,
    drop_partial_line,
    drop_temporaries,
    leaving_out,
    locked,
    open_appending,
    read_jsonl,
    skipped_notes,
    writable,
)
from mathref.formats import SampledProblem, Skipped, field, sampled_problem

OTHER_OUT = "name another --out, or use --overwrite"


def read_samples(path: str | Path, skipped: Skipped = None) -> tuple[dict[str, Any], list[SampledProblem]]:
    """Read a samples file: its meta line ({} where a foreign file has none) and its problems, in order.

    A bad line raises ValueError; with a list `skipped`, it is left out, and the list says why.
    """
    path = Path(path)
    meta: dict[str, Any] = {}
    problems: list[SampledProblem] = []
    seen: dict[str, int] = {}
    for number, record in read_jsonl(path, skipped):
        where = f"{path}:{number}"
        with leaving_out(skipped):
            if "meta" in record and "samples" not in record:
                if number > 1:
                    raise ValueError(f"{where}: a second meta line; samples of two runs belong in two files")
                meta = field(record, "meta", dict, where)
                continue
            problem = sampled_problem(record, where)
            if problem.id in seen:
                raise ValueError(f"{where}: id '{problem.id}' is already on line {seen[problem.id]}")
            seen[problem.id] = number
            problems.append(problem)
    if skipped and not problems:
        raise ValueError(f"{path}: no line can be used; the first bad one: {skipped[0]}")
    return meta, problems


def read_samples_noted(
    path: str | Path, *, skip_bad_lines: bool
) -> tuple[dict[str, Any], list[SampledProblem], list[str]]:
    """`read_samples`, and lines for the user about the bad ones that were left out, if they may be."""
    skipped: Skipped = [] if skip_bad_lines else None
    meta, problems = read_samples(path, skipped)
    return meta, problems, [f"{path}: {note}" for note in skipped_notes(skipped or [])]


def _sample_record(problem: SampledProblem) -> dict[str, Any]:
    """The JSON object of one line; level, subject and score are left out where unknown."""
    record = dataclasses.asdict(problem)
    for name in ("level", "subject"):
        if record[name] is None:
            del record[name]
    for sample in record["samples"]:
        if sample["score"] is None:
            del sample["score"]
    record["samples"] = record.pop("samples")  # the long field last, so that a line's head shows what it is
    return record


def write_samples(path: str | Path, meta: dict[str, Any], problems: Iterable[SampledProblem]) -> None:
    """Write a whole samples file at once; one that is there is replaced whole or not at all."""
    path = Path(path)
    with atomic_write(path) as file:
        records = [{"meta": meta}, *map(_sample_record, problems)]
        append_jsonl(file, records, compress=path.suffix == ".gz")


def lock_of(path: Path) -> contextlib.AbstractContextManager[None]:
    """The lock of a samples file; ValueError for what cannot be one."""
    writable(path)
    return locked(path.with_name(f".{path.name}.lock"), path)


class SamplesFile:
    """A samples file that grows by whole lines, so that a killed run continues at the next problem.

    Opening an existing file keeps its lines if its meta equals `meta` (`done` then holds the ids that are
    there) and refuses it otherwise, with `advice`; `overwrite=True` starts anew. Use it as a context manager:
    until it is closed no other process can open it (BlockingIOError).
    """

    def __init__(
        self, path: str | Path, meta: dict[str, Any], overwrite: bool = False, advice: str = OTHER_OUT
    ) -> None:
        self.path, self.advice = Path(path), advice
        self.meta: dict[str, Any] = json.loads(json.dumps(meta))  # as it reads back: tuples become lists
        self.done: set[str] = set()
        self._compress = self.path.suffix == ".gz"
        with contextlib.ExitStack() as opened:
            opened.enter_context(lock_of(self.path))
            self._open(overwrite)
            self._file = opened.enter_context(open_appending(self.path))
            self._closing = opened.pop_all()

    def _open(self, overwrite: bool) -> None:
        """Begin the file with its meta line, or check it and find out what it holds."""
        written = writable(self.path)
        drop_temporaries(written.parent, written.name)
        if overwrite or not self.path.exists() or self._is_unused():
            with atomic_write(self.path) as file:
                append_jsonl(file, [{"meta": self.meta}], compress=self._compress)
        else:
            self._check_meta()  # before anything is cut off: it may be a file of another kind
            drop_partial_line(self.path)
            self.done = {problem.id for problem in read_samples(self.path)[1]}

    def _is_unused(self) -> bool:
        """Whether no sample is lost with the file: it is empty, or a run failed before its first one."""
        if self.path.stat().st_size == 0:
            return True
        lines = (line for _, line in read_jsonl(self.path))
        with contextlib.suppress(ValueError):  # half a line, or another kind of file
            return next(lines, {}).keys() == {"meta"} and next(lines, None) is None
        return False

    def _check_meta(self) -> None:
        there = next(read_jsonl(self.path))[1].get("meta")
        if not isinstance(there, dict):
            raise ValueError(
                f"{self.path}: does not begin with a meta line, so it is not added to; {self.advice}"
            )
        differing = [k for k in {**there, **self.meta} if there.get(k) != self.meta.get(k)]
        if self.meta.get("device", "cpu") != "cpu":
            # A GPU repeats no run to the last bit, and one that ran out of memory goes on with fewer rows.
            differing = [k for k in differing if k != "batch_rows"]
        if differing:
            key = differing[0]
            rest = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
            raise ValueError(
                f"{self.path}: holds samples of another run ({key} is {json.dumps(there.get(key))} there, "
                f"{json.dumps(self.meta.get(key))} here{rest}); {self.advice}"
            )

    def append(self, problems: list[SampledProblem]) -> None:
        """Write finished problems; when this returns they are on the disk."""
        append_jsonl(self._file, [_sample_record(p) for p in problems], compress=self._compress)
        self.done.update(problem.id for problem in problems)

    def close(self) -> None:
        self._closing.close()

    def __enter__(self) -> SamplesFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
