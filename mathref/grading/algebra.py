r"""Exact normal forms of scalar answers: a syntax tree becomes a sum of terms over independent generators.

Paper: section 9 (when are two answers the same number or expression).
Choices: a value is a `Poly`, a dict from monomials to exact rational coefficients; a monomial is a frozenset
of (generator, exponent) pairs with rational exponents. Generators are symbols, primes under a root, pi, e, i,
logarithms of primes, and opaque ones (a sine, a sum under a root or in a denominator) that carry the key of
their content. Within the first kind equal values have equal dicts, so that `a - b` empty proves equality and
`a - b` not empty refutes it; opaque generators leave the question to `numeric.py`. No sympy and no rounding;
every product is charged to a budget, powers are capped by the size of their result, so that no input can make
this slow.

Conventions: variables are real, odd roots are real, `\sqrt{x^2} = |x|`, and roots of products of variables
split.
"""

from __future__ import annotations

import math
from fractions import Fraction

from mathref.grading.poly import (
    COSINES,
    HALF,
    MODULI,
    ONE,
    PI,
    UNIT,
    E,
    Gen,
    I,
    Mono,
    Poly,
    Rational,
    TooHard,
    Undefined,
    add,
    based,
    bits,
    clock,
    constant,
    factorize,
    generator,
    integer_root,
    is_independent,
    key,
    order,
    rational,
    scale,
    stable,
)
from mathref.grading.syntax import Node, num, quotient

MAX_WORK = 40_000  # products of terms a normal form may cost, some 0.1 s
MAX_TERMS = 1_500  # of an expanded power or product
MAX_BITS = 20_000  # of a coefficient; larger powers stay unevaluated
MAX_FACTORIAL = 2_500


class Normalizer:
    """Builds normal forms within one budget; make one for each comparison."""

    def __init__(self) -> None:
        self.work = 0
        self.looked = 0  # how much of the work was done when the clock was last looked at
        self.may_have_signs = True  # whether plus-minus signs are looked for
        self.may_have_matrices = True  # whether matrices are
        self.used_numbers = False  # whether a verdict rests on numeric evaluation
        self.undecided = False  # whether a question of calculus found no answer in time
        self.bound: dict[str, Poly] = {}  # values of summation variables

    def spend(self, amount: int) -> None:
        """Charge work to the budget; TooHard when it is spent, whatever the machine."""
        self.work += amount
        if self.work > MAX_WORK:
            raise TooHard("work budget spent")
        if self.work > self.looked + 500:
            self.looked = self.work
            clock.check()

    # -- products
    def mul(self, a: Poly, b: Poly) -> Poly:
        """a * b, reduced by the relations between generators."""
        if len(b) == 1 and b.get(UNIT) == 1:
            return a
        if len(a) * len(b) > 4 * MAX_TERMS:
            raise TooHard("too many terms")
        self.spend(len(a) * len(b))
        result: Poly = {}
        for mono_a, coefficient_a in a.items():
            for mono_b, coefficient_b in b.items():
                coefficient = coefficient_a * coefficient_b
                if not mono_a or not mono_b:
                    term = {mono_a or mono_b: coefficient}
                else:
                    term = self.join(mono_a, mono_b, coefficient)
                for mono, value in term.items():
                    total = result.get(mono, 0) + value
                    if total:
                        result[mono] = total
                    else:
                        del result[mono]
        if any(bits(c) > 4 * MAX_BITS for c in result.values()):
            raise TooHard("coefficient too large")
        return result

    def join(self, a: Mono, b: Mono, coefficient: Rational) -> Poly:
        """The product of two monomials; only generators that both have can reduce."""
        exponents = dict(a)
        shared = []
        for gen, exponent in b:
            if gen in exponents:
                exponents[gen] += exponent
                shared.append(gen)
            else:
                exponents[gen] = exponent
        extra: list[Poly] = []
        for gen in shared:
            exponent = exponents.pop(gen)
            coefficient, exponent, factor = self.reduce(gen, exponent, coefficient)
            if exponent:
                exponents[gen] = exponent
            if factor is not None:
                extra.append(factor)
        result: Poly = {frozenset(exponents.items()): coefficient}
        for factor in extra:
            result = self.mul(result, factor)
        return result

    def reduce(self, gen: Gen, exponent: Fraction, c: Rational) -> tuple[Rational, Fraction, Poly | None]:
        """gen^exponent as (coefficient, remaining exponent, further factor): 2^(3/2) = 2 * 2^(1/2)."""
        kind = gen[0]
        whole = exponent.numerator // exponent.denominator
        if kind == "p" and whole and abs(whole) * gen[1].bit_length() <= MAX_BITS:
            return c * Fraction(gen[1]) ** whole, exponent - whole, None
        if gen == I:
            power = whole % 4
            return (-c if power >= 2 else c), Fraction(power % 2) + exponent - whole, None
        if kind == "S" and whole > 0 and self.expandable(dict(gen[1]), whole):
            return c, exponent - whole, self.power(dict(gen[1]), Fraction(whole))
        # sin^2 = 1 - cos^2 is applied in this direction only, which makes polynomials in both unique.
        if kind == "f" and gen[1] == "sin" and whole >= 2:
            cosine = self.function("cos", [dict(gen[2])])
            square = add(constant(1), self.mul(cosine, cosine), -1)
            return c, exponent - 2 * (whole // 2), self.power(square, Fraction(whole // 2))
        if kind == "f" and gen[1] == "abs" and abs(whole) >= 2 and gen not in MODULI:
            even = 2 * (whole // 2)
            return c, exponent - even, self.power(dict(gen[2]), Fraction(even))
        if kind == "X" and gen[1] == ("c", "-1"):
            return c, exponent % 2, None
        return c, exponent, None

    def expandable(self, poly: Poly, n: int) -> bool:
        """Whether poly^n has few enough terms to be multiplied out; else it stays a power of a sum."""
        terms = len(poly)
        return terms < 2 or (n <= 64 and math.comb(n + terms - 1, terms - 1) <= MAX_TERMS // 4)

    # -- powers
    def power(self, base: Poly, exponent: Rational) -> Poly:
        """base to a rational power."""
        if not exponent:
            if not base:
                raise Undefined("0^0")
            return constant(1)
        if not base:
            if exponent < 0:
                raise Undefined("division by zero")
            return {}
        if exponent == 1:
            return base
        exponent = Fraction(exponent)
        if len(base) == 1:
            ((mono, coefficient),) = base.items()
            return self.power_of_term(mono, coefficient, exponent)
        if exponent.denominator == 1:
            if exponent < 0:
                return self.power(self.inverse(base), -exponent)
            if self.expandable(base, int(exponent)):
                result = constant(1)
                for _ in range(int(exponent)):
                    result = self.mul(result, base)
                return result
        elif exponent.denominator == 2 and (root := self.denest(base)) is not None:
            return self.power(root, exponent * 2)
        # A sum is named by its primitive part: sqrt(8x + 4) and 2 sqrt(2x + 1) meet there.
        content, primitive = self.content(base, signed=exponent.denominator == 1)
        opaque: Poly = {UNIT: 1}
        _, rest, factor = self.reduce(("S", key(primitive)), exponent, 1)
        if rest:
            opaque = generator(("S", key(primitive)), rest)
        opaque = self.mul(opaque, factor) if factor is not None else opaque
        return self.mul(self.power(content, exponent), opaque)

    def power_of_term(self, mono: Mono, coefficient: Rational, exponent: Fraction) -> Poly:
        """Factor by factor; roots of products of variables split (see Conventions above)."""
        if mono:
            result = self.power_of_number(coefficient, exponent)
            for gen, e in mono:
                result = self.mul(result, self.power_of_generator(gen, e, exponent))
            return result
        return self.power_of_number(coefficient, exponent)

    def power_of_number(self, base: Rational, exponent: Fraction) -> Poly:
        """A rational to a rational power: exact, or primes under a root."""
        if base == 1:
            return constant(1)
        if exponent == -1 and isinstance(base, int) and base:
            return constant(Fraction(1, base))
        if exponent.denominator == 1 and bits(base) * abs(exponent) <= MAX_BITS:
            return constant(Fraction(base) ** int(exponent))
        result = constant(1)
        if base < 0:
            if exponent.denominator % 2:
                result = constant(-1 if exponent.numerator % 2 else 1)
            elif exponent.denominator == 2:
                result = {frozenset(((I, ONE),)): 1 if exponent.numerator % 4 == 1 else -1}
            else:
                result = self.unit_circle(exponent)
            base = -base
        for value, sign in ((base.numerator, 1), (base.denominator, -1)):
            for prime, multiplicity in factorize(value):
                total = exponent * multiplicity * sign
                c, rest, _ = self.reduce(("p", prime), total, 1)
                term = {frozenset(((("p", prime), rest),)) if rest else UNIT: c}
                result = self.mul(result, term)
        return result

    def power_of_generator(self, gen: Gen, e: Fraction, exponent: Fraction) -> Poly:
        """(gen^e)^exponent, with |x| where an even power meets an even root."""
        total = e * exponent
        if exponent.denominator % 2 == 0 and e.denominator == 1 and e.numerator % 2 == 0 and gen[0] in "sSf":
            if total.denominator > 1 or total.numerator % 2:  # (x^2)^(1/2) = |x|
                base = dict(gen[1]) if gen[0] == "S" else generator(gen)
                return self.power(self.absolute(base), total)
        if gen == I and exponent.denominator > 1:
            return self.unit_circle(HALF * total)
        c, rest, factor = self.reduce(gen, total, 1)
        result: Poly = {frozenset(((gen, rest),)) if rest else UNIT: c}
        return self.mul(result, factor) if factor is not None else result

    def times_power(self, poly: Poly, gen: Gen, by: Fraction) -> Poly:
        """poly * gen^by; a sum that is no longer in a denominator is multiplied out."""
        result: Poly = {}
        for mono, coefficient in poly.items():
            rest = frozenset(pair for pair in mono if pair[0] != gen)
            exponent = dict(mono).get(gen, Fraction(0)) + by
            factor = self.power_of_generator(gen, ONE, exponent) if exponent else constant(1)
            result = add(result, self.mul({rest: coefficient}, factor))
        return result

    def content(self, poly: Poly, signed: bool) -> tuple[Poly, Poly]:
        """(c, p), poly = c * p, p with coprime integer coefficients and, where a sign may move, led by +."""
        numerator = math.gcd(*(c.numerator for c in poly.values()))
        denominator = math.lcm(*(c.denominator for c in poly.values()))
        factor = Fraction(numerator, denominator)
        if signed and min(poly.items(), key=order)[1] < 0:
            factor = -factor
        return constant(factor), {m: int(c / factor) for m, c in poly.items()}

    def inverse(self, poly: Poly) -> Poly:
        """1 / poly, its denominator free of square roots and of i."""
        if len(poly) <= 1:
            return self.power(poly, Fraction(-1))
        for gen in sorted({g for m in poly for g, e in m if self.is_square_root(g, e)}, key=stable):
            with_root = {
                m: c for m, c in poly.items() if any(g == gen and self.is_square_root(g, e) for g, e in m)
            }
            if any(g == gen and not self.is_square_root(g, e) for m in poly for g, e in m):
                continue
            conjugate = add(poly, with_root, -2)
            norm = self.mul(poly, conjugate)
            if norm and not any(g == gen for m in norm for g, e in m if self.is_square_root(g, e)):
                return self.mul(conjugate, self.inverse(norm))
        content, primitive = self.content(poly, signed=True)
        return self.mul(self.power(content, Fraction(-1)), generator(("S", key(primitive)), Fraction(-1)))

    @staticmethod
    def is_square_root(gen: Gen, exponent: Fraction) -> bool:
        """Whether a conjugate exists that takes this factor out of a denominator; i counts as one."""
        return (gen == I and exponent == 1) or (gen[0] in ("p", "S") and exponent == HALF)

    def denest(self, poly: Poly) -> Poly | None:
        """sqrt(a + b sqrt r) = sqrt((a+s)/2) + sign(b) sqrt((a-s)/2), s = sqrt(a^2 - b^2 r) if rational."""
        a = poly.get(UNIT)
        if len(poly) != 2 or a is None or a <= 0:
            return None
        mono, b = next((m, c) for m, c in poly.items() if m)
        if not all(self.is_square_root(g, e) and g[0] == "p" for g, e in mono):
            return None
        square = Fraction(a) ** 2 - Fraction(b) ** 2 * math.prod(g[1] for g, _ in mono)
        if square < 0:
            return None
        top, bottom = integer_root(square.numerator, 2), integer_root(square.denominator, 2)
        if top is None or bottom is None:
            return None
        s = Fraction(top, bottom)
        plus, minus = self.power(constant((a + s) / 2), HALF), self.power(constant((a - s) / 2), HALF)
        return add(plus, minus, 1 if b > 0 else -1)

    def exponential(self, base: Poly, exponent: Poly) -> Poly:
        """base ^ exponent for any exponent: a sum in the exponent is a product of powers."""
        value = rational(exponent)
        if value is not None:
            return self.power(base, value)
        if not base:
            raise Undefined("0 to an unknown power")
        if len(base) > 1:
            content, primitive = self.content(base, signed=False)
            factors: list[tuple[Gen, Rational]] = [(("S", key(primitive)), 1)]
            mono, coefficient = UNIT, content.get(UNIT, 1)
        else:
            ((mono, coefficient),) = base.items()
            factors = list(mono)
        if coefficient < 0:
            factors.append((("c", "-1"), 1))
        for number, sign in ((abs(coefficient.numerator), 1), (coefficient.denominator, -1)):
            factors += [(("p", prime), sign * n) for prime, n in factorize(number)]
        result = constant(1)
        for power, c in exponent.items():
            for gen, e in factors:
                result = self.mul(result, self.exponential_term(gen, power, Fraction(c * e)))
        return result

    def exponential_term(self, gen: Gen, power: Mono, c: Fraction) -> Poly:
        """gen ^ (c * power) for one generator and one monomial."""
        if not power:
            if gen == ("c", "-1"):
                return self.power_of_number(-1, c)
            return self.power_of_generator(gen, ONE, c)
        if gen == E:
            if power == frozenset(((I, ONE), (PI, ONE))):
                return self.unit_circle(c)
            if len(power) == 1:
                ((inner, exponent),) = power
                if inner[0] == "ln" and exponent == 1:
                    argument = inner[1]
                    return self.power(
                        dict(argument) if isinstance(argument, frozenset) else constant(argument), c
                    )
        if gen == ("c", "-1") and c.denominator == 1:  # n counts as whole in (-1)^n
            c %= 2
        return generator(("X", gen, power), c) if c else constant(1)

    def unit_circle(self, turn: Fraction) -> Poly:
        """e^(i pi turn) = cos(pi turn) + i sin(pi turn)."""
        sine = self.mul(generator(I), self.cos_pi(HALF - turn))
        return add(self.cos_pi(turn), sine)

    # -- functions
    def cos_pi(self, q: Fraction) -> Poly:
        """cos(pi q), in radicals for the angles of the triangle, square, pentagon and dodecagon."""
        q = abs(q) % 2
        q = 2 - q if q > 1 else q
        if q > HALF:
            return scale(self.cos_pi(1 - q), -1)
        if q in COSINES:
            result: Poly = {}
            for radicand, coefficient in COSINES[q]:
                result = add(result, scale(self.power_of_number(radicand, HALF), coefficient))
            return result
        return generator(("f", "cos", key({frozenset(((PI, ONE),)): q})))

    def trigonometric(self, name: str, angle: Poly) -> Poly:
        """sin and cos of a Poly: multiples of pi are exact, quarter turns and signs are moved out."""
        pi_term = frozenset(((PI, ONE),))
        turn = Fraction(angle.get(pi_term, 0))
        rest = {m: c for m, c in angle.items() if m != pi_term}
        if not rest:
            return self.cos_pi(turn if name == "cos" else HALF - turn)
        if (2 * turn).denominator > 1:
            rest, turn = angle, Fraction(0)
        if name == "sin":  # sin(r + t) = cos(r + t - 1/2)
            turn -= HALF
        # cos(-u) = cos(u): of u and -u the one whose first term is positive names the value.
        flip = min(rest.items(), key=order)[1] < 0
        rest, turn = (scale(rest, -1), -turn) if flip else (rest, turn)
        quarter = int(2 * turn) % 4  # cos(r + quarter/2 pi): cos, -sin, -cos, sin
        kind = "cos" if quarter % 2 == 0 else "sin"
        return scale(generator(("f", kind, key(rest))), -1 if quarter in (1, 2) else 1)

    def absolute(self, poly: Poly) -> Poly:
        """|poly|: exact for numbers, factor by factor for products, else opaque up to sign."""
        from mathref.grading import numeric

        if I in {g for m in poly for g, _ in m}:
            imaginary = {m - {(I, ONE)}: c for m, c in poly.items() if (I, ONE) in m}
            real = {m: c for m, c in poly.items() if (I, ONE) not in m}
            return self.power(add(self.mul(real, real), self.mul(imaginary, imaginary)), HALF)
        sign = numeric.sign(poly)
        if sign is not None:
            return poly if sign >= 0 else scale(poly, -1)
        if len(poly) == 1:
            ((mono, coefficient),) = poly.items()
            result = constant(abs(coefficient))
            for gen, exponent in mono:
                even = exponent.denominator == 1 and exponent.numerator % 2 == 0
                positive = (
                    even or gen[0] in ("p", "c") or gen[:2] == ("f", "abs") or exponent.denominator % 2 == 0
                )
                factor = generator(gen) if positive else generator(("f", "abs", key(generator(gen))))
                result = self.mul(result, self.power(factor, exponent))
            return result
        content, primitive = self.content(poly, signed=True)
        return self.mul(self.absolute(content), generator(("f", "abs", key(primitive))))

    def function(self, name: str, arguments: list[Poly]) -> Poly:
        """A named function of normal forms."""
        from mathref.grading.functions import apply

        return apply(self, name, arguments)

    # -- trees
    def of(self, node: Node) -> Poly:
        """The normal form of a scalar tree; TypeError for a tree that is not scalar."""
        kind = node[0]
        if kind == "num":
            return constant(node[1])
        if kind == "sym":
            return self.bound.get(node[1]) or ({} if node[1] in self.bound else generator(("s", node[1])))
        if kind == "const":
            return generator(("c", node[1]))
        if kind == "add":
            result: Poly = {}
            for part in node[1]:
                self.spend(1)
                result = add(result, self.of(part))
            return result
        if kind == "mul":
            result = self.of(node[1][0])
            for part in node[1][1:]:
                result = self.mul(result, self.of(part))
            return result
        if kind == "pow":
            if node[2] == num(-1) and (parts := quotient(node[1])):
                top, bottom = map(self.of, parts)
                if not bottom:
                    raise Undefined("division by zero")
                return self.mul(bottom, self.inverse(top))  # 1/(a/b), before the quotient is multiplied out
            return self.exponential(self.of(node[1]), self.of(node[2]))
        if kind in ("deg", "quantity"):
            return self.of(node[1])
        if kind == "fn" and node[1] == "det" and node[2][0][0] == "matrix":
            from mathref.grading import functions

            return functions.determinant(self, [[self.of(cell) for cell in row] for row in node[2][0][1]])
        if kind in ("fn", "mod"):
            arguments = node[2] if kind == "fn" else node[1:]
            return self.function(node[1] if kind == "fn" else "mod", [self.of(part) for part in arguments])
        if kind == "call":
            return generator(("call", node[1], *(key(self.of(part)) for part in node[2])))
        if kind == "based":
            return based(node[1], node[2])
        if kind in ("sum", "prod"):
            from mathref.grading import functions

            return functions.series(self, *node)
        if kind in ("lim", "int", "diff"):
            from mathref.grading import calculus

            return calculus.evaluate(self, node)
        raise TypeError(f"{kind} is not a scalar")

    # -- comparison
    def difference_is_zero(self, a: Poly, b: Poly) -> bool:
        """Whether a = b: exactly where the generators are independent, else numerically to 200 digits."""
        from mathref.grading import numeric

        if a == b:
            return True
        difference = add(a, b, -1)
        if not difference:
            return True
        gens = {g for m in difference for g, _ in m}
        if all(is_independent(g) for g in gens):
            return False
        cleared = self.clear_denominators(difference)
        if cleared is not None:
            if not cleared:
                return True
            difference = cleared
            if all(is_independent(g) for m in difference for g, _ in m):
                return False
        self.used_numbers = True
        self.spend(200)
        return numeric.is_zero(difference)

    def clear_denominators(self, poly: Poly) -> Poly | None:
        """poly times the powers that leave no sum a negative exponent; None where that is too large."""
        lowest: dict[Gen, Fraction] = {}
        for mono in poly:
            for gen, exponent in mono:
                if exponent < 0 and not (gen[0] == "s" or gen[0] == "p"):
                    lowest[gen] = min(exponent, lowest.get(gen, exponent))
        try:
            for gen, exponent in lowest.items():
                poly = self.times_power(poly, gen, -exponent)
        except TooHard:
            return None
        return poly
