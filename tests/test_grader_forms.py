r"""Forms of answers that were read wrongly: equalities that must hold beside near misses that must not.

Every line of the tables was once decided the other way, or is the nearest answer that must not follow; its
key says what was wrong. The pairs are judged in both orders, and two that differ must not share a key.
"""

from __future__ import annotations

import pytest

from mathref.grader import canonical, compare, is_equivalent

Pairs = list[tuple[str, str]]

DIFFERENT: dict[str, Pairs] = {
    "the modulus of a congruence was evaluated as a remainder": [
        *((r"x \equiv 3 \mod 7", r"x \equiv 3 \mod 5"), ("x ≡ 3 mod 7", "x ≡ 3 mod 5")),
        *((r"x \equiv 10 \mod 7", "3"), (r"x \equiv 3 \mod 7", "x = 3"), (r"x \equiv 3 \mod 7", "3")),
        *(
            (r"x \equiv 3, 5 \mod 7", r"x \equiv 3, 5 \mod 11"),
            (r"x \equiv 3 \pmod 11", r"x \equiv 3 \pmod 1"),
        ),
        (r"x\equiv 3\text{ mod }7", r"x\equiv 3\text{ mod }5"),
    ],
    "a letter set upright was dropped as a unit": [
        *((r"2\mathrm{x}+3", "5"), (r"3\mathrm{n}", "3"), (r"3\text{ y}", "3"), (r"2^{\text{n}}", "2")),
        *((r"2^{\mathrm{m}}", "2"), (r"2^\mathrm{m}", "2")),
    ],
    "multipliers in the plural, lakh and crore were nouns": [
        *(
            ("5 millions", "5"),
            ("5 hundreds", "5"),
            ("5 quadrillion", "5"),
            ("5 lakh", "5"),
            ("5 crore", "5"),
        ),
        *(("5 crores", "5 lakhs"), ("5 tens", "5")),
    ],
    "two o'clock answers shared the letter o": [
        *(("7 o'", "7 o'clock"), ("7 o'clock", "6 o'clock")),
    ],
    "ratios with a part of nothing were all one": [
        *(("5:00", "7:0"), ("5:0", "7:0"), ("0:5", "0:7"), ("5:00:00", "7:0:0")),
    ],
}

EQUAL: dict[str, Pairs] = {
    "a congruence was read beside \\pmod only": [
        *((r"x \equiv 3 \pmod 7", r"x \equiv 3 \mod 7"), (r"x \equiv 3 \pmod 7", r"x \equiv 3 (\bmod 7)")),
        *((r"x \equiv 3 \pmod 7", "x ≡ 10 mod 7"), (r"x \equiv 3 \pmod 7", r"x\equiv 3\text{ mod }7")),
        *((r"x \equiv 3 \pmod{11}", r"x \equiv 3 \pmod 11"), (r"10 \bmod 7", "3"), (r"x = 10 \bmod 7", "3")),
    ],
    "a letter set upright is a variable unless it is a unit": [
        *((r"2\mathrm{x}+3", "2x+3"), (r"3\mathrm{n}", "3n"), (r"5\text{ m}", "5"), (r"5\mathrm{N}", "5")),
        *((r"90^\circ\text{C}", "90"), (r"5^{\text{th}}", "5"), (r"\mathrm{x}=5", "5")),
    ],
    "multipliers in the plural have a value": [
        *(("5 millions", "5000000"), ("5 hundreds", "500"), ("5 lakhs", "500000"), ("2 dozens", "24")),
        *(("two millions", "2000000"), ("5 tens", "50")),
    ],
    "o'clock is a noun": [("7 o'clock", "7"), (r"7\text{ o'clock}", "7")],
    "ratios still compare in lowest terms": [("2:4:0", "1:2:0"), ("5:00", "5:0"), ("2:4", "1:2")],
}


@pytest.mark.parametrize("reason", DIFFERENT)
def test_near_misses_stay_different(reason: str) -> None:
    for a, b in DIFFERENT[reason]:
        assert not is_equivalent(a, b), (a, b, compare(a, b))
        assert not is_equivalent(b, a), (b, a, compare(b, a))
        assert canonical(a) is None or canonical(a) != canonical(b), (a, b)


@pytest.mark.parametrize("reason", EQUAL)
def test_spellings_of_one_answer_are_equal(reason: str) -> None:
    for a, b in EQUAL[reason]:
        assert is_equivalent(a, b), (a, b, compare(a, b))
        assert is_equivalent(b, a), (b, a, compare(b, a))
