r"""Tests of mathref.formats: each public record shape, good and broken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mathref.formats import Problem, Row, normalized, read_rows, recognize, with_answer


def rows(*records: Any) -> list[Row]:
    return [Row(f"a.jsonl:{i}", f"a:{i}", record) for i, record in enumerate(records, start=1)]


def read(*records: Any, per_problem: int | None = None) -> tuple[list[Problem], list[str]]:
    return read_rows(recognize(records[0], "a.jsonl:1"), rows(*records), per_problem)


# Verbatim records of the published files.
GSM8K = {
    "question": "Weng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes of babysitting. "
    "How much did she earn?",
    "answer": "Weng earns 12/60 = $<<12/60=0.2>>0.2 per minute.\nWorking 50 minutes, she earned 0.2 x 50 = "
    "$<<0.2*50=10>>10.\n#### 10",
}
MATH = {
    "problem": "If $A=2+i$, $O=-4$, $P=-i$, and $S=2+4i$, find $A-O+P+S$.",
    "level": "Level 3",
    "type": "Algebra",
    "solution": "Adding real parts and imaginary parts separately, we have "
    "$(2-(-4)+0+2)+(1+0-1+4)i=\\boxed{8+4i}$.",
}
PLAIN = {"problem": "What is 1+1?", "answer": "2", "solution": "It is \\boxed{2}."}


@pytest.mark.parametrize(
    ("record", "format"),
    [
        (GSM8K, "GSM8K"),
        (MATH, "MATH"),
        (
            {**PLAIN, "unique_id": "test/algebra/1.json", "subject": "Algebra", "level": 2},
            "MATH with answers",
        ),
        ({**PLAIN, "gold": "2", "correct": True}, "judged solutions"),
        ({"question": {}, "label": {}}, "PRM800K"),
        (PLAIN, "problem/answer"),
        ({"question": "What is 1+1?", "answer": 2}, "problem/answer"),
        ({"meta": {}}, "samples"),
        ({"id": "a", "problem": "b", "answer": "c", "samples": []}, "samples"),
    ],
)
def test_the_format_is_recognised(record: dict[str, Any], format: str) -> None:
    assert recognize(record, "a.jsonl:1") == format


@pytest.mark.parametrize("record", [{}, {"text": "a"}, {"problem": "a"}, {"answer": "a"}])
def test_an_unknown_record_names_what_is_expected(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^a\.jsonl:1: no known format .*expected at least 'problem'"):
        recognize(record, "a.jsonl:1")


# --- GSM8K --------------------------------------------------------------------------------------------


def test_gsm8k_record() -> None:
    [problem], notes = read(GSM8K)
    assert problem == Problem(
        id="a:1",
        problem=GSM8K["question"],
        answer="10",
        solution="Weng earns 12/60 = $0.2 per minute.\nWorking 50 minutes, she earned 0.2 x 50 = $10.\n"
        "The answer is \\boxed{10}.",
    )
    assert notes == []


@pytest.mark.parametrize(
    ("text", "answer"),
    [("x\n#### 1,234,567", "1234567"), ("x\n####-3", "-3"), ("a #### b\n#### 0.5 ", "0.5")],
)
def test_gsm8k_answers(text: str, answer: str) -> None:
    assert read({"question": "Q?", "answer": text})[0][0].answer == answer


@pytest.mark.parametrize("text", ["It is 5.", "It is 5.\n####", "It is 5.\n####  \n"])
def test_gsm8k_without_a_final_answer(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a\.jsonl:2: field 'answer' does not end in a line '#### number'"):
        read(GSM8K, {"question": "Q?", "answer": text})


# --- MATH and its relatives ---------------------------------------------------------------------------


def test_math_record() -> None:
    [problem], _ = read(MATH)
    assert problem == Problem("a:1", MATH["problem"], "8+4i", MATH["solution"], 3, "Algebra")


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"First \boxed{1}, then \boxed{\frac{a}{b^{2}}}.", r"\frac{a}{b^{2}}"),
        (r"So $\boxed{\left( 3, \frac{\pi}{2} \right)}.$", r"\left( 3, \frac{\pi}{2} \right)"),
        (r"Thus $\boxed{\text{(A)}}$", r"\text{(A)}"),
    ],
)
def test_math_answer_is_in_the_last_box(solution: str, answer: str) -> None:
    assert read({**MATH, "solution": solution})[0][0].answer == answer


def test_math_without_a_box_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a\.jsonl:1: no field 'answer', and no \\boxed"):
        read({**MATH, "solution": "It is 5."})


def test_empty_answers_are_left_out_and_counted() -> None:
    r"""Two problems of MATH end in \boxed{}: refusing them would refuse the whole data set."""
    empty = {**MATH, "solution": "Therefore there are $\\boxed{}$ primes."}
    problems, notes = read(MATH, empty, {**empty, "answer": ""})
    assert len(problems) == 1
    assert notes == ["2 left out: the answer is empty (a.jsonl:2)"]


@pytest.mark.parametrize(
    ("value", "level"),
    [("Level 3", 3), ("Level ?", None), (5, 5), ("4", 4), (None, None), ("Level 1 ", 1)],
)
def test_levels(value: Any, level: int | None) -> None:
    assert read({**PLAIN, "level": value})[0][0].level == level


@pytest.mark.parametrize("value", ["hard", True, [3], 2.5, "Level"])
def test_broken_levels(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^a\.jsonl:1: field 'level' is .*expected a number or 'Level 3'"):
        read({**PLAIN, "level": value})


def test_optional_fields_and_names() -> None:
    [a, b, c], _ = read(
        {**PLAIN, "id": "x", "subject": "Algebra"},
        {"question": "What is 2+2?", "answer": 4, "id": 7},
        {"problem": "What is 1/2?", "answer": 0.5, "unique_id": "y", "solution": None, "level": None},
    )
    assert (a.id, a.subject, a.solution) == ("x", "Algebra", "It is \\boxed{2}.")
    assert (b.id, b.problem, b.answer, b.solution) == ("7", "What is 2+2?", "4", None)
    assert (c.id, c.answer, c.level) == ("y", "0.5", None)


def test_duplicate_ids_name_both_lines() -> None:
    record = {**PLAIN, "id": "x"}
    with pytest.raises(ValueError, match=r"^a\.jsonl:2: id 'x' is already at a\.jsonl:1"):
        read(record, record)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": None}, "field 'problem' is null, expected text"),
        ({"problem": 5}, "field 'problem' is 5, expected text"),
        ({"problem": " \n"}, "field 'problem' is empty"),
        ({"answer": ["2"]}, r"field 'answer' is \[\"2\"\], expected text"),
        ({"answer": True}, "field 'answer' is true, expected text"),
        ({"solution": 5}, "field 'solution' is 5, expected text"),
        ({"solution": ""}, "field 'solution' is empty"),
        ({"subject": 5}, "field 'subject' is 5, expected text"),
        ({"id": ["x"]}, "field 'id' is .*expected text"),
    ],
)
def test_broken_fields_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^a\.jsonl:2: {message}"):
        read(PLAIN, {**PLAIN, **change})


@pytest.mark.parametrize("name", ["problem", "answer"])
def test_a_missing_field_is_named(name: str) -> None:
    record = {k: v for k, v in PLAIN.items() if k not in (name, "solution")}
    with pytest.raises(ValueError, match=rf"^a\.jsonl:2: field '{name}' is missing, expected text"):
        read(PLAIN, record)


# --- Judged solutions ---------------------------------------------------------------------------------


def test_only_solutions_marked_correct_are_kept() -> None:
    good = {"problem": "P", "solution": "Step.", "answer": "0.5", "gold": "\\frac{1}{2}", "unique_id": "u"}
    problems, notes = read(
        {**good, "correct": True},
        {**good, "correct": False},
        {**good, "correct": None, "answer": None},
        {**good, "correct": True, "solution": "Other step."},
    )
    # The reference answer is MATH's; the target ends in the answer that this solution itself reached.
    assert problems == [
        Problem("u", "P", "\\frac{1}{2}", "Step.\nThe answer is \\boxed{0.5}."),
        Problem("u#2", "P", "\\frac{1}{2}", "Other step.\nThe answer is \\boxed{0.5}."),
    ]
    assert notes == ["2 left out: not marked correct"]


def test_a_verdict_that_is_none_is_named() -> None:
    record = {"problem": "P", "solution": "S", "answer": "1", "gold": "1", "correct": "yes"}
    with pytest.raises(ValueError, match=r"^a\.jsonl:1: field 'correct' is \"yes\", expected true or false"):
        read(record)


# --- PRM800K ------------------------------------------------------------------------------------------


def step(text: str, rating: int | None = 1, chosen: int | None = 0, human: Any = None) -> dict[str, Any]:
    """A step with a bad alternative beside the chosen one."""
    completions = [{"text": text, "rating": rating, "flagged": None}, {"text": "no", "rating": -1}]
    return {"completions": completions, "human_completion": human, "chosen_completion": chosen}


def prm800k(*steps: Any, problem: str = "What is 2+2?", answer: str = "4", reason: str = "solution") -> dict:
    return {
        "labeler": "x",
        "question": {"problem": problem, "ground_truth_answer": answer, "ground_truth_solution": "..."},
        "label": {"steps": list(steps), "total_time": 1, "finish_reason": reason},
    }


LAST = step("So it is 4.\n\n# Answer\n\n4")


def test_prm800k_trajectory_and_answer_block() -> None:
    problems, notes = read(prm800k(step(" Add them. ", rating=0), LAST))
    assert problems == [
        Problem("a:1", "What is 2+2?", "4", "Add them.\nSo it is 4.\nThe answer is \\boxed{4}.")
    ]
    assert notes == []


@pytest.mark.parametrize("human", ["Count.", {"text": "Count.", "rating": None, "source": "human"}])
def test_prm800k_takes_the_human_step_where_none_was_chosen(human: Any) -> None:
    [problem], _ = read(prm800k(step("bad", rating=-1, chosen=None, human=human), LAST))
    assert problem.solution == "Count.\nSo it is 4.\nThe answer is \\boxed{4}."


def test_prm800k_takes_the_chosen_completion_not_the_first() -> None:
    second = {
        "completions": [{"text": "a", "rating": -1}, {"text": "b", "rating": 1}],
        "chosen_completion": 1,
    }
    assert read(prm800k(second, LAST))[0][0].solution.startswith("b\n")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (prm800k(LAST, reason="found_error"), "unfinished or found wrong"),
        (prm800k(LAST, reason="give_up"), "unfinished or found wrong"),
        (prm800k(step("wrong", rating=-1), LAST), "a chosen step is rated -1"),
        (prm800k(step("a", chosen=None), LAST), "no '# Answer' at the end"),  # the empty step ends it
        (prm800k(step("So it is 4.")), "no '# Answer' at the end"),
        (prm800k(step("# Answer\n\n5")), "the answer does not grade as correct"),
        (
            prm800k(LAST, problem=" what is 2 + 2"),
            "beyond 1 a problem",
        ),  # the same problem, spelled otherwise
    ],
)
def test_prm800k_selection(record: dict[str, Any], reason: str) -> None:
    first = prm800k(LAST)
    records = [first, record] if "beyond" in reason else [record]
    problems, notes = read(*records)
    assert len(problems) == len(records) - 1
    assert notes == [f"1 left out: {reason}"]


def test_prm800k_answers_are_graded_not_compared_as_text() -> None:
    [problem], _ = read(prm800k(step("Half.\n\n# Answer\n\n\\frac12"), answer="\\frac{1}{2}"))
    assert (problem.answer, problem.solution) == ("\\frac{1}{2}", "Half.\nThe answer is \\boxed{\\frac12}.")


def test_prm800k_cap_and_repeats() -> None:
    records = [prm800k(step(f"Way {i}."), LAST) for i in (1, 1, 2, 3)]
    problems, notes = read(*records, per_problem=2)
    assert [p.id for p in problems] == ["a:1", "a:3"]
    assert sorted(notes) == ["1 left out: beyond 2 a problem", "1 left out: repeats"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"question": "Q", "label": {}}, "field 'question' is \"Q\", expected an object"),
        ({"question": {}, "label": {}}, "question: field 'problem' is missing"),
        ({"question": {"problem": "P"}, "label": {}}, "question: field 'ground_truth_answer' is missing"),
        ({**prm800k(), "label": None}, "field 'label' is null, expected an object"),
        ({**prm800k(), "label": {"steps": []}}, "label: field 'finish_reason' is missing"),
        (
            {**prm800k(), "label": {"finish_reason": "solution"}},
            "label: field 'steps' is missing, expected a list",
        ),
        (prm800k(5), "label: step 0: 5, expected an object"),
        (prm800k(step("a", chosen=2)), "label: step 0: field 'chosen_completion' is 2 of 2 completions"),
        (prm800k({"chosen_completion": 0}), "label: step 0: field 'completions' is missing, expected a list"),
        (prm800k({"chosen_completion": 0, "completions": ["a"]}), 'label: step 0: "a", expected an object'),
        (prm800k(step("a", chosen=None, human=5)), "label: step 0: field 'human_completion' is 5"),
    ],
)
def test_broken_prm800k_records_are_named(record: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        read(record)
    assert str(error.value).startswith(f"a.jsonl:1: {message}")


# --- Samples files ------------------------------------------------------------------------------------


def sample(text: str, correct: bool = True, finish_reason: str = "stop", answer: str | None = "4") -> dict:
    return {"text": text, "answer": answer, "correct": correct, "finish_reason": finish_reason}


def sampled(id: str, *samples: Any, **more: Any) -> dict[str, Any]:
    return {"id": id, "problem": f"Problem {id}", "answer": "4", "samples": list(samples), **more}


def test_samples_are_selected_and_counted() -> None:
    """Seven samples of two problems: two are kept, and every other one is counted under one reason."""
    problems, notes = read(
        {"meta": {"seed": 0}},
        sampled(
            "a",
            sample("2+2=5. \\boxed{5}", correct=False, answer="5"),
            sample("2+2=4. \\boxed{4}"),
            sample("2 + 2 = 4.\n\\boxed{4}."),  # the first again, set otherwise
            sample("1+3=4. \\boxed{4}", finish_reason="length"),
            sample("Two and two.\n# Answer\n\n4"),
            level=2,
            subject="Algebra",
        ),
        sampled("b", sample("no", correct=False, answer=None), sample("no", correct=False, answer=None)),
    )
    assert problems == [
        Problem("a", "Problem a", "4", "2+2=4. \\boxed{4}", 2, "Algebra"),
        Problem("a#2", "Problem a", "4", "Two and two.\nThe answer is \\boxed{4}.", 2, "Algebra"),
    ]
    assert notes == [
        "7 samples of 2 problems, 1 without a solution to keep",
        "3 left out: wrong",
        "1 left out: repeats",
        "1 left out: cut off by the length limit",
    ]


@pytest.mark.parametrize(("per_problem", "n"), [(None, 4), (1, 1), (6, 6), (99, 6)])
def test_the_first_samples_of_a_problem_are_kept(per_problem: int | None, n: int) -> None:
    ways = [sample(f"Way {i}. \\boxed{{4}}") for i in range(6)]
    problems, notes = read(sampled("a", *ways), per_problem=per_problem)
    assert [p.solution for p in problems] == [way["text"] for way in ways[:n]]
    assert notes[1:] == ([f"{6 - n} left out: beyond {n} a problem"] if n < 6 else [])


def test_samples_of_another_engine_are_graded() -> None:
    [problem], notes = read(sampled("a", {"text": "So \\boxed{5}."}, {"text": "So \\boxed{4}."}))
    assert problem.solution == "So \\boxed{4}." and "1 left out: wrong" in notes


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [sample("no", correct=False)],
        [sample("\\boxed{4}", finish_reason="length"), sample("no", correct=False)],
    ],
)
def test_samples_without_a_correct_one_are_one_line(samples: list[Any]) -> None:
    message = rf"^a\.jsonl: none of its {len(samples)} samples of 1 problems is correct and finished.*--n"
    with pytest.raises(ValueError, match=message):
        read({"meta": {}}, sampled("a", *samples))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=12), st.integers(1, 4))
def test_every_sample_is_kept_or_counted_once(drawn: list[tuple[str, bool]], per_problem: int) -> None:
    record = sampled("a", sample("z"), *[sample(text, correct) for text, correct in drawn])
    problems, notes = read(record, per_problem=per_problem)
    assert len(problems) == min(per_problem, len({"z"} | {text for text, correct in drawn if correct}))
    assert len(problems) + sum(int(note.split()[0]) for note in notes[1:]) == len(drawn) + 1


def test_broken_samples_are_named() -> None:
    with pytest.raises(ValueError, match=r"^a\.jsonl:2: sample 0: field 'text' is missing, expected text"):
        read({"meta": {}}, sampled("a", {}))
    with pytest.raises(ValueError, match=r"^a\.jsonl:2: id 'a' is already at a\.jsonl:1"):
        read(sampled("a", sample("x")), sampled("a", sample("x")))
    with pytest.raises(ValueError, match=r"^--per-problem is 0, expected at least 1"):
        read(sampled("a", sample("x")), per_problem=0)


# --- Answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solution", "answer", "target"),
    [
        ("Step.", "4", "Step.\nThe answer is \\boxed{4}."),
        ("Step.\n\n# Answer\n\n4\n", "4", "Step.\nThe answer is \\boxed{4}."),
        ("Step.\n#  Answer \n4", "4", "Step.\nThe answer is \\boxed{4}."),
        ("So $\\boxed{4}$.", "4", "So $\\boxed{4}$."),
        # A box in the middle holds something else; the target would have taught a wrong answer.
        (
            "Now \\boxed{2}, doubled.\n\n# Answer\n\n4",
            "4",
            "Now \\boxed{2}, doubled.\nThe answer is \\boxed{4}.",
        ),
        # The answer's digits stood behind the box, not in it, and passed for the answer.
        (
            "The total is \\boxed{12}.\nThen 12-10=2.\n\n# Answer\n\n2",
            "2",
            "The total is \\boxed{12}.\nThen 12-10=2.\nThe answer is \\boxed{2}.",
        ),
        (
            "So \\boxed{x+1}.\nAt 4 it is 5.",
            "5",
            "So \\boxed{x+1}.\nAt 4 it is 5.\nThe answer is \\boxed{5}.",
        ),
        ("So \\boxed{0.5}.", "\\frac{1}{2}", "So \\boxed{0.5}."),
        ("# Answer\n\n4", "4", "The answer is \\boxed{4}."),
        ("Step.\n### Answer\n\n$4$", "4", "Step.\nThe answer is \\boxed{4}."),
        ("Step.\n# Answer\n\n$$\n4\n$$", "4", "Step.\nThe answer is \\boxed{4}."),
        ("Step.\n# Answer\n\n\\[\n4\n\\]\n", "4", "Step.\nThe answer is \\boxed{4}."),
        ("Step.\n# Answer\n\n$\\boxed{4}$", "4", "Step.\nThe answer is \\boxed{4}."),
        # A heading over the whole solution is no block: everything below it was dropped.
        ("# Answer\n\nLet 2n=8.\nSo \\boxed{4}.", "4", "# Answer\n\nLet 2n=8.\nSo \\boxed{4}."),
        (
            "Step.\n# Answer\n\\begin{pmatrix} 1 \\\\\n2 \\end{pmatrix}",
            "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}",
            "Step.\nThe answer is \\boxed{\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}}.",
        ),
    ],
)
def test_one_answer_format(solution: str, answer: str, target: str) -> None:
    assert with_answer(solution, answer) == target


PIECES = ["a", " ", "#", "\n", "$", "4", "2", "\\boxed{2}", "\\boxed{4}", "# Answer", "\\frac{1}{2}"]


@given(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.sampled_from(["4", "\\frac{1}{2}", "(1, 2)", "x^{2}"]),
)
def test_the_answer_can_be_extracted_from_every_target(steps: str, answer: str) -> None:
    from mathref.grader import extract_answer, is_equivalent

    once = with_answer(steps, answer)
    assert is_equivalent(extract_answer(once), answer)
    assert with_answer(once, answer) == once


def test_normalized() -> None:
    assert normalized("Find $x^2 +\n 3$.") == normalized("find \\(X^{2}+3\\)") == "findx2+3"
    assert normalized("$x=3$") != normalized("$x=4$")


@pytest.mark.parametrize(
    ("text", "sibling"),
    [
        ("$x+3$", "$x-3$"),
        ("$x^2-6x-16=0$", "$x^2+6x-16=0$"),
        ("Compute $\\sin(-60^\\circ)$.", "Compute $\\sin 60^\\circ$."),
        ("$k>0$", "$k<0$"),
        ("$\\tan 22.5^\\circ$", "$\\tan 225^\\circ$"),
        ("$17*9$", "$1*79$"),
        ("$3/4$", "$34$"),
        ("$\\theta-x$", "$\\theta x$"),
    ],
)
def test_what_changes_the_mathematics_is_kept(text: str, sibling: str) -> None:
    """Letters and digits alone made the first of these the same problem."""
    assert normalized(text) != normalized(sibling)


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("$x - 3$", "$x\u22123$"),
        ("$\\theta-x$", "$\\theta - x$"),
        ("$\\left( x+1 \\right)$", "\\((x + 1)\\)"),
        ("$x\\,-\\!3$", "$x-3$"),
        ("A two-digit number.", "A two digit number"),
        ("the $x$-axis", "the $x$ axis"),
        ("Ana - who is 5 --- runs.", "Ana, who is 5, runs."),
        ("It is 3. 5 are left.", "It is $3$.  5 are left."),
        ("**Find** $x$.", "Find x"),
        ("$\\displaystyle 1,000$", "$1000$"),
    ],
)
def test_spelling_is_not_kept(text: str, spelling: str) -> None:
    assert normalized(text) == normalized(spelling)


@pytest.mark.parametrize("piece", ["-", "- ", "a-", "\\\\big", ".", "1.", "*"])
def test_normalizing_takes_linear_time(piece: str) -> None:
    """A ruled line of dashes once took minutes: every hyphen looked for the end of all that follow."""
    normalized(piece * 100_000)


OPERATORS, OPERANDS = ["+", "-", "<", "/", "="], ["x", "3", "12", "\\theta", "(2y)", "\\frac{1}{2}"]


@given(st.lists(st.tuples(st.sampled_from(OPERATORS), st.sampled_from(OPERANDS)), max_size=6))
def test_white_space_around_operators_is_not_kept(terms: list[tuple[str, str]]) -> None:
    symbols = [symbol for term in terms for symbol in term]
    assert normalized(" ".join(symbols)) == normalized("\n  ".join(symbols))
    assert normalized(" ".join(symbols)) == normalized(f"${''.join(symbols)}$")
