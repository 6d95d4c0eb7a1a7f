"""The one training loop that every stage uses: examples in, a fine-tuned model and its checkpoint out.

Paper: section 4 (SSFT: loss on the solution tokens alone, end-of-sequence included); section 8 (weights
pass from stage to stage, optimiser state does not: every call of `train` starts a fresh optimiser).
Choices [P], the paper's being unknown: AdamW, linear warm-up, then cosine or constant; gradients clipped by
norm; the checkpoint with the best validation accuracy is kept. An optimiser step takes `batch_size`
examples, sorts them by length and cuts them into micro-batches of at most `tokens_per_batch` padded tokens:
with short texts nearly nothing is padding, causal attention alone keeps right padding out of sight, and no
mask has to be built, which packing needs. The gradient is that of the mean over all targets of the step,
however the step is cut (section 13, item 9). Resuming: the loop draws no random number but the order of the
examples, which is a function of (seed, epoch); so weights, optimiser state and step number are the whole
state, and a killed run continues bit for bit on the CPU.
"""

from __future__ import annotations

import functools
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import safetensors
import torch
from tqdm import tqdm

from mathref.files import append_jsonl, atomic_write, drop_partial_line, read_jsonl
from mathref.losses import mle_loss
from mathref.model import Transformer
from mathref.prompts import completion, generator_prompt
from mathref.tokenizer import Tokenizer
from mathref.weights import write_safetensors

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
SHARES = ("val/pass@1", "val/rr.all")  # validation values that are shares of problems; the others are not
Item = TypeVar("Item")


@dataclass(frozen=True)
class TrainConfig:
    """How to optimise; every field is a flag of train.py."""

    steps: int  # optimiser steps
    batch_size: int = 64  # examples a step
    lr: float = 1e-3  # peak learning rate
    schedule: Literal["cosine", "constant"] = "cosine"  # cosine ends at a tenth of the peak
    warmup_steps: int = 20  # linear from 0
    weight_decay: float = 0.1  # on matrices only
    max_grad_norm: float = 1.0  # gradients are scaled down to this norm
    tokens_per_batch: int = 1024  # padded tokens a micro-batch holds at most: memory, not mathematics
    dtype: torch.dtype = torch.float32  # of the matrix products (autocast); weights stay as they are
    activation_checkpointing: bool = False  # layers computed twice: less memory, more time
    eval_every: int = 0  # steps between validations; 0 = at the end only
    save_every: int = 100  # steps between checkpoints for --resume
    log_every: int = 10  # steps between lines of metrics.jsonl
    seed: int = 0  # order of the examples

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "tokens_per_batch", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected at least 1")
        if not self.lr > 0:
            raise ValueError(f"--lr is {self.lr}, expected a positive number")
        if not self.max_grad_norm > 0:
            raise ValueError(f"--max-grad-norm is {self.max_grad_norm}, expected a positive number")


# ---- What is trained on ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """Token ids of prompt and completion; targets are the ids from `n_prompt` on."""

    ids: Sequence[int]
    n_prompt: int


def encode_example(tokenizer: Tokenizer, problem: str, solution: str) -> Example:
    """One SSFT example: the prompt is the condition, X = solution + end-of-sequence is the target.

    Prompt and completion are encoded apart, so that the prompt's tokens are the same as in sampling.
    """
    start = [tokenizer.bos_id] if tokenizer.bos_id is not None else []
    prompt = start + tokenizer.encode(generator_prompt(problem))
    return Example(prompt + tokenizer.encode(completion(solution)) + [tokenizer.eos_ids[0]], len(prompt))


def encode_document(tokenizer: Tokenizer, text: str) -> Example:
    """One pre-training example: every token after the first is a target."""
    start = [tokenizer.bos_id] if tokenizer.bos_id is not None else []
    return Example(start + tokenizer.encode(text) + [tokenizer.eos_ids[0]], 1)


def drop_too_long(examples: list[Example], max_seq_len: int) -> tuple[list[Example], int]:
    """Keep the examples that fit the model's context; return them and the number left out."""
    kept = [e for e in examples if len(e.ids) <= max_seq_len]
    return kept, len(examples) - len(kept)


class Objective(Protocol[Item]):
    """What a stage minimises: sum of `loss` over a step's items / sum of their `weight`."""

    def n_tokens(self, item: Item) -> int: ...

    def weight(self, item: Item) -> int: ...

    def loss(self, model: Transformer, items: Sequence[Item]) -> torch.Tensor: ...


class SolutionLikelihood:
    """L_mle of section 4 on `Example`s, weighted by their targets."""

    def n_tokens(self, item: Example) -> int:
        return len(item.ids)

    def weight(self, item: Example) -> int:
        return len(item.ids) - item.n_prompt

    def loss(self, model: Transformer, items: Sequence[Example]) -> torch.Tensor:
        """Summed -log p of the targets of right-padded examples; a scalar."""
        tokens, is_target = pad_batch(items, next(model.parameters()).device)  # (B, T), (B, T)
        hidden = model.hidden(tokens[:, :-1])  # (B, T-1, C)
        predicts = is_target[:, 1:]  # position t predicts token t + 1
        # The head, the widest product of the model, runs on the positions that predict a target only.
        return mle_loss(model.head(hidden[predicts]), tokens[:, 1:][predicts])


def pad_batch(items: Sequence[Example], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-pad to the longest example: token ids (B, T) and which of them are targets (B, T) bool."""
    longest = max(len(e.ids) for e in items)
    tokens = torch.zeros(len(items), longest, dtype=torch.long)
    is_target = torch.zeros(len(items), longest, dtype=torch.bool)
    for row, example in enumerate(items):
        tokens[row, : len(example.ids)] = torch.as_tensor(example.ids, dtype=torch.long)
        is_target[row, example.n_prompt : len(example.ids)] = True
    return tokens.to(device), is_target.to(device)


def micro_batches(items: Sequence[Item], n_tokens: Callable[[Item], int], budget: int) -> list[list[Item]]:
    """Cut items, longest first, into groups of at most `budget` padded tokens (one item at least)."""
    groups: list[list[Item]] = []
    for item in sorted(items, key=n_tokens, reverse=True):
        # Sorted longest first, a group's padded width is the length of its first item.
        if groups and (len(groups[-1]) + 1) * n_tokens(groups[-1][0]) <= budget:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def step_items(items: Sequence[Item], step: int, batch_size: int, seed: int) -> list[Item]:
    """The examples of step `step` (from 0): consecutive places in an endless series of shuffled epochs."""
    chosen = []
    for place in range(step * batch_size, (step + 1) * batch_size):
        epoch, offset = divmod(place, len(items))
        chosen.append(items[_shuffled(len(items), seed, epoch)[offset]])
    return chosen


@functools.lru_cache(maxsize=2)  # one step touches two epochs at most, unless they are shorter than a step
def _shuffled(n: int, seed: int, epoch: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return tuple(torch.randperm(n, generator=generator).tolist())


# ---- The optimiser and what a checkpoint holds -------------------------------------------------------


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then constant or a cosine down to a tenth of the peak at the last step."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def make_optimizer(model: Transformer, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices (embedding included) and none on norms."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, betas=(0.9, 0.95), fused=True)


@dataclass
class Progress:
    """Where a run stands: part of the checkpoint."""

    step: int = 0  # optimiser steps done
    best_step: int = 0
    best: list[float] | None = None  # of the best validation so far: (pass@1, -loss), compared in this order
    tokens: int = 0  # trained on so far, prompts included, padding not
    seconds: float = 0.0  # spent so far, over all resumed parts


def save_checkpoint(
    path: Path, model: Transformer, optimizer: torch.optim.AdamW, progress: Progress, fingerprint: str
) -> None:
    """Write weights, optimiser state and progress as one safetensors file, whole or not at all; no pickle."""
    tensors = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        for key, value in optimizer.state.get(p, {}).items():
            tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value)
    metadata = {"progress": json.dumps(vars(progress)), "fingerprint": fingerprint}
    write_safetensors(path, tensors, metadata)


def load_checkpoint(
    path: Path, model: Transformer, optimizer: torch.optim.AdamW, fingerprint: str
) -> Progress:
    """Restore what `save_checkpoint` wrote, into `model` and `optimizer`.

    Raises ValueError when the file is damaged, or belongs to a run with other settings (`fingerprint`).
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: not a readable checkpoint ({error}); start again with another --out"
        ) from None
    if metadata.get("fingerprint") != fingerprint:
        raise ValueError(
            f"{path}: belongs to a run with other settings; repeat its settings or choose another --out"
        )
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(tensors[f"model.{name}"])
            state = {}
            for key in ("step", "exp_avg", "exp_avg_sq"):
                value = tensors[f"optimizer.{key}.{name}"]
                state[key] = value if key == "step" else value.to(p.device)
            optimizer.state[p] = state
    return Progress(**json.loads(metadata["progress"]))


# ---- The loop ----------------------------------------------------------------------------------------


def train(
    model: Transformer,
    items: Sequence[Item],
    objective: Objective[Item],
    config: TrainConfig,
    folder: Path,
    *,
    validate: Callable[[Transformer], dict[str, float]],
    save_best: Callable[[Transformer], None],
    resume: bool = False,
    fingerprint: str = "",
) -> Progress:
    """Minimise `objective` over `items` for `config.steps` optimiser steps; returns where the run ended.

    `validate` returns the values logged as val/...; the model with the best ("val/pass@1", then "val/loss")
    goes to `save_best`. Lines go to FOLDER/metrics.jsonl, the state for `resume` to
    FOLDER/checkpoint.safetensors. Raises ValueError without items, and FloatingPointError when loss or
    gradient stop being finite; the last checkpoint then is still a good one, since it is only written after
    a finite step.
    """
    if not items:
        raise ValueError("there is nothing to train on: no example is left")
    model.checkpoint_layers = config.activation_checkpointing
    optimizer, progress = make_optimizer(model, config), Progress()
    if resume and (folder / CHECKPOINT).exists():
        progress = load_checkpoint(folder / CHECKPOINT, model, optimizer, fingerprint)
    keep_metrics_until(folder / METRICS, progress.step)
    bar = tqdm(total=config.steps, initial=progress.step, unit="step", disable=None, dynamic_ncols=True)
    started, seconds_before = time.perf_counter(), progress.seconds
    with open(folder / METRICS, "ab") as metrics, bar:
        for step in range(progress.step, config.steps):
            lr = learning_rate(step, config)
            loss, grad_norm, n_tokens = optimise_step(
                model,
                step_items(items, step, config.batch_size, config.seed),
                objective,
                optimizer,
                lr,
                config,
            )
            if not (math.isfinite(loss) and math.isfinite(grad_norm)):
                raise FloatingPointError(_not_finite(folder, step, loss, grad_norm, lr))
            optimizer.step()
            done = step + 1
            progress.step, progress.tokens = done, progress.tokens + n_tokens
            progress.seconds = seconds_before + time.perf_counter() - started
            line: dict[str, Any] = {"step": done, "train/loss": loss, "lr": lr, "grad_norm": grad_norm}
            line |= {"tokens": progress.tokens, "seconds": round(progress.seconds, 2)}
            last = done == config.steps
            if last or (config.eval_every and done % config.eval_every == 0):
                line |= _validate(model, validate, save_best, progress)
                if bar.disable:  # no terminal: a log gets one line a validation instead of the bar
                    tqdm.write(log_line(line, config.steps), file=sys.stderr)
            if last or done % config.log_every == 0 or "val/loss" in line:
                append_jsonl(metrics, [line])
            if last or done % config.save_every == 0:
                save_checkpoint(folder / CHECKPOINT, model, optimizer, progress, fingerprint)
            bar.set_postfix_str(f"loss {loss:.3f}, {progress.tokens / progress.seconds:,.0f} tokens/s")
            bar.update()
    return progress


def optimise_step(
    model: Transformer,
    items: Sequence[Item],
    objective: Objective[Item],
    optimizer: torch.optim.AdamW,
    lr: float,
    config: TrainConfig,
) -> tuple[float, float, int]:
    """Gradients of one step's mean loss, accumulated over micro-batches; returns (loss, gradient norm,
    tokens).

    The sum over all micro-batches is divided by the weight of the whole step: micro-batch means would weigh
    the targets of a short micro-batch more than those of a long one.
    """
    model.train()
    optimizer.zero_grad(set_to_none=True)
    for group in optimizer.param_groups:
        group["lr"] = lr
    device = next(model.parameters()).device
    total_weight = sum(objective.weight(item) for item in items)
    total_loss = torch.zeros((), device=device)
    for batch in micro_batches(items, objective.n_tokens, config.tokens_per_batch):
        with autocast(device, config.dtype):
            loss = objective.loss(model, batch) / total_weight
        loss.backward()
        total_loss += loss.detach()
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
    return total_loss.item(), grad_norm.item(), sum(objective.n_tokens(item) for item in items)


def autocast(device: torch.device, dtype: torch.dtype) -> Any:
    """Matrix products in `dtype`, everything delicate in float32; nothing to do for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def _validate(
    model: Transformer,
    validate: Callable[[Transformer], dict[str, float]],
    save_best: Callable[[Transformer], None],
    progress: Progress,
) -> dict[str, float]:
    model.eval()
    values = validate(model)
    rank = [values.get("val/pass@1", 0.0), -values["val/loss"]]
    if progress.best is None or rank > progress.best:
        progress.best, progress.best_step = rank, progress.step
        save_best(model)
    return values


def log_line(line: dict[str, Any], steps: int) -> str:
    """A validation's line of metrics.jsonl for a reader: losses, accuracy, speed and the time left."""
    values = [f"loss {line['train/loss']:.3f}"]
    for name, value in line.items():
        if name.startswith("val/"):
            shown = f"{value:.1%}" if name in SHARES else f"{value:.4f}"
            values.append(f"validation {name.removeprefix('val/')} {shown}")
    step, seconds = line["step"], max(line["seconds"], 0.01)
    values.append(f"{line['tokens'] / seconds:,.0f} tokens/s")
    return f"step {step}/{steps}: {', '.join(values)}, {seconds / step * (steps - step):.0f} s left"


def _not_finite(folder: Path, step: int, loss: float, grad_norm: float, lr: float) -> str:
    kept = (
        "the last good state is in " + str(folder / CHECKPOINT)
        if (folder / CHECKPOINT).exists()
        else "none kept"
    )
    return (
        f"step {step + 1}: loss {loss}, gradient norm {grad_norm} at learning rate {lr:.2g}; "
        f"training cannot go on, {kept}; try a lower --lr or --dtype float32"
    )


def keep_metrics_until(path: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl that a resumed run will write again."""
    if not path.exists():
        return
    drop_partial_line(path)
    lines = [record for _, record in read_jsonl(path)] if path.stat().st_size else []
    with atomic_write(path) as file:
        append_jsonl(file, [line for line in lines if line["step"] <= step])


# ---- Validation --------------------------------------------------------------------------------------


def mean_loss(
    model: Transformer, items: Sequence[Item], objective: Objective[Item], config: TrainConfig
) -> float:
    """The objective's mean over `items`, without gradients."""
    device = next(model.parameters()).device
    total = 0.0
    with torch.inference_mode(), autocast(device, config.dtype):
        for batch in micro_batches(items, objective.n_tokens, config.tokens_per_batch):
            total += objective.loss(model, batch).item()
    return total / sum(objective.weight(item) for item in items)
