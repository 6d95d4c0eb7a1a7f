"""Candidates drawn and stored through kills, and the evaluator's examples made of them."""

import itertools
import json
from collections import Counter

import pytest
import torch

from mathref import candidates, memory
from mathref.candidates import (
    Classes,
    classes,
    draw_candidates,
    draw_labelled,
    draw_pairs,
    grade_completions,
    parity,
)
from mathref.choosing import SampleConfig
from mathref.data import Problem
from mathref.formats import Sample, SampledProblem
from mathref.model import ModelConfig, Transformer
from mathref.problems import generate
from mathref.prompts import generator_prompt
from mathref.runs import ASSETS
from mathref.sampler import Completion
from mathref.samples import read_samples
from mathref.tokenizer import load_tokenizer
from mathref.weights import load_config, save_model

FOUND = Classes("p", "P?", correct=("a", "b", "c"), incorrect=("v", "w", "x", "y"))
ONE_CLASS = (Classes("p", "P?", ("a", "b"), ()), Classes("p", "P?", (), ("v",)), Classes("p", "P?", (), ()))


# --- Pairs and labelled candidates ---


def test_pairs_are_distinct_and_of_both_classes():
    pairs = draw_pairs(FOUND, 10, seed=0)
    assert len(set(pairs)) == len(pairs) == 10
    assert all(correct in FOUND.correct and incorrect in FOUND.incorrect for correct, incorrect in pairs)


def test_fewer_pairs_where_fewer_exist_and_none_of_a_single_class():
    assert sorted(draw_pairs(FOUND, 100, 0)) == sorted(itertools.product(FOUND.correct, FOUND.incorrect))
    assert all(draw_pairs(found, 10, 0) == [] for found in ONE_CLASS)


def test_pairs_repeat_with_seed_and_problem_and_with_nothing_else():
    other = Classes("q", "P?", FOUND.correct, FOUND.incorrect)
    draws = [draw_pairs(FOUND, 4, 0), draw_pairs(FOUND, 4, 1), draw_pairs(other, 4, 0)]
    assert draws[0] == draw_pairs(FOUND, 4, 0)
    assert all(a != b for a, b in itertools.combinations(draws, 2))


def test_every_pair_is_drawn_equally_often():
    """Of 12 pairs three are drawn 2000 times: 500 +- 20 each; five deviations off is no chance."""
    counts = Counter(pair for seed in range(2000) for pair in draw_pairs(FOUND, 3, seed))
    assert len(counts) == 12 and all(400 < n < 600 for n in counts.values())


def test_balanced_draws_are_half_and_half_where_both_classes_last():
    for n, correct, incorrect in ((2, 1, 1), (4, 2, 2), (5, 2, 3), (6, 3, 3), (7, 3, 4), (100, 3, 4)):
        drawn = draw_labelled(FOUND, n, seed=0)
        assert Counter(label for _, label in drawn) == {True: correct, False: incorrect}
        assert len(set(drawn)) == len(drawn)
        assert all(text in (FOUND.correct if label else FOUND.incorrect) for text, label in drawn)


def test_what_has_no_counterpart_is_kept():
    """It was left out once: of a good generator's 11,702 candidates only 3,082 stayed."""
    few = Classes("p", "problem", ("right",), tuple("abcdefgh"))
    assert Counter(label for _, label in draw_labelled(few, 10, 0)) == {True: 1, False: 8}
    assert draw_labelled(ONE_CLASS[1], 10, 0) == [("v", False)]


def test_plain_draws_take_what_there_is():
    assert len(draw_labelled(FOUND, 5, 0, balanced=False)) == 5
    everything = {(text, True) for text in FOUND.correct} | {(text, False) for text in FOUND.incorrect}
    assert set(draw_labelled(FOUND, 100, 0, balanced=False)) == everything
    assert draw_labelled(ONE_CLASS[1], 10, 0, balanced=False) == [("v", False)]
    shares = Counter(l for seed in range(500) for _, l in draw_labelled(FOUND, 1, seed, balanced=False))  # noqa: E741
    assert 160 < shares[True] < 270  # 3 of 7 of 500 are 214, deviation 11


def test_labelled_draws_repeat_with_their_seed():
    for balanced in (True, False):
        first, again, other = (draw_labelled(FOUND, 4, s, balanced=balanced) for s in (0, 0, 1))
        assert first == again != other


def test_what_is_wrong_by_form_alone_teaches_nothing():
    """Cut off, without an answer, or there already: left out, so that form does not give the label away."""
    samples = (
        Sample("right", "2", True),
        Sample("cut off", "3", False, finish_reason="length"),
        Sample("right", "2", True),
        Sample("no answer", None, False),
        Sample("blank answer", " ", False),
        Sample("wrong", "3", False, finish_reason="stop"),
        Sample("also right", "2", True),
    )
    found = classes(SampledProblem("p", "P?", "2", samples))
    assert found == Classes("p", "P?", ("right", "also right"), ("wrong",))


def test_texts_that_differ_in_white_space_around_them_are_one():
    """The template strips them: an evaluator saw the same candidate twice, once as two members of a pair."""
    samples = (Sample(" right\n", "2", True), Sample("right", "2", True), Sample("wrong ", "3", False))
    assert classes(SampledProblem("p", "P?", "2", samples)) == Classes("p", "P?", ("right",), ("wrong",))


def test_parity_by_hand():
    """Right ones of 1 and 3 characters, wrong ones of 2 and 3: shorter in 2 of 4 pairs, equal in one."""
    examples = [("a", True), ("abc", True), ("ab", False), ("xyz", False)]
    assert parity(examples) == (2 + 0.5) / 4
    assert parity([("a", True), ("ab", False)]) == 1.0 and parity([("ab", True), ("a", False)]) == 0.0


# --- Drawing ---


def test_completions_are_graded_with_their_length_and_log_probability():
    problem = Problem("p", "What is 1/2+1/2?", "1", level=2, subject="Algebra")
    texts = [" The answer is \\boxed{2/2}.", " \\boxed{3}.", " no idea"]
    completions = [Completion(text, (5, 6, 7), -1.23456, "stop") for text in texts]
    graded = grade_completions(problem, completions)
    assert [s.correct for s in graded.samples] == [True, False, False]
    assert graded.samples[0] == Sample(texts[0].strip(), "2/2", True, -1.2346, 3, "stop")
    assert graded.samples[2].answer is None and (graded.level, graded.subject) == (2, "Algebra")


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """A small untrained model with the shipped tokenizer."""
    folder = tmp_path_factory.mktemp("generator")
    torch.manual_seed(0)
    shape = dict(n_layer=1, n_head=2, n_kv_head=1, head_dim=8, n_embd=16, n_inner=16, max_seq_len=256)
    tokenizer = load_tokenizer(ASSETS / "tiny")
    save_model(Transformer(ModelConfig(vocab_size=tokenizer.vocab_size, **shape)), folder)
    tokenizer.save(folder)
    return folder


def test_a_killed_draw_goes_on_to_the_same_file_byte_for_byte(generator, tmp_path):
    problems = [Problem(p.id, p.problem, p.answer) for p in generate("train", 7)]
    config = SampleConfig(n=3, max_new_tokens=8, batch_rows=6)  # two problems a batch
    cpu, whole, killed = torch.device("cpu"), tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    tokens = draw_candidates(generator, problems, whole, config, device=cpu)
    meta, found = read_samples(whole)
    assert [p.id for p in found] == [p.id for p in problems] and all(len(p.samples) == 3 for p in found)
    assert tokens == sum(s.tokens for p in found for s in p.samples) > 0
    assert meta["n"] == 3 and meta["temperature"] == 0.9 and meta["model"] == generator.name
    content = whole.read_bytes()
    lines = content.splitlines(keepends=True)
    # Behind the meta line, in the middle of a batch, in the middle of a line, and before the last byte.
    for kept in (len(lines[0]), sum(map(len, lines[:4])), sum(map(len, lines[:5])) + 40, len(content) - 1):
        killed.write_bytes(content[:kept])
        assert draw_candidates(generator, problems, killed, config, device=cpu) > 0
        assert killed.read_bytes() == content
    assert draw_candidates(generator, problems, whole, config, device=cpu) == 0
    assert whole.read_bytes() == content


def test_candidates_of_another_generator_problem_or_setting_are_refused(generator, tmp_path):
    """Candidates of two generators in one file would be told apart by their style."""
    problems = [Problem(p.id, p.problem, p.answer) for p in generate("train", 2)]
    config, path = SampleConfig(n=1, max_new_tokens=4), tmp_path / "candidates.jsonl"
    cpu = torch.device("cpu")
    draw_candidates(generator, problems, path, config, device=cpu)
    before = path.read_bytes()
    other = tmp_path / generator.name  # the same name, other weights
    other.mkdir()
    torch.manual_seed(1)
    save_model(Transformer(ModelConfig(**_shape(generator))), other)
    load_tokenizer(generator).save(other)
    for folder, asked, options in (
        (other, problems, config),
        (generator, problems[:1], config),
        (generator, problems, SampleConfig(n=1, max_new_tokens=5)),
    ):
        with pytest.raises(ValueError, match="samples of another run"):
            draw_candidates(folder, asked, path, options, device=cpu)
    assert path.read_bytes() == before


def _shape(folder):
    from mathref.weights import load_model

    return vars(load_model(folder).config)


def test_a_problem_that_does_not_fit_is_named_before_anything_is_drawn(generator, tmp_path):
    problems = [Problem("short", "What is 1+1?", "2"), Problem("long", "What is 1+1? " * 100, "2")]
    with pytest.raises(ValueError, match="problem long"):
        draw_candidates(
            generator, problems, tmp_path / "c.jsonl", SampleConfig(n=1), device=torch.device("cpu")
        )
    assert len((tmp_path / "c.jsonl").read_text().splitlines()) == 1  # the meta line alone
    assert "meta" in json.loads((tmp_path / "c.jsonl").read_text())


def test_candidates_are_drawn_in_the_type_and_the_batches_asked_for(generator, tmp_path, monkeypatch):
    """They were drawn in float32 whatever --dtype said, and 512 side by side whatever the model."""
    problems = [Problem(p.id, p.problem, p.answer) for p in generate("train", 3)]
    cpu, config = torch.device("cpu"), SampleConfig(n=2, max_new_tokens=4)
    wide, narrow = tmp_path / "wide.jsonl", tmp_path / "narrow.jsonl"
    draw_candidates(generator, problems, wide, config, device=cpu)
    draw_candidates(generator, problems, narrow, config, device=cpu, dtype=torch.bfloat16)
    assert "dtype" not in read_samples(wide)[0] and read_samples(narrow)[0]["dtype"] == "bfloat16"
    logprobs = [[s.logprob for p in read_samples(f)[1] for s in p.samples] for f in (wide, narrow)]
    assert logprobs[0] != logprobs[1]
    assert candidates.rows_side_by_side(generator, problems, 4, torch.float32) == 512
    tokenizer, model_config = load_tokenizer(generator), load_config(generator)
    longest = max(len(tokenizer.encode(generator_prompt(p.problem))) for p in problems)
    row = memory.cache_bytes(model_config, 1, 1 + longest + 4, torch.float32)
    monkeypatch.setattr(candidates, "CACHE", 3 * row)
    assert candidates.rows_side_by_side(generator, problems, 4, torch.float32) == 3
    assert candidates.rows_side_by_side(generator, problems, 4, torch.bfloat16) == 6
    monkeypatch.setattr(memory, "available", lambda device: 1000)
    with pytest.raises(MemoryError, match="1.0 KB free|0.0 MB free"):
        draw_candidates(generator, problems, tmp_path / "none.jsonl", config, device=cpu)
