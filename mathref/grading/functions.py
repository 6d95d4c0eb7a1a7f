r"""Named functions of normal forms: roots, logarithms, trigonometry, factorials, number theory.

Paper: section 9 (competition answers are full of them).
Choices: exact where a closed form is known, else an opaque generator that `numeric.py` can evaluate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from mathref.grading import numeric
from mathref.grading.algebra import MAX_FACTORIAL, Normalizer
from mathref.grading.poly import (
    HALF,
    ONE,
    PI,
    UNIT,
    E,
    I,
    Poly,
    TooHard,
    Undefined,
    add,
    constant,
    factorize,
    generator,
    integer,
    key,
    rational,
    scale,
)
from mathref.grading.syntax import Node


def apply(n: Normalizer, name: str, arguments: list[Poly]) -> Poly:
    """`name` of `arguments`; TooHard for a wrong number of them."""
    handler, arity = _FUNCTIONS.get(name, (None, None))
    if handler is None or (arity is not None and len(arguments) != arity) or not arguments:
        raise TooHard(f"{name} of {len(arguments)} arguments")
    return handler(n, *arguments)


def _opaque(name: str, *arguments: Poly) -> Poly:
    """A function value that stays what it is; `numeric.py` may still tell two of them apart."""
    return generator(("f", name, *(key(argument) for argument in arguments)))


def logarithm(n: Normalizer, poly: Poly) -> Poly:
    """The natural logarithm: of a product the sum, over primes and opaque factors."""
    if not poly:
        raise Undefined("logarithm of zero")
    if len(poly) > 1:
        content, primitive = n.content(poly, signed=False)
        inner = generator(("ln", key(primitive)))
        return add(inner, logarithm(n, content)) if content != {UNIT: 1} else inner
    ((mono, coefficient),) = poly.items()
    result: Poly = {}
    if coefficient < 0:
        return generator(("ln", key(poly)))
    for value, sign in ((coefficient.numerator, 1), (coefficient.denominator, -1)):
        for prime, multiplicity in factorize(value):
            result = add(result, generator(("ln", prime)), sign * multiplicity)
    for gen, exponent in mono:
        if gen == E:
            part = constant(1)
        elif gen[0] == "p":
            part = generator(("ln", gen[1]))
        elif gen[0] == "S":
            part = logarithm(n, dict(gen[1]))
        elif gen[0] == "X":
            part = n.mul({gen[2]: 1}, logarithm(n, generator(gen[1])))
        elif exponent.denominator == 1 and exponent.numerator % 2 == 0:
            part = generator(("ln", key(n.absolute(generator(gen)))))
        else:
            part = generator(("ln", key(generator(gen))))
        result = add(result, part, exponent)
    return result


def _root(n: Normalizer, body: Poly, degree: Poly) -> Poly:
    """The real root; an odd one takes the sign of its radicand."""
    k = integer(degree)
    if k is None:
        return n.exponential(body, n.inverse(degree))
    if k == 0:
        raise Undefined("root of degree zero")
    if k % 2 and k > 0 and numeric.sign(body) == -1:
        return scale(n.power(scale(body, -1), Fraction(1, k)), -1)
    return n.power(body, Fraction(1, k))


def _log(n: Normalizer, body: Poly, base: Poly | None = None) -> Poly:
    """log_b a = ln a / ln b; without a base the common logarithm."""
    top, bottom = logarithm(n, body), logarithm(n, constant(10) if base is None else base)
    if not bottom:
        raise Undefined("logarithm to base one")
    if not top:
        return {}
    mono = next(iter(bottom))
    ratio = Fraction(top.get(mono, 0)) / bottom[mono]
    if not add(top, bottom, -ratio):
        return constant(ratio)
    return n.mul(top, n.inverse(bottom))


def _quotient(top: str | None, bottom: str) -> Callable[[Normalizer, Poly], Poly]:
    """tan, cot, sec and csc by sine and cosine, so that identities between them are exact."""

    def evaluate(n: Normalizer, angle: Poly) -> Poly:
        inverse = n.inverse(n.trigonometric(bottom, angle))
        return n.mul(n.trigonometric(top, angle), inverse) if top else inverse

    return evaluate


def _arc(name: str, forward: str) -> Callable[[Normalizer, Poly], Poly]:
    """An inverse function; exact where the angle is a multiple of pi/60."""

    def evaluate(n: Normalizer, value: Poly) -> Poly:
        angle = numeric.real_value(_opaque(name, value))
        if angle is not None:
            # The float only proposes an angle; whether its sine is the value is decided exactly.
            turn = Fraction(round(angle / math.pi * 60), 60)
            exact: Poly = {frozenset(((PI, ONE),)): turn} if turn else {}
            try:
                if n.difference_is_zero(apply(n, forward, [exact]), value):
                    return exact
            except Undefined:
                pass
        return _opaque(name, value)

    return evaluate


def _hyperbolic(sign: int) -> Callable[[Normalizer, Poly], Poly]:
    """(e^x + sign e^-x) / 2."""

    def evaluate(n: Normalizer, x: Poly) -> Poly:
        both = add(n.exponential(generator(E), x), n.exponential(generator(E), scale(x, -1)), sign)
        return scale(both, HALF)

    return evaluate


def _factorial(n: Normalizer, body: Poly, step: int = 1) -> Poly:
    """n! or n!!; beyond MAX_FACTORIAL or of an unknown it stays opaque."""
    value = integer(body)
    if value is None or value > MAX_FACTORIAL:
        return _opaque("fact" if step == 1 else "fact2", body)
    if value < 0:
        raise Undefined("factorial of a negative number")
    n.spend(value)
    return constant(math.factorial(value) if step == 1 else math.prod(range(value, 0, -2)))


def _binomial(n: Normalizer, top: Poly, bottom: Poly) -> Poly:
    """Of whole numbers by its value, of an unknown over a small k as a polynomial."""
    a, k = integer(top), integer(bottom)
    if a is not None and k is not None and a >= 0:
        if a > MAX_FACTORIAL and min(k, a - k) > 60:
            return _opaque("binom", top, bottom)
        return constant(math.comb(a, k) if k >= 0 else 0)
    if k is not None and 0 <= k <= 20:
        result = constant(Fraction(1, math.factorial(k)))
        for j in range(k):
            result = n.mul(result, add(top, constant(-j)))
        return result
    return _opaque("binom", top, bottom)


def _integers(name: str, combine: Callable[..., int]) -> Callable[..., Poly]:
    """A function of whole numbers alone, such as gcd; opaque and unordered for anything else."""

    def evaluate(n: Normalizer, *arguments: Poly) -> Poly:
        values = [integer(argument) for argument in arguments]
        if any(value is None for value in values):
            return _unordered(name, arguments)
        return constant(combine(*values))

    return evaluate


def _unordered(name: str, arguments: tuple[Poly, ...]) -> Poly:
    """An opaque function whose arguments have no order."""

    def terms(p: Poly) -> list[tuple[list[str], str]]:
        return sorted((sorted(map(str, mono)), str(coefficient)) for mono, coefficient in p.items())

    return _opaque(name, *sorted(arguments, key=terms))


def _extreme(name: str, sign: int) -> Callable[..., Poly]:
    """The largest (sign 1) or smallest of real constants."""

    def evaluate(n: Normalizer, *arguments: Poly) -> Poly:
        best = arguments[0]
        for other in arguments[1:]:
            order = numeric.sign(add(other, best, -1))
            if order is None:
                return _unordered(name, arguments)
            best = other if order == sign else best
        return best

    return evaluate


def _rounded(name: str) -> Callable[[Normalizer, Poly], Poly]:
    """floor and ceil: of a rational exactly, of a real constant when it is provably between two integers."""

    def evaluate(n: Normalizer, x: Poly) -> Poly:
        value = rational(x)
        if value is None:
            real = numeric.real_value(x)
            if real is None or abs(real) > 1e12 or abs(real - round(real)) < 1e-9:
                return _opaque(name, x)
            value = Fraction(real)
        return constant(math.floor(value) if name == "floor" else math.ceil(value))

    return evaluate


def _modulo(n: Normalizer, a: Poly, m: Poly) -> Poly:
    """The remainder, never negative."""
    left, modulus = integer(a), integer(m)
    if left is None or not modulus:
        return _opaque("mod", a, m)
    return constant(left % modulus)


def _conjugate(n: Normalizer, z: Poly) -> Poly:
    """Variables count as complex here, since a conjugate is only ever written for one."""
    if any(gen[0] not in ("p", "c", "ln") for mono in z for gen, _ in mono):
        return _opaque("conj", z)
    return {mono: -c if any(gen == I for gen, _ in mono) else c for mono, c in z.items()}


def series(n: Normalizer, kind: str, variable: str, low: Node, high: Node, body: Node) -> Poly:
    """A finite sum or product term by term, or an opaque one when its bounds are unknown."""
    from mathref.grading import calculus, closed

    bounds = n.of(low), n.of(high)
    first, last = integer(bounds[0]), integer(bounds[1])
    outer = n.bound.get(variable)
    try:
        if first is None or last is None or last - first > 400:
            node = (kind, variable, low, high, body)
            for source in (closed, calculus):
                if (value := source.closed_form(n, node)) is not None:
                    return value
            n.bound[variable] = generator(("s", "#"))
            return generator(("f", kind, *(key(bound) for bound in bounds), key(n.of(body))))
        result = constant(0 if kind == "sum" else 1)
        for value in range(first, last + 1):
            n.spend(10)
            n.bound[variable] = constant(value)
            result = add(result, n.of(body)) if kind == "sum" else n.mul(result, n.of(body))
        return result
    finally:
        if outer is None:
            n.bound.pop(variable, None)
        else:
            n.bound[variable] = outer


def determinant(n: Normalizer, rows: list[list[Poly]]) -> Poly:
    """By Laplace along the first row; up to 6 x 6."""
    if len(rows) > 6 or any(len(row) != len(rows) for row in rows):
        raise TooHard("determinant")
    if not rows:
        return constant(1)
    total: Poly = {}
    for column, entry in enumerate(rows[0]):
        minor = [row[:column] + row[column + 1 :] for row in rows[1:]]
        total = add(total, n.mul(entry, determinant(n, minor)), -1 if column % 2 else 1)
    return total


_FUNCTIONS: dict[str, tuple[Callable[..., Poly], int | None]] = {
    "root": (_root, 2),
    "ln": (lambda n, x: logarithm(n, x), 1),
    "log": (_log, None),
    "exp": (lambda n, x: n.exponential(generator(E), x), 1),
    "sin": (lambda n, x: n.trigonometric("sin", x), 1),
    "cos": (lambda n, x: n.trigonometric("cos", x), 1),
    "tan": (_quotient("sin", "cos"), 1),
    "cot": (_quotient("cos", "sin"), 1),
    "sec": (_quotient(None, "cos"), 1),
    "csc": (_quotient(None, "sin"), 1),
    "arcsin": (_arc("arcsin", "sin"), 1),
    "arccos": (_arc("arccos", "cos"), 1),
    "arctan": (_arc("arctan", "tan"), 1),
    "arccot": (lambda n, x: apply(n, "arctan", [n.inverse(x)]), 1),
    "sinh": (_hyperbolic(-1), 1),
    "cosh": (_hyperbolic(1), 1),
    "tanh": (lambda n, x: n.mul(apply(n, "sinh", [x]), n.inverse(apply(n, "cosh", [x]))), 1),
    "abs": (lambda n, x: n.absolute(x), 1),
    "fact": (_factorial, 1),
    "fact2": (lambda n, x: _factorial(n, x, 2), 1),
    "binom": (_binomial, 2),
    "gcd": (_integers("gcd", math.gcd), None),
    "lcm": (_integers("lcm", math.lcm), None),
    "max": (_extreme("max", 1), None),
    "min": (_extreme("min", -1), None),
    "floor": (_rounded("floor"), 1),
    "ceil": (_rounded("ceil"), 1),
    "mod": (_modulo, 2),
    "conj": (_conjugate, 1),
    "re": (lambda n, z: scale(add(z, _conjugate(n, z)), HALF), 1),
    "im": (lambda n, z: n.mul(generator(I), scale(add(_conjugate(n, z), z, -1), HALF)), 1),
    "cis": (lambda n, x: add(n.trigonometric("cos", x), n.mul(generator(I), n.trigonometric("sin", x))), 1),
}
