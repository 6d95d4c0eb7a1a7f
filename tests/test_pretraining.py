"""Pre-training: seeded documents, each seen once; layers on top of a checkpoint that change nothing."""

import pytest
import torch

from mathref import pretraining, trainer
from mathref.trainer import TrainConfig
from mathref.weights import load_model

CPU = torch.device("cpu")
CONFIG = TrainConfig(steps=2, batch_size=3)


def test_pretraining_sees_each_document_once_and_validates_on_others(base):
    stage, _ = base
    assert len(stage.items) == CONFIG.steps * CONFIG.batch_size
    assert set(stage.validate(stage.model)) == {"val/loss"}
    assert all(item.n_prompt == 1 for item in stage.items)


def test_no_document_is_trained_on_and_validated_on(base, monkeypatch):
    seen = []
    monkeypatch.setattr(trainer, "mean_loss", lambda model, documents, *_: seen.extend(documents) or 0.0)
    base[0].validate(base[0].model)
    assert len(seen) == 4 and not any(document in base[0].items for document in seen)


def test_pretraining_repeats_with_its_seed(base, monkeypatch):
    monkeypatch.setattr(pretraining, "TOKENIZER_DOCUMENTS", 300)
    again = pretraining.pretrain("tiny", CONFIG, device=CPU, n_validation=4)
    assert again.digest == base[0].digest and again.items == base[0].items
    for a, b in zip(again.model.parameters(), base[0].model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="tiny or small"):
        pretraining.pretrain("huge", CONFIG, device=CPU)


def test_more_layers_change_nothing_until_they_are_trained(base):
    _, folder = base
    before = load_model(folder, dtype=torch.float32)
    stage = pretraining.pretrain(str(folder), CONFIG, device=CPU, more_layers=2, n_validation=4)
    tokens = torch.tensor([stage.items[0].ids[:60]])
    assert stage.model.config.n_layer == before.config.n_layer + 2
    assert torch.equal(stage.model(tokens), before(tokens))
    stage.objective.loss(stage.model, stage.items).backward()
    gradients = [p.grad for p in stage.model.blocks[-1].parameters() if p.grad is not None]
    assert any(gradient.abs().max() > 0 for gradient in gradients)  # zero outputs, yet they learn


def test_a_new_model_has_the_layers_of_its_shape():
    with pytest.raises(ValueError, match="on top of a checkpoint"):
        pretraining.pretrain("tiny", CONFIG, device=CPU, more_layers=1)
