r"""Problems in: what `--data` means, and which problems may be trained on.

Paper: section 3 (data sets, Table 1, the 500 held-out problems).
Choices: a format is recognised from the first record of a file and reported (formats.py shows each).
Validation problems are min(1000, 1/12 of the problems), one example each, chosen by the digests of their
texts, so that runs on the same data with other seeds are validated on what none of them was trained on [P];
no problem text stands on both sides. The contamination guard compares letters, digits and operators of
the texts (formats.normalized): a copy of a test problem is found however it is set, and x+3 is not a copy of
x-3 [P].

One line of a file with solved problems; formats.py has the other shapes, samples.py that of samples files:
    {"id": "a1", "problem": "What is 1+1?", "answer": "2", "solution": "1+1=2, so it is \\boxed{2}."}

    python -m mathref.data fetch gsm8k --to data      download a public data set
    python -m mathref.data check FILE                 say what a data file holds
    python -m mathref.data digests FILE               how assets/math500.digests was made, from MATH-500
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import itertools
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mathref.ablations import Ablation, ablate
from mathref.files import leaving_out, read_json, read_jsonl, skipped_notes
from mathref.formats import PER_PROBLEM, Problem, Row, Skipped, normalized, read_rows, recognize

Style = Literal["detailed", "brief", "both"]
DIGESTS = Path(__file__).parent / "assets" / "math500.digests"
MAX_VALIDATION, VALIDATION_SHARE = 1000, 12  # Table 1 has 1000 of 12000


# --- Problems -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loaded:
    """What a source holds: the problems, the format it was recognised as, and lines on what was left out."""

    problems: list[Problem]
    format: str
    notes: list[str]


@functools.cache  # the guard and the sources ask for the same splits
def _generated(split: str) -> tuple[Any, ...]:
    from mathref.problems import generate  # late: not needed for files

    return tuple(generate(split))


def _builtin(split: str, style: str, families: Collection[str] | None = None) -> list[Problem]:
    if style not in get_args(Style):
        raise ValueError(f"unknown style '{style}', expected one of {', '.join(get_args(Style))}")
    problems = []
    for p in _generated(split):
        if families is not None and p.family not in families:
            continue
        for word in ("detailed", "brief") if style == "both" else (style,):
            id = f"{p.id}/{word}" if style == "both" else p.id
            problems.append(Problem(id, p.problem, p.answer, getattr(p, word), p.level, p.subject))
    return problems


def _folder_rows(folder: Path, skipped: Skipped) -> Iterator[Row]:
    """The problems of a MATH folder, <subject>/<n>.json at any depth, in the order of their numbers."""
    files = [f for f in folder.rglob("*.json") if not f.name.startswith(".")]  # ._1.json: macOS's own
    if not files:
        tables = sorted(f.name for f in folder.glob("*.jsonl*"))
        hint = f"; name one of its files: {', '.join(tables[:5])}" if tables else ""
        raise ValueError(f"{folder}: no <subject>/<number>.json in this folder, as MATH has them{hint}")

    def by_number(file: Path) -> list[tuple[str, int]]:
        return [(text, int(n or 0)) for text, n in re.findall(r"(\D+)(\d*)", file.as_posix())]

    for file in sorted(files, key=by_number):
        parts = file.resolve().parts[-3:]  # ("train", "algebra", "1.json"): MATH-500 names problems so, too
        id = "/".join(parts) if parts[0] in ("train", "test") else file.relative_to(folder).as_posix()
        record = None
        with leaving_out(skipped):
            record = read_json(file)
            if not isinstance(record, dict):
                found = type(record).__name__
                raise ValueError(f"{file}: expected one problem as a JSON object, found {found}")
        if isinstance(record, dict):
            yield Row(str(file), id, record)


def _file_rows(path: Path, skipped: Skipped) -> Iterator[Row]:
    stem = re.sub(r"\.(jsonl|json|gz)\b", "", path.name)
    for number, record in read_jsonl(path, skipped):
        yield Row(f"{path}:{number}", f"{stem}:{number}", record)


def load_problems(
    source: str,
    *,
    split: str = "train",
    style: str = "detailed",
    per_problem: int | None = None,
    families: Collection[str] | None = None,
    skip_bad_lines: bool = False,
) -> Loaded:
    """Read "builtin", a MATH folder or a JSON Lines file (.gz by name) of a format of formats.py.

    For the built-in set: `split`, `style` ("detailed", "brief", "both": two examples a problem), `families`
    (problems.select_families; None: all). For PRM800K and samples files: `per_problem` (None: PER_PROBLEM of
    formats.py). Raises FileNotFoundError, or ValueError with file, line, field and what was expected; with
    `skip_bad_lines`, such lines (files of a folder) are left out, counted and listed in the notes.
    """
    if source == "builtin":
        notes = [] if families is None else [f"only of the families {', '.join(families)}"]
        return Loaded(_builtin(split, style, families), "built-in", notes)
    if families is not None:
        raise ValueError(
            f"{source}: --families and --exclude-families are for --data builtin, leave them out"
        )
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; expected 'builtin', a data file or a MATH folder")
    skipped: Skipped = [] if skip_bad_lines else None
    rows = _folder_rows(path, skipped) if path.is_dir() else _file_rows(path, skipped)
    format, first = None, None
    for first in rows:  # there is one, else the rows would have raised
        with leaving_out(skipped):
            format = recognize(first.record, first.where)
            break
    if format is None or first is None:
        raise ValueError(f"{path}: no line can be used; the first bad one: {(skipped or [''])[0]}")
    problems, notes = read_rows(format, itertools.chain([first], rows), per_problem, skipped)
    return Loaded(problems, format, notes + skipped_notes(skipped or []))


# --- The contamination guard ----------------------------------------------------------------------


def digest(problem: str) -> str:
    """sha256 of the normalised text, so that the 500 problems themselves need not be shipped."""
    return hashlib.sha256(normalized(problem).encode()).hexdigest()


@functools.cache
def held_out_digests() -> frozenset[str]:
    """Digests of the problems that are only ever evaluated: MATH-500 and the built-in test split."""
    if not DIGESTS.exists():  # without them the guard would silently guard nothing
        raise FileNotFoundError(f"{DIGESTS}: no such file; it belongs to mathref, install it again")
    lines = DIGESTS.read_text(encoding="ascii").split("\n")
    math500 = {line for line in lines if line and not line.startswith("#")}
    return frozenset(math500 | {digest(p.problem) for p in _builtin("test", "detailed")})


def remove_held_out(problems: list[Problem]) -> tuple[list[Problem], list[Problem]]:
    """Split into (kept, removed): removed are the problems that are held out, by normalised text."""
    held_out = held_out_digests()
    kept, removed = [], []
    for problem in problems:
        (removed if digest(problem.problem) in held_out else kept).append(problem)
    return kept, removed


# --- Training data --------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingData:
    """Examples to train on, problems to validate on, and lines that say how both came about.

    `apart` are texts of problems that no evaluator of such a generator may be trained on either: those of
    validation, as many as there are by default or more, and of built-in families left out.
    """

    train: list[Problem]
    validation: list[Problem]
    notes: list[str]
    apart: list[str]


def _trainable(problems: list[Problem], source: str, notes: list[str]) -> list[Problem]:
    """The problems with the held-out ones, those without a solution and exact repeats removed."""
    kept, removed = remove_held_out(problems)
    if removed:
        notes.append(f"{source}: {len(removed)} removed by the contamination guard (held-out problems)")
    solved = [p for p in kept if p.solution]
    if len(solved) < len(kept):
        notes.append(f"{source}: {len(kept) - len(solved)} left out, they have no solution to train on")
    unique = list({(normalized(p.problem), p.solution): p for p in reversed(solved)}.values())[::-1]
    if len(unique) < len(solved):
        notes.append(f"{source}: {len(solved) - len(unique)} repeats of problem and solution left out")
    if not unique:
        why = "no record has a 'solution'" if kept else "all problems are held out"
        if not problems:
            why = "no record is usable, `python -m mathref.data check` says why"
        raise ValueError(f"{source}: nothing is left to train on: {why}")
    return unique


def _cut(problems: list[Problem], n_validation: int | None) -> tuple[list[Problem], list[Problem], list[str]]:
    """(train, validation, apart): a problem has all its solutions on one side, validation keeps the first."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(normalized(problem.problem), []).append(problem)
    usual = min(MAX_VALIDATION, max(1, round(len(groups) / VALIDATION_SHARE))) if len(groups) > 1 else 0
    n = usual if n_validation is None else n_validation
    if not 0 <= n < len(groups):
        raise ValueError(
            f"cannot keep {n} validation problems of {len(groups)}, expected 0 to {len(groups) - 1}"
        )
    by_digest = sorted(groups, key=lambda text: hashlib.sha256(text.encode()).digest())
    apart = [groups[text][0].problem for text in by_digest[: max(n, usual)]]
    validation = [groups.pop(text)[0] for text in by_digest[:n]]
    return [p for found in groups.values() for p in found], validation, apart


@dataclass(frozen=True)
class _Taken:
    """The solutions that all sources so far have given, so that a cap or a repeat spans files."""

    per_problem: int | None
    formats: dict[str, dict[str | None, str]] = dataclasses.field(default_factory=dict)  # text, solution

    def add(self, problems: list[Problem], source: str, format: str, notes: list[str]) -> list[Problem]:
        """The `problems` of a source that are new and within the cap of their format; the others noted."""
        cap = (self.per_problem or PER_PROBLEM[format]) if format in PER_PROBLEM else sys.maxsize
        new = []
        for problem in problems:
            there = self.formats.setdefault(normalized(problem.problem), {})
            if problem.solution not in there and list(there.values()).count(format) < cap:
                there[problem.solution] = format
                new.append(problem)
        if n_left_out := len(problems) - len(new):
            beyond = f", or beyond {cap} a problem together with it" if cap < sys.maxsize else ""
            notes.append(f"{source}: {n_left_out} left out: there before{beyond}")
        return new


def _numbered(problems: list[Problem]) -> list[Problem]:
    """Make ids unique where two sources name a problem alike: the second "a" becomes "a#2"."""
    seen: set[str] = set()
    unique = []
    for problem in problems:
        id, count = problem.id, 1
        while id in seen:
            count += 1
            id = f"{problem.id}#{count}"
        seen.add(id)
        unique.append(dataclasses.replace(problem, id=id))
    return unique


def training_data(
    sources: list[str],
    *,
    style: str = "detailed",
    n_validation: int | None = None,
    per_problem: int | None = None,
    families: Collection[str] | None = None,
    ablation: Ablation | None = None,
    skip_bad_lines: bool = False,
) -> TrainingData:
    """Load, guard and split the sources of one training run (several are concatenated, as MATH + PRM800K).

    The built-in set brings its own validation problems (the first `n_validation` of them, of the same
    `families`; in the detailed style if `style` is "both"); from the files together `n_validation` are taken,
    by default min(1000, 1/12). `ablation` changes the training solutions, and no validation solution.
    `skip_bad_lines` as in `load_problems`.
    """
    if n_validation is not None and n_validation < 0:
        raise ValueError(f"cannot keep {n_validation} validation problems, expected 0 or more")
    notes: list[str] = []
    train: list[Problem] = []
    validation: list[Problem] = []
    from_files: list[Problem] = []
    apart: list[str] = []
    taken, formats = _Taken(per_problem), set()
    for source in dict.fromkeys(sources):
        of_source = families if source == "builtin" or "builtin" not in sources else None
        loaded = load_problems(
            source, style=style, per_problem=per_problem, families=of_source, skip_bad_lines=skip_bad_lines
        )
        formats.add(loaded.format)
        notes.append(f"{source}: {len(loaded.problems)} examples, format {loaded.format}")
        notes.extend(f"{source}: {note}" for note in loaded.notes)
        kept = _trainable(loaded.problems, source, notes)
        kept = taken.add(kept, source, loaded.format, notes)
        (train if source == "builtin" else from_files).extend(kept)
    if per_problem is not None and formats.isdisjoint(PER_PROBLEM):
        raise ValueError(
            f"--per-problem would be ignored: {', '.join(sources)} is of no format that may have several "
            f"solutions of a problem ({', '.join(PER_PROBLEM)}); leave it out"
        )
    if "builtin" in sources:
        one_style = "detailed" if style == "both" else style
        validation = remove_held_out(_builtin("validation", one_style, families))[0][:n_validation]
        apart += [p.problem for p in _builtin("validation", one_style, None)]
        if families is not None:
            theirs = {p.problem for p in _builtin("train", one_style, families)}
            apart += [p.problem for p in _builtin("train", one_style, None) if p.problem not in theirs]
    if from_files:
        trained, kept_back, more = _cut(from_files, n_validation)
        train, validation, apart = train + trained, validation + kept_back, apart + more
        if further := len(from_files) - len(trained) - len(kept_back):
            notes.append(f"{further} further solutions of validation problems left out")
    validated = {normalized(p.problem) for p in validation}
    kept = [p for p in train if normalized(p.problem) not in validated]
    if len(kept) < len(train):
        notes.append(f"{len(train) - len(kept)} left out of training: their problem is a validation problem")
    notes.append(f"{len(kept)} training examples, {len(validation)} validation problems")
    kept, changes = ablate(kept, ablation or Ablation())
    notes.extend(changes)
    numbered = _numbered(validation + kept)
    return TrainingData(numbered[len(validation) :], numbered[: len(validation)], notes, apart)


# --- python -m mathref.data -----------------------------------------------------------------------


def _parse_args(argv: list[str] | None) -> argparse.Namespace:
    from mathref.fetch import DATASETS

    parser = argparse.ArgumentParser(
        prog="python -m mathref.data", description="Data sets: fetch, check, guard."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("fetch", help="download a public data set and verify its sha256")
    fetch.add_argument(
        "name", choices=list(DATASETS), help="; ".join(f"{k}: {v.about}" for k, v in DATASETS.items())
    )
    fetch.add_argument("--to", default="data", help="folder for the files (default: data)")
    fetch.add_argument("--base-url", help="take the files, under the same names, from a mirror of yours")
    check = commands.add_parser("check", help="say what a data file holds")
    check.add_argument("file", help="a data file, a MATH folder or builtin")
    check.add_argument("--skip-bad-lines", action="store_true", help="list bad lines instead of ending")
    digests = commands.add_parser("digests", help="print the contamination guard's digests of a problem file")
    digests.add_argument("file", help="the held-out problems, e.g. MATH-500's test.jsonl")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """The command `python -m mathref.data`."""
    args = _parse_args(argv)
    if args.command == "fetch":
        from mathref.fetch import fetch
        from mathref.runs import spelled

        paths = fetch(args.name, Path(args.to), base_url=args.base_url)
        print(*[f"{path}: complete, sha256 verified" for path in paths], sep="\n")
        train = [path for path in paths if "test" not in path.name]
        command = ("train.py", "--stage", "ssft") if train else ("sample.py",)
        print(f"next: {spelled(*command, '--data', *(train or paths[:1]))}")
    elif args.command == "check":
        loaded = load_problems(args.file, skip_bad_lines=args.skip_bad_lines)
        held_out = len(remove_held_out(loaded.problems)[1])
        solved = sum(p.solution is not None for p in loaded.problems)
        print(
            f"{args.file}: {len(loaded.problems)} problems, {solved} with a solution, format {loaded.format}"
        )
        print(*loaded.notes, f"{held_out} are held out: training would leave them out", sep="\n")
    else:
        print(*sorted({digest(p.problem) for p in load_problems(args.file).problems}), sep="\n")


if __name__ == "__main__":
    from mathref.runs import run_command

    sys.exit(run_command(main))
