"""Arithmetic written out step by step, as the detailed solutions and the pre-training text show it.

Paper: section 3; the fine-grained steps that PRM800K's solutions have and MATH's leave out.
Choices [P]: a product of two long factors is split at the tens of the smaller one, a sum shows its running
totals, a greatest common divisor its divisions. Every function is exact and returns text or integers.
"""

from __future__ import annotations

import math
from fractions import Fraction


def frac(value: Fraction) -> str:
    r"""LaTeX of an exact fraction: 3, -2, \frac{3}{4}, -\frac{3}{4}."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{'-' if value < 0 else ''}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def times(a: int, b: int) -> str:
    """A product with its partial products written out: 23*47 is 47*23=47*20+47*3=940+141=1081."""
    if a < b and (a > 9 or b > 99):
        a, b = b, a
    if b < 10 < 100 <= a and a % 100:
        return f"{a}*{b}={a - a % 100}*{b}+{a % 100}*{b}={(a - a % 100) * b}+{a % 100 * b}={a * b}"
    if a > 10 and b > 10 and b % 10:
        return f"{a}*{b}={a}*{b - b % 10}+{a}*{b % 10}={a * (b - b % 10)}+{a * (b % 10)}={a * b}"
    return f"{a}*{b}={a * b}"


def plus(*terms: int) -> str:
    """A sum with its running totals written out: 12+35+48=47+48=95."""
    shown, terms_left = [], list(terms)
    while len(terms_left) > 1:
        shown.append("+".join(f"({t})" if t < 0 else str(t) for t in terms_left))
        terms_left = [terms_left[0] + terms_left[1], *terms_left[2:]]
    return "=".join([*shown, str(terms_left[0])])


def signed(value: int, symbol: str = "") -> str:
    """A term as it stands inside a sum: +3x, -x, +12, and nothing for 0."""
    if value == 0:
        return ""
    size = "" if abs(value) == 1 and symbol else str(abs(value))
    return f"{'-' if value < 0 else '+'}{size}{symbol}"


def euclid(a: int, b: int) -> list[str]:
    """The divisions of Euclid's algorithm, one a line."""
    lines = []
    a, b = max(a, b), min(a, b)
    while b:
        lines.append(f"{a}={a // b}*{b}+{a % b}.")
        a, b = b, a % b
    return lines


def reduced(top: int, bottom: int) -> list[str]:
    """Steps that reduce top/bottom, none where it is reduced already."""
    divisor = math.gcd(top, bottom)
    if divisor == 1:
        return []
    return [
        f"Both {top} and {bottom} are divisible by {divisor}: "
        f"{top}/{divisor}={top // divisor} and {bottom}/{divisor}={bottom // divisor}."
    ]


def square_part(n: int) -> tuple[int, int]:
    """n = outer^2 * inner with the largest outer."""
    outer = max(k for k in range(1, math.isqrt(n) + 1) if n % (k * k) == 0)
    return outer, n // (outer * outer)


def radical(outer: int, inner: int) -> str:
    """LaTeX of outer*sqrt(inner)."""
    if inner == 1:
        return str(outer)
    return f"{outer if outer > 1 else ''}\\sqrt{{{inner}}}"
