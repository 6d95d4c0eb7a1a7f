"""The stages: what they train on, and that validation measures what it says."""

from dataclasses import replace

import pytest
import torch

from mathref import stages
from mathref.data import Problem
from mathref.model import Transformer
from mathref.problems import generate
from mathref.prompts import generator_prompt
from mathref.tokenizer import load_tokenizer
from mathref.trainer import TrainConfig
from mathref.weights import save_model

CPU = torch.device("cpu")
CONFIG = TrainConfig(steps=2, batch_size=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A pre-training stage of the smallest size, and its untrained model saved as a checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "TOKENIZER_DOCUMENTS", 300)  # enough for the tests, and quick
        stage = stages.pretrain("tiny", CONFIG, device=CPU, n_validation=4)
    folder = tmp_path_factory.mktemp("base")
    save_model(stage.model, folder)
    stage.tokenizer.save(folder)
    return stage, folder


def test_pretraining_sees_each_document_once_and_validates_on_others(base):
    stage, _ = base
    assert len(stage.items) == CONFIG.steps * CONFIG.batch_size
    assert set(stage.validate(stage.model)) == {"val/loss"}
    assert all(item.n_prompt == 1 for item in stage.items)


def test_pretraining_repeats_with_its_seed(base, monkeypatch):
    monkeypatch.setattr(stages, "TOKENIZER_DOCUMENTS", 300)
    again = stages.pretrain("tiny", CONFIG, device=CPU, n_validation=4)
    assert again.digest == base[0].digest and again.items == base[0].items
    for a, b in zip(again.model.parameters(), base[0].model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="tiny or small"):
        stages.pretrain("huge", CONFIG, device=CPU)


def test_ssft_targets_are_the_solutions(base):
    _, folder = base
    stage = stages.ssft(folder, ["builtin"], CONFIG, style="brief", device=CPU, n_validation=5, n_greedy=0)
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
    options = {"style": "detailed", "device": CPU, "n_validation": 9, "n_greedy": 0}
    stage = stages.ssft(tmp_path, ["builtin"], CONFIG, **options)
    said = next(note for note in stage.notes if "left out: longer than the context of 90 tokens" in note)
    n_left_out = int(said.split()[0])
    assert n_left_out > 1000 and max(len(item.ids) for item in stage.items) <= 90
    assert 10_900 < len(stage.items) + n_left_out <= 11_000
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
            return (
                torch.nn.functional.one_hot(torch.tensor(script)[place], self.config.vocab_size).float() * 50
            )

        def forward(self, tokens, *, mask=None, kv_cache=None):
            return self.head(self.hidden(tokens, mask=mask, kv_cache=kv_cache))

    same = "What is 3+4?"
    assert generator_prompt(same).endswith("Solution:")
    problems = [Problem(str(i), same, answer) for i, answer in enumerate(["7", "8", "14/2"])]
    model = Scripted(base[0].model.config)
    assert stages.greedy_accuracy(model, tokenizer, problems, max_new_tokens=20) == pytest.approx(2 / 3)
