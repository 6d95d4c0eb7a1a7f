"""The training loop: what carries loss, how a step is cut, and that a killed run goes on bit for bit."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from mathref import linear, trainer, vocabulary
from mathref.batches import (
    Example,
    drop_too_long,
    encode_document,
    encode_example,
    micro_batches,
    pack_batch,
    step_items,
)
from mathref.checkpoint import (
    CHECKPOINT,
    METRICS,
    Progress,
    check_resumable,
    keep_metrics_until,
    load_checkpoint,
)
from mathref.model import ModelConfig, Transformer
from mathref.tokenizer import train_sentencepiece
from mathref.trainer import (
    SolutionLikelihood,
    TrainConfig,
    autocast,
    learning_rate,
    log_line,
    make_optimizer,
    mean_loss,
    optimise_step,
    train,
)
from mathref.weights import WEIGHTS

CONFIG = ModelConfig(
    vocab_size=50, n_layer=2, n_head=4, n_kv_head=2, head_dim=8, n_embd=32, n_inner=48, max_seq_len=64
)
ROOT = Path(__file__).resolve().parent.parent


def new_model(seed=0):
    torch.manual_seed(seed)
    return Transformer(CONFIG)


def examples(n, seed=0):
    """Examples of very different lengths, with prompts of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(n):
        n_prompt = int(torch.randint(1, 12, (1,), generator=generator))
        length = n_prompt + int(torch.randint(1, 40, (1,), generator=generator))
        made.append(Example(torch.randint(1, 50, (length,), generator=generator).tolist(), n_prompt))
    return made


def gradients(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def run(model, items, folder, config, **options):
    folder.mkdir(exist_ok=True)
    validate = options.pop(
        "validate", lambda m: {"val/loss": mean_loss(m, items[:8], SolutionLikelihood(), config)}
    )
    save_best = options.pop("save_best", lambda m: None)
    return train(
        model, items, SolutionLikelihood(), config, folder, validate=validate, save_best=save_best, **options
    )


# --- Property 9 of PAPER.md section 13 ---


def test_loss_is_the_mean_over_solution_tokens_of_each_example_alone():
    """Independent computation: each example by itself, unpadded, torch's cross-entropy on its targets."""
    model, items = new_model(), examples(9)
    config = TrainConfig(steps=1, tokens_per_batch=64)
    total, n_targets = 0.0, 0
    with torch.no_grad():
        for item in items:
            logits = model(torch.tensor([item.ids]))[0]  # (T, V)
            total += F.cross_entropy(
                logits[item.n_prompt - 1 : -1], torch.tensor(item.ids[item.n_prompt :]), reduction="sum"
            ).item()
            n_targets += len(item.ids) - item.n_prompt
    loss, _, n_tokens = optimise_step(
        model, items, SolutionLikelihood(), make_optimizer(model, config), 1e-3, config
    )
    assert loss == pytest.approx(total / n_targets, rel=1e-5)
    assert n_tokens == sum(len(item.ids) for item in items)


def test_micro_batches_give_the_gradient_of_the_one_large_batch():
    """A mean of micro-batch means would differ, since the lengths do; clipping is out of reach."""
    items = examples(12)
    grads = []
    for budget in (1, 100, 10**6):  # one example each, a few, all at once
        model = new_model()
        config = TrainConfig(steps=1, tokens_per_batch=budget, max_grad_norm=1e9)
        optimise_step(model, items, SolutionLikelihood(), make_optimizer(model, config), 1e-3, config)
        grads.append(gradients(model))
    assert torch.allclose(grads[0], grads[2], atol=1e-6) and torch.allclose(grads[1], grads[2], atol=1e-6)
    assert grads[2].norm() > 1e-2


def test_a_packed_step_has_the_gradient_of_each_example_alone():
    """Shared prompts, an example that begins another, one that comes twice: each counts in full."""
    prompt = list(range(1, 21))  # long enough to be computed once
    first, second = Example([*prompt, 30, 31, 2], 20), Example([*prompt, 30, 32, 33, 2], 20)
    items = [first, second, Example([*prompt, 30, 32, 33, 34, 2], 20), first, *examples(5)]
    tree = pack_batch(items, torch.device("cpu")).tree
    assert tree.tokens.shape[1] < sum(len(item.ids) - 1 for item in items) - 3 * len(prompt)
    model, config = new_model(), TrainConfig(steps=1, tokens_per_batch=10**6, max_grad_norm=1e9)
    optimise_step(model, items, SolutionLikelihood(), make_optimizer(model, config), 1e-3, config)
    packed = gradients(model)
    model.zero_grad()
    n_targets = sum(len(item.ids) - item.n_prompt for item in items)
    for item in items:
        logits = model(torch.tensor([item.ids[:-1]]))[0, item.n_prompt - 1 :]
        (
            F.cross_entropy(logits, torch.tensor(item.ids[item.n_prompt :]), reduction="sum") / n_targets
        ).backward()
    torch.testing.assert_close(packed, gradients(model), rtol=1e-3, atol=1e-6)
    assert packed.norm() > 1e-2


def test_a_step_with_the_chunked_head_is_the_plain_step(monkeypatch):
    """Tied embeddings, whose gradient comes from both ends of the model, in chunks of 7 targets."""
    grads = []
    for few, chunk in ((10**9, 10**9), (0, 7 * CONFIG.vocab_size)):
        monkeypatch.setattr(vocabulary, "FEW", few)
        monkeypatch.setattr(vocabulary, "CPU_CHUNK", chunk)
        model, config = new_model(), TrainConfig(steps=1, tokens_per_batch=100, max_grad_norm=1e9)
        optimise_step(model, examples(9), SolutionLikelihood(), make_optimizer(model, config), 1e-3, config)
        grads.append(gradients(model))
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)


def test_prompt_and_padding_predictions_get_no_gradient_the_boundary_and_eos_do():
    model = new_model()
    seen = {}
    head = model.head

    def spy(hidden):  # keeps the logits that the loss reads
        seen["n"] = len(hidden)
        return head(hidden)

    model.head = spy
    items = [Example([5, 6, 7, 8, 9, 2], 3), Example([5, 6, 2], 1)]
    SolutionLikelihood().loss(model, items)
    # 3 targets (8, 9, 2) from positions 2, 3, 4, the first of them the last prompt position; and 2 (6, 2).
    assert seen["n"] == 5 == sum(SolutionLikelihood().weight(item) for item in items)


def test_changing_a_prompt_target_or_the_padding_width_leaves_the_loss_alone():
    model, objective = new_model(), SolutionLikelihood()
    short = Example([5, 6, 7, 8, 2], 3)
    alone = objective.loss(model, [short]).item()
    longer = Example([9] * 30 + [2], 30)
    together = objective.loss(model, [short, longer]).item() - objective.loss(model, [longer]).item()
    assert together == pytest.approx(alone, abs=1e-4)


def test_a_solution_of_one_token_trains():
    model, config = new_model(), TrainConfig(steps=1)
    loss, norm, _ = optimise_step(
        model, [Example([5, 6, 2], 2)], SolutionLikelihood(), make_optimizer(model, config), 1e-3, config
    )
    assert loss > 0 and norm > 0


def test_activation_checkpointing_changes_memory_not_gradients():
    grads = []
    for switch in (False, True):
        model, config = new_model(), TrainConfig(steps=1, max_grad_norm=1e9)
        model.checkpoint_layers = switch
        optimise_step(model, examples(6), SolutionLikelihood(), make_optimizer(model, config), 1e-3, config)
        grads.append(gradients(model))
    assert torch.allclose(*grads, atol=1e-7)


def test_eos_is_a_target_and_prompt_tokens_are_those_of_sampling():
    """trl #1623: a model whose EOS is masked out of the labels never stops."""
    lines = ["Problem: What is 1+1?", "Solution: 1+1=2, so the answer is \\boxed{2}."] * 3
    tokenizer = train_sentencepiece(lines, 300)
    example = encode_example(tokenizer, "What is 1+1?", "1+1=2.")
    assert example.ids[-1] == tokenizer.eos_ids[0] and example.ids[0] == tokenizer.bos_id
    assert example.ids[1 : example.n_prompt] == tokenizer.encode("Problem: What is 1+1?\nSolution:")
    assert tokenizer.decode(example.ids[example.n_prompt :]) == " 1+1=2."
    document = encode_document(tokenizer, "1+1=2")
    assert document.n_prompt == 1 and document.ids[-1] == tokenizer.eos_ids[0]


# --- Cutting and ordering ---


def test_micro_batches_keep_every_item_within_the_budget():
    items = examples(40)
    groups = micro_batches(items, lambda item: len(item.ids), 100)
    assert sorted(map(id, items)) == sorted(id(item) for group in groups for item in group)
    for group in groups:
        assert len(group) == 1 or sum(len(item.ids) for item in group) <= 100
    assert len(groups) < 1.5 * sum(len(item.ids) for item in items) / 100 + 1


def test_every_epoch_sees_every_example_once_in_another_order():
    items = list(range(10))
    places = [item for step in range(6) for item in step_items(items, step, 5, seed=0)]
    epochs = [places[i : i + 10] for i in (0, 10, 20)]
    assert all(sorted(epoch) == items for epoch in epochs) and epochs[0] != epochs[1] != items
    # Steps that cross an epoch's end, and sets smaller than a step.
    assert sorted(step_items([0, 1], 0, 4, seed=0)) == [0, 0, 1, 1]


def test_learning_rate_warms_up_and_decays():
    config = TrainConfig(steps=100, lr=1.0, warmup_steps=10)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0) == rates[10]
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[100] == pytest.approx(0.1)
    assert learning_rate(99, replace(config, schedule="constant")) == 1.0


def test_examples_beyond_the_context_are_left_out_and_counted():
    items = [Example([1] * 10, 1), Example([1] * 70, 1)]
    assert drop_too_long(items, 64) == (items[:1], 1)


def test_two_steps_of_the_optimiser_are_those_of_its_definition():
    """AdamW by hand: averages with 0.9 and 0.95, unbiased; decay apart from them, on matrices alone."""
    model, config = new_model(), TrainConfig(steps=2, lr=0.01, weight_decay=0.1)
    optimizer = make_optimizer(model, config)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for gradient in (0.5, -0.25):
        for p in model.parameters():
            p.grad = torch.full_like(p, gradient)
        optimizer.step()
    # First m / sqrt(v) = 1. Then m = (0.9 * 0.05 - 0.025) / (1 - 0.81) = 2 / 19 and
    # v = (0.95 * 0.0125 + 0.003125) / (1 - 0.9025) = 2 / 13, so m / sqrt(v) = 0.268369.
    for name, p in model.named_parameters():
        keep = 1 - 0.01 * (0.1 if p.dim() >= 2 else 0.0)
        expected = (before[name] * keep - 0.01) * keep - 0.01 * 0.268369
        torch.testing.assert_close(p.detach(), expected, atol=1e-6, rtol=1e-5)


def test_norm_weights_are_not_decayed():
    optimizer = make_optimizer(new_model(), TrainConfig(steps=1))
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0.0]
    assert {p.dim() for p in optimizer.param_groups[1]["params"]} == {1}


# --- Runs, checkpoints, faults ---


def test_training_learns(tmp_path):
    items = examples(16)
    model = new_model()
    config = TrainConfig(steps=60, batch_size=16, lr=1e-2, log_every=1)
    run(model, items, tmp_path, config)
    losses = [json.loads(line)["train/loss"] for line in (tmp_path / METRICS).read_text().splitlines()]
    assert len(losses) == 60 and losses[-1] < 0.5 * losses[0]


def test_resumed_run_equals_the_undisturbed_one_bit_for_bit(tmp_path):
    items = examples(20)
    config = TrainConfig(
        steps=12, batch_size=6, lr=1e-2, save_every=4, log_every=1, eval_every=3, warmup_steps=3
    )
    whole, broken = new_model(), new_model()
    end = run(whole, items, tmp_path / "whole", config)

    class Killed(Exception):
        pass

    def die(step):
        def validate(model):
            count["n"] += 1
            if count["n"] == step:
                raise Killed
            return {"val/loss": mean_loss(model, items[:8], SolutionLikelihood(), config)}

        count = {"n": 0}
        return validate

    with pytest.raises(Killed):  # at step 9, behind the checkpoint of step 8; steps 9 are run again
        run(broken, items, tmp_path / "broken", config, validate=die(3))
    fresh = new_model(seed=99)  # all of its state has to come from the checkpoint
    resumed = run(fresh, items, tmp_path / "broken", config, resume=True)
    for a, b in zip(whole.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (resumed.step, resumed.best, resumed.best_step) == (end.step, end.best, end.best_step)

    def comparable(folder):
        lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
        return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]

    assert comparable(tmp_path / "whole") == comparable(tmp_path / "broken")
    checkpoints = [safetensors.torch.load_file(tmp_path / name / CHECKPOINT) for name in ("whole", "broken")]
    assert checkpoints[0].keys() == checkpoints[1].keys()
    assert all(torch.equal(t, checkpoints[1][k]) for k, t in checkpoints[0].items())


def test_a_finished_run_is_not_begun_again(tmp_path):
    """Once its checkpoint was deleted, which is allowed, --resume trained it anew, over its model."""
    config = TrainConfig(steps=2, batch_size=4, log_every=1)
    assert check_resumable(tmp_path / "new", 2) == ""
    run(new_model(), examples(8), tmp_path, config)
    (tmp_path / WEIGHTS).write_bytes(b"the best model")
    assert check_resumable(tmp_path, 2) == ""
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors, the best model so far, is gone"):
        check_resumable(tmp_path, 2)
    (tmp_path / CHECKPOINT).unlink()
    with pytest.raises(FileNotFoundError, match=r"is finished, at step 2 of 2, and its checkpoint"):
        check_resumable(tmp_path, 2)
    (tmp_path / METRICS).write_text('{"step": 1}\n{"step": 2, "val')  # a kill came before the checkpoint
    assert check_resumable(tmp_path, 2) == f"{tmp_path}: no checkpoint, starts at step 0"


def test_a_checkpoint_brings_the_line_that_a_kill_kept_from_metrics(tmp_path):
    """The line comes after the checkpoint, so that one that is there says that its step is saved."""
    config = TrainConfig(steps=4, batch_size=4, log_every=1, save_every=2)
    run(new_model(), examples(8), tmp_path, config)
    whole = (tmp_path / METRICS).read_text()
    for cut in (whole[: whole.rindex('{"step"')], whole[:-5], ""):
        (tmp_path / METRICS).write_text(cut)
        run(new_model(), examples(8), tmp_path, config, resume=True)
        assert (tmp_path / METRICS).read_text() == (whole if cut else whole[whole.rindex('{"step"') :])


@pytest.mark.parametrize("line", ["{}", '{"step": "a"}', '{"step": 1.5}', "[1]"])
def test_metrics_of_another_shape_are_one_line(tmp_path, line):
    """They ended --resume in a KeyError or a TypeError."""
    (tmp_path / METRICS).write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(ValueError, match=rf"{METRICS}:2: ('step' is|expected a JSON object)"):
        keep_metrics_until(tmp_path / METRICS, Progress(step=1))


def test_with_zero_it_is_saved_and_validated_at_the_end_only(tmp_path, monkeypatch):
    """--save-every 0 was refused while --eval-every 0 was not."""
    saved, validated = [], []
    monkeypatch.setattr(
        trainer, "save_checkpoint", lambda file, model, _, state, __: saved.append(state.step)
    )

    def validate(model):
        validated.append(True)
        return {"val/loss": 1.0}

    config = TrainConfig(steps=5, batch_size=4, save_every=0, eval_every=0)
    run(new_model(), examples(8), tmp_path, config, validate=validate)
    assert saved == [5] and len(validated) == 1


@pytest.mark.slow
def test_kill_9_in_the_middle_of_train_py_is_resumed(tmp_path):
    """A real process and a real SIGKILL; after --resume the weights are those of the undisturbed run.

    It is the script as users start it; the default run has forked processes, in test_crash.py.
    """
    flags = "--stage ssft --steps 8 --batch-size 2 --eval-every 4 --save-every 1 --log-every 1".split()
    flags += "--warmup-steps 2 --n-greedy 2 --n-validation 4 --max-new-tokens 20".split()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(name):
        return [sys.executable, "train.py", *flags, "--out", str(tmp_path / name)]

    subprocess.run(command("whole"), cwd=ROOT, env=environment, check=True, capture_output=True)
    process = subprocess.Popen(
        command("killed"), cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, stdout=-3
    )
    metrics = tmp_path / "killed" / METRICS
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = subprocess.run(
        [*command("killed"), "--resume"],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "wrote" in resumed.stdout
    for name in ("model.safetensors", "config.json", "tokenizer.model"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name


def test_the_best_model_is_kept_not_the_last(tmp_path):
    scores, kept = iter([0.2, 0.6, 0.6, 0.1]), []
    losses = iter([1.0, 2.0, 1.5, 0.5])
    config = TrainConfig(steps=4, batch_size=2, eval_every=1)

    def validate(model):
        return {"val/pass@1": next(scores), "val/loss": next(losses)}

    progress = run(
        new_model(),
        examples(4),
        tmp_path,
        config,
        validate=validate,
        save_best=lambda m: kept.append(len(kept)),
    )
    assert progress.best_step == 3 and progress.best == [0.6, -1.5] and len(kept) == 3


def test_a_log_that_is_no_terminal_gets_a_line_a_validation(tmp_path, capfd):
    """Once nothing was shown between start and end of a run whose output goes to a file."""
    config = TrainConfig(steps=4, batch_size=2, eval_every=2)
    run(new_model(), examples(4), tmp_path, config)
    shown = capfd.readouterr()
    assert shown.out == ""
    first, last = shown.err.splitlines()
    number = r"\d+\.\d+"
    said = rf"step 2/4: loss {number}, validation loss {number}, [\d,]+ tokens/s, \d+ s left"
    assert re.fullmatch(said, first) and last.startswith("step 4/4: ") and last.endswith(", 0 s left")


def test_log_line_is_computed_from_the_metrics():
    line = {
        "step": 50,
        "train/loss": 0.51234,
        "lr": 1e-3,
        "grad_norm": 1.0,
        "tokens": 80_000,
        "seconds": 40.0,
    }
    line |= {"val/loss": 0.25, "val/mle": 0.5, "val/pass@1": 0.375}
    assert log_line(line, 200) == (  # 40 s for 50 steps are 120 s for the other 150
        "step 50/200: loss 0.512, validation loss 0.2500, validation mle 0.5000, validation pass@1 37.5%, "
        "2,000 tokens/s, 120 s left"
    )


def test_only_shares_of_problems_are_shown_as_percentages():
    """The joint loss's two parts were, and the AUC: 69.3% for a loss of 0.693."""
    line = {"step": 1, "train/loss": 0.5, "tokens": 10, "seconds": 1.0}
    line |= {"val/loss": 1.0, "val/cls": 0.693, "val/mle": 0.307, "val/auc": 0.5, "val/rr.all": 0.25}
    shown = log_line(line, 1)
    assert "validation cls 0.6930, validation mle 0.3070, validation auc 0.5000" in shown
    assert "validation rr.all 25.0%" in shown


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(tmp_path):
    model, items = new_model(), examples(8)
    config = TrainConfig(steps=10, batch_size=4, save_every=1, lr=1e-3)
    calls = {"n": 0}

    class Explodes(SolutionLikelihood):
        def loss(self, model, items):
            calls["n"] += 1
            return super().loss(model, items) * (float("nan") if calls["n"] > 5 else 1)

    with pytest.raises(FloatingPointError, match=r"step 6: loss nan.*checkpoint\.safetensors.*--lr"):
        train(
            model, items, Explodes(), config, tmp_path, validate=lambda m: {"val/loss": 0.0}, save_best=print
        )
    stored = safetensors.torch.load_file(tmp_path / CHECKPOINT)
    assert all(t.isfinite().all() for t in stored.values())
    assert all(p.isfinite().all() for p in model.parameters())


def test_checkpoint_of_other_settings_or_a_damaged_one_is_refused(tmp_path):
    items, config = examples(4), TrainConfig(steps=2, batch_size=2)
    run(new_model(), items, tmp_path, config, fingerprint="a")
    with pytest.raises(ValueError, match="other settings"):
        run(new_model(), items, tmp_path, config, fingerprint="b", resume=True)
    data = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        run(new_model(), items, tmp_path, config, fingerprint="a", resume=True)


NORM = "model.norm.weight"


def change_progress(metadata, **values):
    metadata["progress"] = json.dumps(json.loads(metadata["progress"]) | values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: t.pop(NORM), "missing model.norm.weight; put a whole copy"),
        (lambda t, m: t.pop(f"optimizer.exp_avg.{NORM[6:]}"), "missing optimizer.exp_avg.norm.weight"),
        (
            lambda t, m: t.update({NORM: t[NORM][:3]}),
            "model.norm.weight is [3] torch.float32, expected [32] ",
        ),
        (lambda t, m: t.update({NORM: t[NORM].half()}), "model.norm.weight is [32] torch.float16, expected "),
        (lambda t, m: t.update({"model.extra": t[NORM].clone()}), "unexpected model.extra"),
        (lambda t, m: [t.pop(name) for name in list(t)[5:]], "; and "),
        (lambda t, m: m.pop("progress"), "entry progress: missing or damaged"),
        (lambda t, m: m.update(progress=m["progress"][:-9]), "entry progress: missing or damaged"),
        (lambda t, m: m.update(progress="[" * 10**5), "entry progress: missing or damaged"),
        (lambda t, m: m.update(progress='{"steps": 2}'), "entry progress: missing or damaged"),
        (lambda t, m: m.update(progress='{"step": 2, "best": null}'), "missing best_step, tokens, seconds"),
        (lambda t, m: change_progress(m, step=0), "step is above 0"),
        (lambda t, m: change_progress(m, step=1.5), "whole numbers"),
        (lambda t, m: change_progress(m, best=[0]), "best is two numbers"),
        (lambda t, m: change_progress(m, pending={"step": "1"}), "pending is a line"),
        (lambda t, m: change_progress(m, seconds=None), "seconds is a number"),
    ],
)
def test_a_checkpoint_that_lacks_a_part_is_refused_and_nothing_is_changed(tmp_path, change, message):
    """It used to end in a KeyError, or half of it was loaded before the first part that did not fit."""
    run(new_model(), examples(4), tmp_path, TrainConfig(steps=1, batch_size=2))
    path = tmp_path / CHECKPOINT
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = safetensors.torch.load_file(path)
    change(tensors, metadata)
    safetensors.torch.save_file(tensors, path, metadata)
    model = new_model(seed=9)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = make_optimizer(model, TrainConfig(steps=1))
    with pytest.raises(ValueError) as raised:
        load_checkpoint(path, model, optimizer, metadata["fingerprint"])
    said = str(raised.value)
    assert said.startswith(f"{path}: not a whole checkpoint: ") and message in said
    assert said.endswith("or start again with another --out") and "\n" not in said and len(said) < 1000
    assert not optimizer.state and all(map(torch.equal, before, model.parameters()))


def test_all_state_of_the_optimiser_returns_to_the_device_of_its_parameter(tmp_path):
    """The step count came back on the CPU: a fused step on a GPU then reads a host address."""
    config = TrainConfig(steps=1, batch_size=2)
    run(new_model(), examples(4), tmp_path, config)
    with safetensors.safe_open(tmp_path / CHECKPOINT, "pt") as file:
        fingerprint = file.metadata()["fingerprint"]
    model = new_model().to("meta")  # a device that is not the file's, and is everywhere
    optimizer = make_optimizer(model, config)
    load_checkpoint(tmp_path / CHECKPOINT, model, optimizer, fingerprint)
    states = [tensor for state in optimizer.state.values() for tensor in state.values()]
    assert len(states) == 3 * len(list(model.parameters())) and {t.device.type for t in states} == {"meta"}


def test_nothing_to_train_on_and_impossible_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to train on"):
        run(new_model(), [], tmp_path, TrainConfig(steps=1))
    for wrong in (
        {"steps": 0},
        {"lr": -1.0},
        {"batch_size": 0},
        {"max_grad_norm": 0.0},
        {"lr": float("nan")},
    ):
        with pytest.raises(ValueError, match="--"):
            TrainConfig(**{"steps": 1} | wrong)


def test_bfloat16_keeps_float32_weights_and_comes_close(monkeypatch):
    monkeypatch.setattr(linear, "BFLOAT16_IS_EMULATED", False)
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        model, config = new_model(), TrainConfig(steps=1, dtype=dtype)
        losses.append(
            optimise_step(
                model, examples(8), SolutionLikelihood(), make_optimizer(model, config), 1e-3, config
            )[0]
        )
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert losses[0] == pytest.approx(losses[1], rel=0.01) and losses[0] != losses[1]


@pytest.mark.parametrize("emulated", [True, False])
def test_bfloat16_is_for_devices_that_multiply_it(monkeypatch, emulated):
    monkeypatch.setattr(linear, "BFLOAT16_IS_EMULATED", emulated)
    config = TrainConfig(steps=1, dtype=torch.bfloat16)
    with autocast(torch.device("cpu"), config):
        assert torch.is_autocast_enabled("cpu") is not emulated


def test_the_loss_of_a_validation_is_that_of_all_targets_alike():
    """However its examples are cut into micro-batches: means of these would weigh short examples more."""
    torch.manual_seed(0)
    model = Transformer(CONFIG).eval()
    items = [Example([1] + [3 + (i * j) % 20 for j in range(2 + 5 * i)], 1) for i in range(1, 6)]
    total = n = 0
    for item in items:
        logits = model(torch.tensor([item.ids]))[0, :-1]
        total += F.cross_entropy(logits, torch.tensor(item.ids[1:]), reduction="sum").item()
        n += len(item.ids) - 1
    for tokens in (8, 64, 10_000):
        config = TrainConfig(steps=1, tokens_per_batch=tokens)
        found = trainer.mean_loss(model, items, SolutionLikelihood(), config)
        assert found == pytest.approx(total / n, rel=1e-5)


def test_orders_of_seeds_and_epochs_are_all_different():
    """seed + epoch would show the second epoch of one seed as the first of the next."""
    items = list(range(40))
    both = [(seed, epoch) for seed in range(3) for epoch in range(3)]
    orders = {(seed, epoch): tuple(step_items(items, epoch, 40, seed)) for seed, epoch in both}
    assert len(set(orders.values())) == 9 and all(sorted(order) == items for order in orders.values())
