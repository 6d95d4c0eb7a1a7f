r"""From the text of an answer to tokens: a lossless clean-up, then one regular expression.

Paper: section 9 (normalisation before comparison).
Choices: only what concerns looks is removed (delimiters, spacing, sizes, Unicode variants); both sides go
through the same clean-up, so that equal cleaned texts may count as equal. Digits are grouped by `10,000` only
outside brackets, where a comma cannot separate; `10,\!080` and `10{,}080` group everywhere.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from mathref.grading import layout
from mathref.grading.syntax import ParseError
from mathref.grading.vocabulary import (
    AMBIGUOUS,
    CONJUNCTIONS,
    FUNCTIONS,
    GREEK_NAMES,
    IGNORED_COMMANDS,
    MULTIPLIERS,
    NOT_UNITS,
    NUMBER_WORDS,
    PLAIN_NAMES,
    SYMBOL_COMMANDS,
    TEXT_COMMANDS,
    UNICODE,
    UNIT_LETTERS,
    UNITS,
    UPRIGHT_NAMES,
    VALUE_WORDS,
    WORDS,
)

MAX_LENGTH = 10_000  # characters that are read; anything longer is compared as text
MAX_TOKENS = 4_000
LOOK_AHEAD = 16  # end tokens, so that looking ahead needs no bounds


class Token(NamedTuple):
    """One lexical unit; `spaced` says whether blanks stood before it (1 1/2 is not 11/2)."""

    kind: str  # num, let, word, cmd, op, end
    text: str
    spaced: bool


# ---------------------------------------------------------------- clean-up
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_UNICODE = re.compile("|".join(map(re.escape, UNICODE)))
_THIN = re.compile(r"(?:\{,\}|,)\s*\\!\s*")  # 10,\!080 groups digits as 10{,}080 does, a comma may not
_SPACES = re.compile(
    r"(?<!\\)\\[,;:!> ~]|~|\\(?:q?quad|enspace|thinspace|hfill|nonumber|notag)(?![A-Za-z])|\s+"
)
_DROPPED = (
    r"(?<!\\)(?:\$|\\[()\[\]])"
    r"|\\(?:hspace|vspace|color|kern|mspace)\*?\s*(?:\{[^{}]*\}|-?[\d.]+(?:mm|cm|pt|em|ex|mu))"
    r"|\\[vh]?phantom\s*(?:\{[^{}]*\}|.)|\\textcolor\s*\{[^{}]*\}|\\(?:label|tag)\s*\{[^{}]*\}"
    r"|\\(?:left|right|[bB]igg?[lrm]?|middle)(?![A-Za-z])\.?|\\math(?:bin|rel|ord|punct)(?![A-Za-z])"
)
_ENVIRONMENT = re.compile(
    r"\\(?:begin|end)\s*\{(?:align|aligned|equation|gather|gathered|split|eqnarray|math|displaymath)\*?\}"
)
_SPELLINGS = {
    **{
        r"\lbrace": r"\{",
        r"\rbrace": r"\}",
        r"\lbrack": "[",
        r"\rbrack": "]",
        r"\vert": "|",
        **dict.fromkeys((r"\lVert", r"\rVert", r"\Vert"), r"\|"),
    },
    **{r"\textdegree": r"\degree ", r"\colon": ":", r"\cr": r"\\", r"\imath": " i", r"\jmath": " j"},
    **{r"\wedge": r"\land ", r"\vee": r"\lor ", r"\not\in": r"\notin "},
    **{r"\Pr": "P", r"\mathbb{P}": "P", r"\mathbb{E}": "E"},
    **{r"\not=": r"\ne ", r"\not =": r"\ne ", r"\rvert": "|", r"\lvert": "|", r"\%": "%", r"\$": ""},
}
_LOOKS = re.compile(
    "|".join([_DROPPED, *(re.escape(s) + ("(?![A-Za-z])" if s[-1].isalpha() else "") for s in _SPELLINGS)])
)
_BOLD = re.compile(r"(?<![^\s=(:,])\*\*(?=[^\s*])([^*]{1,500})(?<=\S)\*\*(?![^\s.,;:!?)])")  # not 2**3**2
_OPTION = re.compile(
    r"(?:\\text(?:bf)?\s*\{\s*)?(?:option|choice)\s+\(?((?-i:[A-E]))\)?\.?(?:\s*\})?\.?", re.IGNORECASE
)
_WRAPPER = re.compile(
    r"\s*(?:\*\*|\\(?:boxed|fbox)\s*(?=\{)|\\(?:therefore|implies|Rightarrow)(?![A-Za-z])"
    r"|(?:the\s+)?(?:final\s+)?answer(?:\s+is\b|\s*:)\s*:?)",
    re.IGNORECASE,
)
_END_SIGN = re.compile(r"\\(?:checkmark|blacksquare|qed|qedhere)[\s$]*$")
_DEGREE = re.compile(  # of 90^o
    r"(?<=\d)\^\s?(?:o(?![A-Za-z])|\{\s?o\s?\}|(\{)?\\(?:text|mathrm)\s?\{\s?o\s?\}(?(1)\s?\}))"
)
_EMPTY_BASE = re.compile(r"\{\s*\}\s*(?=\^\s*\{?\s*\\circ)")  # 7{}^\circ
_BEHIND_FORMULA = re.compile(r"\$([^$]+)\$\s*([A-Za-z][A-Za-z /]*(?:\^[23])?\.?)$")
_UPRIGHT = r"\\(?:text|math)(?:rm|bf|tt|sf|it)?\s*"
_POWER = r"(?:\^(?:\d|\{\d\}))"
_RARE = tuple(  # a sign without which the pattern cannot occur, the pattern, what replaces it
    (sign, re.compile(pattern), replacement)
    for sign, pattern, replacement in (
        # 2516_8 with its digits set upright, in brackets or in braces
        ("_", rf"{_UPRIGHT}\{{([0-9A-F]+)\}}(?=(?:[0-9A-F]|{_UPRIGHT}\{{[0-9A-F]+\}})*_)", r"\1"),
        ("_", r"\((?=[A-F]*\d)([0-9A-F]+)\)(?=_)", r"\1"),
        ("}_", r"(?<![\w^}\]])\{(?=[A-F]*\d)([0-9A-F]+)\}(?=_)", r"\1"),
        ("{\\", r"(\.\d*)\{ ?(\\(?:overline|bar) ?(?:\{\d+\}|\d)) ?\}", r"\1\2"),  # 0.{\overline{6}}
        ("{", r"\{(?<![\^_]\{)(?<![A-Za-z\\][A-Za-z]\{) ?([-+=:.<>/%]) ?\}", r"\1"),  # 3{:}4, {-}5, not x^{+}
        ("\\text", r"\\text ?\{ ?([-+=:.<>/%]) ?\}", r"\1"),
        (".}", r"(?<!\.)\.(?=\}+$)", ""),  # \text{5.}
        # {\rm cm}, or \rm cm as the end
        ("\\rm", r"(\{\s*)?\\rm(?:\\[ ,;:!]|[\s~])+([A-Za-z][A-Za-z. ]*)(?(1)\}|(?=\^|$))", r"\\text{\2}"),
        ("\\prime", r"\^\s*(?:\\prime(?![A-Za-z])|\{(?:\s*\\prime)+\s*\})", lambda m: "'" * m[0].count("p")),
        ("</", r"<(b|i|u|em|strong)>(.{1,500}?)</\1>", r"\2"),
        ("+/-", r"\+/-", r"\\pm "),
        ("log", r"(?<![\\A-Za-z])log(2|10)(?= ?\(|\s+(?:\d|[a-z]\b))", r"log_{\1}"),
        # dy/dx, d^2y/dx^2
        (
            "/d",
            rf"(?<![A-Za-z\\])d({_POWER}?[A-Za-z]?) ?/ ?d([a-z]{_POWER}?)(?![A-Za-z])",
            r"\\frac{d\1}{d\2}",
        ),
        *(
            (sign, r"(?<![A-Za-z\\])(?:\\text\s?\{\s*)?(?:USD?|Rs\.?)\s*\}?\s*(?=\.?\d)", "")
            for sign in ("US", "Rs")  # US\$5, whose sign is gone
        ),
        ("clock", r"o'clock\b", "oclock"),  # a noun; o' alone is a letter with a prime
        *((sign, r"(?<![A-Za-z])([apAP])\.([mM])\b\.?", r"\1\2") for sign in (".m", ".M")),
        ("10^", r"^([^x]*\d)\s?x\s?(?=10\^[^x]*$)", r"\1\\times "),  # 6.02x10^23
        ("U", r"(?<=[)\]}])\s*U\s*(?=\\?[(\[{])", r"\\cup "),
    )
)
_BOLD_LETTER = re.compile(r"\\(?:mathbf|boldsymbol|bm)\s*(?=\{\s*[a-z]\s*\}|\s[a-z](?![A-Za-z]))")  # vectors
_STYLED = re.compile(  # capitals alone are letters in their order, or a segment, upright and bold or not
    rf"(?:\\(?:{TEXT_COMMANDS}|bm|boldsymbol|math(?:bf|sf|cal|tt))\s*)?\{{\s*([A-Z]{{2,}})\s*\}}"
)
_ROW_SPACE = re.compile(r"(\\\\)\s*\[-?[\d.]+\s*[a-z]{2}\]")  # the length in \\[2pt]


def _respelled(match: re.Match[str]) -> str:
    """What replaces one match of _LOOKS: another spelling, or nothing."""
    return _SPELLINGS.get(match.group(), r"\quad " if match.group().startswith(r"\hspace") else "")


def without_bold(text: str) -> str:
    """The text without marks of emphasis: 7 + 5 = **12**."""
    return _BOLD.sub(r"\1", text) if "**" in text else text


def clean(text: str) -> str:
    """The text without what only concerns its looks: delimiters, spacing, sizes, Unicode variants, a final
    stop.
    """
    if not text.isascii():
        text = _plain(text)
    text = without_bold(text.strip())
    while match := _WRAPPER.match(text):
        if match.end() == len(text):
            break
        if match.group().strip() == "**":
            if len(text) < 5 or not text.endswith("**"):
                break
            text = text[match.end() : -2].strip()
        else:
            text = text[match.end() :]
    if match := _OPTION.fullmatch(text):
        return match.group(1)
    text = re.sub(r"\bsq\.\s*", "sq ", text) if "sq." in text else text
    if "\\" in text:  # signs of an end, groups of digits and of degrees in their other clothes
        if (match := _END_SIGN.search(text)) and match.start():
            text = text[: match.start()].rstrip("$ ")
        text = text.replace(r"\text{,}", "{,}")
        text = _EMPTY_BASE.sub("", text)
        if "=" in text or "}_" in text:
            text = _BOLD_LETTER.sub(r"\\vec ", text)
    if "o" in text and "^" in text:
        text = _DEGREE.sub(r"^\\circ ", text)
    if "$" in text and (match := _BEHIND_FORMULA.fullmatch(text)):  # words and units behind the dollars
        runs = re.findall("[A-Za-z]+", match.group(2))
        if all(is_word(run) or run in UNITS or run in UNIT_LETTERS or run == "a" for run in runs):
            if not any(run in GREEK_NAMES or run in FUNCTIONS for run in runs):
                text = match.group(1) + r"\text{ " + match.group(2) + "}"
    if "\\" in text or "$" in text or "{,}" in text:
        text = _without_end(_LOOKS.sub(_respelled, text.replace("quad$", "quad $")))
        if "\\begin" in text:
            text = _ENVIRONMENT.sub("", layout.systems(_ROW_SPACE.sub(r"\1", text)))
        if "!" in text:
            text = _THIN.sub("{,}", text)
    if "&" in text and "\\begin" not in text:
        text = layout.aligned(text)
    text = layout.plain(text)
    if "\\" in text or "~" in text:
        text = layout.parted(text)
    for sign, pattern, replacement in _RARE:
        if sign in text:
            text = pattern.sub(replacement, text)
    text = _SPACES.sub(" ", text).strip()
    if text.endswith("\\") and not text.endswith("\\\\"):  # of a final control space
        text = text[:-1].rstrip()
    if len(text) > 2 and text[0] == text[-1] and text[0] in '"`':
        text = text[1:-1].strip()
    while text and (text[-1] in ".,;" or text.endswith("\\\\")) and not text.endswith(("...", "\\,")):
        text = text[: -2 if text[-1] == "\\" else -1].rstrip()
    if match := _STYLED.fullmatch(text):
        return match.group(1)
    return text[0] if text[1:] == ")" else text


_ENDS = (".", "~", r"\,", r"\;", r"\:", r"\!", r"\quad", r"\qquad")


def _without_end(text: str) -> str:
    """The text without blanks and stops at its end, on which no layout may depend."""
    text = text.strip()
    while text.endswith(_ENDS) and not text.endswith(".."):
        text = text[: -len(max(filter(text.endswith, _ENDS), key=len))].rstrip()
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
            plain = UNICODE.get(plain, plain)  # of 𝜋, an italic π
            pieces.append(re.sub(r"(\d+)⁄(\d+)", r"\\frac{\1}{\2}", plain))  # vulgar fractions
        elif unicodedata.category(char) == "Zs":
            pieces.append(" ")
    return "".join(pieces)


# ---------------------------------------------------------------- tokens
_TOKEN = re.compile(
    rf"""(?P<blank>\s+)
    | \\(?:{TEXT_COMMANDS})\s*\{{(?P<text>[^{{}}]*)\}}
    | (?=[\d.A-F])(?:(?P<digits>(?=\d|[A-F]{{1,99}}\d)(?!\d+[\s(\\])[0-9A-F]{{1,99}}(?:\.\d{{1,99}})?)
            (?=_|\s*(?:\\text\s*\{{\s*)?\(?(?:in\s+)?base\b)
    | (?P<repeating>\d*\.\d*(?:(?:\ ?\\(?:overline|bar)\s*(?:\{{\d+\}}|\d+))+
            |\\dot\s*\{{?\d\}}?(?:\d*\\dot\s*\{{?\d\}}?)?|\(\d+\))(?:\.\.\.|\\(?:l|c)?dots(?![a-z]))?
        | \d*\.\d+(?:\.\.\.|\\(?:l|c)?dots(?![a-z])))
    | (?P<grouped>\d{{1,3}}(?:\{{,\}}\d{{3}})+(?!\d)(?:\.\d+)?)
    | (?P<thousands>\d{{1,3}}(?:,\d{{3}})+(?!\d|,\d)(?:\.\d+)?
        | \d{{1,3}}(?:[ ]\d{{3}})+(?![\d/]|[ ]\d)(?:\.\d+)?)
    | (?P<number>(?:\d+(?:\.\d+|\.(?!\.))?|\.\d+)(?:[eE][+-]?\d+)?))
    | (?P<command>\\(?:[A-Za-z]+|.))
    | (?P<letters>[A-Za-z]+)
    | (?P<dots>\.\.\.+)
    | (?P<op><=|>=|!=|\*\*|[-+*/^_=<>|!,;:()\[\]{{}}%&'.])""",
    re.VERBOSE | re.DOTALL,
)
_VECTOR = r"\\(?:mathbf|boldsymbol|bm|vec|overrightarrow)\s*(?:\{\s*\\?[A-Za-z]+\s*\}|[A-Za-z])"
_CROSS_PRODUCT = re.compile(rf"{_VECTOR}\s*\\times\s*{_VECTOR}")
_NAMED_PRODUCT = re.compile(rf"(?:{_VECTOR}|\\(?:cdot|times|\|)|[-+()|\s])+=")  # which keeps its order
_UNGROUPED = re.compile(r"\d+(\.\d+)?")
_DEPTH = dict.fromkeys(("(", "[", r"\{", r"\langle"), 1) | dict.fromkeys((")", "]", r"\}", r"\rangle"), -1)


def tokenize(text: str) -> list[Token]:
    """Tokens of a cleaned text; ParseError at the first character that belongs to no token."""
    if _CROSS_PRODUCT.search(text) and not _NAMED_PRODUCT.match(text):
        raise ParseError("a product of vectors, which no product of numbers may stand for")
    tokens: list[Token] = []
    position, depth, spaced, end = 0, 0, False, len(text)
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise ParseError(f"unexpected character at {position}")
        kind, body = match.lastgroup or "", match.group()
        if kind == "thousands" and depth:  # inside brackets a comma separates: (1,234) is a point
            match = _UNGROUPED.match(text, position)
            assert match is not None
            kind, body = "number", match.group()
        position = match.end()
        if kind == "blank":
            spaced = True
            continue
        if kind == "op" and body == "!=" and tokens and not spaced:
            if re.fullmatch(r"[\d)]+", tokens[-1].text):
                body, position = "!", position - 1  # 3!=6 states a factorial, x!=6 an inequality
        depth += _DEPTH.get(body, 0)
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
    if kind == "number":
        tokens.append(Token("num", body, spaced))
    elif kind in ("thousands", "grouped"):
        tokens.append(Token("num", re.sub(r"[{},\s]", "", body), spaced))
    elif kind in ("repeating", "digits"):
        tokens.append(Token(kind, body, spaced))
    elif kind == "command":
        name = body[1:]
        if name not in IGNORED_COMMANDS:
            tokens.append(Token("cmd", name, spaced))
    elif kind == "letters":
        _append_letters(tokens, body, spaced, match.string[match.end() : match.end() + 20])
    elif kind == "text":
        for word in re.finditer(
            r"[A-Za-z][A-Za-z'.]*|\d+(?:,\d{3})*(?!\d)(?:\.\d+)?|[^\sA-Za-z]", match.group("text")
        ):
            piece = word.group()
            if piece == "a" and re.match(r"\s+[a-z]{2}", match.group("text")[word.end() :]):
                tokens.append(Token("word", piece, True))  # the article
            elif piece[0].isalpha():
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
    elif len(word) == 1 and word not in UNIT_LETTERS:
        tokens.append(Token("let", word, True))  # 2\mathrm{x} is a product, 2\text{ m} a length
    else:
        tokens.append(Token("word", word if len(word) == 1 else word.lower(), True))


_FUNCTION = r"arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|log|ln"
_WITH_FUNCTION = re.compile(rf"(sqrt|{_FUNCTION}|pi)(?=.)")
_CLOSING = (")", "]", "}")
_OF_A_LETTER = re.compile(rf"([xyzt]?)({_FUNCTION})(theta|alpha|beta|phi|[xyztA-Z])")
_FUNCTIONS_OF_LETTERS = re.compile(rf"(?:{_OF_A_LETTER.pattern})+")


_OPEN_WORDS = CONJUNCTIONS | NOT_UNITS | VALUE_WORDS | {"times", "squared", "cubed"}
_LAST = re.compile(r"(?:\^\{?[23]\}?|/[a-z]+)?\s*$")  # behind a unit that ends the answer


def _per(tokens: list[Token]) -> bool:
    """Whether a slash behind a unit stands last: of km/hr."""
    return len(tokens) > 1 and tokens[-1].text == "/" and tokens[-2].kind == "word"


def _append_letters(tokens: list[Token], run: str, spaced: bool, rest: str) -> None:
    """A run of letters outside \\text: a function, a word, a unit after a number, or a product of
    variables; `rest` is what stands behind it.
    """
    measured = tokens and (tokens[-1].kind == "num" or _per(tokens))
    if run in ("min", "sec") and measured and rest[:1] in ("", ",", ";"):
        tokens.append(Token("word", run, spaced))  # 17 min; max and secant have an argument
    elif run in PLAIN_NAMES:
        tokens.append(Token("cmd", PLAIN_NAMES[run], spaced))
    elif run in GREEK_NAMES:
        tokens.append(Token("cmd", run, spaced))
    elif _FUNCTIONS_OF_LETTERS.fullmatch(run):  # sinxcosx, xlnx
        for factor, name, variable in _OF_A_LETTER.findall(run):
            if factor:
                tokens.append(Token("let", factor, spaced))
            tokens.append(Token("cmd", name, spaced))
            tokens.append(Token("cmd" if len(variable) > 1 else "let", variable, False))
    elif _counts_as_word(tokens, run, spaced, rest):
        tokens.append(Token("word", run.lower(), spaced))
    elif match := _WITH_FUNCTION.match(run):
        tokens.append(Token("cmd", PLAIN_NAMES[match.group()], spaced))
        _append_letters(tokens, run[match.end() :], False, rest)
    else:
        for letter in run:
            tokens.append(Token("let", letter, spaced))
            spaced = False


def _counts_as_word(tokens: list[Token], run: str, spaced: bool, rest: str) -> bool:
    """Whether a run of letters is a word where it stands: 2 apples, 5cm and 2nd have one, 2abxy has none."""
    previous, following = tokens[-1] if tokens else Token("end", "", True), rest[:1]
    after_number = previous.kind in ("num", "digits")
    if after_number and not spaced and run in ("st", "nd", "rd", "th"):
        return run == _ordinal_ending(previous.text)
    # After a Greek letter the blank is TeX's: \pi at is a product as 2at is.
    after_pi = previous.kind == "cmd" and previous.text == "pi"
    greek = after_pi or (previous.kind == "cmd" and previous.text in SYMBOL_COMMANDS)
    squared_inches = run == "in" and following == "^"
    operator = following and following in "^=+*_(" and not squared_inches
    operator = operator or rest.lstrip()[:1] in tuple("=+*")
    last = spaced and _LAST.match(rest)
    if after_pi and squared_inches and last:  # else \pi i n^2
        return True
    if spaced and _goes_on(previous, run, rest):
        return True
    if run in AMBIGUOUS and (greek or (tokens and not spaced) or operator):
        return False
    if run in UNITS and (after_number or after_pi or previous.kind == "word" or _per(tokens)):
        return True  # 5 cm, 2 \pi cm, sq ft, km/hr
    if run in UNITS and run not in AMBIGUOUS and previous.text in _CLOSING and last:
        return True  # \frac{5}{2} cm
    if (greek and len(run) < 5) or (not spaced and (after_number or previous.text in _CLOSING)):
        # Only words that are known count there, since any other run may be a product.
        lowered = run.lower()
        known = lowered in WORDS and (len(run) > 3 or lowered in CONJUNCTIONS)
        return known or lowered in NUMBER_WORDS or lowered in MULTIPLIERS
    return is_word(run)


def _goes_on(previous: Token, run: str, rest: str) -> bool:
    """Whether a run continues the words before it, where nothing can be multiplied: 12 years old, 7 miles a
    day, 7 cups of tea. Behind `and`, `times` or `five` it may be a product.
    """
    following = re.match(r"\s+([a-z]{3,})", rest)
    if run in ("a", "an") and (previous.kind == "num" or previous.text == "times"):  # $18 a day
        return following is not None and is_word(following.group(1))
    if previous.kind != "word" or (previous.text in _OPEN_WORDS and previous.text not in ("of", "per")):
        return False
    if run == "a":
        return following is not None
    return len(run) > 2 and run.islower() and re.search("[aeiouy]", run) is not None


def _ordinal_ending(digits: str) -> str:
    """The ending with which a whole number becomes an ordinal: 21st, 12th."""
    return "th" if digits[-2:-1] == "1" else {"1": "st", "2": "nd", "3": "rd"}.get(digits[-1], "th")


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
