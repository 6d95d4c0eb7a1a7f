r"""The eighteen families of built-in problems: each draws its numbers and writes the problem and both
solutions.

Paper: section 3; "brief" stands in for the human solutions of MATH, "detailed" for the finer steps of
PRM800K.
Choices [P]: `level` 1 to 5 sizes the numbers and adds steps. The detailed style writes out what the brief
one does in the head: partial products, Euclid's divisions, running totals, the reduction of a fraction.
Every answer is exact LaTeX: integers, fractions, pairs, lists, intervals, radicals, numerals in another
base. A family returns a `Draft`; splitting, levels and identities are the business of problems.py.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from mathref.arithmetic import euclid, frac, plus, radical, reduced, signed, square_part, times

NAMES = ("Ana", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Iris", "Jack", "Kira", "Leo")
GOODS = ("pens", "books", "apples", "cups", "plants", "hats", "tickets", "lamps")


class Draft(NamedTuple):
    """What a family returns: the canonical numbers, the texts, and the steps of the detailed solution."""

    numbers: tuple[int | str, ...]
    problem: str
    answer: str
    brief: str  # the working only; "so the answer is ..." is added
    steps: list[str]


def linear_equation(rng: random.Random, level: int) -> Draft:
    """One unknown: a(bx + c) = dx + e with an integer solution; from level 2 on both sides have x."""
    a = rng.randint(3, 4 + 2 * level)
    c = rng.randint(1, a - 2) if level > 1 else 0
    b, x = rng.randint(1, 12 * level), rng.randint(-3 * level, 8 * level)
    factor = rng.randint(2, 9) if level > 3 else 1
    right = (factor * a - c) * x + factor * b
    slope, inside = factor * a - c, f"{a}x{signed(b)}"
    left = f"{factor}({inside})" if factor > 1 else inside
    rhs = f"{c if c > 1 else ''}x{signed(right)}" if c else str(right)
    steps = []
    if factor > 1:
        steps.append(
            f"Expand: {times(factor, a)} and {times(b, factor)}, so {factor * a}x+{factor * b}={rhs}."
        )
    if c:
        steps.append(
            f"Subtract {signed(c, 'x')[1:]} from both sides: {factor * a}-{c}={slope}, "
            f"so {slope}x+{factor * b}={right}."
        )
    steps.append(
        f"Subtract {factor * b} from both sides: {right}-{factor * b}={slope * x}, so {slope}x={slope * x}."
    )
    steps.append(f"Divide by {slope}: {slope * x}/{slope}={x}.")
    ask = rng.choice(["Solve for $x$: ${}$.", "Find $x$ if ${}$.", "What value of $x$ satisfies ${}$?"])
    return Draft(
        (factor, a, b, c, right), ask.format(f"{left}={rhs}"), str(x), f"{slope}x={slope * x}", steps
    )


def linear_system(rng: random.Random, level: int) -> Draft:
    """Two unknowns by elimination; the answer is the pair (x,y)."""
    x, y = rng.randint(1, 5 * level), rng.randint(1, 5 * level)
    m, k = rng.randint(1, level), rng.randint(2, 3 + level)
    n = rng.randint(1, min(9, k * m - 1))
    total, second, left = x + m * y, k * x + n * y, k * m - n
    steps = [
        f"Multiply the first equation by {k}: {times(total, k)}, so {k}x+{k * m}y={k * total}.",
        f"Subtract the second: {k * total}-{second}={left * y}, {k * m}-{n}={left}, so {left}y={left * y}.",
        f"Divide by {left}: {left * y}/{left}={y}, so y={y}.",
        f"{times(m, y)}, so x={total}-{m * y}={x}.",
    ]
    ask = rng.choice(
        ["Solve the system ${}$, ${}$ for $(x,y)$.", "Find the pair $(x,y)$ with ${}$ and ${}$."]
    )
    problem = ask.format(f"x{signed(m, 'y')}={total}", f"{k}x{signed(n, 'y')}={second}")
    return Draft((m, total, k, n, second), problem, f"({x},{y})", f"{left}y={left * y}, y={y}, x={x}", steps)


def fraction_sum(rng: random.Random, level: int) -> Draft:
    """Sum or difference of two fractions in lowest terms."""
    b, d = rng.randint(2, 4 + 3 * level), rng.randint(2, 4 + 3 * level)
    a, c = rng.randint(1, 2 * b), rng.randint(1, 2 * d)
    sign = "-" if rng.random() < 0.4 and a * d > c * b else "+"
    common = math.lcm(b, d)
    p, q = a * (common // b), c * (common // d)
    top = p - q if sign == "-" else p + q
    steps = [
        f"The common denominator of {b} and {d} is {common}.",
        f"{common}/{b}={common // b}, so the first numerator is {times(a, common // b)}.",
        f"{common}/{d}={common // d}, so the second numerator is {times(c, common // d)}.",
        f"{p}{sign}{q}={top}, so the result is {top}/{common}.",
        *reduced(top, common),
    ]
    ask = rng.choice(["Compute ${}$. Give a reduced fraction.", "What is ${}$ in lowest terms?"])
    ordered = (a, b, c, d) if sign == "-" or (b, a) <= (d, c) else (c, d, a, b)
    problem = ask.format(f"\\frac{{{a}}}{{{b}}}{sign}\\frac{{{c}}}{{{d}}}")
    return Draft(
        (sign, *ordered), problem, frac(Fraction(top, common)), f"{p}{sign}{q}={top}, {top}/{common}", steps
    )


def percent_change(rng: random.Random, level: int) -> Draft:
    """A rise by p percent, from level 3 on then a fall by q percent; all amounts are whole."""
    percents = (10, 50, 20, 25, 30, 40, 5, 15, 60, 35)[: 5 + level]
    p, q = rng.choice(percents), rng.choice(percents)
    price = 20 * rng.randint(2, 40) if level < 3 else 400 * rng.randint(1, 8 * level - 14)
    up, name = price * p // 100, rng.choice(NAMES)
    steps = [f"{p} percent of {price}: {times(price // 20, p)}, divided by 5 this is {up}."]
    if level < 3:
        problem = rng.choice(
            [f"{name} has {price} dollars and wins ${p}\\%$ more. How many dollars is that in all?",
             f"A rent of {price} dollars rises by ${p}\\%$. What is the new rent in dollars?"]
        )  # fmt: skip
        return Draft(
            (price, p), problem, str(price + up), f"{price}+{up}", [*steps, f"In all: {plus(price, up)}."]
        )
    high = price + up
    down = high * q // 100
    steps += [
        f"After the raise: {plus(price, up)}.",
        f"{q} percent of {high}: {times(high // 20, q)}, divided by 5 this is {down}.",
        f"After the discount: {high}-{down}={high - down}.",
    ]
    problem = rng.choice(
        [f"A price of {price} dollars rises by ${p}\\%$, then falls by ${q}\\%$. What is it now?",
         f"{name} owns {price} dollars. It grows by ${p}\\%$, then shrinks by ${q}\\%$. How much is left?"]
    )  # fmt: skip
    return Draft((price, p, q), problem, str(high - down), f"{price}+{up}={high}, {high}-{down}", steps)


def gcd_or_lcm(rng: random.Random, level: int) -> Draft:
    """Greatest common divisor by Euclid's algorithm, or the least common multiple through it."""
    common = rng.randint(2, 4 + 4 * level)
    a, b = common * rng.randint(2, 5 + 2 * level), common * rng.randint(2, 5 + 2 * level)
    a, b = (a, b + common) if a == b else (a, b)
    divisor, want_lcm = math.gcd(a, b), level > 1 and rng.random() < 0.5
    steps = [*euclid(a, b), f"The last divisor is {divisor}."]
    word, answer, brief = "greatest common divisor", divisor, f"Euclid's algorithm gives {divisor}"
    if want_lcm:
        word, answer = "least common multiple", math.lcm(a, b)
        steps += [f"{a}/{divisor}={a // divisor}.", f"The multiple is {times(b, a // divisor)}."]
        brief = f"The gcd is {divisor}, {a // divisor}*{b}"
    problem = rng.choice(["What is the {} of {} and {}?", "Find the {} of {} and {}."]).format(word, a, b)
    return Draft((word, min(a, b), max(a, b)), problem, str(answer), brief, steps)


def remainder(rng: random.Random, level: int) -> Draft:
    """Remainder of a*b+c, or of a power computed factor by factor."""
    m = rng.randint(3, 5 + 2 * level)
    if level > 2 and rng.random() < 0.5:
        a, n = rng.randint(2, 4 + level), rng.randint(3, 2 + level)
        steps, power = [], a % m
        for exponent in range(2, n + 1):
            product = power * a
            steps.append(f"{a}^{exponent}: {power}*{a}={product}={product // m}*{m}+{product % m}.")
            power = product % m
        problem = f"What is the remainder when ${a}^{n}$ is divided by {m}?"
        return Draft((a, n, m), problem, str(power), f"{a}^{n}={a**n}", steps)
    a, b, c = rng.randint(5, 20 * level), rng.randint(3, 9 * level), rng.randint(1, 20 * level)
    ra, rb, rc = a % m, b % m, c % m
    total = ra * rb + rc
    steps = [
        f"{a}={a // m}*{m}+{ra}, {b}={b // m}*{m}+{rb} and {c}={c // m}*{m}+{rc}.",
        f"{ra}*{rb}={ra * rb}, and {ra * rb}+{rc}={total}.",
        f"{total}={total // m}*{m}+{total % m}.",
    ]
    problem = f"Find the remainder when ${a}*{b}+{c}$ is divided by {m}."
    return Draft((a, b, c, m), problem, str(total % m), f"{a}*{b}+{c}={a * b + c}", steps)


def arithmetic_sequence(rng: random.Random, level: int) -> Draft:
    """A late term, from level 3 on the sum of the first n terms."""
    first, step = rng.randint(1, 10 * level), rng.randint(2, 3 + 2 * level)
    n = rng.randint(5, 6 + 5 * level)
    last = first + (n - 1) * step
    shown = ", ".join(str(first + i * step) for i in range(3))
    steps = [
        f"The difference is {first + step}-{first}={step}.",
        f"Term {n} adds {n - 1} differences: {times(n - 1, step)}, {first}+{(n - 1) * step}={last}.",
    ]
    if level < 3:
        problem = rng.choice(["What is term {} of the sequence {}, ...?", "Find term number {} of {}, ..."])
        return Draft(
            ("term", first, step, n), problem.format(n, shown), str(last), f"{first}+{n - 1}*{step}", steps
        )
    double = n * (first + last)
    steps += [
        f"First and last add to {plus(first, last)}.",
        f"{times(first + last, n)}, and half of it is {double // 2}.",
    ]
    problem = f"Find the sum of the first {n} terms of the sequence {shown}, ..."
    return Draft(
        ("sum", first, step, n), problem, str(double // 2), f"{n}*({first}+{last})/2={double}/2", steps
    )


def geometric_sequence(rng: random.Random, level: int) -> Draft:
    """The last term, from level 3 on the sum of all of them."""
    ratio, n = rng.randint(2, 3 + level // 2), rng.randint(3, 4 + level // 3)
    first = rng.randint(2, 9 * level + 9)
    terms = [first * ratio**i for i in range(n)]
    steps = [f"Term {i + 1}: {times(terms[i - 1], ratio)}." for i in range(1, n)]
    brief = f"The last term is {terms[-1]}"
    kind, answer = "term", terms[-1]
    problem = (
        f"A sequence starts with {first} and each term is {ratio} times the one before. What is term {n}?"
    )
    if level > 2:
        kind, answer = "sum", sum(terms)
        steps.append(f"The sum is {plus(*terms)}.")
        problem = (
            f"Add the first {n} terms of the sequence that starts with {first} and grows by a factor {ratio}."
        )
        brief = f"{'+'.join(map(str, terms))}"
    return Draft((kind, first, ratio, n), problem, str(answer), brief, steps)


def travel(rng: random.Random, level: int) -> Draft:
    """Distance over two legs, from level 3 on the average speed."""
    speeds = rng.randint(2, 6 + 6 * level), rng.randint(2, 6 + 6 * level)
    hours = rng.randint(2, 3 + level), rng.randint(2, 3 + level)
    first, second = speeds[0] * hours[0], speeds[1] * hours[1]
    total, time = first + second, sum(hours)
    name = rng.choice(NAMES)
    legs = [f"{h} hours at {v} km per hour" for h, v in zip(hours, speeds, strict=True)]
    story = f"{name} goes {legs[0]} and {legs[1]}."
    steps = [
        f"First part: {times(speeds[0], hours[0])} km.",
        f"Second part: {times(speeds[1], hours[1])} km.",
    ]
    steps.append(f"In all: {plus(first, second)} km.")
    brief = f"{first}+{second}={total}"
    if level < 3:
        return Draft(
            ("way", *speeds, *hours), f"{story} How many km is the whole way?", str(total), brief, steps
        )
    steps += [f"The time is {plus(*hours)} hours, so the average is {total}/{time}.", *reduced(total, time)]
    problem = f"{story} What is the average speed in km per hour?"
    return Draft(
        ("mean", *speeds, *hours), problem, frac(Fraction(total, time)), f"{brief}, {total}/{time}", steps
    )


def committees(rng: random.Random, level: int) -> Draft:
    """A product of binomials, each a falling product over a factorial."""
    women, men = rng.randint(3, 5 + level), rng.randint(3, 5 + level)
    w, m = rng.randint(1, min(3, 1 + level // 2)), rng.randint(1, 2)
    extra = rng.randint(2, 9) if level > 2 else 1

    def choose(n: int, k: int) -> tuple[int, str]:
        if k == 1:
            return n, f"{n} ways"
        top = times(n, n - 1) if k == 2 else f"{times(n, n - 1)}, {times(n * (n - 1), n - 2)}"
        return math.comb(n, k), f"{top}, {math.perm(n, k)}/{math.factorial(k)}={math.comb(n, k)} ways"

    (cw, text_w), (cm, text_m) = choose(women, w), choose(men, m)
    steps = [
        f"{w} of {women} women: {text_w}.",
        f"{m} of {men} men: {text_m}.",
        f"Together: {times(cw, cm)}.",
    ]
    problem = f"In how many ways can {w} of {women} women and {m} of {men} men be chosen?"
    if extra > 1:
        problem = (
            f"How many teams of {w} of {women} women, {m} of {men} men and one of {extra} coaches exist?"
        )
        steps.append(f"With a coach: {times(cw * cm, extra)}.")
    brief = f"{cw}*{cm}" + (f"*{extra}" if extra > 1 else "")
    return Draft((women, w, men, m, extra), problem, str(cw * cm * extra), brief, steps)


def draw_marbles(rng: random.Random, level: int) -> Draft:
    """Two draws without putting back: both red, or both of one color."""
    red, blue = rng.randint(2, 4 + 2 * level), rng.randint(2, 4 + 2 * level)
    green = rng.randint(1, 2 * level) if level > 2 else 0
    n, same = red + blue + green, level > 1 and rng.random() < 0.6
    counts = [c for c in (red, blue, green) if c]
    bag = (
        f"A bag has {red} red"
        + (f", {blue} blue and {green} green" if green else f" and {blue} blue")
        + " marbles."
    )
    steps = [f"There are {plus(*counts)} marbles, so {times(n, n - 1)} ordered draws of two."]
    if same:
        ways = [c * (c - 1) for c in counts]
        steps.append(
            "Same color: "
            + ", ".join(f"{c}*{c - 1}={way}" for c, way in zip(counts, ways, strict=True))
            + "."
        )
        good, ask = sum(ways), "have the same color"
        steps.append(f"Together {plus(*ways)}, so the chance is {good}/{n * (n - 1)}.")
    else:
        good, ask = red * (red - 1), "are both red"
        steps.append(f"Both red: {times(red, red - 1)}, so the chance is {good}/{n * (n - 1)}.")
    steps += reduced(good, n * (n - 1))
    problem = f"{bag} Two are drawn without putting back. What is the probability that they {ask}?"
    answer = frac(Fraction(good, n * (n - 1)))
    return Draft((ask, red, blue, green), problem, answer, f"{good}/{n * (n - 1)}", steps)


def quadratic(rng: random.Random, level: int) -> Draft:
    """Integer roots by sum and product; from level 4 on the larger root by completing the square."""
    if level < 4:
        p, q = sorted(rng.sample([r for r in range(-6 - 3 * level, 8 + 4 * level) if r], 2))
        b, c = -(p + q), p * q
        equation = f"x^2{signed(b, 'x')}{signed(c)}=0"
        steps = [
            f"The roots multiply to {c} and add to {-b}.",
            f"{p}*{q}={c}" if q > 0 else f"({p})*({q})={c}",
        ]
        steps[1] += f" and {p}{signed(q)}={p + q}, so the roots are {p} and {q}."
        problem = rng.choice(["Find all solutions of ${}$.", "Solve ${}$ for $x$."]).format(equation)
        return Draft((b, c), problem, f"{p},{q}", f"The roots are {p} and {q}", steps)
    half, under = rng.randint(1, 3 * level), rng.choice([n for n in range(2, 60) if math.isqrt(n) ** 2 != n])
    outer, inner = square_part(under)
    root = f"{half}+{radical(outer, inner)}"
    steps = [
        f"Half of {2 * half} is {half}, and {half}*{half}={half * half}.",
        f"(x-{half})^2={half * half}-{half * half - under}={under}." if half * half > under
        else f"(x-{half})^2={half * half}+{under - half * half}={under}.",
    ]  # fmt: skip
    if outer > 1:
        steps.append(f"{under}={outer * outer}*{inner}, so the root of {under} is {radical(outer, inner)}.")
    problem = f"What is the larger root of $x^2-{2 * half}x{signed(half * half - under)}=0$?"
    return Draft((-2 * half, half * half - under), problem, root, f"(x-{half})^2={under}", steps)


def radical_sum(rng: random.Random, level: int) -> Draft:
    """A sum of square roots over one radicand."""
    inner = rng.choice((2, 3, 5, 6, 7, 10, 11, 13))
    outers = [rng.randint(2, 4 + level) for _ in range(2 + (level > 3))]
    factors = [rng.randint(2, 3 + level) if level > 1 else 1 for _ in outers]
    terms = [radical(f, o * o * inner) for f, o in zip(factors, outers, strict=True)]
    steps = []
    for f, o in zip(factors, outers, strict=True):
        tail = f", and {times(f, o)}" if f > 1 else ""
        steps.append(f"{o * o * inner}={o * o}*{inner}, so its root is {radical(o, inner)}{tail}.")
    products = [f * o for f, o in zip(factors, outers, strict=True)]
    total = sum(products)
    steps.append(f"The sum is {plus(*products)} roots of {inner}.")
    problem = rng.choice(["Simplify ${}$.", "Write ${}$ as a single radical."]).format("+".join(terms))
    numbers = sorted(zip(outers, factors, strict=True))
    brief = "+".join(radical(k, inner) for k in products)
    return Draft((inner, str(numbers)), problem, radical(total, inner), brief, steps)


def inequality(rng: random.Random, level: int) -> Draft:
    """A linear inequality, from level 3 on with an absolute value; the answer is an interval."""
    a, b, c = rng.randint(2, 3 + 2 * level), rng.randint(1, 9 * level), rng.randint(1, 6 * level)
    edge = "Give the answer as an interval."
    if level < 3:
        bound = a * c + b
        steps = [
            f"Subtract {b}: {bound}-{b}={a * c}, so {a}x<{a * c}.",
            f"Divide by {a}: {a * c}/{a}={c}, so x<{c}.",
        ]
        problem = f"Solve ${a}x+{b}<{bound}$. {edge}"
        return Draft((a, b, bound), problem, f"(-\\infty,{c})", f"{a}x<{a * c}, x<{c}", steps)
    low, high = sorted((rng.randint(-6 * level, 4 * level), rng.randint(-6 * level, 4 * level) + 1))
    high += low == high
    if (a * (low + high)) % 2:
        high += 1
    center, bound = -a * (low + high) // 2, a * (high - low) // 2
    right, left = bound - center, -bound - center
    steps = [
        f"The inside lies between -{bound} and {bound}.",
        f"Move {abs(center)} over: {bound}{signed(-center)}={right} and -{bound}{signed(-center)}={left}."
        if center else "Nothing has to be moved over.",
        f"Divide by {a}: {left}/{a}={low} and {right}/{a}={high}.",
    ]  # fmt: skip
    problem = f"Solve $|{a}x{signed(center)}|\\le {bound}$. {edge}"
    return Draft((a, center, bound), problem, f"[{low},{high}]", f"{left}\\le {a}x\\le {right}", steps)


def composition(rng: random.Random, level: int) -> Draft:
    """f(g(x)) of two linear functions, from level 3 on with a square inside f."""
    a, b = rng.randint(2, 3 + level), rng.randint(1, 5 * level)
    c, d = rng.randint(2, 3 + level), rng.randint(1, 4 * level)
    x = rng.randint(1, 3 + level)
    inner = c * x - d
    if level < 3:
        steps = [
            f"g({x})={times(c, x)}, {c * x}-{d}={inner}.",
            f"f({inner})={a}*{inner}+{b}={a * inner}+{b}={a * inner + b}.",
        ]
        value, shape = a * inner + b, f"{a}x+{b}"
    else:
        square = inner * inner
        steps = [
            f"g({x})={times(c, x)}, {c * x}-{d}={inner}.",
            f"{times(abs(inner), abs(inner))}." if inner else "0*0=0.",
            f"{times(square, a)}." if square else f"{a}*0=0.",
            f"Then {a * square}-{b}={a * square - b}.",
        ]
        value, shape = a * square - b, f"{a}x^2-{b}"
    problem = f"Let $f(x)={shape}$ and $g(x)={c}x-{d}$. " + rng.choice(
        [f"What is $f(g({x}))$?", f"Find $f(g({x}))$."]
    )
    return Draft((shape, c, d, x), problem, str(value), f"g({x})={inner}, f({inner})={value}", steps)


def missing_mean(rng: random.Random, level: int) -> Draft:
    """The value that is missing for a given mean."""
    n = rng.randint(3, 3 + level)
    values = [rng.randint(2, 20 * level) for _ in range(n - 1)]
    known = sum(values)
    mean = known // n + rng.randint(1, 4 * level)
    name, missing = rng.choice(NAMES), n * mean - known
    shown = ", ".join(map(str, values[:-1])) + f" and {values[-1]}"
    steps = [f"The known ones add to {plus(*values)}.", f"All {n} must add to {times(mean, n)}."]
    steps.append(f"The missing one is {n * mean}-{known}={missing}.")
    problem = rng.choice(
        [f"{name} scored {shown} points. What must the next score be for a mean of {mean}?",
         f"The mean of {n} numbers is {mean}. All but one are {shown}. What is the missing number?"]
    )  # fmt: skip
    return Draft(
        (mean, *sorted(values)), problem, str(missing), f"{n}*{mean}-{known}={n * mean}-{known}", steps
    )


def change_base(rng: random.Random, level: int) -> Draft:
    """A numeral in another base by repeated division."""
    base = rng.randint(2 + (level > 2), 4 + level)
    n = rng.randint(base * base, (30, 60, 150, 400, 700)[level - 1] + base * base)
    digits, steps, rest = "", [], n
    while rest:
        steps.append(f"{rest}={rest // base}*{base}+{rest % base}.")
        digits, rest = str(rest % base) + digits, rest // base
    steps.append("Read the remainders upwards.")
    problem = rng.choice([f"Write {n} in base {base}.", f"What is the base ten number {n} in base {base}?"])
    return Draft((n, base), problem, f"{digits}_{{{base}}}", f"Dividing by {base} gives {digits}", steps)


def shopping(rng: random.Random, level: int) -> Draft:
    """Prices times counts, added up; from level 2 on the change as well."""
    kinds = rng.sample(GOODS, 2 + (level > 3))
    prices = [rng.randint(2, 5 + 6 * level) for _ in kinds]
    counts = [rng.randint(2, 4 + 2 * level) for _ in kinds]
    costs = [p * c for p, c in zip(prices, counts, strict=True)]
    total, name = sum(costs), rng.choice(NAMES)
    paid = total + rng.randint(1, 20 * level)
    items = [f"{c} {k} for {p} dollars each" for c, k, p in zip(counts, kinds, prices, strict=True)]
    steps = [f"The {k} cost {times(p, c)}." for k, p, c in zip(kinds, prices, counts, strict=True)]
    steps.append(f"In all: {plus(*costs)}.")
    problem = f"{name} buys {', '.join(items[:-1])} and {items[-1]}."
    numbers = sorted(zip(prices, counts, strict=True))
    brief = f"{'+'.join(map(str, costs))}={total}"
    if level == 1:
        return Draft(("cost", str(numbers)), f"{problem} How many dollars is that?", str(total), brief, steps)
    steps.append(f"The change is {paid}-{total}={paid - total}.")
    problem += f" How many dollars are left of {paid}?"
    return Draft(("left", paid, str(numbers)), problem, str(paid - total), f"{brief}, {paid}-{total}", steps)


FAMILIES: dict[str, tuple[Callable[[random.Random, int], Draft], str]] = {
    "linear": (linear_equation, "Algebra"),
    "system": (linear_system, "Algebra"),
    "fraction": (fraction_sum, "Prealgebra"),
    "percent": (percent_change, "Prealgebra"),
    "gcd": (gcd_or_lcm, "Number Theory"),
    "remainder": (remainder, "Number Theory"),
    "arithmetic": (arithmetic_sequence, "Algebra"),
    "geometric": (geometric_sequence, "Algebra"),
    "travel": (travel, "Prealgebra"),
    "committee": (committees, "Counting & Probability"),
    "marbles": (draw_marbles, "Counting & Probability"),
    "quadratic": (quadratic, "Intermediate Algebra"),
    "radical": (radical_sum, "Intermediate Algebra"),
    "inequality": (inequality, "Intermediate Algebra"),
    "composition": (composition, "Algebra"),
    "mean": (missing_mean, "Prealgebra"),
    "base": (change_base, "Number Theory"),
    "shopping": (shopping, "Prealgebra"),
}
