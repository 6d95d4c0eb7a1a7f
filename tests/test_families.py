"""Every family against transformers: logits, cache, padding, files both ways, and what is refused.

The parity table: python -m pytest tests/test_families.py -s -k table
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import io
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sentencepiece
import tokenizers
import torch

from mathref.architectures import FAMILIES, config_from_hf, config_to_hf
from mathref.memory import count_parameters
from mathref.model import KVCache, ModelConfig, Transformer, with_more_layers
from mathref.prefix_tree import prefix_tree
from mathref.problems import generate
from mathref.runs import ASSETS
from mathref.sampler import sample
from mathref.tokenizer import load_tokenizer
from mathref.weights import load_config, load_model, save_model

try:
    import transformers
except ModuleNotFoundError:
    transformers = None
try:
    HAS_PROTOBUF = importlib.util.find_spec("google.protobuf") is not None
except ModuleNotFoundError:  # no package google at all
    HAS_PROTOBUF = False

needs_transformers = pytest.mark.skipif(
    transformers is None, reason="needs transformers (requirements-dev.txt)"
)
VOCAB, LENGTH, WINDOW = 83, 40, 7
# Sizes that are no powers of two, C != H * D, and more tokens than windows and original contexts hold.
SIZES = dict(
    vocab_size=VOCAB,
    num_hidden_layers=4,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=10,
    hidden_size=48,
    intermediate_size=52,
    max_position_embeddings=64,
    rms_norm_eps=1e-3,
)
LLAMA3 = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
LINEAR = dict(rope_type="linear", factor=3.0)
GEMMA3 = dict(model_type="gemma3_text", sliding_window=WINDOW, query_pre_attn_scalar=17)
# One config.json for each way in which a family can be: the name, and the keys beside SIZES.
CASES: dict[str, dict[str, Any]] = {
    "llama": dict(model_type="llama", rope_theta=500.0),
    "llama, tied": dict(model_type="llama", tie_word_embeddings=True),
    "llama, rope llama3": dict(model_type="llama", rope_theta=500.0, rope_scaling=LLAMA3),
    "llama, rope linear": dict(model_type="llama", rope_scaling=LINEAR),
    "mistral, window": dict(model_type="mistral", sliding_window=WINDOW),
    "mistral, no window": dict(model_type="mistral", sliding_window=None, rope_theta=1e6),
    "qwen2": dict(model_type="qwen2", use_sliding_window=False, sliding_window=WINDOW, rope_theta=1e6),
    "qwen2, upper windows": dict(
        model_type="qwen2",
        use_sliding_window=True,
        sliding_window=WINDOW,
        max_window_layers=3,
        tie_word_embeddings=True,
    ),
    "qwen3": dict(model_type="qwen3", tie_word_embeddings=True, rope_theta=1e6),
    "qwen3, mixed windows": dict(
        model_type="qwen3",
        use_sliding_window=True,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
    ),
    "gemma": dict(model_type="gemma", num_key_value_heads=1),
    "gemma, untied": dict(model_type="gemma", tie_word_embeddings=False, num_key_value_heads=6),
    "gemma2": dict(
        model_type="gemma2",
        sliding_window=WINDOW,
        query_pre_attn_scalar=17,
        attn_logit_softcapping=3.0,
        final_logit_softcapping=5.0,
    ),
    "gemma2, no caps": dict(
        model_type="gemma2",
        sliding_window=WINDOW,
        attn_logit_softcapping=None,
        final_logit_softcapping=None,
    ),
    "gemma3_text": dict(num_hidden_layers=7, **GEMMA3),
    "gemma3_text, scaled, capped": dict(
        rope_theta=500.0,
        rope_local_base_freq=50.0,
        rope_scaling=LINEAR,
        final_logit_softcapping=5.0,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        **GEMMA3,
    ),
}
WINDOWED = ["mistral, window", "qwen3, mixed windows", "gemma2", "gemma3_text, scaled, capped"]
# One of each family, with the most switches on.
EACH = ["llama, rope llama3", "qwen2, upper windows", "gemma, untied", *WINDOWED]
SWITCHES = [f.name for f in dataclasses.fields(ModelConfig) if f.default is not dataclasses.MISSING]
SWITCHES = [name for name in SWITCHES if name not in ("family", "norm_eps")]


def hf_config(case: str) -> dict[str, Any]:
    return {**SIZES, **CASES[case]}


def randomise(model: torch.nn.Module) -> None:
    """Weights large enough that any wrong switch shows in the logits."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            shift = 1.0 if "norm" in name else 0.0
            p.copy_(torch.randn(p.shape, generator=generator) * 0.25 + shift)


def our_model(case: str) -> Transformer:
    model = Transformer(config_from_hf(hf_config(case), "here")).eval()
    randomise(model)
    return model


def their_model(case: str, folder: Path) -> Any:
    """Their model of this config.json, which they read from a file as they would a user's; saved there."""
    (folder / "config.json").write_text(json.dumps(hf_config(case)))
    config = transformers.AutoConfig.from_pretrained(folder)
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    randomise(theirs)
    theirs.save_pretrained(folder)
    return theirs


def random_tokens(*size: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(1, VOCAB, size, generator=torch.Generator().manual_seed(seed))


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest absolute difference; NaN where either has one."""
    return (a - b).abs().max().item()


def cached(model: Transformer, tokens: torch.Tensor, chunks: list[int]) -> torch.Tensor:
    """Logits (B, T, V) computed piece by piece with a cache."""
    cache = KVCache(model.config, len(tokens), tokens.shape[1], device="cpu", dtype=torch.float32)
    return torch.cat([model(piece, kv_cache=cache) for piece in tokens.split(chunks, dim=1)], dim=1)


@functools.cache
@torch.no_grad()
def parity(case: str) -> dict[str, float]:
    """Largest differences from transformers: of logits, of cached ones, of what they make of our files."""
    tokens, prompt = random_tokens(2, LENGTH), LENGTH - 3
    with TemporaryDirectory() as name:
        folder = Path(name)
        theirs = their_model(case, folder)
        ours = load_model(folder)
        save_model(ours, folder / "ours")
        back, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder / "ours", output_loading_info=True
        )
    assert type(back) is type(theirs)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    expected = theirs(tokens).logits
    assert expected.std() > 0.3  # a difference of 1e-4 would be a difference
    cache, steps = transformers.DynamicCache(config=theirs.config), []
    for piece in tokens.split([prompt, 1, 1, 1], dim=1):
        steps.append(theirs(piece, past_key_values=cache, use_cache=True).logits)
    decoded = cached(ours, tokens, [prompt, 1, 1, 1])
    return {
        "logits": difference(ours(tokens), expected),
        "cache": max(difference(decoded, torch.cat(steps, dim=1)), difference(decoded, expected)),
        "save": difference(back.eval()(tokens).logits, expected),
    }


@pytest.mark.parity
@needs_transformers
@pytest.mark.parametrize("case", CASES)
def test_every_family_agrees_with_theirs(case: str) -> None:
    for kind, value in parity(case).items():
        assert value < 1e-4, kind  # false for a NaN as well


@pytest.mark.parity
@needs_transformers
@torch.no_grad()
def test_a_length_beside_rope_scaling_prevails_over_the_one_in_it(tmp_path: Path) -> None:
    """It was passed over, and the frequencies were those of another length."""
    folders = [tmp_path / name for name in ("inner", "outer")]
    for folder, outer in zip(folders, ({}, {"original_max_position_embeddings": 16}), strict=True):
        folder.mkdir()
        their_model("llama, rope llama3", folder)
        (folder / "config.json").write_text(json.dumps({**hf_config("llama, rope llama3"), **outer}))
    inner, outer = (
        [transformers.AutoModelForCausalLM.from_pretrained(f)(random_tokens(2, LENGTH)).logits,
         load_model(f)(random_tokens(2, LENGTH))] for f in folders
    )  # fmt: skip
    assert difference(*inner) < 1e-4 and difference(*outer) < 1e-4 and difference(inner[0], outer[0]) > 0.1


@pytest.mark.parity
@needs_transformers
@pytest.mark.parametrize("case", ["mistral, window", "qwen2", "gemma2", "gemma3_text"])
@torch.no_grad()
def test_left_padding_gives_their_logits(case: str, tmp_path: Path) -> None:
    theirs, tokens = their_model(case, tmp_path), random_tokens(2, 25)
    mask = torch.ones(2, 25, dtype=torch.bool)
    mask[1, :11] = False
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)
    expected = theirs(tokens, attention_mask=mask.long(), position_ids=positions).logits
    ours = load_model(tmp_path)(tokens, mask=mask)
    torch.testing.assert_close(ours[mask], expected[mask], rtol=1e-4, atol=1e-4)


@pytest.mark.parity
@needs_transformers
@pytest.mark.parametrize("case", CASES)
def test_their_config_is_written_as_it_was_read(case: str, tmp_path: Path) -> None:
    """From their own file, which has the newer keys, to ours, with the older: the same to both readers."""
    (tmp_path / "config.json").write_text(json.dumps(hf_config(case)))
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    newest = json.loads(theirs.to_json_string(use_diff=False))
    config = config_from_hf(newest, "here")
    assert config == config_from_hf(hf_config(case), "here")
    (tmp_path / "config.json").write_text(json.dumps(config_to_hf(config)))
    back = json.loads(transformers.AutoConfig.from_pretrained(tmp_path).to_json_string(use_diff=False))
    # max_window_layers is of no effect beside layer_types.
    ignored = {"_name_or_path", "architectures", "dtype", "transformers_version", "max_window_layers"}
    assert {key: value for key, value in back.items() if key not in ignored} == {
        key: value for key, value in newest.items() if key not in ignored
    }


# ---- tokenizers --------------------------------------------------------------------------------------

# The tokenizer files that the checkpoints of a family come with.
TOKENIZERS = {
    "llama": ("tokenizer.model", "tokenizer.json"),  # 1 and 2; 3 and SmolLM2
    "mistral": ("tokenizer.model",),
    "qwen2": ("tokenizer.json",),
    "qwen3": ("tokenizer.json",),
    "gemma": ("tokenizer.model",),
    "gemma2": ("tokenizer.model",),
    "gemma3_text": ("tokenizer.model",),
}
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@functools.cache
def texts() -> list[str]:
    """1,000 problems: of MATH-500 and GSM8K where the data sets are at hand, built-in ones otherwise."""
    files = (("math500_test.jsonl", "problem"), ("gsm8k_test.jsonl", "question"))
    if all((SHARED / file).is_file() for file, _ in files):
        lines = [(SHARED / file).read_text(encoding="utf-8").splitlines()[:500] for file, _ in files]
        return [json.loads(line)[key] for (_, key), part in zip(files, lines, strict=True) for line in part]
    return [problem.problem for problem in generate("train", 1000)]


@functools.cache
def pieces(gemma: bool) -> bytes:
    """A small sentencepiece model with the settings of Llama 2 and Mistral, or of Gemma."""
    settings: dict[str, Any] = dict(add_dummy_prefix=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    if gemma:
        settings = dict(add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3)
        settings |= dict(pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>")
        settings |= dict(
            user_defined_symbols=["<start_of_turn>", "<end_of_turn>", "\n", "\n\n", "\u2581\u2581"]
        )
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts()[::5]),
        model_writer=model,
        model_type="bpe",
        vocab_size=700,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
        **settings,
    )
    return model.getvalue()


def their_tokenizer(family: str, file: str, folder: Path) -> Any:
    """Their tokenizer of this family from a folder with this file, as its checkpoints come."""
    (folder / "config.json").write_text(json.dumps({"model_type": family}))
    gemma, eos = family.startswith("gemma"), "<|im_end|>"
    if file == "tokenizer.model":
        (folder / file).write_bytes(pieces(gemma))
        settings = {"tokenizer_class": "GemmaTokenizer" if gemma else "LlamaTokenizer", "add_bos_token": True}
        settings |= {"bos_token": "<bos>", "eos_token": "<eos>"} if gemma else {"legacy": family == "mistral"}
        added = {"700": {"content": eos, "special": True}, "701": {"content": "<think>", "special": False}}
        settings["added_tokens_decoder"] = added
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    else:
        bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
        bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=700, initial_alphabet=alphabet, show_progress=False
        )
        bpe.train_from_iterator(texts()[::5], trainer)
        if family == "llama":
            theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=eos)
        else:
            trained = json.loads(bpe.to_str())["model"]
            merges = [tuple(pair) for pair in trained["merges"]]
            theirs = transformers.Qwen2Tokenizer(vocab=trained["vocab"], merges=merges, eos_token=eos)
        theirs.add_tokens(["<think>"])
        theirs.save_pretrained(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


@functools.cache
def differing_texts(family: str, file: str) -> int:
    """How many of 2,000 texts, half of them with added tokens, get other ids or do not come back."""
    with TemporaryDirectory() as name:
        theirs = their_tokenizer(family, file, Path(name))
        ours = load_tokenizer(Path(name))
    count = 0
    for text in texts():
        mixed = f"{text}<|im_end|> {text[:20]}<think>7"
        for written, read in ((text, text), (mixed, mixed.replace("<|im_end|>", ""))):
            ids = ours.encode(written)
            same = ids == theirs(written, add_special_tokens=False)["input_ids"]
            count += not same or ours.decode(ids) != read
        count += theirs.decode(ours.encode(text)) != text
    starts = theirs("7")["input_ids"][0]
    assert ours.bos_id == (starts if starts == theirs.bos_token_id else None)
    assert theirs.eos_token_id in ours.eos_ids
    return count


@pytest.mark.parity
@needs_transformers
@pytest.mark.parametrize(("family", "file"), [(f, file) for f, files in TOKENIZERS.items() for file in files])
def test_every_tokenizer_agrees_with_theirs(family: str, file: str) -> None:
    if file == "tokenizer.model" and not HAS_PROTOBUF:
        pytest.skip("transformers reads tokenizer.model with package protobuf (requirements-dev.txt)")
    assert differing_texts(family, file) == 0


ADDED = {"700": {"content": "<|x|>", "special": True}, "701": {"content": "<think>", "special": False}}
TURNS = {
    "4": {"content": "<start_of_turn>", "special": True},
    "5": {"content": "<end_of_turn>", "special": True},
}


@pytest.mark.parity
@needs_transformers
@pytest.mark.skipif(not HAS_PROTOBUF, reason="transformers reads tokenizer.model with package protobuf")
@pytest.mark.parametrize(
    "settings",
    [
        {"add_prefix_space": False},
        {"bos_token": "<|x|>"},
        {"bos_token": "</s>"},
        *({"flags": dict.fromkeys(names.split(), True)}
          for names in ("lstrip", "rstrip", "lstrip rstrip", "single_word", "single_word lstrip")),
    ],
    ids=str,
)  # fmt: skip
def test_settings_beside_a_sentencepiece_model_are_followed_as_theirs(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """Each was passed over: other ids than those that a checkpoint was trained with."""
    added = {id: token | settings.get("flags", {}) for id, token in ADDED.items()}
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False}
    config |= {"added_tokens_decoder": added} | {k: v for k, v in settings.items() if k != "flags"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "tokenizer.model").write_bytes(pieces(gemma=False))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    for text in ("", "a", "hello world", "a<|x|>b", "a <|x|> b", "a \n <think>  b", "x<|x|>", "7<|x|><|x|> 8",
                 "<|x|> a <think><|x|>\n", "one<think>", "(<think>)", "\tq <|x|>\tq"):  # fmt: skip
        assert [ours.bos_id, *ours.encode(text)] == theirs(text)["input_ids"], text


@pytest.mark.parity
@needs_transformers
@pytest.mark.skipif(not HAS_PROTOBUF, reason="transformers reads tokenizer.model with package protobuf")
@pytest.mark.parametrize(
    "named",
    [{"added_tokens_decoder": TURNS}, {"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]}],
)
def test_special_tokens_that_are_pieces_have_no_text(named: dict[str, Any], tmp_path: Path) -> None:
    """A completion of Gemma ended in the text <end_of_turn>."""
    config = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "bos_token": "<bos>"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma"}))
    (tmp_path / "tokenizer.model").write_bytes(pieces(gemma=True))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "<eos>"} | named))
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    text = "<start_of_turn>user\nhi <end_of_turn>\n<start_of_turn> model\n"
    ids = ours.encode(text)
    assert ids == theirs(text, add_special_tokens=False)["input_ids"]
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True) == "user\nhi \n model\n"


@pytest.mark.parity
@needs_transformers
def test_table() -> None:
    """Prints the parity table (with -s)."""
    assert {CASES[case]["model_type"] for case in CASES} == set(FAMILIES) == set(TOKENIZERS)
    lines = ["largest absolute difference of logits in float32, and texts of 2,000 with other token ids"]
    lines.append(f"{'':28}{'logits':>9}{'cache':>9}{'save':>9}{'tokenizer':>11}")
    for case in CASES:
        files = TOKENIZERS[CASES[case]["model_type"]]
        if "tokenizer.model" in files and not HAS_PROTOBUF:
            differing = "no protobuf"
        else:
            differing = sum(differing_texts(CASES[case]["model_type"], file) for file in files)
        row = "".join(f"{value:9.0e}" for value in parity(case).values())
        lines.append(f"{case:28}{row}{differing:>11}")
    print("\n" + "\n".join(lines))


# ---- without transformers ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", EACH)
@torch.no_grad()
def test_every_switch_of_every_case_shows_in_the_logits(case: str) -> None:
    """Else the agreement above would say nothing about that switch."""
    model, tokens = our_model(case), random_tokens(1, LENGTH)
    expected, defaults = model(tokens), {f.name: f.default for f in dataclasses.fields(ModelConfig)}
    extra = {"q_norm", "k_norm", "post_norm_1", "post_norm_2", "bias", "lm_head"}
    for name in SWITCHES:
        if getattr(model.config, name) == defaults[name]:
            continue
        other = Transformer(replace(model.config, **{name: defaults[name]})).eval()
        misfits = other.load_state_dict(model.state_dict(), strict=False)
        assert all(extra & set(key.split(".")) for keys in misfits for key in keys)
        assert difference(other(tokens), expected) > 1e-2, name


@pytest.mark.parametrize("case", WINDOWED)
@torch.no_grad()
def test_cached_equals_uncached(case: str) -> None:
    model, tokens = our_model(case), random_tokens(3, LENGTH)
    decoded = cached(model, tokens, [5, 1, 1, 12, 1, 20])
    torch.testing.assert_close(decoded, model(tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", WINDOWED)
@torch.no_grad()
def test_padded_rows_equal_the_rows_alone(case: str, side: str) -> None:
    model, rows = our_model(case), [random_tokens(length, seed=length) for length in (1, 9, 30)]
    tokens, mask = torch.full((3, 30), 7), torch.zeros(3, 30, dtype=torch.bool)
    for i, row in enumerate(rows):
        place = slice(30 - len(row), 30) if side == "left" else slice(0, len(row))
        tokens[i, place], mask[i, place] = row, True
    logits = model(tokens, mask=mask)
    assert torch.isfinite(logits).all()
    for i, row in enumerate(rows):
        torch.testing.assert_close(logits[i][mask[i]], model(row[None])[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", WINDOWED)
@torch.no_grad()
def test_rows_of_a_cache_are_repeated_copied_and_selected(case: str) -> None:
    """Prompts of 17, 4 and 9 tokens with a window of 7: every row goes on as if alone, wherever it moves."""
    model, lengths = our_model(case), [17, 4, 9]
    prompts, mask = torch.full((3, 17), 9), torch.zeros(3, 17, dtype=torch.bool)
    for i, length in enumerate(lengths):
        prompts[i, :length], mask[i, :length] = random_tokens(length, seed=length), True
    cache = KVCache(model.config, 3, 24, device="cpu", dtype=torch.float32)
    model(prompts, mask=mask, kv_cache=cache)
    cache.select(torch.tensor([0, 0, 1, 1, 2, 2]))
    cache.copy_rows(torch.tensor([4, 2]), torch.tensor([1, 6]))  # rows 0 2 1 1 2 2 1
    cache.select(torch.tensor([6, 1, 0, 4]))  # rows 1 2 0 2
    more = random_tokens(4, 5, seed=3)
    logits = torch.cat([model(token, kv_cache=cache) for token in more.split(1, dim=1)], dim=1)
    for i, origin in enumerate((1, 2, 0, 2)):
        alone = model(torch.cat((prompts[origin, : lengths[origin]], more[i]))[None])[0, -5:]
        torch.testing.assert_close(logits[i], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", WINDOWED)
@torch.no_grad()
def test_texts_of_a_prefix_tree_equal_each_alone(case: str) -> None:
    """As the evaluator lays out candidates: the window counts positions in a text, not places in the row."""
    model, start = our_model(case), random_tokens(1, 12)[0].tolist()
    ends = [random_tokens(1, n, seed=n)[0].tolist() for n in (5, 9, 1, 20)]
    texts = [
        tuple(start),
        *(tuple(start + end) for end in ends),
        tuple(ends[3] + start),
        tuple(start + ends[0]),
    ]
    tree = prefix_tree(texts)
    logits = model.head(model.hidden(tree.tokens, layout=model.tree_layout(tree)))[0]
    for text, path in zip(texts, tree.paths, strict=True):
        alone = model(torch.tensor([text]))[0]
        torch.testing.assert_close(logits[list(path)], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", ["mistral, window", "gemma3_text, scaled, capped"])
@torch.no_grad()
def test_samples_are_those_of_plain_forward_passes(case: str) -> None:
    """The sampler's batches of uneven prompts, far beyond the window, greedily."""
    tokenizer = load_tokenizer(ASSETS / "tiny")
    values = {**hf_config(case), "vocab_size": tokenizer.vocab_size}
    model = Transformer(config_from_hf(values, "here")).eval()
    randomise(model)
    prompts = ["12+34=46, and 46+5=51.", "7*8="]
    completions = sample(model, tokenizer, prompts, n=2, temperature=0, max_new_tokens=12)
    for prompt, pair in zip(prompts, completions, strict=True):
        ids = [tokenizer.bos_id, *tokenizer.encode(prompt)]
        start = len(ids)
        while len(ids) < start + 12 and ids[-1] not in tokenizer.eos_ids:
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        assert [list(completion.token_ids) for completion in pair] == [ids[start:]] * 2


@pytest.mark.parametrize("case", ["qwen2", "gemma3_text"])
def test_recomputed_layers_give_the_same_gradients(case: str) -> None:
    gradients = []
    for recompute in (False, True):
        model = our_model(case).train()
        model.checkpoint_layers = recompute
        model(random_tokens(2, 11)).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert plain is not None
        torch.testing.assert_close(plain, recomputed, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", ["qwen2", "gemma3_text"])
def test_a_new_model_starts_nearly_uniform(case: str) -> None:
    model = Transformer(config_from_hf(hf_config(case), "here"))
    assert model(random_tokens(2, 9)).softmax(dim=-1).max() < 0.2
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert not p.any(), name
        if "norm" in name:
            assert torch.equal(p, torch.full_like(p, 0.0 if model.config.norm_unit_offset else 1.0)), name


@torch.no_grad()
def test_layers_on_top_go_on_with_the_pattern() -> None:
    model = our_model("gemma3_text")
    deeper = with_more_layers(model, 5)
    windowed = [deeper.config.is_windowed(layer) for layer in range(12)]
    assert windowed == [True] * 5 + [False] + [True] * 5 + [False]
    torch.testing.assert_close(deeper(random_tokens(1, 20)), model(random_tokens(1, 20)))


@pytest.mark.parametrize("case", EACH)
def test_a_saved_model_is_the_same_model(case: str, tmp_path: Path) -> None:
    model, tokens = our_model(case).bfloat16(), random_tokens(2, 15)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded(tokens), model(tokens))


@needs_transformers
@pytest.mark.parametrize("case", CASES)
def test_weights_are_counted_before_they_are_loaded(case: str, tmp_path: Path) -> None:
    theirs = their_model(case, tmp_path)
    assert count_parameters(load_config(tmp_path)) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case]["model_type"] != "llama"])
def test_absent_keys_mean_what_the_family_takes_them_for(case: str) -> None:
    """As the files on record leave out: no layer_types, no tie_word_embeddings, no caps, no local base."""
    keys = ("tie_word_embeddings", "layer_types", "attn_logit_softcapping", "rope_local_base_freq")
    values = {key: value for key, value in hf_config(case).items() if key not in keys}
    config = config_from_hf(values, "here")
    gemma = config.family.startswith("gemma")
    assert config.tie_embeddings is gemma
    assert config.attention_softcap == (50.0 if config.family == "gemma2" else None)
    assert config.window_rope_theta == (10000.0 if config.family == "gemma3_text" else None)
    if config.family in ("gemma2", "gemma3_text"):
        every = 2 if config.family == "gemma2" else 6
        windowed = [config.is_windowed(layer) for layer in range(config.n_layer)]
        assert windowed == [(layer + 1) % every > 0 for layer in range(config.n_layer)]


@pytest.mark.parametrize(
    ("case", "changes", "named"),
    [
        ("llama", {"model_type": "gemma3"}, "model_type is 'gemma3', supported: llama, "),
        ("llama", {"model_type": "qwen3_moe"}, "model_type is 'qwen3_moe', supported: llama, "),
        (
            "llama",
            {"rope_scaling": {"type": "yarn", "factor": 4.0}},
            "supported rope_type: default, linear, ",
        ),
        ("llama, rope llama3", {"rope_scaling": {**LLAMA3, "low_freq_factor": 4.0}}, "4.0 is not below"),
        ("llama", {"is_causal": False}, "is_causal is False"),
        ("llama", {"layer_types": ["sliding_attention"] * 4}, "expected 4 times full_attention"),
        ("gemma", {"layer_types": ["full_attention"] * 3}, "expected 4 times full_attention"),
        ("mistral, window", {"hidden_act": "gelu"}, "hidden_act is 'gelu', supported: 'silu'"),
        ("mistral, window", {"layer_types": ["full_attention"] * 4}, "layer_types is ['full_attention'"),
        ("mistral, window", {"sliding_window": 0}, "sliding_window is 0"),
        ("mistral, window", {"num_key_value_heads": None}, "lacks num_key_value_heads"),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": "all"}, "max_window_layers is 'all'"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 4}, "there is no sliding_window"),
        ("qwen3", {"layer_types": ["chunked_attention"] * 4}, "layer_types is ['chunked_attention'"),
        ("qwen3", {"layer_types": ["full_attention"] * 3}, "expected 4 times sliding_attention or full"),
        ("qwen3", {"attention_bias": True}, "attention_bias is True"),
        ("qwen3", {"head_dim": None}, "lacks head_dim"),
        ("gemma", {"hidden_act": "relu"}, "hidden_act is 'relu', supported: 'gelu_pytorch_tanh', 'gelu'"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ("gemma2", {"hidden_activation": "gelu"}, "hidden_activation is 'gelu'"),
        ("gemma2", {"final_logit_softcapping": -1.0}, "logit_softcap is -1.0"),
        ("gemma2", {"query_pre_attn_scalar": None}, "lacks query_pre_attn_scalar"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0, supported: None"),
        (
            "gemma3_text",
            {"rope_scaling": {"type": "linear", "factor": 8.0}},
            "rope_scaling is {'type': 'linear', 'factor': 8.0}, expected its kind under rope_type",
        ),
        ("gemma3_text", {"sliding_window_pattern": 0}, "sliding_window_pattern is 0"),
        ("gemma3_text", {"rope_parameters": {"rope_type": "default"}}, "expected an object for sliding"),
        (
            "gemma3_text",
            {"rope_parameters": {"sliding_attention": LINEAR}},
            "sliding_attention is {'rope_type': 'linear', 'factor': 3.0}, supported: plain ones",
        ),
        (
            "gemma3_text",
            {"rope_parameters": {"sliding_attention": {"partial_rotary_factor": 0.5}}},
            "sliding_attention is {'partial_rotary_factor': 0.5}, supported: plain ones",
        ),
        ("gemma3_text", {"quantization_config": {"bits": 8}}, "quantization_config"),
    ],
)
def test_what_is_not_computed_is_refused(case: str, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError) as error:
        config_from_hf({**hf_config(case), **changes}, "folder/config.json")
    assert named in str(error.value)
    assert str(error.value).startswith("folder/config.json: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("case", "changes", "named"),
    [
        ("llama", {"sliding_window": 5}, "sliding_window is 5, supported: None|sliding_window is 5"),
        ("llama", {"family": "bert"}, "family is 'bert', supported: llama"),
        ("qwen2", {"qkv_bias": False}, "qkv_bias is False"),
        ("gemma", {"logit_softcap": 3.0}, "logit_softcap is 3.0"),
        ("gemma2", {"query_scalar": None}, "query_pre_attn_scalar"),
        ("mistral, window", {"window_pattern": (True, False)}, "window_pattern is \\(True, False\\)"),
    ],
)
def test_a_model_that_its_family_cannot_describe_is_not_saved(
    case: str, changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    model = Transformer(replace(config_from_hf(hf_config(case), "here"), **changes))
    with pytest.raises(ValueError, match=named) as error:
        save_model(model, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
