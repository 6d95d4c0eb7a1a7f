"""The built-in problems: right (sympy solves them again), in the promised number, and disjoint."""

import itertools
import re
from collections import Counter
from fractions import Fraction

import pytest
import sympy

from mathref.arithmetic import euclid, frac, plus, radical, reduced, signed, square_part, times
from mathref.families import FAMILIES
from mathref.grader import extract_answer, is_equivalent
from mathref.problems import LEVELS, SIZES, generate, pretraining_text, select_families, split_of, stream


@pytest.fixture(scope="module")
def splits():
    return {split: generate(split) for split in SIZES}


def test_sizes_are_those_of_table_1(splits):
    assert {split: len(problems) for split, problems in splits.items()} == SIZES
    assert SIZES == {"train": 11000, "validation": 1000, "test": 500}


def test_no_canonical_form_and_no_text_is_in_two_splits(splits):
    for a, b in itertools.combinations(splits.values(), 2):
        assert not {p.key for p in a} & {p.key for p in b}
        assert not {p.problem for p in a} & {p.problem for p in b}


def test_other_seeds_stay_on_their_side(splits):
    test_keys = {p.key for p in splits["test"]}
    for problem in generate("train", 2000, seed=12345):
        assert split_of(problem.key) == "train" and problem.key not in test_keys


def test_ids_are_unique_and_the_seed_decides(splits):
    for problems in splits.values():
        assert len({p.id for p in problems}) == len({p.key for p in problems}) == len(problems)
    assert generate("test", 50) == generate("test", 50) == splits["test"][:50]
    assert generate("train", 50, seed=1) != generate("train", 50, seed=2)


def test_all_families_and_levels_occur(splits):
    families = Counter(p.key.split(":")[0] for p in splits["test"])
    assert set(families) == set(FAMILIES) and min(families.values()) >= 5
    assert min(Counter(p.level for p in splits["test"]).values()) >= 50 and set(LEVELS) == {1, 2, 3, 4, 5}


def test_both_styles_end_in_the_answer_and_detail_is_longer(splits):
    for p in splits["test"]:
        for solution in (p.brief, p.detailed):
            assert solution.endswith(f"\\boxed{{{p.answer}}}.")
            assert is_equivalent(extract_answer(solution), p.answer)
    brief, detailed = (sum(len(getattr(p, s)) for p in splits["test"]) for s in ("brief", "detailed"))
    assert detailed > 2 * brief


def test_every_written_equation_is_true(splits):
    """Each a=b=c chain of plain numbers in a detailed solution is evaluated by sympy, exactly."""
    checked = 0
    for p in splits["test"][:250]:
        for word in (word.strip(".,") for word in p.detailed.split()):
            if "=" in word and re.fullmatch(r"[-\d+*/()=]+", word):
                values = {sympy.sympify(side, rational=True) for side in word.split("=")}
                assert len(values) == 1, (p.problem, word)
                checked += 1
    assert checked > 500


def latex_to_sympy(text):
    text = re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", r"((\1)/(\2))", text)
    text = re.sub(r"\\sqrt\{(\d+)\}", r"sqrt(\1)", text).replace("^", "**")
    text = re.sub(r"(\d)(?=[a-z(])(?!\))", r"\1*", text)
    return sympy.sympify(text, rational=True)


def numbers(text):
    return [int(n) for n in re.findall(r"-?\d+", text)]


@pytest.mark.parametrize(
    "family", ["linear", "system", "fraction", "quadratic", "radical", "gcd", "remainder", "base"]
)
def test_answers_agree_with_sympy(family, splits):
    """The families whose statement is symbolic are solved again by sympy."""
    x, y = sympy.symbols("x y")
    problems = [p for p in splits["test"] + splits["validation"] if p.key.startswith(f"{family}:")]
    assert len(problems) >= 20
    for p in problems[:40]:
        formulas = re.findall(r"\$([^$]*)\$", p.problem)
        if family == "linear":
            left, right = next(f for f in formulas if "=" in f).split("=")
            expected = sympy.solve(latex_to_sympy(left) - latex_to_sympy(right), x)
            assert expected == [sympy.Integer(p.answer)], p
        elif family == "system":
            equations = [f.split("=") for f in formulas if "=" in f]
            solution = sympy.solve([latex_to_sympy(a) - latex_to_sympy(b) for a, b in equations], [x, y])
            assert [solution[x], solution[y]] == numbers(p.answer), p
        elif family in ("fraction", "radical"):
            assert sympy.simplify(latex_to_sympy(formulas[0]) - latex_to_sympy(p.answer)) == 0, p
        elif family == "quadratic":
            roots = sympy.solve(latex_to_sympy(next(f for f in formulas if "=" in f).split("=")[0]), x)
            if "larger" in p.problem:
                assert sympy.simplify(max(roots) - latex_to_sympy(p.answer)) == 0, p
            else:
                assert sorted(roots) == sorted(numbers(p.answer)), p
        elif family == "gcd":
            a, b = numbers(p.problem)
            assert int(p.answer) == (sympy.igcd if "divisor" in p.problem else sympy.ilcm)(a, b), p
        elif family == "remainder":
            *_, modulus = numbers(p.problem)
            assert int(latex_to_sympy(formulas[0])) % modulus == int(p.answer), p
        else:
            n, base = numbers(p.problem) if p.problem.startswith("Write") else numbers(p.problem)
            digits, written_base = p.answer.rstrip("}").split("_{")
            assert int(digits, base) == n and int(written_base) == base, p


def test_unknown_split_and_size_are_refused():
    with pytest.raises(ValueError, match="unknown split"):
        generate("dev")
    with pytest.raises(ValueError, match="at least 1"):
        generate("test", 0)


def test_families_are_selected_in_one_order():
    """Equal selections are equal values, however they are written: meta lines are compared."""
    assert select_families(None, None) is None
    assert (
        select_families(["gcd", "linear"], None)
        == select_families(["linear", "gcd"], [])
        == ("linear", "gcd")
    )
    rest = select_families(None, ["gcd", "linear"])
    assert len(rest) == 16 and set(rest) | {"gcd", "linear"} == set(FAMILIES)
    assert select_families(["gcd", "linear"], ["gcd"]) == ("linear",)


@pytest.mark.parametrize(("only", "without"), [(["gdc"], None), (None, ["gcd", "gdc"])])
def test_an_unknown_family_lists_the_known_ones(only, without):
    with pytest.raises(
        ValueError, match=r"unknown family 'gdc', expected some of linear, system, .*shopping$"
    ):
        select_families(only, without)


@pytest.mark.parametrize(("only", "without"), [(["gcd"], ["gcd"]), (None, list(FAMILIES)), ([], None)])
def test_no_family_at_all_is_refused(only, without):
    with pytest.raises(ValueError, match="leave no family"):
        select_families(only, without)


def test_pretraining_text_holds_no_held_out_problem(splits):
    """Property 12 for the text behind the shipped bases."""
    held_out = {p.problem for p in splits["test"]} | {p.problem for p in splits["validation"]}
    pages = [text for text in itertools.islice(pretraining_text(0), 4000) if text.startswith("Problem: ")]
    asked = [
        line.removeprefix("Problem: ")
        for page in pages
        for line in page.split("\n")
        if line.startswith("Problem")
    ]
    assert len(asked) > 500 and not held_out & set(asked)


def test_stream_repeats_with_its_seed():
    first, again = (list(itertools.islice(stream("train", 3), 30)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (times(23, 47), "47*23=47*20+47*3=940+141=1081"),
        (times(7, 136), "136*7=100*7+36*7=700+252=952"),
        (times(6, 8), "6*8=48"),
        (plus(12, 35, 48), "12+35+48=47+48=95"),
        (plus(-4, 9), "(-4)+9=5"),
        (frac(Fraction(-3, 4)), "-\\frac{3}{4}"),
        (frac(Fraction(8, 4)), "2"),
        (signed(-1, "x"), "-x"),
        (signed(0, "x"), ""),
        (radical(*square_part(72)), "6\\sqrt{2}"),
        (euclid(22, 99), ["99=4*22+11.", "22=2*11+0."]),
        (reduced(3, 4), []),
    ],
)
def test_arithmetic_is_written_out(written, expected):
    assert written == expected


def test_judged_lines_are_correct_exactly_where_python_agrees():
    """Each verdict on a line of plain arithmetic, against Python's own; and both verdicts are given."""
    documents = itertools.islice(pretraining_text(4, judged_share=1.0), 400)
    lines = [line for text in documents for line in text.split("\n")]
    lines = [line for line in lines if re.search(r" is (in)?correct\.$", line)]
    verdicts = []
    for line in lines:
        statement, verdict = re.fullmatch(r"(.*) is (correct|incorrect)\.", line).groups()
        if re.fullmatch(r"[-+*/=()\d]+", statement):
            sides = {eval(re.sub(r"(\d+)", r"Fraction(\1)", side)) for side in statement.split("=")}
            assert (len(sides) == 1) == (verdict == "correct"), line
            verdicts.append(verdict)
    assert len(verdicts) > 500 and 0.3 < verdicts.count("correct") / len(verdicts) < 0.7


def test_judged_solutions_are_correct_exactly_where_they_are_the_families_own():
    drawn = itertools.islice(stream("train", -1 - 4, levels=(1, 2, 3)), 400)
    own = {(p.problem, solution) for p in drawn for solution in (p.brief, p.detailed)}
    template = (
        r"Here is a math problem: (.*)\nHere is a candidate solution: (.*)\n"
        r"The above candidate solution is (correct|incorrect)"
    )
    verdicts = []
    for text in itertools.islice(pretraining_text(4, judged_share=1.0), 300):
        if match := re.fullmatch(template, text, flags=re.S):
            problem, solution, verdict = match.groups()
            assert ((problem, solution) in own) == (verdict == "correct"), text
            verdicts.append(verdict)
    assert len(verdicts) > 100 and 0.3 < verdicts.count("correct") / len(verdicts) < 0.7


def test_pretraining_text_without_judgements_is_what_the_first_bases_saw():
    """The share of judged documents is drawn only where there is one, so that old text stays as it was."""
    plain = list(itertools.islice(pretraining_text(3), 40))
    assert not any("correct" in text for text in plain)
    assert plain == list(itertools.islice(pretraining_text(3, judged_share=0.0), 40))
