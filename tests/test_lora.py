"""lora.py: adapters against a dense formulation and PEFT, what is trained and kept, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from test_train_script import refused, solved

import mathref.trainer
import train
from mathref.batches import Example
from mathref.checkpoint import CHECKPOINT, load_checkpoint
from mathref.lora import TARGETS, LoRAConfig, LoRALinear, adapters, add_adapters, merge_adapter, save_adapter
from mathref.model import ModelConfig, Transformer
from mathref.runs import ASSETS, resolve_model, run_command
from mathref.tokenizer import load_tokenizer
from mathref.trainer import SolutionLikelihood, TrainConfig, make_optimizer, optimise_step
from mathref.weights import load_model, model_digest, save_model, stored_types

PEFT = all(importlib.util.find_spec(name) is not None for name in ("peft", "transformers"))
needs_peft = pytest.mark.skipif(not PEFT, reason="needs peft and transformers (requirements-dev.txt)")
ROOT = Path(__file__).resolve().parent.parent
SIZES = dict(
    vocab_size=61, n_layer=3, n_head=6, n_kv_head=2, head_dim=10, n_embd=48, n_inner=52, max_seq_len=64
)
FAMILIES: dict[str, dict[str, Any]] = {
    "llama, tied": {},
    "llama, untied": dict(tie_embeddings=False),
    "qwen2, with biases": dict(family="qwen2", qkv_bias=True),
}
TOKENS = torch.randint(0, 61, (2, 40), generator=torch.Generator().manual_seed(1))


def new_base(name: str = "llama, tied") -> Transformer:
    """Weights and biases large enough that a part left out would show."""
    model = Transformer(ModelConfig(**SIZES, **FAMILIES[name])).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2 + (1.0 if "norm" in key else 0.0))
    return model


def adapted(model: Transformer, config: LoRAConfig, *, trained: bool = True) -> Transformer:
    """The model with adapters, as they might be after some training."""
    add_adapters(model, config, seed=5)
    if trained:
        generator = torch.Generator().manual_seed(2)
        for layer in adapters(model).values():
            torch.nn.init.normal_(layer.lora_B, std=0.1, generator=generator)
    return model


def examples(n: int) -> list[Example]:
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(3, 30, (n,), generator=generator).tolist()
    return [Example(torch.randint(1, 61, (length,), generator=generator).tolist(), 2) for length in lengths]


def saved(folder: Path, name: str = "llama, tied", **config: Any) -> Path:
    """An adapter's folder beside the folder of its base."""
    model = new_base(name)
    save_model(model, folder / "base")
    lora = LoRAConfig(**{"rank": 3, "alpha": 7.0, **config})
    save_adapter(adapted(model, lora), folder / "adapter", lora, folder / "base")
    return folder / "adapter"


def change(folder: Path, **values: Any) -> None:
    """Other settings in an adapter's folder."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# --- The mathematics ---


def test_the_first_loss_is_that_of_the_base():
    items, model = examples(5), new_base()
    before = SolutionLikelihood().loss(model, items)
    adapted(model, LoRAConfig(4, 8), trained=False)
    assert torch.equal(SolutionLikelihood().loss(model, items), before)
    assert len(adapters(model)) == 3 * len(TARGETS) and not any(
        p.grad is not None for p in model.parameters()
    )


def test_a_is_drawn_uniformly_within_one_over_the_root_of_its_inputs_and_b_is_zero():
    """Kaiming's uniform draw with a = sqrt(5): bound sqrt(6 / (1 + 5) / in), deviation bound / sqrt(3)."""
    layer = torch.nn.Linear(400, 30)
    lora = LoRALinear(layer, LoRAConfig(50, 100), torch.Generator().manual_seed(0))
    assert lora.lora_A.shape == (50, 400) and lora.lora_B.shape == (30, 50)
    assert 0.0499 < lora.lora_A.abs().max() <= 0.05
    assert lora.lora_A.std().item() == pytest.approx(0.05 / math.sqrt(3), rel=0.02)
    assert not lora.lora_B.any()


def test_a_hand_computed_layer():
    """W = 1 0 / 0 1, A = (1 2), B = (3 0)', alpha / r = 2: W + 2 B A = 7 12 / 0 1; bias (10, 20)."""
    layer = torch.nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2))
        layer.bias.copy_(torch.tensor([10.0, 20.0]))
    lora = LoRALinear(layer, LoRAConfig(1, 2), torch.Generator())
    with torch.no_grad():
        lora.lora_A.copy_(torch.tensor([[1.0, 2.0]]))
        lora.lora_B.copy_(torch.tensor([[3.0], [0.0]]))
    assert lora.merged().tolist() == [[7.0, 12.0], [0.0, 1.0]]
    assert lora(torch.tensor([1.0, 1.0])).tolist() == [29.0, 21.0]


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_are_those_of_the_dense_formulation(name):
    """d loss / d A and B through plain weights W + (alpha / r) B A, in float64."""
    plain = new_base(name).double()
    model = adapted(new_base(name).double(), LoRAConfig(3, 7.0))
    model(TOKENS).log_softmax(dim=-1)[..., 5].sum().backward()
    parts = {
        layer: (ours.lora_A.detach().clone().requires_grad_(), ours.lora_B.detach().clone().requires_grad_())
        for layer, ours in adapters(model).items()
    }
    for layer, (a, b) in parts.items():  # not by functional_call: what is computed again needs them, too
        dense = plain.get_submodule(layer)
        weight = dense.weight + 7 / 3 * b @ a
        del dense.weight
        dense.weight = weight
    plain(TOKENS).log_softmax(dim=-1)[..., 5].sum().backward()
    for layer, (a, b) in parts.items():
        ours = adapters(model)[layer]
        for mine, dense in ((ours.lora_A.grad, a.grad), (ours.lora_B.grad, b.grad)):
            assert torch.allclose(mine, dense, rtol=1e-9, atol=1e-10) and dense.abs().max() > 1e-3


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_the_merged_model_computes_what_the_adapted_one_does(name, tmp_path):
    base = new_base(name)
    model = adapted(new_base(name), LoRAConfig(3, 7.0))
    save_model(model, tmp_path)
    merged = load_model(tmp_path)
    assert not adapters(merged) and merged.config == model.config
    assert (merged(TOKENS) - model(TOKENS)).abs().max() < 1e-5
    assert (merged(TOKENS) - base(TOKENS)).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_folder_is_its_base_with_the_adapter_merged(dtype, tmp_path):
    folder = saved(tmp_path)
    model = load_model(folder, dtype=dtype)
    assert all(p.requires_grad and p.dtype == dtype for p in model.parameters())
    stored = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    name = "base_model.model.model.layers.2.mlp.down_proj.lora_{}.weight"
    weight = load_model(tmp_path / "base").to(dtype).blocks[2].mlp.out.weight.float()
    expected = weight + 7 / 3 * stored[name.format("B")] @ stored[name.format("A")]
    assert torch.allclose(model.blocks[2].mlp.out.weight.float(), expected.to(dtype).float(), atol=1e-7)


def test_an_adapter_folder_loads_as_shapes_alone(tmp_path):
    """What every process but the first does under --parallel fsdp; it asked for values that are not there."""
    model = load_model(saved(tmp_path), device="meta")
    assert all(p.is_meta for p in model.parameters()) and not adapters(model)


# --- What is trained, and what is kept ---


# --- Frozen weights in bfloat16 ---


def steps(model: Transformer, config: TrainConfig) -> list[float]:
    """Losses of three steps."""
    optimizer, losses = make_optimizer(model, config), []
    for _ in range(3):
        losses.append(optimise_step(model, examples(6), SolutionLikelihood(), optimizer, 0.1, config)[0])
        optimizer.step()
    return losses


@pytest.mark.parametrize("emulated", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_weights_in_bfloat16_take_the_very_steps_of_float32(name, emulated, monkeypatch, tmp_path):
    """Autocast makes bfloat16 of them anyway, in each product again; where it is off they are widened."""
    monkeypatch.setattr("mathref.linear.BFLOAT16_IS_EMULATED", emulated)
    config = TrainConfig(steps=3, dtype=torch.bfloat16, tokens_per_batch=64)
    narrow, wide = new_base(name).bfloat16(), new_base(name).bfloat16().float()
    for model in (narrow, wide):
        adapted(model, LoRAConfig(3, 7.0, ("q_proj", "down_proj")))
    kept = {f"{layer}.weight" for layer in adapters(narrow)}
    assert {key for key, p in narrow.named_parameters() if p.dtype == torch.bfloat16} == kept
    losses = steps(narrow, config)
    assert losses == steps(wide, config) and losses[2] < losses[0]
    for a, b in zip(narrow.parameters(), wide.parameters(), strict=True):
        assert torch.equal(a.float(), b)
    assert torch.equal(narrow(TOKENS), wide(TOKENS))  # without autocast, as in a validation
    for model, folder in ((narrow, tmp_path / "narrow"), (wide, tmp_path / "wide")):
        save_model(model, folder)  # merged in float32 either way
    files = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("narrow", "wide")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("stored", "flags", "kept"),
    [
        (torch.bfloat16, "--dtype bfloat16", "bfloat16"),
        (torch.bfloat16, "--dtype float32", "float32"),
        (torch.float32, "--dtype bfloat16", "float32"),  # rounding them would change the merged model
        (torch.float16, "--dtype bfloat16", "float32"),
    ],
)
def test_frozen_weights_keep_bfloat16_where_that_loses_nothing(
    stored, flags, kept, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("mathref.linear.BFLOAT16_IS_EMULATED", False)
    save_model(load_model(ASSETS / "tiny", dtype=stored), tmp_path / "base")
    load_tokenizer(ASSETS / "tiny").save(tmp_path / "base")
    assert stored_types(tmp_path / "base") == {stored}
    line = f"--stage ssft --model {tmp_path / 'base'} --steps 1 {FLAGS} {flags} {solved(tmp_path)}"
    line = line.replace(f"--samples {tmp_path / 'samples.jsonl'}", "")
    assert run_command(train.main, [*line.split(), "--out", str(tmp_path / "run")]) == 0
    assert f"frozen ones in {kept}" in capsys.readouterr().out
    assert stored_types(tmp_path / "run") == {torch.float32}  # merged in float32, whatever was frozen


@pytest.mark.parametrize("checkpointing", [False, True])
def test_only_adapters_have_gradients_and_are_trained(checkpointing):
    model = adapted(new_base(), LoRAConfig(3, 7.0, ("q_proj", "down_proj")))
    model.checkpoint_layers = checkpointing
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    config = TrainConfig(steps=1, lr=0.1, tokens_per_batch=64)
    optimizer = make_optimizer(model, config)
    optimise_step(model, examples(6), SolutionLikelihood(), optimizer, 0.1, config)
    optimizer.step()
    trained = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert trained == {name for name, p in model.named_parameters() if p.grad is not None}
    places = [f"blocks.{i}.{place}" for i in range(3) for place in ("attention.q", "mlp.out")]
    assert trained == {f"{place}.lora_{part}" for place in places for part in "AB"}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(trained)


def test_the_checkpoint_holds_adapters_alone(tmp_path):
    """The optimiser's state of 7B frozen weights would be 56 GB that nothing reads."""
    items, config = examples(6), TrainConfig(steps=3, batch_size=3)
    model = adapted(new_base(), LoRAConfig(3, 7.0, ("v_proj",)), trained=False)
    options = {"validate": lambda m: {"val/loss": 0.0}, "save_best": lambda m: None}
    mathref.trainer.train(model, items, SolutionLikelihood(), config, tmp_path, **options)
    stored = safetensors.torch.load_file(tmp_path / CHECKPOINT)
    names = [f"blocks.{i}.attention.v.lora_{part}" for i in range(3) for part in "AB"]
    kinds = ("model", "optimizer.step", "optimizer.exp_avg", "optimizer.exp_avg_sq")
    assert set(stored) == {f"{kind}.{name}" for kind in kinds for name in names}
    fresh = new_base()
    add_adapters(fresh, LoRAConfig(3, 7.0, ("v_proj",)), seed=99)
    load_checkpoint(tmp_path / CHECKPOINT, fresh, make_optimizer(fresh, config), "")
    for a, b in zip(model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_order_of_the_targets_changes_nothing_and_adapters_do_not_stack():
    one, other = (
        adapted(new_base(), LoRAConfig(2, 4, targets))
        for targets in (("v_proj", "q_proj"), ("q_proj", "v_proj"))
    )
    assert torch.equal(one(TOKENS), other(TOKENS))
    with pytest.raises(ValueError, match="has adapters already"):
        add_adapters(one, LoRAConfig(2, 4), seed=0)


@pytest.mark.parametrize(
    ("name", "config", "n_all", "n"),
    [
        ("135M", dict(vocab_size=49152, n_layer=30, n_head=9, n_kv_head=3, n_embd=576, n_inner=1536,
                      head_dim=64),
         "134,515,008", "4,884,480"),
        ("7B", dict(vocab_size=32000, n_layer=32, n_head=32, n_kv_head=32, n_embd=4096, n_inner=11008,
                    head_dim=128, tie_embeddings=False),
         "6,738,415,616", "39,976,960"),
    ],
)  # fmt: skip
def test_the_memory_table_of_the_page_is_that_of_these_models(name, config, n_all, n):
    """4 bytes a weight; 12 more (gradient and two moments) for each that is trained; the checkpoint lacks the
    gradients.
    """
    with torch.device("meta"):
        model = Transformer(ModelConfig(max_seq_len=2048, **config))
    total = sum(p.numel() for p in model.parameters())
    add_adapters(model, LoRAConfig(16, 32), seed=0)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert (f"{total:,}", f"{trained:,}") == (n_all, n)
    page = (ROOT / "docs" / "ADAPTERS.md").read_text(encoding="utf-8")

    def row(kind: str) -> list[float]:
        (found,) = re.findall(rf"^\| {name}{kind} \|(.*)\|$", page, flags=re.M)
        return [float(cell) for cell in re.findall(r"([\d.]+) GB", found)]

    def expected(weights: int, learnt: int) -> Any:
        sizes = [weights, 4 * learnt, 8 * learnt, weights + 12 * learnt]
        return pytest.approx([size / 1e9 for size in sizes], abs=0.0051)

    full, lora = row(", all weights"), row(", rank 16")
    assert full[:4] == expected(4 * total, total) and lora[:4] == expected(4 * (total + trained), trained)
    assert [full[4], lora[4]] == pytest.approx([12 * total / 1e9, 12 * trained / 1e9], abs=0.0051)
    if name == "7B":
        n_frozen = sum(layer.weight.numel() for layer in adapters(model).values())
        narrow = row(" in bfloat16, rank 16")
        assert narrow[:4] == expected(4 * (total + trained) - 2 * n_frozen, trained)
        assert narrow[4] == lora[4]


# --- PEFT ---


@needs_peft
@pytest.mark.parity
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("targets", [tuple(TARGETS), ("q_proj", "v_proj", "up_proj")])
@torch.no_grad()
def test_peft_loads_our_adapter_and_transformers_the_merged_model(name, targets, tmp_path):
    import peft
    import transformers

    folder = saved(tmp_path, name, targets=targets)
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    plain = base(TOKENS).logits
    theirs = peft.PeftModel.from_pretrained(base, folder).eval()
    ours = load_model(folder)
    assert (theirs(TOKENS).logits - ours(TOKENS)).abs().max() < 2e-5
    assert (theirs(TOKENS).logits - plain).abs().max() > 0.1
    assert sum("lora_A" in key for key in theirs.state_dict()) == 3 * len(targets)
    save_model(ours, tmp_path / "merged")
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert (theirs(TOKENS).logits - merged.eval()(TOKENS).logits).abs().max() < 2e-5


@needs_peft
@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("llama, tied", dict(target_modules="all-linear")),
        ("llama, untied", dict(target_modules=["q_proj", "v_proj"], use_rslora=True, lora_dropout=0.3)),
        ("llama, untied", dict(target_modules=r".*\.[12]\..*(k|gate)_proj")),
        ("qwen2, with biases", dict(target_modules=["o_proj", "down_proj"], layers_to_transform=[0, 2])),
        ("qwen2, with biases", dict(target_modules="all-linear", init_lora_weights="gaussian")),
        ("llama, untied", dict(target_modules="all-linear", exclude_modules=["q_proj"])),
        ("llama, untied", dict(target_modules=["q_proj", "k_proj"], exclude_modules=r".*\.1\..*q_proj")),
    ],
)  # fmt: skip
@torch.no_grad()
def test_an_adapter_made_by_peft_loads(name, settings, tmp_path):
    import peft
    import transformers

    save_model(new_base(name), tmp_path / "base")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    config = peft.LoraConfig(r=4, lora_alpha=7, task_type="CAUSAL_LM", **settings)
    theirs = peft.get_peft_model(base, config).eval()
    for key, p in theirs.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(p, std=0.1)
    theirs.save_pretrained(tmp_path / "adapter")
    ours = load_model(tmp_path / "adapter")
    assert (theirs(TOKENS).logits - ours(TOKENS)).abs().max() < 2e-5
    assert (ours(TOKENS) - load_model(tmp_path / "base")(TOKENS)).abs().max() > 0.1


@needs_peft
@pytest.mark.parity
def test_every_setting_of_peft_at_its_default_is_accepted(tmp_path):
    """A key whose resting value is neither false nor empty would refuse all of PEFT's files."""
    import peft

    folder = saved(tmp_path)
    rest = {k: v for k, v in peft.LoraConfig().to_dict().items() if k not in ("r", "base_model_name_or_path")}
    change(folder, **rest | {"peft_type": "LORA", "target_modules": None})
    load_model(folder)


# --- What is refused ---


def message(folder: Path) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_model(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "IA3"),
        ("use_dora", True),
        ("bias", "lora_only"),
        ("lora_bias", True),
        ("fan_in_fan_out", True),
        ("modules_to_save", ["lm_head"]),
        ("rank_pattern", {"q_proj": 4}),
        ("alpha_pattern", {"q_proj": 4}),
        ("init_lora_weights", "pissa"),
        ("trainable_token_indices", [1, 2]),
        ("a_setting_of_the_future", "on"),
    ],
)
def test_settings_that_ask_for_another_computation_are_refused(key, value, tmp_path):
    folder = saved(tmp_path)
    change(folder, **{key: value})
    assert f"{key} is {value!r}, which is not supported; merge the adapter with PEFT" in message(folder)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (dict(r=4), "q_proj.lora_A.weight has shape [3, 48], expected [4, 48]"),
        (dict(r=None), "r is None"),
        (dict(lora_alpha="big"), "lora_alpha is 'big'"),
        (dict(target_modules=["q_proj", "c_attn"]), "target_modules has 'c_attn', but there are no tensors"),
        (dict(base_model_name_or_path="/models/qwen"), "no folder of that name holds a checkpoint"),
        (dict(base_model_name_or_path=None), "expected the folder of the base model"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(values, said, tmp_path):
    folder = saved(tmp_path)
    change(folder, **values)
    assert said in message(folder)


def test_an_adapter_without_its_config_is_one_line(tmp_path):
    folder = saved(tmp_path)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(FileNotFoundError, match="an adapter's weights and no adapter_config.json"):
        resolve_model(str(folder))


def test_an_adapter_that_names_itself_as_its_base_is_refused(tmp_path):
    """Loading would never end."""
    folder = saved(tmp_path)
    change(folder, base_model_name_or_path=str(folder))
    assert "expected the folder of the base model" in message(folder)


def test_tensors_that_do_not_fit_are_listed(tmp_path):
    folder = saved(tmp_path)
    path, prefix = folder / "adapter_model.safetensors", "base_model.model."
    whole = safetensors.torch.load_file(path)
    broken = {k: v for k, v in whole.items() if k != f"{prefix}model.layers.1.mlp.up_proj.lora_B.weight"}
    safetensors.torch.save_file(broken | {f"{prefix}lm_head.lora_A.weight": torch.zeros(3, 48)}, path)
    said = message(folder)
    assert "missing base_model.model.model.layers.1.mlp.up_proj.lora_B.weight" in said
    assert "unexpected base_model.model.lm_head.lora_A.weight" in said and "supported are" in said
    safetensors.torch.save_file({}, path)
    assert "it is empty" in message(folder)
    path.write_bytes(b"half of a file")
    assert "damaged or not a safetensors file" in message(folder)
    path.rename(folder / "adapter_model.bin")
    assert "pickles are not read" in message(folder)


@pytest.mark.parametrize("lost", [r"layers\.2\.self_attn\.q_proj\.", r"layers\.2\."])
def test_an_adapter_that_lost_a_layer_is_refused(lost, tmp_path):
    """Which layers are adapted was read from the tensors alone: it loaded without them, and said nothing."""
    folder = saved(tmp_path, targets=("q_proj", "v_proj"))
    path = folder / "adapter_model.safetensors"
    stored = safetensors.torch.load_file(path)
    safetensors.torch.save_file({k: v for k, v in stored.items() if not re.search(lost, k)}, path)
    assert "missing base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight" in message(folder)


def test_an_adapter_of_another_base_is_refused_and_changes_nothing(tmp_path):
    folder = saved(tmp_path)
    other = Transformer(ModelConfig(**SIZES | {"n_embd": 36}))
    before = [p.clone() for p in other.parameters()]
    with pytest.raises(
        ValueError, match=r"does not fit its base model '.*' \(base_model_name_or_path .*; and \d+ more"
    ):
        merge_adapter(other, folder)
    assert all(torch.equal(a, b) for a, b in zip(before, other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--stage pretrain --lora-rank 4", "--lora-rank would be ignored by --stage pretrain"),
        ("--stage ssft --lora-alpha 4", "--lora-alpha would be ignored without --lora-rank"),
        ("--stage ssft --lora-targets q_proj", "--lora-targets would be ignored without --lora-rank"),
        ("--stage mtsf --lora-rank -1", "--lora-rank is -1, expected at least 1"),
        ("--stage ssft --lora-rank 4 --lora-alpha 0", "--lora-alpha is 0.0, expected a positive number"),
        ("--stage mtsf --lora-rank 4 --lora-targets q_proj,qkv", "--lora-targets has 'qkv', expected"),
        ("--stage ssft --lora-rank 4 --lora-targets ,", "--lora-targets is empty"),
        ("--stage ssft --lora-rank 79", "184,544 weights a block, no fewer than the 184,320 of the layers"),
        ("--stage ssft --lora-rank 79", "expected a rank of at most 78"),
        # 64 x 128 of k_proj / (64 + 128) < 43
        ("--stage ssft --lora-rank 43 --lora-targets k_proj", "8,192 of the layers that they are put on"),
    ],
)  # fmt: skip
def test_impossible_flags_are_one_line_and_write_nothing(flags, said, tmp_path, capsys):
    assert said in refused(f"{flags} --out {tmp_path / 'out'}", capsys)
    assert not (tmp_path / "out").exists()


# --- Runs ---

FLAGS = "--lora-rank 2 --batch-size 3 --warmup-steps 1 --eval-every 2 --save-every 1 --n-greedy 1 "
FLAGS += "--n-validation 2 --max-new-tokens 4 --device cpu"
SEQUENCE = "ssft,scr,joint,contrastive"


def test_help_names_the_targets_and_alpha_is_twice_the_rank():
    assert ", ".join(TARGETS) in Path(train.__file__).read_text(encoding="utf-8")
    parsed = train.parse_args("--stage ssft --lora-rank 8 --lora-targets q_proj,v_proj".split())
    assert train.lora_config(parsed) == LoRAConfig(8, 16, ("q_proj", "v_proj"))
    assert train.lora_config(train.parse_args("--stage ssft --lora-rank 8 --lora-alpha 8".split())).alpha == 8
    assert train.lora_config(train.parse_args(["--stage", "ssft"])) is None
    assert "lora_rank" not in train.settings_of(
        train.parse_args(["--stage", "ssft"])
    )  # as older runs have it


def test_every_stage_merges_and_a_killed_sequence_goes_on_bit_for_bit(tmp_path, monkeypatch, capsys):
    line = f"--stage mtsf --sequence {SEQUENCE} --steps 2 {FLAGS} {solved(tmp_path)}".split()
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_command(train.main, [*line, "--out", str(whole)]) == 0
    assert "2 of 4: scr" in (said := capsys.readouterr().out) and said.count("LoRA: rank 2, alpha 4") == 4

    original, calls = mathref.trainer.save_checkpoint, []

    def save_and_die(*args: Any) -> None:
        original(*args)
        calls.append(args)
        if len(calls) == 3:  # after the first of two steps of scr
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mathref.trainer, "save_checkpoint", save_and_die)
        assert run_command(train.main, [*line, "--out", str(killed)]) == 130
    assert not (killed / "model.safetensors").exists()
    assert run_command(train.main, [*line, "--out", str(killed), "--resume"]) == 0
    stages = [f"{i}-{stage}" for i, stage in enumerate(SEQUENCE.split(","), start=1)]
    for stage in stages:
        for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
            assert (whole / stage / name).read_bytes() == (killed / stage / name).read_bytes(), (stage, name)
        a, b = (safetensors.torch.load_file(run / stage / CHECKPOINT) for run in (whole, killed))
        assert a.keys() == b.keys() and all("lora_" in name and torch.equal(a[name], b[name]) for name in a)
    assert (whole / "2-scr" / "calibration.json").read_bytes() == (
        killed / "2-scr" / "calibration.json"
    ).read_bytes()

    bases = [ASSETS / "tiny", *(whole / stage for stage in stages)]
    for base, stage in zip(bases, stages, strict=False):
        settings = json.loads((whole / stage / "adapter" / "adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == str(base)
        merged, from_adapter = load_model(whole / stage), load_model(whole / stage / "adapter")
        assert all(
            torch.equal(a, b) for a, b in zip(merged.parameters(), from_adapter.parameters(), strict=True)
        )
        assert not torch.equal(merged.blocks[0].mlp.up.weight, load_model(base).blocks[0].mlp.up.weight)
        assert torch.equal(merged.embedding.weight, load_model(base).embedding.weight)
    draws = [
        safetensors.torch.load_file(whole / stage / CHECKPOINT)["model.blocks.0.mlp.up.lora_A"]
        for stage in stages[:2]
    ]
    assert (
        draws[0] - draws[1]
    ).abs().max() > 0.05  # not the same rows again: A is within 0.09, steps are short
    assert load_tokenizer(whole / stages[0] / "adapter").encode("1+1") == load_tokenizer(
        ASSETS / "tiny"
    ).encode("1+1")
    assert model_digest(whole / stages[0] / "adapter") != model_digest(whole / stages[1] / "adapter")


def test_a_run_is_not_resumed_on_another_base(tmp_path, capsys):
    """Its checkpoint holds adapters alone: on other weights they would be another model."""
    base = tmp_path / "base"
    save_model(load_model(ASSETS / "tiny"), base)
    load_tokenizer(ASSETS / "tiny").save(base)
    data = solved(tmp_path).split(" --samples")[0]
    line = f"--stage ssft --model {base} --steps 1 {FLAGS} {data} --out {tmp_path / 'out'}"
    assert run_command(train.main, line.split()) == 0
    changed = load_model(base)
    with torch.no_grad():
        changed.norm.weight.add_(0.1)
    save_model(changed, base)
    assert "cannot resume with other settings: model_digest was" in refused(f"{line} --resume", capsys)


def test_an_adapter_is_a_model_for_training_and_sampling(tmp_path, capsys):
    import sample

    data = solved(tmp_path).split(" --samples")[0]
    line = f"--stage ssft --model tiny --steps 1 {FLAGS} {data} --out {tmp_path / 'first'}"
    assert run_command(train.main, line.split()) == 0
    adapter = tmp_path / "first" / "adapter"
    line = f"--stage ssft --model {adapter} --steps 1 {FLAGS} {data} --out {tmp_path / 'second'}"
    assert run_command(train.main, line.split()) == 0
    assert f"base model {adapter}, 836,736 parameters" in capsys.readouterr().out
    load_model(tmp_path / "second" / "adapter")  # an adapter on an adapter
    lines = []
    for model in (adapter, tmp_path / "first"):
        out = tmp_path / f"{model.name}.jsonl"
        flags = f"--model {model} --limit 1 --n 2 --max-new-tokens 9 --device cpu --out {out}"
        assert run_command(sample.main, flags.split()) == 0
        lines.append(out.read_text().splitlines()[1:])
    assert lines[0] == lines[1]
    (adapter / "adapter_config.json").unlink()
    assert "an adapter's" in refused(f"--stage ssft --model {adapter} --out {tmp_path / 'third'}", capsys)
