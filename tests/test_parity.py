"""Against transformers: equal logits, files that both programs read, and one real checkpoint."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch

from mathref.data import load_problems
from mathref.model import ModelConfig, Transformer
from mathref.problems import generate
from mathref.prompts import few_shot_prompt, generator_prompt
from mathref.runs import ASSETS, SHIPPED
from mathref.sampler import sample
from mathref.tokenizer import SentencePieceTokenizer, load_tokenizer
from mathref.weights import config_to_hf, load_model, save_model

transformers = pytest.importorskip("transformers", reason="needs transformers (requirements-dev.txt)")

pytestmark = pytest.mark.parity
ROOT = Path(__file__).resolve().parent.parent
SMOLLM2 = ROOT / "runs" / "smollm2"
SHARED = ROOT.parent / "shared" / "data"
needs_smollm2 = pytest.mark.skipif(
    not (SMOLLM2 / "model.safetensors").is_file(),
    reason="runs/smollm2 is absent: python examples/smollm2.py --out runs/smollm2",
)
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(),
    reason="the public data sets are not in ../shared/data (python -m mathref.data fetch)",
)

# Sizes are odd on purpose: what only works for powers of two, or for C = H * D, fails here.
SHAPES = {
    "grouped": dict(n_head=6, n_kv_head=2, head_dim=8, n_embd=48, n_inner=52),
    "one-key-head": dict(n_head=5, n_kv_head=1, head_dim=4, n_embd=20, n_inner=36),
    "every-key-head-untied": dict(
        n_head=3, n_kv_head=3, head_dim=6, n_embd=18, n_inner=44, tie_embeddings=False
    ),
    "heads-wider-than-the-stream": dict(
        n_head=4, n_kv_head=2, head_dim=10, n_embd=28, n_inner=20, tie_embeddings=False
    ),
    "theta-eps": dict(
        n_head=2, n_kv_head=1, head_dim=14, n_embd=22, n_inner=30, rope_theta=130.0, norm_eps=0.03
    ),
}


def shape(name: str) -> ModelConfig:
    return ModelConfig(vocab_size=83, n_layer=3, max_seq_len=64, **SHAPES[name])


def randomise(model: torch.nn.Module) -> None:
    """Weights large enough that the position, the grouping and the epsilon of a wrong model would show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3 + (1.0 if "norm" in name else 0.0))


def their_model(config: ModelConfig, **changes: Any) -> Any:
    """A random LlamaForCausalLM of this shape."""
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**{**config_to_hf(config), **changes})
    ).eval()
    randomise(model)
    return model


def random_tokens(*size: int) -> torch.Tensor:
    return torch.randint(0, 83, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_their_checkpoint_gives_their_logits(name: str, tmp_path: Path) -> None:
    theirs, tokens = their_model(shape(name)), random_tokens(2, 40)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert ours.config == shape(name)
    expected = theirs(tokens).logits
    assert expected.std() > 0.5  # a difference of 1e-4 would be a difference
    torch.testing.assert_close(ours(tokens), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["grouped", "heads-wider-than-the-stream"])
@torch.no_grad()
def test_our_checkpoint_gives_our_logits_there(name: str, tmp_path: Path) -> None:
    ours, tokens = Transformer(shape(name)).eval(), random_tokens(2, 40)
    randomise(ours)
    save_model(ours, tmp_path)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.tie_word_embeddings is ours.config.tie_embeddings
    torch.testing.assert_close(theirs.eval()(tokens).logits, ours(tokens), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_their_shards_are_read(tmp_path: Path) -> None:
    theirs, tokens = their_model(shape("every-key-head-untied")), random_tokens(1, 20)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    torch.testing.assert_close(load_model(tmp_path)(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_half_precision_goes_both_ways_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = their_model(shape("grouped")).to(dtype)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    save_model(ours, tmp_path / "ours")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    before = theirs.state_dict()
    for name, weight in back.state_dict().items():
        assert weight.dtype == dtype
        assert torch.equal(weight, before[name]), name


@torch.no_grad()
def test_left_padding_gives_their_logits(tmp_path: Path) -> None:
    """USERS.md 3.5: rows of a padded batch take their positions from the mask, in both programs."""
    theirs, tokens = their_model(shape("grouped")), random_tokens(2, 12)
    theirs.save_pretrained(tmp_path)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, :5] = False
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)
    expected = theirs(tokens, attention_mask=mask.long(), position_ids=positions).logits
    torch.testing.assert_close(
        load_model(tmp_path)(tokens, mask=mask)[mask], expected[mask], rtol=1e-4, atol=1e-4
    )


def test_stretched_positions_of_theirs_are_refused(tmp_path: Path) -> None:
    """Long-context models may compute other angles; loading one as if it were plain would only look right."""
    scaled = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    their_model(shape("grouped"), rope_parameters=scaled).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="dynamic"):
        load_model(tmp_path)


# ---- the tokenizer beside our checkpoints ----------------------------------------------------------------

# Control tokens written out, blanks at the edges, the blank's own sign, other scripts, characters of bytes.
ODD = ["", " ", " two  blanks ", "\n", "\u2581a \u2581", "<s>a</s> <unk> <0x41>", "naïve — 你好 e\u0301 🙂",
       "\u00a0\u200b\ufeff", "\x00\t\r\n", "1,234.50", "\U0010ffff", "İ ﬁ ½"]  # fmt: skip


def assert_same_ids(folder: Path, ours: SentencePieceTokenizer, texts: list[str]) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    bos = [] if ours.bos_id is None else [ours.bos_id]
    for text in texts:
        ids = ours.encode(text)
        assert theirs(text)["input_ids"] == bos + ids, text
        assert theirs.decode([*bos, *ids, ours.eos_ids[0]], skip_special_tokens=True) == ours.decode(ids), (
            text
        )
    assert (theirs.bos_token_id, theirs.eos_token_id) == (ours.bos_id, ours.eos_ids[0])


@pytest.mark.parametrize("kind", ["shipped", "saved"])
@pytest.mark.parametrize("name", SHIPPED)
def test_they_read_the_texts_of_a_shipped_base_as_we_do(name: str, kind: str, tmp_path: Path) -> None:
    """BOS included: they left it out once, since no tokenizer_config.json told them of it."""
    problems = generate("test")
    texts = ODD + [generator_prompt(p.problem) for p in problems] + [f" {p.detailed}" for p in problems[:100]]
    letters = random.Random(0)
    texts += ["".join(letters.choices("ab 0\n\u2581<s>/\\{}π🙂é\t.", k=20)) for _ in range(300)]
    ours = SentencePieceTokenizer((ASSETS / name / "tokenizer.model").read_bytes())
    folder = ASSETS / name
    if kind == "saved":
        folder = tmp_path
        (folder / "config.json").write_bytes((ASSETS / name / "config.json").read_bytes())
        ours.save(folder)
    assert_same_ids(folder, ours, texts)


@pytest.mark.parametrize("settings", [dict(bos_id=-1, eos_id=1), dict(bos_piece="<bos>", eos_piece="<eos>"),
                                      dict(add_dummy_prefix=True)], ids=str)  # fmt: skip
def test_they_read_a_bare_sentencepiece_model_as_we_do(settings: dict[str, Any], tmp_path: Path) -> None:
    """Without BOS, with other names of the special tokens, with a blank in front of every text."""
    model = io.BytesIO()
    defaults = dict(unk_id=0, bos_id=1, eos_id=2, add_dummy_prefix=False, remove_extra_whitespaces=False)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(f"{p.problem} {p.detailed}" for p in generate("test")), model_writer=model,
        model_type="bpe", vocab_size=600, byte_fallback=True, normalization_rule_name="identity",
        num_threads=1, minloglevel=2, **{**defaults, **settings},
    )  # fmt: skip
    ours = SentencePieceTokenizer(model.getvalue())
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    ours.save(tmp_path)
    texts = [generator_prompt(p.problem) for p in generate("test")[:100]] + ODD
    if settings.get("add_dummy_prefix"):  # to a text that begins with a blank they add no other one
        texts = [text for text in texts if text and text[0] not in " \u2581"]
    assert_same_ids(tmp_path, ours, texts)


def test_they_write_our_greedy_text_from_a_saved_folder(tmp_path: Path) -> None:
    """Text in, text out: their tokenizer and generate on a folder of ours, against our sampler."""
    model, tokenizer = load_model(ASSETS / "tiny"), load_tokenizer(ASSETS / "tiny")
    save_model(model, tmp_path)
    tokenizer.save(tmp_path)
    problems, shots = generate("test", 12), load_problems("builtin").problems[:2]
    prompts = [few_shot_prompt(shots, p.problem) for p in problems[:6]]
    prompts += [generator_prompt(p.problem) for p in problems[6:]]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for prompt, (ours,) in zip(
        prompts, sample(model, tokenizer, prompts, n=1, temperature=0, max_new_tokens=50), strict=True
    ):
        inputs = their_tokenizer(prompt, return_tensors="pt")
        written = theirs.generate(**inputs, max_new_tokens=50, do_sample=False, pad_token_id=0)
        text = their_tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        assert text == ours.text, prompt


# ---- a real checkpoint -------------------------------------------------------------------------------


def problem_texts(file: str, field: str, n: int) -> list[str]:
    with open(SHARED / file, encoding="utf-8") as lines:
        return [json.loads(line)[field] for line, _ in zip(lines, range(n), strict=False)]


@pytest.mark.slow
@needs_smollm2
@needs_shared
def test_real_tokenizer_gives_the_same_ids() -> None:
    theirs, ours = transformers.AutoTokenizer.from_pretrained(SMOLLM2), load_tokenizer(SMOLLM2)
    texts = problem_texts("math500_test.jsonl", "problem", 100) + problem_texts(
        "gsm8k_test.jsonl", "question", 100
    )
    for text in [*texts, "x = 3.14159\r\n\n\t naïve 你好", "<|im_start|>user\n7<|im_end|>"]:
        assert ours.encode(text) == theirs(text)["input_ids"], text
        assert ours.decode(ours.encode(text)) == theirs.decode(ours.encode(text), skip_special_tokens=True)
    assert ours.eos_ids == (theirs.eos_token_id,)
    assert len(ours.encode("31415")) == 5


@pytest.mark.slow
@needs_smollm2
@needs_shared
@torch.no_grad()
def test_real_logits_are_the_same() -> None:
    """float32, eight prompts: no logit differs by 1e-3 (they range over some 30)."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(SMOLLM2, dtype=torch.float32).eval()
    ours, tokenizer = load_model(SMOLLM2, dtype=torch.float32), load_tokenizer(SMOLLM2)
    texts = problem_texts("gsm8k_test.jsonl", "question", 4) + problem_texts(
        "math500_test.jsonl", "problem", 4
    )
    worst = 0.0
    for text in texts:
        tokens = torch.tensor([tokenizer.encode(generator_prompt(text))])
        difference = (ours(tokens) - theirs(tokens).logits).abs().max().item()
        assert difference < 1e-3, text  # false for a NaN as well
        worst = max(worst, difference)
    print(f"largest difference of a logit: {worst:.2e}")


@pytest.mark.slow
@needs_smollm2
@needs_shared
def test_real_greedy_text_is_the_same() -> None:
    """20 problems of GSM8K, 60 tokens each: our batched sampler against their generate."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(SMOLLM2, dtype=torch.float32).eval()
    ours, tokenizer = load_model(SMOLLM2, dtype=torch.float32), load_tokenizer(SMOLLM2)
    prompts = [generator_prompt(text) for text in problem_texts("gsm8k_test.jsonl", "question", 20)]
    completions = sample(ours, tokenizer, prompts, n=1, temperature=0, max_new_tokens=60)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(SMOLLM2, padding_side="left")
    inputs = their_tokenizer(prompts, return_tensors="pt", padding=True)
    written = theirs.generate(**inputs, max_new_tokens=60, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    expected = their_tokenizer.batch_decode(written, skip_special_tokens=True)
    assert [row[0].text for row in completions] == expected
