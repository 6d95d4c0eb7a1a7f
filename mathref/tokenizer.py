"""Text to token ids and back: sentencepiece models and tokenizer.json behind one small interface.

Paper: section 4 (end-of-sequence is part of X, so its id has to be right).
Choices [P]: `encode` never adds special tokens, the caller places BOS and EOS by id. All EOS ids a
checkpoint names are honoured (generation_config.json, then config.json, then the tokenizer's own). In text
for a sentencepiece model, "</s>" is five characters and not the control token; a tokenizer.json decides for
itself, and its added tokens such as "<|im_end|>" are recognised in text.
"""

from __future__ import annotations

import io
import shutil
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from mathref.files import atomic_write, read_json
from mathref.model import ModelConfig

SENTENCEPIECE, TOKENIZER_JSON = "tokenizer.model", "tokenizer.json"
# Files that tell tools which class and which special tokens belong to a checkpoint; copied along when it is
# saved.
COMPANIONS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "added_tokens.json",
)


class Tokenizer(Protocol):
    """What the rest of mathref asks of a tokenizer."""

    bos_id: int | None  # None: sequences start without a special token
    eos_ids: tuple[int, ...]  # the first is the one that training appends
    vocab_size: int  # ids are below this

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of the text, no special token added."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids; special tokens have none."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the tokenizer's files into a checkpoint folder."""


class SentencePieceTokenizer:
    """A sentencepiece model (.model): Llama 1 and 2, Mistral, Gemma, and the shipped bases."""

    def __init__(self, model: bytes, source: Path | None = None, eos_ids: Sequence[int] = ()) -> None:
        import sentencepiece

        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{source}: not a sentencepiece model ({_first_line(error)})") from None
        self._model, self._source = model, source
        self.vocab_size = self.processor.vocab_size()
        bos, eos = self.processor.bos_id(), self.processor.eos_id()
        self.bos_id = bos if bos >= 0 else None
        self.eos_ids = tuple(eos_ids) or ((eos,) if eos >= 0 else ())
        _require_eos(self.eos_ids, source)

    def encode(self, text: str) -> list[int]:
        return self.processor.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self.processor.decode(
            [i for i in ids if i < self.vocab_size and not self.processor.is_control(i)]
        )

    def save(self, folder: Path) -> None:
        with atomic_write(Path(folder) / SENTENCEPIECE) as file:
            file.write(self._model)
        _save_companions(self._source, folder)


class JsonTokenizer:
    """A tokenizer.json of package tokenizers: byte-level BPE of Llama 3, Qwen, SmolLM2 and many others."""

    def __init__(self, source: Path, bos_id: int | None, eos_ids: Sequence[int]) -> None:
        try:
            import tokenizers
        except ModuleNotFoundError:
            raise ModuleNotFoundError(f"{source} needs package tokenizers: pip install tokenizers") from None
        try:
            self.tokenizer = tokenizers.Tokenizer.from_file(str(source))
        except Exception as error:  # the package raises bare Exception for every kind of broken file
            raise ValueError(f"{source}: not a tokenizer.json ({_first_line(error)})") from None
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()  # a length stored in the file would silently cut texts
        self._source = source
        vocabulary = self.tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values()) + 1
        self.bos_id, self.eos_ids = bos_id, tuple(eos_ids)
        _require_eos(self.eos_ids, source)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode([i for i in ids if i < self.vocab_size], skip_special_tokens=True)

    def save(self, folder: Path) -> None:
        with atomic_write(Path(folder) / TOKENIZER_JSON) as file:
            file.write(self._source.read_bytes())
        _save_companions(self._source, folder)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a checkpoint folder, or of one tokenizer.model / tokenizer.json file.

    tokenizer.json is preferred where both are there, as the more exact one. Raises FileNotFoundError
    without a tokenizer, ValueError for one that cannot be read or has no end-of-sequence token.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    names = (TOKENIZER_JSON, SENTENCEPIECE) if path.is_dir() else (path.name,)
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{path}: no tokenizer, expected {TOKENIZER_JSON} or {SENTENCEPIECE}")
    settings = _settings(folder)
    eos_ids = _named_eos_ids(settings)
    if found.suffix != ".json":
        return SentencePieceTokenizer(found.read_bytes(), found, eos_ids)
    by_text = {t["content"]: t["id"] for t in read_json(found).get("added_tokens", [])}
    own_eos = by_text.get(_token_text(settings["tokenizer_config.json"].get("eos_token")))
    bos_text = _token_text(settings["tokenizer_config.json"].get("bos_token"))
    # Families without a BOS (Qwen) may still name one; add_bos_token says whether sequences start with it.
    starts = settings["tokenizer_config.json"].get("add_bos_token", True)
    return JsonTokenizer(found, by_text.get(bos_text) if starts else None, eos_ids or _some(own_eos))


def check_fits(tokenizer: Tokenizer, config: ModelConfig) -> None:
    """Raise ValueError when the tokenizer has ids that the model has no embedding for."""
    largest = max(tokenizer.vocab_size - 1, *tokenizer.eos_ids, tokenizer.bos_id or 0)
    if largest >= config.vocab_size:
        raise ValueError(
            f"the tokenizer has ids up to {largest}, but the model's vocabulary ends at {config.vocab_size - 1}: "
            "they do not belong together; take the tokenizer from the model's own folder"
        )


def train_sentencepiece(lines: Iterable[str], vocab_size: int) -> SentencePieceTokenizer:
    """Train the kind of tokenizer that the shipped bases use: BPE, single digits, bytes for what it has not
    seen.

    Nothing is normalised, so that decode(encode(text)) == text; a newline is a token of its own.
    """
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        user_defined_symbols=["\n"],
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,  # the result must not depend on the machine
        minloglevel=2,
    )
    return SentencePieceTokenizer(model.getvalue())


def _settings(folder: Path) -> dict[str, dict[str, Any]]:
    names = ("generation_config.json", "config.json", "tokenizer_config.json")
    return {name: read_json(folder / name) if (folder / name).is_file() else {} for name in names}


def _named_eos_ids(settings: dict[str, dict[str, Any]]) -> tuple[int, ...]:
    """All ids of generation_config.json and config.json, in this order; both hold a number, a list or nothing."""
    ids: dict[int, None] = {}
    for name in ("generation_config.json", "config.json"):
        value = settings[name].get("eos_token_id")
        for id in value if isinstance(value, list) else _some(value):
            if not isinstance(id, int) or id < 0:
                raise ValueError(f"{name}: eos_token_id holds {id!r}, expected token ids")
            ids[id] = None
    return tuple(ids)


def _token_text(value: Any) -> str | None:
    return value.get("content") if isinstance(value, dict) else value


def _some(value: Any) -> tuple[Any, ...]:
    return () if value is None else (value,)


def _require_eos(eos_ids: tuple[int, ...], source: Path | None) -> None:
    if not eos_ids:
        raise ValueError(
            f"{source}: no end-of-sequence token is known; name it as eos_token_id in generation_config.json"
        )


def _save_companions(source: Path | None, folder: Path) -> None:
    for name in COMPANIONS if source is not None else ():
        beside = source.parent / name
        if beside.is_file() and beside.resolve() != (Path(folder) / name).resolve():
            shutil.copyfile(beside, Path(folder) / name)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
