"""Candidates: solutions drawn by a generator and graded; and the evaluator's training examples made of them.

Paper: section 5 (the N samples of a problem), section 6.3 (the evaluator is trained on the generator's own
samples of the training problems, labelled by g [S]; ten pairs a problem for the margin loss [Q]).
Choices [P]: ten examples a problem for the cross-entropy, too; pairs are distinct and drawn uniformly among
all (correct, incorrect) ones of a problem; examples for the cross-entropy are half correct and half incorrect
where both are there (`--balance none`: a plain draw); leaving out what has no counterpart would leave too
little, since a good generator's correct solutions are often one text. Equal texts count once. Format parity:
what is not judged by its mathematics teaches the evaluator nothing but format, so candidates without an
answer and those cut off by the length limit are left out (they are wrong by form alone), and reference
solutions, whose style would give the label away, never come in. `parity` measures what is left.

Files grow problem by problem (samples.SamplesFile): a killed run goes on with the next problem, and its file
is then byte for byte that of an undisturbed one, since batches are cut from the whole list of problems. Who
draws is another matter: the sampler here or a server, and the latter works without torch.
"""

from __future__ import annotations

import functools
import json
import random
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from mathref import __version__, processes
from mathref.calibration import auc
from mathref.data import Problem, TrainingData
from mathref.decoding import SampleConfig, Written
from mathref.files import digest_text
from mathref.formats import Sample, SampledProblem, normalized
from mathref.grader import extract_answer, is_equivalent
from mathref.parts import my_share, open_shared
from mathref.prompts import generator_prompt
from mathref.samples import SamplesFile

if TYPE_CHECKING:
    import torch

CACHE = 8e9  # bytes that the candidates drawn side by side may take

# ---- Drawing -----------------------------------------------------------------------------------------


def grade_completions(problem: Problem, completions: Sequence[Written]) -> SampledProblem:
    """Extract and judge the answers of one problem's completions; each distinct answer is judged once."""
    answers = [extract_answer(c.text) for c in completions]
    verdict = {answer: is_equivalent(answer, problem.answer) for answer in dict.fromkeys(answers)}
    samples = tuple(
        Sample(
            c.text.strip(),
            answer,
            verdict[answer],
            None if c.logprob is None else round(c.logprob, 4),
            c.n_tokens,
            c.finish_reason,
        )
        for c, answer in zip(completions, answers, strict=True)
    )
    p = problem
    return SampledProblem(p.id, p.problem, p.answer, samples, level=p.level, subject=p.subject)


Drawn = list[tuple[Problem, Sequence[Written]]]  # problems with their completions


def in_groups(
    done: Collection[str],
    problems: Sequence[Problem],
    prompts: Sequence[str],
    sample_batch: Callable[..., list[list[Written]]],
    group: int,
) -> Iterator[Drawn]:
    """Sample the problems whose ids are not `done`, `group` problems at a time.

    Groups are cut from the whole list, never from what is left: so a resumed run decodes the same batches
    as an undisturbed one, and its numbers agree to the last bit. Of torchrun's processes each takes some.
    """
    starts = range(0, len(problems), group)
    lacking = [first for first in starts if any(p.id not in done for p in problems[first : first + group])]
    for first in my_share(lacking):
        batch = problems[first : first + group]
        completions = sample_batch(prompts[first : first + group], ids=[p.id for p in batch])
        yield [(p, found) for p, found in zip(batch, completions, strict=True) if p.id not in done]


def write_samples(file: SamplesFile, problems: Sequence[Problem], batches: Iterable[Drawn]) -> int:
    """Grade and append what an engine draws of `problems`, as it comes; returns the tokens written."""
    tokens, start = 0, time.perf_counter()
    done = sum(problem.id in file.done for problem in problems)
    total = len(problems) if processes.world_size() == 1 else None  # what the others do is not seen here
    with tqdm(total=total, initial=done, unit="problem", desc="sampling", disable=None) as bar:
        for batch in batches:
            file.append([grade_completions(problem, completions) for problem, completions in batch])
            tokens += sum(c.n_tokens or 0 for _, completions in batch for c in completions)
            if tokens:
                bar.set_postfix_str(f"{tokens / (time.perf_counter() - start):,.0f} tokens/s", refresh=False)
            bar.update(len(batch))
    return processes.total(tokens)


def problems_to_draw(
    generator: Path, data: TrainingData, n: int, seed: int
) -> tuple[list[Problem], list[str]]:
    """A seeded draw of `n` distinct training problems, none of `data.apart`, that `generator` has room for.

    The lines say how many it has no room for.
    """
    from mathref.batches import with_room  # late, as below: a server's candidates need no torch
    from mathref.tokenizer import load_tokenizer
    from mathref.weights import load_config

    apart = set(map(normalized, data.apart))
    distinct = {normalized(p.problem): p for p in data.train if normalized(p.problem) not in apart}
    max_seq_len = load_config(generator).max_seq_len
    solvable = with_room(load_tokenizer(generator), list(distinct.values()), max_seq_len)
    full = len(distinct) - len(solvable)
    notes = [f"{full} problems get no candidates: they fill the context of {max_seq_len} tokens alone"]
    return random.Random(seed).sample(solvable, min(n, len(solvable))), notes if full else []


def rows_side_by_side(
    generator: Path, problems: Sequence[Problem], max_new_tokens: int, dtype: torch.dtype
) -> int:
    """How many candidates are drawn side by side unless told otherwise: 512, or what CACHE bytes hold.

    A function of model and data, not of the machine, so that a killed run goes on with the same batches.
    """
    from mathref import memory
    from mathref.batches import longest_text
    from mathref.tokenizer import load_tokenizer
    from mathref.weights import load_config

    prompts = [generator_prompt(p.problem) for p in problems]
    length = longest_text(load_tokenizer(generator), prompts, max_new_tokens)
    return memory.rows_within(CACHE, load_config(generator), length, dtype, most=512)


def draw_candidates(
    generator: Path,
    problems: Sequence[Problem],
    path: Path,
    config: SampleConfig,
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> int:
    """Let the checkpoint `generator` solve `problems`, config.n times each, into the samples file `path`.

    Its weights get `dtype`, float32 by default. Returns the number of tokens written; 0 where the file was
    complete. Raises ValueError where `path` holds samples of another run, MemoryError where cache and weights
    cannot fit.
    """
    import torch

    from mathref import memory
    from mathref.sampler import encode_prompts, problems_per_group, sample
    from mathref.tokenizer import load_tokenizer
    from mathref.weights import load_config, load_model, model_digest

    dtype = dtype or torch.float32
    asked = [[p.id, p.problem, p.answer] for p in problems]
    meta = {
        "mathref": __version__,
        "model": generator.name,
        "model_digest": model_digest(generator),
        "data": "training problems",
        "data_digest": digest_text(json.dumps(asked, ensure_ascii=False)),
        **vars(config),
        "device": device.type,
    }
    if dtype.itemsize != 4:  # float32 goes without saying, as in the files of former versions
        meta["dtype"] = str(dtype).removeprefix("torch.")
    advice = "choose another --out, or remove that file if nothing needs it"
    with open_shared(path, meta, [p.id for p in problems], advice=advice) as file:
        if all(p.id in file.done for p in problems):
            return 0
        tokenizer, model_config = load_tokenizer(generator), load_config(generator)
        prompts = [generator_prompt(p.problem) for p in problems]
        encoded = encode_prompts(tokenizer, prompts, [p.id for p in problems], model_config.max_seq_len)
        need = memory.of_sampling(model_config, config, encoded, device, dtype)
        if tight := memory.check(need, device):
            tqdm.write(tight, file=sys.stderr)
        model = load_model(generator, device=str(device), dtype=dtype)
        draw = functools.partial(sample, model, tokenizer, **vars(config))
        groups = in_groups(file.done, problems, prompts, draw, problems_per_group(config))
        return write_samples(file, problems, groups)


# ---- The evaluator's training examples ---------------------------------------------------------------


@dataclass(frozen=True)
class Classes:
    """The candidates of one problem that an evaluator may learn from, distinct texts, in sampling order."""

    id: str
    problem: str
    correct: tuple[str, ...]
    incorrect: tuple[str, ...]


def classes(problem: SampledProblem) -> Classes:
    """Split a problem's candidates by their verdict, without those that are wrong by form alone."""
    usable = [s for s in problem.samples if (s.answer or "").strip() and s.finish_reason != "length"]
    correct, incorrect = (
        tuple(dict.fromkeys(s.text.strip() for s in usable if s.correct is verdict))
        for verdict in (True, False)
    )
    return Classes(problem.id, problem.problem, correct, incorrect)


def draw_pairs(found: Classes, n: int, seed: int) -> list[tuple[str, str]]:
    """`n` distinct (correct, incorrect) pairs of one problem, fewer if fewer exist, none of a single
    class.
    """
    n_pairs = len(found.correct) * len(found.incorrect)
    places = random.Random(f"{seed}-{found.id}").sample(range(n_pairs), min(n, n_pairs))
    return [
        (found.correct[i // len(found.incorrect)], found.incorrect[i % len(found.incorrect)]) for i in places
    ]


def draw_labelled(found: Classes, n: int, seed: int, *, balanced: bool = True) -> list[tuple[str, bool]]:
    """`n` distinct candidates of one problem with their labels, fewer if fewer exist.

    Balanced where possible: half of them correct, half incorrect; where one class has fewer, the other fills
    the places up. Otherwise a plain draw from all.
    """
    rng = random.Random(f"{seed}-{found.id}")
    correct = [(text, True) for text in rng.sample(found.correct, len(found.correct))]
    incorrect = [(text, False) for text in rng.sample(found.incorrect, len(found.incorrect))]
    if not balanced:
        return rng.sample(correct + incorrect, min(n, len(correct) + len(incorrect)))
    n_correct = min(len(correct), max(n // 2, n - len(incorrect)))
    return correct[:n_correct] + incorrect[: n - n_correct]


def parity(examples: Sequence[tuple[str, bool]]) -> float:
    """How well length alone tells correct from incorrect texts: AUC of the negative length, 0.5 = not at
    all.
    """
    lengths = np.array([-len(text) for text, _ in examples], dtype=float)
    return auc(lengths, np.array([label for _, label in examples], dtype=float))
