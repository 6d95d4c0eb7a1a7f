"""The grader: extraction, equivalence by families, the relation, safety, threads, the worker, the command
line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mathref import grader
from mathref.grader import canonical, compare, extract_answer, grade, is_equivalent
from mathref.grading import calculus
from mathref.runs import run_command

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "grader_cases.jsonl").read_text("utf-8").splitlines()
]
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("tag", sorted({case["tag"] for case in CASES}))
def test_equivalence_by_family(tag: str) -> None:
    for case in (case for case in CASES if case["tag"] == tag):
        gold, pred = case["gold"], case["pred"]
        assert is_equivalent(pred, gold) is case["expected"], (gold, pred, compare(gold, pred))
        assert is_equivalent(gold, pred) is case["expected"], ("not symmetric", gold, pred)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So \boxed{\frac{3}{4}}.", r"\frac{3}{4}"),
        (r"\boxed{1}, no: \boxed{(1, 2)}. Done. 99", "(1, 2)"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\fbox{7}", "7"),
        (r"\boxed 8$", "8"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{3} and then \boxed{\frac{1}{2", "3"),  # truncated: the last complete one
        (r"\boxed{\frac{1}{2", None),
        (r"\boxed{}", None),
        ("12 it is\n\n# Answer\n\n-7\n", "-7"),
        ("He has 40+2=<<40+2=42>>42.\n#### 42", "42"),
        ("Final Answer: The final answer is $[2,5)$. I hope it is correct.", "[2,5)"),
        ("The answer is 3.5. That was easy.", "3.5"),
        ("The answer is: 17", "17"),
        ("The answer is 3. But boxed: $\\boxed{4}$", "4"),
        ("There are 5 of them, and 7 of those.", None),
        ("", None),
    ],
)
def test_extraction(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


def test_extraction_is_linear_in_the_text() -> None:
    """Boxes that never close were once searched for their brace one by one, in quadratic time."""
    start = time.process_time()
    assert extract_answer(r"\boxed{" * 140_000) is None
    assert extract_answer("{" * 500_000 + "}" * 500_000) is None
    assert time.process_time() - start < 5


def test_the_question_the_project_was_created_with() -> None:
    """2+2, 4 and four are one cluster, at the cost of one key each."""
    keys = {
        canonical(answer)
        for answer in ("2+2", "4", "four", r"\text{Four}", "4.0", r"\frac{8}{2}", "2^2", r"\sqrt{16}")
    }
    assert len(keys) == 1 and None not in keys
    assert canonical("5") not in keys


def test_grade_is_extraction_and_equivalence() -> None:
    assert grade(r"Hence \boxed{0.5}", r"\frac12")
    assert not grade("no idea", "5") and not grade(r"\boxed{5}", "")


def test_nothing_equals_none_or_blank() -> None:
    for blank in (None, "", "  ", "\n"):
        assert not is_equivalent(blank, blank) and not is_equivalent(blank, "1") and canonical(blank) is None


def test_a_collection_of_one_is_its_member() -> None:
    """Their keys were equal already; the relation said no to all but a set of one number."""
    for many, one in (("1,1", "1"), ("1,0001", "1"), (r"\{(1,2)\}", "(1,2)"), ("(1,2),(1,2)", "(1,2)")):
        assert is_equivalent(many, one) and is_equivalent(one, many), many
        assert canonical(many) == canonical(one)
    assert is_equivalent("1,2,3", r"\{1,2\}\cup\{3\}")
    assert not is_equivalent(r"\{\emptyset\}", r"\emptyset")
    assert canonical(r"\{\emptyset\}") != canonical(r"\emptyset")
    assert not is_equivalent("1,2", "1") and not is_equivalent(r"\{(1,2)\}", "1")


def test_a_conjunction_alone_is_its_own_spelling() -> None:
    """It was read as empty words, whose key was that of an answer of commas only."""
    assert canonical(r"\text{and},") != canonical(",,,") and is_equivalent(r"\text{and}", r"\text{and}")


def test_conventions_are_not_transitive_and_keys_respect_that() -> None:
    assert is_equivalent("x=5", "5") and is_equivalent("5", "y=5") and not is_equivalent("x=5", "y=5")
    assert canonical("x=5") is None
    assert is_equivalent("1,2", "2,1") and is_equivalent("1,2", "(1,2)") and not is_equivalent("2,1", "(1,2)")
    assert canonical("1,2") is None and canonical("(1,2)") != canonical(r"\{1,2\}")


@pytest.mark.parametrize(
    "evil",
    [
        *(
            "__import__('os').system('true')",
            "exit()",
            "x.__class__",
            r"\write18{touch x}",
            r"\input{/etc/passwd}",
        ),
        *(
            "9^{9^{9^{9}}}",
            "9**9**9**9",
            "((((9^64)^64)^64)^64)^64",
            "1000000000!",
            "1e999999999",
            "100000!!",
            "0/0",
        ),
        *(
            "(" * 9000,
            "{" * 4000 + "1" + "}" * 4000,
            "|" * 5001,
            "sin(" * 3000,
            r"\frac1{1+" * 1000,
            "1" * 4301,
            "0." + "0" * 5000 + "1",
        ),
        *(
            "1+" * 100_000 + "1",
            "a " * 200_000,
            r"\\" * 300_000,
            r"\begin{pmatrix}1&2\\3&4\end{pmatrix}" * 500,
            "1" * 10**6,
        ),
        *(
            r"(\sqrt2+\sqrt3+\sqrt5+\sqrt7+\sqrt{11}+\sqrt{13})^{12}",
            r"\sum_{k=0}^{10^9} k!",
            "(x+y+z+w)^{60}",
            "x^{x^{x^{x^{x}}}}",
        ),
        *(
            "\x00",
            "\ud800",
            "😀",
            "\u202e1\u202c2",
            "Ⅷ",
            "1_0",
            "True",
            "nan",
            "inf-inf",
            r"\infty-\infty",
            "-" * 5000 + "1",
        ),
        *(
            r"\sin(9^{9^{9}})",
            r"\pm" * 40 + "1",
            "{" + "1," * 3000 + "2}",
            r"\binom{10^{9}}{5\cdot10^{8}}",
            "10^{10^{10}}",
        ),
        *(
            "(" + "x+1)(" * 400 + "x)",
            r"\sqrt{" * 50 + "x+1" + "}" * 50,
            "2^{2^{2^{2^{2^{2}}}}}",
            r"\log_{1}5",
            "1,2" * 900,
        ),
    ],
)
def test_hostile_answers_are_bounded_and_not_seven(evil: str) -> None:
    start = time.process_time()
    assert is_equivalent(evil, "7") is False and is_equivalent("7", evil) is False
    assert not evil.strip() or is_equivalent(evil, evil)
    hash(canonical(evil))
    assert time.process_time() - start < 2


def test_wrong_types_are_no_answer() -> None:
    for value in (5, 5.0, b"5", ["5"], object()):
        assert (
            is_equivalent(value, "5") is False and extract_answer(value) is None and canonical(value) is None
        )


def test_millions_of_calls_leak_nothing() -> None:
    """Every memory of the grader is bounded: caches by their size, the others by the call."""
    for k in range(2500):
        is_equivalent(f"{k}+x", f"{k}+y")
    assert grader._read_cached.cache_info().currsize <= grader._read_cached.cache_info().maxsize == 4096


def test_threads_give_the_same_verdicts() -> None:
    pairs = [(case["gold"], case["pred"], case["expected"]) for case in CASES[:150]]
    wrong: list[tuple[str, str, bool]] = []

    def work() -> None:
        wrong.extend(pair for pair in pairs if is_equivalent(*pair[:2]) is not pair[2])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def run(code: str, timeout_s: float = 120) -> str:
    """Run a program with this checkout importable; its standard output."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_grader_imports_neither_torch_nor_sympy() -> None:
    code = "import mathref.grader as g; assert g.is_equivalent('2+2', 'four')\n"
    assert (
        run(
            code
            + "print([m for m in ('torch', 'sympy', 'mpmath', 'numpy', 'hypothesis') if m in sys.modules])"
        )
        == "[]\n"
    )


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that hold on a busy machine."""
    monkeypatch.setattr(grader, "LIMIT_S", 60.0)
    monkeypatch.setattr(calculus, "LIMIT_S", 60.0)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (r"\sum_{k=1}^n k^3", r"\left(\frac{n(n+1)}{2}\right)^2"),
        (r"\sum_{k=1}^{1000} k", "500500"),
        (r"\sum_{k=0}^{n-1} a r^k", r"\frac{a(1-r^n)}{1-r}"),
        (r"\sum_{k=1}^{n} k 2^k", "(n-1)2^{n+1}+2"),
        (r"\sum_{k=1}^{\infty} \frac{k^2}{3^k}", r"\frac32"),
        (r"\sum_{k=1}^{\infty} \frac{1}{k(k+2)}", r"\frac34"),
        (r"\sum_{k=1}^{n}\frac{1}{k(k+1)}", r"\frac{n}{n+1}"),
        (r"\sum_{i=1}^{n}\sum_{j=1}^{i} 1", r"\frac{n(n+1)}{2}"),
        (r"\sum_{k=0}^\infty\frac{2^k}{k!}", "e^2"),
        (r"\sum_{k=1}^\infty\frac{1}{k^2}", r"\frac{\pi^2}{6}"),
        (r"\frac{d}{dx}x^2", "2x"),
        (r"\frac{d}{dx}\tan x", r"\sec^2 x"),
        (r"\frac{d}{dx} x^x", r"x^x(\ln x+1)"),
        (r"\int_0^1 x^2\,dx", r"\frac13"),
        (r"\int_0^1 \sqrt{x}\,dx", r"\frac23"),
        (r"\int_0^{\pi} \sin x\,dx", "2"),
        (r"\int_1^e \frac{1}{x}\,dx", "1"),
        (r"\lim_{x\to 0}\frac{\sin x}{x}", "1"),
        (r"\lim_{x\to 0}\frac{1-\cos x}{x^2}", r"\frac12"),
        (r"\lim_{h\to0}\frac{(x+h)^2-x^2}{h}", "2x"),
        (r"\lim_{x\to\infty}\frac{x^2}{x+1}", r"\infty"),
        (r"\lim_{n\to\infty}(1+\frac{1}{2n})^n", r"\sqrt{e}"),
    ],
)
def test_common_calculus_needs_no_worker(question: str, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict on these once hung on the start of a process, and so on the load of the machine."""
    monkeypatch.setattr(calculus, "_ask", lambda question: pytest.fail(question))
    assert is_equivalent(question, answer)
    assert not is_equivalent(question, answer + "+1")


@pytest.mark.parametrize(
    ("question", "wrong"),
    [
        (r"\int_{-1}^1 \frac{1}{x^2}\,dx", "-2"),  # the antiderivative at the ends; there is a pole between
        (r"\sum_{k=0}^{\infty} 2^k", "-1"),  # the formula of a series that diverges
        (r"\sum_{k=1}^{\infty} k", r"-\frac{1}{12}"),
        (r"\lim_{x\to 0} \frac{1}{x}", r"\infty"),  # another sign on each side
    ],
)
def test_formulas_are_not_used_where_they_do_not_hold(
    question: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calculus, "_ask", lambda question: "null")
    assert not is_equivalent(question, wrong)


def test_other_calculus_is_answered_by_the_worker(patient: None) -> None:
    assert is_equivalent(r"\int_0^1 \frac{1}{1+x^2}\,dx", r"\frac{\pi}{4}")
    assert is_equivalent(r"\int_0^1 x e^x\,dx", "1") and not is_equivalent(r"\int_0^1 x e^x\,dx", "2")


def test_a_killed_worker_is_replaced(patient: None) -> None:
    assert is_equivalent(r"\int_0^1 x^2 e^x\,dx", "e-2")
    assert calculus._worker is not None
    calculus._worker.process.kill()
    calculus._worker.process.wait()
    before = calculus.timeouts
    assert is_equivalent(r"\int_0^1 x^3 e^x\,dx", "6-2e")  # whose answer the broken pipe once cost
    assert is_equivalent(r"\int_0^1 x^4 e^x\,dx", "-24+9e") and calculus.timeouts == before


def test_a_worker_that_dies_at_its_start_is_replaced(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calculus.close_worker()
    with monkeypatch.context() as broken:
        broken.setattr(calculus, "_COMMAND", "import sys; sys.exit(1)")
        calculus._worker = calculus.Worker()
        while calculus._worker.process is None:
            time.sleep(0.01)
    assert is_equivalent(r"\int_0^1 x^3 e^{-x}\,dx", r"6-\frac{16}{e}")


def test_workers_that_all_die_are_no_answer_and_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    calculus.close_worker()
    with monkeypatch.context() as broken:
        broken.setattr(calculus, "_COMMAND", "import sys; sys.exit(1)")
        calculus._attempts.clear()  # of other tests
        before = calculus.timeouts
        assert not is_equivalent(r"\int_0^1 x^9 e^x\,dx", "1")
        assert calculus.timeouts == before + 1 and not calculus._attempts
        calculus.close_worker()


def test_an_answer_that_was_interrupted_is_not_taken_for_that_to_the_next_question(
    patient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_equivalent(r"\int_0^1 x e^x\,dx", "1")  # the worker is up

    def interrupted(self: calculus.Worker, limit_s: float) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as ctrl_c, pytest.raises(KeyboardInterrupt):
        ctrl_c.setattr(calculus.Worker, "_line", interrupted)
        is_equivalent(r"\int_0^2 x e^x\,dx", "1+e^2")
    assert is_equivalent(r"\int_0^3 x e^x\,dx", "1+2e^3")


def test_a_question_past_its_limit_is_not_equal_and_counted(
    monkeypatch: pytest.MonkeyPatch, patient: None
) -> None:
    assert is_equivalent(r"\int_0^1 x^2 e^x\,dx", "e-2")  # the worker is up
    before = calculus.timeouts
    with monkeypatch.context() as hurry:
        hurry.setattr(calculus, "LIMIT_S", 0.0)
        assert not is_equivalent(r"\int_0^1 x^5 e^x\,dx", "120-44e")
    assert calculus.timeouts == before + 1
    assert is_equivalent(r"\int_0^1 x^5 e^x\,dx", "120-44e")  # and may be asked again


def test_a_worker_that_does_not_start_costs_less_than_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first question once waited up to six seconds for the start of its worker."""
    calculus.close_worker()
    monkeypatch.setattr(calculus, "_COMMAND", "import time; time.sleep(60)")
    before, start = calculus.timeouts, time.monotonic()
    assert not is_equivalent(r"\int_0^1 x^6 e^x\,dx + \int_0^1 x^7 e^x\,dx", r"\int_0^1 x^8 e^x\,dx")
    assert time.monotonic() - start < 2 and calculus.timeouts > before
    assert is_equivalent(r"\int_0^1 x^6 e^x\,dx", r"\int_0^1 y^6 e^y\,dy")  # by its shape, no answer needed
    calculus.close_worker()


def test_a_program_without_main_guard_can_use_the_worker() -> None:
    """A worker made by multiprocessing would run the importing program once more, under spawn without end."""
    code = "print('start')\nfrom mathref.grading import calculus\n"
    code += "from mathref import grader\ngrader.LIMIT_S = calculus.LIMIT_S = 60.0\n"
    assert (
        run(
            code
            + r"from mathref.grader import is_equivalent; print(is_equivalent(r'\int_0^1 x e^x\,dx', '1'))"
        )
        == "start\nTrue\n"
    )


def test_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert grader.main(["2+2", "four"]) == 0
    assert capsys.readouterr().out.startswith(
        "equivalent   (scalar against scalar, exactly)\n  '2+2': 4   (parsed)"
    )
    assert grader.main(["0.33", r"\frac13"]) == 1
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"gold": "1/2", "pred": "0.5"}\n{"gold": "1", "pred": "2"}\n', encoding="utf-8")
    capsys.readouterr()
    assert grader.main(["--file", str(pairs)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["equivalent"] for line in lines] == [True, False]
    pairs.write_text('{"gold": 1}\n', encoding="utf-8")
    assert run_command(grader.main, ["--file", str(pairs)]) == 2
    assert f"{pairs}:1: expected strings" in capsys.readouterr().err
    for words in (["--file", str(pairs), "1", "2"], ["1"], []):  # the two answers were passed over
        with pytest.raises(SystemExit, match="2"):
            grader.main(words)
        assert "expected two answers, or --file pairs.jsonl and none" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_a_reader_that_leaves_and_a_full_disk_are_no_tracebacks(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"gold": "1", "pred": "1"}\n' * 5)
    command = [sys.executable, "-m", "mathref.grader", "--file", str(pairs)]
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full", "w") as full:
        for out, status, said in ((writing, 141, ""), (full, 1, "No space left on device")):
            done = subprocess.run(
                command, stdout=out, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=120
            )
            assert done.returncode == status and said in done.stderr and "Traceback" not in done.stderr
    os.close(writing)


def test_every_form_can_be_described() -> None:
    for case in CASES:
        assert "equivalent" in grader.explain(case["gold"], case["pred"])
