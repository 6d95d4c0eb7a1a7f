"""LoRA: a frozen model with a small trainable addition to its linear layers, in and out of PEFT's files.

Paper: none, it names no adapters; this is Hu et al., arXiv 2106.09685: W + (alpha / r) B A takes the place
of W (out, in), with A (r, in) and B (out, r) to train. A is drawn as PEFT draws it and B is zero, so that the
first loss is the base's.
Choices [P]: no dropout, whose random numbers a resumed run would have to repeat. Adapters are merged when a
model is saved and when one is loaded, so that nothing else has to know of them. Adapted weights may have the
type of the products, bfloat16, since nobody adds small steps to them; all else is in float32. PEFT's settings
that ask for another computation are refused. docs/ADAPTERS.md has commands and memory.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from mathref import distributed, hub, processes
from mathref.architectures import LAYER_NAMES, name_to_hf
from mathref.config import MAX_SIZE
from mathref.files import atomic_write, first_of, read_json, refuse_pointer, write_json
from mathref.linear import linear, product_type
from mathref.model import Transformer

FOLDER = "adapter"  # in a run folder
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
A, B = "lora_A", "lora_B"  # parameters of a LoRALinear, named as in PEFT's files
# Projections as PEFT's users name them, and where they stand in a block: q_proj -> attention.q
TARGETS = {there.split(".")[-1]: here for here, there in LAYER_NAMES.items() if there.endswith("_proj")}
# Keys of adapter_config.json: those that are read or decide nothing once training is over (which layers are
# adapted is read from the tensors), and those that may have these values only. Any other has to be off.
READ = (
    "base_model_name_or_path", "r", "lora_alpha", "use_rslora", "target_modules", "exclude_modules",
    "layers_to_transform", "layers_pattern", "lora_dropout", "task_type", "inference_mode", "revision",
    "auto_mapping", "peft_version", "megatron_core", "qalora_group_size",
)  # fmt: skip
ALLOWED = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),  # others change the base's weights, too
}


@dataclass(frozen=True)
class LoRAConfig:
    """What is added to a model; every field is a flag of train.py (--lora-rank and so on)."""

    rank: int
    alpha: float
    targets: tuple[str, ...] = tuple(TARGETS)

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"--lora-rank is {self.rank}, expected at least 1, or 0 to train all weights")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"--lora-alpha is {self.alpha}, expected a positive number")
        unknown = [name for name in self.targets if name not in TARGETS]
        if unknown or not self.targets:
            found = f"has {unknown[0]!r}" if unknown else "is empty"
            raise ValueError(f"--lora-targets {found}, expected names of {', '.join(TARGETS)}")


def frozen_type(adapters: LoRAConfig | None, device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """What is enough for weights that adapters freeze: the type of the matrix products. Without: float32."""
    return product_type(device, dtype) if adapters else torch.float32


def merge(weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """W + scale B A of weight (out, in), a (r, in), b (out, r); in float32 at least, returned as W's type."""
    wide = _wide(weight)
    a, b = (part.to(weight.device, wide) for part in (a, b))
    return torch.addmm(weight.to(wide), b, a, alpha=scale).to(weight.dtype)


def _wide(weight: torch.Tensor) -> torch.dtype:
    """The type of `weight`, float32 at least."""
    return torch.promote_types(weight.dtype, torch.float32)


class LoRALinear(nn.Module):
    """A linear layer whose own weight and bias are frozen, with a trainable addition of rank r.

    The weight may be narrower than the addition, which is in float32 at least.
    """

    def __init__(self, layer: nn.Linear, config: LoRAConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias  # under the names that they had
        self.scale = config.alpha / config.rank
        a = torch.empty(config.rank, layer.in_features)
        nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)  # uniform within 1 / sqrt(in)
        like = {"device": layer.weight.device, "dtype": _wide(layer.weight)}
        self.lora_A = nn.Parameter(a.to(**like))  # (r, in)
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, config.rank, **like))  # (out, r)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., in) -> (..., out)."""
        added = linear(linear(x, self.lora_A), self.lora_B)
        # Autocast makes the types of a product alike; in a validation without it that is left to do here.
        weight = self.weight if torch.is_autocast_enabled(x.device.type) else self.weight.to(x.dtype)
        return linear(x, weight, self.bias) + self.scale * added

    @torch.no_grad()
    def merged(self) -> torch.Tensor:
        """The weight (out, in) of a plain linear layer that computes the same, in float32 at least."""
        return merge(self.weight.to(_wide(self.weight)), self.lora_A, self.lora_B, self.scale)


def adapters(model: Transformer) -> dict[str, LoRALinear]:
    """The adapted layers of a model by their names; none in a plain one."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoRALinear)}


def _places(config: LoRAConfig) -> list[str]:
    """Where the targets stand in a block, in one order however they were named."""
    return [place for name, place in TARGETS.items() if name in config.targets]


def _check_rank(model: Transformer, config: LoRAConfig) -> None:
    layers = [model.blocks[0].get_submodule(place) for place in _places(config)]
    n_frozen = sum(layer.in_features * layer.out_features for layer in layers)
    n_a_rank = sum(layer.in_features + layer.out_features for layer in layers)
    if config.rank * n_a_rank >= n_frozen:
        raise ValueError(
            f"--lora-rank {config.rank}: the adapters would have {config.rank * n_a_rank:,} weights a block, "
            f"no fewer than the {n_frozen:,} of the layers that they are put on; expected a rank of at most "
            f"{(n_frozen - 1) // n_a_rank}, or 0 to train all weights"
        )


def add_adapters(model: Transformer, config: LoRAConfig, seed: int) -> str:
    """Freeze `model` and put new adapters on the targets of every block, in place; returns a line about them.

    The weights of the targets keep their type, all others get float32 at least. Raises ValueError for a
    model that has adapters already, and for a rank at which they would be no smaller than the layers that
    they are put on.
    """
    if adapters(model):
        raise ValueError("the model has adapters already: save it, and put new ones on the merged weights")
    _check_rank(model, config)
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same draw for every device
    for block in model.blocks:
        for place in _places(config):
            parent, _, name = place.rpartition(".")
            layer = block.get_submodule(place)
            setattr(block.get_submodule(parent), name, LoRALinear(layer, config, generator))
    narrow = {id(layer.weight) for layer in adapters(model).values()}
    for p in model.parameters():
        if id(p) not in narrow:
            p.data = p.data.to(_wide(p))
    n_all, n = n_weights(model)
    shown = f"rank {config.rank}, alpha {config.alpha:g}, on {', '.join(config.targets)}"
    types = {str(layer.weight.dtype).removeprefix("torch.") for layer in adapters(model).values()}
    return f"LoRA: {shown}; {n:,} of {n_all:,} parameters are trained, frozen ones in {', '.join(types)}"


def n_weights(model: Transformer) -> tuple[int, int]:
    """How many weights `model` has, and how many of them are trained."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, is_trained in sizes if is_trained)


def _file_name(name: str, model: Transformer) -> str:
    """blocks.3.attention.q.lora_A -> base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight."""
    return f"base_model.model.{name_to_hf(name, model.config)}.weight"


def save_adapter(model: Transformer, folder: Path, config: LoRAConfig, base: str | Path) -> None:
    """Write the adapters of `model` as PEFT does; `base` is where the weights under them came from. One in
    the hub's cache is named as on the hub, with its commit: the cache's folder is of this machine alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, layer in adapters(model).items():
        tensors[_file_name(f"{name}.{A}", model)] = distributed.whole(layer.lora_A.detach()).cpu()
        tensors[_file_name(f"{name}.{B}", model)] = distributed.whole(layer.lora_B.detach()).cpu()
    if not processes.is_first():
        return
    with atomic_write(folder / WEIGHTS) as file:
        file.write(safetensors.torch.save(tensors, {"format": "pt"}))
    name, commit = hub.id_of(Path(base)) or (str(base), None)
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM"}
    settings |= {"base_model_name_or_path": name, "revision": commit}
    settings |= {"r": config.rank, "lora_alpha": config.alpha, "target_modules": list(config.targets)}
    settings |= {"lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False, "modules_to_save": None}
    settings |= {"use_rslora": False, "use_dora": False, "init_lora_weights": True, "inference_mode": True}
    write_json(folder / CONFIG, settings)


# ---- Reading an adapter folder -----------------------------------------------------------------------


def adapter_base(folder: str | Path) -> Path | None:
    """The folder of the base model that an adapter folder names; None for any other folder. A base named as
    on the hub is fetched from there, of the revision that the adapter names.

    Raises FileNotFoundError when there is no checkpoint at that place; for the hub as `hub.fetch` does.
    """
    source = Path(folder) / CONFIG
    if not source.is_file():
        return None
    name, base = _named_base(source)
    seen, below = {Path(folder).resolve()}, base  # an adapter may stand on another one, not on itself
    while below is not None and below.resolve() not in seen and os.path.isfile(below / CONFIG):
        seen.add(below.resolve())
        _, below = _named_base(below / CONFIG)
    if base is None or below is None or below.resolve() in seen:
        raise ValueError(
            f"{source}: base_model_name_or_path is {name!r}, expected the folder of the base model"
        )
    if not any(os.path.isfile(base / file) for file in ("config.json", CONFIG)):
        raise FileNotFoundError(
            f"{source}: base_model_name_or_path is {name!r}, and no folder of that name holds a checkpoint; "
            "write the path of the base model's folder there"
        )
    return base


def _named_base(source: Path) -> tuple[Any, Path | None]:
    """base_model_name_or_path of an adapter_config.json, and that as a folder unless it is no text."""
    values = read_json(source)
    name = values.get("base_model_name_or_path") if isinstance(values, dict) else None
    if not isinstance(name, str) or not name or "\0" in name:
        return name, None
    if not hub.is_id(name):
        return name, Path(name)
    revision = values.get("revision")
    try:
        return name, hub.fetch_once(f"{name}@{revision}" if revision else name)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise type(error)(f"{source}: base_model_name_or_path: {error}") from None


def _read_settings(source: Path) -> tuple[int, float, list[str]]:
    """(rank, factor of B A, targets) of an adapter_config.json; targets are what is adapted in every layer,
    none where a pattern, a choice of layers or an exclusion leaves that to the tensors.

    Raises ValueError for a setting that is not supported.
    """
    values = read_json(source)
    for key, value in values.items():
        if (value not in ALLOWED[key]) if key in ALLOWED else (value and key not in READ):
            raise ValueError(
                f"{source}: {key} is {value!r}, which is not supported; merge the adapter with PEFT "
                "(merge_and_unload, then save_pretrained) and take that model"
            )
    rank, alpha, targets = (values.get(key) for key in ("r", "lora_alpha", "target_modules"))
    if not isinstance(rank, int) or not 1 <= rank <= MAX_SIZE:
        raise ValueError(f"{source}: r is {rank!r}, expected a whole number from 1 to {MAX_SIZE}")
    if not isinstance(alpha, int | float) or not 0 < alpha <= sys.float_info.max:
        raise ValueError(f"{source}: lora_alpha is {alpha!r}, expected a positive number")
    scale = alpha / (math.sqrt(rank) if values.get("use_rslora") else rank)
    chosen = any(values.get(key) for key in ("exclude_modules", "layers_to_transform", "layers_pattern"))
    return rank, scale, targets if isinstance(targets, list) and not chosen else []


def _read_tensors(source: Path) -> dict[str, torch.Tensor]:
    if not source.is_file():
        raise FileNotFoundError(f"{source}: no such file (pickles are not read: unpickling runs code)")
    try:
        return safetensors.torch.load_file(source)
    except (safetensors.SafetensorError, OSError) as error:
        refuse_pointer(source)
        raise ValueError(f"{source}: damaged or not a safetensors file ({error})") from None


def _misfits(
    stored: dict[str, torch.Tensor], expected: dict[str, tuple[int, int]], targets: list[str]
) -> Iterator[str]:
    """What is wrong with an adapter's tensors; `expected` are the shapes of those of the adapted layers."""
    for name, shape in expected.items():
        if name not in stored:
            yield f"missing {name}"
        elif stored[name].shape != shape:
            yield f"{name} has shape {list(stored[name].shape)}, expected {list(shape)}"
    yield from (f"unexpected {name}" for name in stored if name not in expected)
    adapted = [name.removesuffix(f".{A}.weight") for name in expected]
    for target in targets:
        if not any(name.endswith(f".{target}") for name in adapted):
            yield f"target_modules has {target!r}, but there are no tensors of it"


@torch.no_grad()
def merge_adapter(model: Transformer, folder: str | Path) -> Transformer:
    """Add the adapter in `folder` to the weights of its base, in place; returns `model`.

    Raises ValueError or FileNotFoundError with one line for whatever does not fit.
    """
    source = Path(folder) / WEIGHTS
    rank, scale, targets = _read_settings(Path(folder) / CONFIG)
    stored = _read_tensors(source)
    layers: list[tuple[nn.Linear, str, str]] = []  # layer, names of its A and B in the file
    expected: dict[str, tuple[int, int]] = {}  # name -> shape
    for i, (target, here) in itertools.product(range(model.config.n_layer), TARGETS.items()):
        name = f"blocks.{i}.{here}"
        layer, a, b = model.get_submodule(name), *(_file_name(f"{name}.{part}", model) for part in (A, B))
        if a in stored or b in stored or target in targets:
            layers.append((layer, a, b))
            expected |= {a: (rank, layer.in_features), b: (layer.out_features, rank)}
    problems = list(_misfits(stored, expected, targets)) if stored else ["it is empty"]
    if problems:
        shown = first_of(problems, 4)
        base, known = _named_base(Path(folder) / CONFIG)[0], f"{A} and {B} of {', '.join(TARGETS)}"
        raise ValueError(
            f"{source}: does not fit its base model {base!r} (base_model_name_or_path of {CONFIG}): {shown}; "
            f"supported are {known}"
        )
    for layer, a, b in layers:
        layer.weight.copy_(merge(layer.weight, stored[a], stored[b], scale))
    return model
