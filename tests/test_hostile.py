"""Text of a model that was made to stall its reader: it is graded in bounded time, and others as ever."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mathref import grader
from mathref.grading import calculus

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import hostile  # noqa: E402

CASES = ROOT.parent / "shared" / "data" / "grader_cases.jsonl"
INTEGRAL = r"\int_0^1 e^{-x^2}\sin(x^{77})\,dx"  # which sympy has no closed form for


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose allowance is spent."""
    allowance = calculus.Allowance()
    allowance.spend(1e9)
    monkeypatch.setattr(calculus, "_allowance", allowance)
    grader._read_cached.cache_clear()


def test_the_allowance_is_spent_by_slow_questions_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(calculus.time, "monotonic", lambda: now)
    allowance = calculus.Allowance()
    for _ in range(10_000):
        allowance.spend(0.19)  # 1,900 s of questions that take less than is free
    assert not allowance.is_spent()
    for _ in range(59):
        allowance.spend(1.2)
    assert not allowance.is_spent()
    allowance.spend(1.3)
    assert allowance.is_spent()
    now += 50.0  # which brings 5 s back
    assert not allowance.is_spent()
    allowance.spend(5.2)
    assert allowance.is_spent()
    now += 1e6  # eleven days bring no more than there was
    assert not allowance.is_spent()
    allowance.spend(60.2)
    assert allowance.is_spent()


def test_every_question_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that times out, too: a file of them used to take a second and more for each comparison."""
    taken: list[float] = []
    monkeypatch.setattr(calculus._allowance, "spend", taken.append)
    grader._read_cached.cache_clear()
    calculus._remembered.clear()
    grader.is_equivalent(INTEGRAL, "3")
    assert len(taken) == 1 and taken[0] > 0


def test_nothing_is_asked_once_the_allowance_is_spent(spent: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is undecided and not remembered, as after a timeout; others are graded as ever."""
    monkeypatch.setattr(calculus.Worker, "__init__", lambda self: pytest.fail("a worker was started"))
    calculus.close_worker()
    calculus._remembered.clear()
    before = calculus.timeouts
    assert not grader.is_equivalent(INTEGRAL, "3")
    assert calculus.timeouts > before and not calculus._remembered
    assert grader.is_equivalent(r"\frac{1}{2}+\sqrt{8}", r"2\sqrt{2}+0.5")
    monkeypatch.undo()
    grader._read_cached.cache_clear()
    assert grader.is_equivalent(r"\int_0^1 x\,dx", r"\frac12")


def test_no_two_monsters_are_alike() -> None:
    """Else the memory of earlier answers would do the work in the benchmark."""
    for monster in hostile.MONSTERS:
        assert len({monster(i) for i in range(2, 40)}) == 38


@pytest.mark.slow
@pytest.mark.skipif(not CASES.is_file(), reason="the shared grader cases are not in ../shared/data")
def test_ten_thousand_hostile_samples(tmp_path: Path) -> None:
    """Graded and tabulated by the command; how long it takes is in docs/RELIABILITY.md."""
    path = tmp_path / "hostile.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for record in hostile.problems(10_000, 0, hostile.cases(CASES)):
            file.write(json.dumps(record) + "\n")
    found = hostile.run(path)
    assert found.status == 0, found.errors
    assert found.peak_mb < 2_000
