"""The records that travel between the commands, and the files that hold them.

Paper: section 3 (data sets, Table 1) and section 5 (the N samples of a problem).
Choices: samples of any engine are read; only `id`, `problem`, `answer` and the `text` of each sample must be there,
what else is missing is worked out (`answer`, `correct`) or left unknown (`logprob`, `tokens`, `finish_reason`).

One line of a samples file, after a first line {"meta": {...}}:
    {"id": "test-1", "problem": "What is 1+1?", "answer": "2", "samples": [{"text": "1+1=2. \\boxed{2}",
     "answer": "2", "correct": true, "logprob": -1.5, "tokens": 9, "finish_reason": "stop"}]}
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mathref.files import append_jsonl, atomic_write, drop_partial_line, read_jsonl


@dataclass(frozen=True)
class Problem:
    """A problem with its reference answer; `solution` is the training target X and ends in \\boxed{answer}."""

    id: str
    problem: str
    answer: str
    solution: str | None = None
    level: int | None = None
    subject: str | None = None


@dataclass(frozen=True)
class Sample:
    """One sampled solution X_i of a problem, its extracted answer A_i and its verdict g(A_i, A)."""

    text: str
    answer: str | None  # None: no answer could be extracted
    correct: bool
    logprob: float | None = None  # log p(X | P), summed over the tokens; None: the engine did not say
    tokens: int | None = None  # number of tokens, EOS included; None: the engine did not say
    finish_reason: str = "unknown"  # "stop", "length" or another engine's word
    score: float | None = None  # S_cls(X | P), once an evaluator has scored it


@dataclass(frozen=True)
class SampledProblem:
    """A problem with its N samples: one line of a samples file."""

    id: str
    problem: str
    answer: str
    samples: tuple[Sample, ...]
    level: int | None = None
    subject: str | None = None


_KINDS = {str: "text", bool: "true or false", list: "a list", dict: "an object", int: "a whole number"}


def _field(record: dict[str, Any], name: str, kind: type, where: str) -> Any:
    """The value of a field that must be there and of type `kind`; ValueError names place, field and type."""
    value = record.get(name)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    if name not in record:
        raise ValueError(f"{where}: field '{name}' is missing, expected {_KINDS[kind]}")
    raise ValueError(f"{where}: field '{name}' is {json.dumps(value)[:60]}, expected {_KINDS[kind]}")


def _optional(record: dict[str, Any], name: str, kind: type, where: str) -> Any:
    return None if record.get(name) is None else _field(record, name, kind, where)


def _number(record: dict[str, Any], name: str, where: str) -> float | None:
    value = record.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{where}: field '{name}' is {json.dumps(value)[:60]}, expected a number or null")
    return value


def _sample(record: Any, reference_answer: str, where: str) -> Sample:
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected an object with field 'text', found {type(record).__name__}")
    text = _field(record, "text", str, where)
    answer = _optional(record, "answer", str, where)
    correct = _optional(record, "correct", bool, where)
    if "answer" not in record or correct is None:
        from mathref.grader import extract_answer, is_equivalent  # late: sympy takes most of a second

        answer = answer if "answer" in record else extract_answer(text)
        correct = is_equivalent(answer, reference_answer) if correct is None else correct
    return Sample(
        text,
        answer,
        correct,
        logprob=_number(record, "logprob", where),
        tokens=_optional(record, "tokens", int, where),
        finish_reason=_optional(record, "finish_reason", str, where) or "unknown",
        score=_number(record, "score", where),
    )


def _sampled_problem(record: dict[str, Any], where: str) -> SampledProblem:
    if "samples" not in record and "problem" in record:
        raise ValueError(f"{where}: field 'samples' is missing: this looks like a problem file; "
                         "`python sample.py` makes samples of it")  # fmt: skip
    answer = _field(record, "answer", str, where)
    samples = _field(record, "samples", list, where)
    return SampledProblem(
        id=_field(record, "id", str, where),
        problem=_field(record, "problem", str, where),
        answer=answer,
        samples=tuple(_sample(s, answer, f"{where}: sample {i}") for i, s in enumerate(samples)),
        level=_optional(record, "level", int, where),
        subject=_optional(record, "subject", str, where),
    )


def _unique(seen: dict[str, int], id: str, path: Path, number: int) -> None:
    if id in seen:
        raise ValueError(
            f"{path}:{number}: id '{id}' is already on line {seen[id]}; every id must occur once"
        )
    seen[id] = number


def read_samples(path: str | Path) -> tuple[dict[str, Any], list[SampledProblem]]:
    """Read a samples file: the meta line ({} where a foreign file has none) and the problems in file order."""
    path = Path(path)
    meta: dict[str, Any] = {}
    problems: list[SampledProblem] = []
    seen: dict[str, int] = {}
    for number, record in read_jsonl(path):
        where = f"{path}:{number}"
        if "meta" in record and "samples" not in record:
            if number > 1:
                raise ValueError(f"{where}: a second meta line; samples of two runs belong in two files")
            meta = _field(record, "meta", dict, where)
            continue
        problems.append(_sampled_problem(record, where))
        _unique(seen, problems[-1].id, path, number)
    return meta, problems


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


class SamplesFile:
    """A samples file under construction: whole lines are appended, and a killed run continues at the next problem.

    Opening an existing file keeps its lines if its meta equals `meta` (then `done` holds the ids that are there)
    and refuses it otherwise; `overwrite=True` starts anew. Use it as a context manager.
    """

    def __init__(self, path: str | Path, meta: dict[str, Any], overwrite: bool = False) -> None:
        self.path = Path(path)
        self.meta: dict[str, Any] = json.loads(json.dumps(meta))  # as it reads back: tuples become lists
        self.done: set[str] = set()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_dir():
            raise ValueError(f"{self.path}: is a folder, expected the name of a samples file")
        if not overwrite and self.path.exists():
            drop_partial_line(self.path)
        if overwrite or not self.path.exists() or self.path.stat().st_size == 0:
            with atomic_write(self.path) as file:
                append_jsonl(file, [{"meta": self.meta}])
        else:
            there, problems = read_samples(self.path)
            self._check_meta(there)
            self.done = {problem.id for problem in problems}
        self._file: IO[bytes] = open(self.path, "ab")

    def _check_meta(self, there: dict[str, Any]) -> None:
        differing = [k for k in {**there, **self.meta} if there.get(k) != self.meta.get(k)]
        if differing:
            key = differing[0]
            rest = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
            raise ValueError(
                f"{self.path}: holds samples of another run ({key} is {json.dumps(there.get(key))} there, "
                f"{json.dumps(self.meta.get(key))} here{rest}); name another --out, or use --overwrite"
            )

    def append(self, problems: list[SampledProblem]) -> None:
        """Write finished problems; when this returns they are on the disk."""
        append_jsonl(self._file, [_sample_record(problem) for problem in problems])
        self.done.update(problem.id for problem in problems)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> SamplesFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
