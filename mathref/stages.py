"""The stages of training: what each starts from, what it trains on, and how it is validated.

Paper: section 4 (SSFT); section 3 (data); section 6 (SCR: the fine-tuned generator is fine-tuned further as
evaluator, on its own candidates [S]); section 8 (the joint and the contrastive objective, which MTSF
replaces; MTSF itself is a sequence of these stages, see train.py).
Choices: the checkpoint is chosen by validation accuracy [M]. What follows is [P]. Validation accuracy is that
of greedy solutions of the first validation problems, the cheap stand-in for Pass@1; validation loss is over
all of them. An evaluator is validated on the candidates of training problems that it is not trained on, and
the checkpoint with the lowest loss is kept; its calibration temperature is fitted on the same candidates.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from mathref import batches, calibration, candidates, distributed, evaluator, memory, trainer
from mathref.ablations import Ablation
from mathref.batches import Example
from mathref.candidates import Classes
from mathref.data import Problem, remove_held_out, training_data
from mathref.files import digest_text, write_json
from mathref.formats import normalized
from mathref.grader import grade
from mathref.lora import n_weights
from mathref.model import Transformer
from mathref.objectives import (
    Contrast,
    ContrastiveObjective,
    Joint,
    JointObjective,
    Labelled,
    MarginObjective,
    Pair,
    XentObjective,
)
from mathref.prompts import generator_prompt
from mathref.sampler import sample
from mathref.samples import read_samples_noted
from mathref.tokenizer import Tokenizer, check_fits, load_tokenizer
from mathref.trainer import Objective, SolutionLikelihood, TrainConfig
from mathref.weights import load_model, type_to_load

VALIDATION_CACHE = 4e9  # bytes: less than the activations that have left the memory by then
N_SCORED = 100  # validation problems whose candidates are scored at each validation of an evaluator
CALIBRATION = "calibration.json"  # in an evaluator's run folder: the temperature of its scores


@dataclass
class Stage:
    """All that `trainer.train` needs, and lines that tell the user what it is made of."""

    model: Transformer
    tokenizer: Tokenizer
    items: Sequence[Any]
    objective: Objective[Any]
    validate: Callable[[Transformer], dict[str, float]]
    notes: list[str]
    digest: str  # of the training texts: a resumed run must see the same
    finish: Callable[[Path], str] | None = None  # called with the run folder at the end; a line for the user
    apart: Sequence[str] = ()  # problems of which no candidate may be trained on with this generator


class Start(NamedTuple):
    """The checkpoint that a stage starts from, and a line about it; two stages in one share it."""

    model: Transformer
    tokenizer: Tokenizer
    note: str


def start_from(
    folder: Path | Start,
    device: torch.device,
    parallel: distributed.Parallel,
    frozen: torch.dtype = torch.float32,
) -> Start:
    """Load the checkpoint in `folder`, unless that is done; ValueError where its tokenizer does not fit.

    `frozen` is the type that weights which will not be trained (lora.py) may keep, if they are stored in it.
    """
    if isinstance(folder, Start):
        return folder
    tokenizer = load_tokenizer(folder)
    there = distributed.loading_device(device, parallel)
    model = load_model(folder, device=str(there), dtype=type_to_load(folder, frozen))
    check_fits(tokenizer, model.config)
    note = f"base model {folder}, {n_weights(model)[0]:,} parameters"
    return Start(model, tokenizer, note)


def ssft(
    folder: Path | Start,
    sources: list[str],
    config: TrainConfig,
    *,
    style: str,
    device: torch.device,
    n_validation: int | None = None,
    per_problem: int | None = None,
    families: Collection[str] | None = None,
    ablation: Ablation | None = None,
    n_greedy: int = 200,
    max_new_tokens: int = 256,
    skip_bad_lines: bool = False,
) -> Stage:
    """Fine-tune the checkpoint in `folder` on step-by-step solutions.

    Raises ValueError when tokenizer and model do not belong together or no example fits the context.
    """
    model, tokenizer, origin = start_from(folder, device, config.parallel)
    data = training_data(
        sources,
        style=style,
        n_validation=n_validation,
        per_problem=per_problem,
        families=families,
        ablation=ablation,
        skip_bad_lines=skip_bad_lines,
    )
    if not data.validation:
        raise ValueError(
            f"{', '.join(sources)}: no validation problem to choose the best checkpoint on; expected at "
            "least 2 problems, and --n-validation of at least 1"
        )
    if n_validation and len(data.validation) < n_validation:  # of files `training_data` has told it
        raise ValueError(
            f"--n-validation is {n_validation}, and {', '.join(sources)} has {len(data.validation)} "
            "validation problems; expected at most as many"
        )
    notes = [origin, *data.notes]
    train, held_back = (encode_problems(tokenizer, part) for part in (data.train, data.validation))
    train, n_long = batches.drop_too_long(train, model.config.max_seq_len)
    held_back, _ = batches.drop_too_long(held_back, model.config.max_seq_len)
    if n_long:
        notes.append(
            f"{n_long} examples left out: longer than the context of {model.config.max_seq_len} tokens"
        )
    if not train or not held_back:
        raise ValueError(
            f"{len(train)} training and {len(held_back)} validation examples fit the context of "
            f"{model.config.max_seq_len} tokens, expected at least one of each"
        )
    solvable = batches.with_room(tokenizer, data.validation, model.config.max_seq_len)
    if len(solvable) < len(data.validation):
        n_full = len(data.validation) - len(solvable)
        notes.append(f"{n_full} validation problems are not solved: they fill the context by themselves")
    n_tokens, epochs = sum(len(e.ids) for e in train), config.steps * config.batch_size / len(train)
    notes.append(f"{n_tokens:,} tokens an epoch, {epochs:.2f} epochs")
    objective = SolutionLikelihood()

    def validate(model: Transformer) -> dict[str, float]:
        values = {"val/loss": trainer.mean_loss(model, held_back, objective, config)}
        if n_greedy:
            problems = solvable[:n_greedy]
            values["val/pass@1"] = greedy_accuracy(model, tokenizer, problems, max_new_tokens=max_new_tokens)
        return values

    texts = "\0".join(f"{p.problem}\0{p.solution}" for p in (*data.train, *data.validation))
    digest = digest_text(texts)
    return Stage(model, tokenizer, train, objective, validate, notes, digest, apart=data.apart)


def encode_problems(tokenizer: Tokenizer, problems: list[Problem]) -> list[Example]:
    """Training examples of solved problems; those without a solution are passed over."""
    return [batches.encode_example(tokenizer, p.problem, p.solution) for p in problems if p.solution]


def greedy_accuracy(
    model: Transformer, tokenizer: Tokenizer, problems: list[Problem], *, max_new_tokens: int = 256
) -> float:
    """Share of problems whose greedy solution is graded correct: Pass@1 of section 5."""
    prompts = [generator_prompt(p.problem) for p in problems]
    length = batches.longest_text(tokenizer, prompts, max_new_tokens)
    dtype = next(model.parameters()).dtype
    rows = memory.rows_within(VALIDATION_CACHE, model.config, length, dtype, most=256)
    options = {"n": 1, "temperature": 0.0, "max_new_tokens": max_new_tokens, "batch_rows": rows}
    solutions = sample(model, tokenizer, prompts, **options)
    return sum(grade(s[0].text, p.answer) for s, p in zip(solutions, problems, strict=True)) / len(problems)


# ---- The evaluator, and what mixes its loss with the generator's -------------------------------------


@dataclass(frozen=True)
class EvaluatorConfig:
    """What an evaluator learns from a problem's candidates; every field is a flag of train.py."""

    loss: Literal["margin", "xent"] = "xent"  # Eq. 8 or Eq. 9
    margin: float = 0.5  # lambda of Eq. 8 and of L_seq
    xent_space: Literal["two-way", "vocab"] = "two-way"  # p_cls of Eq. 9: over the two words or all tokens
    examples_per_problem: int = 10  # pairs (margin) or candidates (xent)
    balance: Literal["problem", "none"] = "problem"  # xent: half and half where possible
    alpha_1: float = 1.0  # weight of L_mle in L_ctr
    alpha_2: float = 1.0  # weight of L_mle in L_mul
    length_normalised: bool = False  # L_seq on mean instead of summed log-probabilities

    def __post_init__(self) -> None:
        if self.examples_per_problem < 2:
            raise ValueError(f"--examples-per-problem is {self.examples_per_problem}, expected at least 2")
        for name in ("margin", "alpha_1", "alpha_2"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected 0 or more")


def read_classes(
    path: Path,
    seed: int,
    n_validation: int | None = None,
    apart_from: Collection[str] = (),
    skip_bad_lines: bool = False,
) -> tuple[list[Classes], list[Classes], list[str]]:
    """The usable candidates of a graded samples file: (training, validation) problems, and lines about them.

    Held-out problems are removed, and the problems `apart_from` (data.TrainingData).
    Validation problems are a seeded draw, a twelfth by default, 200 at most; no text stands on both sides.
    Raises ValueError where a side that is wanted has no problem with candidates of both classes.
    """
    _, sampled, skipped_notes = read_samples_noted(path, skip_bad_lines=skip_bad_lines)
    kept, removed = remove_held_out(sampled)
    theirs = set(map(normalized, apart_from))
    found = [candidates.classes(p) for p in kept if normalized(p.problem) not in theirs]
    n_all = sum(len(p.samples) for p in sampled)
    notes = [f"{path}: {len(sampled)} problems, {n_all} candidates", *skipped_notes]
    if removed:
        notes.append(
            f"{path}: {len(removed)} problems removed by the contamination guard (held-out problems)"
        )
    if n_theirs := len(kept) - len(found):
        notes.append(
            f"{path}: {n_theirs} problems left out: validation, or families left out, of the generator"
        )
    n_used = sum(len(c.correct) + len(c.incorrect) for c in found)
    mixed = sum(bool(c.correct and c.incorrect) for c in found)
    notes.append(
        f"{len(found)} problems are left, with {n_used} distinct candidates that have a complete answer; "
        f"{mixed} of them have correct and incorrect ones"
    )
    n = min(200, max(1, len(found) // 12)) if n_validation is None else n_validation
    if n < 0:
        raise ValueError(f"cannot keep {n} validation problems, expected 0 or more")
    found = random.Random(seed).sample(found, len(found))
    if not any(c.correct and c.incorrect for c in found[:n]) and n and mixed > 1:
        # A small draw may miss all problems with both classes, without which nothing can be measured.
        place = next(i for i, c in enumerate(found) if c.correct and c.incorrect)
        found[n - 1], found[place] = found[place], found[n - 1]
    drawn = {normalized(c.problem) for c in found[:n]}  # a problem may be there twice, under two ids
    validation = [c for c in found if normalized(c.problem) in drawn]
    train = [c for c in found if normalized(c.problem) not in drawn]
    for name, part in [("training", train)] + [("validation", validation)] * bool(n):
        if not any(c.correct and c.incorrect for c in part):
            raise ValueError(
                f"{path}: no {name} problem of {len(part)} has both correct and incorrect candidates, "
                "nothing to learn the difference from; sample more problems, or more solutions of each"
            )
    return train, validation, notes


def _judged(
    tokenizer: Tokenizer, found: list[Classes], options: EvaluatorConfig, seed: int
) -> tuple[list[Pair] | list[Labelled], float]:
    """Encoded examples for the evaluator's loss, and how well length alone tells their labels (`parity`)."""
    pairs: list[Pair] = []
    labelled: list[Labelled] = []
    texts: list[tuple[str, bool]] = []
    for problem in found:
        prefix = evaluator.encode_problem(tokenizer, problem.problem)
        if options.loss == "margin":
            for correct, incorrect in candidates.draw_pairs(problem, options.examples_per_problem, seed):
                ids = (prefix + evaluator.encode_candidate(tokenizer, text) for text in (correct, incorrect))
                pairs.append(Pair(*ids))
                texts += [(correct, True), (incorrect, False)]
        else:
            balanced = options.balance == "problem"
            chosen = candidates.draw_labelled(problem, options.examples_per_problem, seed, balanced=balanced)
            for text, label in chosen:
                labelled.append(Labelled(prefix + evaluator.encode_candidate(tokenizer, text), label))
            texts += chosen
    return pairs or labelled, candidates.parity(texts)


def scr(
    folder: Path | Start,
    samples: Path,
    config: TrainConfig,
    options: EvaluatorConfig,
    *,
    device: torch.device,
    n_validation: int | None = None,
    apart_from: Collection[str] = (),
    skip_bad_lines: bool = False,
) -> Stage:
    """Fine-tune the checkpoint in `folder` as evaluator, on the graded candidates of a samples file.

    Candidates of the problems `apart_from` (data.TrainingData) are left out.
    At each validation the candidates of N_SCORED validation problems are scored too: their AUC, the share
    of (correct, incorrect) pairs of one problem that are ordered rightly, and the share of problems whose
    best-scored candidate is right. AUC rewards telling easy problems from hard ones, too; re-ranking lives on
    the pairs. Raises ValueError as `read_classes` does, and for a tokenizer that cannot tell the two words
    apart.
    """
    model, tokenizer, origin = start_from(folder, device, config.parallel)
    words = evaluator.verdict_words(tokenizer)
    if n_validation == 0:
        raise ValueError("cannot keep 0 validation problems: the best checkpoint is chosen on them")
    train, validation, notes = read_classes(samples, config.seed, n_validation, apart_from, skip_bad_lines)
    digest = digest_text(json.dumps([vars(c) for c in (*train, *validation)], ensure_ascii=False))
    validation = _scorable(tokenizer, validation, words, model.config.max_seq_len)
    items, length_auc = _judged(tokenizer, train, options, config.seed)
    held_back, _ = _judged(tokenizer, validation, options, config.seed)
    items, n_long = _fitting(items, words, model.config.max_seq_len)
    if not held_back:
        raise ValueError(
            f"{samples}: no validation problem has correct and incorrect candidates that fit the context of "
            f"{model.config.max_seq_len} tokens"
        )
    kind = "pairs" if options.loss == "margin" else "labelled candidates"
    notes += [
        f"{len(items)} {kind} to train on, {len(held_back)} to validate on ({len(validation)} problems), "
        f"{config.steps * config.batch_size / len(items):.2f} epochs",
        f"format parity: length alone tells correct from incorrect with AUC {length_auc:.3f} (0.5: not)",
    ]
    if n_long:
        notes.append(
            f"{n_long} {kind} left out: longer than the context of {model.config.max_seq_len} tokens"
        )
    objective: Objective[Any] = (
        MarginObjective(words, options.margin)
        if options.loss == "margin"
        else XentObjective(words, options.xent_space == "vocab")
    )

    def validate(model: Transformer) -> dict[str, float]:
        values = {"val/loss": trainer.mean_loss(model, held_back, objective, config)}
        odds, labels = score_classes(model, tokenizer, validation[:N_SCORED])
        auc = calibration.auc(np.concatenate(odds), np.concatenate(labels))
        if np.isfinite(auc):  # not where all of them are right, or all wrong
            values["val/auc"] = auc
        if pairs := calibration.pairwise_accuracy(odds, labels):
            values["val/pairs"] = float(np.mean(pairs))
        best = [y[s == s.max()].mean() for s, y in zip(odds, labels, strict=True)]  # equal scores: by lot
        return values | {"val/rr.all": float(np.mean(best))}

    def finish(out: Path) -> str:
        best = load_model(out, device=str(device), dtype=torch.float32)
        odds, labels = map(np.concatenate, score_classes(best, tokenizer, validation))
        temperature = calibration.fit_temperature(odds, calibration.smoothed(labels))
        write_json(out / CALIBRATION, {"temperature": temperature, "candidates": len(odds)})
        return f"calibration temperature {temperature:.2f}, fitted on {len(odds)} validation candidates"

    return Stage(model, tokenizer, items, objective, validate, [origin, *notes], digest, finish)


def _fitting(
    items: list[Pair] | list[Labelled], words: evaluator.Words, max_seq_len: int
) -> tuple[list[Any], int]:
    """The items whose templates fit the context, and the number of the others."""

    def longest(item: Pair | Labelled) -> int:
        texts = (item.correct, item.incorrect) if isinstance(item, Pair) else (item.ids,)
        return max(evaluator.n_tokens((), text, words) for text in texts)

    kept = [item for item in items if longest(item) <= max_seq_len]
    if not kept:
        raise ValueError(f"no candidate with its template fits the context of {max_seq_len} tokens")
    return kept, len(items) - len(kept)


def _scorable(
    tokenizer: Tokenizer, found: Sequence[Classes], words: evaluator.Words, max_seq_len: int
) -> list[Classes]:
    """The problems with those of their candidates that fit the evaluator's context, where there are any."""
    kept = []
    for problem in found:
        prefix = evaluator.encode_problem(tokenizer, problem.problem)
        correct, incorrect = (
            tuple(
                text
                for text in texts
                if evaluator.n_tokens(prefix, evaluator.encode_candidate(tokenizer, text), words)
                <= max_seq_len
            )
            for texts in (problem.correct, problem.incorrect)
        )
        if correct or incorrect:
            kept.append(Classes(problem.id, problem.problem, correct, incorrect))
    return kept


def score_classes(
    model: Transformer, tokenizer: Tokenizer, found: Sequence[Classes]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Log-odds and labels (1.0: correct) of each problem's candidates, which every problem has."""
    odds, labels = [], []
    for problem in found:
        texts = [*problem.correct, *problem.incorrect]
        odds.append(np.array(evaluator.log_odds(model, tokenizer, problem.problem, texts)))
        labels.append(np.repeat([1.0, 0.0], [len(problem.correct), len(problem.incorrect)]))
    return odds, labels


def joint(
    folder: Path,
    sources: list[str],
    samples: Path,
    config: TrainConfig,
    options: EvaluatorConfig,
    *,
    device: torch.device,
    **data: Any,
) -> Stage:
    """Train one checkpoint as generator and evaluator at once, L_mul = L_cls + alpha_2 L_mle.

    `data` are the arguments of `ssft`. The checkpoint with the best greedy accuracy, then the lowest joint
    loss, is kept, as for a generator.
    """
    start = start_from(folder, device, config.parallel)
    generator = ssft(start, sources, config, device=device, **data)
    skip = data.get("skip_bad_lines", False)
    judge = scr(
        start,
        samples,
        config,
        options,
        device=device,
        apart_from=generator.apart,
        skip_bad_lines=skip,
    )
    objective: JointObjective[Any] = JointObjective(judge.objective, options.alpha_2)
    solutions = random.Random(config.seed).choices(generator.items, k=len(judge.items))
    items = [Joint(judged, solution) for judged, solution in zip(judge.items, solutions, strict=True)]

    def validate(model: Transformer) -> dict[str, float]:
        judged, written = judge.validate(model), generator.validate(model)
        values = {"val/loss": judged["val/loss"] + options.alpha_2 * written["val/loss"]}
        values |= {"val/cls": judged.pop("val/loss"), "val/mle": written.pop("val/loss")}
        return values | judged | written

    notes = [*generator.notes, *judge.notes[1:], f"joint loss: L_cls + {options.alpha_2:g} L_mle"]
    digest = digest_text(generator.digest + judge.digest)
    return Stage(
        generator.model, generator.tokenizer, items, objective, validate, notes, digest, judge.finish
    )


def contrastive(
    folder: Path,
    sources: list[str],
    samples: Path,
    config: TrainConfig,
    options: EvaluatorConfig,
    *,
    device: torch.device,
    **data: Any,
) -> Stage:
    """Train the generator to prefer its correct solutions, L_ctr = L_seq + alpha_1 L_mle.

    `data` are the arguments of `ssft`, whose validation it shares. L_mle is on the training solution of the
    pair's problem, or on the correct candidate where the training data do not hold that problem.
    """
    generator = ssft(folder, sources, config, device=device, **data)
    skip = data.get("skip_bad_lines", False)
    found, _, notes = read_classes(samples, config.seed, 0, generator.apart, skip)
    tokenizer, objective = (
        generator.tokenizer,
        ContrastiveObjective(options.margin, options.alpha_1, options.length_normalised),
    )
    by_prompt = {tuple(e.ids[: e.n_prompt]): e for e in generator.items}
    items = []
    for problem in found:
        for pair in candidates.draw_pairs(problem, options.examples_per_problem, config.seed):
            correct, incorrect = (batches.encode_example(tokenizer, problem.problem, text) for text in pair)
            reference = by_prompt.get(tuple(correct.ids[: correct.n_prompt]), correct)
            items.append(Contrast(correct, incorrect, reference))
    kept = [
        i
        for i in items
        if max(len(i.correct.ids), len(i.incorrect.ids)) <= generator.model.config.max_seq_len
    ]
    notes = [*generator.notes, *notes, f"{len(kept)} pairs to tell apart, {len(items) - len(kept)} too long"]
    digest = digest_text(generator.digest + json.dumps([vars(c) for c in found], ensure_ascii=False))
    return Stage(generator.model, tokenizer, kept, objective, generator.validate, notes, digest)
