r"""Layout that says something: answers side by side or in rows, and braces of plain text.

Paper: section 9 (normalisation before comparison).
Choices: blanks are looks, but a wide one or the end of a row parts two complete answers as a semicolon does,
for no one multiplies across it: `x=2 \quad x=3` is no chain. Before a unit, a word, a reason in brackets or
the rest of a formula it stays a blank. A narrow blank (`\ `, `~`) parts assignments only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mathref.grading.vocabulary import (
    CONJUNCTIONS,
    FUNCTIONS,
    NOT_UNITS,
    RELATIONS,
    SYMBOL_COMMANDS,
    TEXT_COMMANDS,
    WORDS,
)

MAX_JOINED = 200  # pieces of one answer, since each is looked at with all before it


def _any(names: Iterable[str]) -> str:
    r"""A pattern for one of these commands."""
    return rf"\\(?:{'|'.join(sorted(filter(str.isalpha, names)))})(?![A-Za-z])"


_RELATION = rf"(?:[=<>]|{_any(RELATIONS)})"

# ---------------------------------------------------------------- rows
_ALIGNED = re.compile(rf"&\s*(?={_RELATION})|(?P<kept>{_RELATION}|^|\\\\)\s*&")
_ARRAY = (
    r"\\begin\s*\{(array|cases|matrix|aligned|gathered|split)\}\s*(?:\{[lcr| ]*\})?"
    r"((?:(?!\\begin).){0,5000})\\end\s*\{\1\}"
)
_SYSTEM = re.compile(rf"\s*(?:\\\{{\s*)?{_ARRAY}\s*(?:\\\}})?\s*", re.DOTALL)
_BRACED = re.compile(rf"\\\{{\s*{_ARRAY}(?!\s*\\\}})", re.DOTALL)


def aligned(text: str) -> str:
    """The text without the marks at which rows are aligned: x &= 1."""
    return _ALIGNED.sub(r"\g<kept>", text)


def systems(text: str) -> str:
    r"""A system in an environment as its rows, and an array behind a left brace as the cases it is."""
    if system := _SYSTEM.fullmatch(text):
        rows = aligned(system[2])
        if "&" not in rows and all(re.search(_RELATION, row) for row in rows.split(r"\\") if row.strip()):
            return rows
    return _BRACED.sub(r"\\begin{cases}\2\\end{cases}", text)


# ---------------------------------------------------------------- side by side
_PARTING = re.compile(  # a row that goes on with letters is a command with its backslash doubled
    r"(?P<row>\\\\(?![A-Za-z]{2}))|(?P<blank>(?:(?:\\q?quad(?![A-Za-z])|\\[;: ]|~)\s*)+)"
    r"|(?P<opens>\\begin(?![A-Za-z])|\\?[{(\[])|(?P<closes>\\end(?![A-Za-z])|\\?[})\]])|\\.",
    re.DOTALL,
)
_NARROW = re.compile(r"(?:\\[;: ]|~)\s*")
_LETTER = rf"(?:[A-Za-z]|{_any(SYMBOL_COMMANDS)})"
_ASSIGNMENT = re.compile(rf"{_LETTER}(?:_\w|_\{{\w+\}})?'*(?:\([a-z\d]\))?\s*=")
_UPRIGHT = rf"\\(?:{TEXT_COMMANDS}|mathbf)"
_TEXT = rf"{_UPRIGHT}\s*\{{[^{{}}]*\}}"
_VALUE = re.compile(
    rf"(?:-?(?:\.?\d|{_any(('frac', 'dfrac', 'tfrac', 'sqrt', 'pi', 'infty', 'binom', *FUNCTIONS))}|\\\{{)"
    rf"|{_TEXT}\s*{_RELATION}|{_LETTER}.*?{_RELATION})",
    re.DOTALL,
)
_CONDITION = re.compile(rf"\(((?=[^()]*{_RELATION})[^()]*)\)")
_WORD = re.compile(r"([A-Za-z]{2,})")
_LAST_WORD = re.compile(r"(\\?)([A-Za-z]+)[ }]*$")
_UNFINISHED = re.compile(r"(?:^|[^\w)\]}!'%.|])$")
_LABEL = re.compile(r"\(?[A-E]\)?[.:]? *")
_OPERANDS = SYMBOL_COMMANDS | {"pi", "infty", "rangle", "degree", "circ"}
_OPEN_WORDS = CONJUNCTIONS | NOT_UNITS


def parted(text: str) -> str:
    """The text with a semicolon for every wide blank and end of a row that stands between two answers."""
    answers, blank, start, depth, joined = [""], "row", 0, 0, 0
    for mark in [*_PARTING.finditer(text), None]:
        kind = mark.lastgroup if mark else "end"
        depth += (kind == "opens") - (kind == "closes")
        if mark and (depth or kind not in ("row", "blank")):
            continue
        following = text[start : mark.start() if mark else len(text)].strip()
        if _is_whole(answers[-1]) and _begins(following, answers[-1], blank):
            condition = _CONDITION.fullmatch(following)
            answers.append(condition[1] if condition else following)
        else:
            answers[-1], joined = f"{answers[-1]} {following}".strip(), joined + 1
        if joined > MAX_JOINED:
            return text
        if mark:
            start, blank = mark.end(), "narrow" if _NARROW.fullmatch(mark[0]) else kind
    return "; ".join(answers) if start else text


def _is_whole(text: str) -> bool:
    """Whether the text may be an answer of its own: no label, no words alone, nothing that asks for more."""
    if _UNFINISHED.search(text):
        return False
    if last := _LAST_WORD.search(text[-30:]):
        if last[2] not in _OPERANDS if last[1] else last[2] in _OPEN_WORDS:
            return False
    bare = re.sub(_TEXT, "", text)
    return bool(re.search(r"[\d=<>\\(\[]", bare)) and not _LABEL.fullmatch(bare)


def _begins(text: str, before: str, blank: str) -> bool:
    """Whether an answer begins behind this blank: a value or statement, for a row also a mere letter."""
    if blank == "narrow":
        return bool(_ASSIGNMENT.match(before) and _ASSIGNMENT.match(text))
    if text.startswith(("(", "[")):  # a second point or a condition; else a reason
        second = before.startswith(("(", "[")) and text.endswith((")", "]"))
        return second or bool(_CONDITION.fullmatch(text))
    word = _WORD.match(text)
    if word and (len(word[1]) > 3 or word[1] in WORDS or word[1] in _OPEN_WORDS):
        return False
    return bool(_VALUE.match(text)) or (blank == "row" and bool(re.match(rf"{_LETTER}(?![A-Za-z])", text)))


# ---------------------------------------------------------------- plain text
_BUILDER = re.compile(  # {x | x > 2} without backslashes, unless it is an argument
    rf"(^|[=:]|{_any(('in', 'cup', 'cap', 'setminus'))})\s*"
    rf"\{{(\s*[a-z]\b[^{{}}|:]{{0,99}}(?:\||:|\\mid(?![A-Za-z]))[^{{}}]{{0,99}}?{_RELATION}[^{{}}]*)\}}"
)
_TAKEN_AWAY = re.compile(
    r"(\\mathbb\s*\{R\})\s*(?:\\(?:setminus|backslash)(?![A-Za-z])|\\ ?|-)\s*\{([^{}]*[^{}\\])\}"
)
_SPACED = re.compile(rf"(?<![^\s,;])({_LETTER}\s*=\s*-?[\d./]+)\s+(?={_LETTER}\s*=)")  # x = 2 y = 3
_NUMBERED = re.compile(r"(^|[,;(]|\b(?:and|or)\b)(\s*[A-Za-z])(\d)(?=\s*=)")  # x1 = 2, x2 = 3
_FEET = re.compile(r"""(?<![\w^{.`"])(\d+(?:\.\d+)?) ?("|''|')(?![A-Za-z(])""")
_ABBREVIATED = re.compile(r"(?<=\d )(ft|in|yd|mi|hrs?|mins?|secs?|lbs?|oz)\.")  # 5 ft. 3 in.
_LENGTHS = {"'": r"\text{ feet}", "''": r"\text{ inches}", '"': r"\text{ inches}"}
_LABELLED = re.compile(  # \mathbf{(C)} 12, \text{C. } 12, \text{C}, 12 and C: 12, but neither A:B nor A, B
    rf"(?:{_UPRIGHT}\s*\{{\s*(?:\(([A-E])\)|([A-E])[.:])\s*\}}[.:]?|{_UPRIGHT}\s*\{{([A-E])\}}\s*[.:,]"
    r"|([A-E]):\s|\(([A-E])\):)"
    r"\s*(?=-?(?:[\d.]|\\(?!text|math))[^:]*$)"
)


def plain(text: str) -> str:
    """Sets, names, lengths and labels of plain text in the spelling of LaTeX."""
    if label := _LABELLED.match(text):
        text = f"({label[label.lastindex]}) {text[label.end() :]}"
    if ("'" in text or '"' in text) and not text.startswith('"') and not re.search(r"\\circ|\\degree", text):
        text = _FEET.sub(lambda m: m[1] + _LENGTHS[m[2]], text)
    if ". " in text:
        text = _ABBREVIATED.sub(r"\1", text)
    if "{" in text:
        text = _BUILDER.sub(r"\1\\{\2\\}", text)
        text = _TAKEN_AWAY.sub(r"\1\\setminus\\{\2\\}", text)
    if "=" in text:
        text = _NUMBERED.sub(r"\1\2_\3", _SPACED.sub(r"\1; ", text))
    return text
