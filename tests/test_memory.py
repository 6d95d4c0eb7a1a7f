"""Memory told beforehand: byte counts worked out by hand, what a system says is free, and the two answers."""

import json
import os
from pathlib import Path

import pytest
import torch

import rerank
import sample
import train
from mathref import memory
from mathref.choosing import SampleConfig
from mathref.config import ModelConfig
from mathref.files import read_json, write_json
from mathref.kv_cache import KVCache
from mathref.lora import LoRAConfig, add_adapters
from mathref.memory import Need, cache_bytes, check, count_parameters, host_memory
from mathref.runs import ASSETS, run_command
from mathref.weights import load_config, without_weights

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
# Llama 2 7B: embedding and head 32000 * 4096 each, final norm 4096, and in each of 32 layers four matrices of
# 4096 * 4096, three of 4096 * 11008 and two norms of 4096: 6,738,415,616.
LLAMA_7B = ModelConfig(
    vocab_size=32000, n_layer=32, n_head=32, n_kv_head=32, head_dim=128, n_embd=4096, n_inner=11008,
    max_seq_len=4096, tie_embeddings=False,
)  # fmt: skip
WEIGHTS_7B = 6_738_415_616
TOKEN_7B = 524_288  # bytes of a token's keys and values in bfloat16: 2 * 32 layers * 32 heads * 128 * 2
GB = 1024**3


def stored_weights(folder: Path) -> int:
    """Numbers in a safetensors file, by its header."""
    with open(folder / "model.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return max(ends) // 4  # all of them float32


@pytest.mark.parametrize(("name", "count"), [("tiny", 836_736), ("small", None)])
def test_the_shipped_models_have_the_weights_that_their_files_hold(name, count):
    counted = count_parameters(load_config(ASSETS / name))
    assert counted == stored_weights(ASSETS / name)
    assert count in (None, counted)


def test_an_adapter_is_as_large_as_its_base(tmp_path):
    """It has no config.json of its own, and a command that asked for one stopped there."""
    write_json(tmp_path / "adapter_config.json", {"base_model_name_or_path": str(ASSETS / "tiny")})
    assert load_config(tmp_path) == load_config(ASSETS / "tiny")


def test_a_model_of_seven_billion():
    assert count_parameters(LLAMA_7B) == WEIGHTS_7B
    assert cache_bytes(LLAMA_7B, 1, 1, torch.bfloat16) == TOKEN_7B
    training = memory.of_training(without_weights(LLAMA_7B))
    assert training.least == training.most == 16 * WEIGHTS_7B
    model = without_weights(LLAMA_7B)
    add_adapters(model.bfloat16(), LoRAConfig(16, 32), seed=0)
    n_ends, n_norms = 2 * 32000 * 4096, 65 * 4096  # embedding and head, norms: these stay in float32
    n_narrow = WEIGHTS_7B - n_ends - n_norms
    assert memory.of_training(model).least == 2 * n_narrow + 4 * (n_ends + n_norms) + 16 * 39_976_960
    scoring = memory.of_scoring(LLAMA_7B, 16384, torch.bfloat16)
    certain = 2 * WEIGHTS_7B + 4 * 32000 * 4096  # and the head in float32
    assert (scoring.least, scoring.most) == (certain, certain + 16384 * 3 * 11008 * 2)


def test_the_cache_is_counted_as_it_is_kept():
    config = load_config(ASSETS / "small")
    cache = KVCache(config, 3, 50, device="cpu", dtype=torch.bfloat16)
    assert cache_bytes(config, 3, 50, torch.bfloat16) == sum(t.nbytes for t in (*cache.k, *cache.v))


def test_sampling_needs_a_row_for_each_prompt_at_least_and_for_each_sample_at_most():
    prompts = [[1] * 100, [1] * 24] * 50
    many = SampleConfig(64, 0.9, 0.95, 0, 156, 0, (), 256)  # 4 prompts side by side, of 256 tokens at most
    need = memory.of_sampling(LLAMA_7B, many, prompts, CUDA, torch.bfloat16)
    assert need.least == 2 * WEIGHTS_7B + 4 * 256 * TOKEN_7B
    # 256 rows written, at most a quarter of all idle: 342, padded to 384 where steps are recorded.
    assert need.most == 2 * WEIGHTS_7B + 384 * 256 * TOKEN_7B
    assert memory.of_sampling(LLAMA_7B, many, prompts, CPU, torch.bfloat16).most == (
        2 * WEIGHTS_7B + 342 * 256 * TOKEN_7B
    )
    # Where memory is taken as the rows fill, none of it is certain.
    assert memory.of_sampling(LLAMA_7B, many, prompts, CPU, torch.bfloat16).least == 2 * WEIGHTS_7B
    greedy = SampleConfig(1, 0.0, 1.0, 0, 10_000, 0, (), 256)  # cut off by the context of 4096
    need = memory.of_sampling(LLAMA_7B, greedy, prompts[:3], CUDA, torch.float32)
    assert need.least == need.most == 4 * WEIGHTS_7B + 3 * 4096 * 2 * TOKEN_7B


def test_as_many_rows_as_there_is_room_for():
    row = cache_bytes(LLAMA_7B, 1, 656, torch.float32)
    assert memory.rows_within(5.5 * row, LLAMA_7B, 656, torch.float32, most=256) == 5
    assert memory.rows_within(5.5 * row, LLAMA_7B, 656, torch.bfloat16, most=256) == 11
    assert memory.rows_within(0.5 * row, LLAMA_7B, 656, torch.float32, most=256) == 1
    assert memory.rows_within(1e15, LLAMA_7B, 656, torch.float32, most=256) == 256
    # No row is longer than the context.
    assert memory.rows_within(9e9, LLAMA_7B, 10**6, torch.float32, most=256) == 2


def machine(root: Path, **files: str) -> Path:
    """A file system with these files; `__` in a name stands for `/`."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = f"MemTotal: {16 << 20} kB\nMemFree: 1 kB\nMemAvailable: {8 << 20} kB\nSwapFree: {2 << 20} kB\n"


def test_free_memory_of_a_machine_is_what_it_can_make_free_and_its_swap(tmp_path):
    assert host_memory(machine(tmp_path, proc__meminfo=MEMINFO)) == 10 * GB


def test_a_container_has_what_its_control_group_leaves(tmp_path):
    """Of the group's own use, the pages of read files can be dropped: a loaded checkpoint leaves such."""
    group = machine(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/\n") / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text(f"{3 * GB}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {GB}\nactive_file {GB // 2}\n")
    assert host_memory(tmp_path) == 10 * GB  # no limit
    (group / "memory.max").write_text(f"{4 * GB}\n")
    assert host_memory(tmp_path) == 4 * GB - 3 * GB + GB + GB // 2
    (group / "memory.max").write_text(f"{GB}\n")
    assert host_memory(tmp_path) == 0


def test_the_limit_of_a_group_around_holds_too(tmp_path):
    machine(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="0::/user/session\n")
    for name, limit in (("user", 2 * GB), ("user/session", 5 * GB)):
        group = tmp_path / "sys" / "fs" / "cgroup" / name
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.max").write_text(f"{limit}")
        (group / "memory.current").write_text("0")
    assert host_memory(tmp_path) == 2 * GB


def test_control_groups_of_the_first_version(tmp_path):
    machine(tmp_path, proc__meminfo=MEMINFO, proc__self__cgroup="5:cpu:/a\n4:memory,x:/on/the/host\n0::/\n")
    group = tmp_path / "sys" / "fs" / "cgroup" / "memory"  # the container sees its own group as the top
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text(f"{6 * GB}")
    (group / "memory.usage_in_bytes").write_text(f"{2 * GB}")
    (group / "memory.stat").write_text(f"inactive_file 7\ntotal_inactive_file {GB}\ntotal_active_file 0\n")
    assert host_memory(tmp_path) == 5 * GB


def test_without_proc_all_of_the_machine_is_the_limit_or_nothing_is_known(tmp_path, monkeypatch):
    pages = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)
    assert host_memory(tmp_path) == 4_096_000
    monkeypatch.delattr(os, "sysconf")
    assert host_memory(tmp_path) is None


def test_this_machine_has_memory():
    assert 10 * 2**20 < host_memory() < 2**50


@pytest.mark.parametrize(
    ("least", "most", "free", "answer"),
    [
        (10, 70, 100, None),
        (10, 71, 100, "told"),
        (100, 500, 100, "told"),
        (101, 101, 100, "refused"),
        (101, 101, None, None),
    ],
)
def test_what_fits_is_passed_over_what_is_tight_told_and_what_cannot_fit_refused(
    least, most, free, answer, monkeypatch
):
    need = Need(least * 10**9, most * 10**9, least * 10**9, "weights take 1 GB", "buy more", "or less")
    monkeypatch.setattr(memory, "available", lambda device: free and free * 10**9)
    if answer == "refused":
        with pytest.raises(MemoryError, match="weights take 1 GB, but cpu has 100.0 GB free; buy more"):
            check(need, CPU)
    else:
        told = check(need, CPU)
        assert (told is None) == (answer is None) and "\n" not in (told or "")


@pytest.fixture
def large(tmp_path, monkeypatch) -> Path:
    """A checkpoint of 7 billion weights that nobody could load: it has none; and a machine with 12 GB."""
    monkeypatch.setattr(memory, "available", lambda device: 12 * 10**9)
    folder = tmp_path / "large"
    folder.mkdir()
    sizes = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128}
    sizes |= {"hidden_size": 4096, "intermediate_size": 11008, "vocab_size": 32000}
    more = {"max_position_embeddings": 4096, "tie_word_embeddings": False}
    write_json(folder / "config.json", read_json(ASSETS / "tiny" / "config.json") | sizes | more)
    (folder / "tokenizer.model").write_bytes((ASSETS / "tiny" / "tokenizer.model").read_bytes())
    return folder


def test_every_command_refuses_before_it_loads_what_cannot_fit(large, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = {"id": "a", "problem": "1+1?", "answer": "2"}
    line["samples"] = [{"text": "\\boxed{2}", "answer": "2", "correct": True, "logprob": -1.0, "tokens": 3,
                        "finish_reason": "stop"}] * 2  # fmt: skip
    Path("samples.jsonl").write_text(json.dumps(line) + "\n")
    (large / "model.safetensors").touch()  # whose digest is asked for; reading it would fail
    flags = ["--device", "cpu"]
    told = []
    for main, more in (
        (train.main, ["--stage", "ssft", "--model", str(large), "--out", "out"]),
        (sample.main, ["--model", str(large), "--limit", "1"]),
        (sample.main, ["--model", str(large), "--limit", "1", "--dtype", "bfloat16"]),
        (rerank.main, ["--evaluator", str(large), "--samples", "samples.jsonl"]),
    ):
        assert run_command(main, [*more, *flags]) == 1
        told.append(capsys.readouterr().err.splitlines()[-1])
    assert all("error: " in line and "12.0 GB free" in line for line in told)
    assert "6,738,415,616 weights takes 107.8 GB" in told[0] and not Path("out").exists()
    assert "in bfloat16 take 13.5 GB" in told[2] and told[2].endswith("use a smaller model")
    for line in (told[1], told[3]):  # no batch is small enough
        assert "in float32 take 27.0 GB" in line and line.endswith("use --dtype bfloat16 or a smaller model")


def test_a_batch_that_cannot_fit_is_refused_with_the_flag_that_makes_it_smaller(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 16 * 10**9)
    greedy = SampleConfig(1, 0.0, 1.0, 0, 156, 0, (), 256)
    need = memory.of_sampling(LLAMA_7B, greedy, [[1] * 100] * 256, CUDA, torch.bfloat16)
    line = "cache of 256 rows .* up to 34.4 GB, but cuda has 16.0 GB free; .* a smaller --batch-rows$"
    with pytest.raises(MemoryError, match=line):
        check(need, CUDA)


def test_a_run_that_may_not_fit_is_told_so_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "available", lambda device: 4_000_000)
    out = tmp_path / "samples.jsonl"
    flags = "--model tiny --limit 1 --n 2 --max-new-tokens 4 --device cpu"
    assert run_command(sample.main, [*flags.split(), "--out", str(out)]) == 0
    shown = capsys.readouterr().err
    assert "memory: 836,736 weights in float32 take 3.3 MB" in shown and "--batch-rows" in shown
    assert len(out.read_text().splitlines()) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_has_less_free_once_some_is_taken_and_as_much_when_it_is_given_back():
    before = memory.available(CUDA)
    taken = torch.zeros(GB, dtype=torch.uint8, device=CUDA)
    assert memory.available(CUDA) <= before - GB
    del taken  # torch keeps it, for the next tensor
    assert memory.available(CUDA) > before - GB // 2


def test_counting_takes_no_memory():
    config = ModelConfig(128256, 80, 64, 8, 128, 8192, 28672, 8192, tie_embeddings=False)  # Llama 3 70B
    assert all(p.is_meta for p in without_weights(config).parameters())
    assert count_parameters(config) == 70_553_706_496
