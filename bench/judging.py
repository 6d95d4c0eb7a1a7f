"""What a model knows about judging, before and after SCR: can it tell a slip from the right thing, and a
generator's right solutions from its wrong ones?

Paper: section 6.1 relies on it; a large model has it from its pre-training. Lines of arithmetic and whole
solutions of built-in training problems, half of them with a slip of the kinds of problems.py; reported is the
AUC of log p("correct") - log p("incorrect"), with a bootstrap interval. The slips are random, a generator's
own mistakes are not: they lie where it is unsure, which is why an evaluator needs SCR on top of this.
With --samples it is a generator's candidates that are judged, and reported which share of the (right, wrong)
pairs of a problem is ordered rightly, mean over problems: by S_cls, and by the model's own log-probability of
the solution behind the generator's prompt and behind the evaluator's template. The latter two are what the
model knows as a generator; after SCR they say what it has forgotten of that.

    python bench/judging.py tiny small [runs/base] [--lines 1500] [--solutions 600]
    python bench/judging.py runs/ssft runs/scr --samples samples/validation.jsonl [--problems 60]
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout, without installation

from mathref.batches import Example  # noqa: E402
from mathref.calibration import auc_interval, pairwise_accuracy  # noqa: E402
from mathref.candidates import Classes, classes  # noqa: E402
from mathref.evaluator import log_odds, verdict_words, word_logprobs  # noqa: E402
from mathref.metrics import Interval, mean_interval  # noqa: E402
from mathref.model import Transformer  # noqa: E402
from mathref.objectives import solution_logprobs  # noqa: E402
from mathref.problems import judged_line, judged_solution, stream  # noqa: E402
from mathref.prompts import completion, evaluator_problem, generator_prompt  # noqa: E402
from mathref.runs import resolve_model, run_command  # noqa: E402
from mathref.samples import read_samples  # noqa: E402
from mathref.stages import score_classes  # noqa: E402
from mathref.tokenizer import Tokenizer, load_tokenizer  # noqa: E402
from mathref.weights import load_model  # noqa: E402

SEED = -7777  # of problems and slips; pre-training has used 0 to -4
ROWS = 100  # lines judged side by side
OF_EACH = 8  # right and wrong candidates of a problem that are compared, the first ones sampled


@torch.inference_mode()
def lines_auc(model: Transformer, tokenizer: Tokenizer, n: int) -> Interval:
    """AUC over `n` lines "LINE is", as pre-training pages judge them."""
    rng, words = random.Random(SEED), verdict_words(tokenizer)
    lines = [judged_line(rng) for _ in range(n)]
    start = () if tokenizer.bos_id is None else (tokenizer.bos_id,)
    texts = [(*start, *tokenizer.encode(f"{line} is")) for line, _ in lines]
    odds = []
    for first in range(0, n, ROWS):
        both = word_logprobs(model, texts[first : first + ROWS], words)  # (B, 2)
        odds += (both[:, 0] - both[:, 1]).tolist()
    return auc_interval([np.array([o]) for o in odds], [np.array([float(right)]) for _, right in lines])


def solutions_auc(model: Transformer, tokenizer: Tokenizer, n: int, levels: tuple[int, ...]) -> Interval:
    """AUC over `n` solutions in the evaluator's template, one a problem."""
    rng, odds, labels = random.Random(SEED), [], []
    for problem in itertools.islice(stream("train", SEED, levels), n):
        shown, right = judged_solution(problem, rng)
        odds.append(np.array(log_odds(model, tokenizer, problem.problem, [shown])))
        labels.append(np.array([float(right)]))
    return auc_interval(odds, labels)


def to_judge(file: str, n: int) -> list[Classes]:
    """The first `n` problems of a samples file with right and wrong candidates, OF_EACH of either."""
    _, problems = read_samples(file)
    found = [c for c in map(classes, problems) if c.correct and c.incorrect][:n]
    if not found:
        raise ValueError(f"{file}: no problem has both right and wrong candidates, expected at least one")
    return [replace(c, correct=c.correct[:OF_EACH], incorrect=c.incorrect[:OF_EACH]) for c in found]


@torch.inference_mode()
def pairs_ordered(model: Transformer, tokenizer: Tokenizer, found: list[Classes]) -> dict[str, Interval]:
    """Share of the pairs within a problem that each of three scores orders rightly."""
    start = () if tokenizer.bos_id is None else (tokenizer.bos_id,)

    def likelihood(problem: str, texts: list[str]) -> np.ndarray:
        """log p(X | problem) of each text, summed over its tokens."""
        prompt = (*start, *tokenizer.encode(problem))
        return solution_logprobs(
            model, [Example((*prompt, *tokenizer.encode(completion(text))), len(prompt)) for text in texts]
        ).numpy()

    odds, labels = score_classes(model, tokenizer, found)
    scores = {"S_cls": odds}
    for name, prompt in (("log p(X | P)", generator_prompt), ("log p(X | T)", evaluator_problem)):
        scores[name] = [likelihood(prompt(c.problem), [*c.correct, *c.incorrect]) for c in found]
    return {name: mean_interval(pairwise_accuracy(values, labels)) for name, values in scores.items()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="tiny, small or a checkpoint folder")
    parser.add_argument("--lines", type=int, default=1500)
    parser.add_argument("--solutions", type=int, default=600)
    parser.add_argument("--samples", metavar="FILE", help="judge these graded candidates instead")
    parser.add_argument("--problems", type=int, default=60, help="of FILE")
    args = parser.parse_args(argv)
    judged = to_judge(args.samples, args.problems) if args.samples else []
    for name in args.models:
        folder = resolve_model(name)
        model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
        found = pairs_ordered(model, tokenizer, judged) if judged else {
            "lines": lines_auc(model, tokenizer, args.lines),
            "solutions, levels 1-3": solutions_auc(model, tokenizer, args.solutions, (1, 2, 3)),
            "solutions, levels 4-5": solutions_auc(model, tokenizer, args.solutions, (4, 5)),
        }  # fmt: skip
        print(name, *(f"{k} {v.value:.3f} ({v.low:.3f}-{v.high:.3f})" for k, v in found.items()), sep="; ")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
