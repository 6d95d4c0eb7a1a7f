"""The stages of training: what each starts from, what it trains on, and how it is validated.

Paper: section 4 (SSFT, and choosing the checkpoint by validation accuracy); section 3 (data).
Choices [P]: validation accuracy is that of greedy solutions of the first validation problems, the cheap
stand-in for Pass@1; validation loss is over all of them. Pre-training makes the base models that ship in
assets/: tokenizer and weights from `problems.pretraining_text`, which knows the training side of the
built-in problems alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mathref import trainer
from mathref.ablations import Ablation
from mathref.data import Problem, training_data
from mathref.files import digest_text
from mathref.grader import grade
from mathref.model import ModelConfig, Transformer
from mathref.problems import generate, pretraining_text
from mathref.prompts import completion, generator_prompt
from mathref.sampler import sample
from mathref.tokenizer import Tokenizer, check_fits, load_tokenizer, train_sentencepiece
from mathref.trainer import Example, Objective, SolutionLikelihood, TrainConfig
from mathref.weights import load_model

# The paper's two sizes, PaLM 2-S* and PaLM 2-L, as far as a laptop goes.
VOCAB_SIZE = 768  # 256 of them are bytes: any text can be encoded
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"n_layer": 4, "n_head": 4, "n_kv_head": 2, "head_dim": 32, "n_embd": 128, "n_inner": 352},
    "small": {"n_layer": 4, "n_head": 6, "n_kv_head": 2, "head_dim": 32, "n_embd": 192, "n_inner": 512},
}
CONTEXT = 1024  # tokens; room for a few-shot prompt and the longest solution
TOKENIZER_DOCUMENTS = 12000  # pages that the tokenizer is trained on


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


def pretrain(shape: str, config: TrainConfig, *, device: torch.device, n_validation: int = 200) -> Stage:
    """A new model of one of SHAPES on `config.steps * config.batch_size` documents, each seen once.

    Raises ValueError for an unknown shape.
    """
    if shape not in SHAPES:
        raise ValueError(f"--model {shape}: pre-training starts from nothing, expected {' or '.join(SHAPES)}")
    tokenizer = train_sentencepiece(tokenizer_text(config.seed), VOCAB_SIZE)
    n_train = config.steps * config.batch_size
    texts = itertools.islice(pretraining_text(config.seed), n_train + n_validation)
    documents = [trainer.encode_document(tokenizer, text) for text in texts]
    held_back, documents = documents[:n_validation], documents[n_validation:]
    torch.manual_seed(config.seed)
    model = Transformer(ModelConfig(vocab_size=VOCAB_SIZE, max_seq_len=CONTEXT, **SHAPES[shape])).to(device)
    objective = SolutionLikelihood()
    n_tokens = sum(len(d.ids) for d in documents)
    notes = [
        f"a new {shape} model, {sum(p.numel() for p in model.parameters()):,} parameters",
        f"{n_train:,} documents, {n_tokens:,} tokens of built-in text, none from validation or test problems",
    ]
    return Stage(
        model=model,
        tokenizer=tokenizer,
        items=documents,
        objective=objective,
        validate=lambda m: {"val/loss": trainer.mean_loss(m, held_back, objective, config)},
        notes=notes,
        digest=digest_text(f"pretraining text, seed {config.seed}, {n_train} documents, {n_tokens} tokens"),
    )


def tokenizer_text(seed: int) -> list[str]:
    """Lines for the tokenizer: pre-training text and training problems in both styles."""
    documents = list(itertools.islice(pretraining_text(seed), TOKENIZER_DOCUMENTS))
    for problem in generate("train", 3000):
        for solution in (problem.brief, problem.detailed):
            documents.append(generator_prompt(problem.problem) + completion(solution))
    return [line for document in documents for line in document.split("\n") if line]


def ssft(
    folder: Path,
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
) -> Stage:
    """Fine-tune the checkpoint in `folder` on step-by-step solutions.

    Raises ValueError when tokenizer and model do not belong together or no example fits the context.
    """
    tokenizer = load_tokenizer(folder)
    # Float32 whatever is stored: a small step added to a bfloat16 weight is mostly rounded away.
    model = load_model(folder, device=str(device), dtype=torch.float32)
    check_fits(tokenizer, model.config)
    data = training_data(
        sources,
        style=style,
        seed=config.seed,
        n_validation=n_validation,
        per_problem=per_problem,
        families=families,
        ablation=ablation,
    )
    notes = [f"base model {folder}, {sum(p.numel() for p in model.parameters()):,} parameters", *data.notes]
    train, held_back = (encode_problems(tokenizer, part) for part in (data.train, data.validation))
    train, n_long = trainer.drop_too_long(train, model.config.max_seq_len)
    held_back, _ = trainer.drop_too_long(held_back, model.config.max_seq_len)
    if n_long:
        notes.append(
            f"{n_long} examples left out: longer than the context of {model.config.max_seq_len} tokens"
        )
    if not train or not held_back:
        raise ValueError(
            f"{len(train)} training and {len(held_back)} validation examples fit the context of "
            f"{model.config.max_seq_len} tokens, expected at least one of each"
        )
    n_tokens, epochs = sum(len(e.ids) for e in train), config.steps * config.batch_size / len(train)
    notes.append(f"{n_tokens:,} tokens an epoch, {epochs:.2f} epochs")
    objective = SolutionLikelihood()

    def validate(model: Transformer) -> dict[str, float]:
        values = {"val/loss": trainer.mean_loss(model, held_back, objective, config)}
        if n_greedy:
            problems = data.validation[:n_greedy]
            values["val/pass@1"] = greedy_accuracy(model, tokenizer, problems, max_new_tokens=max_new_tokens)
        return values

    texts = "\0".join(f"{p.problem}\0{p.solution}" for p in (*data.train, *data.validation))
    return Stage(model, tokenizer, train, objective, validate, notes, digest_text(texts))


def encode_problems(tokenizer: Tokenizer, problems: list[Problem]) -> list[Example]:
    """Training examples of solved problems; those without a solution are passed over."""
    return [trainer.encode_example(tokenizer, p.problem, p.solution) for p in problems if p.solution]


def greedy_accuracy(
    model: Transformer, tokenizer: Tokenizer, problems: list[Problem], *, max_new_tokens: int = 256
) -> float:
    """Share of problems whose greedy solution is graded correct: Pass@1 of section 5."""
    prompts = [generator_prompt(p.problem) for p in problems]
    solutions = sample(model, tokenizer, prompts, n=1, temperature=0, max_new_tokens=max_new_tokens)
    return sum(grade(s[0].text, p.answer) for s, p in zip(solutions, problems, strict=True)) / len(problems)
