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
from mathref.grading.vocabulary import ORDINALS

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
    r"(?P<kind>real|integer|natural|rational|complex)(?:s| numbers?| values?)*(?: (?:of )?[a-z])?"
    r"(?: (?:except|but|other than|excluding|not equal to)(?: for)? (?P<minus>- )?(?P<point>\d{1,9}))?"
)
_LETTERS = {"integer": "Z", "natural": "N", "rational": "Q", "complex": "C"}
_NOTHING = re.compile(r"(?:there (?:is|are|exists?) )?no ((?:[a-z]+ )?[a-z]+?)s?(?: exists?)?")


def meaning(n: Normalizer, node: Node) -> Form:
    """The form of an answer that is words alone."""
    words = node[1]
    if words in ORDINALS:
        return scalar(constant(ORDINALS[words]))
    if words in ("empty set", "null set"):
        return Form("set", ())
    if match := _NOTHING.fullmatch(words):
        return Form("text", (f"no {match[1]}",))
    match = _NUMBERS.fullmatch(words)
    if match is None:
        return Form("text", (words,))
    sign = match["sign"].replace(" - ", "") if match["sign"] else None
    if match["kind"] == "real" and sign in _SIGNS:
        point = constant(int((match["minus"] or "")[:1] + (match["point"] or "0")))
        others = realsets.complement(n, ((point, True, point, True),)) if match["point"] else EVERYTHING
        return Form("reals", realsets.intersect(n, _SIGNS[sign], others))
    if sign or match["point"] or match["kind"] == "real":
        return Form("text", (words,))
    return scalar(polys.generator(("s", rf"\mathbb{{{_LETTERS[match['kind']]}}}")))
