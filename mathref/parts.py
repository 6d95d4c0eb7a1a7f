"""A samples file that several processes write: each appends to a part of its own, the first merges them.

Paper: none; sampling 64 solutions of 500 problems is what takes longest, and problems need nothing of one
another.
Choices [P]: a part is FILE.part0, FILE.part1 ..., a samples file with FILE's own meta line. What is worked on
together (a group of problems, sampler.problems_per_group) is cut as one process cuts it and goes to one
process whole, so that the merged file is byte for byte that of one process (.gz: once unpacked). Whatever a
kill leaves of FILE and its parts is used by the same command, on any number of processes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mathref import processes
from mathref.formats import SampledProblem
from mathref.samples import OTHER_OUT, SamplesFile, lock_of, read_samples, write_samples

Item = TypeVar("Item")


def my_share(items: Sequence[Item]) -> Sequence[Item]:
    """Those of the items that this process works on: all, where it is alone."""
    return items[processes.rank() :: processes.world_size()]


@contextmanager
def open_shared(
    path: Path,
    meta: dict[str, Any],
    ids: Sequence[str],
    *,
    overwrite: bool = False,
    grows: bool = True,
    advice: str = OTHER_OUT,
) -> Iterator[SamplesFile]:
    """The samples file to append this process's share to; `done` holds what any process has written before.

    When the block ends without an error, `path` holds all that was written, in the order of `ids`. Alone, and
    where no parts are left, that is `SamplesFile`, unless lines of `path` are going to change or to come
    between others (`grows` false). Errors are those of `SamplesFile`.
    """
    with processes.held_by_first(lock_of(path)):
        if processes.world_size() == 1 and grows and not _parts(path):
            with SamplesFile(path, meta, overwrite, advice) as file:
                yield file
            return
        done = processes.on_first(_written, path, meta, overwrite, advice)
        with SamplesFile(_part(path, processes.rank()), meta) as file:
            file.done |= done
            yield file
        processes.barrier()
        processes.on_first(_merge, path, meta, ids)


def take_up(path: Path, meta: dict[str, Any], *, overwrite: bool = False) -> None:
    """Create the samples file, or bring what a killed run has left in parts into the one that is there."""

    def fold() -> None:
        _written(path, meta, overwrite)
        if _parts(path):
            _merge(path, meta)

    processes.on_first(fold)


def _part(path: Path, rank: int) -> Path:
    return path.with_name(f"{path.name}.part{rank}")


def _parts(path: Path) -> list[Path]:
    """The parts of a samples file that are there, those of a run with more processes included."""
    name = re.compile(re.escape(path.name) + r"\.part\d+")
    return sorted(p for p in path.parent.glob("*") if name.fullmatch(p.name))


def _written(path: Path, meta: dict[str, Any], overwrite: bool, advice: str = OTHER_OUT) -> set[str]:
    """Ids of the problems in `path`, which is created where it is not there, and in its parts.

    Raises ValueError where one of them belongs to another run.
    """
    done: set[str] = set()
    if overwrite:
        for part in _parts(path):
            part.unlink()
    for file in (path, *_parts(path)):
        with SamplesFile(file, meta, overwrite and file == path, advice) as found:  # cuts off half a line
            done |= found.done
    return done


def _merge(path: Path, meta: dict[str, Any], ids: Sequence[str] = ()) -> None:
    """Bring what the parts hold into `path`, in the order of `ids`, others behind them, and remove the parts.

    A problem that is there twice is taken from a part, where it has more scores. Doing it twice does no harm.
    """
    found: dict[str, SampledProblem] = {}
    for file in (path, *_parts(path)):
        found |= {problem.id: problem for problem in read_samples(file)[1]}
    place = {problem_id: n for n, problem_id in enumerate(ids)}
    write_samples(path, meta, sorted(found.values(), key=lambda problem: place.get(problem.id, len(place))))
    for part in _parts(path):
        part.unlink()
