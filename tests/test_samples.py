"""Tests of mathref.samples: what is written is read back, a killed run goes on, bad lines are named."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from mathref.formats import Sample, SampledProblem
from mathref.samples import SamplesFile, read_samples

META = {"model": "runs/ssft", "temperature": 0.9, "shape": (1, 2)}


def write(path: Path, *records: Any) -> str:
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return str(path)


def sampled(id: str, n: int = 2, **more: Any) -> SampledProblem:
    samples = tuple(Sample(f"text {i} π\n", str(i), i == 1, -0.1 * i, i + 3, "stop") for i in range(n))
    return SampledProblem(id, f"Problem {id}", "1", samples, **more)


ALL = [
    sampled("a", level=3, subject="Algebra"),
    sampled("b", n=0),
    SampledProblem("c", "P", "1", (Sample("t", None, False, None, None, "length", 0.25),)),
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "new/folder/a.jsonl"])
def test_samples_round_trip(tmp_path: Path, name: str) -> None:
    with SamplesFile(tmp_path / name, META) as file:
        file.append(ALL[:2])
        file.append(ALL[2:])
        assert file.done == {"a", "b", "c"}
    meta, problems_ = read_samples(tmp_path / name)
    assert meta == {**META, "shape": [1, 2]}
    assert problems_ == ALL


def test_samples_lines_are_the_documented_ones(tmp_path: Path) -> None:
    with SamplesFile(tmp_path / "a.jsonl", {"seed": 0}) as file:
        file.append([sampled("a", n=1)])
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    sample = {"text": "text 0 π\n", "answer": "0", "correct": False, "logprob": 0.0, "tokens": 3}
    assert [json.loads(line) for line in lines] == [
        {"meta": {"seed": 0}},
        {"id": "a", "problem": "Problem a", "answer": "1", "samples": [{**sample, "finish_reason": "stop"}]},
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_killed_run_continues_from_every_byte(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with SamplesFile(path, META) as file:
        first = path.stat().st_size
        for problem_ in ALL:
            file.append([problem_])
    whole = path.read_bytes()
    for cut in range(first, len(whole), 7):
        path.write_bytes(whole[:cut])
        with SamplesFile(path, META) as file:
            there = set(file.done)
            file.append([p for p in ALL if p.id not in there])
        assert read_samples(path)[1] == ALL
        assert len(there) < 3


def test_samples_of_another_run_are_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with SamplesFile(path, META) as file:
        file.append(ALL)
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=r"temperature is 0\.9 there, 0\.6 here\); name another --out, or use"
    ):
        SamplesFile(path, {**META, "temperature": 0.6})
    with pytest.raises(ValueError, match=r"shape is \[1, 2\] there, null here and 1 more\)"):
        SamplesFile(path, {"model": "runs/ssft", "seed": 0, "temperature": 0.9})
    assert path.read_bytes() == before
    with SamplesFile(path, {"seed": 1}, overwrite=True) as file:
        assert file.done == set()
    assert read_samples(path) == ({"seed": 1}, [])


def test_on_a_gpu_a_run_goes_on_with_fewer_rows(tmp_path: Path) -> None:
    """It ran out of memory, was told to take fewer, and then refused its own file."""
    path = tmp_path / "a.jsonl"
    meta = {"seed": 0, "batch_rows": 256, "device": "cuda"}
    with SamplesFile(path, meta) as file:
        file.append(ALL[:1])
    with SamplesFile(path, {**meta, "batch_rows": 64}) as file:
        assert file.done == {"a"}
    with pytest.raises(ValueError, match="seed is 0 there, 1 here"):
        SamplesFile(path, {**meta, "batch_rows": 64, "seed": 1})
    with SamplesFile(tmp_path / "b.jsonl", {**meta, "device": "cpu"}) as file:
        file.append(ALL[:1])
    with pytest.raises(ValueError, match="batch_rows is 256 there, 64 here"):  # a CPU repeats to the last bit
        SamplesFile(tmp_path / "b.jsonl", {**meta, "device": "cpu", "batch_rows": 64})


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_file_without_samples_is_no_other_runs(name: str, tmp_path: Path) -> None:
    """What a run that failed before its first sample leaves; a line of another kind is still refused."""
    path = tmp_path / name
    with SamplesFile(path, META):
        pass
    with SamplesFile(path, {"seed": 1}) as file:
        assert file.done == set()
    assert read_samples(path) == ({"seed": 1}, [])
    path.write_text('{"id": "a"}\n')
    with pytest.raises(ValueError):
        SamplesFile(path, META)


@pytest.mark.parametrize("content", [b"my notes, no newline", b'{"id": "a"}\n{"half', b"PK\x03\x04"])
def test_a_file_of_another_kind_is_not_touched(tmp_path: Path, content: bytes) -> None:
    """Cutting off its last "unfinished" line before looking at the meta line would have destroyed it."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.jsonl"):
        SamplesFile(path, META)
    assert path.read_bytes() == content


def test_samples_file_in_place_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder, expected the name of a file"):
        SamplesFile(tmp_path, META)


def test_a_samples_file_is_no_pipe(tmp_path: Path) -> None:
    """An empty file is begun anew, and a pipe or a device looks empty: it was replaced by a file."""
    os.mkfifo(pipe := tmp_path / "pipe")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="pipe: is a device or a pipe"):
            SamplesFile(pipe, META, overwrite)
    assert pipe.is_fifo()


def test_samples_of_another_engine(tmp_path: Path) -> None:
    """No meta line, and only the text of each sample: the answer is extracted and graded here."""
    samples = [
        {"text": "So \\boxed{2}."},
        {"text": "So \\boxed{3}."},
        {"text": "no idea"},
        {"text": "x", "answer": "2"},
    ]
    path = write(tmp_path / "a.jsonl", {"id": "a", "problem": "P", "answer": "2", "samples": samples})
    meta, [read] = read_samples(path)
    assert meta == {}
    assert [(s.answer, s.correct) for s in read.samples] == [
        ("2", True),
        ("3", False),
        (None, False),
        ("2", True),
    ]
    assert read.samples[0] == Sample("So \\boxed{2}.", "2", True, None, None, "unknown", None)


GOOD = {"text": "t", "answer": "1", "correct": True, "logprob": -1, "tokens": 2, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, "field 'id' is null, expected text"),
        ({"id": 5}, "field 'id' is 5, expected text"),
        ({"answer": 5}, "field 'answer' is 5, expected text"),
        ({"samples": "x"}, "field 'samples' is \"x\", expected a list"),
        ({"samples": [GOOD, "x"]}, 'sample 1: "x", expected an object'),
        ({"samples": [{}]}, "sample 0: field 'text' is missing, expected text"),
        ({"samples": [{**GOOD, "answer": 5}]}, "sample 0: field 'answer' is 5, expected text"),
        (
            {"samples": [{**GOOD, "correct": "yes"}]},
            "sample 0: field 'correct' is \"yes\", expected true or false",
        ),
        ({"samples": [{**GOOD, "logprob": "x"}]}, "sample 0: field 'logprob' is \"x\", expected a number"),
        ({"samples": [{**GOOD, "tokens": 1.5}]}, "sample 0: field 'tokens' is 1.5, expected a whole number"),
        (
            {"samples": [{**GOOD, "tokens": True}]},
            "sample 0: field 'tokens' is true, expected a whole number",
        ),
        ({"samples": [{**GOOD, "score": True}]}, "sample 0: field 'score' is true, expected a number"),
        ({"level": "x"}, "field 'level' is \"x\", expected a whole number"),
    ],
)
def test_broken_samples_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    line = {"id": "a", "problem": "P", "answer": "1", "samples": [GOOD]}
    path = write(tmp_path / "a.jsonl", {"meta": {}}, {**line, "id": "b"}, {**line, **change})
    with pytest.raises(ValueError) as error:
        read_samples(path)
    assert str(error.value).startswith(f"{path}:3: {message}")


def test_other_broken_samples_files(tmp_path: Path) -> None:
    line = {"id": "a", "problem": "P", "answer": "1", "samples": []}
    with pytest.raises(ValueError, match=r"a\.jsonl:2: id 'a' is already on line 1"):
        read_samples(write(tmp_path / "a.jsonl", line, line))
    with pytest.raises(
        ValueError, match=r"b\.jsonl:1: field 'samples' is missing.*looks like a problem file"
    ):
        read_samples(
            write(
                tmp_path / "b.jsonl", {"id": "p1", "problem": "What is 1+0?", "answer": "1", "solution": "1"}
            )
        )
    with pytest.raises(ValueError, match=r"c\.jsonl:2: a second meta line"):
        read_samples(write(tmp_path / "c.jsonl", {"meta": {}}, {"meta": {}}))
    with pytest.raises(ValueError, match=r"d\.jsonl:1: field 'meta' is 5, expected an object"):
        read_samples(write(tmp_path / "d.jsonl", {"meta": 5}))
    with pytest.raises(FileNotFoundError, match=r"e\.jsonl: no such file"):
        read_samples(tmp_path / "e.jsonl")
