"""What a killed training run goes on from: weights, optimiser state and progress in one file.

Paper: section 8 (weights pass from stage to stage).
Choices [P]: optimiser state does not, so that a checkpoint is one run's; safetensors, no pickle; written
whole or not at all; refused by a run with other settings. Frozen weights (lora.py) are left out: the run
finds them in the model that it starts from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch

from mathref import distributed
from mathref.files import append_jsonl, atomic_write, drop_partial_line, first_of, read_jsonl
from mathref.model import Transformer
from mathref.weights import WEIGHTS, write_safetensors

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW keeps of each parameter, besides the number of steps
MAX_SHOWN = 4  # of what does not fit


@dataclass
class Progress:
    """Where a run stands: part of the checkpoint."""

    step: int = 0  # optimiser steps done
    best_step: int = 0
    best: list[float] | None = None  # of the best validation so far: (pass@1, -loss), compared in this order
    tokens: int = 0  # trained on so far, prompts included, padding not
    seconds: float = 0.0  # spent so far, over all resumed parts
    pending: dict[str, float] | None = None  # the line of metrics.jsonl of a step that is not validated yet
    line: dict[str, float] | None = None  # and the last one before it, which is written after a checkpoint

    @classmethod
    def from_json(cls, text: Any) -> Progress:
        """Read what `save_checkpoint` wrote of it; ValueError for anything else, None included."""
        try:
            values = json.loads(text)
            progress = cls(**values)
        except (TypeError, ValueError, RecursionError):  # no text, no JSON, no object, another field
            raise ValueError("missing or damaged") from None
        needed = vars(cls()).keys() - {"pending", "line"}
        if missing := [name for name in vars(cls()) if name in needed and name not in values]:
            raise ValueError(f"missing {', '.join(missing)}")
        counts = (progress.step, progress.best_step, progress.tokens)
        if not (all(type(n) is int and n >= 0 for n in counts) and progress.step):
            raise ValueError("step, best_step and tokens are whole numbers, and step is above 0")
        best = progress.best
        if best is not None and not (isinstance(best, list) and len(best) == 2 and _are_numbers(best)):
            raise ValueError("best is two numbers")
        for name in ("pending", "line"):
            found = getattr(progress, name)
            whole = isinstance(found, dict) and "step" in found and _are_numbers(found.values())
            if found is not None and not whole:
                raise ValueError(f"{name} is a line of numbers")
        if not _are_numbers([progress.seconds]):
            raise ValueError("seconds is a number")
        return progress


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(type(value) in (int, float) for value in values)


def save_checkpoint(
    path: Path, model: Transformer, optimizer: torch.optim.AdamW, progress: Progress, fingerprint: str
) -> None:
    """Write weights, optimiser state and progress as one safetensors file, whole or not at all; no pickle."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    tensors = {f"model.{name}": p.detach() for name, p in trained}
    for name, p in trained:
        for key, value in optimizer.state.get(p, {}).items():
            tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value)
    metadata = {"progress": json.dumps(vars(progress)), "fingerprint": fingerprint}
    write_safetensors(path, tensors, metadata)


def load_checkpoint(
    path: Path, model: Transformer, optimizer: torch.optim.AdamW, fingerprint: str
) -> Progress:
    """Restore what `save_checkpoint` wrote, into `model` and `optimizer`.

    Raises ValueError, before anything is changed, when the file is damaged, belongs to a run with other
    settings (`fingerprint`), or lacks a part.
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
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    try:
        progress, problems = Progress.from_json(metadata.get("progress")), []
    except ValueError as error:
        progress, problems = Progress(), [f"entry progress: {error}"]
    if problems := problems + list(_misfits(tensors, trained)):
        raise ValueError(
            f"{path}: not a whole checkpoint: {first_of(problems, MAX_SHOWN)}; put a whole copy of "
            "the file in its place, or start again with another --out"
        )
    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(distributed.laid_out_as(p, tensors[f"model.{name}"]))
            state = {key: distributed.laid_out_as(p, tensors[f"optimizer.{key}.{name}"]) for key in MOMENTS}
            # The fused optimiser counts where it computes.
            optimizer.state[p] = {"step": tensors[f"optimizer.step.{name}"].to(p.device), **state}
    return progress


def _misfits(tensors: dict[str, torch.Tensor], trained: dict[str, torch.nn.Parameter]) -> Iterator[str]:
    """What is wrong with a checkpoint's tensors: missing, of another shape or type, of no parameter."""
    expected: dict[str, tuple[torch.Size, torch.dtype]] = {}
    for name, p in trained.items():
        expected[f"model.{name}"] = p.shape, p.dtype
        expected[f"optimizer.step.{name}"] = torch.Size(), torch.float32
        expected |= {f"optimizer.{key}.{name}": (p.shape, p.dtype) for key in MOMENTS}
    for name, (shape, dtype) in expected.items():
        if name not in tensors:
            yield f"missing {name}"
        elif (tensors[name].shape, tensors[name].dtype) != (shape, dtype):
            found = f"{list(tensors[name].shape)} {tensors[name].dtype}"
            yield f"{name} is {found}, expected {list(shape)} {dtype}"
    yield from (f"unexpected {name}" for name in tensors if name not in expected)


def read_metrics(path: Path, skipped: list[str] | None = None) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, none where there is no such file; `skipped` as in `files.read_jsonl`."""
    if not path.exists() or not path.stat().st_size:
        return []
    lines = []
    for number, line in read_jsonl(path, skipped):
        if type(step := line.get("step")) is not int:
            raise ValueError(
                f"{path}:{number}: 'step' is {step!r}, expected a whole number; put a whole copy of the file "
                "in its place, or start again with another --out"
            )
        lines.append(line)
    return lines


def keep_metrics_until(path: Path, progress: Progress) -> None:
    """Drop the lines of metrics.jsonl that a resumed run will write again, and add the checkpoint's own where
    a kill came between the two.
    """
    if path.exists():
        drop_partial_line(path)
    lines = [line for line in read_metrics(path) if line["step"] <= progress.step]
    if progress.line and progress.line not in lines:
        lines.append(progress.line)
    if path.exists() or lines:
        with atomic_write(path) as file:
            append_jsonl(file, lines)


def check_resumable(folder: Path, steps: int) -> str:
    """A line for the user where a run folder has no checkpoint to go on from; "" for a run that has, or that
    is new.

    Raises FileNotFoundError for a finished run without one, which would be trained anew and written over, and
    for a run whose best model is gone, which might end without any.
    """
    if not folder.is_dir():
        return ""
    lines = read_metrics(folder / METRICS, [])  # a kill may have cut off the last one
    if not (folder / CHECKPOINT).exists():
        reached = max((line["step"] for line in lines), default=0)
        if reached >= steps:  # each line is written after the checkpoint that is due with it
            raise FileNotFoundError(
                f"{folder}: is finished, at step {reached} of {steps}, and its {CHECKPOINT} is gone, so "
                "there is nothing to resume; to train anew, choose another --out"
            )
        return f"{folder}: no checkpoint, starts at step 0"
    if any("val/loss" in line for line in lines) and not (folder / WEIGHTS).exists():
        raise FileNotFoundError(
            f"{folder}: {WEIGHTS}, the best model so far, is gone, and to resume does not bring it back; put "
            "it there again, or choose another --out"
        )
    return ""
