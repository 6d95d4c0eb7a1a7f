r"""The syntax tree of an answer: its kinds, and the few constructors every reader of LaTeX needs.

Paper: none.
Choices: trees are plain tuples, since they are hashable, immutable and quick to build. A tree is a tuple
whose first member is its kind:

    ("num", Fraction)  ("sym", name)  ("const", "pi" | "e" | "i" | "inf")  ("text", words)
    ("based", digits, base)
    ("add", nodes)  ("mul", nodes)  ("pow", base, exponent)  ("pm", sign, node)  ("deg", node)  ("mod", a, b)
    ("fn", name, args)          sin, ln, abs, fact, binom, root, floor ... evaluated by algebra.py
    ("call", name, args)        f(x), F_{n-1}: a function nothing is known about
    ("sum" | "prod", variable, low, high, body)  ("lim", variable, point, body)  ("diff", variable, body)
    ("int", low | None, high | None, variable, body)
    ("tuple", opening, closing, nodes)  ("set", nodes)  ("list", nodes, "," | "and" | "or")  ("ratio", nodes)
    ("matrix", rows)  ("cases", rows)  ("setop", "cup" | "cap" | "setminus", a, b)
    ("chain", (node, op, node, ...))  ("choice", letter, node)
    ("congruence", node, modulus)  ("clock", node, "am" | "pm")  ("quantity", node, words that tell it apart)
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

Node = tuple[Any, ...]


class ParseError(ValueError):
    """The text is not an answer this grammar knows; it is then compared as text."""


def num(value: int | Fraction) -> Node:
    """A rational literal."""
    return ("num", value)


def neg(node: Node) -> Node:
    """The negative of a tree."""
    return ("num", -node[1]) if node[0] == "num" else ("mul", (num(-1), node))


def divide(top: Node, bottom: Node) -> Node:
    """The quotient of two trees."""
    return ("mul", (top, ("pow", bottom, num(-1))))


def quotient(node: Node) -> tuple[Node, Node] | None:
    """Top and bottom of a tree that `divide` made."""
    factors = node[1] if node[0] == "mul" else ()
    if len(factors) == 2 and factors[1][0] == "pow" and factors[1][2] == num(-1):
        return factors[0], factors[1][1]
    return None


def product(factors: list[Node]) -> Node:
    """The product of trees; of one tree that tree."""
    return factors[0] if len(factors) == 1 else ("mul", tuple(factors))


def in_radians(node: Node) -> Node:
    """The argument of a trigonometric function, its degrees turned into radians."""
    if node[0] == "deg":
        return ("mul", (node[1], ("const", "pi"), num(Fraction(1, 180))))
    if node[0] in ("add", "mul"):
        return (node[0], tuple(in_radians(part) for part in node[1]))
    if node[0] == "pow":
        return ("pow", in_radians(node[1]), node[2])
    return node
