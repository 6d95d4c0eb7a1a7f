r"""Left-hand sides: what stands before an equals sign and only names the value behind it.

Paper: section 9 (`x = 5` answers as `5` does).
Choices: a name is a letter, a function of letters, words that neither deny nor restrict, and a quantity: an
operator or a pair of brackets around letters that do not occur in the value (P(X = 2), \det A, \bar x,
|A \cup B|). What could be solved for its letters (2x, x^2, |x|, x + y, \sin x) is an equation instead.
Names are looked for twice: quantities among the tokens, since most of them are no arithmetic, the others in
the tree.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import TYPE_CHECKING

from mathref.grading.numerals import literal, words_ahead
from mathref.grading.syntax import Node, ParseError, num
from mathref.grading.vocabulary import RELATIONS, SYMBOL_COMMANDS

if TYPE_CHECKING:
    from mathref.grading.latex import Parser

# ---------------------------------------------------------------- words
_DENIALS = re.compile(
    r"\b(?:not|no(?! of\b)|none|nor|never|neither|cannot|isn't|aren't|doesn't|don't|can't|than"
    r"|at (?:least|most)|more|fewer|except|excluding|excluded|exception|unless|without|besides|other"
    r"|undefined|discontinuous|discontinuity|inconsistent|impossible|singular"
    r"|diverges|divergent|fails)\b|\w (?:if|when|whenever|provided)\b"
    r"|^(?:half|twice|thrice|negative|minus)\b|(?<!\\)\b(?:times|plus|minus) \S"  # three times x = 12
)


def of_words(words: str) -> Node:
    """Words as a name; ParseError where they deny, restrict or change what follows: no solution unless
    x = 2.
    """
    if _DENIALS.search(words):
        raise ParseError("words that deny what they stand before")
    return ("sym", words)


# ---------------------------------------------------------------- among tokens
_GREEK = "|".join(sorted(SYMBOL_COMMANDS))
_LETTER = rf"(?:\\(?:vec|overline|hat) )?(?:[A-Za-z]|\\(?:{_GREEK})\b)(?: ')*(?: _ \S+)?"
_VECTOR = r"\\(?:vec [A-Za-z]|overrightarrow [A-Z] [A-Z])(?: _ \S+)?"
_VECTORS = rf"(?:(?:{_VECTOR}|[-+()]|\\(?:cdot|times))(?: |$))+"
_INSIDE = r"(?:[^()]|\((?:[^()]|\([^()]*\))*\))+"  # of brackets, with two more levels within
_FUNCTIONS = r"(?:\\[dt]?frac )?[f-hF-H] (?:(?:\\cdot|[-+*/]) )?[f-hF-H]"  # (f + g)(x)
_EVENT = r"(?:[^-+*/^()]|\^ [cC]\b)"
_SETS = r"(?:[A-Z'()^c ]|\\overline )*\\(?:cup|cap|setminus)\b(?:[A-Z'()^c ]|\\(?:cup|cap|overline)\b)+"
_QUANTITY = re.compile(
    "|".join(
        (
            rf"P \((?:{_EVENT}|\({_EVENT}+\))+\)",  # has no arithmetic, which P(x+1) has,
            rf"P \({_INSIDE} (?:[<>]=?|!?=|in) {_INSIDE}\)",  # unless it is a statement: P(X + Y > 2)
            rf"E \({_INSIDE}\)",
            rf"n \({_SETS}\)",
            rf"\| (?:{_SETS} |{_VECTORS})\|",
            r"\\\| [^|]+ \\\|",
            r"\( [A-Z](?: [A-Z])+ \)",  # [ABC], an area
            rf"(?P<applied>\( (?:{_LETTER} \\circ {_LETTER}|{_FUNCTIONS}) \) \({_INSIDE}\))",
            r"\\(?:sin|cos|tan|cot|sec|csc) (?:[A-Z]|\\angle(?: [A-Z])+)",  # of an angle of a triangle
            rf"\\(?:bar|overline|Delta) {_LETTER}",
            rf"(?=.*\\(?:cdot|times)){_VECTORS}",
            rf"(?:\\(?:det|deg|dim|gcd|lcm|max|min)|[a-z']{{2,}}(?: [a-z']+)*)(?: _(?: \\vec)? \S+)?"
            rf"(?: {_LETTER})*(?: \({_INSIDE}\))?",
        )
    )
)
_HEADS = frozenset(
    "P E n | [ ( bar overline Delta vec overrightarrow det deg dim gcd lcm max min"
    " sin cos tan cot sec csc".split()
)
_OF_NUMBERS = re.compile(r"\\?(?:gcd|lcm|max|min)\b")
_OPENING, _CLOSING = frozenset(("(", "[", "{", r"\{")), frozenset((")", "]", "}", r"\}"))
_ROUND = {"[": "(", "]": ")", "mid": "|"}  # E[X] is E(X)
MAX_TOKENS = 60  # of the left-hand side of a quantity


def _sides(p: Parser) -> tuple[int, int, int]:
    """Where the first equals sign of the chain that begins here stands, where the last, and where it ends;
    zeros where there is none.
    """
    first = last = depth = 0
    for end in range(p.index, len(p.tokens)):
        token = p.tokens[end]
        depth += (token.text in _OPENING) - (token.text in _CLOSING)
        if depth < 0 or token.kind == "end" or (not depth and token.text in (",", ";", "and", "or")):
            return (first, last, end) if first else (0, 0, 0)
        if not depth and token.kind in ("op", "cmd") and RELATIONS.get(token.text) in ("=", "~"):
            first, last = first or end, end
        elif not first and (end - p.index > MAX_TOKENS or (not depth and token.text in RELATIONS)):
            break
    return 0, 0, 0


def quantity(p: Parser) -> Node | None:
    r"""`P(X = 2)`, `\det A`, `\text{Var}(X)` as the whole left-hand side of an equation: a name."""
    if (p.peek().text not in _HEADS and p.peek().kind != "word") or words_ahead(p):
        return None
    first, last, end = _sides(p)
    tokens = [token for token in p.tokens[p.index : first] if token.text not in ("{", "}")]
    spelled = " ".join(
        _ROUND.get(t.text, RELATIONS.get(t.text, "\\" * (t.kind == "cmd") + t.text)) for t in tokens
    )
    spelled = spelled.removeprefix("the ")
    letters = {token.text for token in tokens if token.kind == "let"}
    found = _QUANTITY.fullmatch(spelled)
    if found is None or _DENIALS.search(spelled.partition("(")[0]):
        return None
    # gcd(12, 18) = 6 is a calculation, and gcd(12, x) = 6 is to be solved
    if any(token.kind == "num" for token in tokens) and (not letters or _OF_NUMBERS.match(spelled)):
        return None
    # What stands behind may be chained, P(A \cap B) = P(A) P(B) = 0.2; a function's value has its argument.
    if not found["applied"] and letters.intersection(token.text for token in p.tokens[last:end]):
        return None
    p.index = first
    return ("sym", spelled.replace(r"\overline", r"\bar"))


_ARITHMETIC = frozenset("phi varphi tau sigma mu".split())  # functions of whole numbers


def function(p: Parser) -> Node | None:
    """`p(x)`, `T(a, b)` or `p(2)` as the whole left-hand side of an equation names a function."""
    if (p.peek().kind != "let" and p.peek().text not in _ARITHMETIC) or p.peek(1).text != "(":
        return None
    end = 3
    while p.peek(end).text == "," and end < 7:
        end += 2
    arguments = [p.peek(k) for k in range(2, end, 2)]
    if p.peek(end).text != ")" or any(token.kind not in ("let", "num") for token in arguments):
        return None
    if p.peek(end + 1).text not in RELATIONS:
        return None
    name = p.peek().text
    p.index += end + 1
    values = tuple(("sym", t.text) if t.kind == "let" else literal(t.text) for t in arguments)
    return ("call", name, values)


# ---------------------------------------------------------------- in the tree
_SIZED = re.compile(r"[A-Zuvwz]")  # |z|, |v| and |A| are sizes, |x| = 5 is to be solved


def of(node: Node) -> Hashable:
    """The name that an assignment's left-hand side is, or None: x, f(x), (x,y), |AB|, AB, V_1:V_2, AB/CD."""
    if node[0] in ("sym", "call"):
        return node
    if node[0] == "const" and node[1] != "pi":
        return node
    if node[0] == "tuple" and all(of(part) for part in node[3]):
        return ("tuple", node[3])
    if node[0] == "ratio" and all(of(part) for part in node[1]):
        return node
    if node[0] == "matrix" and all(of(cell) for row in node[1] for cell in row):
        return node
    if node[0] == "fn" and node[1] == "abs" and (inner := of(node[2][0])):
        return node if inner[0] != "sym" or _SIZED.match(inner[1]) else None
    if node[0] in ("lim", "int", "sum", "prod", "diff") and _holds(node, "call"):  # of an unknown function
        return node
    if node[0] == "mul" and all(part[0] == "sym" for part in node[1]):
        letters = [part[1] for part in node[1]]
        segment = all(map(str.isupper, letters)) and len(set(letters)) == len(letters)  # but P(A)P(B)
        if segment or any(x.startswith(("\\angle", "\\triangle", "\\nabla")) for x in letters):
            return node
    if node[0] == "mul" and len(node[1]) == 2 and node[1][1][0] == "pow" and node[1][1][2] == num(-1):
        if all(part[0] == "mul" and of(part) for part in (node[1][0], node[1][1][1])):  # AB/CD
            return node
    return None


def of_vector(left: Node, right: Node) -> Hashable:
    r"""The name that arithmetic with letters is of a vector or matrix, or None: A^{-1}, a + b; but 2A = M is
    to be solved for A.
    """
    if not _is_vector(right) or left[0] not in ("add", "mul", "pow") or _is_vector(left):
        return None
    multiple = left[0] == "mul" and sum(_holds(part, "sym", "call") for part in left[1]) < 2
    return None if multiple else left


def _is_vector(node: Node) -> bool:
    """Whether a tree is a point or a matrix, or a sum or product with one."""
    if node[0] in ("add", "mul"):
        return any(map(_is_vector, node[1]))
    return node[0] == "matrix" or (node[0] == "tuple" and node[1] == "(")


def _holds(node: object, *kinds: str) -> bool:
    """Whether a tree of one of these kinds is somewhere in a tree."""
    return isinstance(node, tuple) and (
        node[:1] in [(k,) for k in kinds] or any(_holds(n, *kinds) for n in node)
    )


def mentions(node: object, name: Hashable) -> bool:
    """Whether a tree contains another, so that x = x + 1 is no assignment."""
    return node == name or (isinstance(node, tuple) and any(mentions(part, name) for part in node))
