r"""The record shapes of the public data sets, each turned into the one record `Problem`.

Paper: section 3: MATH and PRM800K, and the selection of PRM800K solutions as training targets.
Choices: every solution ends in the answer format of the built-in set, "The answer is \boxed{x}." PRM800K's
"# Answer" block and GSM8K's "#### x" are rewritten to it, and it is added where the last \boxed of a
solution is not its answer; MATH solutions stay as they are. Of PRM800K, solutions that reach the right
answer without a step rated -1 are kept, at most `per_problem` a problem (default 1), the first in the file.
Of a samples file, so that a model can be trained on what it found itself (rejection sampling), correct and
finished samples are kept, no text twice, the first `per_problem` a problem (default 4). The paper is silent
on all of these points [P].

    MATH      {"problem", "solution", "level": "Level 3", "type": "Algebra"}, the answer is in the last \boxed
    MATH-500  {"problem", "solution", "answer", "level": 3, "subject", "unique_id": "test/algebra/1.json"}
    GSM8K     {"question", "answer": "2+3=<<2+3=5>>5 eggs\n#### 5"}
    PRM800K   {"question": {"problem", "ground_truth_answer"}, "label": {"finish_reason": "solution", "steps":
               [{"completions": [{"text", "rating": 1}], "human_completion": null, "chosen_completion": 0}]}}
    samples   {"id", "problem", "answer", "samples": [{"text", "answer", "correct", "finish_reason"}]}, as
              sample.py writes it, after a first line {"meta": {...}} if there is one
    judged    {"problem", "solution", "answer", "gold", "correct": true}
    plain     {"problem" or "question", "answer"} and, if known, "solution", "id", "level", "subject"
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from mathref.files import leaving_out

# The block that ends a PRM800K solution: a heading line, then the bare answer: a line, a formula or a matrix.
ANSWER_BLOCK = re.compile(
    r"""(?:\A|\n)[ \t]*\#+[ \t]*Answer:?[ \t]*\n+
    ( (?:(?!\\boxed)[^\n])+                          # 4
    | (\$*\\boxed\{[^\n]+\}\$*\.?                   # a formula, set off or boxed
      | \$\$[^$]+\$\$ | \\\[(?:(?!\\\]).)+\\\])
    | [^\n]*\\begin\{(?:[pbvBV]?matrix|array|cases)\}.+\\end\{[^\n]+
    )\s*\Z""",
    re.DOTALL | re.VERBOSE,
)
# GSM8K's calculator annotations, as in "48/2 = <<48/2=24>>24".
CALCULATOR = re.compile(r"<<[^<>\n]*>>")
# Solutions kept of one problem, for the formats that hold several of it: the defaults of --per-problem.
PER_PROBLEM = {"PRM800K": 1, "samples": 4}
# What `normalized` passes over: commands that only size a formula; a hyphen or dash before a word ("x-axis",
# "two-digit"), which some write as a space; a point or star that stands in no number and no product.
SIZING = re.compile(r"\\(left|right|displaystyle|big+[lr]?)(?![a-z])")
HYPHENS = re.compile(r"-[\s-]*(?=([^\W\d_]{3})?)")  # group 1: a word follows
LOOSE_POINT = re.compile(r"(?<!\d)[.*]|[.*](?!\d)")
MINUS_SIGNS = str.maketrans("\u2010\u2011\u2012\u2013\u2212", "-----")


@dataclass(frozen=True)
class Problem:
    r"""A problem with its reference answer; `solution` is the training target X, answer included."""

    id: str
    problem: str
    answer: str
    solution: str | None = None
    level: int | None = None
    subject: str | None = None


@dataclass(frozen=True)
class Sample:
    """One sampled solution X_i of a problem, its extracted answer A_i and its verdict g(A_i, A)."""

    text: str
    answer: str | None  # None: no answer could be extracted
    correct: bool
    logprob: float | None = None  # log p(X | P), summed over the tokens; None: the engine did not say
    tokens: int | None = None  # number of tokens, EOS included; None: the engine did not say
    finish_reason: str = "unknown"  # "stop", "length" or another engine's word
    score: float | None = None  # S_cls(X | P), once an evaluator has scored it


@dataclass(frozen=True)
class SampledProblem:
    """A problem with its N samples: one line of a samples file."""

    id: str
    problem: str
    answer: str
    samples: tuple[Sample, ...]
    level: int | None = None
    subject: str | None = None


class Row(NamedTuple):
    """One record of a file: where it stands (for errors), the id it has if it brings none, and itself."""

    where: str
    default_id: str
    record: dict[str, Any]


Skipped = list[str] | None  # what is wrong with each bad line; None: the first one is raised
Selection = tuple[list[Problem], list[str]]  # what a reader keeps, and lines that say what it left out


# --- Fields ---------------------------------------------------------------------------------------

_KINDS = {str: "text", bool: "true or false", list: "a list", dict: "an object", int: "a whole number"}


def _shown(value: Any) -> str:
    """The beginning of a value as JSON; of one too deep for that, its kind."""
    try:
        return json.dumps(value)[:60]
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"


def field(record: dict[str, Any], name: str, kind: type, where: str) -> Any:
    """The value of a field that must be there and of type `kind`; ValueError names place, field and type."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: {_shown(record)}, expected an object with field '{name}'")
    value = record.get(name)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    if name not in record:
        raise ValueError(f"{where}: field '{name}' is missing, expected {_KINDS[kind]}")
    raise ValueError(f"{where}: field '{name}' is {_shown(value)}, expected {_KINDS[kind]}")


def optional_field(record: dict[str, Any], name: str, kind: type, where: str) -> Any:
    """As `field`, but None where the field is missing or null."""
    return None if isinstance(record, dict) and record.get(name) is None else field(record, name, kind, where)


def text_field(record: dict[str, Any], name: str, where: str) -> str:
    """A text with something in it, stripped of the white space around it."""
    text = field(record, name, str, where).strip()
    if not text:
        raise ValueError(f"{where}: field '{name}' is empty, expected text")
    return text


def _answer_field(record: dict[str, Any], name: str, where: str) -> str:
    """A reference answer, which may be empty; foreign files often hold it as a JSON number."""
    value = record.get(name)
    if type(value) is float and not math.isfinite(value):  # Python's json reads NaN and Infinity
        raise ValueError(f"{where}: field '{name}' is {value}, expected text or a finite number")
    return str(value) if type(value) in (int, float) else field(record, name, str, where).strip()


def _level(record: dict[str, Any], where: str) -> int | None:
    """3, "3" and MATH's "Level 3" are level 3; null and MATH's "Level ?" (two problems) are unknown."""
    value = record.get("level")
    if value is None or value == "Level ?":
        return None
    text = str(value).strip() if type(value) in (str, int) else ""
    digits = re.fullmatch(r"(?:Level )?(\d{1,9})", text)
    if not digits:
        raise ValueError(f"{where}: field 'level' is {_shown(value)}, expected a number or 'Level 3'")
    return int(digits[1])


def _subject(record: dict[str, Any], where: str) -> str | None:
    return optional_field(record, "subject", str, where) or optional_field(record, "type", str, where)


def _id(record: dict[str, Any], where: str) -> str | None:
    value = record["id"] if record.get("id") is not None else record.get("unique_id")
    return str(value) if type(value) is int else optional_field({"id": value}, "id", str, where)


def _claim(seen: dict[str, str], id: str, where: str) -> str:
    if id in seen:
        raise ValueError(f"{where}: id '{id}' is already at {seen[id]}; every id must occur once")
    seen[id] = where
    return id


# --- Answers --------------------------------------------------------------------------------------


def normalized(text: str) -> str:
    """What two spellings of one problem text have in common: the key of the guard and of repeats.

    Letters and digits, lower case, and the operators + - / < > between them; a point or * between digits.
    White space, dollar signs, brackets and other punctuation are matters of spelling.
    """
    text = SIZING.sub("", text.casefold().translate(MINUS_SIGNS))
    text = HYPHENS.sub(lambda hyphens: "" if hyphens[1] else hyphens[0], text)
    return LOOSE_POINT.sub("", "".join(c for c in text if c.isalnum() or c in "+-/<>.*"))


def boxed_answer(solution: str, where: str) -> str:
    r"""The answer in the last \boxed of a reference solution; ValueError if there is none."""
    from mathref.grader import extract_answer  # late: reading other formats needs no grader

    if "\\boxed{}" in solution:
        return ""
    answer = extract_answer(solution) if "\\boxed" in solution or "\\fbox" in solution else None
    if answer is None:
        raise ValueError(
            f"{where}: no field 'answer', and no \\boxed{{...}} in field 'solution' to take it from"
        )
    return answer


def with_answer(solution: str, answer: str) -> str:
    r"""The solution ending in its answer in the one format, "# Answer" blocks rewritten.

    A solution stays as it is where the answer that g would extract from its boxes is this one; a box in the
    middle may hold something else.
    """
    steps = ANSWER_BLOCK.sub("", solution).strip()
    if "\\boxed" in steps:
        from mathref.grader import extract_answer, is_equivalent  # late: others need no grader

        if is_equivalent(extract_answer(steps), answer):
            return steps
    return f"{steps}\nThe answer is \\boxed{{{answer}}}.".lstrip()


# --- Readers, one a format ------------------------------------------------------------------------


def read_gsm8k(rows: Iterable[Row], skipped: Skipped) -> Selection:
    """GSM8K: calculator annotations removed, the number after #### is the answer, without its commas."""
    problems = []
    for where, default_id, record in rows:
        with leaving_out(skipped):
            steps, marker, answer = text_field(record, "answer", where).rpartition("####")
            answer = answer.strip().replace(",", "")
            if not marker or not answer:
                raise ValueError(
                    f"{where}: field 'answer' does not end in a line '#### number', as GSM8K does"
                )
            solution = with_answer(CALCULATOR.sub("", steps), answer)
            problems.append(Problem(default_id, text_field(record, "question", where), answer, solution))
    return problems, []


def read_plain(rows: Iterable[Row], skipped: Skipped) -> Selection:
    """MATH, MATH-500 and files of their shape; a missing `answer` is the last boxed one of the solution.

    Two problems of MATH have the empty answer (number_theory/7115 and 7117): such a one cannot be graded.
    """
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    empty: list[str] = []
    for where, default_id, record in rows:
        with leaving_out(skipped):
            name = "question" if "question" in record and "problem" not in record else "problem"
            problem = text_field(record, name, where)
            solution = None if record.get("solution") is None else text_field(record, "solution", where)
            if record.get("answer") is not None or solution is None:
                answer = _answer_field(record, "answer", where)
            else:
                answer = boxed_answer(solution, where)
            if not answer:
                empty.append(where)
                continue
            target = None if solution is None else with_answer(solution, answer)
            id, level, subject = (
                _id(record, where) or default_id,
                _level(record, where),
                _subject(record, where),
            )
            problems.append(Problem(_claim(seen, id, where), problem, answer, target, level, subject))
    return problems, [f"{len(empty)} left out: the answer is empty ({empty[0]})"] if empty else []


def read_judged(rows: Iterable[Row], skipped: Skipped) -> Selection:
    """Model-written solutions with a verdict: those marked `"correct": true`, also several of a problem."""
    problems: list[Problem] = []
    seen: Counter[str] = Counter()
    left_out = 0
    for where, default_id, record in rows:
        with leaving_out(skipped):
            problem, gold = text_field(record, "problem", where), _answer_field(record, "gold", where)
            solution = text_field(record, "solution", where)
            if not optional_field(record, "correct", bool, where):  # null: nobody is sure
                left_out += 1
                continue
            answer = _answer_field(record, "answer", where)
            id = optional_field(record, "unique_id", str, where) or default_id
            seen[id] += 1  # the id names the problem, so its further solutions are numbered
            id = id if seen[id] == 1 else f"{id}#{seen[id]}"
            target = with_answer(solution, answer)
            problems.append(
                Problem(id, problem, gold, target, _level(record, where), _subject(record, where))
            )
    return problems, [f"{left_out} left out: not marked correct"] if left_out else []


def _trajectory(label: dict[str, Any], where: str) -> tuple[list[str], bool]:
    """The chosen texts of a PRM800K label, up to a step without a choice; and whether one is rated -1."""
    texts, bad = [], False
    for number, step in enumerate(field(label, "steps", list, where)):
        here = f"{where}: step {number}"
        chosen = optional_field(step, "chosen_completion", int, here)
        human = step.get("human_completion")
        if chosen is not None:
            completions = field(step, "completions", list, here)
            if not 0 <= chosen < len(completions):
                raise ValueError(
                    f"{here}: field 'chosen_completion' is {chosen} of {len(completions)} completions"
                )
            texts.append(field(completions[chosen], "text", str, here))
            bad = bad or completions[chosen].get("rating") == -1
        elif human is not None:
            # An object with the text in some files, the bare text in others.
            source, name = (human, "text") if isinstance(human, dict) else (step, "human_completion")
            texts.append(field(source, name, str, here))
        else:
            break
    return [text.strip() for text in texts], bad


def _prm800k_target(record: dict[str, Any], where: str) -> tuple[str | None, str]:
    """(target X, "") of one labelled solution, or (None, why it is left out)."""
    from mathref.grader import extract_answer, is_equivalent  # late: sympy takes most of a second

    question, label = field(record, "question", dict, where), field(record, "label", dict, where)
    reference_answer = _answer_field(question, "ground_truth_answer", f"{where}: question")
    if field(label, "finish_reason", str, f"{where}: label") != "solution":
        return None, "unfinished or found wrong"
    texts, bad = _trajectory(label, f"{where}: label")
    if bad:
        return None, "a chosen step is rated -1"
    solution = "\n".join(texts)
    block = ANSWER_BLOCK.search(solution)
    if not block:
        return None, "no '# Answer' at the end"
    answer = extract_answer(block[0]) if block[2] else block[1]
    if answer is None or not is_equivalent(answer, reference_answer):
        return None, "the answer does not grade as correct"
    return with_answer(solution, answer), ""


def read_prm800k(rows: Iterable[Row], per_problem: int, skipped: Skipped) -> Selection:
    """PRM800K phase 1 and 2: the selection of training targets that the module's docstring states."""
    problems: list[Problem] = []
    targets: dict[str, list[str]] = {}  # by problem
    left_out: Counter[str] = Counter()
    for where, default_id, record in rows:
        with leaving_out(skipped):
            question = field(record, "question", dict, where)
            problem = text_field(question, "problem", f"{where}: question")
            kept = targets.setdefault(normalized(problem), [])
            if len(kept) >= per_problem:  # before grading, which costs most
                left_out[f"beyond {per_problem} a problem"] += 1
                continue
            target, reason = _prm800k_target(record, where)
            if target is None or target in kept:
                left_out[reason or "repeats"] += 1
                continue
            kept.append(target)
            answer = _answer_field(question, "ground_truth_answer", f"{where}: question")
            problems.append(Problem(default_id, problem, answer, target))
    return problems, [f"{n} left out: {reason}" for reason, n in left_out.most_common()]


def _number(record: dict[str, Any], name: str, where: str) -> float | None:
    value = record.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{where}: field '{name}' is {_shown(value)}, expected a number or null")
    # Python's json reads NaN, which no rule can rank, and whole numbers that no float can hold.
    if value is not None and not abs(value) <= sys.float_info.max:
        raise ValueError(f"{where}: field '{name}' is {str(value)[:60]}, expected a finite number or null")
    return value


def _sample(record: Any, reference_answer: str, where: str) -> Sample:
    text = field(record, "text", str, where)
    answer = optional_field(record, "answer", str, where)
    correct = optional_field(record, "correct", bool, where)
    if "answer" not in record or correct is None:
        from mathref.grader import extract_answer, is_equivalent  # late: sympy takes most of a second

        answer = answer if "answer" in record else extract_answer(text)
        correct = is_equivalent(answer, reference_answer) if correct is None else correct
    return Sample(
        text,
        answer,
        correct,
        logprob=_number(record, "logprob", where),
        tokens=optional_field(record, "tokens", int, where),
        finish_reason=optional_field(record, "finish_reason", str, where) or "unknown",
        score=_number(record, "score", where),
    )


def sampled_problem(record: dict[str, Any], where: str) -> SampledProblem:
    """One line of a samples file; a missing `answer` or `correct` of a sample is worked out."""
    if "samples" not in record and "problem" in record:
        raise ValueError(f"{where}: field 'samples' is missing: this looks like a problem file; "
                         "`python sample.py` makes samples of it")  # fmt: skip
    answer = field(record, "answer", str, where)
    samples = field(record, "samples", list, where)
    return SampledProblem(
        id=field(record, "id", str, where),
        problem=field(record, "problem", str, where),
        answer=answer,
        samples=tuple(_sample(s, answer, f"{where}: sample {i}") for i, s in enumerate(samples)),
        level=optional_field(record, "level", int, where),
        subject=optional_field(record, "subject", str, where),
    )


def _why_rejected(sample: Sample, kept: dict[str, Sample], per_problem: int) -> str:
    """Why a sample is not trained on, beside those `kept` of its problem; "" if it is."""
    if not sample.correct:
        return "wrong"
    if sample.finish_reason == "length":
        return "cut off by the length limit"
    if normalized(sample.text) in kept:
        return "repeats"
    return f"beyond {per_problem} a problem" if len(kept) >= per_problem else ""


def read_sampled(rows: Iterable[Row], per_problem: int, skipped: Skipped) -> Selection:
    """A model's own samples: the first `per_problem` correct and finished ones of a problem, no text twice.

    Raises ValueError where no sample is left, for nothing then is to be learnt.
    """
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    where, n_samples, unsolved = "", 0, 0
    for where, _, record in rows:
        with leaving_out(skipped):
            if "meta" in record and "samples" not in record:
                continue
            sampled = sampled_problem(record, where)
            _claim(seen, sampled.id, where)
            kept: dict[str, Sample] = {}  # by normalised text
            for sample in sampled.samples:
                reason = _why_rejected(sample, kept, per_problem)
                if reason:
                    left_out[reason] += 1
                else:
                    kept[normalized(sample.text)] = sample
            n_samples += len(sampled.samples)
            unsolved += not kept
            p = sampled
            for number, sample in enumerate(kept.values(), start=1):
                id = p.id if number == 1 else f"{p.id}#{number}"
                target = with_answer(sample.text, sample.answer or p.answer)
                problems.append(Problem(id, p.problem, p.answer, target, p.level, p.subject))
    if not problems:
        raise ValueError(
            f"{where.rpartition(':')[0]}: none of its {n_samples} samples of {len(seen)} problems is correct "
            "and finished, so there is nothing to train on; sample more (sample.py --n) or a better model"
        )
    notes = [f"{n_samples} samples of {len(seen)} problems, {unsolved} without a solution to keep"]
    return problems, notes + [f"{n} left out: {reason}" for reason, n in left_out.most_common()]


def recognize(record: dict[str, Any], where: str) -> str:
    """The name of the format a file's first record is in; ValueError says which shapes are known."""
    if "samples" in record or "meta" in record:
        return "samples"
    if "question" in record and "label" in record:
        return "PRM800K"
    if "question" in record and isinstance(record.get("answer"), str) and "####" in record["answer"]:
        return "GSM8K"
    if {"problem", "solution", "gold", "correct"} <= record.keys():
        return "judged solutions"
    if {"problem", "solution", "answer", "unique_id"} <= record.keys():
        return "MATH with answers"
    if {"problem", "solution", "type"} <= record.keys():
        return "MATH"
    if ("problem" in record or "question" in record) and ("answer" in record or "solution" in record):
        return "problem/answer"
    raise ValueError(
        f"{where}: no known format (fields {', '.join(list(record)[:8]) or 'none'}); expected at least "
        "'problem' and 'answer', or the records of MATH, GSM8K or PRM800K"
    )


def read_rows(
    format: str, rows: Iterable[Row], per_problem: int | None = None, skipped: Skipped = None
) -> Selection:
    """Read the rows of a file whose first record was recognised as `format`.

    A bad one raises ValueError; with a list `skipped`, it is left out, and the list says why.
    Where a problem has several solutions, `per_problem` of them are kept; None: PER_PROBLEM of the format.
    """
    if per_problem is not None and per_problem < 1:
        raise ValueError(f"--per-problem is {per_problem}, expected at least 1")
    if format in PER_PROBLEM:
        several = read_prm800k if format == "PRM800K" else read_sampled
        return several(rows, PER_PROBLEM[format] if per_problem is None else per_problem, skipped)
    readers = {"GSM8K": read_gsm8k, "judged solutions": read_judged}
    return readers.get(format, read_plain)(rows, skipped)
