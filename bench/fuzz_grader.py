r"""Coverage-guided fuzzing of the grader: mutate answers, keep those that reach new lines, report the
slowest.

Paper: none; a check of the promise that `extract_answer`, `is_equivalent` and `canonical` return str | None,
bool and a hashable for anything at all, in bounded time.
Choices: own mutation loop on the standard library, since a Python fuzzer with native parts does not install
everywhere. Seeds are the answers in the given JSON Lines files, or a few built-in ones.

    python bench/fuzz_grader.py --minutes 20 [--seeds cases.jsonl] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout, without installation

from mathref.grader import canonical, extract_answer, is_equivalent  # noqa: E402

SEEDS = [
    r"\frac{1}{2}",
    "x^2+1",
    r"(-\infty,3]\cup[4,5)",
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
    r"\boxed{7}",
]
PIECES = (
    r"\frac \sqrt[3] \sqrt { } ( ) [ ] | , ; = < \le \cup \pm \mp"
    r" ^ _ ! % ^\circ \text{and} \text{cm} \sin \log_2 \pi"
    r" \infty i e x y n 0 1 -1 0.5 9^{9^9} 10^{400} 1,000 \binom \sum_{k=1}^{9}k"
    r" \begin{pmatrix} & \\ \end{pmatrix}"
    r" \{ \} \overline{3} \left( \right) $ \boxed{ \emptyset \mathbb{R} \bmod 7_8"
    r" ]0,1[ {}_5C_2 C(5,2) (A) +/- \colon \lim_{x\to0} \int_0^1 dx \frac{d}{dx} \sum_{k=1}^n k! 2^k"
    r" 1/0 \arcsin \lfloor \rfloor f(x) : two"
).split()


class Coverage:
    """Lines of mathref reached so far, by the interpreter's trace hook."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()
        self.new = 0

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if "mathref" not in name:
            return None
        place = (name, frame.f_lineno)
        if place not in self.seen:
            self.seen.add(place)
            self.new += 1
        return self.trace


def mutate(text: str, other: str, rng: random.Random) -> str:
    """One to four edits: insert a piece, delete or repeat a span, splice another seed, change a character."""
    for _ in range(rng.randint(1, 4)):
        i, j = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        choice = rng.randrange(6)
        if choice == 0:
            text = text[:i] + rng.choice(PIECES) + text[i:]
        elif choice == 1:
            text = text[:i] + text[j:]
        elif choice == 2:
            text = text[:j] + text[i:j] * rng.randint(1, 3) + text[j:]
        elif choice == 3:
            text = text[:i] + other[rng.randint(0, len(other)) :]
        elif choice == 4:
            text = (
                text[:i]
                + rng.choice("{}()[]\\^_$%0123456789abcxyz+-*/=<>|,.;:!& ½√π−\u200b\ud800")
                + text[i + 1 :]
            )
        else:
            text = f"{text[:i]}{rng.choice('{([')}{text[i:j]}{rng.choice('})]')}{text[j:]}"
    return text[:400]


def check(text: str, other: str) -> str | None:
    """What is wrong with the answers of the grader on one input, or None."""
    extracted = extract_answer(text)
    if not (extracted is None or isinstance(extracted, str)):
        return "extract_answer returned something else"
    verdict, mirrored = is_equivalent(text, other), is_equivalent(other, text)
    if not isinstance(verdict, bool) or verdict != mirrored:
        return f"is_equivalent said {verdict!r} and {mirrored!r} mirrored"
    if text.strip() and not is_equivalent(text, text + " "):
        return "not reflexive"
    key = canonical(text)
    hash(key)
    if key is not None and key == canonical(other) and not verdict:
        return "equal keys, not equivalent"
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="how long to run (default: 20)")
    parser.add_argument(
        "--seeds", type=Path, action="append", default=[], help="JSON Lines with gold, pred or answer"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default: 0)")
    options = parser.parse_args(arguments)
    rng, coverage = random.Random(options.seed), Coverage()
    corpus = list(SEEDS)
    for path in options.seeds:
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            corpus += [record[f] for f in ("gold", "pred", "answer") if isinstance(record.get(f), str)]
    end, runs, slowest, problems = time.monotonic() + options.minutes * 60, 0, (0.0, ""), 0
    while time.monotonic() < end:
        text, other = mutate(rng.choice(corpus), rng.choice(corpus), rng), rng.choice(corpus)
        if rng.random() < 0.5:
            other = mutate(text, other, rng)
        coverage.new = 0
        start = time.process_time()
        sys.settrace(coverage.trace if runs % 4 == 0 else None)  # tracing costs a factor of ten
        try:
            problem = check(text, other)
        except BaseException as error:  # whatever escapes is the finding
            problem = f"raised {type(error).__name__}: {error}"
            if isinstance(error, KeyboardInterrupt):
                raise
        sys.settrace(None)
        seconds = time.process_time() - start
        if runs % 4 and seconds > slowest[0]:
            slowest = seconds, f"{text!r} {other!r}"
        if coverage.new:
            corpus.append(text)
        if problem:
            problems += 1
            print(f"PROBLEM {problem}: {text!r} {other!r}", flush=True)
        runs += 1
    print(f"{runs} inputs, {problems} problems, {len(coverage.seen)} lines reached, {len(corpus)} seeds")
    print(f"slowest (CPU): {slowest[0]:.3f} s for {slowest[1]}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
