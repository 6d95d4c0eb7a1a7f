r"""Numeric evaluation of normal forms with many digits: refutes quickly, and decides where algebra cannot.

Paper: section 9.
Choices: what is evaluated is the difference of two normal forms, whose equal terms have cancelled exactly, so
that `x + 10^{-80}` never passes for `x`: a value counts as zero only when it is below 10^-40 of its own
largest term at 50 digits and below 10^-180 at 200 digits, at several random points seeded by the names of the
variables. Variables are real, take both signs and sizes from a hundredth to a hundred million, since |x - 5|
is 5 - x near zero and \lfloor n/50 \rfloor is 0 there; next to a rounding they are whole numbers too, next to
a conjugate complex. A point where a root leaves the reals is passed over. Magnitudes are capped before a
function is called, which bounds the time of every single operation.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from mathref.grading.poly import clock

if TYPE_CHECKING:
    from mathref.grading.poly import Gen, Mono, Poly

MAX_EXPONENT = 100_000  # bits before the point that a value may have
FAR = (0.01, 30, 1_000, 10**4, 10**8)  # sizes of variables besides those about one
WHOLE_POINTS = 12  # consecutive numbers, so that all remainders by 2, 3, 4, 6 and 12 occur


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


class Sample(NamedTuple):
    """Which values the symbols take, with how many digits, and how many of them must cancel."""

    seed: int
    positive: bool = True
    digits: int = 50
    agreement: int = 40
    size: float = 1
    whole: bool = False  # whole numbers, one step further for every seed
    imaginary: bool = False  # complex numbers


class _Point:
    """One assignment of random values to the symbols, with the working precision of one context."""

    def __init__(self, sample: Sample) -> None:
        self.mp = _context(sample.digits)
        self.sample = sample
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
        if abs(total) > size * self.mp.mpf(10) ** (10 - self.mp.dps):
            if self.sample.size != 1 and abs(total) < size * self.mp.mpf(10) ** (60 - self.mp.dps):
                raise Unknown("too few digits left")  # sqrt(e^x + 1) - sqrt(e^x) far out
            return total
        return self.mp.mpf(0)

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
            return self.symbol(gen[1] if kind == "s" else repr(sorted(map(str, gen))))
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

    def symbol(self, name: str) -> Any:
        """A random number that depends on the name and the seed."""
        mp, sample = self.mp, self.sample
        if sample.whole:
            source = random.Random(f"whole/{name}")
            return mp.mpf(source.randint(-20, 10) + sample.seed * source.choice((1, 5, 7, 11)))
        source = random.Random(f"{sample.seed}/{name}")
        value = (mp.mpf(source.getrandbits(mp.prec)) / 2**mp.prec * 3 + 0.25) * sample.size
        value = value if sample.positive or source.random() < 0.5 else -value
        return mp.mpc(value, source.random() + 0.5) if sample.imaginary else value

    def function(self, name: str, arguments: list[Any]) -> Any:
        """One call of mpmath, unless an argument is so large that it would not return."""
        mp = self.mp
        if name not in _DIRECT or any(mp.mag(a) > _LARGEST.get(name, 300) for a in arguments if a):
            raise Unknown(name)
        if name in ("arcsin", "arccos") and (mp.im(arguments[0]) or abs(arguments[0]) > 1):
            self.left_reals = True
        if name in _ROUNDING and abs(arguments[0] - mp.nint(arguments[0])) < mp.mpf(10) ** (-mp.dps // 2):
            return mp.nint(arguments[0])  # 4/3 + 5/3 is 3, whatever the last digit says
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
_ROUNDING = frozenset(("floor", "ceil"))
_LARGEST = {"fact": 40, "fact2": 40, "binom": 40}  # bits of an argument


def _try(poly: Poly, sample: Sample) -> tuple[bool, bool] | None:
    """(is it zero at this point, does the value depend on symbols), or None where the point is no use."""
    clock.check()
    point = _Point(sample)
    try:
        value, size = point.poly(poly)
    except (Unknown, ZeroDivisionError, OverflowError, ValueError, MemoryError):
        return None
    if point.left_reals and point.used_symbols and not any(("c", "i") == g for m in poly for g, _ in m):
        return None
    return bool(abs(value) <= size * point.mp.mpf(10) ** -sample.agreement), point.used_symbols


def _functions(poly: Poly) -> set[str]:
    """The names of the functions in a Poly, at any depth of its generators."""
    found: set[str] = set()
    stack: list[Any] = [gen for mono in poly for gen, _ in mono]
    while stack:
        part = stack.pop()
        if isinstance(part, tuple | frozenset):
            if isinstance(part, tuple) and part[:1] == ("f",):
                found.add(part[1])
            stack.extend(part)
    return found


def is_zero(poly: Poly) -> bool:
    """Whether a difference of normal forms vanishes; False where no point can be evaluated."""
    functions = _functions(poly)
    plain = Sample(0, imaginary="conj" in functions)
    # 50 digits refute almost everything at the first point; 200 digits are for what no point refutes.
    agreed, symbolic = 0, False
    for attempt in range(10):
        verdict = _try(poly, plain._replace(seed=attempt, positive=attempt % 2 == 0))
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
    if symbolic and any((_try(poly, sample) or (True,))[0] is False for sample in _elsewhere(functions)):
        return False
    confirmations = [
        _try(poly, plain._replace(seed=attempt, positive=attempt % 2 == 0, digits=200, agreement=180))
        for attempt in range(20, 24)
    ]
    return all(v[0] for v in confirmations if v) and any(confirmations)


def _elsewhere(functions: set[str]) -> Iterator[Sample]:
    """Points where an equality that holds about one may fail; they only refute, hence the spare digits."""
    far = Sample(0, digits=150, imaginary="conj" in functions)
    for seed, size in enumerate(FAR):
        yield far._replace(seed=seed, size=size)
        yield far._replace(seed=seed, size=-size)  # all of them negative
        yield far._replace(seed=seed, size=size, positive=False)
    if functions & _ROUNDING:
        for seed in range(WHOLE_POINTS):
            yield Sample(seed, whole=True)


def real_value(poly: Poly) -> float | None:
    """A real constant as a float; None for symbols, complex values and what cannot be evaluated."""
    point = _Point(Sample(0))
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
    point = _Point(Sample(0))
    try:
        value = point.value(poly)
    except (Unknown, ZeroDivisionError, OverflowError, ValueError):
        return None
    if point.used_symbols or not isinstance(value, point.mp.mpf):
        return None
    return int(point.mp.sign(value))
