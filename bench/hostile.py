r"""A samples file of hostile answers, graded and tabulated by evaluate.py: how long, in how much memory.

Paper: none; a check of the promise that text of a model cannot stall or end a command (docs/RELIABILITY.md).
Choices: the file is that of another engine, without answers and verdicts, so that all of them are worked out.
Answers are those of the given cases (kind adversarial), and monsters of this page, no two of which are alike,
so that no memory of earlier answers helps: towers of powers, factorials, integrals without a closed form,
binomials of hundreds of terms, nested braces and roots, 100,000 digits, megabytes, and what makes a careless
regular expression hang.

    python bench/hostile.py [--samples 10000] [--cases ../shared/data/grader_cases.jsonl] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PER_PROBLEM = 64
REFERENCES = ("7", r"\frac{1}{2}", r"x^2+1", r"\int_0^1 e^{-x^2}\,dx", r"(-\infty,3]", r"9^{9^{9}}")

# Each makes an answer of a number of its own, unlike that of any other number.
MONSTERS: tuple[Callable[[int], str], ...] = (
    lambda i: f"9^{{9^{{9^{{{i}}}}}}}",
    lambda i: f"{i}**9**9**9**9",
    lambda i: f"((({i}!)!)!)!",
    lambda i: rf"\frac{{{10**6 + i}!}}{{{10**6}!}}",
    lambda i: rf"\binom{{{10**9 + i}}}{{{5 * 10**8}}}",
    lambda i: f"(1+x)^{{{300 + i}}}",
    lambda i: f"(x+y+z+{i})^{{40}}",
    lambda i: rf"\int_0^1 e^{{-x^2}}\sin(x^{{{i}}})\,dx",
    lambda i: rf"\lim_{{x\to\infty}}\frac{{x^{{x^x}}}}{{x!+{i}}}",
    lambda i: rf"\sum_{{k=1}}^{{{10**7 + i}}}\frac{{1}}{{k^k}}",
    lambda i: r"\sqrt{" * 200 + str(i) + "}" * 200,
    lambda i: r"\frac{1}{1+" * 300 + str(i) + "}" * 300,
    lambda i: "+".join(rf"\sqrt{{{i + k}}}" for k in range(40)),
    lambda i: "(" + "".join(rf"\sqrt{p}+" for p in (2, 3, 5, 7)) + f"{i})^{{12}}",
    lambda i: "{" * 20_000 + str(i) + "}" * 20_000,
    lambda i: "(" * 4_000 + str(i) + ")" * 4_000,
    lambda i: r"\begin{pmatrix}" + r"1&2\\" * 1_500 + str(i) + r"\end{pmatrix}",
    lambda i: str(i) + "7" * 100_000,
    lambda i: f"0.{'3' * 5_000}{i}",
    lambda i: r"\text{a}" * 1_000 + str(i),
    lambda i: "$" * 5_000 + str(i),
    lambda i: "\\" * 9_999 + str(i),
    lambda i: ",".join(map(str, range(i, i + 2_000))),
    lambda i: " " * 50_000 + str(i),
    lambda i: r"\pm" * 12 + str(i),
    lambda i: rf"__import__('os').system('echo {i}')",
    lambda i: "\u202e\ud800\0" + str(i),
)
# Solutions around an answer; the last ones are hostile to whoever looks for the answer.
FRAMES: tuple[Callable[[str], str], ...] = (
    lambda a: rf"So it is \boxed{{{a}}}.",
    lambda a: f"The answer is {a}.",
    lambda a: f"Some steps.\n#### {a}",
    lambda a: "The answer is " * 5_000 + rf"\boxed{{{a}}}",
    lambda a: r"\boxed{" * 5_000 + a,
    lambda a: "<answer>" * 5_000 + f"{a}</answer>",
)


def cases(path: Path) -> list[str]:
    """The answers of the adversarial cases of a file."""
    answers = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record.get("kind") == "adversarial":
            for name in ("gold", "pred"):
                parts = record.get(f"{name}_parts")
                answers.append("".join(s * n for s, n in parts) if parts else record[name])
    return answers


def solutions(n: int, seed: int, known: list[str]) -> Iterator[str]:
    """n solutions: a quarter with a known case, the others with a monster; each 1,000th has a megabyte."""
    rng = random.Random(seed)
    for i in range(n):
        if known and rng.random() < 0.25:
            answer = rng.choice(known)
        else:
            answer = rng.choice(MONSTERS)(i + 2)
        frame = rng.choice(FRAMES[:3] * 5 + FRAMES[3:])
        padding = "and so on, {[(\\frac " * 50_000 if i % 1_000 == 999 else ""
        yield padding + frame(answer)


def problems(n: int, seed: int, known: list[str]) -> Iterator[dict[str, Any]]:
    """The lines of a samples file of another engine."""
    texts = list(solutions(n, seed, known))
    for number, start in enumerate(range(0, n, PER_PROBLEM)):
        samples = [{"text": text} for text in texts[start : start + PER_PROBLEM]]
        answer = REFERENCES[number % len(REFERENCES)]
        yield {"id": f"p{number}", "problem": f"Problem {number}", "answer": answer, "samples": samples}


class Outcome(NamedTuple):
    """How evaluate.py ended on a file."""

    status: int
    seconds: float  # on the wall
    processor_s: float  # its own and its children's
    peak_mb: float  # of the largest of its processes
    errors: str


def run(path: Path) -> Outcome:
    """Let evaluate.py grade and tabulate a file; to be called once a process."""
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "evaluate.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    seconds, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return Outcome(done.returncode, seconds, used.ru_utime + used.ru_stime, peak, done.stderr)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--samples", type=int, default=10_000, help="samples in the file (default: 10000)")
    parser.add_argument("--cases", type=Path, help="JSON Lines with cases of kind adversarial")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default: 0)")
    options = parser.parse_args(arguments)
    known = cases(options.cases) if options.cases else []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hostile.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            for record in problems(options.samples, options.seed, known):
                file.write(json.dumps(record) + "\n")
        size = path.stat().st_size / 1e6
        found = run(path)
    print(f"{options.samples} samples, {size:.0f} MB, {len(known)} known answers: status {found.status}")
    print(f"{found.seconds:.0f} s, {found.processor_s:.0f} s on a processor, {found.peak_mb:.0f} MB at most")
    if found.status:
        print(found.errors[-2000:])
    return found.status


if __name__ == "__main__":
    sys.exit(main())
