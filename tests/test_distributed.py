"""Two real processes under torchrun, by gloo: what they compute and write is what one process does.

The file is also the program that torchrun starts: `torchrun --nproc-per-node 2 tests/test_distributed.py CASE
FOLDER ...`, see `CASES` at the end. What one process does is computed by the tests themselves.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from test_trainer import examples

import rerank
import sample
from mathref import lora, processes
from mathref.batches import my_batches
from mathref.checkpoint import CHECKPOINT, METRICS
from mathref.formats import SampledProblem
from mathref.memory import of_training
from mathref.model import ModelConfig, Transformer
from mathref.objectives import Contrast, ContrastiveObjective
from mathref.parts import open_shared
from mathref.runs import run_command
from mathref.samples import SamplesFile, read_samples
from mathref.trainer import SolutionLikelihood, TrainConfig, mean_loss, train
from mathref.weights import load_model, save_model, without_weights

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
# Two norms, and matrices whose 50 and 33 rows two processes cannot halve.
CONFIG = ModelConfig(
    vocab_size=50, n_layer=2, n_head=4, n_kv_head=2, head_dim=8, n_embd=32, n_inner=33, max_seq_len=64
)


def torchrun(*command: str | Path, n: int = 2, timeout: int = 240) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
    return subprocess.run(
        [*line, *map(str, command)],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip


def errors(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of a failed run that are the program's own; torchrun adds a traceback and a summary."""
    own = result.stderr.partition("torch/distributed/elastic")[0]
    return [line for line in own.splitlines() if "error" in line.lower() or "Traceback" in line]


# ---- What is trained ---------------------------------------------------------------------------------


def new_model() -> Transformer:
    torch.manual_seed(0)
    return Transformer(CONFIG)


def contrasts() -> list[Contrast]:
    """Items whose loss runs the model twice."""
    return [Contrast(*three) for three in zip(*(examples(9, seed) for seed in (1, 2, 3)), strict=True)]


RUNS = {
    "uneven": {"steps": 4, "batch_size": 7, "tokens_per_batch": 60},
    "one-item": {"steps": 2, "batch_size": 1},  # one process has nothing to do
    "recomputed": {"steps": 2, "batch_size": 5, "activation_checkpointing": True},
    "resumed": {"steps": 4, "batch_size": 7, "tokens_per_batch": 60},
    "adapters": {"steps": 3, "batch_size": 6},
    "two-passes": {"steps": 3, "batch_size": 4, "tokens_per_batch": 200},
}


def train_run(name: str, folder: Path, parallel: str, *, resume: bool = False) -> None:
    """One of RUNS, in FOLDER/NAME; the best model goes to FOLDER/NAME/best."""
    model, items, objective = new_model(), examples(20), SolutionLikelihood()
    if name == "two-passes":
        items, objective = contrasts(), ContrastiveObjective(margin=1.0, alpha_1=0.5)
    adapters = lora.LoRAConfig(rank=3, alpha=6, targets=("q_proj", "down_proj"))
    if name == "adapters":
        lora.add_adapters(model.bfloat16(), adapters, seed=1)  # frozen weights of two types
    if processes.rank() and parallel == "fsdp":
        model.to("meta")  # loading_device: the first process alone has the weights
    config = TrainConfig(**RUNS[name], lr=3e-3, warmup_steps=1, log_every=1, save_every=2, parallel=parallel)
    out = folder / name
    out.mkdir(exist_ok=True, parents=True)

    def save_best(model: Transformer) -> None:
        save_model(model, out / "best")
        if name == "adapters":
            lora.save_adapter(model, out / "adapter", adapters, "base")

    train(
        model, items, objective, config, out,
        validate=lambda m: {"val/loss": mean_loss(m, items[:5], objective, config)},
        save_best=save_best, resume=resume,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run by one process."""
    folder = tmp_path_factory.mktemp("alone")
    for name in RUNS:
        train_run(name, folder, "ddp")
    return folder


class Killed(Exception):
    pass


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let a run of this process end with Killed once the checkpoint of `step` is written."""
    from mathref import trainer

    real = trainer.save_checkpoint

    def save(path, model, optimizer, progress, fingerprint):
        real(path, model, optimizer, progress, fingerprint)
        if progress.step == step:
            raise Killed

    monkeypatch.setattr(trainer, "save_checkpoint", save)


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run by two processes; "resumed" goes on from what one process left at step 2."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        stop_after(patch, 2)
        train_run("resumed", folder, "ddp")
    result = torchrun(__file__, "runs", folder, request.param)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "" and "Error" not in result.stderr
    return folder


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def assert_same_run(one: Path, two: Path) -> None:
    """Losses, norms and Adam's averages to float32's rounding; weights to what Adam makes of rounding."""
    assert len(metrics(one)) == len(metrics(two))
    for a, b in zip(metrics(one), metrics(two), strict=True):
        assert a.keys() == b.keys() and (a["step"], a["tokens"]) == (b["step"], b["tokens"])
        for key in ("train/loss", "grad_norm", *("val/loss",) * ("val/loss" in a)):
            assert b[key] == pytest.approx(a[key], rel=1e-5), (key, a["step"])
    mine, theirs = (safetensors.torch.load_file(folder / CHECKPOINT) for folder in (one, two))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert theirs[name].shape == tensor.shape and theirs[name].dtype == tensor.dtype
        off = (theirs[name] - tensor).abs()
        assert off.mean() < 1e-6 and off.max() < 1e-3, (name, off.max())


# ---- Training ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_as_one_does(name: str, alone: Path, together: Path) -> None:
    """Uneven micro-batches, a process with none, recomputation, adapters, two passes a loss, resumption."""
    assert_same_run(alone / name, together / name)


def test_the_saved_model_is_whole(alone: Path, together: Path) -> None:
    for name in ("uneven", "adapters"):
        one, two = (
            safetensors.torch.load_file(folder / name / "best" / "model.safetensors")
            for folder in (alone, together)
        )
        assert one.keys() == two.keys()
        assert all(torch.allclose(tensor, two[key], atol=1e-3) for key, tensor in one.items())
        configs = [(folder / name / "best" / "config.json").read_text() for folder in (alone, together)]
        assert configs[0] == configs[1]
    one, two = (
        safetensors.torch.load_file(folder / "adapters" / "adapter" / lora.WEIGHTS)
        for folder in (alone, together)
    )
    assert one.keys() == two.keys() and all(torch.allclose(t, two[k], atol=1e-3) for k, t in one.items())
    assert not list(together.rglob(".*.tmp"))


def test_one_process_goes_on_where_two_stopped(alone: Path, together: Path, tmp_path: Path) -> None:
    """The checkpoint is the same file either way, AdamW's state included."""
    shutil.copytree(together / "two-thirds", tmp_path / "uneven")
    assert metrics(tmp_path / "uneven")[-1]["step"] == 3  # the checkpoint is that of step 2
    train_run("uneven", tmp_path, "ddp", resume=True)
    assert_same_run(alone / "uneven", tmp_path / "uneven")


@pytest.mark.slow
def test_a_lost_process_ends_the_run_in_one_line_and_the_state_is_good(alone: Path, tmp_path: Path) -> None:
    result = torchrun(__file__, "lost", tmp_path, "fsdp")
    assert result.returncode == 1
    (line,) = errors(result)
    assert "another process of this run has ended" in line and "--resume" in line
    train_run("uneven", tmp_path, "ddp", resume=True)
    assert_same_run(alone / "uneven", tmp_path / "uneven")


# ---- What a process takes ----------------------------------------------------------------------------


def test_batches_cover_a_step_once_and_are_equally_many(monkeypatch: pytest.MonkeyPatch) -> None:
    items = examples(11)
    for n in (1, 2, 3, 16):
        monkeypatch.setattr(processes, "world_size", lambda n=n: n)
        shares = []
        for r in range(n):
            monkeypatch.setattr(processes, "rank", lambda r=r: r)
            shares.append(my_batches(items, lambda item: len(item.ids), 60))
        assert len({len(share) for share in shares}) == 1
        counted = [item for share in shares for batch, factor in share for item in batch if factor]
        assert sorted(map(id, counted)) == sorted(map(id, items))
        assert all(batch for share in shares for batch, _ in share)


def test_a_model_to_be_sharded_is_loaded_as_shapes() -> None:
    """Every process but the first does so; a check of the values once ended it, with a traceback."""
    folder = ROOT / "mathref" / "assets" / "tiny"
    shapes, model = load_model(folder, device="meta", dtype=torch.float32), load_model(folder)
    assert all(p.is_meta for p in shapes.parameters())
    assert [p.shape for p in shapes.parameters()] == [p.shape for p in model.parameters()]


def test_memory_is_that_of_one_slice() -> None:
    model = without_weights(CONFIG)
    whole, slice_ = (of_training(model, slices=n).least for n in (1, 4))
    assert slice_ == whole // 4
    assert "on each of 4 processes" in of_training(model, slices=4).parts


# ---- Files -------------------------------------------------------------------------------------------

SAMPLING = "--model tiny --few-shot 1 --limit 7 --n 2 --batch-rows 2 --max-new-tokens 12 --device cpu".split()


def sample_and_rerank(folder: Path) -> None:
    """Both commands, in this process or in this one of two; groups of the 7 problems are 4 and 3."""
    samples, scored = folder / "s.jsonl", folder / "scored.jsonl"
    assert sample.main([*SAMPLING, "--out", str(samples)]) == 0
    scoring = ["--evaluator", str(ROOT / "mathref/assets/tiny"), "--samples", str(samples), "--device", "cpu"]
    scoring += ["--out", str(scored)]
    assert rerank.main([*scoring, "--strategy", "rr.majk", "--k", "1"]) == 0
    assert rerank.main(scoring) == 0  # what the other rules read is added


def test_two_processes_write_the_files_of_one(tmp_path: Path) -> None:
    """From nothing, and from what two processes left when they were killed."""
    one, two, again = (tmp_path / name for name in ("one", "two", "again"))
    for folder in (one, two, again):
        folder.mkdir()
    sample_and_rerank(one)
    lines = (one / "s.jsonl").read_bytes().splitlines(keepends=True)
    (again / "s.jsonl").write_bytes(lines[0])
    (again / "s.jsonl.part0").write_bytes(lines[0] + lines[2][:40])
    (again / "s.jsonl.part3").write_bytes(lines[0] + b"".join(lines[5:]))  # there were four
    scored = (one / "scored.jsonl").read_bytes().splitlines(keepends=True)
    (again / "scored.jsonl").write_bytes(scored[0])
    (again / "scored.jsonl.part1").write_bytes(scored[0] + scored[3])
    result = torchrun(__file__, "files", two, again)
    assert result.returncode == 0, result.stderr
    for folder in (two, again):
        for name in ("s.jsonl", "scored.jsonl"):
            assert (folder / name).read_bytes() == (one / name).read_bytes(), name
        assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in one.iterdir())
        costs = [json.loads((f / "scored.jsonl.cost.json").read_text()) for f in (one, folder)]
        assert [costs[0].pop("seconds") > 0, costs[1].pop("seconds") > 0] and costs[0] == costs[1]
    assert result.stdout.count("s.jsonl: 14 samples") == 2, "the first process alone reports"


def test_the_script_as_a_user_starts_it_with_more_processes_than_problems(tmp_path: Path) -> None:
    """Without the two dashes torchrun takes --n for a flag of its own."""
    flags = ["--model", "tiny", "--limit", "1", "--n", "3", "--max-new-tokens", "8"]
    result = torchrun("--", "sample.py", *flags, "--out", tmp_path / "two.jsonl")
    assert result.returncode == 0, result.stderr
    assert sample.main([*flags, "--out", str(tmp_path / "one.jsonl")]) == 0
    assert (tmp_path / "two.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.jsonl", "two.jsonl"]


def test_one_process_takes_up_the_parts_of_many_in_order(tmp_path: Path) -> None:
    """Appended to FILE, what was missing would have come behind what the parts hold."""
    whole, path = tmp_path / "whole.jsonl", tmp_path / "s.jsonl"
    assert sample.main([*SAMPLING, "--out", str(whole)]) == 0
    lines = whole.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0])
    (tmp_path / "s.jsonl.part1").write_bytes(lines[0] + b"".join(lines[5:]))
    assert sample.main([*SAMPLING, "--out", str(path)]) == 0
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.jsonl", "whole.jsonl"]


def test_parts_of_another_run_are_refused_and_overwritten_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    for name in (path, tmp_path / "s.jsonl.part0"):
        with SamplesFile(name, {"seed": 1}) as file:
            file.append([SampledProblem("a", "P", "1", ())])
    with pytest.raises(ValueError, match="seed is 1 there, 2 here"), open_shared(path, {"seed": 2}, []):
        pass
    with open_shared(path, {"seed": 2}, [], overwrite=True):
        pass
    assert read_samples(path)[0] == {"seed": 2} and not (tmp_path / "s.jsonl.part0").exists()


# ---- Commands ----------------------------------------------------------------------------------------


def test_parallel_without_torchrun_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import train as script

    line = f"--stage ssft --parallel fsdp --out {tmp_path / 'out'}"
    assert run_command(script.main, line.split()) == 2
    assert "torchrun --nproc-per-node N train.py" in capsys.readouterr().err


def test_a_users_mistake_is_one_line(tmp_path: Path) -> None:
    result = torchrun("train.py", "--stage", "ssft", "--lr", "-1", "--out", tmp_path / "out")
    (line,) = errors(result)
    assert line == "train.py: error: --lr is -1.0, expected a positive number"
    assert result.returncode == 1 and not (tmp_path / "out").exists()


FLAGS = (
    "--batch-size 6 --eval-every 4 --n-greedy 4 --n-validation 8 --max-new-tokens 24 --log-every 1".split()
)
FLAGS += "--save-every 1 --warmup-steps 2 --device cpu".split()


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_train_py_with_a_killed_process_is_resumed_by_one(parallel: str, tmp_path: Path) -> None:
    """A real SIGKILL of one of two processes; the whole run by one process is the measure."""
    import train as script

    line = ["--stage", "ssft", "--steps", "8", *FLAGS]
    assert run_command(script.main, [*line, "--out", str(tmp_path / "one")]) == 0
    out = tmp_path / "two"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["train.py", *line, "--parallel", parallel, "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=-3, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (out / CHECKPOINT).exists():
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    assert process.wait() == 1
    assert metrics(out)[-1]["step"] < 8
    assert run_command(script.main, [*line, "--resume", "--out", str(out)]) == 0
    assert_same_run(tmp_path / "one", out)


@pytest.mark.slow
def test_the_stages_of_mtsf_under_torchrun(tmp_path: Path) -> None:
    """Candidates are drawn by both processes, an evaluator is calibrated, the stages follow one another."""
    import train as script

    line = "--stage mtsf --steps 2 --n-problems 40 --n-candidates 4 --temperature 0.6".split() + FLAGS
    line[line.index("--max-new-tokens") + 1] = "120"
    assert run_command(script.main, [*line, "--out", str(tmp_path / "one")]) == 0
    result = torchrun("train.py", *line, "--parallel", "fsdp", "--out", tmp_path / "two", timeout=600)
    assert result.returncode == 0, result.stderr
    one, two = (sorted(p.relative_to(f) for p in f.rglob("*")) for f in (tmp_path / "one", tmp_path / "two"))
    assert one == two
    losses = [[m["train/loss"] for m in metrics(tmp_path / name)] for name in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


# ---- What torchrun starts ----------------------------------------------------------------------------


def runs(folder: Path, parallel: str) -> None:
    for name in RUNS:
        train_run(name, folder, parallel, resume=name == "resumed")
    interrupted(folder, parallel, "two-thirds", partial(_raise, Killed()))


def lost(folder: Path, parallel: str) -> None:
    """Process 1 leaves in the middle of step 4, so that the last checkpoint is that of step 2."""
    interrupted(folder, parallel, "uneven", partial(os._exit, 0) if processes.rank() else None)


def _raise(error: Exception) -> None:
    raise error


def interrupted(folder: Path, parallel: str, name: str, leave) -> None:
    """The run "uneven" in FOLDER/NAME, with `leave()` called at the start of step 4."""
    from mathref import trainer

    real, steps = trainer.optimise_step, iter(range(1, 5))

    def step(*arguments):
        if next(steps) == 4 and leave:
            leave()
        return real(*arguments)

    trainer.optimise_step = step
    RUNS[name] = RUNS["uneven"]
    try:
        train_run(name, folder, parallel)
    except Killed:
        pass


def files(*folders: Path) -> None:
    for folder in folders:
        sample_and_rerank(Path(folder))


CASES = {"runs": runs, "lost": lost, "files": files}


def main(argv: list[str]) -> int:
    torch.set_num_threads(1)
    processes.start("cpu")
    case, folder, *rest = argv
    CASES[case](Path(folder), *rest)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
