"""The texts a model sees: the paper's wording where it is known, training and sampling in agreement."""

import pytest

from mathref.data import Problem
from mathref.prompts import STOP, completion, evaluator_prompt, few_shot_prompt, generator_prompt

SHOT = Problem("a", "What is 1+1?", "2", "1+1=2, so the answer is \\boxed{2}.")


def test_few_shot_prompt_is_the_training_text_repeated():
    prompt = few_shot_prompt([SHOT], "What is 2+2?")
    assert prompt == generator_prompt(SHOT.problem) + completion(SHOT.solution) + "\n\n" + generator_prompt(
        "What is 2+2?"
    )
    assert few_shot_prompt([], "What is 2+2?") == generator_prompt("What is 2+2?")


def test_the_next_problem_starts_with_a_stop_string():
    solved = few_shot_prompt([SHOT, SHOT], "What is 2+2?")
    first_answer = solved[len(generator_prompt(SHOT.problem)) :]
    assert first_answer[: min(first_answer.find(s) for s in STOP)] == completion(SHOT.solution)


def test_a_shot_without_solution_is_refused():
    with pytest.raises(ValueError, match="no solution"):
        few_shot_prompt([Problem("a", "What?", "2")], "What is 2+2?")


def test_evaluator_template_has_the_papers_words():
    assert evaluator_prompt("P", "X").split("\n") == [
        "Here is a math problem: P",
        "Here is a candidate solution: X",
        "The above candidate solution is",
    ]
