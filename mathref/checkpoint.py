"""What a killed training run goes on from: weights, optimiser state and progress in one file.

Paper: section 8 (weights pass from stage to stage, optimiser state does not: a checkpoint is one run's).
Choices [P]: safetensors, no pickle; written whole or not at all; refused by a run with other settings. Frozen
weights (lora.py) are left out: the run finds them in the model that it starts from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch

from mathref import distributed
from mathref.files import append_jsonl, atomic_write, drop_partial_line, read_jsonl
from mathref.model import Transformer
from mathref.weights import write_safetensors

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"


@dataclass
class Progress:
    """Where a run stands: part of the checkpoint."""

    step: int = 0  # optimiser steps done
    best_step: int = 0
    best: list[float] | None = None  # of the best validation so far: (pass@1, -loss), compared in this order
    tokens: int = 0  # trained on so far, prompts included, padding not
    seconds: float = 0.0  # spent so far, over all resumed parts
    pending: dict[str, float] | None = None  # the line of metrics.jsonl of a step that is not validated yet


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
            if not p.requires_grad:
                continue
            p.copy_(distributed.laid_out_as(p, tensors[f"model.{name}"]))
            state = {}
            for key in ("step", "exp_avg", "exp_avg_sq"):
                value = tensors[f"optimizer.{key}.{name}"]
                state[key] = value if key == "step" else distributed.laid_out_as(p, value)
            optimizer.state[p] = state
    return Progress(**json.loads(metadata["progress"]))


def keep_metrics_until(path: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl that a resumed run will write again."""
    if not path.exists():
        return
    drop_partial_line(path)
    lines = [record for _, record in read_jsonl(path)] if path.stat().st_size else []
    with atomic_write(path) as file:
        append_jsonl(file, [line for line in lines if line["step"] <= step])
