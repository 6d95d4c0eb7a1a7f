r"""Every text that a model sees: the generator's prompt, the few-shot prompt, the evaluator's template.

Paper: section 2 (X is what follows the problem), Tables 2 and 5 (few-shot prompts), section 6.1 (evaluator).
Choices [P]: the paper's generator prompt is unknown; it is two labelled lines here, and a few-shot prompt
is the same text repeated with solved problems, so that fine-tuning and few-shot prompting differ in the
weights alone. The evaluator's template is known word by word [Q], its line breaks are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

# A model that is only prompted does not stop after one solution, it goes on to invent the next problem.
STOP: tuple[str, ...] = ("\n\nProblem:", "\nProblem:")
VERDICTS = (" correct", " incorrect")  # the words that S_cls compares, with the leading space of running text


class Solved(Protocol):
    """Any record with a problem and its solution."""

    problem: str
    solution: str | None


def generator_prompt(problem: str) -> str:
    """The condition P of p_M(X | P): what stands before the solution, which starts with a space."""
    return f"Problem: {problem.strip()}\nSolution:"


def completion(solution: str) -> str:
    """The sequence X that follows `generator_prompt`; end-of-sequence is added as a token, not as text."""
    return f" {solution.strip()}"


def few_shot_prompt(shots: Sequence[Solved], problem: str) -> str:
    """Solved examples, a blank line between them, then the open problem.

    Raises ValueError for a shot without a solution.
    """
    for shot in shots:
        if not shot.solution:
            raise ValueError(f"a few-shot example has no solution: {shot.problem[:60]!r}")
    solved = [generator_prompt(shot.problem) + completion(shot.solution or "") for shot in shots]
    return "\n\n".join([*solved, generator_prompt(problem)])


def evaluator_problem(problem: str) -> str:
    """The first part of T(P, X), which all candidates of a problem share."""
    return f"Here is a math problem: {problem.strip()}\nHere is a candidate solution:"


def evaluator_candidate(solution: str) -> str:
    """The second part of T(P, X); one of VERDICTS is the next word."""
    return f" {solution.strip()}\nThe above candidate solution is"


def evaluator_prompt(problem: str, solution: str) -> str:
    """Template T(P, X) of section 6.1."""
    return evaluator_problem(problem) + evaluator_candidate(solution)
