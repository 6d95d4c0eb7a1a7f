"""Open weights in, checkpoints out: safetensors folders in the Hugging Face layout, both ways.

Paper: none (PaLM 2's weights are closed); this is how any open model takes its place.
Choices [P]: a checkpoint is read strictly. What is missing, unexpected or of another shape is listed in one
error, and a config.json that asks for something model.py does not compute is refused rather than computed
wrongly (architectures.py knows each family's keys and names). Pickled checkpoints are not read: unpickling
runs code. Memory is taken for tensors that are in the files, never for what config.json or a header claims. A
value that is not finite, in the type that is asked for, is an error with the tensor's name.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch.overrides import TorchFunctionMode

from mathref import distributed, lora, processes
from mathref.architectures import config_from_hf, config_to_hf, name_to_hf
from mathref.files import (
    atomic_write,
    checkpoint_file,
    digest_text,
    first_of,
    read_json,
    refuse_pointer,
    sha256,
    write_json,
)
from mathref.model import ModelConfig, Transformer

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Names of types inside a safetensors file.
DTYPE_CODES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
DTYPE_CODES |= {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

PICKLES = ("*.bin", "*.pt*", "*.ckpt", "*.pkl", "*.pickle")

HEAD, EMBEDDING = "lm_head.weight", "embedding.weight"  # in a file; in the model
# Tables that some checkpoints store although they follow from the config.
IGNORED = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")


def load_config(path: str | Path) -> ModelConfig:
    """Read the config.json of a checkpoint folder; of an adapter's folder, that of its base."""
    if (base := lora.adapter_base(path)) is not None:
        return load_config(base)
    source = Path(path) / CONFIG
    if checkpoint_file(Path(path), CONFIG) is None:
        raise FileNotFoundError(
            f"{source}: no such file; a checkpoint is a folder with {CONFIG} and {WEIGHTS}"
        )
    values = read_json(source)
    if not isinstance(values, dict):
        raise ValueError(f"{source}: expected a JSON object, found {type(values).__name__}")
    return config_from_hf(values, source)


class _NoInitialisation(TorchFunctionMode):
    """Leaves new parameters as they are: the file's values replace them.

    On the meta device torch fills them through its compiler, whose import alone takes seconds.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init" or func is torch.Tensor.normal_:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def without_weights(config: ModelConfig) -> Transformer:
    """The model with parameters that have a shape and no memory."""
    with torch.device("meta"), _NoInitialisation():
        return Transformer(config)


def load_model(path: str | Path, device: str = "cpu", dtype: torch.dtype | None = None) -> Transformer:
    """Load a checkpoint folder: config.json and model.safetensors, or shards and their index.

    `dtype` None keeps the stored type (the embedding's, if they differ). Files are memory-mapped and copied
    tensor by tensor, so memory holds the model once. An adapter's folder (lora.py) gives its base, with the
    adapter merged. Raises FileNotFoundError or ValueError with one line for whatever does not fit.
    """
    path = Path(path)
    if (base := lora.adapter_base(path)) is not None:
        model = lora.merge_adapter(load_model(base, device, dtype), path)
        if wrong := [name for name, p in model.named_parameters() if not _is_finite(p)]:
            raise ValueError(f"{path}: with the adapter merged, {wrong[0]} has values that are not finite")
        return model
    config = load_config(path)
    model = without_weights(config)
    wanted = {name_to_hf(name, config): (name, p.shape) for name, p in model.named_parameters()}
    found: dict[str, torch.Tensor] = {}
    problems: list[str] = []
    seen: set[str] = set()
    for key, tensor in _tensors(path):
        # Tied weights may be stored as the embedding, as the head, or as both.
        place = name_to_hf(EMBEDDING, config) if key == HEAD and config.tie_embeddings else key
        if key in seen:
            problems.append(f"{key} is in two files")
        elif place not in wanted:
            if not IGNORED.fullmatch(key):
                problems.append(f"unexpected {key}")
        elif tensor.shape != wanted[place][1]:
            problems.append(f"{key} has shape {list(tensor.shape)}, expected {list(wanted[place][1])}")
        elif tensor.dtype not in DTYPES.values():
            problems.append(f"{key} has type {tensor.dtype}, supported: {', '.join(DTYPES)}")
        else:
            # The copy frees the mapped file: it may be replaced while the model lives.
            copy = tensor.to(device=device, dtype=dtype or tensor.dtype, copy=True)
            if not _is_finite(copy):
                problems.append(f"{key} has values that are not finite in {copy.dtype}")
            first = found.setdefault(wanted[place][0], copy)
            if first is not copy:
                embedding, head = (first, copy) if key == HEAD else (copy, first)
                found[EMBEDDING] = embedding
                if not embedding.is_meta and not torch.equal(head.to(embedding.dtype), embedding):
                    problems.append(
                        f"{HEAD} is not the embedding that tie_word_embeddings makes it: set that to false "
                        "to use it, or remove it from the file"
                    )
        seen.add(key)
    misfits = {problem.split()[0] for problem in problems}
    problems += [
        f"missing {key}" for key, (name, _) in wanted.items() if name not in found and key not in misfits
    ]
    if problems:
        shown = first_of(problems, 8)
        raise ValueError(f"{path}: weights do not fit config.json: {shown}")
    model.load_state_dict(found, strict=True, assign=True)
    return model.to(model.embedding.weight.dtype).requires_grad_(True).eval()


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite; NaN is passed on to both ends, and nothing else is allocated.

    A tensor of the meta device, of a model that is going to be sharded, has no values.
    """
    return tensor.is_meta or all(end.isfinite().item() for end in torch.aminmax(tensor.detach()))


def weight_files(path: str | Path) -> list[Path]:
    """The safetensors files of a checkpoint folder, in a fixed order."""
    path = Path(path)
    if whole := checkpoint_file(path, WEIGHTS):
        return [whole]
    if checkpoint_file(path, INDEX):
        index = read_json(path / INDEX)
        shards = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(shards, dict) or not all(isinstance(s, str) for s in shards.values()):
            raise ValueError(f"{path / INDEX}: has no weight_map from tensors to files")
        names = sorted(set(shards.values()))
        for name in names:
            # Only plain names: an index must not reach outside its folder.
            if Path(name).name != name:
                raise ValueError(f"{path / INDEX}: {name!r} is not the plain name of a file in this folder")
            if checkpoint_file(path, name) is None:
                raise FileNotFoundError(f"{path / name}: no such file, but {INDEX} names it")
        return [path / name for name in names]
    if pickled := [file for pattern in PICKLES for file in sorted(path.glob(pattern))]:
        raise ValueError(
            f"{pickled[0]}: pickled weights are not read, since unpickling can run any code; if you "
            "trust them, convert them: AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)"
        )
    shards = sorted(path.glob("*.safetensors"))
    there = f", which has to say what {shards[0].name} and the others hold" if shards else ""
    raise FileNotFoundError(f"{path}: no weights, expected {WEIGHTS} or {INDEX}{there}")


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors of a checkpoint folder, one at a time, memory-mapped."""
    for file in weight_files(path):
        with _opened(file) as tensors:
            for key in tensors.keys():  # noqa: SIM118 (not a dict)
                yield key, tensors.get_tensor(key)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A safetensors file, mapped; ValueError names it where it cannot be read."""
    try:
        with safetensors.safe_open(file, framework="pt") as tensors:
            yield tensors
    except (safetensors.SafetensorError, OSError) as error:
        refuse_pointer(file)
        raise ValueError(f"{file}: damaged or not a safetensors file ({error})") from None


def write_safetensors(
    path: Path,
    tensors: dict[str, torch.Tensor],
    metadata: dict[str, str],
    instead: dict[str, Callable[[], torch.Tensor]] | None = None,
) -> None:
    """Write tensors as one safetensors file, whole or not at all, one tensor in memory at a time.

    Under torchrun all processes call this: each gives its slices of sharded tensors, the first one writes.
    `instead` computes the values of some of them, of the same shape and type, when their turn comes.

    The file is: 8 bytes with the length of the header, the header in JSON, the tensors' bytes. Of the
    package's own writers, `save` holds the file in memory twice and `save_file` does not wait for the disk.
    """
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())  # so that each is aligned
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.numel() * tensor.element_size()
        code = DTYPE_CODES[tensor.dtype]
        header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) if processes.is_first() else nullcontext() as file:
        if file:
            file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in ordered:
            tensor = instead[name]() if instead and name in instead else tensor
            tensor = distributed.whole(tensor.detach())
            if file:
                file.write(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def save_model(model: Transformer, path: str | Path) -> None:
    """Write config.json and model.safetensors into folder `path`, each whole or not at all.

    transformers and vLLM load the folder as it is, once the tokenizer's files are beside them. A tied head
    is not stored twice, and adapters are merged.
    """
    path = Path(path)
    dtype = next(model.parameters()).dtype
    config = config_to_hf(model.config, dtype)
    path.mkdir(parents=True, exist_ok=True)
    parameters = {n: p.detach() for n, p in model.named_parameters() if not n.endswith((lora.A, lora.B))}
    tensors = {name_to_hf(name, model.config): p for name, p in parameters.items()}
    adapters = lora.adapters(model).items()
    merged = {name_to_hf(f"{name}.weight", model.config): layer.merged for name, layer in adapters}
    for name in merged:  # the weight may be narrower than what is merged of it
        tensors[name] = torch.empty(tensors[name].shape, dtype=dtype, device="meta")
    write_safetensors(path / WEIGHTS, tensors, {"format": "pt"}, merged)
    if processes.is_first():
        write_json(path / CONFIG, config)


def stored_types(path: str | Path) -> set[torch.dtype | None]:
    """The types of a checkpoint's weights on the disk, None for one that is not read; of an adapter's folder
    float32, in which it is merged.
    """
    if lora.adapter_base(path) is not None:
        return {torch.float32}
    codes = set()
    for file in weight_files(path):
        with _opened(file) as tensors:
            codes |= {tensors.get_slice(k).get_dtype() for k in tensors.keys() if not IGNORED.fullmatch(k)}  # noqa: SIM118
    types = {code: dtype for dtype, code in DTYPE_CODES.items()}
    return {types.get(code) for code in codes}


def type_to_load(path: str | Path, frozen: torch.dtype) -> torch.dtype:
    """The type to train a checkpoint in: float32, since a small step added to a bfloat16 weight is mostly
    rounded away; or `frozen`, enough for weights that take no steps (lora.py), where all are stored in it.
    """
    return frozen if stored_types(path) == {frozen} else torch.float32


def model_digest(path: str | Path) -> str:
    """Short digest of config and weights: names the model that made a samples file."""
    if (base := lora.adapter_base(path)) is not None:
        own = [sha256(Path(path) / name) for name in (lora.CONFIG, lora.WEIGHTS)]
        return digest_text("".join([model_digest(base), *own]))
    digests = [sha256(file) for file in (Path(path) / CONFIG, *weight_files(path))]
    return digest_text("".join(digests))
