r"""Words around quantities: units that are dropped, words that are part of the value, words that tell apart.

Paper: section 9.
Choices: the question fixes the unit, so a noun after a number is dropped, whatever it is. Three kinds of
words are not: those that change the value (`million`, `squared`, `fourths`), those that turn the answer into
another one (`north`, `decrease`, `May`), and those of a list whose members carry different ones (2 hours and
30 minutes). The last two become names, as in an assignment: `5 miles north` is `5`, not `5 miles south`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mathref.grading import numerals
from mathref.grading.syntax import Node, ParseError, divide, num
from mathref.grading.vocabulary import (
    ABBREVIATIONS,
    FRACTION_WORDS,
    MEASURES,
    MULTIPLIERS,
    NOT_UNITS,
    NUMBER_WORDS,
    OPPOSITES,
    ORDINAL_ENDINGS,
    PRECISION,
    VALUE_WORDS,
)

if TYPE_CHECKING:
    from mathref.grading.latex import Parser

_POWERS = {"squared": 2, "cubed": 3}
_UNIT_LETTERS = frozenset("hms")  # after a slash or dot outside \text: 60 miles/h


def words(p: Parser) -> Node:
    """An element that is words alone."""
    found: list[str] = []
    while p.peek().kind in ("word", "let", "num") or p.at("-", "(", ")", "'"):
        if p.peek().kind == "word" and p.peek().text in ("and", "or"):
            break
        if p.at(")") and "(" not in found:
            break
        token = p.next()
        if found and found[-1].isdigit() and token.text in ORDINAL_ENDINGS:  # June 15th
            continue
        run = token.kind == "let" and p.tokens[p.index - 2].kind != "word"
        if run and not token.spaced and found:  # of a run that was read as a product
            found[-1] += token.text
        else:
            found.append(token.text)
    if not found:
        raise ParseError("a conjunction alone")
    part = found[0] == "a" and found[-1] in FRACTION_WORDS  # a third is not the third
    if len(found) > 1 and found[0].lower() in ("a", "an", "the") and not part:
        found = found[1:]
    if len(found) > 1 and found[-1] == "only":
        found.pop()
    return ("text", " ".join(found).lower())


def precision(p: Parser) -> str | None:
    """The relation that a word in front of a value stands for: about 5 is read as \\approx 5 is."""
    following = p.peek(1)
    if p.peek().kind != "word" or p.peek().text not in PRECISION:
        return None
    return PRECISION[p.peek().text] if following.kind != "word" or following.text in NUMBER_WORDS else None


# ---------------------------------------------------------------- words with a value
def at_times(p: Parser) -> bool:
    """Whether the word `times` multiplies here, as in 5 times -3; in "5 times" it is a noun."""
    following = p.peek(1)
    operand = following.kind in ("num", "let", "cmd") or following.text in ("-", "(")
    return p.peek().kind == "word" and p.peek().text == "times" and operand


def in_words(p: Parser, node: Node) -> Node:
    """The value of an operand together with the words behind it: 5 hundred thousand, 3 fourths, 5 squared."""
    while p.peek().kind == "word":
        word = p.peek().text
        if word == "and" and p.peek(1).text == "a" and (part := numerals.part_in_words(p)):  # 3 and a half
            return ("add", (node, part))
        if word in MULTIPLIERS:
            node = ("mul", (node, num(MULTIPLIERS[word])))
        elif word in FRACTION_WORDS and (word.endswith("s") or node == num(1)):
            node = divide(node, num(FRACTION_WORDS[word]))
        elif word in _POWERS and p.peek(1).kind != "word":  # 5 squared feet are an area
            node = ("pow", node, num(_POWERS[word]))
        else:
            break
        p.index += 1
    return node


# ---------------------------------------------------------------- words without one
def units(p: Parser) -> None:
    """Drop words after a quantity: units, nouns, percent and degree words.

    a.m. and p.m. stay, and so do words that say something else about the number ("5 is not the answer").
    """
    start = p.index
    if p.ended():
        return
    if p.at("frac") and [p.peek(k).kind for k in (2, 5)] == ["word"] * 2 and p.peek(6).text == "}":
        p.index += 7  # \frac{\text{m}}{\text{s}}
    if p.at("/") and p.peek(1).kind == "word" and len(p.peek(1).text) > 1 and _is_unit(p, 1):
        p.index += 1  # $18/day
    while _is_unit(p):
        p.dropped.append(p.next().text)
        if p.take("^", "**"):
            p.argument()
        if _joins_units(p):
            p.index += 1 + (p.peek(1).kind == "let")
    if p.index > start and p.starts_factor() and not at_smaller_unit(p):
        raise ParseError("an operand after words")


def at_smaller_unit(p: Parser) -> bool:
    """Whether another quantity follows a measured one: the 20 of 3 hours 20 minutes."""
    measured = p.index > 0 and all(
        word.kind == "word" and _stem(word.text) in _MEASURES for word in (p.tokens[p.index - 1], p.peek(1))
    )
    return measured and p.peek().kind == "num" and _stem(p.tokens[p.index - 1].text) != _stem(p.peek(1).text)


def _is_unit(p: Parser, offset: int = 0) -> bool:
    word, following = p.peek(offset).text, p.peek(offset + 1)
    if word in ("more", "less") and not (
        following.kind in ("end", "word") or following.text in (",", ";", ")")
    ):
        return False  # 5 less -3
    if len(word) == 1 and word.isupper() and following.text in ("+", "-", "="):
        return False  # 2\\mathrm{A} + 3 is no current
    if p.peek(offset).kind != "word" or word in VALUE_WORDS or word.replace(".", "") in NOT_UNITS:
        return False
    return word != "times" or not at_times(p)


def _joins_units(p: Parser) -> bool:
    """Whether a sign after a unit leads to another unit rather than to an operand: m/s, but not cm - x."""
    following = p.peek(1)
    if following.kind == "word":
        long_enough = len(following.text) > 1 and following.text not in VALUE_WORDS
        return p.at("/", "cdot") or (p.at("-") and long_enough)
    return following.kind == "let" and following.text in _UNIT_LETTERS and p.at("/", "cdot")


def marked(p: Parser, node: Node, start: int) -> Node:
    """The node with those of the words dropped since `start` that tell two answers apart."""
    if len(p.dropped) == start or node[0] == "quantity":
        return node
    marks = sorted({OPPOSITES[word] for word in p.dropped[start:] if word in OPPOSITES})
    return ("quantity", node, tuple(marks)) if marks else node


def told_apart(items: tuple[Node, ...], dropped: list[list[str]]) -> tuple[Node, ...]:
    """The members of a list, named by the words after them where those differ: 2 hours and 30 minutes."""
    names = [tuple(map(_stem, member)) for member in dropped]
    if len({name for name in names if name}) < 2:
        return items
    named = []
    for item, name in zip(items, names, strict=True):
        bare = item[1] if item[0] == "quantity" else item
        named.append(item if item[0] in ("chain", "text") else ("quantity", bare, name))
    return tuple(named)


def _stem(word: str) -> str:
    """One spelling for singular, plural and abbreviation: inch, inches and in, foot, feet and ft."""
    singular = word.removesuffix("s")
    return ABBREVIATIONS.get(singular, singular).removesuffix("e")


_MEASURES = frozenset(map(_stem, MEASURES))
