"""--model owner/name: what is fetched, what is not, what wins, and how it fails, in one line each."""

import json
import os
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

import rerank
import train
from mathref import hub
from mathref.files import read_json, write_json
from mathref.lora import LoRAConfig, adapters, add_adapters, merge_adapter, save_adapter
from mathref.model import Transformer
from mathref.runs import ASSETS, ROOT, resolve_model, run_command
from mathref.tokenizer import load_tokenizer
from mathref.weights import load_model

huggingface_hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
COMMIT, OLDER = "0123456789abcdef0123456789abcdef01234567", "fedcba9876543210fedcba9876543210fedcba98"
TINY = ASSETS / "tiny"
# What a repository may hold besides; none of it is ever asked for.
UNWANTED = (
    "pytorch_model.bin",
    "modeling_own.py",
    "consolidated.safetensors",
    "original/params.pt",
    "README.md",
)


class FakeHub:
    """A repository 'owner/tiny' with two commits, and a cache laid out as the package lays it out."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.calls = cache, []
        self.files = {file.name: file for file in TINY.iterdir()} | dict.fromkeys(UNWANTED, TINY / "run.json")
        self.others: dict[str, dict[str, Path]] = {}  # further repositories

    def snapshot_download(self, repo_id, *, revision=None, allow_patterns=None):
        self.calls.append((repo_id, revision, tuple(allow_patterns)))
        commit = {None: COMMIT, "main": COMMIT, "v1": OLDER}.get(revision, revision)
        folder = self.cache / f"models--{repo_id.replace('/', '--')}" / "snapshots" / commit
        for name, source in self.others.get(repo_id, self.files).items():
            if any(fnmatch(name, pattern) for pattern in allow_patterns):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / name)
        return str(folder)


@pytest.fixture
def fake(tmp_path, monkeypatch) -> FakeHub:
    """An empty working folder, and a hub without network."""
    made = FakeHub(tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    hub.fetch_once.cache_clear()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return made


def test_a_model_is_fetched_with_what_is_read_and_nothing_else(fake):
    folder = resolve_model("owner/tiny")
    assert {p.name for p in folder.rglob("*")} == {p.name for p in TINY.iterdir()} - {"run.json"}
    assert not {p.name for p in folder.rglob("*")} & set(UNWANTED)
    assert (folder / "model.safetensors").read_bytes() == (TINY / "model.safetensors").read_bytes()
    # Config first; all else of the commit that it was of, whatever is pushed in between.
    assert [call[:2] for call in fake.calls] == [("owner/tiny", None), ("owner/tiny", COMMIT)]
    assert fake.calls[0][2] == ("config.json", "adapter_config.json")


def test_a_revision_is_fetched_and_shards_with_their_index(fake):
    fake.files["model-00001-of-00002.safetensors"] = fake.files.pop("model.safetensors")
    fake.files["model.safetensors.index.json"] = TINY / "run.json"
    folder = resolve_model("owner/tiny@v1")
    assert folder.name == OLDER
    assert {"model-00001-of-00002.safetensors", "model.safetensors.index.json"} <= {
        p.name for p in folder.iterdir()
    }


@pytest.mark.parametrize(
    "name",
    ["tiny", "/a/b", "./a", "../a", "a/b/c", "a/", "runs/ssft", "C:\\models\\x", "~/m", "a/b@", "-a/b"],
)
def test_what_is_a_path_is_not_looked_for_on_the_hub(name, fake):
    assert not hub.is_id(name)


def test_a_folder_here_wins_and_so_does_a_path_into_one(fake):
    """A mistyped `models/qwem` must not become the model of whoever owns that name on the hub."""
    shutil.copytree(TINY, "models/qwen")
    assert hub.is_id("other/qwen") and not hub.is_id("models/qwen")
    assert resolve_model("models/qwen") == Path("models/qwen")
    with pytest.raises(FileNotFoundError, match="models/qwem is not a folder"):
        resolve_model("models/qwem")
    assert fake.calls == []


def test_a_family_that_is_not_computed_is_refused_before_its_weights_are_fetched(fake, tmp_path):
    write_json(tmp_path / "config.json", {"model_type": "mamba"})
    fake.files["config.json"] = tmp_path / "config.json"
    with pytest.raises(ValueError, match="model_type is 'mamba'"):
        resolve_model("owner/tiny")
    assert [patterns for *_, patterns in fake.calls] == [("config.json", "adapter_config.json")]


def test_a_model_with_pickled_weights_only_is_refused_by_its_name(fake):
    del fake.files["model.safetensors"]
    with pytest.raises(FileNotFoundError, match=r"^owner/tiny: has no model\*\.safetensors on the hub"):
        resolve_model("owner/tiny")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        ("GatedRepoError", 2, "is gated; accept its terms"),
        ("RepositoryNotFoundError", 2, "the hub has no such model"),
        ("RevisionNotFoundError", 2, "no revision 'v9' of owner/name"),
        ("LocalEntryNotFoundError", 2, "the hub cannot be reached (no network, or HF_HUB_OFFLINE is set)"),
        ("HFValidationError", 2, "no name of a model"),
        ("HfHubHTTPError", 1, "the hub did not deliver it"),
        (RuntimeError, 1, "the hub did not deliver it (a transport"),
    ],
)
def test_what_the_hub_refuses_is_one_line(error, status, words, fake, monkeypatch, capsys):
    kind = getattr(huggingface_hub.errors, error) if isinstance(error, str) else error
    raised = kind.__new__(kind)  # their constructors want a response of the HTTP library in use
    raised.args = ("a transport\n\nrequest 1234",)

    def refuse(*args, **kwargs):
        raise raised

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    assert run_command(lambda argv: bool(resolve_model("owner/name@v9")), []) == status
    shown = capsys.readouterr().err
    assert "error: owner/name@v9: " in shown and words in shown and shown.count("\n") == 1


def test_without_the_package_the_line_says_what_to_install(fake, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert run_command(lambda argv: bool(resolve_model("owner/name")), []) == 1
    assert "pip install huggingface_hub" in capsys.readouterr().err


def test_a_run_names_the_commit_that_it_started_from(fake):
    assert hub.pinned("owner/tiny") == hub.pinned("owner/tiny@main") == f"owner/tiny@{COMMIT}"
    assert hub.pinned("tiny") == "tiny" and hub.pinned("runs/ssft") == "runs/ssft"


def test_files_are_named_after_the_model_not_after_its_commit(fake):
    assert hub.name_of(resolve_model("owner/tiny")) == "tiny"
    assert hub.name_of(Path("runs/ssft")) == "ssft"


def test_train_starts_from_it_and_keeps_the_commit_in_run_json(fake):
    records = [
        {"id": f"p{i}", "problem": f"1+{i}?", "answer": f"{i + 1}", "solution": "Add."} for i in range(8)
    ]
    Path("data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    flags = "--stage ssft --steps 1 --batch-size 2 --n-greedy 0 --n-validation 2 --data data.jsonl --out new"
    assert train.main([*flags.split(), "--model", "owner/tiny", "--device", "cpu"]) == 0
    assert read_json(Path("new") / "run.json")["settings"]["model"] == f"owner/tiny@{COMMIT}"


def adapter(folder: Path, base: str | Path) -> Transformer:
    """An adapter of tiny's shape in `folder`, whose base is `base`; returns tiny with the adapter merged."""
    config, model = LoRAConfig(2, 4.0), load_model(TINY)
    add_adapters(model, config, seed=0)
    for layer in adapters(model).values():
        torch.nn.init.normal_(layer.lora_B, std=0.1, generator=torch.Generator().manual_seed(1))
    save_adapter(model, folder, config, base)
    return merge_adapter(load_model(TINY), folder)


def test_an_adapter_names_the_base_that_came_from_the_hub_as_the_hub_does(fake):
    """It named the folder of this machine's cache, which nobody else has."""
    expected = adapter(Path("own"), resolve_model("owner/tiny@v1"))
    settings = read_json(Path("own/adapter_config.json"))
    assert settings["base_model_name_or_path"] == "owner/tiny" and settings["revision"] == OLDER
    fake.calls.clear()
    found = load_model("own")
    assert torch.equal(found.embedding.weight, expected.embedding.weight)
    assert all(map(torch.equal, found.parameters(), expected.parameters()))
    assert load_tokenizer("own").encode("1+1") == load_tokenizer(TINY).encode("1+1")
    assert {(repository, revision) for repository, revision, _ in fake.calls} == {("owner/tiny", OLDER)}
    assert len(fake.calls) == 2  # asked once, however often the base is looked up
    adapter(Path("plain"), TINY)
    assert read_json(Path("plain/adapter_config.json"))["revision"] is None


def test_an_adapter_of_the_hub_brings_its_base(fake, tmp_path):
    """The base of the adapter's revision, not of the day."""
    expected = adapter(tmp_path / "made", TINY)
    values = read_json(tmp_path / "made" / "adapter_config.json")
    write_json(
        tmp_path / "made" / "adapter_config.json",
        values | {"base_model_name_or_path": "owner/tiny", "revision": "v1"},
    )
    fake.others["owner/judge"] = {file.name: file for file in (tmp_path / "made").iterdir()}
    folder = resolve_model("owner/judge")
    assert {file.name for file in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert all(map(torch.equal, load_model(folder).parameters(), expected.parameters()))
    assert {call[:2] for call in fake.calls if call[0] == "owner/tiny"} == {
        ("owner/tiny", "v1"),
        ("owner/tiny", OLDER),
    }


def test_an_adapter_whose_base_the_hub_does_not_have_is_one_line(fake, monkeypatch, capsys):
    adapter(Path("own"), TINY)
    values = read_json(Path("own/adapter_config.json"))
    write_json(Path("own/adapter_config.json"), values | {"base_model_name_or_path": "owner/gone"})

    def unreachable(*args, **kwargs):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    assert run_command(lambda argv: bool(load_model("own")), []) == 2
    said = capsys.readouterr().err
    assert f"error: {Path('own/adapter_config.json')}: base_model_name_or_path: owner/gone: is no" in said
    assert said.count("\n") == 1


def test_rerank_says_which_evaluator_is_missing(fake, monkeypatch, capsys):
    def unreachable(*args, **kwargs):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    Path("samples.jsonl").touch()
    assert run_command(rerank.main, ["--evaluator", "owner/else", "--samples", "samples.jsonl"]) == 2
    assert "error: owner/else: is no folder here" in capsys.readouterr().err


def test_sample_takes_a_model_from_the_cache_of_the_package_itself(tmp_path):
    """Without network, by the package's own rules: HF_HOME says where, HF_HUB_OFFLINE that none is asked."""
    repository = tmp_path / "home" / "hub" / "models--owner--tiny"
    shutil.copytree(TINY, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    environment = dict(os.environ) | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    flags = "--model owner/tiny --limit 1 --n 1 --max-new-tokens 4 --device cpu"
    command = [sys.executable, str(ROOT / "sample.py"), *flags.split()]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert "samples/tiny-test-n1-t0.9-max4-first1.jsonl" in result.stdout
