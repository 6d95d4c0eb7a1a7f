r"""The answer grader: what a solution's final answer is, and whether two answers are the same.

Paper: section 9, the function g(A, A') behind voting, re-ranking and every accuracy.
Choices: g is reflexive, symmetric, and transitive but for the customs that docs/GRADER.md names; mathematics
decides, no tolerance: `2+2`, `4` and `four` are one answer, `0.33` is not `1/3`. Both sides go through the
same reader (`latex.py`), become a structure (`answers.py`) of exact normal forms (`algebra.py`), and only
what algebra leaves open is evaluated with many digits (`numeric.py`). Nothing here raises or evaluates its
input, everything is bounded, and it works in threads. docs/GRADER.md lists the conventions (units, percent,
lists, assignments) and where they differ from the PRM800K grader and Math-Verify.

    python -m mathref.grader '2+2' 'four'          verdict, the path that reached it, both readings
    python -m mathref.grader --file pairs.jsonl    one verdict a line for {"gold": ..., "pred": ...}
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Hashable
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from mathref.grading import answers, forms
from mathref.grading.algebra import Normalizer
from mathref.grading.latex import parse
from mathref.grading.lexer import MAX_LENGTH, clean, without_bold
from mathref.grading.poly import clock
from mathref.grading.syntax import ParseError

LIMIT_S = 1.8  # of one comparison; hardly anything needs more than a hundredth of it

# ---------------------------------------------------------------- extraction
_BRACE = re.compile(r"\\\\?(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(  # \boxed 42, \boxed7 of one digit, \boxed\frac12
    r"\\(?:boxed|fbox)(?: +([^{\s$][^\s$]*)|(\d|\\[A-Za-z]+(?:\s*\{[^{}]{1,200}\}|\d){0,2}))"
)
_TAGS = re.compile(r"<(b|strong|em|i|u)>([^<>]{1,500})</\1>", re.IGNORECASE)
_HEADED = re.compile(  # the "# Answer" of PRM800K and its like; its formula may take several lines
    r"^(?:#+|\*\*)[ \t]*(?:\*\*)?(?:Final[ \t]+)?Answer:?(?:\*\*)?:?[ \t]*\n"
    r"\s*(?:\\\[([^#]{1,2000}?)\\\]|\$\$([^$#]{1,2000})\$\$|(\S[^\n]*))",
    re.MULTILINE | re.IGNORECASE,
)
# A sentence in the place of an answer: "The area of the triangle is 40.", "There are 5 ways to do so."
_VERDICT = re.compile(
    r"(?:(?:The|So|Thus|Therefore|Hence)\b.*\b(?:is|are|equals)\s+(\S.*?)"
    r"|[^\d$\\]*,\s+which\s+(?:is|are|equals)\s+(\S.*?)"
    r"|There\s+(?:is|are)\s+(\S.*?)(?:\s(?:to|of|in|for|that|which|with|such)\s+[a-z].*)?)(?:(?<!\.\.)\.)?$"
)
_GSM8K = re.compile(r"####\s*(\S[^\n]*)")
_FILLER = (
    "clearly|therefore|simply|thus|then|hence|likewise|just|now|indeed|obviously|exactly|actually"
    r"|given\s+by|found\s+to\s+be|equal\s+to|approximately|about|roughly|around|also|still|only"
)
_SENTENCE = re.compile(
    r"\banswers?"
    r"(?:(?:\s+(?:to|of|for)(?:\s+(?!(?:where|that|which)\b)(?:[\w()]+|\$[^$\n]{1,99}\$)){1,8}?"
    rf"|,\s*(?:{_FILLER}),)?"
    r"\s+(?:is|are|equals?|(?:would|will|must|should)\s+be)\b|\s*(?:\*\*\s*)?[:=])"
    r"(?!\s+(?:found|obtained|calculated|computed|determined|derived|reached|verified|correct)\b(?!\s+to\s+be\b))"
    rf"(?:[\s,]*\b(?:{_FILLER})\b,?)*(?:\s*:)?\s*(?:\*\*)?\s*",
    re.IGNORECASE,
)
# Where no answer is stated otherwise: "The correct option is (C)".
_CHOICE = re.compile(
    r"\b(?:correct|right)\s+(?:option|choice)\s*(?:\s+(?:is|would\s+be|must\s+be)\b|:)\s*(?:\*\*)?"
    r"(?=[\s$(*]*(?:\\(?:text|textbf|mathrm|mathbf)\s*\{\s*)?\(?(?-i:[A-E])\b)",
    re.IGNORECASE,
)
# The other way round: "Thus 7 is our answer". Only behind such a word, else 7 may be a part of "x + 7".
_ANSWERS = re.compile(
    r"(?:^|[.:]\s+|\b(?:so|thus|hence|therefore|then|that|means|option|choice)\b,?\s+)(?:\*\*)?"
    r"(?:\$([^$\n]{1,500})\$|\\\(([^\n]{1,500}?)\\\)|(\(?(?:-?[\w./]{0,20}\d[\w./%]{0,20}|(?-i:[A-E]))\)?))"
    r"(?:\*\*)?\s+(?:is|are)\s+(?:the|our|my)\s+(?:(?:final|correct|right|desired|required)\s+)?"
    r"(?:answer|option|choice)s?\b(?!\s+(?:to|for|of)\b)",
    re.MULTILINE | re.IGNORECASE,
)
_FORMULA = re.compile(
    r"(?:\$\$?([^$]+)\$\$?|\\\[((?:(?!\\\]).)+)\\\]|\\\(((?:(?!\\\)).)+)\\\))(?=\s*(?:[.\n*]|$|I hope))",
    re.DOTALL,
)
# The stops of p.m., sq. and 0.33... end no sentence; reasons behind the answer are none of it.
_END_OF_SENTENCE = re.compile(
    r"\.?(?<!\s)\s*I hope it is correct|(?<!\b[ap]\.m)(?<!\bsq)(?<!\bapprox)(?<!\.\.)\.(?=\s|$|\*)"
    r"|(?:(?<=\b[ap]\.m\.)|(?<=\.\.\.))(?:\.|(?=\s+(?-i:[A-Z])|\s*$))"
    r"|(?:,|(?<=\S))\s+(?:\(?(?:because|since)\b|as\s+(?:desired|required|claimed|expected|needed|wanted)\b"
    r"|(?:and\s+|(?<=,\s)|\()not\s+(?=[-\d$\\(]|(?-i:[A-E])\b)|(?:rather\s+than|instead\s+of)\b)"
    r"|,\s+(?:(?:and|so)\s+we|as(?!\s+(?:well|long|soon|is|are)\b))\b|(?<=[\d$)}*]),?\s+which\b|\n",
    re.IGNORECASE,
)
_BOLD_OPENS = re.compile(r"(?:^|\s)\*\*\s*$")


def _boxed(text: str) -> str | None:
    r"""The content of the last complete \boxed or \fbox, in one pass over all braces."""
    best, open_braces = None, []
    for match in _BRACE.finditer(text):
        token = match.group()
        if token[-1] == "{" and token != r"\{":
            open_braces.append((match.start(), match.end(), token))
        elif token == "}" and open_braces:
            start, inner, opening = open_braces.pop()
            is_box = opening != "{" and (not best or start > best[0])
            content = text[inner : match.start()].strip() if is_box else ""
            if opening.startswith("\\\\"):  # escaped twice, as in a JSON string: all of its text is
                content = content.replace("\\\\", "\\")
            if content:
                best = start, content
    for match in _BARE_BOX.finditer(text):
        if best is None or match.start() > best[0]:
            best = match.start(), match.group(2) or match.group(1).rstrip(".,")
    return best[1] if best else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match of a pattern."""
    found = None
    for match in pattern.finditer(text):
        found = match
    return found


def _bare(answer: str) -> str:
    """An answer without marks of emphasis, and without the stop behind them."""
    bare = without_bold(answer.strip())
    if bare != answer.strip() and bare.endswith(".") and not bare.endswith(".."):
        bare = bare[:-1]
    return bare.strip("*").strip()


def _verdict(sentence: str) -> str:
    """What a whole sentence in the place of an answer says, or the sentence where it is none."""
    verdict = _VERDICT.match(sentence)
    return verdict.group(verdict.lastindex) if verdict else sentence


def _stated(text: str) -> str | None:
    """What follows the last "the answer is": a formula between dollars, else the rest of its sentence."""
    found, answers = _last(_SENTENCE, text) or _last(_CHOICE, text), _last(_ANSWERS, text)
    if answers and (found is None or answers.end() > found.start()):
        return answers.group(answers.lastindex).strip() or None
    if found is None:
        return None
    rest = text[found.end() : found.end() + MAX_LENGTH].lstrip()
    if re.match(r"the final answer is", rest, re.IGNORECASE):
        return None
    if formula := _FORMULA.match(rest):
        return formula.group(formula.lastindex).strip() or None
    if _BOLD_OPENS.search(found.group()):  # of **3.5** cm
        rest = "**" + rest
    end = _END_OF_SENTENCE.search(rest)
    sentence = _verdict(_bare(rest[: end.start()] if end else rest))
    formula = re.match(r"\\[(\[](.+?)\\[)\]]|\$([^$]+)\$(?!.*\$)", sentence)
    if formula:  # one formula, and words after it
        sentence = (formula.group(1) or formula.group(2)).strip()
    if sentence.count("{") > sentence.count("}"):  # the text was cut off within a formula
        return None
    return sentence or None


def extract_answer(text: str) -> str | None:
    r"""The final answer that a solution states, or None.

    In this order: the last complete \boxed or \fbox, an "# Answer" heading as in PRM800K, <answer> tags, and
    the last of "####" of GSM8K and "the answer is ..."; a number that merely comes last is never taken for an
    answer, nor what stands in thoughts before </think>.
    """
    if not isinstance(text, str):
        return None
    thoughts = text.rfind("</think>") + len("</think>")
    if thoughts >= len("</think>") and text[thoughts:].strip():
        text = text[thoughts:]
    text = _TAGS.sub(r"\2", text)
    if (answer := _boxed(text)) is not None:
        return answer
    marked = _last(_GSM8K, text)
    if headed := _last(_HEADED, text):
        answer = _bare(headed.group(headed.lastindex))
        return _stated(answer) or _verdict(answer)
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    if start >= 0 and (answer := _bare(text[start + len("<answer>") : end])):
        return _stated(answer) or answer
    if marked is None:
        return _stated(text)
    # "####" is a heading of Markdown, too: what is stated below it is the answer.
    answer = _bare(marked.group(1))
    return _stated(text[marked.end() :]) or _stated(answer) or _verdict(answer)


# ---------------------------------------------------------------- reading
_NUMBER = re.compile(
    r"(-?)(?:(\d{1,18})(?:\.(\d{1,18}))?|\\[dt]?frac\{(\d{1,18})\}\{(\d{1,18})\}|(\d{1,18})/(\d{1,18}))$"
)


class Reading(NamedTuple):
    """An answer as the grader sees it: its cleaned text, and its form unless it is only text."""

    text: str
    form: forms.Form | None
    note: str


def _plain_number(answer: str) -> Fraction | None:
    """The value of an integer, decimal or fraction in its plainest spelling, without the parser."""
    match = _NUMBER.match(answer)
    if match is None or not answer.isascii():
        return None
    sign, whole, decimals, top, bottom, left, right = match.groups()
    if whole is not None:
        value = Fraction(int(whole + (decimals or "")), 10 ** len(decimals or ""))
    else:
        denominator = int(bottom or right)
        if not denominator:
            return None
        value = Fraction(int(top or left), denominator)
    return -value if sign else value


def _text_key(text: str) -> str:
    """Text compares without stops, and without blanks unless they part two numbers; words alone compare
    without case, formulas do not.
    """
    squeezed = re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text)
    return squeezed.lower() if squeezed.isalpha() and len(squeezed) > 1 else squeezed


class _Undecided(Exception):
    """A reading that lacks an answer of calculus, and so must not be remembered."""


@lru_cache(maxsize=4096)
def _read_cached(answer: str) -> Reading:
    """The reading of one answer; what raises is not remembered, and asked again the next time."""
    if (value := _plain_number(answer)) is not None:
        return Reading(answer, forms.Form("scalar", (({frozenset(): value} if value else {}),)), "number")
    text = clean(answer)
    try:
        n = Normalizer()
        n.may_have_signs = "\\pm" in text or "\\mp" in text
        n.may_have_matrices = "\\begin" in text
        reading = Reading(text, answers.build(n, parse(text)), "parsed")
    except (ParseError, ArithmeticError, TypeError) as error:
        return Reading(_text_key(text), None, f"text only: {error}")
    if n.undecided:
        raise _Undecided(reading._replace(note="parsed, without an answer of calculus"))
    return reading


# Readings of long answers are large, so that few are kept: those of one problem's candidates.
_read_long = lru_cache(maxsize=64)(_read_cached.__wrapped__)


def _read(answer: str) -> Reading:
    """The reading of a non-blank answer; very long answers are only text."""
    if len(answer) > MAX_LENGTH:
        return Reading(answer, None, f"text only: longer than {MAX_LENGTH} characters")
    try:
        return _read_cached(answer) if len(answer) <= 500 else _read_long(answer)
    except _Undecided as undecided:
        return undecided.args[0]


# ---------------------------------------------------------------- the relation
def canonical(answer: str | None) -> Hashable | None:
    """A hashable key such that equal keys imply equivalent answers, or None where there is no such key.

    To cluster N answers: group those with a key by it, and compare the few without one (assignments such as
    x=5, expressions with nested roots or sines) by `is_equivalent` with one member of each group.
    """
    try:
        if not isinstance(answer, str) or not answer.strip():
            return None
        clock.start(LIMIT_S)
        reading = _read(answer.strip())
        return ("text", reading.text) if reading.form is None else forms.form_key(reading.form)
    except Exception:  # the promise never to raise, kept once, here and in `compare`
        return None


def compare(a: str | None, b: str | None) -> tuple[bool, str]:
    """(whether two answers are the same, the path that decided it)."""
    try:
        if not isinstance(a, str) or not isinstance(b, str):
            return False, "no answer"
        a, b = a.strip(), b.strip()
        if not a or not b:
            return False, "empty"
        if a == b:
            return True, "same spelling"
        clock.start(LIMIT_S)
        x, y = _read(a), _read(b)
        if x.form is None or y.form is None:
            return x.form is y.form and x.text == y.text, "text"
        if x.text == y.text:
            return True, "same spelling after clean-up"
        n = Normalizer()
        verdict = forms.same(n, x.form, y.form)
        how = "numerically, to 200 digits" if n.used_numbers else "exactly"
        return verdict, f"{x.form.kind} against {y.form.kind}, {how}"
    except Exception as error:
        return False, f"undecided: {type(error).__name__}"


def is_equivalent(a: str | None, b: str | None) -> bool:
    """Whether two answers are the same; None and blank answers equal nothing. Never raises, bounded time."""
    return compare(a, b)[0]


def grade(solution: str, reference_answer: str) -> bool:
    """Whether the final answer stated in `solution` is equivalent to the reference answer."""
    return is_equivalent(extract_answer(solution), reference_answer)


# ---------------------------------------------------------------- command line
def explain(a: str, b: str) -> str:
    """Verdict, path and both readings, as the command line prints them."""
    verdict, path = compare(a, b)
    clock.start(math.inf)  # a person may wait for what was out of time
    lines = [f"{'equivalent' if verdict else 'not equivalent'}   ({path})"]
    for answer in (a, b):
        reading = _read(answer.strip()) if answer.strip() else Reading("", None, "empty")
        form = forms.describe(reading.form) if reading.form is not None else f"text {reading.text[:200]!r}"
        lines.append(f"  {answer[:200]!r}: {form}   ({reading.note})")
    return "\n".join(lines)


def _grade_file(path: str) -> int:
    """Print one verdict a line for a file of pairs; the number of lines that are no pair is the failure
    count.
    """
    from mathref.files import read_jsonl

    pairs = list(read_jsonl(path))
    try:
        from tqdm import tqdm  # present wherever models are trained; the grader alone does without
    except ImportError:
        progress = iter(pairs)
    else:
        progress = tqdm(pairs, unit="pair", disable=None)
    equivalent = 0
    for number, record in progress:
        gold, pred = record.get("gold", record.get("answer")), record.get("pred")
        if not isinstance(gold, str) or not isinstance(pred, str):
            raise ValueError(f'{path}:{number}: expected strings "gold" (or "answer") and "pred"')
        verdict, how = compare(gold, pred)
        equivalent += verdict
        print(
            json.dumps({"gold": gold, "pred": pred, "equivalent": verdict, "path": how}, ensure_ascii=False)
        )
    print(f"{equivalent} of {len(pairs)} pairs equivalent", file=sys.stderr)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command line: two answers, or a file of pairs. Exit status 0 equivalent, 1 not; the errors that a
    user can cause are told by `runs.run_command`, with 2.
    """
    parser = argparse.ArgumentParser(prog="python -m mathref.grader", description="Are two answers the same?")
    parser.add_argument("answers", nargs="*", metavar="ANSWER", help="two answers to compare")
    parser.add_argument("--file", help='JSON Lines of {"gold": ..., "pred": ...} to grade instead')
    options = parser.parse_args(arguments)
    if len(options.answers) != (0 if options.file else 2):
        parser.error("expected two answers, or --file pairs.jsonl and none")
    if options.file:
        return _grade_file(options.file)
    print(explain(*options.answers))
    return 0 if is_equivalent(*options.answers) else 1


if __name__ == "__main__":
    from mathref.runs import run_command  # here: who imports the grader needs nothing of it

    sys.exit(run_command(main))
