r"""A small LaTeX reader: the text of a final answer becomes a syntax tree, or one ParseError.

Paper: section 9 (the grading function needs to read what problems and models write).
Choices: no eval, no generated grammar, no sympy. A lossless clean-up (`clean`), a tokenizer and a precedence
parser; the whole string must be consumed, since accepting a parsed prefix is how graders find `2` in `2,-1`.
Length, token count and nesting are limited before anything is built, so that reading is linear and bounded.

A tree is a tuple whose first member is its kind:

    ("num", Fraction)  ("sym", name)  ("const", "pi" | "e" | "i" | "inf")  ("text", words)  ("based", digits, base)
    ("add", nodes)  ("mul", nodes)  ("pow", base, exponent)  ("pm", sign, node)  ("deg", node)  ("mod", a, b)
    ("fn", name, args)          sin, ln, abs, fact, binom, root, floor ... evaluated by algebra.py
    ("call", name, args)        f(x), F_{n-1}: a function nothing is known about
    ("sum" | "prod", variable, low, high, body)  ("lim", variable, point, body)  ("diff", variable, body)
    ("int", low | None, high | None, variable, body)
    ("tuple", opening, closing, nodes)  ("set", nodes)  ("list", nodes, "," | "and" | "or")  ("ratio", nodes)
    ("matrix", rows)  ("cases", rows)  ("setop", "cup" | "cap" | "setminus", a, b)  ("chain", (node, op, node, ...))
    ("congruence", node, modulus)  ("clock", node, "am" | "pm")
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from mathref.vocabulary import (
    CALLABLE_LETTERS,
    FRACTION_WORDS,
    FUNCTIONS,
    IGNORED_COMMANDS,
    MULTIPLIERS,
    NUMBER_WORDS,
    RELATIONS,
    SYMBOL_COMMANDS,
    TEXT_COMMANDS,
    UNICODE,
    UNITS,
    WORDS,
)

Node = tuple[Any, ...]

MAX_LENGTH = 10_000  # characters that are read; anything longer is compared as text
MAX_TOKENS = 4_000
MAX_DEPTH = 60  # nested groups; each costs about ten Python frames
MAX_DIGITS = 4_000  # of one literal; below Python's own limit of 4,300 for int()


class ParseError(ValueError):
    """The text is not an answer this grammar knows; it is then compared as text."""


class Token(NamedTuple):
    """One lexical unit; `spaced` says whether blanks stood before it (1 1/2 is not 11/2)."""

    kind: str  # num, let, word, cmd, op, end
    text: str
    spaced: bool


def num(value: int | Fraction) -> Node:
    """A rational literal."""
    return ("num", Fraction(value))


def neg(node: Node) -> Node:
    """The negative of a tree."""
    return ("num", -node[1]) if node[0] == "num" else ("mul", (num(-1), node))


def divide(top: Node, bottom: Node) -> Node:
    """The quotient of two trees."""
    return ("mul", (top, ("pow", bottom, num(-1))))


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
_WRAPPER = re.compile(r"\s*(?:\*\*|\\(?:boxed|fbox)\s*(?=\{))")


def clean(text: str) -> str:
    """The text without what only concerns its looks: delimiters, spacing, sizes, Unicode variants, a final stop."""
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
        text = _DROPPED.sub("", text)
        text = _THIN.sub("{,}", text)
    text = _SPACES.sub(" ", text).strip()
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
    | (?P<digits>(?=\d|[A-F]+\d)[0-9A-F]+)(?=_)
    | (?P<repeating>\d*\.\d*\\(?:overline|bar)\s*\{{\d+\}})
    | (?P<grouped>\d{{1,3}}(?:\{{,\}}\d{{3}})+(?!\d)(?:\.\d+)?)
    | (?P<thousands>\d{{1,3}}(?:,\d{{3}})+(?!\d|,\d)(?:\.\d+)? | \d{{1,3}}(?:[ ]\d{{3}})+(?![\d/]|[ ]\d)(?:\.\d+)?)
    | (?P<number>(?:\d+(?:\.\d+|\.(?!\.))?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<command>\\(?:[A-Za-z]+|.))
    | (?P<letters>[A-Za-z]+)
    | (?P<dots>\.\.\.+)
    | (?P<op><=|>=|!=|\*\*|[-+*/^_=<>|!,;:()\[\]{{}}%&'.])""",
    re.VERBOSE | re.DOTALL,
)
_AFTER_FACTORIAL = re.compile(r"[\w)}\]]$")


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
        depth += (body in ("(", "[", r"\{")) - (body in (")", "]", r"\}"))
        _append(tokens, kind, body, match, spaced)
        spaced = False
        if len(tokens) > MAX_TOKENS:
            raise ParseError(f"more than {MAX_TOKENS} tokens")
    tokens.append(Token("end", "", spaced))
    return tokens


def _append(tokens: list[Token], kind: str, body: str, match: re.Match[str], spaced: bool) -> None:
    """Add what one match of the tokenizer stands for: one token, several letters, or the words of a \\text."""
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
                lowered = piece.rstrip(".").lower()
                tokens.append(Token("word", piece.rstrip(".") if len(lowered) == 1 else lowered, True))
            else:
                digits = piece[0].isdigit()
                tokens.append(
                    Token("num" if digits else "op", piece.replace(",", "") if digits else piece, True)
                )
    else:
        tokens.append(Token("cmd" if kind == "dots" else "op", "ldots" if kind == "dots" else body, spaced))


def _append_letters(tokens: list[Token], run: str, spaced: bool) -> None:
    """A run of letters outside \\text: a function, a word, a unit after a number, or a product of variables."""
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
    """Whether a run of letters is a word of a language rather than a product of variables such as abc or xyz."""
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


# ---------------------------------------------------------------- grammar
class _Parser:
    """Recursive descent over the tokens of one answer; every method consumes what it returns."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.index = 0
        self.depth = 0
        self.bars = 0  # open |...|, inside which a bar in operator position closes

    # -- access
    def peek(self, offset: int = 0) -> Token:
        return self.tokens[min(self.index + offset, len(self.tokens) - 1)]

    def next(self) -> Token:
        token = self.peek()
        self.index += 1
        return token

    def at(self, *texts: str) -> bool:
        token = self.peek()
        return token.kind in ("op", "cmd") and token.text in texts

    def take(self, *texts: str) -> bool:
        if self.at(*texts):
            self.index += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise ParseError(f"expected {text}, found {self.peek().text or 'the end'}")

    def nested(self, rule: Callable[[], Node]) -> Node:
        """Run one rule a level deeper; the only way to recurse, hence the only place that counts."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ParseError(f"nested deeper than {MAX_DEPTH}")
        bars, self.bars = self.bars, 0
        node = rule()
        self.bars = bars
        self.depth -= 1
        return node

    # -- lists
    def answer(self) -> Node:
        """A list of elements, or its only element."""
        groups: list[list[Node]] = [[self.element()]]
        kind = ","
        while separator := self.separator():
            if self.peek().kind == "end" or self.at(")", "]", "}", r"}"):
                break
            if separator == ",":
                groups[-1].append(self.element())
            else:
                kind = separator if separator != ";" else kind
                groups.append([self.element()])
        size = len(groups[0])
        if len(groups) > 1 and size > 1 and all(len(g) == size and all(map(_assigns, g)) for g in groups):
            return ("list", tuple(("tuple", "(", ")", tuple(g)) for g in groups), ",")  # p=5,q=2; p=7,q=2
        items = tuple(item for group in groups for item in group)
        return items[0] if len(items) == 1 else ("list", items, kind)

    def separator(self) -> str | None:
        """Consume one separator; ", and" is a comma, a lone "and" binds looser than commas do."""
        if self.take(";"):
            return ";"
        comma = self.take(",")
        if self.peek().kind == "word" and self.peek().text in ("and", "or"):
            word = self.next().text
            return "," if comma and word == "and" else word
        if self.take("vee", "lor"):
            return "or"
        if self.take("wedge", "land"):
            return "and"
        return "," if comma else None

    def element(self) -> Node:
        """One member of a list: words, or a chain of relations."""
        token = self.peek()
        if token.kind == "word" and len(token.text) > 1 and not self.number_word_ahead():
            return self.words()
        return self.chain()

    def words(self) -> Node:
        words = []
        while self.peek().kind in ("word", "let", "num") or self.at("-", "(", ")", "'"):
            if self.peek().kind == "word" and self.peek().text in ("and", "or"):
                break
            if self.at(")") and "(" not in words:
                break
            words.append(self.next().text)
        if len(words) > 1 and words[0] in ("a", "an", "the"):
            words = words[1:]
        return ("text", " ".join(words))

    def chain(self) -> Node:
        """Expressions joined by =, <, \\in and the like."""
        named = self.function_name()
        parts: list[Any] = [named] if named else []
        if not named:
            parts.append(None if self.relation() else self.ratio())
        while relation := self.relation():
            self.index += 1
            parts += [relation, self.ratio()]
        node = parts[0] if len(parts) == 1 else ("chain", tuple(parts))
        if self.at("pmod"):
            self.index += 1
            return ("congruence", node, self.argument())
        if self.at("(") and self.peek(1).text == "mod":
            self.index += 2
            node = ("congruence", node, self.sum())
            self.expect(")")
        return node

    def relation(self) -> str | None:
        token = self.peek()
        if token.kind in ("op", "cmd"):
            if token.text == "not":
                return None
            return RELATIONS.get(token.text)
        return None

    def function_name(self) -> Node | None:
        """`p(x)` or `T(a, b)` as the whole left-hand side of an equation names a function."""
        texts = [self.peek(k).text for k in range(8)]
        if self.peek().kind != "let" or texts[1] != "(":
            return None
        end = 3
        while texts[end - 1 : end] and end < 7 and texts[end] == "," and self.peek(end - 1).kind == "let":
            end += 2
        if texts[end] != ")" or self.peek(end - 1).kind != "let" or texts[end + 1] not in RELATIONS:
            return None
        arguments = tuple(("sym", texts[k]) for k in range(2, end, 2))
        self.index += end + 1
        return ("call", texts[0], arguments)

    def ratio(self) -> Node:
        """`1:2:3`, also clock times."""
        items = [self.setwise()]
        while self.at(":") and self.depth >= 0 and not self.in_set_builder:
            self.index += 1
            items.append(self.setwise())
        node = items[0] if len(items) == 1 else ("ratio", tuple(items))
        if self.peek().kind == "word" and self.peek().text.replace(".", "") in ("am", "pm"):
            return ("clock", node, self.next().text.replace(".", ""))
        self.units()
        return node

    in_set_builder = False

    def setwise(self) -> Node:
        """Unions, intersections and differences, left to right."""
        node = self.sum()
        while self.at("cup", "cap", "setminus", "backslash"):
            operator = self.next().text
            node = ("setop", "setminus" if operator == "backslash" else operator, node, self.sum())
        return node

    # -- arithmetic
    def sum(self) -> Node:
        terms = [self.signed_term()]
        while self.at("+", "-", "pm", "mp"):
            terms.append(self.signed_term())
        return terms[0] if len(terms) == 1 else ("add", tuple(terms))

    def signed_term(self) -> Node:
        if self.take("+"):
            return self.signed_term_again()
        if self.take("-"):
            return neg(self.signed_term_again())
        if self.at("pm", "mp"):
            sign = 1 if self.next().text == "pm" else -1
            return ("pm", sign, self.term())
        return self.term()

    def signed_term_again(self) -> Node:
        if not self.at("+", "-", "pm", "mp"):
            return self.term()
        return self.nested(self.signed_term)

    def term(self) -> Node:
        factors = [self.power()]
        self.units()
        while True:
            if self.take("*", "cdot", "times", "ast", "bullet"):
                factors.append(self.signed_factor())
            elif self.at("/", "div"):
                self.index += 1
                factors.append(("pow", self.signed_factor(), num(-1)))
            elif self.at("bmod", "mod"):
                self.index += 1
                factors = [("mod", _product(factors), self.signed_factor())]
            elif self.starts_factor():
                if self.peek().kind == "num" and self.tokens[self.index - 1].kind in ("num", "let"):
                    raise ParseError("two numbers side by side")
                factors.append(self.power())
            else:
                return _product(factors)
            self.units()

    def signed_factor(self) -> Node:
        if self.take("-"):
            return neg(self.nested(self.signed_factor))
        if self.take("+"):
            return self.nested(self.signed_factor)
        return self.power()

    def starts_factor(self) -> bool:
        """Whether the next token begins a factor, so that juxtaposition multiplies."""
        token = self.peek()
        if token.kind in ("num", "let", "repeating", "digits"):
            return True
        if token.kind == "op":
            if token.text == "(" and self.peek(1).text == "mod":
                return False
            return token.text in ("(", "[", "{") or (token.text == "|" and not self.bars)
        return token.kind == "cmd" and token.text in _PRIMARY_COMMANDS

    def units(self) -> None:
        """Drop words after a quantity: units, nouns, percent and degree words. a.m. and p.m. stay."""
        while self.peek().kind == "word" and self.peek().text.replace(".", "") not in (
            "and",
            "or",
            "am",
            "pm",
            "mod",
        ):
            self.index += 1
            if self.at("^"):
                self.index += 1
                self.argument()
            if (self.at("/") or self.at("-") or self.at("cdot")) and self.peek(1).kind in ("word", "let"):
                self.index += 1
                if self.peek().kind == "let":
                    self.index += 1

    def power(self) -> Node:
        node = self.postfix(self.primary())
        if not self.take("^", "**"):
            return node
        if self.take("circ", "degree"):
            return self.postfix(("deg", node))
        if self.at("{") and self.peek(1).text in ("circ", "degree") and self.peek(2).text == "}":
            self.index += 3
            return self.postfix(("deg", node))
        start = self.index
        if self.at("{") and self.peek(1).kind == "word" and self.peek(2).text == "}":  # 5^{\text{th}}
            self.index += 3
            return node
        if self.peek().kind == "word":
            self.index += 1
            return node
        if self.at("{") and self.peek(1).text == "prime":
            raise ParseError("a prime is not an exponent")
        self.index = start
        return self.postfix(("pow", node, self.nested(self.exponent)))

    def exponent(self) -> Node:
        """What follows ^: a group, or in plain text a signed whole number (2^10, 10^-7) and its own exponent."""
        if self.take("-"):
            return neg(self.exponent())
        if self.take("+"):
            return self.exponent()
        if self.at("{"):
            return self.argument()
        node = self.postfix(self.primary())
        return ("pow", node, self.nested(self.exponent)) if self.take("^", "**") else node

    def postfix(self, node: Node) -> Node:
        while True:
            if self.take("!"):
                node = ("fn", "fact2" if self.take("!") else "fact", (node,))
            elif self.at("degree", "circ"):
                self.index += 1
                node = ("deg", node)
            elif not self.take("%"):
                return node

    # -- primaries
    def primary(self) -> Node:
        token = self.peek()
        if token.kind in ("num", "repeating", "digits"):
            return self.number()
        if token.kind == "let" or (token.kind == "word" and len(token.text) == 1 and token.text.isalpha()):
            return self.letter()
        if token.kind == "word":
            return self.number_words()
        if token.kind == "cmd":
            self.index += 1
            return self.nested(lambda: self.command(token.text))
        if token.text in ("(", "[", "{", "|"):
            self.index += 1
            return self.nested(lambda: self.bracket(token.text))
        raise ParseError(f"expected an operand, found {token.text or 'the end'}")

    def number(self) -> Node:
        token = self.next()
        if token.kind == "repeating":
            return num(_repeating(token.text))
        if token.kind == "digits" or (self.at("_") and token.text.isdigit()):
            return self.based(token.text)
        value = literal(token.text)
        if value[0] == "num" and value[1].denominator == 1 and token.text.isdigit():
            value = self.mixed(value)
        if self.peek().kind == "word" and self.peek().text in MULTIPLIERS:
            value = ("mul", (value, num(MULTIPLIERS[self.next().text])))
        return value

    def mixed(self, whole: Node) -> Node:
        """1\\frac{1}{2} and 1 1/2 are sums; a product needs a sign between its factors."""
        if self.at("frac", "dfrac", "tfrac", "cfrac"):
            start = self.index
            self.index += 1
            part = self.nested(lambda: self.command("frac"))
            if part[0] == "mul" and all(n[0] == "num" and n[1] > 0 for n in (part[1][0], part[1][1][1])):
                return ("add", (whole, part))
            self.index = start
        texts = [self.peek(k) for k in range(3)]
        if texts[0].kind == texts[2].kind == "num" and texts[0].spaced and texts[1].text == "/":
            if texts[0].text.isdigit() and texts[2].text.isdigit():
                self.index += 3
                return ("add", (whole, divide(literal(texts[0].text), literal(texts[2].text))))
        return whole

    def based(self, digits: str) -> Node:
        """`2516_8`, `204_{\\text{five}}`: a numeral to a base, which is not its digits read to base ten."""
        self.expect("_")
        base = self.argument()
        if base[0] != "num" or base[1].denominator != 1 or not 2 <= base[1] <= 36:
            raise ParseError("not the base of a numeral")
        return literal(digits) if base[1] == 10 and digits.isdigit() else ("based", digits, int(base[1]))

    def letter(self) -> Node:
        name = self.next().text
        primes = 0
        while self.take("'"):
            primes += 1
        name += "'" * primes
        if self.at("_"):
            self.index += 1
            return self.subscripted(name)
        if name[0] in CALLABLE_LETTERS and self.at("("):
            self.index += 1
            inner = self.nested(lambda: self.bracket("("))
            return ("call", name, inner[3] if inner[0] == "tuple" else (inner,))
        if name in ("e", "i"):
            return ("const", name)
        return ("sym", name)

    def subscripted(self, name: str) -> Node:
        if self.at("{") and self.peek(1).kind == "word":
            self.index += 1
            words = []
            while not self.take("}"):
                if self.peek().kind == "end":
                    raise ParseError("unclosed subscript")
                words.append(self.next().text)
            return ("sym", f"{name}_{' '.join(words)}")
        index = self.argument()
        if index[0] == "num":
            return ("sym", f"{name}_{index[1]}")
        return ("call", name + "_", index[1] if index[0] == "list" else (index,))

    def number_word_ahead(self) -> bool:
        return self.peek().text in NUMBER_WORDS and self.peek().kind == "word"

    def number_words(self) -> Node:
        """`one hundred twenty-three`, `two thirds`."""
        if not self.number_word_ahead():
            raise ParseError("a word where an operand was expected")
        total, group = 0, 0
        while self.peek().kind == "word" and (self.number_word_ahead() or self.peek().text in MULTIPLIERS):
            word = self.next().text
            if word in NUMBER_WORDS:
                group += NUMBER_WORDS[word]
            elif word == "hundred":
                group *= 100
            else:
                total, group = total + group * MULTIPLIERS[word], 0
            if self.at("-") and self.peek(1).text in (*NUMBER_WORDS, *FRACTION_WORDS):
                self.index += 1
            if self.peek().text == "and" and self.peek(1).text in NUMBER_WORDS and word in MULTIPLIERS:
                self.index += 1
        value = num(total + group)
        if self.peek().kind == "word" and self.peek().text in FRACTION_WORDS:
            return divide(value, num(FRACTION_WORDS[self.next().text]))
        return value

    def argument(self) -> Node:
        """The argument of a command: a group, or by TeX's rule one character (\\frac12, \\sqrt2)."""
        token = self.peek()
        if token.kind == "num" and len(token.text) > 1 and token.text[0].isdigit():
            self.tokens[self.index] = Token("num", token.text[1:], False)
            return num(int(token.text[0]))
        if token.kind == "op" and token.text == "{":
            self.index += 1
            return self.nested(lambda: self.bracket("{"))
        if token.kind == "let":
            self.index += 1
            return ("const", token.text) if token.text in ("e", "i") else ("sym", token.text)
        if token.kind == "num":
            self.index += 1
            return literal(token.text)
        return self.primary()

    def bracket(self, opening: str) -> Node:
        """What stands between brackets: one thing is a group, several are a tuple, an interval or a set."""
        if opening == "|":
            self.bars = 1
            node = self.sum()
            self.expect("|")
            return ("fn", "abs", (node,))
        closings = {"(": (")", "]"), "[": ("]", ")"), "{": ("}",), r"\{": ("}",), "langle": ("rangle",)}[
            opening
        ]
        node = self.answer()
        closing = self.next()
        if closing.text not in closings or closing.kind not in ("op", "cmd"):
            raise ParseError(f"expected {closings[0]}, found {closing.text or 'the end'}")
        if node[0] == "list" and opening != "{":
            return (
                "tuple",
                opening if opening != "langle" else "(",
                closing.text.replace("rangle", ")"),
                node[1],
            )
        if node[0] == "list" and node[2] == ",":
            return ("set", node[1])
        return node

    def command(self, name: str) -> Node:
        """Everything that begins with a backslash and is an operand."""
        if name in FUNCTIONS:
            return self.function(FUNCTIONS[name])
        if name in ("pi", "infty"):
            return ("const", "inf" if name == "infty" else name)
        if name in SYMBOL_COMMANDS:
            symbol = ("sym", "\\" + name)
            return self.subscripted("\\" + name) if self.take("_") else symbol
        if name in ("emptyset", "varnothing"):
            return ("set", ())
        if name in ("ldots", "dots", "cdots", "dotsc", "dotsb"):
            return ("sym", "...")
        handler = _COMMANDS.get(name)
        if handler is None:
            raise ParseError(f"unknown command \\{name}")
        return handler(self)

    def function(self, name: str) -> Node:
        """A named function with optional base and power: \\log_2 8, \\sin^2 x, \\cos\\frac{\\pi}{3}."""
        base = self.argument() if name == "log" and self.take("_") else None
        power = self.nested(self.exponent) if self.take("^", "**") else None
        if name == "log" and base is None and self.take("_"):
            base = self.argument()
        argument = self.function_argument()
        if name in _TRIGONOMETRIC:
            argument = _in_radians(argument)
        if power is not None and power == num(-1) and name in _TRIGONOMETRIC:
            name, power = "arc" + name, None
        arguments = (
            argument[1] if argument[0] == "list" else argument[3] if argument[0] == "tuple" else (argument,)
        )
        node = ("fn", name, (*arguments, base) if base else arguments)
        return node if power is None else ("pow", node, power)

    def function_argument(self) -> Node:
        """A bracket, or the product that follows up to the next sign, operator or function."""
        if self.at("(", "[", "{", "|"):
            opening = self.next().text
            node = self.nested(lambda: self.bracket(opening))
            return ("pow", node, self.nested(self.exponent)) if opening == "{" and self.take("^") else node
        if self.take("-"):
            return neg(self.function_argument())
        factors = [self.power()]
        while self.starts_factor() and not self.at("(", "[") and self.peek().text not in FUNCTIONS:
            if self.peek().kind == "num":
                break
            factors.append(self.power())
        return _product(factors)

    def fraction(self) -> Node:
        """\\frac and its sizes; \\frac{d}{dx} differentiates the term that follows."""
        if self.at("{") and [self.peek(k).text for k in (1, 2, 3, 4)] == ["d", "}", "{", "d"]:
            variable = self.peek(5)
            if variable.kind == "let" and self.peek(6).text == "}":
                self.index += 7
                return ("diff", variable.text, self.term())
        top = self.argument()
        return divide(top, self.argument())

    def root(self) -> Node:
        degree = None
        if self.take("["):
            degree = self.nested(self.sum)
            self.expect("]")
        body = self.argument()
        return ("fn", "root", (body, degree or num(2)))

    def surd(self) -> Node:
        """The sign √, which in plain text covers a whole number."""
        return ("fn", "root", (self.primary(), num(2)))

    def big_operator(self, kind: str) -> Node:
        """\\sum_{k=a}^{b} and \\prod; the body is the product that follows."""
        self.expect("_")
        bounds = self.argument()
        if bounds[0] != "chain" or len(bounds[1]) != 3 or bounds[1][0][0] != "sym" or bounds[1][1] != "=":
            raise ParseError("expected a lower bound such as k=1")
        self.expect("^")
        high = self.nested(self.exponent)
        return (kind, bounds[1][0][1], bounds[1][2], high, self.nested(self.term))

    def limit(self) -> Node:
        self.expect("_")
        self.expect("{")
        variable = self.next().text
        if not self.take("to", "rightarrow"):
            raise ParseError("expected \\to")
        point = self.sum()
        self.expect("}")
        return ("lim", variable, point, self.nested(self.term))

    def integral(self) -> Node:
        """\\int_a^b body dx; the differential ends the body."""
        low = self.argument() if self.take("_") else None
        high = self.nested(self.exponent) if self.take("^") else None
        end, depth = self.index, 0
        while not (depth == 0 and self.tokens[end].text == "d" and self.tokens[end + 1].kind == "let"):
            depth += self.tokens[end].text in ("{", "(")
            depth -= self.tokens[end].text in ("}", ")")
            end += 1
            if end >= len(self.tokens) - 1:
                raise ParseError("integral without differential")
        inner = _Parser([*self.tokens[self.index : end], Token("end", "", False)])
        inner.depth = self.depth
        body = inner.sum() if end > self.index else num(1)
        if inner.peek().kind != "end":
            raise ParseError("unexpected end of the integrand")
        self.index = end + 2
        return ("int", low, high, self.tokens[end + 1].text, body)

    def environment(self) -> Node:
        """Matrices, arrays and cases."""
        self.expect("{")
        name = "".join(
            iter(lambda: self.next().text if not self.at("}") and self.peek().kind != "end" else "", "")
        )
        self.expect("}")
        if name == "array":
            while not self.take("}"):
                if self.next().kind == "end":
                    raise ParseError("unclosed column specification")
        elif name not in ("pmatrix", "bmatrix", "matrix", "Bmatrix", "vmatrix", "smallmatrix", "cases"):
            raise ParseError(f"unknown environment {name}")
        rows: list[tuple[Node, ...]] = []
        while not self.at("end"):
            if self.take("hline"):
                continue
            row = [self.nested(self.cell)]
            while self.take("&"):
                row.append(self.nested(self.cell))
            rows.append(tuple(row))
            if not self.take("\\"):
                break
        self.expect("end")
        self.expect("{")
        while not self.take("}"):
            if self.next().kind == "end":
                raise ParseError("unclosed \\end")
        if name == "cases":
            return ("cases", tuple(rows))
        if not rows or any(len(row) != len(rows[0]) for row in rows):
            raise ParseError("rows of unequal length")
        return ("fn", "det", (("matrix", tuple(rows)),)) if name == "vmatrix" else ("matrix", tuple(rows))

    def cell(self) -> Node:
        if self.peek().kind == "word":
            words = []
            while self.peek().kind == "word":
                words.append(self.next().text)
            if self.at("&", "\\", "end"):
                return ("text", " ".join(words))
        node = self.chain()
        self.take(",", ".", ";")
        return node

    def between(self, closing: str, name: str) -> Node:
        node = self.sum()
        self.expect(closing)
        return ("fn", name, (node,))

    def braces(self) -> Node:
        """\\{...\\}: a set by its members or by a condition."""
        if self.take("}"):
            return ("set", ())
        self.in_set_builder = True
        first = self.chain()
        self.in_set_builder = False
        if self.take("mid", "|", ":"):
            condition = self.answer()
            self.expect("}")
            return (
                condition
                if first[0] != "chain" or first[1][1] == "in"
                else ("list", (first, condition), "and")
            )
        items = [first]
        while self.take(",", ";"):
            items.append(self.chain())
        self.expect("}")
        if len(items) == 1 and items[0][0] == "list":
            return ("set", items[0][1])
        return ("set", tuple(items))

    def line(self) -> Node:
        """\\overline: a segment keeps its letters, anything else is a conjugate."""
        body = self.argument()
        if body[0] == "mul" and all(n[0] == "sym" and n[1].isupper() for n in body[1]):
            return body
        return ("fn", "conj", (body,))

    def blackboard(self) -> Node:
        name = self.argument()
        return ("sym", f"\\mathbb{{{name[1]}}}") if name[0] == "sym" else name


def _assigns(node: Node) -> bool:
    return node[0] == "chain" and len(node[1]) == 3 and node[1][1] == "="


def _product(factors: list[Node]) -> Node:
    return factors[0] if len(factors) == 1 else ("mul", tuple(factors))


def _in_radians(node: Node) -> Node:
    """The argument of a trigonometric function, its degrees turned into radians."""
    if node[0] == "deg":
        return ("mul", (node[1], ("const", "pi"), num(Fraction(1, 180))))
    if node[0] in ("add", "mul"):
        return (node[0], tuple(_in_radians(part) for part in node[1]))
    if node[0] == "pow":
        return ("pow", _in_radians(node[1]), node[2])
    return node


def literal(digits: str) -> Node:
    """The exact value of a decimal literal; one beyond the digit limit stays an unknown named by its digits."""
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


def _repeating(text: str) -> Fraction:
    """0.1\\overline{6} = 0.1 + 6/90."""
    match = re.match(r"(\d*)\.(\d*)\\\w+\s*\{(\d+)\}", text)
    if match is None or len(text) > MAX_DIGITS:
        raise ParseError("not a repeating decimal")
    whole, fixed, period = match.groups()
    return Fraction(f"{whole or 0}.{fixed or 0}") + Fraction(
        int(period), (10 ** len(period) - 1) * 10 ** len(fixed)
    )


_TRIGONOMETRIC = frozenset(("sin", "cos", "tan", "cot", "sec", "csc"))
_COMMANDS: dict[str, Callable[[_Parser], Node]] = {
    **dict.fromkeys(("frac", "dfrac", "tfrac", "cfrac"), _Parser.fraction),
    **dict.fromkeys(("binom", "dbinom", "tbinom"), lambda p: ("fn", "binom", (p.argument(), p.argument()))),
    "sqrt": _Parser.root,
    "surd": _Parser.surd,
    "sum": lambda p: p.big_operator("sum"),
    "prod": lambda p: p.big_operator("prod"),
    "lim": _Parser.limit,
    "int": _Parser.integral,
    "begin": _Parser.environment,
    "{": _Parser.braces,
    "langle": lambda p: p.bracket("langle"),
    "lfloor": lambda p: p.between("rfloor", "floor"),
    "lceil": lambda p: p.between("rceil", "ceil"),
    "lvert": lambda p: p.between("rvert", "abs"),
    **dict.fromkeys(("overline", "bar"), _Parser.line),
    "mathbb": _Parser.blackboard,
    **dict.fromkeys(("overrightarrow", "vec", "hat", "widehat", "underline"), _Parser.argument),
}
_PRIMARY_COMMANDS = (
    frozenset(_COMMANDS)
    | frozenset(FUNCTIONS)
    | SYMBOL_COMMANDS
    | {"pi", "infty", "ldots", "dots", "cdots", "emptyset"}
)


def parse(text: str) -> Node:
    """The tree of a cleaned answer; ParseError unless the whole text is one."""
    if len(text) > MAX_LENGTH:
        raise ParseError(f"longer than {MAX_LENGTH} characters")
    parser = _Parser(tokenize(text))
    try:
        node = parser.answer()
    except (
        RecursionError
    ):  # the depth limit is far below Python's own unless the caller is nested deeply itself
        raise ParseError("nested too deeply") from None
    if parser.peek().kind != "end":
        raise ParseError(f"unexpected {parser.peek().text}")
    return node
