"""weights.py: what is written is read back, in every type and layout; every misfit is one line naming it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from mathref.model import ModelConfig, Transformer
from mathref.weights import (
    config_from_hf,
    config_to_hf,
    load_model,
    model_digest,
    save_model,
    weight_files,
    write_safetensors,
)

CONFIG = ModelConfig(
    vocab_size=37, n_layer=2, n_head=4, n_kv_head=2, head_dim=6, n_embd=20, n_inner=28, max_seq_len=32
)
TOKENS = torch.arange(10)[None]
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measured by Linux's own means")


def new_model(**changes: object) -> Transformer:
    torch.manual_seed(0)
    return Transformer(ModelConfig(**{**vars(CONFIG), **changes})).eval()


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of model.safetensors, read by the package and not by our reader."""
    return safetensors.torch.load_file(folder / "model.safetensors")


def change_config(folder: Path, **changes: object) -> None:
    values = json.loads((folder / "config.json").read_text())
    values |= changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in values.items() if v != "absent"}))


def shard(folder: Path, n: int = 3) -> None:
    """Spread model.safetensors over n files and an index, as large checkpoints come."""
    tensors = stored(folder)
    names = [f"model-{i + 1:05}-of-{n:05}.safetensors" for i in range(n)]
    places = {key: names[i % n] for i, key in enumerate(sorted(tensors))}
    for name in names:
        part = {key: tensors[key] for key, place in places.items() if place == name}
        safetensors.torch.save_file(part, folder / name, {"format": "pt"})
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(new_model(), tmp_path / "model")
    return tmp_path / "model"


def refused(folder: Path, kind: type[Exception] = ValueError) -> str:
    """The message that loading ends with; every one is a single line and says where."""
    with pytest.raises(kind) as error:
        load_model(folder)
    assert type(error.value) is kind
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_saved_and_loaded_is_the_same_model(tmp_path: Path, dtype: torch.dtype, tied: bool) -> None:
    model = new_model(tie_embeddings=tied).to(dtype)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    assert not loaded.training
    assert all(p.requires_grad and p.dtype == dtype and p.device.type == "cpu" for p in loaded.parameters())
    for (name, a), (other, b) in zip(model.named_parameters(), loaded.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(a, b)
    assert torch.equal(model(TOKENS), loaded(TOKENS))


def test_the_type_can_be_chosen(folder: Path) -> None:
    model = load_model(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert torch.equal(model.embedding.weight, new_model().embedding.weight.bfloat16())


def test_mixed_types_become_the_type_of_the_embedding(folder: Path) -> None:
    """Some checkpoints keep norms in float32 beside bfloat16 matrices; the two cannot be multiplied."""
    tensors = {key: t if "norm" in key else t.bfloat16() for key, t in stored(folder).items()}
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    model = load_model(folder)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model(TOKENS).isfinite().all()


def test_shards_equal_the_single_file(folder: Path) -> None:
    whole = load_model(folder)
    shard(folder)
    assert len(weight_files(folder)) == 3
    assert torch.equal(load_model(folder)(TOKENS), whole(TOKENS))


def test_a_tied_head_is_stored_once_and_may_be_there_twice(folder: Path) -> None:
    """USERS.md 3.16: exports without the tied head, or with a copy of it, did not load elsewhere."""
    tensors = stored(folder)
    assert "lm_head.weight" not in tensors
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    loaded = load_model(folder)
    assert torch.equal(loaded(TOKENS), new_model()(TOKENS))
    save_model(new_model(tie_embeddings=False), folder)
    assert "lm_head.weight" in stored(folder)


def test_tied_weights_may_be_stored_under_the_head_s_name_alone(folder: Path) -> None:
    """safetensors.torch.save_model keeps one name of those that share memory: the last by the alphabet."""
    tensors = stored(folder)
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert torch.equal(load_model(folder)(TOKENS), new_model()(TOKENS))
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:, 1:].clone()
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert "lm_head.weight has shape" in refused(folder)


def test_a_tied_head_in_two_shards_is_told(folder: Path) -> None:
    """The second copy covered the first, which was wrong."""
    tensors = stored(folder)
    embedding = tensors["model.embed_tokens.weight"]
    (folder / "model.safetensors").unlink()
    parts = {"a.safetensors": {"lm_head.weight": embedding + 1}}
    parts["b.safetensors"] = tensors | {"lm_head.weight": embedding.clone()}
    for name, part in parts.items():
        safetensors.torch.save_file(part, folder / name)
    places = {key: name for name, part in parts.items() for key in part}
    index = {"weight_map": places | {"lm_head.weight.": "a.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lm_head.weight is in two files" in refused(folder)


def test_tables_that_follow_from_the_config_are_passed_over(folder: Path) -> None:
    more = {"model.rotary_emb.inv_freq": torch.ones(3)}
    more["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)
    safetensors.torch.save_file(stored(folder) | more, folder / "model.safetensors")
    assert torch.equal(load_model(folder)(TOKENS), new_model()(TOKENS))


def test_a_head_of_its_own_is_not_taken_for_the_embedding(folder: Path) -> None:
    """It was passed over, and the model computed with the embedding: other logits than the file's."""
    tensors = stored(folder)
    head = tensors["model.embed_tokens.weight"].clone()
    head[3, 5] += 1
    safetensors.torch.save_file(tensors | {"lm_head.weight": head}, folder / "model.safetensors")
    said = refused(folder)
    assert "lm_head.weight is not the embedding that tie_word_embeddings makes it: set that to false" in said
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    assert any(torch.equal(p, head) for p in load_model(folder).parameters() if p.shape == head.shape)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_git_lfs_pointer_is_named_as_one(folder: Path, name: str) -> None:
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    assert "is a Git LFS pointer, not the data" in refused(folder)


def test_shards_without_their_index_are_told_what_is_missing(folder: Path) -> None:
    shard(folder)
    (folder / "model.safetensors.index.json").unlink()
    assert "index.json, which has to say what model-00001-of-00003.safetensors" in refused(
        folder, FileNotFoundError
    )


def test_stored_rotary_tables_are_passed_over(folder: Path) -> None:
    tensors = stored(folder) | {"model.layers.1.self_attn.rotary_emb.inv_freq": torch.ones(3)}
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert torch.equal(load_model(folder)(TOKENS), new_model()(TOKENS))


def test_the_loaded_model_does_not_hang_on_the_file(folder: Path) -> None:
    """Training writes its best model over the folder that it may have come from."""
    model = load_model(folder)
    before = model(TOKENS)
    size = (folder / "model.safetensors").stat().st_size
    with open(folder / "model.safetensors", "r+b") as file:
        file.write(b"\xff" * size)
    assert torch.equal(model(TOKENS), before)


def test_all_misfits_are_named_together(folder: Path) -> None:
    tensors = stored(folder)
    del tensors["model.norm.weight"]
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(28, 21)
    tensors["model.layers.1.self_attn.q_proj.bias"] = torch.zeros(24)
    tensors["model.layers.1.mlp.down_proj.weight"] = torch.zeros(20, 28, dtype=torch.int8)
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    message = refused(folder)
    assert "missing model.norm.weight" in message
    assert "model.layers.0.mlp.up_proj.weight has shape [28, 21], expected [28, 20]" in message
    assert "unexpected model.layers.1.self_attn.q_proj.bias" in message
    assert "model.layers.1.mlp.down_proj.weight has type torch.int8" in message
    assert message.count("up_proj") == 1  # misshaped, hence not missing as well


def test_a_long_list_of_misfits_is_cut(folder: Path) -> None:
    safetensors.torch.save_file({"transformer.wte": torch.zeros(2)}, folder / "model.safetensors")
    message = refused(folder)
    assert "unexpected transformer.wte" in message
    assert "more" in message
    assert len(message) < 700


def test_untied_weights_need_a_head(folder: Path) -> None:
    change_config(folder, tie_word_embeddings=False)
    assert "missing lm_head.weight" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2', supported: llama, mistral, qwen2, qwen3, gemma, "),
        ({"model_type": ["llama"]}, "model_type is ['llama']"),
        ({"model_type": "absent"}, "model_type is None"),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            "rope_scaling of rope_type 'llama3' lacks low_freq_factor",
        ),
        ({"rope_scaling": {"type": "linear", "factor": -2.0}}, "factor is -2.0, expected a positive"),
        (
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "supported rope_type: default, linear, llama3",
        ),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "short_factor": [1.0]}}, "short_factor [1.0]"),
        ({"rope_scaling": "yarn"}, "rope_scaling is 'yarn'"),
        ({"rope_scaling": "linear"}, "rope_scaling is 'linear', expected an object"),
        ({"rope_scaling": {"type": ["linear"]}}, "rope_scaling is {'type': ['linear']}"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "rope_parameters"),
        ({"rope_parameters": {"full_attention": {"rope_type": "linear"}}}, "has full_attention"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor is 0.5"),
        (
            {"rope_parameters": {"rope_theta": 1e4}, "rope_scaling": {"type": "linear", "factor": 2.0}},
            "has rope_scaling and rope_parameters, expected one",
        ),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', supported: 'silu'"),
        ({"sliding_window": 4096}, "sliding_window is 4096"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_size": "absent"}, "lacks hidden_size"),
        ({"vocab_size": "absent", "rms_norm_eps": None}, "lacks vocab_size, rms_norm_eps"),
        ({"num_key_value_heads": 3}, "n_kv_head 3"),
        ({"num_attention_heads": "many", "head_dim": 6}, "'many'"),
        ({"num_attention_heads": 0, "head_dim": None}, "lacks head_dim"),
        ({"vocab_size": 38}, "has shape [37, 20], expected [38, 20]"),
    ],
)
def test_a_config_that_asks_for_something_else_is_refused(folder: Path, changes: dict, named: str) -> None:
    change_config(folder, **changes)
    assert named in refused(folder)


def test_configs_of_every_age_give_the_same_model() -> None:
    newest = config_to_hf(CONFIG)
    old = {k: v for k, v in newest.items() if k not in ("attention_bias", "mlp_bias", "torch_dtype")}
    assert config_from_hf(newest, "here") == CONFIG
    assert config_from_hf(old | {"rope_scaling": None}, "here") == CONFIG
    theta = old.pop("rope_theta")
    assert config_from_hf(old, "here") == CONFIG  # 10000 where none is named
    newer = old | {"rope_parameters": {"rope_type": "default", "rope_theta": 2 * theta}}
    assert config_from_hf(newer, "here").rope_theta == 2 * theta
    no_groups = config_from_hf(old | {"num_key_value_heads": None}, "here")
    assert no_groups.n_kv_head == CONFIG.n_head
    derived = config_from_hf(old | {"head_dim": None, "hidden_size": 24}, "here")
    assert derived.head_dim == 24 // CONFIG.n_head
    del old["tie_word_embeddings"]
    assert not config_from_hf(old, "here").tie_embeddings  # the layout's own default


@pytest.mark.parametrize("keep", [0, 4, 100, -1000])
def test_a_truncated_file_is_one_line(folder: Path, keep: int) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:keep])
    assert "damaged or not a safetensors file" in refused(folder)


def test_a_broken_config_and_missing_files_are_one_line(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no weights, expected model.safetensors" in refused(folder, FileNotFoundError)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02")
    message = refused(folder)
    assert "pytorch_model.bin" in message
    assert "save_pretrained" in message
    (folder / "config.json").write_text('{"model_type": ')
    assert "not valid JSON" in refused(folder)
    (folder / "config.json").write_text("[]")
    assert "expected a JSON object" in refused(folder)
    (folder / "config.json").unlink()
    assert "config.json: no such file" in refused(folder, FileNotFoundError)
    assert "no such file" in refused(folder / "nowhere", FileNotFoundError)


def test_a_broken_index_is_one_line(folder: Path) -> None:
    shard(folder)
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    lost = folder / "model-00002-of-00003.safetensors"
    moved = lost.rename(folder / "elsewhere")
    assert "model-00002-of-00003.safetensors: no such file" in refused(folder, FileNotFoundError)
    moved.rename(lost)
    for wrong in ("../../secret.safetensors", "/etc/passwd", "sub/model.safetensors"):
        index.write_text(json.dumps({"weight_map": places | {"model.norm.weight": wrong}}))
        assert "not the plain name of a file" in refused(folder)
    for broken in ({}, {"weight_map": []}, {"weight_map": {"a": 1}}, []):
        index.write_text(json.dumps(broken))
        assert "weight_map" in refused(folder)


def test_the_digest_names_the_weights(folder: Path, tmp_path: Path) -> None:
    save_model(new_model(), tmp_path / "again")
    assert model_digest(folder) == model_digest(tmp_path / "again")
    other = new_model()
    with torch.no_grad():
        other.norm.weight[3] += 1e-3
    save_model(other, tmp_path / "again")
    assert model_digest(folder) != model_digest(tmp_path / "again")
    change_config(folder, rope_theta=20000.0)  # the same tensors compute something else now
    assert model_digest(folder) != model_digest(tmp_path / "again")


def test_any_tensors_survive_the_writer(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(3.5),
        "bytes": torch.arange(5, dtype=torch.uint8),  # odd length in front of wider types
        "half": torch.randn(3, 5).bfloat16(),
        "turned": torch.randn(4, 6).t(),  # not contiguous
        "empty": torch.zeros(0, 3),
        "steps": torch.tensor([2**40, -1]),
    }
    write_safetensors(tmp_path / "x.safetensors", tensors, {"progress": '{"step": 3}', "name": "é"})
    loaded = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert loaded.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert loaded[key].dtype == tensor.dtype
        assert torch.equal(loaded[key], tensor)
    with safetensors.safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"progress": '{"step": 3}', "name": "é"}


@on_linux
def test_a_full_disk_leaves_the_old_model(folder: Path) -> None:
    """A write that fails half-way must neither touch the model that is there nor leave a piece behind."""
    before = (folder / "model.safetensors").read_bytes()
    code = (
        "import resource, signal, sys, torch\n"
        "from mathref.model import Transformer\n"
        "from mathref.weights import load_config, save_model\n"
        "model = Transformer(load_config(sys.argv[1]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2}, resource.RLIM_INFINITY))\n"
        "try:\n    save_model(model, sys.argv[1])\nexcept OSError:\n    print('OSError')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("OSError"), done.stderr
    assert (folder / "model.safetensors").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]


@on_linux
def test_saving_needs_no_second_copy_of_the_model(tmp_path: Path) -> None:
    """The file used to be built in memory: twice the model on top of the model."""
    code = (
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from mathref.weights import write_safetensors\n"
        "tensors = {str(i): torch.ones(8, 2**20) for i in range(8)}\n"  # 8 times 32 MB
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before = peak()\n"
        "write_safetensors(Path(sys.argv[1]), tensors, {})\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "big.safetensors")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert int(done.stdout) < 100  # MB, of 256
