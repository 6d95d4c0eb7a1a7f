"""Numbers at their edges: what is not finite, spikes, empty batches, one class, one token, a full context."""

import json
import math
from dataclasses import replace

import pytest
import safetensors.torch
import torch

import evaluate
from mathref import evaluator, stages
from mathref.batches import Example
from mathref.checkpoint import CHECKPOINT
from mathref.formats import Sample, SampledProblem
from mathref.model import ModelConfig, Transformer
from mathref.objectives import Contrast, ContrastiveObjective
from mathref.problems import generate
from mathref.prompts import generator_prompt
from mathref.runs import ASSETS, run_command
from mathref.sampler import sample
from mathref.samples import write_samples
from mathref.stages import ssft
from mathref.tokenizer import load_tokenizer
from mathref.trainer import SolutionLikelihood, TrainConfig, make_optimizer, optimise_step, train
from mathref.weights import load_model, save_model

SIZES = {"n_layer": 2, "n_head": 4, "n_kv_head": 2, "head_dim": 8, "n_embd": 32, "n_inner": 48}
CONFIG = ModelConfig(vocab_size=50, max_seq_len=64, **SIZES)
CPU = torch.device("cpu")


def new_model():
    torch.manual_seed(0)
    return Transformer(CONFIG)


def examples(n):
    return [Example([1 + (7 * i + j) % 49 for j in range(4 + i % 5)], 2) for i in range(n)]


def run(folder, config, objective=None, validate=None, **options):
    """A training run of a small model, and the model."""
    folder.mkdir(exist_ok=True)
    model, saved = new_model(), []
    options = {"save_best": lambda m: saved.append(True)} | options
    try:
        validate = validate or (lambda m: {"val/loss": 1.0})
        train(
            model,
            examples(8),
            objective or SolutionLikelihood(),
            config,
            folder,
            validate=validate,
            **options,
        )
    finally:
        run.saved = len(saved)
    return model


# --- What is not finite ---


def test_a_gradient_that_is_not_finite_changes_no_weight(tmp_path):
    """The loss is a number all the while: sqrt has no slope at 0."""

    class Steep(SolutionLikelihood):
        def loss(self, model, items):
            loss = super().loss(model, items)
            return loss + (loss - loss.detach()).sqrt()

    model = new_model()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(
        FloatingPointError, match=r"step 1: loss \d.*, gradient norm (nan|inf).*none kept.*--lr"
    ):
        train(
            model, examples(4), Steep(), TrainConfig(steps=2), tmp_path,
            validate=lambda m: {"val/loss": 1.0}, save_best=print,
        )  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_weights_out_of_range_are_neither_saved_nor_the_best(tmp_path):
    """A step of finite gradient may throw them there; the next loss tells, but a checkpoint came before."""
    good = TrainConfig(steps=3, batch_size=4, save_every=3, warmup_steps=0, eval_every=3)
    run(tmp_path, good)
    before = (tmp_path / CHECKPOINT).read_bytes()
    wild = replace(good, steps=4, lr=1e38, weight_decay=1e3, save_every=1, eval_every=1)
    with pytest.raises(
        FloatingPointError, match="step 4: weights that are not finite.*checkpoint.safetensors"
    ):
        run(tmp_path, wild, resume=True)
    assert (tmp_path / CHECKPOINT).read_bytes() == before and run.saved == 0
    stored = safetensors.torch.load_file(tmp_path / CHECKPOINT)
    assert all(t.isfinite().all() for t in stored.values())


def test_a_validation_loss_that_is_not_finite_ends_the_run_and_is_never_the_best(tmp_path):
    """NaN compares false with everything: once the best, it stayed the best."""
    losses = iter([1.0, math.nan])
    with pytest.raises(FloatingPointError, match="step 2: the validation loss is nan"):
        config = TrainConfig(steps=3, batch_size=4, eval_every=1)
        run(tmp_path, config, validate=lambda m: {"val/loss": next(losses)})
    assert run.saved == 1
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


# --- Spikes ---


class Spike(SolutionLikelihood):
    """A loss a million times too large at one step."""

    def __init__(self, at):
        self.step, self.at = 0, at

    def loss(self, model, items):
        self.step += 1
        return super().loss(model, items) * (1e6 if self.step == self.at else 1)


def test_a_spike_is_told_at_its_size_and_clipped_to_its_direction():
    config, grads, norms = TrainConfig(steps=1, max_grad_norm=0.01), [], []
    for objective in (SolutionLikelihood(), Spike(at=1)):
        model = new_model()
        norms.append(
            optimise_step(model, examples(6), objective, make_optimizer(model, config), 1e-3, config)[1]
        )
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert norms[1] == pytest.approx(1e6 * norms[0], rel=1e-4)
    assert grads[1].norm() == pytest.approx(0.01, rel=1e-4) and torch.allclose(*grads, atol=1e-6)


def test_a_spike_moves_no_weight_by_more_than_a_step(tmp_path):
    """Adam divides by the gradient's own size: at step t a lone spike of any size moves a weight by at most
    lr (1 - b1) / sqrt(1 - b2) sqrt(1 - b2^t) / (1 - b1^t), which is below lr from the second step on.
    """
    config = TrainConfig(
        steps=4,
        batch_size=4,
        lr=1e-3,
        warmup_steps=0,
        schedule="constant",
        weight_decay=0.0,
        max_grad_norm=1e12,
    )
    before = run(tmp_path / "before", replace(config, steps=3))
    after = run(tmp_path / "after", config, objective=Spike(at=4))
    moved = [(a - b).abs().max() for a, b in zip(after.parameters(), before.parameters(), strict=True)]
    assert 0 < max(moved) < 1e-3 * 1.01


# --- Nothing to do ---


def test_an_example_without_a_target_is_refused_before_it_is_divided_by(tmp_path):
    """A step of such examples was 0 / 0, and the blame was put on the learning rate."""
    items = [*examples(3), Example([5, 6], 2)]
    with pytest.raises(ValueError, match="1 training examples have no target, the first is number 3"):
        train(
            new_model(), items, SolutionLikelihood(), TrainConfig(steps=1), tmp_path,
            validate=lambda m: {"val/loss": 1.0}, save_best=print,
        )  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    return load_model(ASSETS / "tiny"), load_tokenizer(ASSETS / "tiny")


def test_no_prompts_and_no_candidates_are_no_error(tiny):
    assert sample(*tiny, [], n=4) == []
    assert evaluator.score(*tiny, "What is 1+1?", []) == []


# --- One class of candidates ---


@pytest.mark.parametrize(("answer", "percent"), [("1", 100.0), ("2", 0.0), (None, 0.0)])
def test_all_right_all_wrong_or_unanswered_is_tabulated_and_strict_json(tmp_path, capsys, answer, percent):
    """Nothing is divided by the number of the other class; what is undefined is left out, not NaN."""
    path, table = tmp_path / "s.jsonl", tmp_path / "t.json"
    samples = tuple(Sample(f"{j}", answer, answer == "1", score=(j + 1) / 5) for j in range(4))
    write_samples(path, {"model": "m"}, [SampledProblem(f"{i}", f"P{i}", "1", samples) for i in range(3)])
    flags = ["--k-curve", "--adaptive", "--simulate", "--json", str(table)]
    assert run_command(evaluate.main, [str(path), *flags]) == 0
    shown = capsys.readouterr().out
    assert f"{percent:.1f} (" in shown and "nan" not in shown.lower()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(table.read_text(), parse_constant=refuse)["systems"]
    assert run_command(evaluate.main, [str(path), "--calibration-plot", str(tmp_path / "c.png")]) == 2
    assert "no file has scores from 0 to 1 of both right and wrong" in capsys.readouterr().err


@pytest.mark.parametrize("correct", [True, False])
def test_an_evaluator_is_not_trained_on_one_class(tmp_path, correct):
    samples = tuple(Sample(f"{j}", f"{j}", correct, finish_reason="stop") for j in range(4))
    problems = [SampledProblem(f"{i}", f"What is {i}?", "1", samples) for i in range(30)]
    write_samples(tmp_path / "s.jsonl", {}, problems)
    with pytest.raises(ValueError, match="no training problem of 28 has both correct and incorrect"):
        stages.read_classes(tmp_path / "s.jsonl", seed=0)


# --- One token ---


def test_solutions_of_one_token_are_sampled_scored_and_compared(tiny):
    model, tokenizer = tiny
    prompt = generator_prompt("What is 1+1?")
    (found,) = sample(model, tokenizer, [prompt], n=3, max_new_tokens=1)
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    logprobs = model(torch.tensor([start + tokenizer.encode(prompt)]))[0, -1].float().log_softmax(-1)
    for c in found:
        assert len(c.token_ids) == 1 and c.logprob == pytest.approx(logprobs[c.token_ids[0]].item(), abs=1e-4)
    scores = evaluator.score(model, tokenizer, "What is 1+1?", ["", "2", "x"])
    assert len(set(scores)) == 3 and all(0 < s < 1 for s in scores)


def test_the_mean_over_one_token_is_the_token():
    """Length-normalised or not, one target each gives the same contrastive loss."""
    model, one = new_model(), Example([5, 6, 9], 2)
    items = [Contrast(one, Example([5, 6, 8], 2), one)]
    losses = [ContrastiveObjective(0.5, 1.0, flag).loss(model, items).item() for flag in (False, True)]
    assert losses[0] == losses[1] and math.isfinite(losses[0])


# --- A full context ---


def test_validation_problems_that_fill_the_context_end_no_training(tmp_path):
    """A problem whose text leaves no room for a solution stopped the run at its first validation."""
    model, tokenizer = load_model(ASSETS / "tiny"), load_tokenizer(ASSETS / "tiny")
    base, data = tmp_path / "base", tmp_path / "data.jsonl"
    short = Transformer(replace(model.config, max_seq_len=200))
    save_model(short, base)
    tokenizer.save(base)
    problems = [(p.problem, p.answer, p.brief) for p in generate("train", 30)]
    problems += [(f"Say {i}. " + "and again " * 60, "1", "1") for i in range(10)]
    with open(data, "w") as file:
        for problem, answer, solution in problems:
            print(json.dumps({"problem": problem, "answer": answer, "solution": solution}), file=file)
    config = TrainConfig(steps=1, batch_size=2)
    stage = ssft(base, [str(data)], config, style="brief", device=CPU, n_validation=20, max_new_tokens=4)
    said = next(note for note in stage.notes if "they fill the context by themselves" in note)
    assert 1 <= int(said.split()[0]) <= 10
    assert 0 <= stage.validate(stage.model)["val/pass@1"] <= 1
