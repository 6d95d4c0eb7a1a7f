r"""Numerals: literals, repeating decimals, mixed numbers, number words, bases and the two ways to choose.

Paper: section 9.
Choices: every numeral is read exactly, none as a float. A numeral to a base stays what it is, since the base
is part of the answer. `C(5,2)`, `{}_5C_2` and `5C2` are binomials; `P(5,2)` is left alone, because it may as
well be a point or a probability.
"""

from __future__ import annotations

import itertools
import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING

from mathref.grading.syntax import Node, ParseError, divide, neg, num
from mathref.grading.vocabulary import FRACTION_WORDS, MULTIPLIERS, NUMBER_WORDS, RELATIONS

if TYPE_CHECKING:
    from mathref.grading.latex import Parser
    from mathref.grading.lexer import Token

MAX_DIGITS = 4_000  # of one literal; below Python's own limit of 4,300 for int()


# ---------------------------------------------------------------- digits
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


_PERIOD = re.compile(r"(\d*)\.(\d*)(?: ?\\[a-z]+ ?(?:\{(\d+)\}|(\d))(?!\d| ?\\(?:bar|over))|\((\d+)\))")
_WRITTEN_TWICE = re.compile(r"(\d*)\.(\d*?)(\d+?)\3+(?:\.\.\.|\\\w+)$")


def repeating(text: str) -> Fraction | None:
    r"""0.1\overline{6} = 0.1 + 6/90; also 0.1\dot{6}, 0.1(6), and 0.1666... with its period written at least
    twice; None for a decimal that breaks off without one, 1.414...
    """
    if len(text) > 200:
        raise ParseError("repeating decimal too long")
    text = _DOTTED.sub(lambda m: "(" + m.group(1) + (m.group(2) or "") + (m.group(3) or "") + ")", text)
    match = _PERIOD.match(text) or _WRITTEN_TWICE.match(text)
    if match is None:
        return None
    whole, fixed, period = match.group(1), match.group(2), match.group(match.lastindex)
    return Fraction(f"{whole or 0}.{fixed or 0}") + Fraction(
        int(period), (10 ** len(period) - 1) * 10 ** len(fixed)
    )


# ---------------------------------------------------------------- numerals among tokens
def first_digits(p: Parser, whole: bool) -> Node:
    r"""One digit of a number or all before its point; a mere stop goes (\frac12.), further digits stay."""
    token = p.peek()
    digits = re.match(r"\d+" if whole else r"\d", token.text).group()
    rest = token.text[len(digits) :]
    if rest in ("", "."):
        p.index += 1
    elif rest[0].isdigit():
        p.tokens[p.index] = token._replace(text=rest, spaced=False)
    else:
        raise ParseError("a decimal where one digit is read")
    return literal(digits)


def broken_off(p: Parser) -> Node | None:
    """A decimal that breaks off without a period, 1.414..., which only approximates the side before it."""
    signed = p.at("-")
    token = p.peek(signed)
    if token.kind != "repeating" or repeating(token.text) is not None:
        return None
    p.index += signed + 1
    return ("text", signed * "-" + token.text)


def minutes(p: Parser, degrees: Node) -> Node:
    """Degrees with the minutes and seconds of arc behind them: 36° 52' 12''."""
    for size in (1, 2):
        signs = itertools.takewhile("'".__eq__, (p.peek(k).text for k in (1, 2, 3)))
        if degrees[0] in ("num", "add") and p.peek().kind == "num" and len(list(signs)) == size:
            degrees = ("add", (degrees, divide(literal(p.peek().text), num(60**size))))
            p.index += 1 + size
    return degrees


def number(p: Parser) -> Node:
    """A literal with what may follow it: a base, a fraction that makes it mixed, `C2`."""
    token = p.next()
    if token.kind == "repeating":
        if (value := repeating(token.text)) is None:
            raise ParseError("a decimal that breaks off")
        return num(value)
    whole = token.text.isdigit()
    if (whole or token.kind == "digits") and (base := _named_base(p)):
        return _to_base(token.text, base)
    if p.at("_") if whole else token.kind == "digits":
        return based(p, token.text)
    value = literal(token.text)
    if value[0] == "num" and value[1].denominator == 1 and whole:
        if p.ended():
            return value
        letter = p.peek()
        if letter.text in ("C", "P") and not letter.spaced:
            if p.peek(1).kind == "num" and not p.peek(1).spaced:
                p.index += 2
                return selection(letter.text, value, literal(p.peek(-1).text))
        value = mixed(p, value)
    return value


def mixed(p: Parser, whole: Node) -> Node:
    r"""1\frac{1}{2} and 1 1/2 are sums; a product needs a sign between its factors."""
    if p.at("frac", "dfrac", "tfrac", "cfrac"):
        start = p.index
        part = p.primary()
        if part[0] == "num" and part[1] > 0:
            return ("add", (whole, part))
        p.index = start
    # The blank counts: 1 1/2 is mixed, 11/2 is not.
    top, bottom = p.peek(), p.peek(2)
    if top.kind == bottom.kind == "num" and top.spaced and p.peek(1).text == "/":
        if top.text.isdigit() and bottom.text.isdigit():
            p.index += 3
            return ("add", (whole, divide(literal(top.text), literal(bottom.text))))
    return whole


def based(p: Parser, digits: str) -> Node:
    r"""`2516_8`, `204_{\text{five}}`: a numeral to a base, which is not its digits read to base ten."""
    p.expect("_")
    start = p.index
    if p.take("{") and (base := _named_base(p)) and p.take("}"):
        return _to_base(digits, base)
    p.index = start
    return _to_base(digits, p.argument(whole=True))


def _named_base(p: Parser) -> Node | None:
    """Consume a base in words: 4210 base 5, 4210 (base five), the index of 4210_{\\text{base 5}}."""
    start, bracket = p.index, p.take("(")
    p.index += (p.peek().kind, p.peek().text) == ("word", "in")
    name, value = p.peek(), p.peek(1)
    if (name.kind, name.text) == ("word", "base"):
        base = int(value.text[:3]) if value.kind == "num" and value.text.isdigit() else None
        base = NUMBER_WORDS.get(value.text, base)
        p.index += 2
        if base is not None and (not bracket or p.take(")")):
            return num(base)
    p.index = start
    return None


def _to_base(digits: str, base: Node) -> Node:
    """The numeral with these digits; ParseError where there is none."""
    if base[0] != "num" or base[1].denominator != 1:
        raise ParseError("not the base of a numeral")
    if base[1] <= 12 and re.fullmatch(r"\d+C", digits):  # C is no digit there: 5C_2
        return selection("C", literal(digits[:-1]), base)
    if not 2 <= base[1] <= 36:
        raise ParseError("not the base of a numeral")
    return literal(digits) if base[1] == 10 and digits.isdigit() else ("based", digits, int(base[1]))


def lettered(p: Parser) -> Node | None:
    """ABBA_{12}: capitals before an index are the digits of a numeral; two may be a segment, as in AB_1."""
    first, previous, end = p.peek(), p.tokens[p.index - 1], 1
    if not first.text.isupper() or (p.index and previous.text.isupper() and not first.spaced):
        return None  # within a run of capitals, which was looked at from its beginning
    while p.peek(end).kind == "let" and p.peek(end).text.isupper() and not p.peek(end).spaced:
        end += 1
    if end < 2 or p.peek(end).text != "_":
        return None
    start, p.index = p.index, p.index + end
    digits = "".join(token.text for token in p.tokens[start : p.index])
    try:
        return based(p, digits)
    except ParseError:
        if end > 2:
            raise
        p.index = start
        return None


def selection(letter: str, top: Node, bottom: Node) -> Node:
    """nCk, a binomial, or nPk = n! / (n - k)!."""
    if letter == "C":
        return ("fn", "binom", (top, bottom))
    rest = ("add", (top, neg(bottom)))
    return divide(("fn", "fact", (top,)), ("fn", "fact", (rest,)))


def indexed_selection(p: Parser) -> Node:
    r"""{}_5C_2, _5C_2, {}^5C_2 and the same with P: an operand that begins with an index."""
    if p.take("{"):
        p.expect("}")
    if not p.take("_", "^"):
        raise ParseError("an empty group")
    if p.peek().kind == "digits":  # 5C before an underscore looks like a numeral to a base
        node = number(p)
        if node[:2] != ("fn", "binom"):
            raise ParseError("an index without an operand")
        return node
    top, letter = p.argument(), p.next().text
    if letter not in ("C", "P"):
        raise ParseError("an index without an operand")
    p.expect("_")
    return selection(letter, top, p.argument(whole=True))


def called_selection(p: Parser) -> Node | None:
    """C(5,2) with whole numbers, the first not the smaller; the letter is consumed already."""
    top, bottom = p.peek(1), p.peek(3)
    if [p.peek(k).text for k in (0, 2, 4)] != ["(", ",", ")"] or not (top.text + bottom.text).isdigit():
        return None
    if len(top.text) > 9 or len(bottom.text) > 9 or int(top.text) < int(bottom.text):
        return None
    p.index += 5
    return selection("C", literal(top.text), literal(bottom.text))


# ---------------------------------------------------------------- values told twice
_LEADING = frozenset("or about approximately approx ie = equals".split())
_IN_WORDS = frozenset((*NUMBER_WORDS, *FRACTION_WORDS, *MULTIPLIERS))
_CLOTHES = {  # what a value wears, and what it may wear beside it; 2(3) and \frac12(4) are products
    "words": ("percent", "fraction", "decimal", "whole"),
    "percent": ("words", "fraction", "decimal", "whole"),
    "fraction": ("words", "percent", "decimal"),
    "decimal": ("words", "percent", "fraction"),
    "whole": ("words", "percent"),
}


# What a member of a list, or a side, stands between; a gloss is one of a whole one.
_BETWEEN = frozenset((",", ";", "and", "or", *RELATIONS))
_BEFORE = _BETWEEN | {"(", "[", "{", r"\{"}
_BEHIND = _BETWEEN | {")", "]", "}", r"\}"}


def told_again(p: Parser, start: int, value: Node) -> bool:
    r"""Consume a bracket that tells the value before it again, in other clothes: five (5), \frac12 (50\%).
    The value begins at the token `start`. ParseError where the bracket tells another one: 5 (six).
    """
    opening, told = p.index, _rational(value)
    first = opening + 1 + (p.peek(1).text in _LEADING)
    end = first
    while end < first + 8 and p.tokens[end].kind != "end" and p.tokens[end].text not in ("(", ")"):
        end += 1
    clothes, gloss = _clothes(p.tokens[start:opening]), _clothes(p.tokens[first:end])
    if told is None or p.tokens[end].text != ")" or gloss not in _CLOTHES[clothes]:
        return False
    before = start - (start > 0 and p.tokens[start - 1].text == "-") - 1
    alone = before < 0 or p.tokens[before].text in _BEFORE
    following = p.tokens[end + 1]
    if not alone or not (following.kind in ("end", "word") or following.text in _BEHIND):
        return False  # a factor of a term: \frac12(0.5)(3)
    p.index, dropped = first, len(p.dropped)
    again = _rational(p.nested(lambda: p.bracket("(")))
    del p.dropped[dropped:]
    if again is not None:
        if "percent" in (clothes, gloss):
            told, again = (told, again / 100) if gloss == "percent" else (told / 100, again)
        signed = -told if start and p.tokens[start - 1].text == "-" else told
        if again in (told, signed) or abs(told - again) <= _half_a_place(p.tokens[first], gloss):
            return True
    if again is not None and {"words", "percent"}.intersection((clothes, gloss)):
        raise ParseError("another value in words or percent")
    p.index = opening
    return False


def _clothes(tokens: list[Token]) -> str:
    """How a number is written."""
    texts = {token.text for token in tokens}
    if texts & _IN_WORDS:
        return "words"
    if texts & {"%", "percent"}:
        return "percent"
    if texts & {"/", "frac", "dfrac", "tfrac"}:
        return "fraction"
    return "decimal" if any("." in text for text in texts) else "whole"


def _half_a_place(token: Token, clothes: str) -> Fraction:
    """By how much a number told again may be rounded: half a unit of its last place, of two or more."""
    places = len(token.text.partition(".")[2]) + 2 * (clothes == "percent")
    return Fraction(1, 2 * 10**places) if token.kind == "num" and 2 <= places < 99 else Fraction(0)


def _rational(node: Node) -> Fraction | None:
    """The value of a plain number in a tree, else None."""
    if node[0] == "num":
        return Fraction(node[1])
    if node[0] == "pow" and node[2] == num(-1):
        bottom = _rational(node[1])
        return 1 / bottom if bottom else None
    if node[0] not in ("add", "mul"):
        return None
    parts = [_rational(part) for part in node[1]]
    if None in parts:
        return None
    return sum(parts, Fraction(0)) if node[0] == "add" else math.prod(parts, start=Fraction(1))


# ---------------------------------------------------------------- number words
def words_ahead(p: Parser) -> bool:
    """Whether a number in words begins here."""
    if p.peek().text in ("negative", "minus"):
        return p.peek(1).text in NUMBER_WORDS or p.peek(1).kind == "num"
    return p.peek().kind == "word" and p.peek().text in NUMBER_WORDS


def number_words(p: Parser) -> Node:
    """`one hundred twenty-three`, `two thirds`, `three and a half`, `negative 5`."""
    if not words_ahead(p):
        raise ParseError("a word where an operand was expected")
    if p.peek().text in ("negative", "minus"):
        p.index += 1
        return neg(number(p) if p.peek().kind == "num" else number_words(p))
    value = num(_whole_words(p))
    if p.peek().text in FRACTION_WORDS:
        bottom = FRACTION_WORDS[p.next().text]
        if value[1] >= 20 and value[1] % 10 == 0 and bottom < 10:
            raise ParseError("twenty-fifths or twenty fifths")
        return divide(value, num(bottom))
    return ("add", (value, part)) if (part := part_in_words(p)) else value


def part_in_words(p: Parser) -> Node | None:
    """`and a half`, `and two-thirds` after a whole number."""
    hyphen = p.peek(2).text == "-"
    top = 1 if p.peek(1).text == "a" else NUMBER_WORDS.get(p.peek(1).text)
    bottom = FRACTION_WORDS.get(p.peek(2 + hyphen).text)
    if p.peek().text != "and" or top is None or bottom is None:
        return None
    p.index += 3 + hyphen
    return ("num", Fraction(top, bottom))


def _whole_words(p: Parser) -> int:
    """The whole number that a run of number words names; ParseError for a mere row of numbers (five six)."""
    total, group, room = 0, 0, 100  # room: what the next word has to stay below
    while p.peek().text in NUMBER_WORDS or p.peek().text in MULTIPLIERS:
        word = p.next().text
        if word in NUMBER_WORDS:
            value = NUMBER_WORDS[word]
            if value >= room:
                raise ParseError("number words that are no number")
            group, room = group + value, 10 if value >= 20 else 0
        elif word == "hundred":
            group, room = group * 100, 100
        else:
            total, group, room = total + group * MULTIPLIERS[word], 0, 100
        if p.at("-") and p.peek(1).text in (*NUMBER_WORDS, *FRACTION_WORDS):
            p.index += 1
        if p.peek().text == "and" and p.peek(1).text in NUMBER_WORDS and word in MULTIPLIERS:
            p.index += 1
    return total + group
