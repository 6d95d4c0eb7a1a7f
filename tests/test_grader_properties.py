"""Properties every grading function must have, over the strategies of mathref.strategies.

The default run draws some 25 examples a property; `pytest -m slow` draws 10,000.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mathref.grader import canonical, extract_answer, grade, is_equivalent
from mathref.strategies import FAMILIES, answers, mutations, rewrites, solutions, sympy_expressions

COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}
QUICK = settings(max_examples=25, **COMMON)
THOROUGH = settings(max_examples=10_000, **COMMON)
ANYTHING = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=r"\{}()[]^_$|,;=<>+-*/!.0123456789abcfrxyπ½√ ", max_size=40),
    answers(),
)


def reflexive(a: str) -> None:
    assert not a.strip() or is_equivalent(a, a)
    assert not a.strip() or is_equivalent(a, f" {a} ")


def symmetric(a: str, b: str) -> None:
    assert is_equivalent(a, b) is is_equivalent(b, a)


def equal(spellings: tuple[str, ...]) -> None:
    """Rewrites are equal, and with three of them the relation is transitive on them."""
    for a in spellings:
        for b in spellings:
            assert is_equivalent(a, b), spellings


def unequal(pair: tuple[str, str]) -> None:
    assert not is_equivalent(*pair), pair
    keys = canonical(pair[0]), canonical(pair[1])
    assert None in keys or keys[0] != keys[1]


def keys_agree(a: str, b: str) -> None:
    key = canonical(a)
    hash(key)
    if key is not None and key == canonical(b):
        assert is_equivalent(a, b)


def total(a: str, b: str) -> None:
    start = time.process_time()
    assert is_equivalent(a, b) in (True, False)
    assert extract_answer(a) is None or isinstance(extract_answer(a), str)
    assert time.process_time() - start < 2


def states_its_answer(case: tuple[str, str]) -> None:
    solution, answer = case
    assert is_equivalent(extract_answer(solution), answer)


def grades_what_it_extracts(case: tuple[str, str], reference: str) -> None:
    assert grade(case[0], reference) == is_equivalent(extract_answer(case[0]), reference)


def sympy_forms(expression: object) -> None:
    """What sympy prints is equal to its expanded, factored and partial-fraction forms, and not to itself plus
    one.
    """
    import sympy

    text = sympy.latex(expression)
    assert is_equivalent(text, sympy.latex(sympy.expand(expression)))
    assert is_equivalent(text, sympy.latex(sympy.factor(expression)))
    if len(expression.free_symbols) == 1 and not expression.has(sympy.sin):  # sin(1) is a second generator
        assert is_equivalent(text, sympy.latex(sympy.apart(expression)))
    assert not is_equivalent(text, sympy.latex(expression + 1))


CHECKS = {
    "reflexive": (reflexive, (ANYTHING,)),
    "symmetric": (symmetric, (ANYTHING, ANYTHING)),
    "rewrites": (equal, (rewrites(count=3),)),
    "mutations": (unequal, (mutations(),)),
    "keys": (keys_agree, (ANYTHING, ANYTHING)),
    "total": (total, (ANYTHING, ANYTHING)),
    "extraction": (states_its_answer, (solutions(),)),
    "grade": (grades_what_it_extracts, (solutions(), answers())),
    "sympy": (sympy_forms, (sympy_expressions(),)),
}


@pytest.mark.parametrize("name", CHECKS)
def test_property(name: str) -> None:
    check, strategies = CHECKS[name]
    QUICK(given(*strategies)(check))()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_value_and_tells_values_apart(family: str) -> None:
    QUICK(given(rewrites((family,)))(equal))()
    QUICK(given(mutations((family,)))(unequal))()


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_property_thoroughly(name: str) -> None:
    check, strategies = CHECKS[name]
    THOROUGH(given(*strategies)(check))()
