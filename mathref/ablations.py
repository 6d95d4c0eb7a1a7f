r"""What it is about a solution that helps: granularity, length and correctness of its steps, one at a time.

Paper: section 3 and Table 2: solutions in PRM800K's style train better than those of MATH. The two differ in
several things at once; each function here changes one of them in the training solutions and leaves the rest.
Choices [P]: a step is a line. The ending, from the line with the last \boxed on (without one: the last line),
is never touched, so that the answer trained on stays right. The random numbers depend on (seed, problem text)
and not on an example's place in the data: the same steps are chosen whatever else is trained on, and a higher
rate chooses the same ones and more. Together: steps are corrupted, then dropped, then merged.

    solution             corrupt_steps        drop_steps           merge_steps, k = 2
    2*3=6.               2*3=6.               2*3=6.               2*3=6. 6+4=10.
    6+4=10.              6+4=13.              10-1=9.              10-1=9.
    10-1=9.              10-1=9.              It is \boxed{9}.     It is \boxed{9}.
    It is \boxed{9}.     It is \boxed{9}.
"""

from __future__ import annotations

import dataclasses
import random
import re
from dataclasses import dataclass

from mathref.formats import Problem

# A number that a slip can change, up to nine digits of it; one that begins with its point is none.
NUMBER = re.compile(r"(?<![\d.,])\d{1,9}")
SLIPS = [n for n in range(-9, 10) if n]  # what a wrong result is off by


@dataclass(frozen=True)
class Ablation:
    """How training solutions are changed; every field is a flag of train.py."""

    merge_steps: int = 1  # steps that are written on one line
    drop_steps: float = 0.0  # share of the steps that is left out
    corrupt_steps: float = 0.0  # share of the steps that is made wrong
    seed: int = 0  # of the choice of steps

    def __post_init__(self) -> None:
        if self.merge_steps < 1:
            raise ValueError(f"--merge-steps is {self.merge_steps}, expected at least 1")
        for name in ("drop_steps", "corrupt_steps"):
            rate = getattr(self, name)
            if not 0 <= rate <= 1:
                raise ValueError(f"--{name.replace('_', '-')} is {rate}, expected a share from 0 to 1")

    @property
    def changes_something(self) -> bool:
        return self.merge_steps > 1 or self.drop_steps > 0 or self.corrupt_steps > 0


def split_steps(solution: str) -> tuple[list[str], str]:
    """(steps, ending) of a solution; blank lines between steps are no steps."""
    lines = solution.split("\n")
    box = solution.rfind("\\boxed")
    first = solution.count("\n", 0, box) if box >= 0 else len(lines) - 1
    return [line.strip() for line in lines[:first] if line.strip()], "\n".join(lines[first:])


def wrong_step(step: str, rng: random.Random) -> str:
    """The step with another result: the first number behind its last equals sign is off by 1 to 9.

    "Divide by 4: 36/4=9." becomes "Divide by 4: 36/4=12." A step without such a number stays as it is.
    """
    left, equals, right = step.rpartition("=")
    number, slip = NUMBER.search(right), rng.choice(SLIPS)
    if not equals or number is None:
        return step
    value = int(number[0])
    wrong = value + slip if value + slip >= 0 else value - slip
    return left + equals + right[: number.start()] + str(wrong) + right[number.end() :]


def corrupt_steps(steps: list[str], rate: float, rng: random.Random) -> list[str]:
    """Correctness: each step is made wrong with probability `rate`; the next starts from the right result.

    So a wrong step is noise: the solution around it still leads to its answer.
    """
    changed = []
    for step in steps:
        chosen, own = rng.random() < rate, random.Random(rng.random())  # the same draws at every rate
        changed.append(wrong_step(step, own) if chosen else step)
    return changed


def drop_steps(steps: list[str], rate: float, rng: random.Random) -> list[str]:
    """Length: each step is left out with probability `rate`."""
    return [step for step in steps if rng.random() >= rate]


def merge_steps(steps: list[str], k: int) -> list[str]:
    """Granularity: every `k` steps on one line, joined by a space; the last line may hold fewer."""
    return [" ".join(steps[i : i + k]) for i in range(0, len(steps), k)]


def ablate(problems: list[Problem], ablation: Ablation) -> tuple[list[Problem], list[str]]:
    """The problems with changed solutions, and lines that say how many solutions and steps were changed.

    Raises ValueError where there is something to change and no solution has a step before its ending.
    """
    if not ablation.changes_something:
        return problems, []
    changed, n_steps, n_wrong, n_dropped = [], 0, 0, 0
    for problem in problems:
        steps, ending = split_steps(problem.solution or "")
        drops, slips = (random.Random(f"{use}-{ablation.seed}-{problem.problem}") for use in ("drop", "slip"))
        corrupted = corrupt_steps(steps, ablation.corrupt_steps, slips)
        kept = drop_steps(corrupted, ablation.drop_steps, drops)
        lines = merge_steps(kept, ablation.merge_steps)
        unchanged = lines == steps  # then blank lines stay, too
        solution = problem.solution if unchanged else "\n".join([*lines, ending])
        changed.append(dataclasses.replace(problem, solution=solution))
        n_steps += len(steps)
        n_wrong += sum(a != b for a, b in zip(steps, corrupted, strict=True))
        n_dropped += len(corrupted) - len(kept)
    if not n_steps:
        raise ValueError(
            f"none of the {len(problems)} training solutions has a step on a line before its answer, so "
            "--merge-steps, --drop-steps and --corrupt-steps would change nothing; use --style detailed or "
            "data with one step a line"
        )
    n_changed = sum(a.solution != b.solution for a, b in zip(problems, changed, strict=True))
    note = (
        f"{n_changed} of {len(problems)} training solutions changed: of {n_steps} steps, {n_wrong} corrupted"
    )
    return changed, [f"{note} and {n_dropped} dropped, {ablation.merge_steps} on a line"]
