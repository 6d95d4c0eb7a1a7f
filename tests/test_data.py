"""Tests of mathref.data: sources, the contamination guard, the validation split."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mathref import data, problems
from mathref.data import Loaded, Problem, load_problems, remove_held_out, training_data
from mathref.formats import Sample, SampledProblem
from mathref.samples import SamplesFile

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
TRAINING_FILES = {  # file -> (problems it yields, how many of them the guard removes)
    "math_train.jsonl.gz": (11998, 0),
    "gsm8k_train.jsonl.gz": (7473, 0),
    "prm800k_steps_train.jsonl": (380, 0),
    "prm800k_labelled_train.jsonl.gz": (134, 0),
    "gpt4_solutions_math_l5.jsonl.gz": (1857, 0),
}
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(),
    reason="the public data sets are not in ../shared/data (python -m mathref.data fetch)",
)
# The first problem of MATH-500.
HELD_OUT = (
    "Convert the point $(0,3)$ in rectangular coordinates to polar coordinates.  Enter your answer in the "
    "form $(r,\\theta),$ where $r > 0$ and $0 \\le \\theta < 2 \\pi.$"
)


def letters(text: str) -> str:
    """The guard's normal form, written a second time and coarser: of the operators, only + and - count."""
    return re.sub(r"[^\w+-]|_", "", text).lower()


def write(path: Path, *records: Any) -> str:
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return str(path)


def plain(i: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"p{i}",
        "problem": f"What is {i}+0?",
        "answer": str(i),
        "solution": f"\\boxed{{{i}}}",
        **more,
    }


def plain_file(path: Path, n: int) -> str:
    return write(path, *[plain(i) for i in range(n)])


# --- Sources ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_builtin_is_the_generated_set(split: str) -> None:
    loaded = load_problems("builtin", split=split)
    generated = problems.generate(split)
    assert (loaded.format, loaded.notes) == ("built-in", [])
    assert [(p.id, p.problem, p.answer, p.solution, p.level, p.subject) for p in loaded.problems] == [
        (p.id, p.problem, p.answer, p.detailed, p.level, p.subject) for p in generated
    ]


def test_builtin_styles() -> None:
    generated = problems.generate("test")
    assert [p.solution for p in load_problems("builtin", split="test", style="brief").problems] == [
        p.brief for p in generated
    ]
    both = load_problems("builtin", split="test", style="both").problems
    assert [p.solution for p in both] == [text for p in generated for text in (p.detailed, p.brief)]
    assert len({p.id for p in both}) == len(both)


def test_unknown_style_and_split() -> None:
    with pytest.raises(ValueError, match="unknown style 'long', expected one of detailed, brief, both"):
        load_problems("builtin", style="long")
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        load_problems("builtin", split="dev")


def test_math_folder(tmp_path: Path) -> None:
    folder = tmp_path / "MATH"
    for name in ("train/algebra/10", "train/algebra/9", "test/geometry/2"):
        number = name.rpartition("/")[2]
        record = {"problem": f"P{number}", "level": "Level ?", "type": "T", "solution": "\\boxed{1}"}
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record), encoding="utf-8")
    (folder / "train" / "algebra" / "._9.json").write_bytes(b"\x00\x05")  # what macOS leaves in archives
    loaded = load_problems(str(folder))
    assert loaded.format == "MATH"
    assert [p.id for p in loaded.problems] == [
        "test/geometry/2.json",
        "train/algebra/9.json",
        "train/algebra/10.json",
    ]
    # The names are those of the unique_id in MATH-500, from wherever in the tree one starts.
    assert load_problems(str(folder / "train" / "algebra")).problems == loaded.problems[1:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "2.json: not valid JSON"),
        ("[]", "2.json: expected one problem"),
        ("{}", "2.json: field 'problem'"),
    ],
)
def test_broken_file_in_a_math_folder(tmp_path: Path, content: str, message: str) -> None:
    record = {"problem": "P", "level": "Level 1", "type": "T", "solution": "\\boxed{1}"}
    (tmp_path / "1.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "2.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        load_problems(str(tmp_path))


def test_folder_without_math_names_the_files_in_it(tmp_path: Path) -> None:
    plain_file(tmp_path / "train.jsonl", 1)
    with pytest.raises(
        ValueError, match=r"no <subject>/<number>\.json .*name one of its files: train\.jsonl"
    ):
        load_problems(str(tmp_path))


def test_gzip_and_plain_files_read_alike(tmp_path: Path) -> None:
    a = load_problems(plain_file(tmp_path / "a.jsonl", 5))
    b = load_problems(plain_file(tmp_path / "b.jsonl.gz", 5))
    assert a == b == Loaded([Problem(**plain(i)) for i in range(5)], "problem/answer", [])


def test_ids_are_file_and_line_where_a_record_has_none(tmp_path: Path) -> None:
    records = [{"question": "Q?", "answer": "a\n#### 1"}, {"question": "R?", "answer": "a\n#### 2"}]
    loaded = load_problems(write(tmp_path / "gsm8k_test.jsonl.gz", *records))
    assert [p.id for p in loaded.problems] == ["gsm8k_test:1", "gsm8k_test:2"]


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"none\.jsonl: no such file; expected 'builtin', a data file"
    ):
        load_problems(str(tmp_path / "none.jsonl"))
    with pytest.raises(ValueError, match=r"a\.jsonl: the file is empty"):
        load_problems(write(tmp_path / "a.jsonl"))
    with pytest.raises(ValueError, match=r"b\.jsonl:2: field 'problem' is missing, expected text"):
        load_problems(write(tmp_path / "b.jsonl", plain(1), {"text": "x"}))
    with pytest.raises(
        ValueError, match=r"d\.jsonl:3: id 'p1' is already at .*d\.jsonl:1; every id must occur"
    ):
        load_problems(write(tmp_path / "d.jsonl", plain(1), plain(2), plain(1)))


# --- The contamination guard (PAPER.md 13.12) ---------------------------------------------------------


def problem(text: str) -> Problem:
    return Problem("a", text, "1", "\\boxed{1}")


def test_a_math500_problem_is_removed_however_it_is_set() -> None:
    spellings = [HELD_OUT, HELD_OUT.upper(), HELD_OUT.replace(" ", "\n  "), HELD_OUT.replace("$", "\\(")]
    spellings += [HELD_OUT.replace("(r,", "\\left( r,").replace("\\theta)", "\\theta \\right)")]
    others = [HELD_OUT.replace("(0,3)", "(0,4)"), HELD_OUT.replace("(0,3)", "(0,-3)")]
    others += [HELD_OUT[:-60], "Another problem.", "", "$"]
    kept, removed = remove_held_out([problem(text) for text in spellings + others])
    assert [p.problem for p in removed] == spellings
    assert [p.problem for p in kept] == others


def test_builtin_test_problems_are_removed() -> None:
    held_out = load_problems("builtin", split="test").problems
    assert remove_held_out(held_out) == ([], held_out)


def test_a_problem_that_differs_in_a_sign_is_no_copy() -> None:
    """Letters and digits alone were compared once: x^2+18x+80 and x^2-18x+80 then were the same problem.

    Three built-in training problems were removed as copies of test problems, and seven as validation ones.
    """
    made = training_data(["builtin"])
    assert made.notes == [
        "builtin: 11000 examples, format built-in",
        "11000 training examples, 1000 validation problems",
    ]
    assert "Find all solutions of $x^2-18x+80=0$." in {p.problem for p in made.train}
    held_out = "Find all solutions of $x^2+18x+80=0$."
    assert (
        remove_held_out([problem(held_out)])[1] and not remove_held_out([problem(held_out[:-4] + "9$.")])[1]
    )


def test_no_builtin_training_text_is_a_test_text() -> None:
    made = training_data(["builtin"])
    test = {letters(p.problem) for p in load_problems("builtin", split="test").problems}
    assert not test & {letters(p.problem) for p in made.train + made.validation}


def test_the_guard_does_not_silently_guard_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "DIGESTS", tmp_path / "none")
    data.held_out_digests.cache_clear()
    with pytest.raises(FileNotFoundError, match="no such file; it belongs to mathref"):
        remove_held_out([])
    data.held_out_digests.cache_clear()


def test_training_data_runs_the_guard_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *[plain(i) for i in range(24)], plain(99, problem=HELD_OUT))
    made = training_data([path])
    assert len(made.train) + len(made.validation) == 24
    assert HELD_OUT not in [p.problem for p in made.train + made.validation]
    assert f"{path}: 1 removed by the contamination guard (held-out problems)" in made.notes


@needs_shared
def test_the_digests_are_those_of_math500(capsys: pytest.CaptureFixture[str]) -> None:
    """The command in the digest file's own first line makes the file."""
    data.main(["digests", str(SHARED / "math500_test.jsonl")])
    head, _, digests = data.DIGESTS.read_text().partition("\n")
    assert capsys.readouterr().out == digests
    assert head.startswith("#") and "python -m mathref.data digests" in head


@needs_shared
@pytest.mark.parametrize("name", TRAINING_FILES)
def test_no_problem_of_the_500_in_any_training_file(name: str) -> None:
    """PAPER.md 13.12, for every public training file; independent of the shipped digests.

    Nor is anything taken out wrongly: train/precalculus/474 differs from a held-out problem in a sign alone.
    """
    lines = (SHARED / "math500_test.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["problem"] for line in lines]
    words, held_out = {"".join(text.split()) for text in texts}, {letters(text) for text in texts}
    assert len(held_out) == 500
    n, n_removed = TRAINING_FILES[name]
    loaded = load_problems(str(SHARED / name)).problems
    assert len(loaded) == n
    assert not words & {"".join(p.problem.split()) for p in loaded}
    made = training_data([str(SHARED / name)])
    assert not held_out & {letters(p.problem) for p in made.train + made.validation}
    assert (f"{SHARED / name}: 1 removed by the contamination guard (held-out problems)" in made.notes) == (
        n_removed == 1
    )


# --- train and validation -----------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "n_validation"), [(1, 0), (2, 1), (24, 2), (30, 2), (13000, 1000)])
def test_default_size_of_the_validation_set(tmp_path: Path, n: int, n_validation: int) -> None:
    made = training_data([plain_file(tmp_path / "a.jsonl", n)])
    assert (len(made.train), len(made.validation)) == (n - n_validation, n_validation)
    assert made.notes[-1] == f"{n - n_validation} training examples, {n_validation} validation problems"


def test_the_split_depends_on_the_texts_alone(tmp_path: Path) -> None:
    """A stage with another seed drew other validation problems, nine in ten of which the stage before had
    been trained on; a larger set of problems keeps what it can, too.
    """
    path = plain_file(tmp_path / "a.jsonl", 100)
    made = training_data([path], n_validation=20)
    back = write(tmp_path / "b.jsonl", *[plain(i) for i in reversed(range(100))])
    assert {p.id for p in made.validation} == {
        p.id for p in training_data([back], n_validation=20).validation
    }
    more = training_data([plain_file(tmp_path / "c.jsonl", 200)], n_validation=40)
    assert len({p.id for p in made.validation} & {p.id for p in more.validation}) > 10
    assert [p.id for p in made.validation] != [f"p{i}" for i in range(20)]  # not simply the first ones
    assert {p.id for p in made.train + made.validation} == {f"p{i}" for i in range(100)}


@pytest.mark.parametrize(
    ("n_validation", "message"),
    [
        (-1, "cannot keep -1 validation problems, expected 0 or more"),
        (10, "cannot keep 10 validation problems of 10, expected 0 to 9"),
    ],
)
def test_impossible_validation_sizes(tmp_path: Path, n_validation: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        training_data([plain_file(tmp_path / "a.jsonl", 10)], n_validation=n_validation)


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40))
def test_no_problem_text_on_both_sides(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    """Several solutions of a problem, its text spelled differently each time."""
    folder = tmp_path_factory.mktemp("data")
    records = [
        {
            "id": f"p{i}",
            "problem": f"Find {' ' * (i % 3)}{text}.",
            "answer": "1",
            "solution": f"{i}: \\boxed{{1}}",
        }
        for i, text in enumerate(texts)
    ]
    made = training_data([write(folder / "a.jsonl", *records)])
    validation = [letters(p.problem) for p in made.validation]
    assert not set(validation) & {letters(p.problem) for p in made.train}
    assert len(validation) == len(set(validation)) == (len(set(texts)) > 1)  # one example a problem
    in_validation = sum(f"find{text}" in validation for text in texts)
    assert len(made.train) == len(texts) - in_validation  # nothing else is lost
    further = f"{in_validation - len(validation)} further solutions of validation problems left out"
    assert (further in made.notes) == (in_validation > len(validation))


def test_problems_without_solution_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *[plain(i) for i in range(5)], plain(9, solution=None))
    made = training_data([path])
    assert f"{path}: 1 left out, they have no solution to train on" in made.notes
    assert "p9" not in {p.id for p in made.train + made.validation}
    with pytest.raises(ValueError, match="nothing is left to train on: no record has a 'solution'"):
        training_data([write(tmp_path / "b.jsonl", plain(1, solution=None))])
    with pytest.raises(ValueError, match="nothing is left to train on: all problems are held out"):
        training_data([write(tmp_path / "c.jsonl", plain(1, problem=HELD_OUT))])
    with pytest.raises(ValueError, match="nothing is left to train on: no record is usable"):
        training_data([write(tmp_path / "d.jsonl", plain(1, gold="1", correct=False))])


def test_repeats_are_left_out(tmp_path: Path) -> None:
    """The same problem and solution under another id; another solution of it stays."""
    path = write(
        tmp_path / "a.jsonl", plain(1), plain(1, id="b"), plain(1, id="c", solution="So \\boxed{1}"), plain(2)
    )
    made = training_data([path], n_validation=0)
    assert sorted(p.id for p in made.train) == ["c", "p1", "p2"]
    assert f"{path}: 1 repeats of problem and solution left out" in made.notes


def test_repeats_and_caps_span_files(tmp_path: Path) -> None:
    """PRM800K's training data are two files: each of them kept its own solution of a problem, and copies."""

    def samples_file(name: str, ways: str) -> str:
        with SamplesFile(tmp_path / name, {}) as file:
            for i in range(3):
                samples = tuple(Sample(f"Way {way}: \\boxed{{{i}}}", str(i), True) for way in ways)
                file.append([SampledProblem(f"p{i}", f"What is {i}+0?", str(i), samples)])
        return str(tmp_path / name)

    first, second = samples_file("a.jsonl", "abc"), samples_file("b.jsonl", "cde")
    made = training_data([first, second], n_validation=0, per_problem=4)
    ways = [p.solution[4] for p in made.train if p.problem == "What is 1+0?"]
    assert ways == ["a", "b", "c", "d"]
    why = "there before, or beyond 4 a problem together with it"
    assert f"{second}: 6 left out: {why}" in made.notes  # c, which is there, and e, the fifth
    solved = write(tmp_path / "c.jsonl", plain(1, solution="Way a: \\boxed{1}"), plain(9))
    made = training_data([first, solved], n_validation=0)  # no cap: another format, but a repeat
    assert f"{solved}: 1 left out: there before" in made.notes and len(made.train) == 10


def test_concatenated_sources_have_unique_ids(tmp_path: Path) -> None:
    """MATH + PRM800K name one problem alike; a samples file of the training problems needs an id each."""
    a = plain_file(tmp_path / "a.jsonl", 10)
    b = write(tmp_path / "b.jsonl", *[plain(i, solution=f"Other: \\boxed{{{i}}}") for i in range(10)])
    made = training_data([a, b, a], n_validation=0)  # naming a source twice does not double it
    assert len({p.id for p in made.train}) == len(made.train) == 20
    c = write(tmp_path / "c.jsonl", *[plain(i + 50, id=f"p{i}") for i in range(10)], plain(99, id="p3#2"))
    made = training_data([a, c])
    assert len({p.id for p in made.train + made.validation}) == len(made.train + made.validation) == 21


def test_builtin_brings_its_own_validation_problems(tmp_path: Path) -> None:
    made = training_data(["builtin"])
    validation = load_problems("builtin", split="validation").problems
    assert made.validation == validation
    assert training_data(["builtin"], n_validation=7).validation == validation[:7]
    mixed = training_data(["builtin", plain_file(tmp_path / "a.jsonl", 24)])
    assert len(mixed.validation) == len(validation) + 2
    assert len(mixed.train) == len(made.train) + 22


def test_a_file_cannot_bring_the_builtin_validation_problems_back(tmp_path: Path) -> None:
    validation = load_problems("builtin", split="validation").problems
    records = [plain(i, problem=p.problem.upper()) for i, p in enumerate(validation[:50])]
    made = training_data(["builtin", write(tmp_path / "a.jsonl", *records)], n_validation=10)
    seen = {letters(p.problem) for p in made.validation}
    assert {letters(p.problem) for p in validation[:10]} <= seen
    assert not seen & {letters(p.problem) for p in made.train}
    assert any("left out of training: their problem is a validation problem" in note for note in made.notes)


def test_both_styles_are_two_examples_a_problem() -> None:
    detailed, both = training_data(["builtin"]), training_data(["builtin"], style="both")
    assert len(both.train) == 2 * len(detailed.train)
    assert both.validation == detailed.validation
    assert len({p.id for p in both.train}) == len(both.train)


def test_a_model_is_trained_on_its_own_correct_samples(tmp_path: Path) -> None:
    """What sample.py wrote goes to train.py: guarded, all solutions of a problem on one side."""
    path = tmp_path / "s.jsonl"
    with SamplesFile(path, {"seed": 0}) as file:
        for i in range(24):
            texts = [f"Way {way}: \\boxed{{{i}}}" for way in "abc"]
            samples = tuple(Sample(text, str(i), text[4] != "c") for text in texts)
            file.append([SampledProblem(f"p{i}", f"What is {i}+0?", str(i), samples)])
        file.append([SampledProblem("held out", HELD_OUT, "1", (Sample("\\boxed{1}", "1", True),))])
    made = training_data([str(path)])
    assert len(made.validation) == 2 and len(made.train) == 44
    assert not {p.problem for p in made.validation} & {p.problem for p in made.train}
    assert made.notes == [
        f"{path}: 49 examples, format samples",
        f"{path}: 73 samples of 25 problems, 0 without a solution to keep",
        f"{path}: 24 left out: wrong",
        f"{path}: 1 removed by the contamination guard (held-out problems)",
        "2 further solutions of validation problems left out",
        "44 training examples, 2 validation problems",
    ]
    assert len(training_data([str(path)], per_problem=1).train) == 22


def test_families_are_parts_of_the_builtin_set(tmp_path: Path) -> None:
    """Training and validation problems alike; the two parts together are the whole set, in its order."""
    whole, names = training_data(["builtin"]), ("linear", "gcd")
    part = training_data(["builtin"], families=names)
    rest = training_data(["builtin"], families=[name for name in problems.FAMILIES if name not in names])
    for a, b, both in (
        (part.train, rest.train, whole.train),
        (part.validation, rest.validation, whole.validation),
    ):
        ids = {p.id for p in a}
        assert {name.split("-")[0] for name in ids} == set(names) and a == [p for p in both if p.id in ids]
        assert sorted(p.id for p in a + b) == sorted(p.id for p in both)
    assert "builtin: only of the families linear, gcd" in part.notes
    path = plain_file(tmp_path / "a.jsonl", 24)
    mixed = training_data(["builtin", path], families=names)  # the file is whole
    assert len(mixed.train) == len(part.train) + 22
    with pytest.raises(
        ValueError, match=r"a\.jsonl: --families and --exclude-families are for --data builtin"
    ):
        training_data([path], families=names)


def test_held_out_families_stay_held_out_in_the_guard() -> None:
    """The guard knows all test problems, whichever families are trained on."""
    held_out = load_problems("builtin", split="test", families=("gcd",)).problems
    assert held_out and remove_held_out(held_out) == ([], held_out)


# --- Public data and the command ----------------------------------------------------------------------


@needs_shared
def test_math500_answers_are_the_last_boxes() -> None:
    """The published answers, against those read out of the solutions alone, as from MATH's own files."""
    from mathref.formats import boxed_answer

    published = load_problems(str(SHARED / "math500_test.jsonl")).problems
    assert len(published) == 500
    assert [p.answer for p in published] == [boxed_answer(p.solution or "", p.id) for p in published]


@needs_shared
def test_gsm8k_is_clean() -> None:
    for name, n in (("gsm8k_train.jsonl.gz", 7473), ("gsm8k_test.jsonl", 1319)):
        loaded = load_problems(str(SHARED / name))
        assert (len(loaded.problems), loaded.format) == (n, "GSM8K")
        for p in loaded.problems:
            assert re.fullmatch(r"-?\d+(\.\d+)?", p.answer), p.id
            assert p.solution and p.solution.endswith(f"\nThe answer is \\boxed{{{p.answer}}}.")
            assert "<<" not in p.solution and "####" not in p.solution


def test_check_reports_format_and_guard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.jsonl", plain(1), plain(2, solution=None), plain(3, problem=HELD_OUT))
    data.main(["check", path])
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: 3 problems, 2 with a solution, format problem/answer",
        "1 are held out: training would leave them out",
    ]


def test_the_command_ends_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mathref.data", "check", str(tmp_path / "none.jsonl")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"[^\n]*none\.jsonl: no such file[^\n]*\n", done.stderr)
