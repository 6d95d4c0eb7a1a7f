r"""What whole answers in words say: sets of numbers, that there is no solution, ordinals.

Paper: section 9.
Choices: a phrase that names a value or a set is that value or set; of what remains, spellings of one phrase
are brought to one, and every other phrase equals only itself.
"""

from __future__ import annotations

import re

from mathref.grading import poly as polys
from mathref.grading import realsets
from mathref.grading.algebra import Normalizer
from mathref.grading.forms import Form, scalar
from mathref.grading.poly import constant
from mathref.grading.realsets import EVERYTHING, MINUS, PLUS, RealSet
from mathref.grading.syntax import Node
from mathref.grading.vocabulary import NUMBER_WORDS, ORDINALS

_ZERO = constant(0)
_SIGNS: dict[str | None, RealSet] = {
    None: EVERYTHING,
    "positive": ((_ZERO, False, PLUS, False),),
    "negative": ((MINUS, False, _ZERO, False),),
    "nonnegative": ((_ZERO, True, PLUS, False),),
    "nonpositive": ((MINUS, False, _ZERO, True),),
    "nonzero": ((MINUS, False, _ZERO, False), (_ZERO, False, PLUS, False)),
}
_NUMBERS = re.compile(
    r"(?:set of (?:all )?|all |every |any )(?:(?P<sign>(?:non(?: - )?)?(?:positive|negative|zero)) )?"
    r"(?:(?P<kind>real|integer|natural|rational|complex)(?:s| numbers?| values?)*(?: (?:of )?[a-z])?|numbers)"
    r"(?: (?P<which>except|but|other than|excluding|not equal to|greater than|less than)(?: for)?"
    r" (?P<minus>- )?(?P<point>\d{1,9}|[a-z]+))?"
)
_LETTERS = {"integer": "Z", "natural": "N", "rational": "Q", "complex": "C"}
_EMPTY = ("empty set", "null set", "no solution")
_SPELLINGS = {"dne": "does not exist", "limit does not exist": "does not exist"}
_NOTHING = re.compile(r"(?:there (?:is|are|exists?) )?no ((?:[a-z]+ )?[a-z]+?)s?(?: exists?)?")


def meaning(n: Normalizer, node: Node) -> Form:
    """The form of an answer that is words alone."""
    words = node[1]
    if words in ORDINALS:
        return scalar(constant(ORDINALS[words]))
    if match := _NOTHING.fullmatch(words):
        words = f"no {match[1]}"
    words = _SPELLINGS.get(words, words)
    if words in _EMPTY:
        return Form("set", ())
    match = _NUMBERS.fullmatch(words)
    return (match and _numbers(n, match)) or Form("text", (words,))


def _numbers(n: Normalizer, phrase: re.Match[str]) -> Form | None:
    """The set of numbers that a phrase names; None where it has no other notation."""
    kind, which, value = phrase["kind"], phrase["which"], NUMBER_WORDS.get(phrase["point"], phrase["point"])
    sign = phrase["sign"] and phrase["sign"].replace(" - ", "")
    if kind in _LETTERS:
        return None if sign or which else scalar(polys.generator(("s", rf"\mathbb{{{_LETTERS[kind]}}}")))
    if sign not in _SIGNS or not (kind or sign) or (which and not str(value).isdigit()):
        return None
    if which is None:
        return Form("reals", _SIGNS[sign])
    point = constant(-int(value) if phrase["minus"] else int(value))
    beside = {"greater than": ((point, False, PLUS, False),), "less than": ((MINUS, False, point, False),)}
    others = realsets.complement(n, ((point, True, point, True),))
    return Form("reals", realsets.intersect(n, _SIGNS[sign], beside.get(which, others)))
