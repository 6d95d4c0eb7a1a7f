"""The one training loop that every stage uses: examples in, a fine-tuned model and its checkpoint out.

Paper: section 4 (SSFT: loss on the solution tokens alone [S]); section 8 (weights pass from stage to stage).
Choices [P], the paper's being unknown: end-of-sequence carries loss; optimiser state does not pass from stage
to stage, every call of `train` starts a fresh optimiser; AdamW, linear warm-up, then cosine or constant;
gradients clipped by norm; the checkpoint with the best validation accuracy is kept. How a step is cut into
micro-batches is in batches.py; the gradient is that of the mean over all targets of the step, however it is
cut (section 13, item 9). Resuming: the loop draws no random number but the order of the examples, which is a
function of (seed, epoch); so weights, optimiser state and step number are the whole state, and a killed run
continues bit for bit on the CPU. Ctrl-C and SIGTERM lose nothing: weights and progress change together or not
at all, and are saved before the loop ends, in the middle of a long step or validation too; several processes,
which are not at one place, go back to their last checkpoint. What they share is in distributed.py.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch
from tqdm import tqdm

from mathref import distributed, linear, processes
from mathref.batches import Batch, Example, my_batches, pack_batch, step_items
from mathref.checkpoint import (
    CHECKPOINT,
    METRICS,
    Progress,
    keep_metrics_until,
    load_checkpoint,
    save_checkpoint,
)
from mathref.files import append_jsonl, open_appending
from mathref.interrupts import uninterrupted
from mathref.model import Transformer
from mathref.vocabulary import target_loss

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
    tokens_per_batch: int = 1024  # tokens a micro-batch holds at most: memory, not mathematics
    dtype: torch.dtype = torch.float32  # of the matrix products (autocast); weights stay as they are
    activation_checkpointing: bool = False  # layers computed twice: less memory, more time
    parallel: distributed.Parallel = "ddp"  # what several processes hold: the whole model, or a slice each
    eval_every: int = 0  # steps between validations; 0 = at the end only
    save_every: int = 100  # steps between checkpoints for --resume; 0 = at the end only
    log_every: int = 10  # steps between lines of metrics.jsonl
    seed: int = 0  # order of the examples

    def __post_init__(self) -> None:
        at_least_1 = ("steps", "batch_size", "tokens_per_batch", "log_every")
        for name in (*at_least_1, "warmup_steps", "weight_decay", "eval_every", "save_every"):
            least, value = int(name in at_least_1), getattr(self, name)
            if not least <= value < math.inf:  # so that NaN is none, either
                raise ValueError(f"--{name.replace('_', '-')} is {value}, expected at least {least}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"--lr is {self.lr}, expected a positive number")
        if not self.max_grad_norm > 0:
            raise ValueError(f"--max-grad-norm is {self.max_grad_norm}, expected a positive number")


# ---- What is minimised -------------------------------------------------------------------------------


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
        """Summed -log p of the targets of the examples; a scalar."""
        hidden, batch = predicting_states(model, items)
        return target_loss(model, hidden, batch.targets)


def predicting_states(model: Transformer, items: Sequence[Example]) -> tuple[torch.Tensor, Batch]:
    """The stream (M, C) at the positions that predict a target, and the batch that says which ones.

    The head, the widest product of the model, runs on these only.
    """
    batch = pack_batch(items, next(model.parameters()).device)
    hidden = model.hidden(batch.tree.tokens, layout=model.tree_layout(batch.tree))  # (1, N, C)
    return hidden[0].index_select(0, batch.predicts), batch


# ---- The optimiser -----------------------------------------------------------------------------------


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then constant or a cosine down to a tenth of the peak at the last step."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def make_optimizer(model: Transformer, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW on what is not frozen, with weight decay on matrices (embedding included) and none on norms."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.dim() >= 2]
    vectors = [p for p in trained if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, betas=(0.9, 0.95), fused=True)


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
    FOLDER/checkpoint.safetensors. Raises ValueError without items and for items that have nothing to learn,
    FloatingPointError when loss, gradient, weights or validation loss stop being finite (the last checkpoint
    and the best model are still good ones, since only finite weights are written), and KeyboardInterrupt when
    told to stop, after saving where it was.
    """
    _check_items(items, objective)
    model.checkpoint_layers = config.activation_checkpointing
    distributed.wrap(model, config.parallel)
    optimizer, progress = make_optimizer(model, config), Progress()
    if resume and (folder / CHECKPOINT).exists():
        progress = load_checkpoint(folder / CHECKPOINT, model, optimizer, fingerprint)
    processes.on_first(keep_metrics_until, folder / METRICS, progress)
    bar = tqdm(total=config.steps, initial=progress.step, unit="step", disable=None, dynamic_ncols=True)
    started, seconds_before = time.perf_counter(), progress.seconds

    def is_due(every: int) -> bool:
        return progress.step == config.steps or bool(every and progress.step % every == 0)

    def save() -> None:
        _check_finite(model, folder, progress.step)
        save_checkpoint(folder / CHECKPOINT, model, optimizer, progress, fingerprint)

    def finish_step(line: dict[str, Any]) -> None:
        """What is due after a change of the weights: validation, a line of metrics, a checkpoint."""
        if is_due(config.eval_every):
            _check_finite(model, folder, progress.step)
            line = line | _validate(model, validate, save_best, progress)
            if bar.disable:  # no terminal: a log gets one line a validation instead of the bar
                tqdm.write(log_line(line, config.steps), file=sys.stderr)
        logged = is_due(config.log_every) or "val/loss" in line
        with uninterrupted():
            progress.pending, progress.line = None, line if logged else None
            if is_due(config.save_every):
                save()  # before the line: a run whose last one is there is finished
            if logged and processes.is_first():
                append_jsonl(metrics, [line])

    with open_appending(folder / METRICS) as metrics, bar:
        try:
            if progress.pending:
                finish_step(progress.pending)
            for step in range(progress.step, config.steps):
                lr = learning_rate(step, config)
                batch = step_items(items, step, config.batch_size, config.seed)
                loss, grad_norm, n_tokens = optimise_step(model, batch, objective, optimizer, lr, config)
                if not (math.isfinite(loss) and math.isfinite(grad_norm)):
                    found = f"loss {loss}, gradient norm {grad_norm} at learning rate {lr:.2g}"
                    raise FloatingPointError(_not_finite(folder, step + 1, found))
                line = {"step": step + 1, "train/loss": loss, "lr": lr, "grad_norm": grad_norm}
                with uninterrupted():
                    optimizer.step()
                    progress.step, progress.tokens = step + 1, progress.tokens + n_tokens
                    progress.seconds = seconds_before + time.perf_counter() - started
                    line |= {"tokens": progress.tokens, "seconds": round(progress.seconds, 2)}
                    progress.pending = line
                finish_step(line)
                bar.set_postfix_str(f"loss {loss:.3f}, {progress.tokens / progress.seconds:,.0f} tokens/s")
                bar.update()
        except KeyboardInterrupt:
            # Several processes are not at one place, and what one saves without the others hangs or is torn.
            if progress.step and processes.world_size() == 1:
                with uninterrupted():
                    save()
            raise KeyboardInterrupt(f"after step {progress.step} of {config.steps}") from None
    processes.barrier()  # what the first process has written is there for all
    return progress


def _check_items(items: Sequence[Item], objective: Objective[Item]) -> None:
    """ValueError where there is nothing to train on, or an item would count for nothing."""
    if not items:
        raise ValueError("there is nothing to train on: no example is left")
    if empty := [place for place, item in enumerate(items) if objective.weight(item) < 1]:
        raise ValueError(f"{len(empty)} training examples have no target, the first is number {empty[0]}")


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
    for batch, factor in my_batches(items, objective.n_tokens, config.tokens_per_batch):
        with autocast(device, config):
            loss = objective.loss(model, batch) / total_weight * factor
        loss.backward()
        total_loss += loss.detach()
    distributed.add_gradients(model)
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
    loss, norm = processes.total(total_loss).item(), distributed.whole(grad_norm).item()
    return loss, norm, sum(objective.n_tokens(item) for item in items)


def autocast(device: torch.device, config: TrainConfig) -> Any:
    """Matrix products in `linear.product_type`, everything delicate in float32; nothing to do for float32."""
    if linear.product_type(device, config.dtype) == torch.float32:
        return nullcontext()
    # Its cache would keep what fsdp gathers of every block.
    return torch.autocast(device.type, config.dtype, cache_enabled=config.parallel == "ddp")


def _validate(
    model: Transformer,
    validate: Callable[[Transformer], dict[str, float]],
    save_best: Callable[[Transformer], None],
    progress: Progress,
) -> dict[str, float]:
    model.eval()
    values = distributed.in_step(validate, model)
    if not math.isfinite(values["val/loss"]):
        raise FloatingPointError(
            f"step {progress.step}: the validation loss is {values['val/loss']}; try --dtype float32"
        )
    rank = [values.get("val/pass@1", 0.0), -values["val/loss"]]
    if progress.best is None or rank > progress.best:
        save_best(model)  # first: whoever stops here validates this step again
        with uninterrupted():
            progress.best, progress.best_step = rank, progress.step
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


def _check_finite(model: Transformer, folder: Path, step: int) -> None:
    """FloatingPointError where a step of finite gradient threw the weights out of range."""
    broken = sum(not distributed.mine(p).isfinite().all() for p in model.parameters())
    if processes.total(broken):
        raise FloatingPointError(_not_finite(folder, step, "weights that are not finite"))


def _not_finite(folder: Path, step: int, found: str) -> str:
    kept = (
        "the last good state is in " + str(folder / CHECKPOINT)
        if (folder / CHECKPOINT).exists()
        else "none kept"
    )
    return (
        f"step {step}: {found}; training cannot go on, {kept}; try a lower --lr or --dtype float32, with "
        "another --out"
    )


# ---- Validation --------------------------------------------------------------------------------------


def mean_loss(
    model: Transformer, items: Sequence[Item], objective: Objective[Item], config: TrainConfig
) -> float:
    """The objective's mean over `items`, without gradients."""
    device = next(model.parameters()).device
    total = 0.0
    with torch.inference_mode(), autocast(device, config):
        for batch, factor in my_batches(items, objective.n_tokens, config.tokens_per_batch):
            total += objective.loss(model, batch).item() * factor
    return processes.total(total) / sum(objective.weight(item) for item in items)
