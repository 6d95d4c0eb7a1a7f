"""Pre-training: how the base models that ship in assets/ were made, and how one of them is trained further.

Paper: its pre-trained models are PaLM 2-S* and PaLM 2-L, which are closed; two small models play them.
Choices: tokenizer and weights come from `problems.pretraining_text`, which knows the training side of the
built-in problems alone; every document is seen once; the checkpoint is chosen by validation loss [P].
"""

from __future__ import annotations

import itertools
from pathlib import Path

import torch

from mathref import batches, distributed, trainer
from mathref.files import digest_text
from mathref.lora import n_weights
from mathref.model import ModelConfig, Transformer, with_more_layers
from mathref.problems import generate, pretraining_text
from mathref.prompts import completion, generator_prompt
from mathref.stages import Stage
from mathref.tokenizer import Tokenizer, load_tokenizer, train_sentencepiece
from mathref.trainer import SolutionLikelihood, TrainConfig
from mathref.weights import load_model

# The paper's two sizes, PaLM 2-S* and PaLM 2-L, as far as a laptop goes.
VOCAB_SIZE = 768  # 256 of them are bytes: any text can be encoded
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"n_layer": 4, "n_head": 4, "n_kv_head": 2, "head_dim": 32, "n_embd": 128, "n_inner": 352},
    "small": {"n_layer": 4, "n_head": 6, "n_kv_head": 2, "head_dim": 32, "n_embd": 192, "n_inner": 512},
}
CONTEXT = 1024  # tokens; room for a few-shot prompt and the longest solution
TOKENIZER_DOCUMENTS = 12000  # pages that the tokenizer is trained on


def tokenizer_text(seed: int) -> list[str]:
    """Lines for the tokenizer: pre-training text and training problems in both styles."""
    documents = list(itertools.islice(pretraining_text(seed), TOKENIZER_DOCUMENTS))
    for problem in generate("train", 3000):
        for solution in (problem.brief, problem.detailed):
            documents.append(generator_prompt(problem.problem) + completion(solution))
    return [line for document in documents for line in document.split("\n") if line]


def pretrain(
    model: str,
    config: TrainConfig,
    *,
    device: torch.device,
    judged_share: float = 0.0,
    more_layers: int = 0,
    n_validation: int = 200,
) -> Stage:
    """A new model of one of SHAPES, or the checkpoint in a folder, on `config.steps * config.batch_size`
    documents, each seen once.

    A checkpoint that goes on should be given another seed than it had, or it sees the same documents again.
    `judged_share` of the documents say what is correct and what is not (`problems.pretraining_text`).
    `more_layers` are put on top of it, and change nothing until they are trained.
    Raises ValueError for what is neither a shape nor a checkpoint folder.
    """
    if model in SHAPES:
        if more_layers:
            raise ValueError(
                f"--more-layers {more_layers}: they go on top of a checkpoint, and {model} is a new model"
            )
        tokenizer: Tokenizer = train_sentencepiece(tokenizer_text(config.seed), VOCAB_SIZE)
        torch.manual_seed(config.seed)
        network = Transformer(ModelConfig(vocab_size=VOCAB_SIZE, max_seq_len=CONTEXT, **SHAPES[model]))
        origin = f"a new {model} model"
    elif (Path(model) / "config.json").exists():
        tokenizer, network = load_tokenizer(Path(model)), load_model(model, dtype=torch.float32)
        origin = f"the checkpoint {model}, trained further"
        if more_layers:
            torch.manual_seed(config.seed)
            network, origin = (
                with_more_layers(network, more_layers),
                f"{origin} with {more_layers} more layers",
            )
    else:
        raise ValueError(
            f"--model {model}: pre-training starts a new model ({' or '.join(SHAPES)}) or goes on from a "
            "checkpoint folder"
        )
    network = network.to(distributed.loading_device(device, config.parallel))
    n_train = config.steps * config.batch_size
    texts = itertools.islice(pretraining_text(config.seed, judged_share=judged_share), n_train + n_validation)
    documents = [batches.encode_document(tokenizer, document) for document in texts]
    held_back, documents = documents[:n_validation], documents[n_validation:]
    objective = SolutionLikelihood()
    n_tokens = sum(len(d.ids) for d in documents)
    notes = [
        f"{origin}, {n_weights(network)[0]:,} parameters",
        f"{n_train:,} documents, {n_tokens:,} tokens of built-in text, none from validation or test problems",
    ]
    return Stage(
        model=network,
        tokenizer=tokenizer,
        items=documents,
        objective=objective,
        validate=lambda m: {"val/loss": trainer.mean_loss(m, held_back, objective, config)},
        notes=notes,
        digest=digest_text(
            f"pretraining text, seed {config.seed}, {n_train} documents, {n_tokens} tokens, "
            f"judged {judged_share}"
        ),
    )
