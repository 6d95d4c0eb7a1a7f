r"""Values: sums of terms with exact rational coefficients over generators.

Paper: section 9.
Choices: a value is a `Poly`, a dict from monomials to coefficients; a monomial is a frozenset of (generator,
exponent) pairs with rational exponents, so that terms need no order. Generators are tuples that begin with
their kind:

    ("s", name)  ("call", name, keys...)   a symbol, a function nothing is known about
    ("p", n)                               a prime under a root, or one whose power is too large to write out
    ("c", "pi" | "e" | "i" | "inf" | "-1") constants; -1 only as a base of unknown powers
    ("ln", n | key)  ("based", value)      a logarithm, a numeral to a base other than ten
    ("S", key)                             a sum under a root or in a denominator, by the key of its Poly
    ("X", gen, mono)                       gen ^ mono: an unknown power
    ("f", name, keys...)                   any other function, opaque
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Hashable
from fractions import Fraction
from functools import lru_cache

Gen = tuple[Hashable, ...]
Mono = frozenset[tuple[Gen, Fraction]]
Rational = int | Fraction
Poly = dict[Mono, Rational]


PI: Gen = ("c", "pi")
E: Gen = ("c", "e")
I: Gen = ("c", "i")  # noqa: E741
INF: Gen = ("c", "inf")
UNIT: Mono = frozenset()
ONE, HALF = Fraction(1), Fraction(1, 2)


# cos(pi q) for 0 <= q <= 1/2 as sums of coefficient * sqrt(radicand).
COSINES: dict[Fraction, tuple[tuple[int, Fraction], ...]] = {
    Fraction(0): ((1, ONE),),
    Fraction(1, 12): ((6, ONE / 4), (2, ONE / 4)),
    Fraction(1, 6): ((3, HALF),),
    Fraction(1, 5): ((5, ONE / 4), (1, ONE / 4)),
    Fraction(1, 4): ((2, HALF),),
    Fraction(1, 3): ((1, HALF),),
    Fraction(2, 5): ((5, ONE / 4), (1, -ONE / 4)),
    Fraction(5, 12): ((6, ONE / 4), (2, -ONE / 4)),
    HALF: (),
}

# |z| and |w|, whose squares stay what they are: by custom z and w are complex, and |z|^2 = z \bar z.
MODULI = frozenset(("f", "abs", frozenset({(frozenset({(("s", name), ONE)}), 1)})) for name in "zw")


class Undefined(ArithmeticError):
    """The expression has no value, such as 1/0; it equals nothing but its own spelling."""


class TooHard(ArithmeticError):
    """The budget or a size limit is spent; the answer is then compared as text."""


class OutOfTime(Exception):
    """The comparison has used up its time; nothing is concluded and nothing remembered."""


class _Clock(threading.local):
    """How long the comparison that this thread is busy with may go on.

    Its own work is measured in processor time, so that a verdict does not depend on the load of the machine;
    only the wait for another process (`calculus.py`) is measured on the wall.
    """

    processor = math.inf
    wall = math.inf

    def start(self, seconds: float) -> None:
        """Begin a comparison."""
        self.processor, self.wall = time.thread_time() + seconds, time.monotonic() + seconds

    def check(self) -> None:
        """OutOfTime once the comparison has used up its processor time."""
        if time.thread_time() > self.processor:
            raise OutOfTime


clock = _Clock()


def constant(value: Rational) -> Poly:
    """A rational number as a Poly."""
    return {UNIT: value} if value else {}


def generator(gen: Gen, exponent: Rational = ONE) -> Poly:
    """One generator to a power as a Poly."""
    return {frozenset(((gen, exponent if exponent is ONE else Fraction(exponent)),)): 1}


def rational(poly: Poly) -> Rational | None:
    """The value of a constant rational Poly, else None."""
    if not poly:
        return 0
    return poly.get(UNIT) if len(poly) == 1 else None


def integer(poly: Poly) -> int | None:
    """The value of a constant integer Poly, else None."""
    value = rational(poly)
    return int(value) if value is not None and value == int(value) else None


def based(digits: str, base: int) -> Poly:
    """A numeral to a base is its own generator: 204_5 is not 204; equal values in two bases are equal."""
    try:
        whole, _, part = digits.partition(".")
        return generator(("based", Fraction(int(whole + part, base), base ** len(part))))
    except ValueError:
        raise Undefined("digit not below its base") from None


def key(poly: Poly) -> Hashable:
    """A hashable copy; `dict` turns it back."""
    return frozenset(poly.items())


def add(a: Poly, b: Poly, factor: Rational = 1) -> Poly:
    """a + factor * b."""
    result = dict(a)
    for mono, coefficient in b.items():
        total = result.get(mono, 0) + factor * coefficient
        if total:
            result[mono] = total
        else:
            result.pop(mono, None)
    return result


def scale(poly: Poly, factor: Rational) -> Poly:
    """factor * poly."""
    return {mono: coefficient * factor for mono, coefficient in poly.items()} if factor else {}


def bits(value: Rational) -> int:
    """Size of an exact rational in bits."""
    return value.numerator.bit_length() + value.denominator.bit_length()


def order(item: tuple[Mono, Rational]) -> str:
    """A stable order of terms, for the choice of a leading one; Python's own order knows no frozensets."""
    return _mono_name(item[0])


@lru_cache(maxsize=4096)
def _mono_name(mono: Mono) -> str:
    """A spelling of a monomial by which terms can be sorted."""
    return "*".join(sorted(f"{stable(gen)}^{exponent}" for gen, exponent in mono))


def stable(value: Hashable) -> str:
    """A spelling that does not depend on hash seeds."""
    if isinstance(value, frozenset):
        return "{" + ",".join(sorted(stable(v) for v in value)) + "}"
    if isinstance(value, tuple):
        return "(" + ",".join(stable(v) for v in value) + ")"
    return hex(value) if isinstance(value, int) else str(value)


@lru_cache(maxsize=4096)
def factorize(n: int) -> tuple[tuple[int, int], ...]:
    """Prime factors of n > 0 below 1,000; what is left counts as one prime, after a test for perfect
    powers.
    """
    factors: dict[int, int] = {}
    for p in (2, 3, *range(5, 1000, 2)):
        while n % p == 0:
            factors[p] = factors.get(p, 0) + 1
            n //= p
        if p * p > n:
            break
    if n > 1:
        exponent = 1
        for k in (2, 3, 5, 7):
            root = integer_root(n, k)
            if root is not None:
                n, exponent = root, exponent * k
        factors[n] = factors.get(n, 0) + exponent
    return tuple(factors.items())


def integer_root(n: int, k: int) -> int | None:
    """The exact k-th root of n >= 0, or None."""
    if k == 2:
        root = math.isqrt(n)
    else:
        root = 1 << -(-n.bit_length() // k)
        while True:  # Newton from above
            following = ((k - 1) * root + n // root ** (k - 1)) // k
            if following >= root:
                break
            root = following
    return root if root**k == n else None


def is_independent(gen: Gen) -> bool:
    """Whether no relation holds between this generator and others of the kind, beyond those `reduce`
    applies.
    """
    kind = gen[0]
    if kind == "X":
        # Powers of e and of i meet sines and logarithms; b^(ln a / ln b) is a.
        return gen[1][0] in ("s", "p", "c") and gen[1] != I and all(g[0] in ("s", "call") for g, _ in gen[2])
    if kind == "ln":
        return isinstance(gen[1], int)
    return kind in ("s", "p", "c", "based", "call")


def describe(poly: Poly) -> str:
    """A normal form as a person can read it: 3/2*sqrt(2)*x + 1."""
    terms = []
    for mono, coefficient in sorted(poly.items(), key=order):
        factors = sorted(_describe_power(gen, exponent) for gen, exponent in mono)
        if coefficient != 1 or not factors:
            too_long = bits(coefficient) > 4_000
            factors.insert(0, f"({bits(coefficient)} bits)" if too_long else str(Fraction(coefficient)))
        terms.append("*".join(factors))
    return " + ".join(terms) or "0"


def _describe_power(gen: Gen, exponent: Fraction) -> str:
    """One factor in words, such as sqrt(2) or ln(3)^2."""
    if gen[0] == "S":
        name = f"({describe(dict(gen[1]))})"
    elif gen[0] in ("f", "call"):
        arguments = ", ".join(describe(dict(k)) if isinstance(k, frozenset) else str(k) for k in gen[2:])
        name = f"{gen[1]}({arguments})"
    elif gen[0] == "ln":
        name = f"ln({describe(dict(gen[1])) if isinstance(gen[1], frozenset) else gen[1]})"
    elif gen[0] == "X":
        name = f"{_describe_power(gen[1], ONE)}^({describe({gen[2]: 1})})"
    else:
        name = str(gen[1])
    if exponent == HALF:
        return f"sqrt({name})"
    return (
        name
        if exponent == 1
        else f"{name}^{exponent}"
        if exponent.denominator == 1
        else f"{name}^({exponent})"
    )


# A prime for fingerprints of quotients, large enough that two answers collide with probability below 2^-250.
_FIELD = (1 << 255) - 19


def canonical(poly: Poly) -> Hashable | None:
    """A key such that equal keys imply equal values, or None where the normal form is not unique.

    Polynomials in independent generators are their own key. Quotients of such polynomials with rational
    coefficients have no unique spelling without a greatest common divisor; their key is their value at a
    fixed point of a large prime field instead, which does not depend on the spelling.
    """
    gens = {gen for mono in poly for gen, _ in mono}
    opaque = [gen for gen in gens if not is_independent(gen)]
    negative = any(e < 0 for m in poly for g, e in m if g[0] == "S")
    if not opaque:
        return key(poly)
    if not negative or any(g[0] != "S" for g in opaque):
        return None
    try:
        total = 0
        for mono, coefficient in poly.items():
            value = coefficient.numerator * pow(coefficient.denominator, -1, _FIELD)
            for gen, exponent in mono:
                value = value * _fingerprint(gen, exponent) % _FIELD
            total += value
        return ("quotient", total % _FIELD)
    except (TooHard, ValueError):
        return None


def _fingerprint(gen: Gen, exponent: Fraction) -> int:
    """The value of one factor in the prime field."""
    if gen[0] != "S":
        digest = hashlib.sha512(f"{stable(gen)}".encode()).digest()
        if exponent.denominator > 1:
            if gen[0] != "p" or not 0 < exponent < 1:
                raise TooHard("root of a variable")
            digest = hashlib.sha512(digest + str(exponent).encode()).digest()
            return int.from_bytes(digest, "big") % _FIELD
        return pow(int.from_bytes(digest, "big") % _FIELD, int(exponent), _FIELD)
    inner = dict(gen[1])
    if exponent.denominator > 1 or any(
        g[0] not in ("s", "c") or g == I or e.denominator > 1 for m in inner for g, e in m
    ):
        raise TooHard("denominator with roots")
    total = 0
    for mono, coefficient in inner.items():
        value = coefficient.numerator * pow(coefficient.denominator, -1, _FIELD)
        for g, e in mono:
            value = value * _fingerprint(g, e) % _FIELD
        total += value
    return pow(total % _FIELD, int(exponent), _FIELD)
