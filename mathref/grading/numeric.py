r"""Numeric evaluation of normal forms with many digits: refutes quickly, and decides where algebra cannot.

Paper: section 9.
Choices: what is evaluated is the difference of two normal forms, whose equal terms have cancelled exactly, so
that `x + 10^{-80}` never passes for `x`: a value counts as zero only when it is below 10^-40 of its own
largest term at 50 digits and below 10^-180 at 200 digits, at several random points seeded by the names of the
variables. Variables are real and take both signs; a point where a root leaves the reals is passed over.
Magnitudes are capped before a function is called, which bounds the time of every single operation.
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

from mathref.grading.poly import clock

if TYPE_CHECKING:
    from mathref.grading.poly import Gen, Mono, Poly

MAX_EXPONENT = 100_000  # bits before the point that a value may have


class Unknown(ArithmeticError):
    """The value cannot be computed here: an unknown function, a pole, a magnitude beyond the cap."""


_contexts = threading.local()  # by digits; to make one takes longer than most evaluations


def _context(digits: int) -> Any:
    """This thread's mpmath context of a precision; contexts carry state and must not cross threads."""
    context = getattr(_contexts, f"digits_{digits}", None)
    if context is None:
        from mpmath import MPContext

        context = MPContext()
        context.dps = digits
        setattr(_contexts, f"digits_{digits}", context)
    return context


class _Point:
    """One assignment of random reals to the symbols, with the working precision of one context."""

    def __init__(self, digits: int, seed: int, positive: bool) -> None:
        self.mp = _context(digits)
        self.seed = seed
        self.positive = positive
        self.values: dict[Gen, Any] = {}
        self.used_symbols = False
        self.left_reals = False

    def poly(self, poly: Poly) -> tuple[Any, Any]:
        """(value, sum of the magnitudes of its terms)."""
        total, size = self.mp.mpf(0), self.mp.mpf(0)
        for mono, coefficient in poly.items():
            term = self.mono(mono) * self.mp.mpf(coefficient.numerator) / coefficient.denominator
            total += term
            size += abs(term)
        return total, size

    def value(self, poly: Poly) -> Any:
        """The value of an inner Poly; zero when its terms cancel to the last digits."""
        total, size = self.poly(poly)
        return total if abs(total) > size * self.mp.mpf(10) ** (10 - self.mp.dps) else self.mp.mpf(0)

    def mono(self, mono: Mono) -> Any:
        """The product of the powers in one monomial."""
        product = self.mp.mpf(1)
        for gen, exponent in mono:
            product *= self.power(
                self.generator(gen), self.mp.mpf(exponent.numerator) / exponent.denominator, exponent
            )
        return product

    def power(self, base: Any, exponent: Any, exact: Any = None) -> Any:
        """base ^ exponent, the real branch for odd roots of negative numbers."""
        mp = self.mp
        if exact == 1:
            return base
        if base == 0:
            if mp.re(exponent) <= 0:
                raise Unknown("zero to a negative power")
            return mp.mpf(0)
        if abs(exponent) * (abs(mp.mag(base)) + 1) > MAX_EXPONENT:
            raise Unknown("too large")
        if isinstance(base, mp.mpf) and base < 0 and exact is not None and exact.denominator > 1:
            if exact.denominator % 2:
                value = (-base) ** exponent
                return -value if exact.numerator % 2 else value
            self.left_reals = True
        return base**exponent if exact is None or exact.denominator > 1 else base ** int(exact)

    def generator(self, gen: Gen) -> Any:
        if gen not in self.values:
            self.values[gen] = self.compute(gen)
        return self.values[gen]

    def compute(self, gen: Gen) -> Any:
        """The value of one generator; a symbol gets a random real that depends on its name and the seed."""
        mp, kind = self.mp, gen[0]
        if kind == "p":
            return mp.mpf(gen[1])
        if kind == "c":
            if gen[1] in ("inf",):
                raise Unknown("infinity")
            return {"pi": +mp.pi, "e": +mp.e, "i": mp.mpc(0, 1), "-1": mp.mpf(-1)}[gen[1]]
        if kind in ("s", "call", "based"):
            self.used_symbols = True
            name = gen[1] if kind == "s" else repr(sorted(map(str, gen)))
            source = random.Random(f"{self.seed}/{name}")
            value = mp.mpf(source.getrandbits(mp.prec)) / 2**mp.prec * 3 + 0.25
            return value if self.positive or source.random() < 0.5 else -value
        if kind == "S":
            return self.value(dict(gen[1]))
        if kind == "X":
            base, exponent = self.generator(gen[1]), self.mono(gen[2])
            if isinstance(base, mp.mpf) and base < 0:
                self.left_reals = True
            return self.power(base, exponent)
        if kind == "ln":
            value = mp.mpf(gen[1]) if isinstance(gen[1], int) else self.value(dict(gen[1]))
            if value == 0:
                raise Unknown("logarithm of zero")
            if isinstance(value, mp.mpf) and value < 0:
                self.left_reals = True
            return mp.log(value)
        return self.function(gen[1], [self.value(dict(argument)) for argument in gen[2:]])

    def function(self, name: str, arguments: list[Any]) -> Any:
        """One call of mpmath, unless an argument is so large that it would not return."""
        mp = self.mp
        if name not in _DIRECT or any(mp.mag(a) > _LARGEST.get(name, 300) for a in arguments if a):
            raise Unknown(name)
        if name in ("arcsin", "arccos") and (mp.im(arguments[0]) or abs(arguments[0]) > 1):
            self.left_reals = True
        try:
            return getattr(mp, _DIRECT[name])(*arguments)
        except (ValueError, ZeroDivisionError, OverflowError, TypeError, mp.NoConvergence):
            raise Unknown(name) from None


# Function names and mpmath's; sums, limits and unknown ones are not evaluated.
_DIRECT = {
    **{"sin": "sin", "cos": "cos", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "abs": "fabs"},
    **{
        "fact": "factorial",
        "fact2": "fac2",
        "binom": "binomial",
        "floor": "floor",
        "ceil": "ceil",
        "conj": "conj",
    },
}
_LARGEST = {"fact": 40, "fact2": 40, "binom": 40}  # bits of an argument


def _try(poly: Poly, digits: int, seed: int, positive: bool) -> tuple[bool, bool] | None:
    """(is it zero at this point, does the value depend on symbols), or None where the point is no use."""
    clock.check()
    point = _Point(digits, seed, positive)
    try:
        value, size = point.poly(poly)
    except (Unknown, ZeroDivisionError, OverflowError, ValueError, MemoryError):
        return None
    if point.left_reals and point.used_symbols and not any(("c", "i") == g for m in poly for g, _ in m):
        return None
    return bool(
        abs(value) <= size * point.mp.mpf(10) ** (20 - digits if digits > 100 else 10 - digits)
    ), point.used_symbols


def is_zero(poly: Poly) -> bool:
    """Whether a difference of normal forms vanishes; False where no point can be evaluated."""
    # 50 digits refute almost everything at the first point; 200 digits are for what no point refutes.
    agreed = 0
    for attempt in range(10):
        verdict = _try(poly, 50, attempt, positive=attempt % 2 == 0)
        if verdict is None:
            continue
        zero, symbolic = verdict
        if not zero:
            return False
        agreed += 1
        if not symbolic or agreed == 5:
            break
    if not agreed:
        return False
    confirmations = [_try(poly, 200, attempt, positive=attempt % 2 == 0) for attempt in range(20, 24)]
    return all(v[0] for v in confirmations if v) and any(confirmations)


def real_value(poly: Poly) -> float | None:
    """A real constant as a float; None for symbols, complex values and what cannot be evaluated."""
    point = _Point(50, 0, positive=True)
    try:
        value = point.value(poly)
        if point.used_symbols or not isinstance(value, point.mp.mpf):
            return None
        return float(value)
    except (Unknown, ZeroDivisionError, OverflowError, ValueError):
        return None


def sign(poly: Poly) -> int | None:
    """-1, 0 or 1 for a real constant, else None; exact for rationals, to 50 digits of its terms otherwise."""
    if len(poly) <= 1:
        for mono, coefficient in poly.items():
            if all(gen[0] == "p" or (gen[0] == "c" and gen[1] in ("pi", "e")) for gen, _ in mono):
                return 1 if coefficient > 0 else -1
            if any(gen[0] in ("s", "call", "based") for gen, _ in mono):
                return None
        if not poly:
            return 0
    if any(gen[0] in ("s", "call", "based") for mono in poly for gen, _ in mono):
        return None
    point = _Point(50, 0, positive=True)
    try:
        value = point.value(poly)
    except (Unknown, ZeroDivisionError, OverflowError, ValueError):
        return None
    if point.used_symbols or not isinstance(value, point.mp.mpf):
        return None
    return int(point.mp.sign(value))
