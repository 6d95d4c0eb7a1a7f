r"""The built-in problem set: seeded, split by construction, and the text that the shipped base models are
made from.

Paper: section 3, Table 1; the set stands in for MATH and PRM800K where neither is at hand.
Choices [P]: 11000 / 1000 / 500 problems as in Table 1, levels 1 to 5, two solution styles (families.py). A
problem's canonical form (family and numbers, without names and wording) is hashed, and the hash alone says
which split it is in, so that no test problem can be drawn in training at any seed. `pretraining_text` draws
from the training side too.

`generate("train", 1)[0]` reads like

    problem   Solve for $x$: $7x+12=3x+48$.
    brief     4x=36, so the answer is \boxed{9}.
    detailed  Subtract 3x from both sides: 7-3=4, so 4x+12=48.
              Subtract 12 from both sides: 48-12=36, so 4x=36.
              Divide by 4: 36/4=9.
              The answer is \boxed{9}.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mathref.arithmetic import euclid, plus, radical, reduced, square_part, times
from mathref.families import FAMILIES
from mathref.prompts import VERDICTS, evaluator_prompt

Split = Literal["train", "validation", "test"]
SIZES: dict[Split, int] = {"train": 11000, "validation": 1000, "test": 500}  # Table 1, row MATH
LEVELS = (1, 2, 3, 4, 5)
# Out of 20 buckets of the key's hash, these belong to the two held-out splits; the rest is training.
TEST_BUCKET, VALIDATION_BUCKET, N_BUCKETS = 0, 1, 20


@dataclass(frozen=True)
class BuiltinProblem:
    """One generated problem with both solutions; `key` is its canonical form."""

    id: str
    problem: str
    answer: str  # LaTeX, exact
    brief: str
    detailed: str
    level: int
    subject: str
    key: str

    @property
    def family(self) -> str:
        return self.key.partition(":")[0]


def draw(rng: random.Random, family: str, level: int) -> BuiltinProblem:
    """Draw one problem of a family; its id is a digest of its canonical form and wording."""
    make, subject = FAMILIES[family]
    draft = make(rng, level)
    key = f"{family}:" + ",".join(map(str, draft.numbers))
    ending = f"\\boxed{{{draft.answer}}}."
    return BuiltinProblem(
        id=f"{family}-{_digest(key + draft.problem) % 16**10:010x}",
        problem=draft.problem,
        answer=draft.answer,
        brief=f"{draft.brief}, so the answer is {ending}",
        detailed="\n".join([*draft.steps, f"The answer is {ending}"]),
        level=level,
        subject=subject,
        key=key,
    )


def split_of(key: str) -> Split:
    """The split that a canonical form belongs to, whatever the seed."""
    bucket = _digest(key) % N_BUCKETS
    return {TEST_BUCKET: "test", VALIDATION_BUCKET: "validation"}.get(bucket, "train")  # type: ignore[return-value]


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def stream(split: Split, seed: int = 0, levels: tuple[int, ...] = LEVELS) -> Iterator[BuiltinProblem]:
    """Endless problems of one split, families and levels in turn, repetitions possible."""
    rng = random.Random(f"{split}-{seed}")
    while True:
        for family in FAMILIES:
            problem = draw(rng, family, rng.choice(levels))
            while split_of(problem.key) != split:
                problem = draw(rng, family, rng.choice(levels))
            yield problem


def generate(split: Split, n: int | None = None, seed: int = 0) -> list[BuiltinProblem]:
    """The first `n` distinct problems of a split (default: its size in SIZES), in an order fixed by `seed`.

    Raises ValueError for an unknown split and for n below 1.
    """
    if split not in SIZES:
        raise ValueError(f"unknown split {split!r}, expected one of {', '.join(SIZES)}")
    n = SIZES[split] if n is None else n
    if n < 1:
        raise ValueError(f"cannot generate {n} problems, expected at least 1")
    found: dict[str, BuiltinProblem] = {}
    for problem in stream(split, seed):
        found.setdefault(problem.key, problem)
        if len(found) == n:
            break
    return list(found.values())


def select_families(only: Sequence[str] | None, without: Sequence[str] | None) -> tuple[str, ...] | None:
    """The families named in `only` and not in `without`, in the order of FAMILIES; None where both are None.

    Raises ValueError for an unknown name, and where no family is left.
    """
    if only is None and without is None:
        return None
    unknown = [name for name in (*(only or ()), *(without or ())) if name not in FAMILIES]
    if unknown:
        raise ValueError(f"unknown family '{unknown[0]}', expected some of {', '.join(FAMILIES)}")
    wanted = FAMILIES if only is None else only
    selected = tuple(name for name in FAMILIES if name in wanted and name not in (without or ()))
    if not selected:
        raise ValueError("--families and --exclude-families leave no family of built-in problems")
    return selected


# ---- Text for pre-training ---------------------------------------------------------------------------

PAGE_SHARE = 0.5  # of the documents; the rest is arithmetic
PAGE_LEVELS = (1, 2, 3)  # the two hardest levels are left to fine-tuning
JUDGED_LINES = 0.4  # of the documents that judge; the rest are judged solutions
PAGE_STYLES = ("answer", "brief", "brief", "detailed", "detailed")


def pretraining_text(seed: int = 0, *, judged_share: float = 0.0) -> Iterator[str]:
    """Endless documents for `train.py --stage pretrain`: pages of arithmetic, and pages of easy solved
    problems; a share of them says of lines of arithmetic or of a solution whether they are correct.

    The arithmetic is written as the detailed solutions write it, so that a base model's mistakes are slips
    rather than ignorance. The pages teach to read a problem's numbers; each is laid out like a prompt of
    prompts.few_shot_prompt, and some give bare answers only. Problems come from the training side. The
    judgements teach what the word of the evaluator's template means, as a large model's pre-training does
    (section 6.1); their incorrect halves are slips of the kind that models make.
    """
    rng = random.Random(f"pretrain-{seed}")
    pages = stream("train", seed=-1 - seed, levels=PAGE_LEVELS)
    while True:
        if judged_share and rng.random() < judged_share:
            if rng.random() < JUDGED_LINES:
                yield _judged_lines(rng)
            else:
                yield _judged_template(next(pages), rng)
            continue
        if rng.random() >= PAGE_SHARE:
            yield "\n".join(_drill(rng) for _ in range(rng.randint(6, 12)))
            continue
        style = rng.choice(PAGE_STYLES)
        problems = [next(pages) for _ in range(rng.randint(2, 4) * 5)]
        chosen = rng.sample(problems, len(problems) // 5)
        yield "\n\n".join(f"Problem: {p.problem}\nSolution: {_solution(p, style)}" for p in chosen)


def _solution(problem: BuiltinProblem, style: str) -> str:
    return {
        "answer": f"\\boxed{{{problem.answer}}}.",
        "brief": problem.brief,
        "detailed": problem.detailed,
    }[style]


def judged_line(rng: random.Random) -> tuple[str, bool]:
    """A line of arithmetic, half of the time with a slip, and whether it is right."""
    line = _drill(rng).rstrip(".")
    shown = _with_slip(line, rng, carried=0.0) if rng.random() < 0.5 else line
    return shown, shown == line


def judged_solution(problem: BuiltinProblem, rng: random.Random) -> tuple[str, bool]:
    """A solution of the problem, detailed ones more often, half of the time with a slip, and whether it is
    right.
    """
    right = problem.detailed if rng.random() < 0.8 else problem.brief
    shown = _with_slip(right, rng) if rng.random() < 0.5 else right
    return shown, shown == right


def _judged_lines(rng: random.Random) -> str:
    judged = (judged_line(rng) for _ in range(rng.randint(6, 12)))
    return "\n".join(f"{line} is{VERDICTS[not right]}." for line, right in judged)


def _judged_template(problem: BuiltinProblem, rng: random.Random) -> str:
    shown, right = judged_solution(problem, rng)
    return evaluator_prompt(problem.problem, shown) + VERDICTS[not right]


def _with_slip(text: str, rng: random.Random, carried: float = 0.5) -> str:
    """The text with one number wrong, in a share `carried` of cases also where the same number comes again.

    Half of the slips are results, numbers behind an equals sign; the others are numbers anywhere, as where a
    model copies a coefficient wrongly. Text without a number stays as it is.
    """
    numbers = list(re.finditer(r"(?<![\d.])\d{1,9}(?![\d.,]*\d)", text))
    results = [number for number in numbers if text[: number.start()].rstrip("-").endswith("=")]
    if not numbers:
        return text
    place = rng.choice(results if results and rng.random() < 0.5 else numbers)
    value = place[0]
    wrong = _misread(value, [number[0] for number in numbers if number[0] != value], rng)
    before, after = text[: place.start()], text[place.end() :]
    if rng.random() < carried:
        after = re.sub(rf"(?<!\d){value}(?!\d)", wrong, after)
    return before + wrong + after


def _misread(value: str, others: Sequence[str], rng: random.Random) -> str:
    """Another number in the place of `value`: a little more or less, one digit wrong, or one of `others`."""
    kind = rng.random()
    if others and kind < 0.25:
        return rng.choice(others)
    if kind < 0.6:
        place = rng.randrange(len(value))
        digit = rng.choice([d for d in "0123456789" if d != value[place]])
        return str(int(value[:place] + digit + value[place + 1 :]))
    slip = rng.choice((1, 1, 2, 3, 5, 9, 10, 10, 20, 100)) * rng.choice((1, -1))
    return str(int(value) + slip if int(value) + slip >= 0 else int(value) - slip)


def _drill(rng: random.Random) -> str:
    """One line of arithmetic in the notation of the solutions."""
    kind = rng.randrange(8)
    if kind == 0:
        return plus(*(_number(rng) for _ in range(rng.randint(2, 4))))
    if kind == 1:
        a, b = _number(rng), _number(rng)
        return f"{a}-{b}={a - b}" if rng.random() < 0.9 else f"-{a}-{b}={-a - b}"
    if kind == 2:
        return times(rng.randint(2, 99), rng.randint(2, 12))
    if kind == 3:
        return times(rng.randint(2, 400), rng.randint(2, 60))
    if kind == 4:
        quotient, divisor, sign = rng.randint(1, 120), rng.randint(1, 40), rng.choice(["", "", "", "-"])
        return f"{sign}{quotient * divisor}/{divisor}={sign}{quotient}"
    if kind == 5:
        return " ".join(euclid(rng.randint(2, 300), rng.randint(2, 80)))
    if kind == 6:
        factor = rng.randint(1, 24)
        top, bottom = factor * rng.randint(1, 30), factor * rng.randint(2, 30)
        divisor = math.gcd(top, bottom)
        return " ".join(reduced(top, bottom)) or f"{top}/{bottom}={top // divisor}/{bottom // divisor}"
    outer, inner = rng.randint(2, 9), rng.choice((2, 3, 5, 6, 7, 10, 11, 13))
    n = outer * outer * inner
    outer, inner = square_part(n)
    return f"{n}={outer * outer}*{inner}, so its root is {radical(outer, inner)}."


def _number(rng: random.Random) -> int:
    """An operand with one to four digits, short ones more often."""
    return rng.randint(1, 10 ** rng.choice((1, 2, 2, 3, 3, 4)))
