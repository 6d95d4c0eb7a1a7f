"""Whether a model fits into memory, told before it is loaded rather than by the system that kills the run.

Paper: none. 7 billion weights are 27 GB in float32, and training them takes four times that.
Choices [P]: what is certain (weights; gradients and AdamW's state; on an accelerator a cache row for each
prompt that is solved side by side) is compared with what the device has free, and refused where it cannot
fit. What may come on top (a cache row for each sample: rows are shared until their texts part) is told in a
line where it would take a large share. Activations are not counted. Where a system does not say what is free,
nothing is checked.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mathref.config import ModelConfig
from mathref.decoding import SampleConfig
from mathref.lora import n_weights
from mathref.model import Transformer
from mathref.sampler import cache_rows
from mathref.weights import without_weights

LARGE_SHARE = 0.7  # of the free memory: worth a line, since activations come on top
TRAINING_BYTES = 12  # of a trained weight, besides itself: gradient and AdamW's two averages, in float32


@dataclass(frozen=True)
class Need:
    """What a command is going to hold, in bytes and in words, and what would make it less."""

    least: int  # for certain
    most: int  # at its worst
    weights: int  # of `least`, what no size of a batch changes
    parts: str
    smaller: str
    batch: str = ""  # what makes the rest less


def count_parameters(config: ModelConfig) -> int:
    """Weights of a model of this config; tied ones count once."""
    return n_weights(without_weights(config))[0]


def cache_bytes(config: ModelConfig, rows: int, length: int, dtype: torch.dtype) -> int:
    """Keys and values of `rows` texts of `length` tokens, as `KVCache` keeps them."""
    return 2 * rows * length * config.n_layer * config.n_kv_head * config.head_dim * dtype.itemsize


def rows_within(n_bytes: float, config: ModelConfig, length: int, dtype: torch.dtype, most: int) -> int:
    """How many rows of a cache for `length` tokens `n_bytes` hold: one at least, and `most` at most."""
    row = cache_bytes(config, 1, min(length, config.max_seq_len), dtype)
    return max(1, min(most, int(n_bytes) // row))


# ---- What each command needs -------------------------------------------------------------------------


def of_training(model: Transformer, *, slices: int = 1) -> Need:
    """The weights of `model`, whose shapes and types are enough (`without_weights`), and gradient and AdamW's
    state of those that are trained; one of `slices` where several processes share them.
    """
    total, n_trained = n_weights(model)
    needed = sum(p.numel() * p.element_size() for p in model.parameters()) + TRAINING_BYTES * n_trained
    parts = f"training {n_trained:,} of {total:,} weights takes {_shown(needed)}, activations apart"
    if slices > 1:
        needed //= slices
        parts += f", {_shown(needed)} on each of {slices} processes"
    return Need(
        needed,
        needed,
        needed,
        parts,
        "use --lora-rank or a smaller model" if n_trained == total else "use a smaller model",
    )


def of_sampling(
    config: ModelConfig,
    sampling: SampleConfig,
    prompts: Sequence[Sequence[int]],
    device: torch.device,
    dtype: torch.dtype,
) -> Need:
    """Weights and cache of `sampler.sample` on these prompts' token ids."""
    weights, words = _weights(config, dtype)
    length = min(config.max_seq_len, max(map(len, prompts), default=0) + sampling.max_new_tokens)
    row = cache_bytes(config, 1, length, dtype)
    rows = cache_rows(sampling.batch_rows, len(prompts) * sampling.n_distinct, device)
    side_by_side = min(len(prompts), max(1, sampling.batch_rows // sampling.n_distinct))
    # A CPU's memory is taken as the rows fill, an accelerator's at once.
    certain = 0 if device.type == "cpu" else side_by_side * row
    parts = f"{words}, and the cache of {rows} rows of at most {length} tokens up to {_shown(rows * row)}"
    least, most = weights + certain, weights + rows * row
    return Need(least, most, weights, parts, _smaller(dtype), "a smaller --batch-rows")


def of_scoring(config: ModelConfig, tokens_per_batch: int, dtype: torch.dtype) -> Need:
    """Weights of an evaluator and the widest values of one batch: gate, activation and up of a layer."""
    weights, words = _weights(config, dtype)
    if dtype.itemsize < 4:  # the head's copy in float32 (evaluator.py)
        weights += 4 * config.vocab_size * config.n_embd
    batch = 3 * tokens_per_batch * config.n_inner * dtype.itemsize
    parts = f"{words}, and a batch of {tokens_per_batch} tokens {_shown(batch)}"
    return Need(weights, weights + batch, weights, parts, _smaller(dtype), "a smaller --tokens-per-batch")


def _weights(config: ModelConfig, dtype: torch.dtype) -> tuple[int, str]:
    count = count_parameters(config)
    size = count * dtype.itemsize
    return size, f"{count:,} weights in {str(dtype).removeprefix('torch.')} take {_shown(size)}"


def _smaller(dtype: torch.dtype) -> str:
    return "use a smaller model" if dtype.itemsize < 4 else "use --dtype bfloat16 or a smaller model"


def _shown(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


# ---- What there is -----------------------------------------------------------------------------------


def available(device: torch.device) -> int | None:
    """Bytes that this process can still take on `device`; None where nobody says."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # kept by torch
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return host_memory() if device.type == "cpu" else None


def host_memory(root: Path = Path("/")) -> int | None:
    """Free memory of the machine, swap included, or of this process's control group where that is less."""
    free = [n for n in (_meminfo(root), *_cgroups(root)) if n is not None]
    if free:
        return max(0, min(free))
    try:  # no Linux: all of the machine's memory is the limit
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _meminfo(root: Path) -> int | None:
    lines = _lines(root / "proc/meminfo")
    sizes = {name: int(value.split()[0]) * 1024 for name, _, value in (ln.partition(":") for ln in lines)}
    return sizes["MemAvailable"] + sizes.get("SwapFree", 0) if "MemAvailable" in sizes else None


def _cgroups(root: Path) -> list[int]:
    """What each limit on this process's control groups leaves, those of the groups around it included.

    Version 2 has one tree of groups, version 1 one for memory. Inside a container the path is often that of
    the host, and the container's own group is the top of the tree.
    """
    left = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, files = root / "sys/fs/cgroup", ("memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        else:
            continue
        group = top / path.lstrip("/")
        while group != top.parent:
            left += _left(group, *files)
            group = group.parent
    return left


def _left(group: Path, limit: str, usage: str, prefix: str) -> list[int]:
    """Limit less what is in use and cannot be dropped; nothing for a group without limit."""
    values = [next(iter(_lines(group / name)), "max") for name in (limit, usage)]
    if "max" in values:
        return []
    counts = dict(line.split() for line in _lines(group / "memory.stat"))
    of_files = sum(int(counts.get(f"{prefix}{name}_file", 0)) for name in ("active", "inactive"))
    return [int(values[0]) - int(values[1]) + of_files]


def _lines(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return path.read_text().splitlines()
    return []


def check(need: Need, device: torch.device) -> str | None:
    """A line for the user where `need` takes a large share of what `device` has free, else None.

    Raises MemoryError where it cannot fit.
    """
    free = available(device)
    if free is None or need.most <= LARGE_SHARE * free:
        return None
    advice = f"{need.smaller}, or {need.batch}" if need.batch and need.weights <= free else need.smaller
    if need.least > free:
        raise MemoryError(f"{need.parts}, but {device} has {_shown(free)} free; {advice}")
    return f"memory: {need.parts}; {device} has {_shown(free)} free; if it runs out, {advice}"


def peak(device: torch.device) -> str:
    """What a run on a GPU took, such as ", 12.3 GB of device memory at most"; nothing for another device."""
    if device.type != "cuda":
        return ""
    return f", {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB of device memory at most"
