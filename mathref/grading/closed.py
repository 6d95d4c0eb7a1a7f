r"""Closed forms found here: sums, derivatives, integrals and limits of the shapes that answers have.

Paper: section 9.
Choices: exact and bounded like the rest of the normal forms, so that a verdict on `\sum_{k=1}^{n} k` does not
hang on a second process and its clock. What has none of the shapes below gives None and is left to
`calculus.py`. The variable is bound to a generator of its own, which no answer can spell.

    sums          polynomial times geometric terms; rational terms that telescope; also to infinity,
                  and there the series of e^r and of even powers of 1/k
    derivatives   everything made of powers, exponentials, logarithms, sine, cosine and arcus tangent
    integrals     term by term: powers of a linear expression, its sine, cosine and exponential
    limits        by continuity, by l'Hopital's rule, and of rational functions at infinity
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from fractions import Fraction

from mathref.grading import numeric, realsets
from mathref.grading.algebra import Normalizer
from mathref.grading.functions import logarithm
from mathref.grading.poly import (
    ONE,
    PI,
    E,
    Gen,
    Mono,
    Poly,
    TooHard,
    Undefined,
    add,
    constant,
    generator,
    integer,
    key,
    rational,
    scale,
)
from mathref.grading.syntax import Node

V: Gen = ("s", "#v")  # the bound variable; no answer can spell this name
MAX_POWER = 12  # of the variable in a summand
MAX_SHIFT = 60  # between the poles of a telescoping summand
MAX_ROUNDS = 6  # of l'Hopital's rule
_ZETA = {Fraction(-2): Fraction(1, 6), Fraction(-4): Fraction(1, 90), Fraction(-6): Fraction(1, 945)}
_CONTINUOUS = frozenset(("sin", "cos", "arctan", "abs"))


def mentions(value: Hashable) -> bool:
    """Whether the bound variable occurs in a generator, monomial or key."""
    return value == V or (isinstance(value, tuple | frozenset) and any(map(mentions, value)))


def _split(mono: Mono) -> tuple[list[tuple[Gen, Fraction]], Mono]:
    """The factors of a monomial with the bound variable, and the rest."""
    inner = [pair for pair in mono if mentions(pair[0])]
    return inner, mono - frozenset(inner)


# ---------------------------------------------------------------- substitution and derivatives
def substitute(n: Normalizer, poly: Poly, value: Poly) -> Poly:
    """poly with `value` for the bound variable; Undefined at a pole."""
    total: Poly = {}
    for mono, coefficient in poly.items():
        inner, rest = _split(mono)
        term: Poly = {rest: coefficient}
        for gen, exponent in inner:
            term = n.mul(term, n.power(_substituted(n, gen, value), exponent))
        total = add(total, term)
    return total


def _substituted(n: Normalizer, gen: Gen, value: Poly) -> Poly:
    """The value of one generator; functions that are not continuous have no limit by substitution."""
    if gen == V:
        return value
    if gen[0] == "S":
        return substitute(n, dict(gen[1]), value)
    if gen[0] == "ln":
        return logarithm(n, substitute(n, dict(gen[1]), value))
    if gen[0] == "X":
        base = _substituted(n, gen[1], value) if mentions(gen[1]) else n.power_of_generator(gen[1], ONE, ONE)
        if gen[1] == ("c", "-1"):
            base = constant(-1)
        return n.exponential(base, substitute(n, {gen[2]: 1}, value))
    if gen[0] == "f" and gen[1] in _CONTINUOUS:
        return n.function(gen[1], [substitute(n, dict(argument), value) for argument in gen[2:]])
    raise TooHard("no substitution in this function")


def derivative(n: Normalizer, poly: Poly) -> Poly:
    """d/dv, by the product and chain rules."""
    total: Poly = {}
    for mono, coefficient in poly.items():
        for gen, exponent in _split(mono)[0]:
            rest = {mono - {(gen, exponent)}: coefficient * exponent}
            lowered = n.power_of_generator(gen, ONE, exponent - 1) if exponent != 1 else constant(1)
            total = add(total, n.mul(n.mul(rest, lowered), _derivative_of(n, gen)))
    return total


def _derivative_of(n: Normalizer, gen: Gen) -> Poly:
    """The derivative of one generator; TooHard for a function without a rule here."""
    if gen == V:
        return constant(1)
    if gen[0] == "S":
        return derivative(n, dict(gen[1]))
    if gen[0] == "ln":
        return n.mul(derivative(n, dict(gen[1])), n.inverse(dict(gen[1])))
    if gen[0] == "X" and gen[1] != ("c", "-1"):  # (b^u)' = b^u (u' ln b + u b'/b)
        base, power = generator(gen[1]), {gen[2]: 1}
        slope = n.mul(logarithm(n, base), derivative(n, power))
        if mentions(gen[1]):
            slope = add(slope, n.mul(power, n.mul(_derivative_of(n, gen[1]), n.inverse(base))))
        return n.mul(generator(gen), slope)
    if gen[0] == "f" and gen[1] in ("sin", "cos", "arctan"):
        inner = dict(gen[2])
        if gen[1] == "arctan":
            slope = n.inverse(add(constant(1), n.mul(inner, inner)))
        else:
            slope = n.function("cos", [inner]) if gen[1] == "sin" else scale(n.function("sin", [inner]), -1)
        return n.mul(slope, derivative(n, inner))
    raise TooHard("no derivative of this function")


# ---------------------------------------------------------------- integrals
def _slope(n: Normalizer, inner: Poly) -> Poly:
    """k of an inner k v + m; TooHard unless it is linear."""
    slope = derivative(n, inner)
    if not slope or any(mentions(mono) for mono in slope):
        raise TooHard("not linear")
    return slope


def _antiderivative(n: Normalizer, mono: Mono, ends: tuple[Poly, Poly] | None) -> Poly:
    """Of one term: u^e, sin u, cos u or b^u with u linear, and no singularity of it between the ends."""
    inner, rest = _split(mono)
    if not inner:
        return n.mul({rest: 1}, generator(V))
    if len(inner) > 1:
        raise TooHard("a product of functions")
    gen, exponent = inner[0]
    if gen == V or gen[0] == "S":
        base = generator(V) if gen == V else dict(gen[1])
        if ends and (exponent < 0 or exponent.denominator > 1):
            allowed = (1,) if exponent <= -1 else (0, 1)
            if any(numeric.sign(substitute(n, base, end)) not in allowed for end in ends):
                raise TooHard("a singularity may lie between the ends")
        raised = (
            logarithm(n, base) if exponent == -1 else scale(n.power(base, exponent + 1), 1 / (exponent + 1))
        )
        slope = _slope(n, base)
    elif gen[0] == "f" and gen[1] in ("sin", "cos") and exponent == 1:
        base = dict(gen[2])
        raised = n.function("sin", [base]) if gen[1] == "cos" else scale(n.function("cos", [base]), -1)
        slope = _slope(n, base)
    elif gen[0] == "X" and not mentions(gen[1]) and gen[1] != ("c", "-1"):
        raised = generator(gen, exponent)
        slope = n.mul(scale(_slope(n, {gen[2]: 1}), exponent), logarithm(n, generator(gen[1])))
    else:
        raise TooHard("no antiderivative of this function")
    return n.mul(n.mul({rest: 1}, raised), n.inverse(slope))


def _integral(n: Normalizer, low: Poly | None, high: Poly | None, body: Poly) -> Poly | None:
    """Term by term; without ends the antiderivative itself, its constant left out."""
    ends = None
    if low is not None and high is not None:
        if realsets.infinite(low) or realsets.infinite(high):
            return None
        ends = low, high
    total: Poly = {}
    for mono, coefficient in body.items():
        total = add(total, _antiderivative(n, mono, ends), coefficient)
    return total if ends is None else add(substitute(n, total, ends[1]), substitute(n, total, ends[0]), -1)


# ---------------------------------------------------------------- limits
def _fraction(n: Normalizer, poly: Poly) -> tuple[Poly, Poly]:
    """(numerator, denominator) of poly in the bound variable."""
    lowest: dict[Gen, Fraction] = {}
    for mono in poly:
        for gen, exponent in _split(mono)[0]:
            if exponent < 0:
                lowest[gen] = min(exponent, lowest.get(gen, exponent))
    bottom = constant(1)
    for gen, exponent in lowest.items():
        poly, bottom = n.times_power(poly, gen, -exponent), n.times_power(bottom, gen, -exponent)
    return poly, bottom


def _limit_of_power(n: Normalizer, point: Poly, body: Poly) -> Poly | None:
    """f^g with f -> 1 tends to e^(lim g (f - 1)); every base in the one term has the exponent g."""
    ((mono, coefficient),) = body.items()
    inner, rest = _split(mono)
    base, powers = constant(1), {gen[2] for gen, _ in inner if gen[0] == "X"}
    if len(powers) != 1 or any(gen[0] != "X" for gen, _ in inner):
        return None
    for gen, exponent in inner:
        base = n.mul(base, n.power_of_generator(gen[1], ONE, exponent))
    growth = add(base, constant(1), -1)
    if _limit(n, point, growth) != {}:
        return None
    slope = _limit(n, point, n.mul({powers.pop(): 1}, growth))
    return None if slope is None else n.mul({rest: coefficient}, n.exponential(generator(E), slope))


def _limit(n: Normalizer, point: Poly, body: Poly) -> Poly | None:
    """By substitution into numerator and denominator, differentiated while both vanish (l'Hopital)."""
    if len(body) == 1 and any(gen[0] == "X" and mentions(gen[1]) for mono in body for gen, _ in mono):
        return _limit_of_power(n, point, body)
    top, bottom = _fraction(n, body)
    if realsets.infinite(point):
        return _limit_at_infinity(n, realsets.infinite(point), top, bottom)
    for _ in range(MAX_ROUNDS):
        above, below = substitute(n, top, point), substitute(n, bottom, point)
        if not n.difference_is_zero(below, {}):
            return n.mul(above, n.inverse(below))
        if not n.difference_is_zero(above, {}):
            return None  # infinite, of a sign that depends on the side
        top, bottom = derivative(n, top), derivative(n, bottom)
    return None


def _limit_at_infinity(n: Normalizer, sign: int, top: Poly, bottom: Poly) -> Poly | None:
    """Of a rational function: the leading terms decide."""
    above, below = realsets.coefficients(top, V), realsets.coefficients(bottom, V)
    if above is None or below is None:
        return None
    excess = len(above) - len(below)
    if excess < 0:
        return {}
    ratio = n.mul(above[-1], n.inverse(below[-1]))
    if excess == 0:
        return ratio
    direction = numeric.sign(ratio)
    return None if not direction else scale(realsets.PLUS, direction * sign**excess)


# ---------------------------------------------------------------- sums
def _power_sum(n: Normalizer, m: int, end: Poly) -> Poly:
    """P_m(N) = 1^m + ... + N^m by sum_{j<=m} C(m+1, j) P_j(N) = (N+1)^{m+1} - 1."""
    known: list[Poly] = []
    following = add(end, constant(1))
    for degree in range(m + 1):
        total = add(n.power(following, degree + 1), constant(1), -1)
        for j, lower in enumerate(known):
            total = add(total, lower, -math.comb(degree + 1, j))
        known.append(scale(total, Fraction(1, degree + 1)))
    return known[m]


def _tail(n: Normalizer, m: int, ratio: Poly, low: Poly) -> Poly:
    """T_m(a) with T_m(a) - T_m(b + 1) = sum_{k=a}^{b} k^m r^k for r != 1; the sum to infinity for |r| < 1.

    (1 - r) T_m(a) = a^m r^a - sum_{j<m} (-1)^{m-j} C(m, j) T_j(a + 1), since k^m - (k-1)^m has lower degree.
    """
    total = n.mul(n.power(low, m) if m else constant(1), n.exponential(ratio, low))
    for j in range(m):
        sign = -1 if (m - j) % 2 == 0 else 1
        total = add(total, _tail(n, j, ratio, add(low, constant(1))), sign * math.comb(m, j))
    return n.mul(total, n.inverse(add(constant(1), ratio, -1)))


def _known_series(n: Normalizer, low: Poly, ratio: Poly, gen: Gen, exponent: Fraction) -> Poly | None:
    """The infinite sums of r^k / k! and of 1/k^2, 1/k^4 and 1/k^6."""
    start = integer(low)
    if start is None or not 0 <= start <= MAX_SHIFT:
        return None
    if gen[:2] == ("f", "fact") and gen[2] == key(generator(V)) and exponent == -1:
        total = n.exponential(generator(E), ratio)
        for k in range(start):
            total = add(total, n.power(ratio, k) if k else constant(1), Fraction(-1, math.factorial(k)))
        return total
    if gen == V and exponent in _ZETA and start and ratio == constant(1):
        known = n.mul(constant(_ZETA[exponent]), generator(PI, -exponent))
        return add(known, constant(sum(Fraction(k) ** int(exponent) for k in range(1, start))), -1)
    return None


def _geometric(n: Normalizer, mono: Mono, low: Poly, high: Poly) -> Poly | None:
    """The sum of one term k^m r^k from low to high."""
    inner, rest = _split(mono)
    m, ratio, special = 0, constant(1), []
    for gen, exponent in inner:
        if gen == V and exponent.denominator == 1 and 0 <= exponent <= MAX_POWER:
            m = int(exponent)
        elif gen[0] == "X" and gen[2] == frozenset(((V, ONE),)) and not mentions(gen[1]):
            minus_one = gen[1] == ("c", "-1")
            factor = (
                n.power_of_number(-1, exponent) if minus_one else n.power_of_generator(gen[1], ONE, exponent)
            )
            ratio = n.mul(ratio, factor)
        else:
            special.append((gen, exponent))
    # A formula for the finite sum says nothing about a series that diverges: |r| < 1 is checked below.
    endless = realsets.infinite(high) == 1
    if special:
        if m or not endless or len(special) > 1:
            return None
        total = _known_series(n, low, ratio, *special[0])
        return None if total is None else n.mul({rest: 1}, total)
    if endless:
        size = numeric.real_value(ratio)
        if size is None or abs(size) > 1 - 1e-9:
            return None
        total = _tail(n, m, ratio, low)
    elif n.difference_is_zero(ratio, constant(1)):
        total = add(_power_sum(n, m, high), _power_sum(n, m, add(low, constant(-1))), -1)
    else:
        total = add(_tail(n, m, ratio, low), _tail(n, m, ratio, add(high, constant(1))), -1)
    return n.mul({rest: 1}, total)


def _telescoping(n: Normalizer, body: Poly, low: Poly, high: Poly) -> Poly | None:
    """A rational summand: partial fractions c/(k - r), whose c add up to 0 where the r differ by integers."""
    start = rational(low)
    parts = _partial_fractions(n, *_fraction(n, body))
    if start is None or parts is None or any(r >= start and (r - start).denominator == 1 for r in parts):
        return None
    total: Poly = {}
    for phase in {r % 1 for r in parts}:
        group = {r: c for r, c in parts.items() if r % 1 == phase}
        first, last = min(group), max(group)
        if sum(group.values()) or last - first > MAX_SHIFT:
            return None
        for r, c in group.items():
            for j in range(int(r - first)):  # what this term has before all others begin
                total = add(total, constant(Fraction(c) / (start - r + j)))
            for j in range(1, int(last - r) + 1 if not realsets.infinite(high) else 1):  # and after they end
                total = add(total, n.inverse(add(high, constant(j - last))), c)
    return total


def _partial_fractions(n: Normalizer, top: Poly, bottom: Poly) -> dict[Fraction, Fraction] | None:
    """{r: c} with top/bottom the sum of c/(v - r); None unless the poles are simple and rational."""
    above, below = realsets.coefficients(top, V), realsets.coefficients(bottom, V)
    if above is None or below is None or len(above) >= len(below):
        return None
    poles = realsets.roots(n, below)
    values = [rational(pole) for pole in poles or []]
    numbers, leading = [rational(c) for c in above], rational(below[-1])
    if None in (*values, *numbers, leading) or len(set(values)) != len(below) - 1:
        return None
    residues = {}
    for r in map(Fraction, values):
        numerator = sum(Fraction(c) * r**k for k, c in enumerate(numbers))
        residues[r] = numerator / (leading * math.prod(r - other for other in values if other != r))
    return residues


def _sum(n: Normalizer, low: Poly, high: Poly, body: Poly) -> Poly | None:
    """Every term by its own formula, or all of them together as one that telescopes."""
    if realsets.infinite(low) or (realsets.infinite(high) and integer(low) is None):
        return None
    total: Poly = {}
    for mono, coefficient in body.items():
        term = _geometric(n, mono, low, high)
        if term is None:
            return _telescoping(n, body, low, high)
        total = add(total, term, coefficient)
    return total


# ---------------------------------------------------------------- by kind
def closed_form(n: Normalizer, node: Node) -> Poly | None:
    """The value of a sum, limit, integral or derivative of one of the shapes above, else None."""
    kind, variable = node[0], node[3] if node[0] == "int" else node[1]
    if kind == "prod":
        return None
    outside = {"sum": node[2:4], "lim": node[2:3], "int": node[1:3], "diff": ()}[kind]
    try:
        values = [None if part is None else n.of(part) for part in outside]
        outer = n.bound.get(variable)
        n.bound[variable] = generator(V)
        try:
            body = n.of(node[-1])
        finally:
            del n.bound[variable]
            if outer is not None:
                n.bound[variable] = outer
        if kind == "diff":  # d/dx speaks of x itself
            return substitute(n, derivative(n, body), n.of(("sym", variable)))
        if kind == "int":
            result = _integral(n, *values, body)
            return (
                result
                if result is None or values[0] is not None
                else substitute(n, result, n.of(("sym", variable)))
            )
        return (_sum if kind == "sum" else _limit)(n, *values, body)
    except (TooHard, Undefined):
        return None
