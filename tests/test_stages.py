"""The stages: what they train on, and that validation measures what it says."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from mathref import calibration, evaluator, memory, stages, trainer
from mathref.batches import step_items
from mathref.checkpoint import METRICS
from mathref.data import Problem, training_data
from mathref.formats import Sample, SampledProblem
from mathref.model import ModelConfig, Transformer
from mathref.objectives import Labelled, MarginObjective, Pair, XentObjective
from mathref.problems import generate
from mathref.prompts import completion, evaluator_prompt, generator_prompt
from mathref.runs import ASSETS
from mathref.samples import write_samples
from mathref.stages import EvaluatorConfig
from mathref.tokenizer import load_tokenizer
from mathref.trainer import TrainConfig
from mathref.weights import load_model, save_model

CPU = torch.device("cpu")
CONFIG = TrainConfig(steps=2, batch_size=3)


def test_ssft_targets_are_the_solutions(base):
    _, folder = base
    options = {"families": ("gcd", "linear"), "n_validation": 5, "n_greedy": 0}
    stage = stages.ssft(folder, ["builtin"], CONFIG, style="brief", device=CPU, **options)
    by_text = {p.problem: p.brief for p in generate("train")}
    for item in stage.items[:50]:
        prompt = stage.tokenizer.decode(item.ids[: item.n_prompt])
        problem = prompt.removeprefix("Problem: ").removesuffix("\nSolution:")
        assert stage.tokenizer.decode(item.ids[item.n_prompt :]) == " " + by_text[problem]
    assert stage.validate(stage.model).keys() == {"val/loss"}


def test_examples_beyond_the_context_are_left_out_and_said(base, tmp_path):
    _, folder = base
    short = replace(base[0].model.config, max_seq_len=90)
    save_model(Transformer(short), tmp_path)
    base[0].tokenizer.save(tmp_path)
    families = ("gcd", "linear")
    n_train = len(training_data(["builtin"], families=families).train)
    options = {"style": "detailed", "families": families, "device": CPU, "n_validation": 60, "n_greedy": 0}
    stage = stages.ssft(tmp_path, ["builtin"], CONFIG, **options)
    said = next(note for note in stage.notes if "left out: longer than the context of 90 tokens" in note)
    n_left_out = int(said.split()[0])
    assert n_left_out > 100 and max(len(item.ids) for item in stage.items) <= 90
    assert len(stage.items) + n_left_out == n_train
    save_model(Transformer(replace(short, max_seq_len=8)), tmp_path)
    with pytest.raises(ValueError, match="0 training"):
        stages.ssft(tmp_path, ["builtin"], CONFIG, **options)


def test_greedy_accuracy_counts_graded_solutions(base):
    """A model that is biased to write one fixed answer is right exactly on the problems with that answer."""
    _, folder = base
    tokenizer = load_tokenizer(folder)
    script = tokenizer.encode(" \\boxed{7}.") + [tokenizer.eos_ids[0]]

    class Scripted(torch.nn.Module):
        """Next-token logits that spell `script` behind every prompt, whatever it says."""

        def __init__(self, config):
            super().__init__()
            self.config, self.weight = config, torch.nn.Parameter(torch.zeros(1))

        def hidden(self, tokens, *, mask=None, kv_cache=None):
            if mask is not None:
                self.lengths = mask.sum(dim=1)
                kv_cache.lengths += self.lengths
                wrote = torch.zeros(tokens.shape, dtype=torch.long)
            else:
                kv_cache.lengths += 1
                wrote = (kv_cache.lengths - self.lengths[: len(tokens)]).unsqueeze(1)
            return wrote.float().unsqueeze(-1)

        def head(self, hidden):
            place = hidden[..., 0].long().clamp(0, len(script) - 1)
            # The likeliest by a hair: whatever draws at a temperature writes something else.
            return torch.nn.functional.one_hot(torch.tensor(script)[place], self.config.vocab_size).float()

        def forward(self, tokens, *, mask=None, kv_cache=None):
            return self.head(self.hidden(tokens, mask=mask, kv_cache=kv_cache))

    same = "What is 3+4?"
    assert generator_prompt(same).endswith("Solution:")
    problems = [Problem(str(i), same, answer) for i, answer in enumerate(["7", "8", "14/2"])]
    model = Scripted(base[0].model.config)
    assert stages.greedy_accuracy(model, tokenizer, problems, max_new_tokens=20) == pytest.approx(2 / 3)


def test_a_validation_takes_no_more_cache_than_it_may(base, monkeypatch):
    """200 rows of a 7B model's cache were 138 GB, at the first validation of a training so far well."""
    _, folder = base
    model, tokenizer = load_model(folder, dtype=torch.float32), load_tokenizer(folder)
    problems = [Problem(str(i), f"What is {i}+4?", "7") for i in range(6)]
    asked = []
    drawn = stages.sample
    monkeypatch.setattr(stages, "sample", lambda *a, **k: asked.append(k["batch_rows"]) or drawn(*a, **k))
    whole = stages.greedy_accuracy(model, tokenizer, problems, max_new_tokens=8)
    longest = max(len(tokenizer.encode(generator_prompt(p.problem))) for p in problems)
    row = memory.cache_bytes(model.config, 1, 1 + longest + 8, torch.float32)
    monkeypatch.setattr(stages, "VALIDATION_CACHE", 2.5 * row)
    assert stages.greedy_accuracy(model, tokenizer, problems, max_new_tokens=8) == whole
    assert asked == [256, 2]


# --- The evaluator, and what mixes its loss with the generator's ---

TOKENIZER = load_tokenizer(ASSETS / "tiny")


def small_checkpoint(folder, seed=0, **changes):
    """A small random model with the shipped tokenizer."""
    torch.manual_seed(seed)
    shape = dict(n_layer=2, n_head=4, n_kv_head=2, head_dim=16, n_embd=64, n_inner=128, max_seq_len=512)
    save_model(Transformer(ModelConfig(vocab_size=TOKENIZER.vocab_size, **shape | changes)), folder)
    TOKENIZER.save(folder)
    return folder


def corrupted(solution, answer):
    return solution.replace(f"\\boxed{{{answer}}}", f"\\boxed{{{answer}1}}")


def graded(problem):
    """Both solutions of a built-in problem, and the same two with a wrong answer: no style gives one away."""
    right = [Sample(text, problem.answer, True) for text in (problem.brief, problem.detailed)]
    wrong = [
        Sample(corrupted(s.text, problem.answer), f"{problem.answer}1", False, finish_reason="stop")
        for s in right
    ]
    return SampledProblem(problem.id, problem.problem, problem.answer, (*right, *wrong))


def one_class(problem, right):
    whole = graded(problem)
    return replace(whole, samples=tuple(s for s in whole.samples if s.correct is right))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_checkpoint(tmp_path_factory.mktemp("small"))


def make_scr(checkpoint, path, problems, config=CONFIG, **options):
    write_samples(path, {"model": "test"}, problems)
    places = {name: options.pop(name) for name in ("n_validation", "apart_from") if name in options}
    return stages.scr(checkpoint, path, config, EvaluatorConfig(**options), device=CPU, **places)


def test_what_an_evaluator_is_asked_for_is_what_its_stage_minimises(checkpoint, tmp_path):
    path, problems = tmp_path / "s.jsonl", [graded(p) for p in generate("train", 12)]

    def objective(**options):
        return make_scr(checkpoint, path, problems, n_validation=4, **options).objective

    words = evaluator.verdict_words(TOKENIZER)
    assert vars(objective(loss="margin", margin=0.25)) == vars(MarginObjective(words, 0.25))
    assert vars(objective(xent_space="vocab")) == vars(XentObjective(words, True))
    assert vars(objective()) == vars(XentObjective(words, False))


def test_scr_items_are_candidates_in_the_template_with_their_labels(checkpoint, tmp_path):
    problems = generate("train", 12)
    stage = make_scr(checkpoint, tmp_path / "s.jsonl", map(graded, problems), n_validation=4)
    labels = {evaluator_prompt(p.problem, s.text): s.correct for p in problems for s in graded(p).samples}
    shown = {TOKENIZER.decode(item.ids): item.is_correct for item in stage.items}
    assert len(stage.items) == 8 * 4 == len(shown) and shown.items() <= labels.items()
    assert all(item.ids[0] == TOKENIZER.bos_id for item in stage.items)
    said = "12 problems are left, with 48 distinct candidates that have a complete answer; 12 of them have"
    assert any(note.startswith(said) for note in stage.notes)
    assert any("32 labelled candidates to train on, 16 to validate on (4 problems)" in n for n in stage.notes)
    # A wrong answer has a digit more: right ones are shorter by a hair.
    parity = next(note for note in stage.notes if note.startswith("format parity"))
    assert 0.5 < float(parity.split("AUC ")[1].split(" ")[0]) < 0.6
    values = stage.validate(stage.model.eval())
    assert values.keys() == {"val/loss", "val/auc", "val/pairs", "val/rr.all"}
    assert values["val/rr.all"] in {0, 1 / 4, 1 / 2, 3 / 4, 1}


def test_scr_draws_are_balanced_unless_a_plain_draw_is_asked_for(checkpoint, tmp_path):
    """3 right and 9 wrong candidates each: 2 and 2 are drawn, or what comes."""
    problems = []
    for problem in map(graded, generate("train", 12)):
        right, wrong = problem.samples[0], problem.samples[2]
        some = [replace(s, text=f"{i}. {s.text}") for s, n in ((right, 3), (wrong, 9)) for i in range(n)]
        problems.append(replace(problem, samples=tuple(some)))

    def right(**options):
        options |= {"n_validation": 4, "examples_per_problem": 4}
        return [i.is_correct for i in make_scr(checkpoint, tmp_path / "s.jsonl", problems, **options).items]

    assert len(right()) == 8 * 4 and sum(right()) == 8 * 2
    assert len(right(balance="none")) == 8 * 4 and sum(right(balance="none")) < 8 * 2


def test_scr_pairs_are_of_one_problem(checkpoint, tmp_path):
    problems = generate("train", 6)
    stage = make_scr(
        checkpoint, tmp_path / "s.jsonl", map(graded, problems), loss="margin", examples_per_problem=3
    )
    whose = {
        evaluator_prompt(p.problem, s.text): (p.id, s.correct) for p in problems for s in graded(p).samples
    }
    assert len(stage.items) == 5 * 3
    for item in stage.items:
        (first, right), (second, wrong) = (
            whose[TOKENIZER.decode(ids)] for ids in (item.correct, item.incorrect)
        )
        assert first == second and right and not wrong


def test_scr_validates_on_problems_that_it_is_not_trained_on(checkpoint, tmp_path):
    problems = list(map(graded, generate("train", 30)))
    path = tmp_path / "s.jsonl"
    write_samples(path, {}, problems)
    train, validation, _ = stages.read_classes(path, seed=0)
    assert len(validation) == 2 and {p.id for p in train} | {p.id for p in validation} == {
        p.id for p in problems
    }
    assert not {p.id for p in train} & {p.id for p in validation}
    assert stages.read_classes(path, seed=0)[1] == validation != stages.read_classes(path, seed=1)[1]
    with pytest.raises(ValueError, match="cannot keep -1"):
        stages.read_classes(path, seed=0, n_validation=-1)


def test_a_problem_under_two_ids_is_on_one_side(tmp_path):
    """Each id was a problem of its own: what the checkpoint was chosen on had been trained on."""
    problems = list(map(graded, generate("train", 20)))
    twice = [replace(p, id=f"{p.id}#2", problem=p.problem.replace(" ", "  ")) for p in problems]
    write_samples(tmp_path / "s.jsonl", {}, [*problems, *twice])
    train, validation, _ = stages.read_classes(tmp_path / "s.jsonl", seed=0)
    sides = [{p.problem.replace("  ", " ") for p in side} for side in (train, validation)]
    assert not sides[0] & sides[1] and len(train) + len(validation) == 40


def test_an_evaluator_learns_nothing_of_what_the_generator_is_validated_on(checkpoint, tmp_path):
    """Given samples held them: the next stage's checkpoint was chosen on problems that this one had seen."""
    problems = generate("train", 14)
    theirs = [p.problem for p in problems[:3]]
    spelled = [problem.upper().replace(" ", "  ") for problem in theirs]  # however they are set
    stage = make_scr(checkpoint, tmp_path / "s.jsonl", map(graded, problems), apart_from=spelled)
    assert "3 problems left out: validation" in str(stage.notes)
    # Candidates were counted with these problems, distinct ones without: 12 seemed to have no answer.
    assert "14 problems, 56 candidates'" in str(stage.notes)
    assert "11 problems are left, with 44 distinct candidates" in str(stage.notes)
    texts = [TOKENIZER.decode(item.ids) for item in stage.items]
    assert len(texts) == 10 * 4 and not any(problem in text for problem in theirs for text in texts)


def test_equal_scores_are_no_success(checkpoint, tmp_path, monkeypatch):
    """The first of the best was taken, and right ones come first: constant scores were perfect."""
    stage = make_scr(checkpoint, tmp_path / "s.jsonl", map(graded, generate("train", 12)), n_validation=2)
    scored = [np.array([1.0, 1.0, 0.0])], [np.array([1.0, 0.0, 1.0])]
    monkeypatch.setattr(stages, "score_classes", lambda *_: scored)
    assert stage.validate(stage.model.eval())["val/rr.all"] == 0.5


def test_a_held_out_problem_among_the_candidates_is_removed_and_said(checkpoint, tmp_path):
    held_out, *problems = generate("test", 1) + generate("train", 5)
    stage = make_scr(checkpoint, tmp_path / "s.jsonl", map(graded, [problems[0], held_out, *problems[1:]]))
    assert any("1 problems removed by the contamination guard" in note for note in stage.notes)
    assert all(held_out.problem not in TOKENIZER.decode(item.ids) for item in stage.items)
    assert len(stage.items) == 4 * 4


def test_candidates_of_one_class_teach_nothing_and_are_refused(checkpoint, tmp_path):
    problems = generate("train", 6)
    path = tmp_path / "s.jsonl"
    for right in (True, False):
        with pytest.raises(ValueError, match="no training problem of 5 has both.*sample more") as error:
            make_scr(checkpoint, path, [one_class(p, right) for p in problems])
        assert "\n" not in str(error.value)
    # One problem with both classes cannot be on both sides.
    with pytest.raises(ValueError, match="problem of . has both"):
        make_scr(checkpoint, path, [graded(problems[0]), *(one_class(p, True) for p in problems[1:])])
    with pytest.raises(ValueError, match="cannot keep 0 validation problems"):
        make_scr(checkpoint, path, map(graded, problems), n_validation=0)


@pytest.mark.parametrize("seed", range(4))
def test_a_small_validation_draw_has_both_classes_where_two_problems_do(tmp_path, seed):
    """One problem of twelve was drawn, whatever it was: files with few mixed ones were refused by luck."""
    few = generate("train", 12)
    write_samples(tmp_path / "s.jsonl", {}, [*map(graded, few[:2]), *(one_class(p, False) for p in few[2:])])
    train, validation, _ = stages.read_classes(tmp_path / "s.jsonl", seed)
    assert len(train) == 11 and len(validation) == 1 and validation[0].correct and validation[0].incorrect
    assert any(p.correct and p.incorrect for p in train)


def test_candidates_beyond_the_context_end_no_training(checkpoint, tmp_path):
    """They were left out of the items, and then scored at the first validation: the run ended there."""
    long = Sample("So 1+1=2. " * 60 + "\\boxed{2}", "2", True)
    problems = [replace(p, samples=(*p.samples, long)) for p in map(graded, generate("train", 12))]
    folder = small_checkpoint(tmp_path, max_seq_len=400)
    stage = make_scr(folder, tmp_path / "s.jsonl", problems, n_validation=4, examples_per_problem=6)
    assert stage.validate(stage.model.eval())["val/loss"] > 0
    assert any("left out: longer than the context of 400" in note for note in stage.notes)
    save_model(stage.model, tmp_path)
    assert "16 validation candidates" in stage.finish(tmp_path)  # 2 + 2 of 4 problems, not the long ones
    for room in (20, 60):
        with pytest.raises(ValueError, match=f"context of {room} tokens"):
            make_scr(small_checkpoint(tmp_path, max_seq_len=room), tmp_path / "s.jsonl", problems)


def test_calibration_is_fitted_on_the_validation_candidates_and_written(checkpoint, tmp_path):
    stage = make_scr(checkpoint, tmp_path / "s.jsonl", map(graded, generate("train", 12)), n_validation=4)
    save_model(stage.model, tmp_path)
    printed = stage.finish(tmp_path)
    written = json.loads((tmp_path / stages.CALIBRATION).read_text())
    assert written["candidates"] == 16 and f"{written['temperature']:.2f}" in printed
    _, validation, _ = stages.read_classes(tmp_path / "s.jsonl", CONFIG.seed, 4)
    odds, labels = map(np.concatenate, stages.score_classes(stage.model.eval(), TOKENIZER, validation))
    expected = calibration.fit_temperature(odds, calibration.smoothed(labels))
    assert written["temperature"] == pytest.approx(expected, rel=1e-3)


def planted(n, marked):
    """Candidates of equal build; wrong ones guess, or the labels are drawn without a look at the text."""
    rng, problems = random.Random(0), []
    for problem in generate("train", n):
        samples = []
        for i in range(6):
            step = ("so", "I guess")[i % 2]
            answer = rng.randint(1, 99)
            label = i % 2 == 0 if marked else rng.random() < 0.5
            samples.append(Sample(f"Step {i}: {step} the answer is \\boxed{{{answer}}}.", str(answer), label))
        problems.append(SampledProblem(problem.id, problem.problem, problem.answer, tuple(samples)))
    return problems


@pytest.mark.parametrize(("loss", "steps"), [("xent", 40), ("margin", 30)])
def test_the_evaluator_learns_a_planted_signal(checkpoint, tmp_path, loss, steps):
    """From random weights, on problems that it has not seen; loss, labels and template have to agree."""
    config = TrainConfig(steps=steps, batch_size=20, lr=3e-3, warmup_steps=5)
    stage = make_scr(checkpoint, tmp_path / "s.jsonl", planted(60, True), config, loss=loss, n_validation=15)
    before = stage.validate(stage.model.eval())["val/auc"]
    after = run(stage, config, tmp_path)
    assert before < 0.9 and after["val/auc"] > 0.95 and after["val/rr.all"] > 0.9 and after["val/pairs"] > 0.9


def test_the_evaluator_finds_nothing_where_nothing_is(checkpoint, tmp_path):
    """Labels drawn by lot: an AUC far from one half would mean that something else gives them away."""
    config = TrainConfig(steps=40, batch_size=20, lr=3e-3, warmup_steps=5)
    stage = make_scr(checkpoint, tmp_path / "s.jsonl", planted(60, False), config, n_validation=30)
    assert 0.3 < run(stage, config, tmp_path)["val/auc"] < 0.7


def test_pairs_are_those_within_a_problem(checkpoint, tmp_path, monkeypatch):
    """An evaluator that only tells an easy problem from a hard one has an AUC, and pairs by lot."""
    stage = make_scr(checkpoint, tmp_path / "s.jsonl", map(graded, generate("train", 12)), n_validation=2)
    odds, labels = np.repeat([2.0, -2.0], 10), np.array([1.0] * 9 + [0.0] * 10 + [1.0])
    scored = tuple([part[:10], part[10:]] for part in (odds, labels))
    monkeypatch.setattr(stages, "score_classes", lambda *_: scored)
    values = stage.validate(stage.model.eval())
    # Right and wrong candidates: 9 and 1 of the easy problem, 1 and 9 of the hard one, whose scores are ties.
    assert values["val/auc"] == pytest.approx((9 * 9 + (9 * 1 + 1 * 9) / 2) / (10 * 10))
    assert values["val/pairs"] == 0.5


def run(stage, config, folder):
    """Train a stage; the last line of its metrics."""
    trainer.train(
        stage.model,
        stage.items,
        stage.objective,
        config,
        folder,
        validate=stage.validate,
        save_best=lambda model: save_model(model, folder),
    )
    return json.loads((folder / METRICS).read_text().splitlines()[-1])


def mixed_stage(make, checkpoint, tmp_path, **options):
    """joint or contrastive on 12 problems with candidates, of which 10 are training data too."""
    problems = generate("train", 12)
    solved = [{"problem": p.problem, "answer": p.answer, "solution": p.detailed} for p in problems[:10]]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in solved))
    write_samples(tmp_path / "s.jsonl", {}, map(graded, problems))
    config = TrainConfig(steps=2, batch_size=5, log_every=1, warmup_steps=1)
    sources, samples = [str(tmp_path / "data.jsonl")], tmp_path / "s.jsonl"
    data = {"style": "detailed", "n_validation": 2, "n_greedy": 1, "max_new_tokens": 4}
    stage = make(checkpoint, sources, samples, config, EvaluatorConfig(**options), device=CPU, **data)
    return stage, config, problems


@pytest.mark.parametrize("loss", ["xent", "margin"])
def test_joint_loss_is_the_weighted_sum(checkpoint, tmp_path, loss):
    stage, config, problems = mixed_stage(stages.joint, checkpoint, tmp_path, loss=loss, alpha_2=0.25)
    judged = {type(item.judged) for item in stage.items}
    assert judged == {Pair if loss == "margin" else Labelled}
    solutions = {generator_prompt(p.problem) + completion(p.detailed) for p in problems[:10]}
    assert {TOKENIZER.decode(item.solution.ids) for item in stage.items} <= solutions
    assert "2 problems left out: validation" in str(stage.notes)
    first = step_items(stage.items, 0, config.batch_size, config.seed)
    with torch.no_grad():
        l_cls = stage.objective.judge.loss(stage.model, [item.judged for item in first])
        l_mle = sum(
            trainer.SolutionLikelihood().loss(stage.model, [i.solution])
            / (len(i.solution.ids) - i.solution.n_prompt)
            for i in first
        )
    last = run(stage, config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert lines[0]["train/loss"] == pytest.approx((l_cls + 0.25 * l_mle).item() / 5, rel=1e-4)
    assert last["val/loss"] == pytest.approx(last["val/cls"] + 0.25 * last["val/mle"])
    assert {"val/auc", "val/rr.all", "val/pass@1"} <= last.keys()
    assert "calibration temperature" in stage.finish(tmp_path)
    assert (tmp_path / stages.CALIBRATION).exists()


@pytest.mark.parametrize("length_normalised", [False, True])
def test_contrastive_loss_is_the_weighted_sum(checkpoint, tmp_path, length_normalised):
    stage, config, problems = mixed_stage(
        stages.contrastive, checkpoint, tmp_path, alpha_1=0.5, length_normalised=length_normalised
    )
    by_prompt = {generator_prompt(p.problem): p for p in problems}
    outside = {p.problem for p in problems[10:]}
    for item in stage.items:
        problem = by_prompt[TOKENIZER.decode(item.solution.ids[: item.solution.n_prompt])]
        texts = [TOKENIZER.decode(e.ids[e.n_prompt :]) for e in (item.correct, item.incorrect, item.solution)]
        assert f"boxed{{{problem.answer}}}" in texts[0] and f"boxed{{{problem.answer}1}}" in texts[1]
        if problem.problem in outside:
            assert texts[2] == texts[0]
        else:
            assert texts[2] == completion(problem.detailed)
    # Nothing is trained on the two validation problems, and no others are held back.
    assert len({tuple(item.solution.ids[: item.solution.n_prompt]) for item in stage.items}) == 10
    mle = trainer.SolutionLikelihood()

    def mean(e):
        return mle.loss(stage.model, [e]) / (len(e.ids) - e.n_prompt)

    first = step_items(stage.items, 0, config.batch_size, config.seed)
    cost = mean if length_normalised else lambda e: mle.loss(stage.model, [e])
    with torch.no_grad():
        l_seq = sum((cost(i.correct) - cost(i.incorrect) + 0.5).clamp(min=0) for i in first)
        expected = (l_seq + 0.5 * sum(mean(i.solution) for i in first)).item() / 5
    last = run(stage, config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert lines[0]["train/loss"] == pytest.approx(expected, rel=1e-3)
    assert {"val/loss", "val/pass@1"} <= last.keys() and stage.finish is None


@pytest.mark.parametrize(
    "wrong", [{"examples_per_problem": 1}, {"margin": -0.1}, {"alpha_1": float("nan")}, {"alpha_2": -1.0}]
)
def test_impossible_evaluator_settings_name_their_flag(wrong):
    with pytest.raises(ValueError, match=f"--{next(iter(wrong)).replace('_', '-')} is"):
        EvaluatorConfig(**wrong)


def test_an_evaluator_needs_words_that_differ(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluator, "VERDICTS", (" correct", " correctly"))
    with pytest.raises(ValueError, match="cannot tell them apart"):
        make_scr(checkpoint, tmp_path / "s.jsonl", map(graded, generate("train", 6)))
