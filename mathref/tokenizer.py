"""Text to token ids and back: sentencepiece models and tokenizer.json behind one small interface.

Paper: section 4 (end-of-sequence is part of X, so its id has to be right).
Choices [P]: `encode` never adds special tokens, the caller places BOS and EOS by id; what continues a prompt
gets no blank that it would not have within one text (`encode_continuation`). All EOS ids that a
checkpoint names are honoured (generation_config.json, config.json, then the tokenizer's own), and training
appends the first. Whether a sequence starts with BOS is what add_bos_token of tokenizer_config.json says, and
without it what the tokenizer itself would do. In text for a sentencepiece model, "</s>" is four characters
and not the control token; a tokenizer.json decides for itself. Tokens that were added to either, such as
"<|im_end|>", are recognised in text, but for those beyond the embedding of the model beside them: several
checkpoints list tokens that their text model does not have (Gemma 3 1B's images). A sentencepiece model that
came without tokenizer_config.json is saved with one, so that other programs see the same ids.
"""

from __future__ import annotations

import io
import json
import re
import sys
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mathref.architectures import refuse_code
from mathref.config import ModelConfig
from mathref.files import atomic_write, checkpoint_file, read_json, refuse_pointer
from mathref.lora import adapter_base

if TYPE_CHECKING:
    import sentencepiece
    import tokenizers

SENTENCEPIECE, TOKENIZER_JSON, GENERATION = "tokenizer.model", "tokenizer.json", "generation_config.json"
# Files that tell other tools which class and which special tokens belong to a checkpoint.
COMPANIONS = ("tokenizer_config.json", "special_tokens_map.json", GENERATION, "added_tokens.json")
TEMPLATE = "chat_template.jinja"  # which goes with a checkpoint, and is not used here
# Behind a sentencepiece model these bytes set normalizer_spec.add_dummy_prefix to false: of messages of this
# format that follow each other, the later one prevails.
NO_BLANK_IN_FRONT = b"\x1a\x02\x18\x00"


class Tokenizer(Protocol):
    """What the rest of mathref asks of a tokenizer."""

    blank_in_front: bool  # whether a text gets a blank that is not in it (`encode_continuation`)
    bos_id: int | None  # None: sequences start without a special token
    eos_ids: tuple[int, ...]  # any of them ends a completion; the first is the one that training appends
    vocab_size: int  # ids of text are below this

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of the text, no special token added."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids; special tokens have none."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the tokenizer's files into a checkpoint folder."""


ANCHOR = ":"  # what no tokenizer joins with a blank behind it


def encode_continuation(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text that begins with a blank and stands behind another text, as both would be encoded in one.

    Tokenizers of Llama 1 and 2 and of Mistral put a blank in front of whatever they are given: of what goes
    on behind a prompt that would be a second one, which no text that they are used to has.
    """
    if getattr(tokenizer, "blank_in_front", False):  # a tokenizer of yours need not say it
        anchor, both = tokenizer.encode(ANCHOR), tokenizer.encode(ANCHOR + text)
        if both[: len(anchor)] == anchor:
            return both[len(anchor) :]
    return tokenizer.encode(text)


def _puts_blank_in_front(tokenizer: Tokenizer) -> bool:
    return tokenizer.encode(f"{ANCHOR} a")[len(tokenizer.encode(ANCHOR)) :] != tokenizer.encode(" a")


def _valid(text: str) -> str:
    """The text, with halves of surrogate pairs (JSON can hold those) joined or replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class AddedToken(NamedTuple):
    """A token that stands beside the pieces of a sentencepiece model."""

    id: int
    special: bool
    pattern: str  # of the token in a text, with the white space that it takes up

    @classmethod
    def of(cls, text: str, id: int, special: bool, flags: dict[str, Any]) -> AddedToken:
        """With the `flags` lstrip, rstrip and single_word of a tokenizer_config.json."""
        bound = (r"(?<!\w)", r"(?!\w)") if flags.get("single_word") else ("", "")
        left, right = (r"\s*" if flags.get(side) else "" for side in ("lstrip", "rstrip"))
        return cls(id, special, f"{left}{bound[0]}{re.escape(text)}{bound[1]}{right}")


class SentencePieceTokenizer:
    """A sentencepiece model (.model): Llama 1 and 2, Mistral, Gemma, and the shipped bases."""

    def __init__(self, model: bytes, source: Path | None = None) -> None:
        import sentencepiece

        if not model:  # the package takes an empty model for none at all
            raise ValueError(f"{source}: not a sentencepiece model (the file is empty)")
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, ValueError) as error:
            refuse_pointer(source or Path(SENTENCEPIECE), model)
            raise ValueError(f"{source}: not a sentencepiece model ({_first_line(error)})") from None
        settings = {} if source is None else _settings(source.parent)
        bare = model + NO_BLANK_IN_FRONT
        if not _setting(settings, "add_prefix_space", True):
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=bare)
        known = _listed_tokens(settings, source)
        pieces = {text for text, token in known.items() if _is_piece(self.processor, text, token.id)}
        rows, kept = _rows(settings), _start_and_end(settings)
        self.added = {
            text: token
            for text, token in known.items()
            if text not in pieces and (token.id < rows or text in kept)
        }
        self.shown = {token.id: "" if token.special else text for text, token in self.added.items()}
        specials = _special_texts(settings) | {text for text, token in known.items() if token.special}
        for text in specials:  # those that are pieces of the model themselves
            id = self.processor.piece_to_id(text)
            if _is_piece(self.processor, text, id) and not self.processor.is_control(id):
                self.shown[id] = ""
        self._ordered = sorted(self.added, key=len, reverse=True)  # of two that begin alike, the longer one
        self._splitter = re.compile("|".join(f"({self.added[text].pattern})" for text in self._ordered))
        # A text may get a blank in front; what follows an added token in it gets one with "legacy" only.
        self._inner = self.processor
        if self.shown and not _setting(settings, "legacy", False):
            self._inner = sentencepiece.SentencePieceProcessor(model_proto=bare)
        bos, eos = (
            self._id_of(_special_text(settings, f"{name}_token"), own)
            for name, own in (("bos", self.processor.bos_id()), ("eos", self.processor.eos_id()))
        )
        starts = _setting(settings, "add_bos_token", True)
        self.vocab_size = max(self.processor.vocab_size(), *(t.id + 1 for t in self.added.values()), 0)
        self.bos_id = bos if bos >= 0 and starts else None
        self.eos_ids = _all_eos_ids(settings, eos if eos >= 0 else None, source)
        described = {"tokenizer_config.json": _description(self, settings), **_companions(source)}
        self._files = {SENTENCEPIECE: model, **described}
        self.blank_in_front = _puts_blank_in_front(self)

    def encode(self, text: str) -> list[int]:
        text = _valid(text)
        if not self.added:
            return self.processor.encode(text)
        ids: list[int] = []
        start, processor = 0, self.processor
        for match in self._splitter.finditer(text):
            ids += processor.encode(text[start : match.start()]) if match.start() > start else []
            assert match.lastindex is not None  # every alternative is a group
            ids.append(self.added[self._ordered[match.lastindex - 1]].id)
            start, processor = match.end(), self._inner
        return ids + (processor.encode(text[start:]) if start < len(text) else [])

    def _id_of(self, text: str | None, own: int) -> int:
        """Id of a special token by its text; `own`, that of the model, for no text and an unknown one."""
        if text in self.added:
            return self.added[text].id
        piece = self.processor.piece_to_id(text or "")  # of an unknown text: that of the unknown piece
        return piece if _is_piece(self.processor, text, piece) else own

    def decode(self, ids: Sequence[int]) -> str:
        n_pieces = self.processor.vocab_size()
        text, run, processor = "", [], self.processor
        for id in ids:
            if id in self.shown:
                text += processor.decode(run) + self.shown[id]
                run, processor = [], self._inner
            elif id < n_pieces and not self.processor.is_control(id):
                run.append(id)
        return text + processor.decode(run)

    def save(self, folder: Path) -> None:
        _write(self._files, folder, self.bos_id, self.eos_ids)


def _is_piece(processor: sentencepiece.SentencePieceProcessor, text: str | None, id: int) -> bool:
    return 0 <= id < processor.vocab_size() and processor.id_to_piece(id) == text


def _special_texts(settings: dict[str, dict[str, Any]]) -> set[str]:
    """Texts of all tokens that the files beside a tokenizer name as special."""
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    found = {_special_text(settings, name) for name in names}
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        more = settings.get(file, {}).get("additional_special_tokens")
        found |= {_token_text(value) for value in (more if isinstance(more, list) else [])}
    return {text for text in found if text}


def _listed_tokens(settings: dict[str, dict[str, Any]], source: Path | None) -> dict[str, AddedToken]:
    """Text -> token of all that the files beside a sentencepiece model list.

    Newer files list them in tokenizer_config.json, with the model's own tokens among them; older ones in
    added_tokens.json, which does not say which are special.
    """
    specials = _special_texts(settings)
    found: dict[Any, tuple[Any, bool, dict[str, Any]]] = {
        text: (id, text in specials, {}) for text, id in settings.get("added_tokens.json", {}).items()
    }
    listed = settings.get("tokenizer_config.json", {}).get("added_tokens_decoder")
    for id, value in listed.items() if isinstance(listed, dict) else ():
        flags = value if isinstance(value, dict) else {}
        found[_token_text(value)] = (int(id) if id.isdecimal() else id, flags.get("special") is True, flags)
    for text, (id, *_) in found.items():
        if not isinstance(id, int) or isinstance(id, bool) or id < 0 or not text:
            raise ValueError(
                f"{source}: beside it, a token {text!r} with id {id!r} is added; expected texts and token ids"
            )
    return {text: AddedToken.of(text, *rest) for text, rest in found.items()}


def _description(tokenizer: SentencePieceTokenizer, settings: dict[str, dict[str, Any]]) -> bytes:
    """A tokenizer_config.json with which transformers, and vLLM through it, give the ids of a bare model.

    Without one they start no sequence with BOS and put a blank in front of a text, or not, by the family's
    habit instead of the model's. Every family of mathref that has a sentencepiece model has a BPE one, which
    LlamaTokenizer reads.
    """
    processor = tokenizer.processor
    named = {"bos": processor.bos_id(), "eos": processor.eos_id(), "unk": processor.unk_id()}
    tokens = {
        f"{name}_token": _special_text(settings, f"{name}_token")
        or (processor.id_to_piece(id) if id >= 0 else None)
        for name, id in named.items()
    }
    config = {
        "tokenizer_class": "LlamaTokenizer",
        **tokens,
        "add_bos_token": tokenizer.bos_id is not None,
        "add_eos_token": False,
        "add_prefix_space": processor.id_to_piece(processor.encode("a")[0]).startswith("\u2581"),
        "legacy": False,
        "clean_up_tokenization_spaces": False,
        # "</s>" in a text is four characters; a token that was added, special or not, is recognised.
        "split_special_tokens": not tokenizer.added,
    }
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()


class JsonTokenizer:
    """A tokenizer.json of package tokenizers: byte-level BPE of Llama 3, Qwen, SmolLM2 and many others."""

    def __init__(self, source: Path) -> None:
        try:
            import tokenizers
        except ModuleNotFoundError:
            raise ModuleNotFoundError(f"{source} needs package tokenizers: pip install tokenizers") from None
        content = source.read_bytes()
        try:
            self.tokenizer = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # the package raises bare Exception for every kind of broken file
            refuse_pointer(source, content)
            raise ValueError(f"{source}: not a tokenizer.json ({_first_line(error)})") from None
        settings = _settings(source.parent)
        added, rows, kept = (
            self.tokenizer.get_added_tokens_decoder(),
            _rows(settings),
            _start_and_end(settings),
        )
        if beyond := {t.content for id, t in added.items() if id >= rows and t.content not in kept}:
            values = json.loads(content)
            values["added_tokens"] = [t for t in values["added_tokens"] if t["content"] not in beyond]
            self.tokenizer = tokenizers.Tokenizer.from_str(json.dumps(values))
        if getattr(self.tokenizer.model, "dropout", None):
            self.tokenizer.model.dropout = None  # with it, a text would have other ids each time
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()  # a length stored in the file would silently cut texts
        self.vocab_size = max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.bos_id = _starting_token(self.tokenizer, settings)
        eos = _special_text(settings, "eos_token")
        self.eos_ids = _all_eos_ids(
            settings, None if eos is None else self.tokenizer.token_to_id(eos), source
        )
        self._files = {TOKENIZER_JSON: content, **_companions(source)}
        self.blank_in_front = _puts_blank_in_front(self)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(_valid(text), add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode([i for i in ids if i < self.vocab_size], skip_special_tokens=True)

    def save(self, folder: Path) -> None:
        _write(self._files, folder, self.bos_id, self.eos_ids)


def _starting_token(tokenizer: tokenizers.Tokenizer, settings: dict[str, dict[str, Any]]) -> int | None:
    """Id of the token that a sequence starts with.

    A BOS may be named and never used (Qwen, SmolLM2), so the name alone does not decide: without
    add_bos_token it is what stands before a text that the tokenizer itself dresses.
    """
    starts = settings["tokenizer_config.json"].get("add_bos_token")
    bos = _special_text(settings, "bos_token")
    if starts is None or (starts and bos is None):
        dressed, plain = (tokenizer.encode("0", add_special_tokens=dress).ids for dress in (True, False))
        return dressed[0] if dressed[:1] != plain[:1] else None
    return tokenizer.token_to_id(bos) if starts and bos is not None else None


def _settings(folder: Path) -> dict[str, dict[str, Any]]:
    """The JSON files beside a tokenizer that say how it is used, {} for each that is not there."""
    settings = {}
    for name in ("config.json", *COMPANIONS):
        settings[name] = read_json(folder / name) if checkpoint_file(folder, name) else {}
        if not isinstance(settings[name], dict):
            raise ValueError(
                f"{folder / name}: expected a JSON object, found {type(settings[name]).__name__}"
            )
        refuse_code(settings[name], folder / name)
    return settings


def _setting(settings: dict[str, dict[str, Any]], key: str, default: bool) -> bool:
    value = settings.get("tokenizer_config.json", {}).get(key)
    return default if value is None else bool(value)


def _rows(settings: dict[str, dict[str, Any]]) -> int:
    """Ids that the model beside a tokenizer has an embedding for; no bound where no config.json says it."""
    rows = settings.get("config.json", {}).get("vocab_size")
    return rows if isinstance(rows, int) else sys.maxsize


def _start_and_end(settings: dict[str, dict[str, Any]]) -> set[str | None]:
    """Texts of BOS and EOS: without a row for these, tokenizer and model do not belong together."""
    return {_special_text(settings, name) for name in ("bos_token", "eos_token")}


def _all_eos_ids(
    settings: dict[str, dict[str, Any]], own: int | None, source: Path | None
) -> tuple[int, ...]:
    """Every id that any of the files names, in the order of the module's docstring; at least one."""
    ids: dict[int, None] = {}
    for name in (GENERATION, "config.json"):
        value = settings.get(name, {}).get("eos_token_id")  # a number, a list or nothing
        for id in value if isinstance(value, list) else [] if value is None else [value]:
            if not isinstance(id, int) or isinstance(id, bool) or id < 0:
                where = name if source is None else source.parent / name
                raise ValueError(f"{where}: eos_token_id holds {id!r}, expected token ids")
            ids[id] = None
    if own is not None:
        ids[own] = None
    if not ids:
        raise ValueError(
            f"{source}: no end-of-sequence token is known; name it as eos_token_id in {GENERATION}"
        )
    return tuple(ids)


def _special_text(settings: dict[str, dict[str, Any]], name: str) -> str | None:
    """Text of a special token, such as eos_token, in the newer file or the older one."""
    files = ("tokenizer_config.json", "special_tokens_map.json")
    texts = (_token_text(settings.get(file, {}).get(name)) for file in files)
    return next((text for text in texts if text is not None), None)


def _token_text(value: Any) -> str | None:
    """A special token is written as its text, or as an object that holds it."""
    value = value.get("content") if isinstance(value, dict) else value
    return _valid(value) if isinstance(value, str) else None


def _companions(source: Path | None) -> dict[str, bytes]:
    beside = [] if source is None else [source.parent / name for name in (*COMPANIONS, TEMPLATE)]
    return {file.name: file.read_bytes() for file in beside if file.is_file()}


def _write(files: dict[str, bytes], folder: Path, bos_id: int | None, eos_ids: tuple[int, ...]) -> None:
    """Write all files; generation_config.json names the special ids, wherever they came from.

    The files were read when the tokenizer was: its folder may be gone by the end of a training.
    """
    generation = {**json.loads(files.get(GENERATION, b"{}")), "eos_token_id": list(eos_ids)}
    if len(eos_ids) == 1:
        generation["eos_token_id"] = eos_ids[0]
    if bos_id is not None:
        generation["bos_token_id"] = bos_id
    text = json.dumps(generation, indent=2, ensure_ascii=False) + "\n"
    for name, content in {**files, GENERATION: text.encode()}.items():
        with atomic_write(Path(folder) / name) as file:
            file.write(content)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def train_sentencepiece(lines: Iterable[str], vocab_size: int) -> SentencePieceTokenizer:
    """Train the kind of tokenizer that the shipped bases use: BPE, single digits, bytes for the rest.

    Nothing is normalised, so that decode(encode(text)) == text; a newline is a token of its own. Raises
    ValueError when the lines do not give that many pieces.
    """
    import sentencepiece

    model = io.BytesIO()
    try:
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
    except RuntimeError as error:
        raise ValueError(
            f"no tokenizer of {vocab_size} pieces from these lines ({_first_line(error)})"
        ) from None
    return SentencePieceTokenizer(model.getvalue())


def check_fits(tokenizer: Tokenizer, config: ModelConfig) -> None:
    """Raise ValueError when the tokenizer has ids that the model has no embedding for."""
    largest = max(tokenizer.vocab_size - 1, *tokenizer.eos_ids, tokenizer.bos_id or 0)
    if largest >= config.vocab_size:
        raise ValueError(
            f"the tokenizer has ids up to {largest}, but the vocabulary of the model ends at "
            f"{config.vocab_size - 1}: they do not belong together; take the one from the model's folder"
        )


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a checkpoint folder, or of one tokenizer.model / tokenizer.json file.

    tokenizer.json is preferred where both are there, as the more exact one. An adapter's folder has that of
    its base. Raises FileNotFoundError without a tokenizer, ValueError for one that cannot be read or has no
    end-of-sequence token.
    """
    path = Path(path)
    if (base := adapter_base(path)) is not None:
        return load_tokenizer(base)
    folder, names = (path, (TOKENIZER_JSON, SENTENCEPIECE)) if path.is_dir() else (path.parent, (path.name,))
    found = next((file for name in names if (file := checkpoint_file(folder, name))), None)
    if found is None:
        raise FileNotFoundError(f"{path}: no tokenizer, expected {TOKENIZER_JSON} or {SENTENCEPIECE}")
    if found.suffix == ".json":
        return JsonTokenizer(found)
    return SentencePieceTokenizer(found.read_bytes(), found)
