"""Data that somebody damaged or made to do harm: every reader reads it, or ends in one line that says where.

A mutant is a small file of one of the known shapes with one to four changes to its bytes or records. It is
read strictly, and with bad lines left out. Nothing but ValueError escapes, with one line that names the
file; strict reading fails just where lines are left out; and no line vanishes: what is kept, counted as left
out and listed as bad makes up the file. The default run tries some hundreds; `pytest -m slow` for this file
20,000, and the large ones (a line of 100 MB, gzip bombs).

    python tests/test_fuzz_data.py FIRST N         mutants FIRST to FIRST + N - 1
"""

from __future__ import annotations

import gzip
import json
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a program, without pytest

import evaluate  # noqa: E402
import rerank  # noqa: E402
import sample  # noqa: E402
import train  # noqa: E402
from mathref import data, files, report  # noqa: E402
from mathref.data import load_problems  # noqa: E402
from mathref.runs import run_command  # noqa: E402
from mathref.samples import read_samples  # noqa: E402

Records = list[dict[str, Any]]


def originals() -> dict[str, Records]:
    """Six records of each shape of formats.py; those of PRM800K are labelled as its annotators did."""
    plain = [
        {"id": f"p{n}", "problem": f"What is {n}+{n}?", "answer": str(2 * n), "level": n % 5 + 1,
         "solution": f"{n}+{n}=\\boxed{{{2 * n}}}."} for n in range(2, 8)
    ]  # fmt: skip
    found: dict[str, Records] = {
        name: [] for name in ("plain", "MATH", "MATH-500", "GSM8K", "PRM800K", "judged", "samples")
    }
    found["samples"].append({"meta": {"model": "m", "seed": 0}})
    for n, p in enumerate(plain):
        problem, answer, solution = p["problem"], p["answer"], p["solution"]
        found["plain"].append(p)
        found["MATH"].append(
            {"problem": problem, "solution": solution, "level": "Level 3", "type": "Algebra"}
        )
        found["MATH-500"].append(p | {"id": None, "subject": "Algebra", "unique_id": f"test/{n}.json"})
        found["GSM8K"].append({"question": problem, "answer": f"<<1+1=2>>{solution}\n#### {answer}"})
        found["PRM800K"].append(labelled(problem, answer))
        found["judged"].append(p | {"gold": answer, "correct": n % 2 == 0})
        sample = {"text": solution, "answer": answer, "correct": True, "logprob": -1.5, "tokens": 9}
        samples = [sample, {"text": "It is 7."}, sample | {"correct": False, "score": 0.25}]
        found["samples"].append({"id": p["id"], "problem": problem, "answer": answer, "samples": samples})
    return found


def labelled(problem: str, answer: str) -> dict[str, Any]:
    """A record of PRM800K: one step chosen of two, one written by a human."""
    given = [{"text": "We add.", "rating": 1}, {"text": "I give up.", "rating": -1}]
    steps = [
        {"completions": given, "human_completion": None, "chosen_completion": 0},
        {"completions": [], "human_completion": {"text": f"# Answer\n\n{answer}"}, "chosen_completion": None},
    ]
    question = {"problem": problem, "ground_truth_answer": answer}
    return {"question": question, "label": {"finish_reason": "solution", "steps": steps}}


ORIGINALS = originals()
DEEP: Any = "x"
for _ in range(950):  # Python's json reads it, and a program that handles it may run out of its stack
    DEEP = [DEEP]
HOSTILE = (
    None, True, False, 0, -1, 7, 2.5, 1e308, float("nan"), float("inf"), -float("inf"), 10**30, 10**400,
    "", " ", "7", "\ud800", "\udc00\ud83d", "\0", "\u2028", "\u202e7", "\ufeff", "x" * 5000,
    "\\boxed{", "\\boxed{}", "#### ", "# Answer\n\n", "Level 9" + "9" * 5000, "Level ?", "p2",
    "../../etc/passwd", "9^{9^{9^9}}",
    [], {}, [[]], [None], [{}], {"text": None}, {"text": "a"}, [{"text": "\\boxed{4}"}], DEEP,
)  # fmt: skip
KEYS = (
    "id", "problem", "question", "answer", "solution", "level", "type", "subject", "unique_id", "gold",
    "correct", "label", "samples", "meta", "text", "logprob", "tokens", "finish_reason", "score", "steps",
    "chosen_completion", "human_completion", "completions", "rating", "ground_truth_answer",
)  # fmt: skip
LINES = (
    b"", b"\0", b"null", b"[]", b"7", b'"text"', b"{", b"{}", b"NaN", b"\xff\xfe", b"\xef\xbb\xbf",
    b"[" * 100_000, b'{"a":' * 100_000, b'{"n": ' + b"9" * 5000 + b"}", b'{"meta": {}}',
    b'{"problem": "a", "problem": "b", "answer": "1"}', b'{"problem": "\\ud800", "answer": "\\udfff"}',
    b'{"problem": "a\x01b", "answer": "1"}', b"{'problem': 'a', 'answer': '1'}",
)  # fmt: skip


# --- Mutations ----------------------------------------------------------------------------------------


def mutate_value(value: Any, rng: random.Random) -> Any:
    """Replace, remove or add one value somewhere inside."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if isinstance(value[key], dict | list) and value[key] and rng.random() < 0.7:
            return {**value, key: mutate_value(value[key], rng)}
        choice = rng.randrange(3)
        if choice == 0:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key if choice == 1 else rng.choice(KEYS): rng.choice(HOSTILE)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        i = rng.randrange(len(value))
        return [*value[:i], mutate_value(value[i], rng), *value[i + 1 :]]
    return rng.choice(HOSTILE)


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Cut, overwrite, insert, or put a hostile line in."""
    i = rng.randint(0, len(content))
    choice = rng.randrange(5)
    if choice == 0:
        return content[:i]
    if choice == 1:
        return content[:i] + rng.randbytes(rng.randint(1, 4)) + content[i + 4 :]
    if choice == 2:
        return (
            content[:i] + rng.choice([b"\0", b"\r", b"\n", b'"', b"{", b"\\", b"\xed\xa0\x80"]) + content[i:]
        )
    lines = content.split(b"\n")
    j = rng.randrange(len(lines))
    return b"\n".join([*lines[:j], rng.choice(LINES), *lines[j + (choice == 3) :]])


def encode(content: bytes, rng: random.Random) -> bytes:
    """Another encoding or other line ends, rarely."""
    choice = rng.randrange(30)
    if choice == 0:
        return content.decode("utf-8", "replace").encode(rng.choice(["utf-16", "utf-32", "utf-16-le"]))
    if choice == 1:
        return content.replace(b"\n", rng.choice([b"\r\n", b"\r", b"\n\n", b"\x0c\n", b"\xe2\x80\xa8"]))
    return b"\xef\xbb\xbf" + content if choice == 2 else content


def mutant(folder: Path, number: int) -> Path:
    """Write mutant `number` and return its path."""
    rng = random.Random(number)
    names = list(ORIGINALS)
    records: list[Any] = list(ORIGINALS[names[number % len(names)]])
    content = None
    for _ in range(rng.choice((1, 1, 2, 4))):
        i = rng.randrange(len(records))
        if content is None and rng.random() < 0.75:
            new = mutate_value(records[i], rng)
            records = [*records[:i], new, *records[i + (rng.random() < 0.8) :]]
        else:
            lines = [json.dumps(record, ensure_ascii=rng.random() < 0.5) for record in records]
            content = content if content is not None else "\n".join(lines).encode(errors="surrogatepass")
            content = mutate_bytes(content, rng)
    if content is None:
        content = "".join(json.dumps(record) + "\n" for record in records).encode()
    content = encode(content, rng)
    path = folder / (f"m{number}.jsonl" + ".gz" * (number % 5 == 0))
    if path.suffix == ".gz":
        content = gzip.compress(content, 1)
        content = mutate_bytes(content, rng) if rng.random() < 0.3 else content
    path.write_bytes(content)
    return path


# --- The check ----------------------------------------------------------------------------------------


class Fault(Exception):
    """What a reader did and must not do."""


def attempt(read: Any, path: Path) -> tuple[Any, str | None]:
    """(what was read, None) or (None, the line of the refusal); Fault for any other end."""
    try:
        return read(), None
    except ValueError as error:
        message = str(error)
    if "\n" in message or str(path) not in message:
        raise Fault(f"the message is not one line with the file's name: {message[:300]!r}")
    return None, message


def check_problems(path: Path) -> str:
    """Read as problems, strictly and leniently."""
    strict, refusal = attempt(lambda: load_problems(str(path)), path)
    lenient, rest = attempt(lambda: load_problems(str(path), skip_bad_lines=True), path)
    if lenient is None:
        if strict is not None:
            raise Fault(f"read strictly, but not with bad lines left out: {rest}")
        return "refused"
    bad = next(
        (int(n[1]) for note in lenient.notes if (n := re.match(r"(\d+) bad lines? left out", note))), 0
    )
    if (strict is None) != bool(bad):
        raise Fault(f"{bad} bad lines are left out, and strict reading says {refusal!r}")
    if refusal and not re.match(rf"{re.escape(str(path))}:\d+: ", refusal):
        raise Fault(f"the line is not named: {refusal!r}")
    if lenient.format != "samples":  # of which several problems, or none, may come from one line
        left_out = sum(int(n) for note in lenient.notes for n in re.findall(r"^(\d+) left out", note))
        found, lines = len(lenient.problems) + left_out + bad, count_lines(path)
        if found != lines:
            raise Fault(f"{lines} lines, but {found} accounted for: {lenient.notes}")
    return "read" if not bad else "read in part"


def check_samples(path: Path) -> None:
    """Read as samples of another engine, and make the numbers of the main table of them."""
    skipped: list[str] = []
    strict, refusal = attempt(lambda: read_samples(path), path)
    lenient, _ = attempt(lambda: read_samples(path, skipped), path)
    if lenient is None:
        if strict is not None:
            raise Fault("read strictly, but not with bad lines left out")
        return
    if (strict is None) != bool(skipped):
        raise Fault(f"{len(skipped)} bad lines are left out, and strict reading says {refusal!r}")
    meta, problems = lenient
    if (found := len(problems) + len(skipped)) not in ((lines := count_lines(path)), lines - 1):
        raise Fault(f"{lines} lines, but {found} accounted for")
    attempt(lambda: report.score(str(path), meta, problems), path)


def count_lines(path: Path) -> int:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return sum(bool(line.strip()) for line in content.split(b"\n"))


def try_mutants(first: int, n: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Read n mutants: how many ended in what, and what was wrong with any, which is printed at once."""
    outcomes: Counter[str] = Counter()
    faults = []
    for number in range(first, first + n):
        path = mutant(folder, number)
        try:
            outcomes[check_problems(path)] += 1
            check_samples(path)
        except Exception as error:  # whatever escapes is the finding
            faults.append(f"mutant {number}: {type(error).__name__}: {str(error)[:400]}")
            print(faults[-1], flush=True)
        path.unlink()
    return outcomes, faults


def test_whole_files_are_read(tmp_path: Path) -> None:
    """Else every mutant would be refused for the wrong reason."""
    for name, records in ORIGINALS.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        assert check_problems(path) == "read"
        assert len(load_problems(str(path)).problems) == (3 if name == "judged" else 6)
    check_samples(path)


def test_some_hundred_mutants(tmp_path: Path) -> None:
    outcomes, faults = try_mutants(0, 700, tmp_path)
    assert not faults, "\n".join(faults)
    assert min(outcomes[kind] for kind in ("read", "read in part", "refused")) > 50, outcomes  # none is rare


@pytest.mark.slow
def test_thousands_of_mutants(tmp_path: Path) -> None:
    outcomes, faults = try_mutants(700, 20_000, tmp_path)
    assert not faults, "\n".join(faults)


# --- One by one ---------------------------------------------------------------------------------------


def write(path: Path, *lines: bytes) -> Path:
    content = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


GOOD = b'{"problem": "What is 1+1?", "answer": "2", "solution": "\\\\boxed{2}"}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[" * 100_000, "not JSON (too deeply nested)"),
        (b'{"problem":' * 80_000, "not JSON (too deeply nested)"),
        (b'{"problem": "\xff", "answer": "1"}', "not JSON (not UTF-8 text)"),
        ('{"problem": "a", "answer": "1"}'.encode("utf-16"), "not JSON (not UTF-8 text)"),
        (b'{"problem": "a", "answer": "1", "answer": "2"}', "field 'answer' occurs twice"),
        (b'{"problem": "a", "answer": NaN}', "field 'answer' is nan, expected text or a finite number"),
        (
            b'{"problem": "a", "answer": -Infinity}',
            "field 'answer' is -inf, expected text or a finite number",
        ),
        (b'{"problem": "a", "answer": "1", "level": "Level ' + b"9" * 5000 + b'"}', "field 'level' is"),
        (b'{"problem": "a", "answer": "1", "level": ' + b"[" * 900 + b"]" * 900 + b"}", "field 'level' is"),
        (b'{"problem": "a\0b", "answer": "1"}', "not JSON (Invalid control character"),
        (b'{"problem": "' + b"a" * 2_000_000 + b'", "answer": "1"}', "more than 1 MB; if that is right, set"),
    ],
    ids=lambda value: value[:20].decode("latin-1") if isinstance(value, bytes) else "",
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_the_line_and_the_reason_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, line: bytes, message: str
) -> None:
    monkeypatch.setenv(files.MAX_LINE_MB, "1")
    path = write(tmp_path / name, GOOD, line, GOOD.replace(b"1+1", b"2"))
    with pytest.raises(ValueError, match=re.escape(f"{path}:2: ") + ".*" + re.escape(message)):
        load_problems(str(path))
    loaded = load_problems(str(path), skip_bad_lines=True)
    assert len(loaded.problems) == 2
    assert loaded.notes[0] == "1 bad line left out (--skip-bad-lines)" and message in loaded.notes[1]


def test_the_longest_line_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.jsonl", GOOD, GOOD[:-1] + b', "more": "' + b"x" * 1_500_000 + b'"}')
    monkeypatch.setenv(files.MAX_LINE_MB, "2")
    assert len(load_problems(str(path)).problems) == 2
    for value in ("0", "-1", "much", ""):
        monkeypatch.setenv(files.MAX_LINE_MB, value)
        with pytest.raises(ValueError, match=f"{files.MAX_LINE_MB} is '{value}', expected a whole number"):
            load_problems(str(path))


def test_a_json_file_is_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(files.MAX_LINE_MB, "1")
    (tmp_path / "1.json").write_bytes(b" " * 1_000_001 + GOOD)
    with pytest.raises(ValueError, match=r"1\.json: not valid JSON \(more than 1 MB"):
        load_problems(str(tmp_path))


def test_a_gzip_file_that_grows_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many short lines, and one long one; what grows less, or is small, is read."""
    monkeypatch.setattr(files, "FREE_GROWTH", 100_000)
    for name, content in (("lines", (b" " * 99 + b"\n") * 5000), ("line", b" " * 500_000)):
        path = write(tmp_path / f"{name}.jsonl.gz", GOOD, content)
        with pytest.raises(
            ValueError, match=rf"{name}\.jsonl\.gz:\d+: the file unpacked so far is over .*gunzip"
        ):
            load_problems(str(path), skip_bad_lines=True)  # no bad line: the file cannot be read on
    assert load_problems(str(write(tmp_path / "small.jsonl.gz", GOOD, b" " * 90_000))).problems


def test_the_first_ten_bad_lines_are_listed_and_all_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b"no", *[b"{", GOOD] * 1, *[b"[]"] * 12)
    notes = load_problems(str(path), skip_bad_lines=True).notes
    assert notes[0] == "14 bad lines left out (--skip-bad-lines)"
    assert [re.match(r"  .*a\.jsonl:(\d+): ", note)[1] for note in notes[1:11]] == [
        str(n) for n in (1, 2, 4, 5, 6, 7, 8, 9, 10, 11)
    ]
    assert notes[11:] == ["  and 4 more"]


def test_nothing_but_bad_lines_is_an_error_all_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b"no", b"{}")
    with pytest.raises(
        ValueError, match=r"a\.jsonl: no line can be used; the first bad one: .*a\.jsonl:1: not JSON"
    ):
        load_problems(str(path), skip_bad_lines=True)
    with pytest.raises(
        ValueError, match=r"a\.jsonl: no line can be used; the first bad one: .*a\.jsonl:1: not JSON"
    ):
        read_samples(path, [])


def test_bad_files_of_a_math_folder_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text("{")
    (tmp_path / "2.json").write_bytes(GOOD)
    with pytest.raises(ValueError, match=r"1\.json: not valid JSON"):
        load_problems(str(tmp_path))
    loaded = load_problems(str(tmp_path), skip_bad_lines=True)
    assert len(loaded.problems) == 1 and "1.json" in loaded.notes[1]


# --- The commands -------------------------------------------------------------------------------------


def run(command: Any, capsys: pytest.CaptureFixture[str], *flags: object) -> tuple[int, str]:
    """(exit status, all that was printed) of a command."""
    status = run_command(command.main, [str(flag) for flag in flags])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "rerank", "check"])
def test_every_command_names_bad_lines_and_leaves_them_out(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lone surrogate and a repeated id are among the lines; the first is read, the second is not."""
    kind = "samples" if command in ("evaluate", "rerank") else "plain"
    records = [json.dumps(record).encode() for record in ORIGINALS[kind]]
    odd = records[-1].replace(b"p7", b"p\\ud800")
    path = write(tmp_path / "d.jsonl", *records, b"not JSON", odd, records[-1])
    small = ("--device", "cpu", "--out", tmp_path / "out")
    steps = ("--stage", "ssft", "--steps", 1, "--batch-size", 1, "--n-greedy", 0, "--n-validation", 1)
    call: tuple[Any, tuple[object, ...]] = {
        "train": (train, (*steps, *small, "--data", path)),
        "sample": (sample, ("--model", "tiny", "--n", 1, "--max-new-tokens", 2, *small, "--data", path)),
        "evaluate": (evaluate, (path,)),
        "rerank": (rerank, ("--evaluator", "likelihood", *small, "--samples", path)),
        "check": (data, ("check", path)),
    }[command]
    bad = len(records) + 1
    status, printed = run(call[0], capsys, *call[1])
    assert status == 2 and f"error: {path}:{bad}: not JSON" in printed
    assert printed.count("error:") == 1 and "Traceback" not in printed
    status, printed = run(call[0], capsys, *call[1], "--skip-bad-lines")
    expected = 0 if command != "rerank" else 2  # a sample lacks the logprob of which the likelihood is made
    assert status == expected, printed
    assert "2 bad lines left out (--skip-bad-lines)" in printed
    assert f"{path}:{bad}: not JSON" in printed and f"{path}:{bad + 2}: id 'p7' is already" in printed


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory by Linux's own means")
@pytest.mark.parametrize("kind", ["100 MB", "300 MB", "gzip line", "gzip lines", "nested"])
def test_large_files_in_little_memory(kind: str, tmp_path: Path) -> None:
    """What is refused, and that 2 GB of memory do for it."""
    path = tmp_path / ("a.jsonl.gz" if "gzip" in kind else "a.jsonl")
    with gzip.open(path, "wb", 1) if "gzip" in kind else open(path, "wb") as file:
        file.write(GOOD + b"\n")
        if "MB" in kind:
            for text in (b'{"problem": "', *[b"a" * 10**6] * int(kind.split()[0]), b'", "answer": "1"}\n'):
                file.write(text)
        for _ in range(1_500 if "gzip" in kind else 0):
            file.write(b" " * 10**6 + b"\n" * (kind == "gzip lines"))
        if kind == "nested":
            file.write(b"[" * 10**8)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "from mathref.data import load_problems\n"
        "try: print(len(load_problems(sys.argv[1]).problems))\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    expected = {
        "100 MB": "2\n",
        "300 MB": f"{path}:2: not JSON (more than 256 MB",
        "gzip line": f"{path}:2: the file unpacked so far is over 1 GB",
        "gzip lines": f"{path}:1001: the file unpacked so far is over 1 GB",
        "nested": f"{path}:2: not JSON (too deeply nested)",
    }
    assert done.stdout.startswith(expected[kind]), done.stdout[:300] + done.stderr[-2000:]


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        outcomes, faults = try_mutants(int(arguments[0]), int(arguments[1]), Path(folder))
    print(f"{arguments[1]} mutants: {dict(outcomes.most_common())}, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
