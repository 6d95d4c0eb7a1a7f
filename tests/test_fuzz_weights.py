"""Checkpoint folders that somebody damaged or made to do harm: each one loads, or ends in one clear line.

A mutant is one of a few very small checkpoints with one to three changes to one of its files. The default
run tries some hundreds, `pytest -m slow tests/test_fuzz_weights.py` 20,000, in processes whose memory is
limited. Its number is what a mutant's random numbers are made from, so that a failure can be repeated:

    python tests/test_fuzz_weights.py FIRST N         mutants FIRST to FIRST + N - 1
"""

from __future__ import annotations

import json
import pickle
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a program, without pytest

import sample  # noqa: E402
from mathref import lora  # noqa: E402
from mathref.config import ModelConfig  # noqa: E402
from mathref.model import Transformer  # noqa: E402
from mathref.runs import run_command  # noqa: E402
from mathref.tokenizer import check_fits, load_tokenizer, train_sentencepiece  # noqa: E402
from mathref.weights import load_model, save_model  # noqa: E402

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHAPE = {
    "n_layer": 2,
    "n_head": 2,
    "n_kv_head": 1,
    "head_dim": 4,
    "n_embd": 8,
    "n_inner": 12,
    "max_seq_len": 256,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"qkv_bias": True, "tie_embeddings": False},
    "gemma2": {
        "activation": "gelu_tanh", "norm_unit_offset": True, "scale_embedding": True, "post_norms": True,
        "sliding_window": 8, "window_pattern": (True, False), "query_scalar": 4.0, "attention_softcap": 50.0,
        "logit_softcap": 30.0,
    },
}  # fmt: skip
LIMIT_BYTES = 1 << 30  # of the memory that loading a mutant may add; a whole one has 20 kB
REFUSALS = (ValueError, FileNotFoundError)


# --- Whole checkpoints --------------------------------------------------------------------------------


def write_json_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer.json of 258 tokens, as Llama 3 and Qwen have them, without any merge."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "</s>", "bos_token": {"content": "<s>"}, "add_bos_token": True})
    )


def shard(folder: Path) -> None:
    """Spread model.safetensors over two files and an index."""
    header, data = split(folder / WEIGHTS)
    header.pop("__metadata__", None)
    names, places = sorted(header), {}
    for i in range(2):
        part, body = {}, b""
        for name in names[i::2]:
            start, end = header[name]["data_offsets"]
            part[name] = header[name] | {"data_offsets": [len(body), len(body) + end - start]}
            body += data[start:end]
            places[name] = f"model-0000{i + 1}-of-00002.safetensors"
        join(folder / f"model-0000{i + 1}-of-00002.safetensors", part, body)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": len(data)}, "weight_map": places}))
    (folder / WEIGHTS).unlink()


def make_checkpoints(place: Path) -> list[Path]:
    """Very small checkpoints: three families, both kinds of tokenizer, whole and in shards."""
    lines = ["The answer is \\boxed{12}.", "Three and four make seven, 3+4=7."] * 20
    pieces = train_sentencepiece(lines, 300)
    folders = []
    for number, (family, switches) in enumerate(FAMILIES.items()):
        torch.manual_seed(number)
        config = ModelConfig(**{"vocab_size": 304, **SHAPE, "family": family, **switches})
        for sharded in (False, True):
            folder = place / f"{family}-{'sharded' if sharded else 'whole'}"
            save_model(Transformer(config).to(torch.bfloat16 if sharded else torch.float32), folder)
            if sharded:
                shard(folder)
            if number % 2 == sharded:
                pieces.save(folder)
                (folder / "added_tokens.json").write_text(json.dumps({"<|im_end|>": 300}))
            else:
                write_json_tokenizer(folder)
            folders.append(folder)
    return folders


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    content = path.read_bytes()
    (n,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + n]), content[8 + n :]


def join(path: Path, header: Any, data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


# --- Mutations ----------------------------------------------------------------------------------------

DEEP: list[Any] = []
for _ in range(300):
    DEEP = [DEEP]
HOSTILE = (
    None, True, False, 0, 1, -1, 2, 3, 7, 1.5, -0.0, 1e308, float("nan"), float("inf"),
    10**9, 2**31, 2**62, 2**63, 2**64, 10**12, 10**400, [2**62, 2**62],
    "", "1", "llama", "mistral", "gemma3_text", "F32", "F8_E4M3", "I64", "BF16",
    "../../etc/passwd", "/etc/passwd", "\ud800", "\0", "a" * 10000,
    [], {}, [[]], [1, 2], {"a": 1}, {"content": "</s>"}, ["full_attention"], DEEP,
    {"rope_type": "linear", "factor": 1e-300},
    {"rope_type": "llama3", "factor": 10**400, "low_freq_factor": 1, "high_freq_factor": 4,
     "original_max_position_embeddings": 8},
)  # fmt: skip
KEYS = (
    "auto_map", "trust_remote_code", "quantization_config", "rope_scaling", "rope_parameters", "layer_types",
    "sliding_window", "sliding_window_pattern", "max_window_layers", "use_sliding_window", "eos_token_id",
    "add_bos_token", "legacy", "added_tokens_decoder", "additional_special_tokens", "eos_token", "head_dim",
    "partial_rotary_factor", "type", "dtype", "shape", "data_offsets", "id", "content", "__metadata__",
)  # fmt: skip


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Cut, flip, repeat, insert or overwrite."""
    i, j = sorted((rng.randint(0, len(content)), rng.randint(0, len(content))))
    choice = rng.randrange(6)
    if choice == 0:
        return content[:i]
    if choice == 1:
        return content[:i] + bytes([rng.randrange(256)]) + content[i + 1 :]
    if choice == 2:
        return content[:j] + content[i:j] + content[j:]
    if choice == 3:
        return (
            content[:i]
            + rng.choice([b"\xff\xfe", b"\0" * 9, b"\xef\xbb\xbf", b"{" * 999, b"NaN", b'"'])
            + content[i:]
        )
    if choice == 4:
        return content[:i] + content[j:]
    return content[:i] + rng.randbytes(min(8, len(content) - i)) + content[i + 8 :]


def mutate_json(value: Any, rng: random.Random) -> Any:
    """Replace, remove, add or exchange one value somewhere inside."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        inner = value[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.7:
            return {**value, key: mutate_json(inner, rng)}
        choice = rng.randrange(5)
        if choice == 0:
            return {k: v for k, v in value.items() if k != key}
        if choice == 1:
            return {**value, rng.choice(KEYS): rng.choice(HOSTILE)}
        if choice == 2:
            return {**value, key: rng.choice(list(value.values()))}
        if choice == 3 and isinstance(inner, int | float):
            return {**value, key: inner * rng.choice((-1, 2, 10**6, 10**12)) + rng.choice((-1, 0, 1))}
        return {**value, key: rng.choice(HOSTILE)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        i = rng.randrange(len(value))
        new = mutate_json(value[i], rng) if rng.random() < 0.5 else rng.choice(HOSTILE)
        return rng.choice(
            [[*value[:i], *value[i + 1 :]], [*value[:i], new, *value[i + 1 :]], value + value[i:]]
        )
    return rng.choice(HOSTILE)


def mutate_weights(path: Path, rng: random.Random) -> None:
    """Header lengths, header fields, values, or any bytes of a safetensors file."""
    choice = rng.randrange(8)
    if choice == 0:
        content = path.read_bytes()
        length = rng.choice(
            [0, 1, 2**31, 2**60, 2**63, 2**64 - 1, len(content), len(content) - 8, rng.randrange(9999)]
        )
        path.write_bytes(struct.pack("<Q", length) + content[8:])
    elif choice == 1:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
    elif choice == 2:  # NaN and infinities of all widths
        header, data = split(path)
        i = rng.randrange(max(1, len(data) // 4)) * 4
        join(
            path,
            header,
            data[:i] + rng.choice([b"\xff" * 4, b"\x00\x00\x80\x7f", b"\x80\x7f\x80\xff"]) + data[i + 4 :],
        )
    elif choice == 3:  # a tensor under the name, or over the bytes, of another
        header, data = split(path)
        a, b = rng.choice(list(header)), rng.choice(list(header))
        header[a] = header[b]
        join(path, header, data)
    else:
        header, data = split(path)
        join(path, mutate_json(header, rng), data)


def mutate_file(path: Path, rng: random.Random) -> None:
    if path.suffix == ".safetensors":
        return mutate_weights(path, rng)
    if path.suffix != ".json" or rng.random() < 0.2:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
        return
    try:
        value = json.loads(path.read_bytes())
    except ValueError:  # by an earlier change of this mutant
        return
    text = json.dumps(mutate_json(value, rng))
    path.write_bytes(text.encode(rng.choice(["utf-8"] * 9 + ["utf-16"])))


def mutate_place(path: Path, rng: random.Random) -> None:
    """Something else under the file's name: nothing, a folder, a link to elsewhere, a pickle."""
    path.unlink()
    choice = rng.randrange(4)
    if choice == 0:
        path.mkdir()
    elif choice == 1:
        path.symlink_to(rng.choice(["/etc/passwd", "/dev/zero", "/nowhere", ".", path.name, "config.json"]))
    elif choice == 2:
        path.write_bytes(pickle.dumps({"weight": [1.0]}))
        if rng.random() < 0.5:
            path.rename(path.with_name("pytorch_model.bin"))


def mutant(originals: list[Path], folder: Path, number: int) -> str:
    """Write mutant `number` into `folder` and return what was changed."""
    rng = random.Random(number)
    original = originals[number % len(originals)]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in original.iterdir():  # of which shutil.copytree would copy the times as well
        (folder / file.name).write_bytes(file.read_bytes())
    name = rng.choice(sorted(p.name for p in original.iterdir()))
    if rng.random() < 0.06:
        mutate_place(folder / name, rng)
        return f"{original.name}/{name}, replaced"
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        try:
            mutate_file(folder / name, rng)
        except (ValueError, AttributeError, TypeError, struct.error, IndexError, KeyError):
            break  # damaged beyond this kind of change by the one before
    return f"{original.name}/{name}"


# --- The check ----------------------------------------------------------------------------------------


def load(folder: Path) -> str:
    """Load model and tokenizer, compute once; "loaded", or the one line of the refusal."""
    try:
        model, tokenizer = load_model(folder), load_tokenizer(folder)
        check_fits(tokenizer, model.config)
        ids = tokenizer.encode("3+4=7 </s><|im_end|>\n")
        tokenizer.decode(ids + list(tokenizer.eos_ids))
        with torch.no_grad():
            model(torch.tensor([[model.config.vocab_size - 1]]))
        return "loaded"
    except REFUSALS as error:
        return f"{type(error).__name__}: {error}"


def fault(outcome: str, folder: Path) -> str | None:
    """What is wrong with a refusal, or None: it has to be one line that says where."""
    if outcome == "loaded" or outcome.split(": ", 1)[1].startswith("the tokenizer has ids up to"):
        return None
    if "\n" in outcome:
        return "more than one line"
    return None if str(folder) in outcome else "does not name the file"


def try_mutants(
    first: int, n: int, place: Path, originals: list[Path] | None = None
) -> tuple[Counter[str], list[str]]:
    """Load n mutants: how many ended in what, and what was wrong with any, which is printed at once."""
    originals = originals or make_checkpoints(place / "originals")
    outcomes: Counter[str] = Counter()
    faults = []
    for number in range(first, first + n):
        folder = place / "mutant"
        what = mutant(originals, folder, number)
        (place / "last").write_text(f"{number} {what}\n")  # what a crash was about
        try:
            outcome = load(folder)
            wrong = fault(outcome, folder)
        except BaseException as error:  # whatever else escapes is the finding, a panic of compiled code too
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome, wrong = type(error).__name__, f"raised {type(error).__name__}: {str(error)[:300]}"
        outcomes[outcome.split(":")[0]] += 1
        if wrong:
            faults.append(f"mutant {number} ({what}): {wrong}: {outcome[:300]}")
            print(faults[-1], flush=True)
    return outcomes, faults


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_checkpoints(tmp_path_factory.mktemp("originals"))


def test_whole_checkpoints_load(originals: list[Path]) -> None:
    """Else every mutant would be refused for the wrong reason."""
    assert [load(folder) for folder in originals] == ["loaded"] * 6


def test_hundreds_of_mutants(tmp_path: Path) -> None:
    outcomes, faults = try_mutants(0, 250, tmp_path)
    assert not faults, "\n".join(faults)
    assert outcomes["loaded"] > 25 and outcomes["ValueError"] > 100, outcomes  # neither is the rule


def make_adapter(base: Path, folder: Path) -> Path:
    model, config = load_model(base), lora.LoRAConfig(rank=2, alpha=4.0)
    lora.add_adapters(model, config, seed=0)
    lora.save_adapter(model, folder, config, base)
    return folder


def test_mutants_of_an_adapter(originals: list[Path], tmp_path: Path) -> None:
    adapter = make_adapter(originals[0], tmp_path / "adapter")
    assert load(adapter) == "loaded"
    outcomes, faults = try_mutants(0, 100, tmp_path, [adapter])
    assert not faults, "\n".join(faults)
    assert outcomes["loaded"] and outcomes["ValueError"] > 50, outcomes


def test_adapters_that_stand_on_each_other_are_refused(originals: list[Path], tmp_path: Path) -> None:
    """They used to be followed until Python's stack ended."""
    one = make_adapter(originals[0], tmp_path / "one")
    two = make_adapter(originals[0], tmp_path / "two")
    change(one / "adapter_config.json", base_model_name_or_path=str(two))
    assert load(one) == "loaded"
    change(two / "adapter_config.json", base_model_name_or_path=str(one))
    assert "adapter_config.json: base_model_name_or_path is" in load(one)


# --- One by one ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(originals: list[Path], tmp_path: Path) -> Path:
    """A copy of a whole one with a tokenizer.json."""
    return Path(shutil.copytree(next(p for p in originals if p.name == "qwen2-whole"), tmp_path / "model"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "model.pth", "a.ckpt", "a.pkl", "a.pickle"]
)
def test_pickles_are_refused_with_the_way_out(folder: Path, name: str) -> None:
    (folder / WEIGHTS).rename(folder / name)
    outcome = load(folder)
    assert f"{folder / name}: pickled weights are not read, since unpickling can run any code" in outcome
    assert "save_pretrained" in outcome


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "values", [{"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}, {"trust_remote_code": True}]
)
def test_code_of_a_checkpoint_is_refused_with_the_way_out(
    folder: Path, file: str, values: dict[str, Any]
) -> None:
    """It used to be passed over: what the code would have computed was not what its family does."""
    change(folder / file, **values)
    (folder / "modeling_x.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    outcome = load(folder)
    assert f"{folder / file}: {next(iter(values))} asks for Python code" in outcome
    assert "never run" in outcome and "save_pretrained" in outcome
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_hidden_layers": 10**9}, "n_layer is 1000000000, expected a whole number from 1 to 1000"),
        ({"vocab_size": 10**12}, "vocab_size is 1000000000000, expected a whole number from 1 to 2147483647"),
        (
            {"vocab_size": 2**31 - 1, "hidden_size": 2**20},
            "a matrix of 2e+15 numbers, expected at most 1e+12",
        ),
        ({"vocab_size": 2**31 - 1}, "model.embed_tokens.weight has shape [304, 8], expected [2147483647, 8]"),
        ({"rope_theta": 10**400}, "rope_theta is 1000"),
    ],
)
def test_claims_are_refused_before_memory_is_taken(
    folder: Path, values: dict[str, Any], message: str
) -> None:
    """A billion layers used to take all the memory of the machine."""
    change(folder / "config.json", **values)
    assert message in load(folder)


def test_a_claim_of_a_billion_layers_with_windows(originals: list[Path], tmp_path: Path) -> None:
    """The pattern of windowed layers was worked out before their number was checked."""
    shutil.copytree(next(p for p in originals if p.name == "gemma2-whole"), tmp_path / "model")
    change(tmp_path / "model" / "config.json", num_hidden_layers=10**9, layer_types=None)
    assert "n_layer is 1000000000" in load(tmp_path / "model")


def test_a_header_of_a_billion_gigabytes(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 2**60) + content[8:])
    assert f"{folder / WEIGHTS}: damaged or not a safetensors file" in load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_named(folder: Path, value: float) -> None:
    model = load_model(folder)
    with torch.no_grad():
        model.blocks[1].mlp.up.weight[3, 2] = value
    save_model(model, folder)
    assert "model.layers.1.mlp.up_proj.weight has values that are not finite in torch.float32" in load(folder)


def test_values_that_a_narrower_type_cannot_hold_are_named(folder: Path) -> None:
    """Float16 ends at 65504: a model of larger weights used to write nonsense without a word."""
    model = load_model(folder)
    with torch.no_grad():
        model.norm.weight[0] = 1e5
    save_model(model, folder)
    assert load_model(folder, dtype=torch.bfloat16)
    with pytest.raises(
        ValueError, match=r"model\.norm\.weight has values that are not finite in torch\.float16"
    ):
        load_model(folder, dtype=torch.float16)


def test_a_tensor_in_two_shards_is_named(originals: list[Path], tmp_path: Path) -> None:
    """The one of the later file used to win without a word."""
    folder = Path(shutil.copytree(next(p for p in originals if "sharded" in p.name), tmp_path / "model"))
    one, two = sorted(folder.glob("model-*.safetensors"))
    (header, data), (more, extra) = split(one), split(two)
    header.pop("__metadata__", None)
    name = next(key for key in more if key != "__metadata__")
    start, end = more[name]["data_offsets"]
    header[name] = more[name] | {"data_offsets": [len(data), len(data) + end - start]}
    join(one, header, data + extra[start:end])
    assert f"{name} is in two files" in load(folder)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json"])
def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    """An archive of a checkpoint can hold links: files of this machine were read, and copied into the run."""
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    assert f"{folder / name}: is a link out of the folder, which is not followed" in load(folder)
    (folder / name).unlink()
    (tmp_path / "elsewhere").rename(folder / "inside")
    (folder / name).symlink_to("inside")
    assert load(folder) == "loaded"
    (tmp_path / "link").symlink_to(folder)  # the user's own, to the whole folder
    assert load(tmp_path / "link") == "loaded"


def test_the_links_of_a_hub_cache_are_followed(folder: Path, tmp_path: Path) -> None:
    """models--OWNER--NAME/snapshots/COMMIT holds links to models--OWNER--NAME/blobs."""
    cache = tmp_path / "hub" / "models--a--b"
    snapshot = cache / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(cache / "blobs" / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    (tmp_path / "moved").symlink_to(tmp_path / "hub")  # as users move their cache to another disk
    assert load(snapshot) == "loaded"
    assert load(tmp_path / "moved" / "models--a--b" / "snapshots" / "0123abcd") == "loaded"
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("../../../../elsewhere")
    (tmp_path / "elsewhere").write_text("{}")
    assert "is a link out of the folder" in load(snapshot)


def test_what_the_command_says_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through sample.py, and of bounded length, however long a value is."""
    for name, content in (
        ("config.json", b"{"),
        (WEIGHTS, b""),
        ("tokenizer.json", b'{"a": "' + b"b" * 10**5),
    ):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        flags = ["--model", str(folder), "--limit", "1", "--device", "cpu", "--out", str(tmp_path / "out")]
        assert run_command(sample.main, flags) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(lines) == 1 and str(folder / name) in lines[0] and len(lines[0]) < 2000
        (folder / name).write_bytes(whole)
    change(folder / "config.json", hidden_act="x" * 10**5)
    assert run_command(sample.main, flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(folder / "config.json") in line and len(line) < 2000


@pytest.mark.slow
@pytest.mark.parametrize("first", range(250, 20250, 4000))
def test_many_mutants_in_little_memory(first: int) -> None:
    """A process of its own: a crash of compiled code, or more than LIMIT_BYTES, would end it."""
    command = [sys.executable, __file__, str(first), "4000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, cwd=ROOT)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def main(arguments: list[str]) -> int:
    import resource

    first, n = int(arguments[0]), int(arguments[1])
    with tempfile.TemporaryDirectory() as place:
        load(make_checkpoints(Path(place) / "warm")[0])  # whatever is imported late is by now
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + LIMIT_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        outcomes, faults = try_mutants(first, n, Path(place))
    print(f"{n} mutants: {dict(outcomes.most_common())}, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
