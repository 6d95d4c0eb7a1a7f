"""tokenizer.py: texts that come back unchanged, ids that begin and end a sequence, files that do not fit."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from mathref import evaluator
from mathref.batches import encode_example
from mathref.model import ModelConfig
from mathref.prompts import VERDICTS, completion, evaluator_prompt, generator_prompt
from mathref.tokenizer import (
    SentencePieceTokenizer,
    check_fits,
    encode_continuation,
    load_tokenizer,
    train_sentencepiece,
)

CORPUS = [
    "Tom has 12 apples and buys 345 more. How many apples has he now?\n12 + 345 = 357. # Answer\n\n357",
    "Simplify $\\frac{6}{8}$.\nWe have $\\frac{6}{8} = \\frac{3}{4}$, so it is $\\boxed{\\frac{3}{4}}$.",
    "The train runs 60 miles in 1 hour, so 60 * 2.5 = 150 miles.",
]
# What solutions hold, and what spoils tokenizers: digits, LaTeX, runs of blanks, line ends, other scripts.
TEXTS = [
    "",
    " ",
    "0123456789 3.14 1,000,000 -7 50%",
    "$\\dfrac{\\sqrt{2}}{3} \\leq \\left(x^{2}\\right)$",
    " leading, trailing ",
    "a  b   c\t\td",
    "one\n\ntwo\n \n\r\nthree\n",
    "naïve — 你好 é e\u0301 𝜋 🙂",
    "\u00a0\u200b\ufeff",
    "</s> <s> <unk> <0x41>",
]
SPECIAL = ["<|begin|>", "<|end|>", "<|im_end|>"]


@pytest.fixture(scope="module")
def pieces() -> SentencePieceTokenizer:
    return train_sentencepiece(CORPUS * 20, 340)


@pytest.fixture(scope="module")
def json_content() -> str:
    """A byte-level BPE with digits split, as of SmolLM2; it adds nothing to a text by itself."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 20, trainer)
    return tokenizer.to_str()


@pytest.fixture
def json_folder(json_content: str, tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with tokenizer.json and JSON files beside it: json_folder(generation_config={...})."""

    def make(*, dressed: bool = False, **files: Any) -> Path:
        tokenizer = tokenizers.Tokenizer.from_str(json_content)
        if dressed:  # as Llama 3 does it: the tokenizer itself puts BOS in front
            tokenizer.post_processor = processors.TemplateProcessing(
                single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
            )
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        for name, value in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(value))
        return tmp_path

    return make


# ---- texts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_texts_come_back(text: str, pieces: SentencePieceTokenizer, json_folder: Callable[..., Path]) -> None:
    ours = load_tokenizer(json_folder(tokenizer_config={"eos_token": "<|end|>"}))
    assert pieces.decode(pieces.encode(text)) == text
    assert ours.decode(ours.encode(text)) == text


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"), max_size=40))
def test_any_text_comes_back_from_pieces(pieces: SentencePieceTokenizer, text: str) -> None:
    """Apart from U+2581, which is how sentencepiece itself writes a space."""
    ids = pieces.encode(text)
    assert pieces.decode(ids) == text
    assert all(0 <= i < pieces.vocab_size for i in ids)


def test_halves_of_surrogate_pairs_are_joined_or_replaced(
    pieces: SentencePieceTokenizer, json_folder: Callable[..., Path]
) -> None:
    """Both packages raised a TypeError or RuntimeError of their own for a text that JSON may hold."""
    ours = load_tokenizer(json_folder(tokenizer_config={"eos_token": "<|end|>"}))
    for tokenizer in (pieces, ours):
        assert tokenizer.decode(tokenizer.encode("7\ud835\udf0b8")) == "7\U0001d70b8"
        assert tokenizer.decode(tokenizer.encode("7\ud8358")) == "7\ufffd8"


def test_every_digit_and_newline_is_a_token_of_its_own(pieces: SentencePieceTokenizer) -> None:
    assert [pieces.decode([i]) for i in pieces.encode("2026\n\n7")] == ["2", "0", "2", "6", "\n", "\n", "7"]


def test_words_of_the_corpus_are_merged(pieces: SentencePieceTokenizer) -> None:
    """A tokenizer that fell back to characters would pass all round trips."""
    assert len(pieces.encode("apples")) <= 3


def test_control_tokens_cannot_be_written_and_are_not_shown(pieces: SentencePieceTokenizer) -> None:
    assert (pieces.bos_id, pieces.eos_ids) == (1, (2,))
    assert not {1, 2} & set(pieces.encode("<s>7</s>"))
    assert pieces.decode([1, *pieces.encode("7"), 2]) == "7"


def test_training_is_reproducible(pieces: SentencePieceTokenizer, tmp_path: Path) -> None:
    pieces.save(tmp_path)
    again = train_sentencepiece(CORPUS * 20, 340)
    (tmp_path / "again").mkdir()
    again.save(tmp_path / "again")
    assert (tmp_path / "tokenizer.model").read_bytes() == (tmp_path / "again/tokenizer.model").read_bytes()


def test_too_few_lines_for_the_vocabulary_is_one_line() -> None:
    with pytest.raises(ValueError, match="5000 pieces") as error:
        train_sentencepiece(["1 + 1 = 2"], 5000)
    assert "\n" not in str(error.value)


def test_added_tokens_are_recognised_and_dropped(json_folder: Callable[..., Path]) -> None:
    ours = load_tokenizer(json_folder(tokenizer_config={"eos_token": "<|end|>"}))
    assert ours.encode("7<|im_end|>")[-1] == 2
    assert ours.decode(ours.encode("7<|im_end|>")) == "7"


def test_added_tokens_without_a_row_are_text(json_folder: Callable[..., Path]) -> None:
    """Gemma 3 1B lists a token of images that its text model has no embedding for: it was refused."""
    folder = json_folder(tokenizer_config={"eos_token": "<|end|>"})
    whole = load_tokenizer(folder)
    file = folder / "tokenizer.json"
    values = json.loads(file.read_text())
    image = values["added_tokens"][0] | {"id": whole.vocab_size, "content": "<image>"}
    file.write_text(json.dumps(values | {"added_tokens": [*values["added_tokens"], image]}))
    assert load_tokenizer(folder).encode("7<image>")[-1] == whole.vocab_size  # no model beside it
    (folder / "config.json").write_text(json.dumps({"vocab_size": whole.vocab_size}))
    ours = load_tokenizer(folder)
    assert ours.vocab_size == whole.vocab_size and ours.encode("7<image>") == whole.encode("7<image>")
    ours.save(folder)
    assert "<image>" in file.read_text()  # other programs get the file as it was
    # EOS without a row: these two do not belong together, which check_fits says.
    (folder / "config.json").write_text(json.dumps({"vocab_size": 1}))
    assert load_tokenizer(folder).eos_ids == ours.eos_ids


def test_tokens_added_to_pieces_without_a_row_are_text(
    pieces: SentencePieceTokenizer, tmp_path: Path
) -> None:
    pieces.save(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[PAD]": 340, "<image>": 341}))
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 341}))
    ours = load_tokenizer(tmp_path)
    assert ours.vocab_size == 341 and ours.encode("[PAD]") == [340] and "<image>" not in ours.added


def test_a_piece_of_the_model_can_end_a_text(pieces: SentencePieceTokenizer, tmp_path: Path) -> None:
    """Only an added token could: with "<|im_end|>" among the model's own pieces no chat ended."""
    plus = pieces.encode("+")[-1]
    pieces.save(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    settings = {"eos_token": pieces.processor.id_to_piece(plus)}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_tokenizer(tmp_path).eos_ids == (plus,)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("newer", [False, True])
def test_tokens_added_to_pieces_are_recognised(
    newer: bool, legacy: bool, pieces: SentencePieceTokenizer, tmp_path: Path
) -> None:
    """They were four pieces of text each, and what a model wrote of them was dropped, special or not."""
    pieces.save(tmp_path)
    config: dict[str, Any] = {"pad_token": "[PAD]", "eos_token": {"content": "<|end|>"}, "legacy": legacy}
    texts = {"[PAD]": 340, "<|end|>": 341, "<|end|>x": 342}
    if newer:
        listed = {str(id): {"content": text, "special": id < 342} for text, id in texts.items()}
        listed["2"] = {"content": "</s>", "special": True}  # the model's own: no other than before
        config["added_tokens_decoder"] = listed
    else:
        (tmp_path / "added_tokens.json").write_text(json.dumps(texts))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").unlink()
    for ours in (load_tokenizer(tmp_path), _saved_again(load_tokenizer(tmp_path), tmp_path / "again")):
        assert (ours.vocab_size, ours.eos_ids) == (343, (341,))
        seven, end = pieces.encode("7"), pieces.encode(" +")
        assert ours.encode("7<|end|> +[PAD]") == [*seven, 341, *end, 340]
        assert ours.encode("<|end|>x7</s>") == [342, *pieces.encode("7</s>")]
        assert ours.decode([1, *seven, 341, *end, 340, 2, 342, *seven]) == "7 +<|end|>x7"
        assert ours.encode("7 + 8") == pieces.encode("7 + 8")


def _saved_again(tokenizer: Any, folder: Path) -> Any:
    folder.mkdir()
    tokenizer.save(folder)
    return load_tokenizer(folder)


def test_a_stored_dropout_does_not_draw_ids(json_folder: Callable[..., Path]) -> None:
    """With BPE dropout a text had other ids at every call: nothing that was seeded repeated."""
    folder = json_folder(tokenizer_config={"eos_token": "<|end|>"})
    plain = load_tokenizer(folder).encode(CORPUS[0])
    values = json.loads((folder / "tokenizer.json").read_text())
    values["model"]["dropout"] = 0.5
    (folder / "tokenizer.json").write_text(json.dumps(values))
    ours = load_tokenizer(folder)
    assert all(ours.encode(CORPUS[0]) == plain for _ in range(20))


def test_a_stored_length_does_not_cut_texts(json_folder: Callable[..., Path]) -> None:
    folder = json_folder(tokenizer_config={"eos_token": "<|end|>"})
    limited = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    limited.enable_truncation(4)
    limited.enable_padding(length=4)
    limited.save(str(folder / "tokenizer.json"))
    ours = load_tokenizer(folder)
    assert len(ours.encode("123456789")) == 9
    assert len(ours.encode("1")) == 1


# ---- where sequences begin and end -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"generation_config": {"eos_token_id": [2, 1]}}, (2, 1)),
        ({"generation_config": {"eos_token_id": 2}, "config": {"eos_token_id": [1, 2]}}, (2, 1)),
        ({"config": {"eos_token_id": 1}}, (1,)),
        ({"generation_config": {"eos_token_id": 0}, "tokenizer_config": {"eos_token": "<|im_end|>"}}, (0, 2)),
        ({"tokenizer_config": {"eos_token": {"content": "<|end|>", "lstrip": False}}}, (1,)),
        ({"generation_config": {"eos_token_id": None}, "tokenizer_config": {"eos_token": "<|end|>"}}, (1,)),
    ],
    ids=["list", "generation-first", "config-only", "own-too", "object", "null"],
)
def test_every_named_eos_counts(
    files: dict[str, Any], expected: tuple[int, ...], json_folder: Callable[..., Path]
) -> None:
    """USERS.md 3.2: of several EOS ids in generation_config.json only one was honoured."""
    assert load_tokenizer(json_folder(**files)).eos_ids == expected


def test_every_named_eos_counts_for_pieces_too(pieces: SentencePieceTokenizer, tmp_path: Path) -> None:
    pieces.save(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [9, 2]}')
    assert load_tokenizer(tmp_path).eos_ids == (9, 2)


@pytest.mark.parametrize(
    ("dressed", "config", "expected"),
    [
        (False, {"bos_token": "<|begin|>"}, None),  # named and not used: SmolLM2, Qwen
        (False, {"bos_token": "<|begin|>", "add_bos_token": True}, 0),
        (False, {"bos_token": None}, None),
        (True, {}, 0),  # Llama 3
        (True, {"bos_token": "<|begin|>", "add_bos_token": False}, None),
    ],
)
def test_bos_is_what_starts_a_sequence(
    dressed: bool, config: dict[str, Any], expected: int | None, json_folder: Callable[..., Path]
) -> None:
    """A BOS that is named and never used was placed before every prompt."""
    folder = json_folder(dressed=dressed, tokenizer_config={"eos_token": "<|end|>", **config})
    ours = load_tokenizer(folder)
    assert ours.bos_id == expected
    assert ours.encode("7") == load_tokenizer(folder / "tokenizer.json").encode("7")
    assert len(ours.encode("7")) == 1  # encode itself adds nothing, dressed or not


@pytest.mark.parametrize("named", [None, {"bos_token": "<|begin|>"}])
def test_a_bos_that_another_file_or_the_tokenizer_itself_names_starts_a_sequence(
    named: dict[str, str] | None, json_folder: Callable[..., Path]
) -> None:
    """add_bos_token was true, and no sequence got one."""
    folder = json_folder(dressed=True, tokenizer_config={"eos_token": "<|end|>", "add_bos_token": True})
    if named:
        (folder / "special_tokens_map.json").write_text(json.dumps(named))
    assert load_tokenizer(folder).bos_id == 0


# ---- saving ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pieces", "json"])
def test_a_saved_tokenizer_loads_as_it_was(
    kind: str, pieces: SentencePieceTokenizer, json_folder: Callable[..., Path], tmp_path: Path
) -> None:
    """EOS ids that only config.json named were lost, since a saved model gets a config.json of its own."""
    config = {"eos_token_id": [2, 1]}
    companions = {
        "tokenizer_config": {"bos_token": "<|begin|>", "add_bos_token": True, "chat_template": "{{ x }}"},
        "generation_config": {"temperature": 0.6},
    }
    source = json_folder(config=config, **companions)
    if kind == "pieces":
        (source / "tokenizer.json").unlink()
        (source / "tokenizer.model").write_bytes(pieces.processor.serialized_model_proto())
        (source / "generation_config.json").write_text('{"temperature": 0.6}')
    (source / "chat_template.jinja").write_text("{{ y }}")
    before = load_tokenizer(source)
    out = tmp_path / "out"
    out.mkdir()
    for file in source.glob("*.*"):
        file.unlink()  # the source may be gone by the end of a training
    before.save(out)
    after = load_tokenizer(out)
    assert (after.bos_id, after.eos_ids, after.vocab_size) == (before.bos_id, (2, 1), before.vocab_size)
    assert after.encode(CORPUS[1]) == before.encode(CORPUS[1])
    assert json.loads((out / "tokenizer_config.json").read_text())["chat_template"] == "{{ x }}"
    assert (out / "chat_template.jinja").read_text() == "{{ y }}"
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation == {"temperature": 0.6, "eos_token_id": [2, 1], "bos_token_id": before.bos_id}
    after.save(out)  # onto itself
    assert load_tokenizer(out).eos_ids == (2, 1)


def test_save_into_no_folder_is_one_line(pieces: SentencePieceTokenizer, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        pieces.save(tmp_path / "absent")


# ---- what does not fit -------------------------------------------------------------------------------


def test_json_is_preferred_and_a_file_can_be_named(
    pieces: SentencePieceTokenizer, json_folder: Callable[..., Path]
) -> None:
    folder = json_folder(tokenizer_config={"eos_token": "<|end|>"})
    (folder / "tokenizer.model").write_bytes(pieces.processor.serialized_model_proto())
    assert load_tokenizer(folder).eos_ids == (1,)
    assert load_tokenizer(str(folder / "tokenizer.model")).eos_ids == (2,)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("tokenizer.model", b"not a protobuf", "not a sentencepiece model"),
        ("tokenizer.model", b"", "not a sentencepiece model"),
        ("tokenizer.json", b"{", "not a tokenizer.json"),
        ("tokenizer.json", b"[]", "not a tokenizer.json"),
        ("tokenizer.json", b'{"version": "1.0", "model": {"type": "Abacus"}}', "not a tokenizer.json"),
    ],
)
def test_a_broken_file_is_named(name: str, content: bytes, named: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=named) as error:
        load_tokenizer(tmp_path)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("added_tokens.json", {"[PAD]": "340"}),
        ("added_tokens.json", {"": 340}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "[PAD]"}}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"340": {"text": "[PAD]"}}}),
    ],
)
def test_unusable_added_tokens_are_named(
    name: str, value: dict, pieces: SentencePieceTokenizer, tmp_path: Path
) -> None:
    pieces.save(tmp_path)
    (tmp_path / name).write_text(json.dumps(value))
    with pytest.raises(ValueError, match="is added; expected texts and token ids") as error:
        load_tokenizer(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_truncated_model_is_named(pieces: SentencePieceTokenizer, tmp_path: Path) -> None:
    pieces.save(tmp_path)
    file = tmp_path / "tokenizer.model"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ValueError, match="tokenizer.model: not a sentencepiece model"):
        load_tokenizer(tmp_path)


def test_no_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected tokenizer\.json or tokenizer\.model"):
        load_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        load_tokenizer(tmp_path / "absent")


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({}, "no end-of-sequence token"),
        ({"tokenizer_config": {"eos_token": "<|absent|>"}}, "no end-of-sequence token"),
        ({"generation_config": {"eos_token_id": "2"}}, "generation_config.json: eos_token_id holds '2'"),
        ({"generation_config": {"eos_token_id": [-1]}}, "eos_token_id holds -1"),
        ({"config": {"eos_token_id": [True]}}, "config.json: eos_token_id holds True"),
        ({"tokenizer_config": [1]}, "tokenizer_config.json: expected a JSON object, found list"),
    ],
)
def test_unusable_settings_are_named(
    files: dict[str, Any], named: str, json_folder: Callable[..., Path]
) -> None:
    with pytest.raises(ValueError, match=named) as error:
        load_tokenizer(json_folder(**files))
    assert "\n" not in str(error.value)


def _with_blank_in_front(kind: str, folder: Path) -> Path:
    """A tokenizer of Llama 2's kind: whatever it is given gets a blank in front."""
    texts = [f"{text}\nThe above candidate solution is correct, incorrect." for text in CORPUS] * 20
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"})
    )
    if kind == "pieces":
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=420,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            num_threads=1,
            minloglevel=2,
        )
        (folder / "tokenizer.model").write_bytes(model.getvalue())
        return folder
    tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>"]
    words = [f" {word}" for text in texts for word in text.split()]  # merges within words, as Llama's are
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("kind", ["pieces", "json"])
def test_what_continues_a_prompt_is_encoded_as_within_one_text(kind: str, tmp_path: Path) -> None:
    """Prompt and completion are encoded apart, and tokenizers of Llama 2's kind put a blank in front of both:
    training saw "Solution:  The", with a second blank, and " correct" was a blank and a word.
    """
    folder = _with_blank_in_front(kind, tmp_path)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.blank_in_front
    problem, solution = "How many apples has he now?", "The train runs 60 miles.\n12 + 345 = 357."
    prompt, text = generator_prompt(problem), completion(solution)
    start = [tokenizer.bos_id] if tokenizer.bos_id is not None else []
    example = encode_example(tokenizer, problem, solution)
    assert example.ids == start + tokenizer.encode(prompt + text) + [tokenizer.eos_ids[0]]
    assert tokenizer.encode(text) != encode_continuation(tokenizer, text)
    template = evaluator.encode_problem(tokenizer, problem) + evaluator.encode_candidate(tokenizer, solution)
    for word, ids in zip(VERDICTS, evaluator.verdict_words(tokenizer), strict=True):
        whole = tokenizer.encode(evaluator_prompt(problem, solution) + word)
        assert [*template, *ids] == start + whole


def test_where_no_blank_is_put_in_front_a_continuation_is_encoded_as_it_is(
    pieces: SentencePieceTokenizer, json_folder: Callable[..., Path]
) -> None:
    for tokenizer in (pieces, load_tokenizer(json_folder(generation_config={"eos_token_id": 1}))):
        assert not tokenizer.blank_in_front
        for text in TEXTS:
            assert encode_continuation(tokenizer, f" {text}") == tokenizer.encode(f" {text}")


def test_a_tokenizer_larger_than_the_model_is_refused(pieces: SentencePieceTokenizer, tmp_path: Path) -> None:
    def config(vocab_size: int) -> ModelConfig:
        return ModelConfig(vocab_size, 1, 1, 1, 2, 2, 2, 8)

    check_fits(pieces, config(340))
    with pytest.raises(ValueError, match="ids up to 339, but the vocabulary of the model ends at 338"):
        check_fits(pieces, config(339))
    pieces.save(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 400}')
    with pytest.raises(ValueError, match="ids up to 400"):
        check_fits(load_tokenizer(tmp_path), config(340))
