"""train.py: the plan of a sequence, candidates, MTSF from end to end, and a killed sequence that goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import train
from mathref.formats import Sample, SampledProblem
from mathref.problems import generate
from mathref.runs import publish, run_command
from mathref.samples import write_samples
from mathref.weights import load_model

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def planned(line):
    return train.plan(train.parse_args(line.split()))


def refused(line, capsys):
    """The one line on stderr of a command that ends with status 2."""
    assert run_command(train.main, line.split()) == 2
    lines = [text for text in capsys.readouterr().err.splitlines() if "error:" in text]
    assert len(lines) == 1
    return lines[0]


# --- The plan ---


def test_mtsf_is_generator_evaluator_generator_with_defaults_of_each():
    first, second, third = planned("--stage mtsf --out runs/x")
    assert [own.stage for own in (first, second, third)] == ["ssft", "scr", "ssft"]
    assert [str(own.out) for own in (first, second, third)] == [
        "runs/x/1-ssft",
        "runs/x/2-scr",
        "runs/x/3-ssft",
    ]
    assert (first.steps, second.steps) == (train.DEFAULTS["ssft"]["steps"], train.DEFAULTS["scr"]["steps"])
    assert third.steps == 200 == train.LATER_SSFT_STEPS  # section 8
    assert first.lr == train.DEFAULTS["ssft"]["lr"] != second.lr == train.DEFAULTS["scr"]["lr"]
    assert first.eval_every != second.eval_every and third.lr == first.lr


def test_a_flag_wins_over_the_defaults_of_every_stage():
    stages = planned("--stage mtsf --sequence ssft,joint,ssft --steps 5,6,7 --lr 0.5 --warmup-steps 0")
    assert [own.steps for own in stages] == [5, 6, 7] and {own.lr for own in stages} == {0.5}
    assert {own.warmup_steps for own in stages} == {0}  # 0 is a value, not a missing one
    assert [own.steps for own in planned("--stage mtsf --steps 9")] == [9, 9, 9]
    (alone,) = planned("--stage scr")
    assert (str(alone.out), alone.steps, alone.model) == ("runs/scr", 300, "runs/ssft")
    assert train.parse_args(["--stage", "mtsf"]).model == "tiny"
    assert train.parse_args("--stage mtsf --sequence scr,ssft".split()).model == "runs/ssft"


def test_both_losses_read_as_many_candidates_a_step():
    (xent,), (margin,) = planned("--stage scr"), planned("--stage scr --loss margin")
    assert xent.batch_size == 2 * margin.batch_size
    (given,) = planned("--stage scr --loss margin --batch-size 7")
    assert given.batch_size == 7


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--sequence ssft,sft", "--sequence has 'sft', expected stages of ssft, scr"),
        ("--sequence ssft,pretrain", "--sequence has 'pretrain'"),
        ("--sequence ,", "--sequence is empty"),
        ("--steps 3,4", "--steps has 2 numbers for 3 stages (ssft, scr, ssft)"),
        ("--steps 0", "--steps is 0, expected at least 1"),
        ("--log-every 0", "--log-every is 0, expected at least 1"),
        ("--sequence ssft,ssft --steps 2,0", "--steps is 0, expected at least 1"),  # not after stage 1
        (
            "--model tiny --sequence scr --loss margin --margin -1",
            "--margin is -1.0",
        ),  # not after the candidates
        ("--save-every -1", "--save-every is -1, expected at least 0"),
        ("--eval-every -5", "--eval-every is -5, expected at least 0"),
        ("--warmup-steps -3", "--warmup-steps is -3, expected at least 0"),
        ("--weight-decay -3", "--weight-decay is -3.0, expected at least 0"),
        ("--weight-decay nan", "--weight-decay is nan, expected at least 0"),
        ("--lr inf", "--lr is inf, expected a positive number"),
        ("--n-greedy -1", "--n-greedy is -1, expected at least 0"),
        ("--max-new-tokens 0", "--max-new-tokens is 0, expected at least 1"),  # not at the first validation
        ("--n-problems -1", "--n-problems is -1, expected at least 1"),  # "Sample larger than population"
        ("--n-candidates 0", "--n-candidates is 0, expected at least 1"),
        ("--batch-rows 0", "--batch-rows is 0, expected at least 1"),
    ],
)
def test_an_impossible_sequence_is_one_line(flags, said, tmp_path, capsys):
    """An empty sequence ended in a traceback, and --steps 0 trained with the default number of steps."""
    assert said in refused(f"--stage mtsf {flags} --out {tmp_path / 'out'}", capsys)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--stage pretrain --style brief", "--style would be ignored by --stage pretrain"),
        ("--stage pretrain --data math.jsonl", "--data would be ignored by --stage pretrain"),
        ("--stage pretrain --drop-steps 0.1", "--drop-steps would be ignored by --stage pretrain"),
        ("--stage ssft --judged-share 0.5", "--judged-share would be ignored by --stage ssft"),
        ("--stage mtsf --more-layers 2", "--more-layers would be ignored by --stage mtsf"),
        ("--stage ssft --samples s.jsonl", "--samples would be ignored by --stage ssft, it is for scr"),
        ("--stage ssft --loss margin", "--loss would be ignored by --stage ssft, it is for scr, joint"),
        ("--stage scr --merge-steps 9", "--merge-steps would be ignored by --stage scr"),
        ("--stage scr --sequence ssft,ssft", "--sequence would be ignored by --stage scr, it is for mtsf"),
        ("--stage mtsf --sequence ssft,ssft --loss margin", "--loss would be ignored by --stage mtsf"),
        ("--stage scr --samples s.jsonl --n-candidates 4", "--n-candidates would be ignored with --samples"),
        ("--stage ssft --n-validation 0", "--n-validation is 0, expected at least 1"),
        (
            "--stage ssft --n-validation 5000",
            "--n-validation is 5000, and builtin has 1000 validation problems",
        ),
        ("--stage scr --loss margin --xent-space vocab", "--xent-space would be ignored with --loss margin"),
        ("--stage scr --loss margin --balance none", "--balance would be ignored with --loss margin"),
        ("--stage scr --margin 2", "--margin would be ignored with --loss xent"),
        ("--stage mtsf --sequence ssft,joint --margin 2", "--margin would be ignored with --loss xent"),
        ("--stage ssft --data m.jsonl --style brief", "--style would be ignored without builtin in --data"),
        ("--stage ssft --per-problem 3", "--per-problem would be ignored"),
        # A layer was taken away, and shares beyond all or below nothing trained.
        ("--stage pretrain --more-layers -1", "--more-layers is -1, expected at least 0"),
        ("--stage pretrain --judged-share 2", "--judged-share is 2.0, expected a share from 0 to 1"),
        ("--stage pretrain --judged-share nan", "--judged-share is nan, expected a share from 0 to 1"),
    ],
)
def test_a_flag_of_other_stages_is_refused(flags, said, tmp_path, capsys):
    """They were ignored, and the run was another one than its command said."""
    assert said in refused(f"{flags} --out {tmp_path / 'out'}", capsys)


def test_a_flag_that_one_stage_of_several_reads_is_taken():
    planned("--stage contrastive --margin 2")
    planned("--stage mtsf --sequence ssft,scr,contrastive --margin 2")
    planned("--stage mtsf --loss margin --margin 2")
    planned("--stage ssft --data builtin math.jsonl --style brief")


def test_steps_that_are_no_numbers_are_told_what_is_expected(capsys):
    """It was "invalid _steps value"."""
    with pytest.raises(SystemExit):
        train.parse_args("--stage mtsf --steps 2,".split())
    assert "argument --steps: '2,', expected whole numbers" in capsys.readouterr().err


def test_an_evaluator_without_its_generator_is_told_where_one_comes_from(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "make it with `python train.py --stage ssft`" in refused("--stage scr", capsys)


def test_a_file_is_no_run_folder(tmp_path, capsys):
    """It was "[Errno 17] File exists", for scr after all candidates were drawn."""
    (tmp_path / "file").write_text("mine")
    said = refused(f"--stage ssft --out {tmp_path / 'file'}", capsys)
    assert f"{tmp_path / 'file'}: is a file, expected the name of a run folder" in said


def test_the_next_command_can_be_pasted():
    """A blank in the folder's name made two words of it."""
    assert train.following("ssft", Path("my runs/a")) == "python sample.py --model 'my runs/a'"


# --- Runs ---


def solved(folder, n=12):
    """Training data, and graded candidates of the same problems: each solution right and with a slip."""
    problems = generate("train", n)
    lines = [{"problem": p.problem, "answer": p.answer, "solution": p.brief} for p in problems]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sampled = []
    for p in problems:
        right = [Sample(text, p.answer, True) for text in (p.brief, p.detailed)]
        wrong = [Sample(s.text.replace("boxed{", "boxed{9"), f"9{p.answer}", False) for s in right]
        sampled.append(SampledProblem(p.id, p.problem, p.answer, (*right, *wrong)))
    write_samples(folder / "samples.jsonl", {"model": "test"}, sampled)
    return f"--data {folder / 'data.jsonl'} --samples {folder / 'samples.jsonl'}"


FLAGS = "--batch-size 3 --warmup-steps 1 --eval-every 2 --save-every 1 --log-every 1 --n-greedy 1 "
FLAGS += "--n-validation 2 --max-new-tokens 4 --device cpu"


def files(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def mtsf(folder):
    """The flags of the paper's sequence, but for --out."""
    return f"--stage mtsf --steps 2,6,2 {FLAGS} {solved(folder)}".split()


def test_mtsf_from_end_to_end(tmp_path, capsys):
    whole = tmp_path / "whole"
    line = [*mtsf(tmp_path), "--out", str(whole)]
    assert run_command(train.main, line) == 0
    printed = capsys.readouterr().out
    assert "stage 2 of 3: scr" in printed and "calibration temperature" in printed
    assert f"next: python sample.py --model {whole}" in printed
    written = files(whole)
    assert {"config.json", "model.safetensors", "tokenizer.model", "run.json", "metrics.jsonl"} <= written
    assert {f"{s}/model.safetensors" for s in ("1-ssft", "2-scr", "3-ssft")} <= written
    assert "2-scr/calibration.json" in written and "calibration.json" not in written
    last = (whole / "3-ssft" / "model.safetensors").read_bytes()
    assert (whole / "model.safetensors").read_bytes() == last
    assert load_model(whole, device="cpu")(torch.tensor([[1, 2]])).isfinite().all()
    metrics = [json.loads(text) for text in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [m["stage"] for m in metrics] == ["1-ssft"] * 2 + ["2-scr"] * 6 + ["3-ssft"] * 2
    assert all("val/auc" in m for m in metrics if m["stage"] == "2-scr" and m["step"] % 2 == 0)
    started = [
        json.loads((whole / s / "run.json").read_text())["settings"]["model"] for s in ("2-scr", "3-ssft")
    ]
    assert started == [str(whole / "1-ssft"), str(whole / "2-scr")]  # weights pass from stage to stage
    assert run_command(train.main, [*line, "--resume"]) == 0  # nothing is left to do
    assert files(whole) == written and (whole / "model.safetensors").read_bytes() == last
    # It was trained anew, without a word, and what was made of it no longer was.
    (whole / "2-scr" / "checkpoint.safetensors").unlink()
    assert "2-scr: is finished, at step 6 of 6" in refused(" ".join([*line, "--resume"]), capsys)
    assert (whole / "model.safetensors").read_bytes() == last


@pytest.mark.slow
def test_mtsf_survives_kill_9_in_its_second_stage(tmp_path):
    """A process of its own: all weights are those of the undisturbed sequence.

    In the default run test_crash.py kills a shorter sequence.
    """
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    line = [sys.executable, "train.py", *mtsf(tmp_path), "--out"]

    def finish(folder):
        result = subprocess.run([*line, folder, "--resume"], cwd=ROOT, env=ENVIRONMENT, capture_output=True)
        assert result.returncode == 0, result.stderr.decode()

    finish(whole)
    process = subprocess.Popen([*line, killed], cwd=ROOT, env=ENVIRONMENT, stderr=-3, stdout=-3)
    inside = killed / "2-scr" / "metrics.jsonl"
    while process.poll() is None and not (inside.exists() and inside.read_text().count("\n") >= 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "model.safetensors").exists()
    finish(killed)
    for name in sorted(files(whole)):
        if name.endswith(("model.safetensors", "config.json", "tokenizer.model", "calibration.json")):
            assert (whole / name).read_bytes() == (killed / name).read_bytes(), name


def test_the_control_without_an_evaluator(tmp_path, capsys):
    """Section 12: generator, then generator again; no candidates are asked for."""
    data = solved(tmp_path).split(" --samples")[0]
    line = f"--stage mtsf --sequence ssft,ssft --steps 1 {FLAGS} {data} --out {tmp_path / 'control'}"
    assert run_command(train.main, line.split()) == 0
    assert "stage 2 of 2: ssft" in capsys.readouterr().out
    metrics = (tmp_path / "control" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(text)["stage"] for text in metrics] == ["1-ssft", "2-ssft"]
    assert "holds a run already" in refused(line, capsys)
    assert "steps was [1], is [2]" in refused(f"{line} --resume".replace("--steps 1", "--steps 2"), capsys)


def test_candidates_are_drawn_once_and_trained_on(tmp_path, capsys):
    """The shipped base writes on until it is cut off, which is no class of its own; then its file is graded
    anew by hand, and taken up as it is.
    """
    data = solved(tmp_path).split(" --samples")[0]
    line = f"--stage scr --model tiny --n-problems 4 --n-candidates 4 --max-new-tokens 40 --steps 1 {FLAGS} "
    line = f"{line.replace('--max-new-tokens 4 ', '')} {data} --n-validation 1 --out {tmp_path / 'scr'}"
    message = refused(line, capsys)
    path = tmp_path / "scr-candidates.jsonl"
    assert str(path) in message and "both correct and incorrect candidates" in message
    assert not (tmp_path / "scr").exists()
    meta, *lines = [json.loads(text) for text in path.read_text().splitlines()]
    assert meta["meta"]["n"] == 4 and [len(problem["samples"]) for problem in lines] == [4] * 4
    for problem in lines:
        for i, sample in enumerate(problem["samples"]):
            sample |= {
                "text": f"\\boxed{{{i}}}",
                "answer": str(i),
                "correct": i == 0,
                "finish_reason": "stop",
            }
    path.write_text("".join(json.dumps(record) + "\n" for record in (meta, *lines)))
    assert run_command(train.main, line.split()) == 0
    printed = capsys.readouterr().out
    assert "4 candidates for each of 4 training problems (already there)" in printed
    assert "best checkpoint: step 1 of 1, validation loss" in printed and "pass@1" not in printed
    assert "next: python rerank.py" in printed
    assert (tmp_path / "scr" / "calibration.json").exists()


def test_no_candidate_is_one_of_a_validation_problem(tmp_path):
    """With --n-validation beyond the default, candidates were drawn for problems that ssft validates on."""
    from mathref.data import training_data
    from mathref.samples import read_samples

    solved(tmp_path)
    data = str(tmp_path / "data.jsonl")
    line = f"--stage scr --n-problems 100 --n-candidates 1 --max-new-tokens 1 --n-validation 6 --data {data}"
    args = train.parse_args([*line.split(), "--out", str(tmp_path / "scr")])
    path = train.candidates(train.plan(args)[0], ROOT / "mathref" / "assets" / "tiny", torch.device("cpu"))
    asked = {p.problem for p in read_samples(path)[1]}
    cut = training_data([data], n_validation=6)
    assert asked == {p.problem for p in cut.train} and len(asked) == 6


@pytest.mark.parametrize(
    ("flags", "n_left_out"),
    [
        ("", 0),
        ("--data {data}", 3),
        ("--data {data} --n-validation 2", 3),  # fewer for the evaluator, no fewer of the generator's
        ("--data {data} --n-validation 5", 5),
        ("--families linear", "all but linear"),
    ],
)
def test_given_candidates_are_kept_apart(tmp_path, capsys, flags, n_left_out):
    """An evaluator learnt from problems on which the checkpoint of the generator made of it is chosen, and
    from families that were to be held out.
    """
    solved(tmp_path, 36)
    if n_left_out == "all but linear":
        n_left_out = sum(p.family != "linear" for p in generate("train", 36))
        assert 0 < n_left_out < 36
    flags = flags.format(data=tmp_path / "data.jsonl")
    line = f"--stage scr --model tiny --samples {tmp_path / 'samples.jsonl'} --steps 1 --batch-size 1 {flags}"
    run_command(train.main, [*line.split(), "--out", str(tmp_path / "scr")])
    said = capsys.readouterr()
    assert (f"{n_left_out} problems left out: validation" in said.out + said.err) is bool(n_left_out)


def test_a_problem_without_room_gets_no_candidates(tmp_path, capsys):
    """It ended the stage, and of a sequence all that came before was for nothing: ssft leaves it out."""
    from mathref.samples import read_samples

    solved(tmp_path)
    long = {"problem": "What is 1+1? " * 400, "answer": "2", "solution": "So \\boxed{2}."}
    with open(tmp_path / "data.jsonl", "a") as file:
        file.write(json.dumps(long) + "\n")
    line = f"--stage scr --n-candidates 1 --max-new-tokens 1 --data {tmp_path / 'data.jsonl'}"
    args = train.parse_args([*line.split(), "--out", str(tmp_path / "scr")])
    path = train.candidates(train.plan(args)[0], ROOT / "mathref" / "assets" / "tiny", torch.device("cpu"))
    assert "1 problems get no candidates: they fill the context of 1024 tokens" in capsys.readouterr().out
    assert len(read_samples(path)[1]) == 11 and "1+1? What" not in path.read_text()


def test_candidates_of_another_run_are_not_told_to_use_a_flag_that_is_not_there(tmp_path):
    solved(tmp_path)
    line = f"--stage scr --n-problems 2 --n-candidates 1 --max-new-tokens 1 --data {tmp_path / 'data.jsonl'}"
    tiny, cpu = ROOT / "mathref" / "assets" / "tiny", torch.device("cpu")
    for temperature in ("0.9", "0.8"):
        args = train.parse_args([*line.split(), "--temperature", temperature, "--out", str(tmp_path / "scr")])
        if temperature == "0.9":
            train.candidates(train.plan(args)[0], tiny, cpu)
    with pytest.raises(ValueError, match="temperature is 0.9 there, 0.8 here.*choose another --out"):
        train.candidates(train.plan(args)[0], tiny, cpu)


def test_publishing_twice_leaves_no_temporary_file(tmp_path):
    """A rename between two links of one file does nothing: every --resume of a finished run left links."""
    last, folder = tmp_path / "out" / "1-ssft", tmp_path / "out"
    last.mkdir(parents=True)
    (last / "model.safetensors").write_bytes(b"weights")
    (last / ".model.safetensors.1.tmp").write_bytes(b"half of them")  # what a kill left
    (last / "metrics.jsonl").write_text('{"step": 1}\n')
    for _ in range(2):
        publish(last, folder)
    assert {p.name for p in folder.iterdir()} == {"1-ssft", "model.safetensors", "metrics.jsonl"}
    assert (folder / "metrics.jsonl").read_text() == '{"stage": "1-ssft", "step": 1}\n'
    (last / "model.safetensors").unlink()
    (last / "model.safetensors").write_bytes(b"other weights")
    publish(last, folder)
    assert (folder / "model.safetensors").read_bytes() == b"other weights"


def test_the_metrics_of_ten_stages_stand_in_their_order(tmp_path):
    """Sorted by name, stage 10 came before stage 2."""
    for number in range(1, 12):
        stage = tmp_path / f"{number}-ssft"
        stage.mkdir()
        (stage / "metrics.jsonl").write_text('{"step": 1}\n')
    publish(tmp_path / "11-ssft", tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines] == [f"{n}-ssft" for n in range(1, 12)]


def test_the_default_rate_is_told_to_be_for_small_models(capsys, monkeypatch):
    """Commands of the documents trained whatever model at the shipped ones' 1.5e-3, without a word."""
    monkeypatch.setattr(train, "LARGE", 800_000)  # tiny has 836,736 weights
    for flags, said in (("", True), (" --lr 1e-5", False)):
        train.check_memory(train.parse_args(f"--stage ssft --model tiny{flags}".split()), None)
        assert (
            "default --lr is for the shipped models; for 836,736 weights" in capsys.readouterr().err
        ) == said


def test_candidates_are_those_of_the_last_generator(monkeypatch):
    """A stage starts from the model of the one before, but an evaluator draws no candidates."""
    seen = []
    monkeypatch.setattr(
        train,
        "run_stage",
        lambda own, generator, adapters: seen.append((own.stage, Path(own.model).name, generator.name)),
    )
    monkeypatch.setattr(train, "report", lambda *_: None)
    monkeypatch.setattr(train, "resolve_model", Path)
    train.run_in_turn(planned("--stage mtsf --sequence ssft,scr,joint --model tiny --out runs/m"), None)
    assert seen == [("ssft", "tiny", "tiny"), ("scr", "1-ssft", "1-ssft"), ("joint", "2-scr", "1-ssft")]
