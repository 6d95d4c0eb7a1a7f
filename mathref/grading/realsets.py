r"""Sets of real numbers: unions of intervals with exact end points, and inequalities solved into them.

Paper: section 9, step 4 (intervals).
Choices: a set is a sorted tuple of disjoint intervals (low, low_closed, high, high_closed); end points are
normal forms and are compared exactly. Polynomial inequalities are solved when their roots are rational or
quadratic, absolute values when they are of one linear expression; what cannot be solved is compared as an
inequality.
"""

from __future__ import annotations

from collections.abc import Hashable
from fractions import Fraction
from typing import TYPE_CHECKING

from mathref.grading import numeric
from mathref.grading import poly as polys
from mathref.grading.algebra import Normalizer
from mathref.grading.poly import HALF, INF, Gen, Poly, TooHard, add, constant, generator, scale

if TYPE_CHECKING:
    from mathref.grading.forms import Form

Interval = tuple[Poly, bool, Poly, bool]
RealSet = tuple[Interval, ...]

PLUS: Poly = generator(INF)
MINUS: Poly = scale(PLUS, -1)
EVERYTHING: RealSet = ((MINUS, False, PLUS, False),)
MAX_INTERVALS = 60


def infinite(poly: Poly) -> int:
    """1 or -1 for plus or minus infinity, else 0."""
    return 1 if poly == PLUS else -1 if poly == MINUS else 0


def compare(n: Normalizer, a: Poly, b: Poly) -> int:
    """-1, 0 or 1 as a < b, a = b, a > b; TooHard unless both are real constants."""
    if infinite(a) or infinite(b):
        return (infinite(a) > infinite(b)) - (infinite(a) < infinite(b))
    n.spend(20)
    left, right = polys.rational(a), polys.rational(b)
    if left is not None and right is not None:
        return (left > right) - (left < right)
    if n.difference_is_zero(a, b):
        return 0
    sign = numeric.sign(add(a, b, -1))
    if not sign:
        raise TooHard("end points without an order")
    return sign


def of(n: Normalizer, form: Form) -> RealSet | None:
    """The set of reals a form stands for: an interval, a finite set of constants, all reals; else None."""
    if form.kind == "reals":
        return form.parts
    try:
        if (
            form.kind == "tuple"
            and len(form.parts) == 2
            and all(part.kind == "scalar" for part in form.parts)
        ):
            low, high = form.parts[0].parts[0], form.parts[1].parts[0]
            closed = form.name[0] == "[", form.name[1] == "]"
            if compare(n, low, high) >= 0 or (closed[0] and infinite(low)) or (closed[1] and infinite(high)):
                return None
            return ((low, closed[0], high, closed[1]),)
        if form.kind == "set" and all(
            part.kind == "scalar" and not infinite(part.parts[0]) for part in form.parts
        ):
            return unite(n, tuple((p.parts[0], True, p.parts[0], True) for p in form.parts))
    except TooHard:
        return None
    return None


def unite(n: Normalizer, intervals: RealSet) -> RealSet:
    """The union, sorted, with overlapping and touching intervals merged."""
    if len(intervals) > MAX_INTERVALS:
        raise TooHard("too many intervals")
    rest = list(intervals)
    ordered: list[Interval] = []
    while rest:  # selection sort: comparisons are exact and may be costly, keys cannot be had
        first = rest[0]
        for other in rest[1:]:
            order = compare(n, other[0], first[0])
            if order < 0 or (order == 0 and other[1] and not first[1]):
                first = other
        rest.remove(first)
        ordered.append(first)
    merged: list[Interval] = []
    for interval in ordered:
        if merged:
            low, low_closed, high, high_closed = merged[-1]
            order = compare(n, interval[0], high)
            if order < 0 or (order == 0 and (interval[1] or high_closed)):
                end = compare(n, interval[2], high)
                if end > 0:
                    high, high_closed = interval[2], interval[3]
                elif end == 0:
                    high_closed = high_closed or interval[3]
                merged[-1] = (low, low_closed, high, high_closed)
                continue
        merged.append(interval)
    return tuple(merged)


def intersect(n: Normalizer, a: RealSet, b: RealSet) -> RealSet:
    """The intersection of two sorted disjoint sets."""
    if len(a) * len(b) > MAX_INTERVALS**2:
        raise TooHard("too many intervals")
    result = []
    for x in a:
        for y in b:
            order = compare(n, x[0], y[0])
            low, low_closed = (x[:2] if order > 0 else y[:2]) if order else (x[0], x[1] and y[1])
            order = compare(n, x[2], y[2])
            high, high_closed = (x[2:] if order < 0 else y[2:]) if order else (x[2], x[3] and y[3])
            order = compare(n, low, high)
            if order < 0 or (order == 0 and low_closed and high_closed):
                result.append((low, low_closed, high, high_closed))
    return unite(n, tuple(result))


def complement(n: Normalizer, a: RealSet) -> RealSet:
    """The reals outside a sorted disjoint set."""
    result = []
    low, closed = MINUS, False
    for start, start_closed, end, end_closed in a:
        order = compare(n, low, start)
        if order < 0 or (order == 0 and closed and not start_closed):
            result.append((low, closed, start, not start_closed))
        low, closed = end, not end_closed
    if infinite(low) <= 0:
        result.append((low, closed, PLUS, False))
    return tuple(result)


def same(n: Normalizer, a: RealSet, b: RealSet) -> bool:
    """Equality of two sorted disjoint sets."""
    return len(a) == len(b) and all(
        x[1] == y[1]
        and x[3] == y[3]
        and n.difference_is_zero(x[0], y[0])
        and n.difference_is_zero(x[2], y[2])
        for x, y in zip(a, b, strict=True)
    )


def key(a: RealSet) -> Hashable | None:
    """A key for a set; a single open interval has that of the pair (a,b), which it may be written as."""
    parts = []
    for low, low_closed, high, high_closed in a:
        ends = polys.canonical(low), polys.canonical(high)
        if None in ends:
            return None
        parts.append((ends[0], low_closed, ends[1], high_closed))
    if len(parts) == 1 and parts[0][1] is parts[0][3] is False:
        return ("tuple", "()", (parts[0][0], parts[0][2]))
    if all(low == high for low, _, high, _ in parts):  # a finite set, {} included
        return parts[0][0] if len(parts) == 1 else ("members", frozenset(low for low, _, _, _ in parts))
    return ("reals", tuple(parts))


def interval_key(form: Form) -> Hashable | None:
    """The key of a half-open or closed interval with constant end points, equal to that of the set it is."""
    if form.name == "()" or form.name == "&" or len(form.parts) != 2:
        return None
    try:
        members = of(Normalizer(), form)
    except ArithmeticError:
        return None
    return None if members is None else key(members)


# ---------------------------------------------------------------- inequalities
def solve(n: Normalizer, poly: Poly, operator: str, unknown: Gen) -> RealSet | None:
    """The reals where poly < 0, <= 0 or != 0, as a set in the one unknown; None where no method applies."""
    try:
        if any(gen == INF for mono in poly for gen, _ in mono):
            return _bounded_by_infinity(poly, operator)
        split = _absolute_value(n, poly, operator, unknown)
        if split is not None:
            return split
        poly, excluded = _clear(n, poly, unknown)
        by_degree = coefficients(poly, unknown)
        zeros = None if by_degree is None else roots(n, by_degree)
        if by_degree is None or zeros is None:
            return None
        points = unite(n, tuple((r, True, r, True) for r in zeros))
        if operator == "!=":
            return intersect(n, complement(n, points), complement(n, excluded))
        result = list(points) if operator == "<=" else []
        ends = [point[0] for point in points]
        # Between two neighbouring zeros a polynomial keeps its sign: one point in each gap decides.
        for low, high in zip([MINUS, *ends], [*ends, PLUS], strict=True):
            if _negative_between(n, by_degree, low, high):
                result.append((low, False, high, False))
        return intersect(n, unite(n, tuple(result)), complement(n, excluded))
    except TooHard:
        return None


def _bounded_by_infinity(poly: Poly, operator: str) -> RealSet | None:
    """x < oo and -oo < x hold for every real."""
    coefficient = poly.get(next(iter(PLUS)), 0)
    return EVERYTHING if coefficient < 0 and operator in ("<", "<=") else None


def _absolute_value(n: Normalizer, poly: Poly, operator: str, unknown: Gen) -> RealSet | None:
    """c |u| + d < 0 with constant c, d: u between -k and k, or outside, with k = -d/c."""
    absolutes = [m for m in poly if any(gen[:2] == ("f", "abs") for gen, _ in m)]
    if len(absolutes) != 1 or len(absolutes[0]) != 1:
        return None
    ((gen, exponent),) = absolutes[0]
    rest = {m: c for m, c in poly.items() if m != absolutes[0]}
    if exponent != 1 or any(g == unknown for m in rest for g, _ in m):
        return None
    inner, k = dict(gen[2]), scale(rest, Fraction(-1) / poly[absolutes[0]])
    if operator == "!=":
        parts = [solve(n, add(inner, k, s), "!=", unknown) for s in (1, -1)]
        return None if None in parts else intersect(n, *parts)
    # With c < 0 the inequality is |u| > k, the points outside; else |u| < k, those between.
    outside = poly[absolutes[0]] < 0
    parts = [
        solve(n, add(scale(inner, s * (-1 if outside else 1)), k, 1 if outside else -1), operator, unknown)
        for s in (1, -1)
    ]
    if None in parts:
        return None
    return unite(n, parts[0] + parts[1]) if outside else intersect(n, *parts)


def _clear(n: Normalizer, poly: Poly, unknown: Gen) -> tuple[Poly, RealSet]:
    """poly times even powers of its denominators, which keep its sign, and the zeros of those."""
    excluded: RealSet = ()
    lowest: dict[Gen, Fraction] = {}
    for mono in poly:
        for gen, exponent in mono:
            if exponent < 0 and gen[0] in ("S", "s"):
                lowest[gen] = min(exponent, lowest.get(gen, exponent))
    for gen, exponent in lowest.items():
        if exponent.denominator != 1:
            raise TooHard("root in a denominator")
        base = dict(gen[1]) if gen[0] == "S" else generator(gen)
        poly = n.times_power(poly, gen, -exponent + (-exponent) % 2)
        by_degree = coefficients(base, unknown)
        zeros = None if by_degree is None else roots(n, by_degree)
        if zeros is None:
            raise TooHard("zeros of a denominator")
        excluded = unite(n, excluded + tuple((r, True, r, True) for r in zeros))
    return poly, excluded


def coefficients(poly: Poly, unknown: Gen) -> list[Poly] | None:
    """Coefficients by degree of a polynomial in the unknown, or None."""
    by_degree: dict[int, Poly] = {}
    for mono, coefficient in poly.items():
        degree = dict(mono).get(unknown, Fraction(0))
        rest = frozenset(pair for pair in mono if pair[0] != unknown)
        if (
            degree.denominator != 1
            or not 0 <= degree <= 12
            or any(not polys.is_independent(g) for g, _ in rest)
        ):
            return None
        by_degree.setdefault(int(degree), {})[rest] = coefficient
    return [by_degree.get(k, {}) for k in range(max(by_degree, default=0) + 1)]


def roots(n: Normalizer, coefficients: list[Poly]) -> list[Poly] | None:
    """All real roots when they are rational or quadratic, else None."""
    degree = len(coefficients) - 1
    if degree == 0:
        return []
    if degree == 1:
        return [n.mul(scale(coefficients[0], -1), n.inverse(coefficients[1]))]
    if degree == 2:
        c, b, a = coefficients
        discriminant = add(n.mul(b, b), scale(n.mul(a, c), 4), -1)
        sign = numeric.sign(discriminant)
        if sign is None:
            return None
        if sign < 0:
            return []
        root, half = n.power(discriminant, HALF), n.inverse(scale(a, 2))
        return [n.mul(add(scale(b, -1), root, s), half) for s in (1, -1)]
    values = [polys.rational(c) for c in coefficients]
    if any(value is None for value in values):
        return None
    root = _rational_root([Fraction(value) for value in values])
    if root is None:
        return (
            []
            if degree % 2 == 0
            and all(v >= 0 for v in values)
            and all(v == 0 for v in values[1::2])
            and values[0]
            else None
        )
    quotient, carry = [], Fraction(0)
    for value in reversed(values):  # synthetic division
        carry = carry * root + value
        quotient.append(carry)
    others = roots(n, [constant(value) for value in reversed(quotient[:-1])])
    return None if others is None else [constant(root), *others]


def _rational_root(values: list[Fraction]) -> Fraction | None:
    """One rational root p/q of a polynomial, p dividing its last and q its first coefficient."""
    if values[0] == 0:
        return Fraction(0)
    scale_up = 1
    for value in values:
        scale_up *= value.denominator
    last, first = abs(int(values[0] * scale_up)), abs(int(values[-1] * scale_up))
    if last > 10**6 or first > 10**4:
        return None
    for q in (d for d in range(1, first + 1) if first % d == 0):
        for p in (d for d in range(1, min(last, 3000) + 1) if last % d == 0):
            for candidate in (Fraction(p, q), Fraction(-p, q)):
                total = Fraction(0)
                for value in reversed(values):
                    total = total * candidate + value
                if not total:
                    return candidate
    return None


def _negative_between(n: Normalizer, coefficients: list[Poly], low: Poly, high: Poly) -> bool:
    """The sign inside an interval that holds no root, at a rational point found between the floats of its
    ends.
    """
    bounds = [None if infinite(p) else numeric.real_value(p) for p in (low, high)]
    a, b = bounds
    if a is None and b is None:
        point = Fraction(0)
    elif a is None or b is None:
        point = (
            Fraction(round(b or 0)) - 1 - abs(round(b or 0))
            if a is None
            else Fraction(round(a)) + 1 + abs(round(a))
        )
    else:
        point = (Fraction(a) + Fraction(b)) / 2
    total: Poly = {}
    for coefficient in reversed(coefficients):
        total = add(scale(total, point), coefficient)
    sign = numeric.sign(total)
    if sign is None:
        raise TooHard("sign of a coefficient")
    return sign < 0
