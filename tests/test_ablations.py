"""Tests of mathref.ablations: what is changed, what never is, and what the choice of steps depends on."""

from __future__ import annotations

import random
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathref.ablations import (
    Ablation,
    ablate,
    corrupt_steps,
    drop_steps,
    merge_steps,
    split_steps,
    wrong_step,
)
from mathref.data import Problem, load_problems, training_data
from mathref.grader import grade

SOLUTION = "2*3=6.\n6+4=10.\n10-1=9.\nThe answer is \\boxed{9}."
STEPS, ENDING = SOLUTION.split("\n")[:-1], SOLUTION.split("\n")[-1]
# Steps of one or two equations, as the built-in solutions have them; numbers of any length.
a_number = st.one_of(st.integers(0, 99), st.integers(0, 10**15)).map(str)
a_step = st.tuples(a_number, st.sampled_from("+-*"), a_number, a_number).map(
    lambda t: f"{t[0]}{t[1]}{t[2]}={t[3]}."
)
steps_of_a_solution = st.lists(a_step, min_size=1, max_size=8)


def problem(solution: str | None = SOLUTION, text: str = "P") -> Problem:
    return Problem("a", text, "9", solution)


def changed(ablation: Ablation, *problems: Problem) -> list[str | None]:
    return [p.solution for p in ablate(list(problems), ablation)[0]]


# --- Steps and ending ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solution", "steps", "ending"),
    [
        (SOLUTION, STEPS, ENDING),
        ("It is \\boxed{9}.", [], "It is \\boxed{9}."),
        ("a\n\n b \nc", ["a", "b"], "c"),  # no box: the last line is the ending
        ("a\nSo \\boxed{9}.\nDone.", ["a"], "So \\boxed{9}.\nDone."),
        ("Now \\boxed{2}.\nSo \\boxed{9}.", ["Now \\boxed{2}."], "So \\boxed{9}."),
        ("a\n\\boxed{\n9}", ["a"], "\\boxed{\n9}"),
    ],
)
def test_the_ending_begins_with_the_line_of_the_last_box(
    solution: str, steps: list[str], ending: str
) -> None:
    assert split_steps(solution) == (steps, ending)


# --- One transform at a time --------------------------------------------------------------------------


def test_merged_by_hand() -> None:
    assert changed(Ablation(merge_steps=2), problem()) == [f"2*3=6. 6+4=10.\n10-1=9.\n{ENDING}"]
    assert changed(Ablation(merge_steps=3), problem()) == [f"2*3=6. 6+4=10. 10-1=9.\n{ENDING}"]
    assert changed(Ablation(merge_steps=99), problem()) == changed(Ablation(merge_steps=3), problem())


@given(st.lists(st.text("ab=1", min_size=1), max_size=9), st.integers(1, 9))
def test_merging_loses_no_word(steps: list[str], k: int) -> None:
    lines = merge_steps(steps, k)
    assert " ".join(lines) == " ".join(steps) and len(lines) == -(-len(steps) // k)


def test_all_or_no_step_is_dropped_at_the_ends_of_the_rate() -> None:
    assert changed(Ablation(drop_steps=1.0), problem()) == [ENDING]
    assert ablate([problem()], Ablation()) == ([problem()], [])


@given(st.lists(st.integers(), max_size=20), st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
def test_a_higher_rate_drops_the_same_steps_and_more(
    steps: list[int], one: float, other: float, seed: int
) -> None:
    many, few = (drop_steps(steps, rate, random.Random(seed)) for rate in sorted((one, other)))  # type: ignore[arg-type]
    rest = iter(many)
    assert all(step in rest for step in few)  # a subsequence: what is left stays in order


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        ("Divide by 4: 36/4=9.", r"Divide by 4: 36/4=(\d+)\."),
        ("Subtract 12: 48-12=36, so 4x=36.", r"Subtract 12: 48-12=36, so 4x=(\d+)\."),
        ("So x=-3.", r"So x=-(\d+)\."),
        ("2/3=\\frac{2}{3}", r"2/3=\\frac\{(\d+)\}\{3\}"),
        ("1/2=.5=0.50", r"1/2=\.5=(\d+)\.50"),
        ("17=3*5+2.", r"17=(\d+)\*5\+2\."),
    ],
)
def test_the_number_behind_the_last_equals_sign_is_changed(step: str, kept: str) -> None:
    right = int(re.fullmatch(kept, step)[1])  # type: ignore[index]
    for seed in range(40):
        found = re.fullmatch(kept, wrong_step(step, random.Random(seed)))
        assert found and 1 <= abs(int(found[1]) - right) <= 9


@pytest.mark.parametrize(
    "step", ["", "Read the remainders upwards.", "There are 3 of them.", "x=y", "1/2=.5"]
)
def test_a_step_without_a_result_stays(step: str) -> None:
    assert wrong_step(step, random.Random(0)) == step


@given(steps_of_a_solution, st.integers(0, 99))
def test_a_changed_result_is_another_number(steps: list[str], seed: int) -> None:
    """The left side stays and the right one is another number, however long: what was true is so no more."""
    for step, wrong in zip(steps, corrupt_steps(steps, 1.0, random.Random(seed)), strict=True):
        (left, right), (left_too, other) = (text.rstrip(".").split("=") for text in (step, wrong))
        assert left == left_too and int(right) != int(other)


@given(steps_of_a_solution, st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
def test_a_higher_rate_corrupts_the_same_steps_alike_and_more(
    steps: list[str], one: float, other: float, seed: int
) -> None:
    low, high = (corrupt_steps(steps, rate, random.Random(seed)) for rate in sorted((one, other)))
    assert all(few in (step, many) for step, few, many in zip(steps, low, high, strict=True))


def is_true(step: str) -> bool | None:
    """Whether the last equation of a step holds; None where its sides are not plain arithmetic."""
    chains = [word.strip(".,") for word in step.split() if "=" in word]
    if not chains or not all(re.fullmatch(r"[-\d+*/()]+", side) for side in chains[-1].split("=")):
        return None
    sides = [re.sub(r"(?<!\d)(\d+)", r"Fraction(\1)", side) for side in chains[-1].split("=")]
    return len({eval(side, {"Fraction": Fraction}) for side in sides}) == 1


def test_corrupted_builtin_steps_are_wrong() -> None:
    """Each is evaluated exactly, before and after."""
    checked = 0
    for p in load_problems("builtin", split="test").problems:
        steps, _ = split_steps(p.solution or "")
        for step, wrong in zip(steps, corrupt_steps(steps, 1.0, random.Random(p.id)), strict=True):
            if is_true(step) is not None:
                assert is_true(step) and is_true(wrong) is False, (step, wrong)
                checked += 1
    assert checked > 500


# --- Whole training sets ------------------------------------------------------------------------------

SOME = Ablation(merge_steps=2, drop_steps=0.3, corrupt_steps=0.3)


@pytest.fixture(scope="module")
def builtin() -> list[Problem]:
    return load_problems("builtin", split="validation").problems


def test_the_answer_is_never_touched(builtin: list[Problem]) -> None:
    for before, after in zip(builtin, ablate(builtin, SOME)[0], strict=True):
        assert split_steps(after.solution or "")[1] == split_steps(before.solution or "")[1]
        assert (after.id, after.problem, after.answer) == (before.id, before.problem, before.answer)
    assert all(grade(p.solution or "", p.answer) for p in ablate(builtin[:50], SOME)[0])


def test_the_choice_depends_on_seed_and_problem_and_not_on_the_place(builtin: list[Problem]) -> None:
    there = changed(SOME, *builtin)
    back = changed(SOME, *reversed(builtin))
    alone = [changed(SOME, p)[0] for p in builtin[:20] if split_steps(p.solution or "")[0]]
    assert there == back[::-1] and all(solution in there for solution in alone)
    assert there != changed(Ablation(2, 0.3, 0.3, seed=1), *builtin)


def test_the_rates_are_what_they_say(builtin: list[Problem]) -> None:
    """3600 steps: a share of 0.3 is met within 0.03, four standard deviations."""
    changed_, [note] = ablate(builtin, Ablation(drop_steps=0.3, corrupt_steps=0.3))
    n = r"(\d+)"
    said = (
        rf"{n} of 1000 training solutions changed: of {n} steps, {n} corrupted and {n} dropped, 1 on a line"
    )
    numbers = re.fullmatch(said, note)
    assert numbers
    n_changed, n_steps, n_wrong, n_dropped = map(int, numbers.groups())
    assert n_changed == sum(a.solution != b.solution for a, b in zip(builtin, changed_, strict=True)) < 1000
    assert n_steps == sum(len(split_steps(p.solution or "")[0]) for p in builtin)
    assert n_dropped == n_steps - sum(len(split_steps(p.solution or "")[0]) for p in changed_)
    assert abs(n_dropped / n_steps - 0.3) < 0.03
    assert 0.25 < n_wrong / n_steps < 0.3  # some steps hold no result that could be wrong


def test_dropping_does_not_change_what_is_corrupted(builtin: list[Problem]) -> None:
    corrupted = changed(Ablation(corrupt_steps=0.5), *builtin)
    both = changed(Ablation(corrupt_steps=0.5, drop_steps=0.5), *builtin)
    for whole, part in zip(corrupted, both, strict=True):
        assert set((part or "").split("\n")) <= set((whole or "").split("\n"))


def test_solutions_that_nothing_happens_to_stay_to_the_byte() -> None:
    blank = problem("a\n\nb\n\n\\boxed{9}")
    assert changed(Ablation(corrupt_steps=1.0), blank) == [blank.solution]


def test_training_solutions_are_changed_and_validation_solutions_are_not() -> None:
    plain, made = training_data(["builtin"]), training_data(["builtin"], ablation=Ablation(merge_steps=3))
    assert made.validation == plain.validation and [p.id for p in made.train] == [p.id for p in plain.train]
    assert made.train != plain.train and made.notes[:-1] == plain.notes
    assert made.notes[-1].endswith("0 corrupted and 0 dropped, 3 on a line")


def test_solutions_without_steps_are_refused() -> None:
    """A run whose ablation changes nothing would be taken for a result."""
    with pytest.raises(ValueError, match="none of the 11000 training solutions has a step on a line before"):
        training_data(["builtin"], style="brief", ablation=Ablation(drop_steps=0.5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merge_steps": 0}, "--merge-steps is 0, expected at least 1"),
        ({"drop_steps": 1.5}, r"--drop-steps is 1\.5, expected a share from 0 to 1"),
        ({"corrupt_steps": -0.1}, r"--corrupt-steps is -0\.1, expected a share from 0 to 1"),
        ({"corrupt_steps": float("nan")}, "--corrupt-steps is nan"),
    ],
)
def test_options_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ablation(**options)  # type: ignore[arg-type]
