r"""Hypothesis strategies for answers: random ones of every family, other spellings of the same, and near
misses.

Paper: none; the properties a grading function g(A, A') of section 9 must have are tested with these.
Choices: a family draws a *value* (plain Python data whose equality is known), and spells it in one of many
ways; a rewrite is a second spelling of one value, a mutation the spelling of a changed value. So nothing here
relies on the grader under test, and the strategies serve to test any other grader too. Hypothesis is imported
only here.

    from hypothesis import given
    from mathref.strategies import rewrites, mutations

    @given(rewrites())
    def test_my_grader(pair): assert my_grader(*pair)
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]

_SMALL = st.integers(-12, 12)
_RADICANDS = st.sampled_from([2, 3, 5, 6, 7, 10, 11, 13])
_NAMES = (
    "Alice Robert Chloe Daniel Evelyn Navin ellipse parabola hyperbola increasing neither Saturday".split()
)
_UNITS = "cm miles square units dollars degrees apples meters per second".split()
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    " seventeen eighteen nineteen"
).split()


class Family(NamedTuple):
    """Values of one kind, how to write one, and how to make another value of it."""

    values: st.SearchStrategy[Any]
    spell: Callable[[Draw, Any], str]
    change: Callable[[Draw, Any], Any]


# ---------------------------------------------------------------- spellings
def _decimal(value: Fraction) -> str | None:
    """A terminating decimal, or None where the expansion does not end within twelve digits."""
    for digits in range(1, 13):
        if 10**digits % value.denominator == 0:
            whole = abs(value) * 10**digits
            text = f"{int(whole) // 10**digits}.{int(whole) % 10**digits:0{digits}d}"
            return "-" + text if value < 0 else text
    return None


def spell_rational(draw: Draw, value: Fraction) -> str:
    """A rational number as an integer, fraction, decimal, mixed number, product or sum; integers also with
    units.
    """
    sign, top, bottom = "-" if value < 0 else "", abs(value.numerator), value.denominator
    k, other = draw(st.integers(2, 9)), draw(_SMALL)
    forms = [
        rf"{sign}\frac{{{top}}}{{{bottom}}}",
        rf"{sign}\dfrac{{{k * top}}}{{{k * bottom}}}",
        f"{sign}{top}/{bottom}",
        rf"\frac{{{value.numerator}}}{{{bottom}}}",
        rf"\left({sign}\tfrac {{{top}}} {{{bottom}}}\right)",
        f"{(value - other).numerator}/{bottom} + {other}" if other > 0 else f"${sign}{top}/{bottom}$",
        rf"{k * value.numerator}\cdot\frac{{1}}{{{k * bottom}}}",
    ]
    if (decimal := _decimal(value)) is not None:
        forms += [decimal, decimal.replace("0.", ".", 1) if 0 < abs(value) < 1 else decimal + "0"]
    if top > bottom > 1:
        forms.append(rf"{sign}{top // bottom}\frac{{{top % bottom}}}{{{bottom}}}")
    if bottom == 1:
        unit = draw(st.sampled_from(_UNITS))
        forms += [
            f"{value}",
            f"{int(value):,}",
            rf"{value}\text{{ {unit}}}",
            f"{value}.",
            rf"\boxed{{{value}}}",
            f"{value}.0",
        ]
        forms += [
            f"{k * int(value)}/{k}",
            f"{value - k} + {k}",
            rf"{value}\%",
            rf"{value}^\circ",
            f"{sign}{top}^1",
        ]
        if 0 <= value < 20:
            forms += [_ONES[int(value)], rf"\text{{{_ONES[int(value)].title()}}}"]
    return draw(st.sampled_from(forms))


def spell_radical(draw: Draw, value: tuple[int, int, int]) -> str:
    r"""a + b sqrt(r), r without square factors."""
    a, b, r = value
    sign, size = ("-", -b) if b < 0 else ("+", b)
    root = draw(
        st.sampled_from([rf"{size}\sqrt{{{r}}}", rf"\sqrt{{{size * size * r}}}", rf"{size}*sqrt({r})"])
    )
    root = draw(st.sampled_from([root, rf"\frac{{{size * r}}}{{\sqrt{{{r}}}}}", rf"{size}\cdot {r}^{{1/2}}"]))
    if a == 0:
        return f"-{root}" if sign == "-" else root
    return draw(
        st.sampled_from(
            [f"{a} {sign} {root}", f"{'-' if sign == '-' else ''}{root} {'+' if a > 0 else '-'} {abs(a)}"]
        )
    )


def spell_complex(draw: Draw, value: tuple[int, int]) -> str:
    a, b = value
    size = "" if abs(b) == 1 else str(abs(b))
    sign = "-" if b < 0 else "+"
    return draw(
        st.sampled_from(
            [f"{a}{sign}{size}i", f"{'-' if b < 0 else ''}{size}i + {a}", rf"{a} {sign} i \cdot {abs(b)}"]
        )
    )


def spell_pi(draw: Draw, value: Fraction) -> str:
    top, bottom = value.numerator, value.denominator
    forms = [
        rf"\frac{{{top}\pi}}{{{bottom}}}",
        rf"\frac{{{top}}}{{{bottom}}}\pi",
        f"{top}π/{bottom}",
        f"{top}*pi/{bottom}",
    ]
    return draw(st.sampled_from(forms))


def spell_polynomial(draw: Draw, roots: tuple[int, ...]) -> str:
    """(x - r1)(x - r2)..., factored or expanded, its terms in any order."""
    if draw(st.booleans()):
        order = draw(st.permutations(roots))
        return "".join(f"(x{'-' if r >= 0 else '+'}{abs(r)})" for r in order)
    coefficients = [1]  # of x^0, x^1, ...
    for r in roots:
        coefficients = [a - r * b for a, b in zip([0, *coefficients], [*coefficients, 0], strict=True)]
    terms = [(c, k) for k, c in enumerate(coefficients) if c]
    text = "".join(f"{'+' if c >= 0 else '-'}{abs(c)}x^{{{k}}}" for c, k in draw(st.permutations(terms)))
    return text.removeprefix("+") or "0"


def spell_tuple(draw: Draw, value: tuple[Fraction, ...]) -> str:
    inner = draw(st.sampled_from([",", ", ", r",\;"])).join(spell_member(draw, v) for v in value)
    return draw(st.sampled_from([f"({inner})", rf"\left({inner}\right)", rf"\langle {inner}\rangle"]))


def spell_member(draw: Draw, value: Fraction) -> str:
    """A rational without commas or units, fit to stand in a list."""
    if value.denominator == 1:
        return draw(st.sampled_from([str(value), f"{2 * value}/2", f"{value}.0"]))
    return draw(st.sampled_from([rf"\frac{{{value.numerator}}}{{{value.denominator}}}", f"{value}"]))


def spell_set(draw: Draw, value: frozenset[Fraction]) -> str:
    """A set, or a bare list, in any order."""
    members = [spell_member(draw, v) for v in draw(st.permutations(sorted(value)))]
    inner = ", ".join(members)
    forms = [
        rf"\{{{inner}\}}",
        rf"\left\{{ {inner} \right\}}",
        inner,
        "; ".join(members),
        " or ".join(members),
    ]
    return draw(st.sampled_from(forms))


def spell_interval(draw: Draw, value: tuple[Fraction, bool, Fraction, bool]) -> str:
    """A bounded interval as an interval or as a chain of inequalities."""
    low, low_closed, high, high_closed = value
    a, b = spell_member(draw, low), spell_member(draw, high)
    brackets = "[" if low_closed else "(", "]" if high_closed else ")"
    forms = [f"{brackets[0]}{a},{b}{brackets[1]}", rf"\left{brackets[0]} {a}, {b} \right{brackets[1]}"]
    below, above = r"\le" if low_closed else "<", r"\leq" if high_closed else "<"
    forms += [f"{a} {below} x {above} {b}", rf"x \in {forms[0]}"]
    forms.append(f"{'[' if low_closed else ']'}{a};{b}{']' if high_closed else '['}")
    return draw(st.sampled_from(forms))


def spell_union(draw: Draw, value: tuple[int, int, int]) -> str:
    """(-oo, a) and (a + b, a + b + c], in either order."""
    a, b, c = value
    parts = [rf"(-\infty,{a})", f"({a + b}, {a + b + c}]"]
    return draw(st.sampled_from([r" \cup ", "∪", r"\cup"])).join(draw(st.permutations(parts)))


def spell_matrix(draw: Draw, value: tuple[tuple[Fraction, ...], ...]) -> str:
    kind = draw(st.sampled_from(["pmatrix", "bmatrix"]))
    rows = r" \\ ".join(" & ".join(spell_member(draw, cell) for cell in row) for row in value)
    return rf"\begin{{{kind}}} {rows} \end{{{kind}}}"


def spell_line(draw: Draw, value: tuple[int, int, int]) -> str:
    """The equation a x + b y = c, multiplied through and rearranged."""
    k = draw(st.sampled_from([1, 2, 3, -1, -2]))
    a, b, c = (k * n for n in value)
    forms = [f"{a}x + {b}y = {c}", f"{c} = {b}y + {a}x", f"{a}x + {b}y - {c} = 0", f"{a}x = {c} - {b}y"]
    return draw(st.sampled_from(forms)).replace("+ -", "- ").replace("- -", "+ ")


def spell_words(draw: Draw, value: str) -> str:
    forms = [
        value,
        rf"\text{{{value}}}",
        value.lower(),
        rf"\textbf{{{value}}}",
        rf"\text{{ {value} }}.",
        f"{value}.",
    ]
    return draw(st.sampled_from(forms))


def spell_choice(draw: Draw, value: str) -> str:
    return draw(
        st.sampled_from(
            [value, f"({value})", rf"\text{{{value}}}", rf"\textbf{{({value})}}", rf"\text{{({value})}}"]
        )
    )


def spell_plus_minus(draw: Draw, value: tuple[int, int]) -> str:
    a, r = value
    root = rf"\sqrt{{{r}}}"
    both = draw(st.permutations([f"{a}+{root}", f"{a}-{root}"]))
    return draw(st.sampled_from([rf"{a} \pm {root}", rf"{a}\pm{root}", ", ".join(both), " and ".join(both)]))


def spell_ratio(draw: Draw, value: tuple[int, int]) -> str:
    """a : b, multiplied through; the second part never has two digits, or it might be a time of day."""
    k = draw(st.sampled_from([1, 1, 100, 200]))
    a, b = (k * n for n in value)
    return draw(st.sampled_from([f"{a}:{b}", f"{a} : {b}", rf"{a}\colon {b}", f"{a} to {b}"]))


def spell_labelled(draw: Draw, value: tuple[str, Fraction]) -> str:
    """A choice with its value."""
    inner = spell_member(draw, value[1])
    label = f"({value[0]})"
    label = draw(
        st.sampled_from([label, rf"\textbf{{{label}}}\ ", rf"\text{{{label} }}", rf"\mathrm{{{label}}}"])
    )
    return f"{label} {inner}"


def spell_based(draw: Draw, value: tuple[int, int]) -> str:
    """A numeral to base b, its digits given by value."""
    n, base = value
    digits = ""
    while n:
        n, digit = divmod(n, base)
        digits = str(digit) + digits
    words = {2: "two", 3: "three", 5: "five", 7: "seven", 8: "eight"}[base]
    return draw(
        st.sampled_from([f"{digits}_{base}", f"{digits}_{{{base}}}", rf"{digits}_{{\text{{{words}}}}}"])
    )


# ---------------------------------------------------------------- families
def _rationals() -> st.SearchStrategy[Fraction]:
    return st.builds(Fraction, st.integers(-2000, 2000), st.integers(1, 60))


def _shift(draw: Draw, value: Any) -> Any:
    """Another value of the same shape: one number in it moves by a whole number other than zero."""
    if isinstance(value, tuple):
        place = draw(st.sampled_from([k for k, part in enumerate(value) if not isinstance(part, bool)]))
        return (*value[:place], _shift(draw, value[place]), *value[place + 1 :])
    return value + draw(st.integers(1, 5))


def _change_set(draw: Draw, value: frozenset[Fraction]) -> frozenset[Fraction]:
    return value | {max(value) + draw(st.integers(1, 5))}


def _change_interval(
    draw: Draw, value: tuple[Fraction, bool, Fraction, bool]
) -> tuple[Fraction, bool, Fraction, bool]:
    low, low_closed, high, high_closed = value
    changed = [(low, not low_closed, high, high_closed), (low, low_closed, high, not high_closed)]
    return draw(
        st.sampled_from(
            [*changed, (low, low_closed, high + 1, high_closed), (low - 1, low_closed, high, high_closed)]
        )
    )


def _other_of(values: list[Any]) -> Callable[[Draw, Any], Any]:
    return lambda draw, value: draw(st.sampled_from([other for other in values if other != value]))


_NONZERO = _SMALL.filter(bool)
_INTERVALS = st.builds(
    lambda low, size, closed, high_closed: (low, closed, low + size, high_closed),
    _rationals(),
    st.builds(Fraction, st.integers(1, 40), st.integers(1, 6)),
    st.booleans(),
    st.booleans(),
)
FAMILIES: dict[str, Family] = {
    "rational": Family(_rationals(), spell_rational, _shift),
    "integer": Family(st.builds(Fraction, st.integers(-(10**9), 10**9)), spell_rational, _shift),
    "radical": Family(
        st.tuples(_SMALL, _NONZERO, _RADICANDS),
        spell_radical,
        lambda d, v: (v[0] + d(st.integers(1, 5)), *v[1:]),
    ),
    "complex": Family(st.tuples(_SMALL, _NONZERO), spell_complex, lambda d, v: (v[0], -v[1])),
    "pi": Family(_rationals().filter(bool), spell_pi, _shift),
    "polynomial": Family(
        st.lists(_SMALL, min_size=1, max_size=4).map(tuple),
        spell_polynomial,
        lambda d, v: (v[0] + d(st.integers(1, 5)), *v[1:]),
    ),
    "tuple": Family(st.lists(_rationals(), min_size=2, max_size=4).map(tuple), spell_tuple, _shift),
    "set": Family(st.frozensets(_rationals(), min_size=2, max_size=5), spell_set, _change_set),
    "interval": Family(_INTERVALS, spell_interval, _change_interval),
    "union": Family(st.tuples(_SMALL, st.integers(1, 9), st.integers(1, 9)), spell_union, _shift),
    "matrix": Family(st.tuples(*[st.tuples(_rationals(), _rationals())] * 2), spell_matrix, _shift),
    "line": Family(
        st.tuples(_NONZERO, _NONZERO, _NONZERO),
        spell_line,
        lambda d, v: (*v[:2], v[2] + (d(st.integers(1, 5)) if v[2] > 0 else -1)),
    ),
    "words": Family(st.sampled_from(_NAMES), spell_words, _other_of(_NAMES)),
    "choice": Family(st.sampled_from("ABCDE"), spell_choice, _other_of(list("ABCDE"))),
    "ratio": Family(
        st.tuples(st.integers(1, 40), st.integers(1, 9)).filter(lambda v: v[0] % v[1]),
        spell_ratio,
        lambda d, v: (v[0] + d(st.integers(1, 5)), v[1]),
    ),
    "labelled choice": Family(
        st.tuples(st.sampled_from("ABCDE"), _rationals().filter(lambda v: v > 0)),
        spell_labelled,
        lambda d, v: (v[0], v[1] + d(st.integers(1, 5))),
    ),
    "plus-minus": Family(
        st.tuples(_NONZERO, _RADICANDS), spell_plus_minus, lambda d, v: (v[0] + d(st.integers(1, 5)), v[1])
    ),
    "based": Family(
        st.tuples(st.integers(2, 5000), st.sampled_from([2, 3, 5, 7, 8])),
        spell_based,
        lambda d, v: (v[0] + d(st.integers(1, 5)), v[1]),
    ),
}


@st.composite
def answers(draw: Draw, families: tuple[str, ...] = tuple(FAMILIES)) -> str:
    """A random answer of one of the families."""
    family = FAMILIES[draw(st.sampled_from(families))]
    return family.spell(draw, draw(family.values))


@st.composite
def rewrites(draw: Draw, families: tuple[str, ...] = tuple(FAMILIES), count: int = 2) -> tuple[str, ...]:
    """`count` spellings of one value: any two of them are equivalent."""
    family = FAMILIES[draw(st.sampled_from(families))]
    value = draw(family.values)
    return tuple(family.spell(draw, value) for _ in range(count))


@st.composite
def mutations(draw: Draw, families: tuple[str, ...] = tuple(FAMILIES)) -> tuple[str, str]:
    """Spellings of two different values of one family: they are not equivalent."""
    family = FAMILIES[draw(st.sampled_from(families))]
    value = draw(family.values)
    return family.spell(draw, value), family.spell(draw, family.change(draw, value))


@st.composite
def solutions(draw: Draw) -> tuple[str, str]:
    r"""(a solution text, the answer it states in a box, after "####" or in words)."""
    answer = draw(answers(("rational", "radical", "tuple", "interval", "matrix", "polynomial")))
    lead = draw(
        st.sampled_from(["", "We add.\n", "So $x = 3$. ", r"First \boxed{17}, but no. ", "Step 1: 2+2=4\n"])
    )
    ends = [rf"Hence \boxed{{{answer}}}.", rf"$\boxed{{{answer}}}$ is it. 99", rf"thus \fbox{{{answer}}}"]
    if "boxed" not in lead and "boxed" not in answer and "$" not in answer and not answer.endswith("."):
        ends += [
            f"\n#### {answer}",
            f"\n# Answer\n\n{answer}",
            f"The answer is ${answer}$.",
            f"Final Answer: The final answer is ${answer}$.",
        ]
    return lead + draw(st.sampled_from(ends)), answer


@st.composite
def sympy_expressions(draw: Draw) -> Any:
    """A random sympy expression in x and y: rational functions with roots and elementary functions."""
    import sympy

    x, y = sympy.symbols("x y")
    leaf = st.one_of(
        st.integers(-9, 9).map(sympy.Integer), st.sampled_from([x, y, sympy.sqrt(2), sympy.Rational(1, 3)])
    )

    def grow(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        pair = st.tuples(children, children)
        return st.one_of(
            pair.map(lambda p: p[0] + p[1]),
            pair.map(lambda p: p[0] * p[1]),
            st.tuples(children, st.integers(2, 3)).map(lambda p: p[0] ** p[1]),
            children.map(lambda e: 1 / (e**2 + 1)),
            children.map(sympy.sin),
        )

    return draw(st.recursive(leaf, grow, max_leaves=6))
