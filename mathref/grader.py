"""The answer grader: what a solution's final answer is, and whether two answers are the same.

Paper: section 9, the function g(A, A') of voting, re-ranking and every accuracy.
Choices: a first version, exact and cheap: equal after normalisation, or equal as rational numbers, member by
member inside tuples, intervals and lists. No evaluation of input, no tolerance; when unsure, not equal.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from fractions import Fraction

_MAX_LENGTH = 100_000  # longer answers are compared as text only
_SPACING = re.compile(r"\\[,;:! ]|\\q?quad|\\left(?![a-z])|\\right(?![a-z])|[\s$]|\\%|%|\^\{?\\circ\}?|\\\$")
_TEXT = re.compile(r"\\(?:text|textbf|mbox|mathrm|textnormal)\{([^{}]*)\}")
_UNIT = re.compile(r"(?<=[\d})])\s*\\(?:text|mbox|mathrm|textnormal)\{[^{}]*\}(\^\{?\d\}?)?$")
_FRACTION = re.compile(r"\\frac(?:\{(-?\d+)\}|(\d))(?:\{(-?\d+)\}|(\d))$")
_NUMBER = re.compile(r"-?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?$")


def _closing_brace(text: str, start: int) -> int:
    """Index of the brace that closes the one at `start`, or -1 where the text ends first."""
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match.group(), 0)
        if depth == 0:
            return match.start()
    return -1


def extract_answer(text: str) -> str | None:
    """The final answer that a solution states, or None.

    In this order: the last complete \\boxed or \\fbox, the "# Answer" block of PRM800K, "####" of GSM8K, and
    "the answer is ..."; a number that merely comes last is never taken for an answer.
    """
    if not isinstance(text, str):
        return None
    for match in reversed(list(re.finditer(r"\\(?:boxed|fbox)\s*\{", text))):
        end = _closing_brace(text, match.end() - 1)
        if end > 0 and text[match.end() : end].strip():
            return text[match.end() : end].strip()
    for pattern in (
        r"(?m)^#+ Answer:?\s*\n\s*(.+)",
        r"####\s*(.+)",
        r"(?i)(?:final )?answer(?: is)?:?\s*\$?(.+?)\$?\.?(?:\s*I hope it is correct\.?)?\s*$",
    ):
        found = re.findall(pattern, text)
        if found:
            return found[-1].strip() or None
    return None


def _normalise(answer: str) -> str:
    answer = answer.strip().rstrip(".").replace("−", "-").replace("dfrac", "frac").replace("tfrac", "frac")
    answer = _TEXT.sub(r"\1", _UNIT.sub("", answer))
    answer = _SPACING.sub("", answer).replace("{,}", ",")
    return re.sub(r"(?<![\d)])\.(\d)", r"0.\1", answer)


def _rational(answer: str) -> Fraction | None:
    """The value of an integer, decimal or fraction, exact; None for anything else or beyond 4,000 digits."""
    if not answer or len(answer) > 4000:
        return None
    sign, body = (-1, answer[1:]) if answer[0] == "-" else (1, answer)
    if match := _FRACTION.match(body):
        top, bottom = match.group(1) or match.group(2), match.group(3) or match.group(4)
        return sign * Fraction(int(top), int(bottom)) if int(bottom) else None
    top, _, bottom = answer.partition("/")
    values = []
    for part in (top, bottom or "1"):
        if not part or part == "-" or not _NUMBER.match(part) or not part.isascii():
            return None
        values.append(Fraction(part.replace(",", "")))
    return values[0] / values[1] if values[1] else None


def _split(answer: str) -> list[str]:
    """The members of a comma-separated answer; commas inside brackets do not separate."""
    parts, depth, start = [], 0, 0
    for index, char in enumerate(answer):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append(answer[start:index])
            start = index + 1
    return [*parts, answer[start:]]


def _key(answer: str) -> Hashable:
    if (value := _rational(answer)) is not None:
        return value
    if answer[:1] in "([" and answer[-1:] in ")]":
        parts = _split(answer[1:-1])
        if len(parts) > 1:
            return answer[0], answer[-1], *[_key(part) for part in parts]
    return answer if re.search(r"\\|\d|[()]", answer) or len(answer) < 2 else answer.lower()


def canonical(answer: str | None) -> Hashable | None:
    """A key such that equal keys imply equivalent answers; None where there is none."""
    if not isinstance(answer, str) or not answer.strip():
        return None
    try:
        return _key(_normalise(answer)) if len(answer) <= _MAX_LENGTH else answer
    except (ValueError, RecursionError):
        return answer


def is_equivalent(a: str | None, b: str | None) -> bool:
    """Whether two answers are the same; None and blank answers equal nothing. Never raises."""
    key = canonical(a)
    return key is not None and key == canonical(b)


def grade(solution: str, reference_answer: str) -> bool:
    """Whether the final answer stated in `solution` is equivalent to the reference answer."""
    return is_equivalent(extract_answer(solution), reference_answer)
