r"""From the text of an answer to tokens: a lossless clean-up, then one regular expression.

Paper: section 9 (normalisation before comparison).
Choices: only what concerns looks is removed (delimiters, spacing, sizes, Unicode variants); both sides go
through the same clean-up, so that equal cleaned texts may count as equal. Digits are grouped by `10,000` only
outside brackets, where a comma cannot separate; `10,\!080` and `10{,}080` group everywhere.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

from mathref.grading.syntax import Node, ParseError, num
from mathref.grading.vocabulary import (
    FUNCTIONS,
    IGNORED_COMMANDS,
    MULTIPLIERS,
    NUMBER_WORDS,
    TEXT_COMMANDS,
    UNICODE,
    UNITS,
    UPRIGHT_NAMES,
    WORDS,
)

MAX_LENGTH = 10_000  # characters that are read; anything longer is compared as text
MAX_TOKENS = 4_000
LOOK_AHEAD = 16  # end tokens, so that looking ahead needs no bounds
MAX_DIGITS = 4_000  # of one literal; below Python's own limit of 4,300 for int()


class Token(NamedTuple):
    """One lexical unit; `spaced` says whether blanks stood before it (1 1/2 is not 11/2)."""

    kind: str  # num, let, word, cmd, op, end
    text: str
    spaced: bool


# ---------------------------------------------------------------- clean-up
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_UNICODE = re.compile("|".join(map(re.escape, UNICODE)))
_DELIMITERS = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])")
_THIN = re.compile(r",\s*\\!\s*|\{,\}")  # 10,\!080 and 10{,}080 group digits; a plain comma may separate
_SPACES = re.compile(r"(?<!\\)\\[,;:!> ~]|~|\\q?quad(?![A-Za-z])|\s+")
_DROPPED = re.compile(
    r"\\(?:hspace|vspace|color|kern|mspace)\*?\s*(?:\{[^{}]*\}|-?[\d.]+(?:mm|cm|pt|em|ex|mu))"
    r"|\\phantom\s*(?:\{[^{}]*\}|.)|\\textcolor\s*\{[^{}]*\}|\\(?:label|tag)\s*\{[^{}]*\}"
    r"|\\(?:left|right|[bB]igg?[lrm]?|middle)(?![A-Za-z])\.?"
)
_ENVIRONMENT = re.compile(
    r"\\(?:begin|end)\s*\{(?:align|aligned|equation|gather|gathered|math|displaymath)\*?\}"
)
_UNION = re.compile(r"(?<=[)\]}])\s*U\s*(?=\\?[(\[{])")
_SPELLINGS = {
    **{
        r"\lbrace": r"\{",
        r"\rbrace": r"\}",
        r"\lbrack": "[",
        r"\rbrack": "]",
        r"\vert": "|",
        r"\lVert": r"\|",
    },
    **{r"\not=": r"\ne ", r"\not =": r"\ne ", r"\rvert": "|", r"\lvert": "|", r"\%": "%", r"\$": ""},
}
_SPELLING = re.compile(
    "|".join(re.escape(s) + ("(?![A-Za-z])" if s[-1].isalpha() else "") for s in _SPELLINGS)
)
_WRAPPER = re.compile(r"\s*(?:\*\*|\\(?:boxed|fbox)\s*(?=\{))")


def clean(text: str) -> str:
    """The text without what only concerns its looks: delimiters, spacing, sizes, Unicode variants, a final
    stop.
    """
    if not text.isascii():
        text = _plain(text)
    text = text.strip()
    while match := _WRAPPER.match(text):
        if match.group().strip() == "**":
            if len(text) < 5 or not text.endswith("**"):
                break
            text = text[match.end() : -2].strip()
        else:
            text = text[match.end() :]
    if "\\" in text or "$" in text or "{,}" in text:
        text = _DELIMITERS.sub("", text)
        text = _ENVIRONMENT.sub("", _DROPPED.sub("", text))
        text = _SPELLING.sub(lambda m: _SPELLINGS[m.group()], text)
        text = _THIN.sub("{,}", text)
    if "U" in text:
        text = _UNION.sub(r"\\cup ", text)
    text = _SPACES.sub(" ", text).strip()
    if text.endswith("\\") and not text.endswith("\\\\"):  # of a final control space
        text = text[:-1].rstrip()
    if len(text) > 2 and text[0] == text[-1] and text[0] in '"`':
        text = text[1:-1].strip()
    while text and (text[-1] in ".,;" or text.endswith("\\\\")) and not text.endswith(("...", "\\,")):
        text = text[: -2 if text[-1] == "\\" else -1].rstrip()
    return text


def _plain(text: str) -> str:
    """Unicode mathematics in LaTeX spelling; invisible characters go."""
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda m: "^{" + m.group().translate(_SUPERSCRIPTS) + "}", text)
    text = re.sub("[₀₁₂₃₄₅₆₇₈₉]+", lambda m: "_{" + m.group().translate(_SUBSCRIPTS) + "}", text)
    text = _UNICODE.sub(lambda m: UNICODE[m.group()], text)
    pieces = []
    for char in text:
        if char.isascii():
            pieces.append(char)
        elif unicodedata.category(char) not in ("Cf", "Zs"):
            plain = unicodedata.normalize("NFKC", char)
            pieces.append(re.sub(r"(\d+)⁄(\d+)", r"\\frac{\1}{\2}", plain))  # vulgar fractions
        elif unicodedata.category(char) == "Zs":
            pieces.append(" ")
    return "".join(pieces)


# ---------------------------------------------------------------- tokens
_TEXT = "|".join(TEXT_COMMANDS)
_TOKEN = re.compile(
    rf"""(?P<blank>\s+)
    | \\(?:{_TEXT})\s*\{{(?P<text>[^{{}}]*)\}}
    | (?P<digits>(?=\d|[A-F]+\d)[0-9A-F]+(?:\.\d+)?)(?=_)
    | (?P<repeating>\d*\.\d*(?:\\(?:overline|bar)\s*\{{\d+\}}|\\dot\s*\{{?\d\}}?(?:\d*\\dot\s*\{{?\d\}}?)?
            |\(\d+\))
        | \d*\.\d+(?:\.\.\.|\\(?:l|c)?dots(?![a-z])))
    | (?P<grouped>\d{{1,3}}(?:\{{,\}}\d{{3}})+(?!\d)(?:\.\d+)?)
    | (?P<thousands>\d{{1,3}}(?:,\d{{3}})+(?!\d|,\d)(?:\.\d+)?
        | \d{{1,3}}(?:[ ]\d{{3}})+(?![\d/]|[ ]\d)(?:\.\d+)?)
    | (?P<number>(?:\d+(?:\.\d+|\.(?!\.))?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<command>\\(?:[A-Za-z]+|.))
    | (?P<letters>[A-Za-z]+)
    | (?P<dots>\.\.\.+)
    | (?P<op><=|>=|!=|\*\*|[-+*/^_=<>|!,;:()\[\]{{}}%&'.])""",
    re.VERBOSE | re.DOTALL,
)
_OPENING, _CLOSING = ("(", "[", r"\{", r"\langle"), (")", "]", r"\}", r"\rangle")


def tokenize(text: str) -> list[Token]:
    """Tokens of a cleaned text; ParseError at the first character that belongs to no token."""
    tokens: list[Token] = []
    position, depth, spaced = 0, 0, False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ParseError(f"unexpected character at {position}")
        kind, body = match.lastgroup or "", match.group()
        if kind == "thousands" and depth:  # inside brackets a comma separates: (1,234) is a point
            match = re.compile(r"\d+(\.\d+)?").match(text, position)
            assert match is not None
            kind, body = "number", match.group()
        position = match.end()
        if kind == "blank":
            spaced = True
            continue
        if (
            kind == "op"
            and body == "!="
            and tokens
            and not spaced
            and re.fullmatch(r"[\d)]+", tokens[-1].text)
        ):
            body, position = "!", position - 1  # 3!=6 states a factorial, x!=6 an inequality
        depth += (body in _OPENING) - (body in _CLOSING)
        _append(tokens, kind, body, match, spaced)
        spaced = False
        if len(tokens) > MAX_TOKENS:
            raise ParseError(f"more than {MAX_TOKENS} tokens")
    tokens += [Token("end", "", spaced)] * LOOK_AHEAD
    return tokens


def _append(tokens: list[Token], kind: str, body: str, match: re.Match[str], spaced: bool) -> None:
    """Add what one match of the tokenizer stands for: one token, several letters, or the words of a
    \\text.
    """
    if kind in ("number", "thousands", "grouped"):
        tokens.append(Token("num", re.sub(r"[{},\s]", "", body), spaced))
    elif kind in ("repeating", "digits"):
        tokens.append(Token(kind, body, spaced))
    elif kind == "command":
        name = body[1:]
        if name not in IGNORED_COMMANDS:
            tokens.append(Token("cmd", name, spaced))
    elif kind == "letters":
        _append_letters(tokens, body, spaced)
    elif kind == "text":
        for word in re.finditer(r"[A-Za-z][A-Za-z'.]*|\d[\d,]*(?:\.\d+)?|[^\sA-Za-z\d]", match.group("text")):
            piece = word.group()
            if piece[0].isalpha():
                _append_word(tokens, piece.rstrip("."))
            elif piece not in ("$", "\\"):
                digits = piece[0].isdigit()
                tokens.append(
                    Token("num" if digits else "op", piece.replace(",", "") if digits else piece, True)
                )
    else:
        tokens.append(Token("cmd" if kind == "dots" else "op", "ldots" if kind == "dots" else body, spaced))


def _append_word(tokens: list[Token], word: str) -> None:
    """One word of a \\text: a function or constant written upright, a single letter, or a word."""
    if word.lower() in UPRIGHT_NAMES:
        tokens.append(Token("cmd", "infty" if word.lower() == "infinity" else word.lower(), True))
    elif word in ("e", "i"):
        tokens.append(Token("let", word, True))
    else:
        tokens.append(Token("word", word if len(word) == 1 else word.lower(), True))


def _append_letters(tokens: list[Token], run: str, spaced: bool) -> None:
    """A run of letters outside \\text: a function, a word, a unit after a number, or a product of
    variables.
    """
    lowered = run.lower()
    after_number = bool(tokens) and tokens[-1].kind == "num"
    if run in FUNCTIONS or run in ("sqrt", "pi", "infinity", "infty", "inf", "oo", "mod"):
        tokens.append(
            Token("cmd", {"infinity": "infty", "inf": "infty", "oo": "infty"}.get(run, run), spaced)
        )
    elif is_word(run) or (after_number and run in UNITS):
        tokens.append(Token("word", lowered, spaced))
    elif match := re.match(r"(sqrt|arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|log|ln|pi)(?=.)", run):
        tokens.append(Token("cmd", match.group(), spaced))
        _append_letters(tokens, run[match.end() :], False)
    else:
        for letter in run:
            tokens.append(Token("let", letter, spaced))
            spaced = False


def is_word(run: str) -> bool:
    """Whether a run of letters is a word of a language rather than a product of variables such as abc
    or xyz.
    """
    lowered = run.lower()
    if lowered in WORDS or lowered in NUMBER_WORDS or lowered in MULTIPLIERS:
        return True
    if len(run) < 3 or not re.search("[aeiouy]", lowered):
        return False
    consecutive = all(ord(b) - ord(a) == 1 for a, b in zip(lowered, lowered[1:], strict=False))
    if consecutive or re.search(r"(.)\1\1", lowered):
        return False
    return (
        len(run) > 3 and (run.islower() or run.istitle() or len(run) > 4) or (run.istitle() and len(run) == 3)
    )


# ---------------------------------------------------------------- numbers
def literal(digits: str) -> Node:
    """The exact value of a decimal literal; one beyond the digit limit stays an unknown named by its
    digits.
    """
    if digits.isdigit() and len(digits) <= MAX_DIGITS:
        return ("num", int(digits))
    mantissa, _, exponent = digits.lower().partition("e")
    if len(exponent) > 5 or (exponent and abs(int(exponent)) > MAX_DIGITS):
        raise ParseError("exponent beyond the digit limit")
    if len(mantissa) > MAX_DIGITS:
        whole, _, part = mantissa.partition(".")
        whole, part = whole.lstrip("0"), part.rstrip("0")
        mantissa = f"{whole or '0'}.{part}" if part else whole or "0"
        if len(mantissa) > MAX_DIGITS:
            return ("sym", f"#{mantissa}")
    return num(Fraction(mantissa.rstrip(".") or "0") * Fraction(10) ** int(exponent or 0))


_DOTTED = re.compile(r"\\dot\s*\{?(\d)\}?(?:(\d*)\\dot\s*\{?(\d)\}?)?$")


def repeating(text: str) -> Fraction:
    r"""0.1\overline{6} = 0.1 + 6/90; also 0.1\dot{6}, 0.1(6), and 0.1666... with its period written at least
    twice.
    """
    if len(text) > 200:
        raise ParseError("repeating decimal too long")
    text = _DOTTED.sub(lambda m: "(" + m.group(1) + (m.group(2) or "") + (m.group(3) or "") + ")", text)
    match = re.match(r"(\d*)\.(\d*)(?:\\\w+\s*\{|\()(\d+)[})]", text)
    if match is None:  # the shortest period that ends the digits at least twice
        match = re.match(r"(\d*)\.(\d*?)(\d+?)\3+(?:\.\.\.|\\\w+)$", text)
    if match is None:
        raise ParseError("not a repeating decimal")
    whole, fixed, period = match.groups()
    return Fraction(f"{whole or 0}.{fixed or 0}") + Fraction(
        int(period), (10 ** len(period) - 1) * 10 ** len(fixed)
    )
