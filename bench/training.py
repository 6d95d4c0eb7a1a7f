"""SSFT steps against a transformers training loop: the same examples, the same loss, AdamW.

Paper: section 4, the loss on solution tokens alone.
Choices: the peer pads a step's examples to one batch, marks prompt and padding with the label -100, and calls
the model with labels, as its own trainer does; both take the same examples in the same order, clip gradients
and use the same optimiser. Counted are target tokens: what a step is for. The loss of the very
first step, in the round that does not count, has to agree; its gradient norm is printed beside it.
The share of the ceiling counts 6 FLOP (2 forward, 4 for the gradients) for each weight of the layers' matrix
products and each token of the examples, and for each weight of the head and each target. Padding, the head
elsewhere, attention's own products and what is computed twice do not count.

    python bench/training.py --model runs/smollm2 --data gsm8k_train.jsonl.gz [--batch-size 8] [--steps 2]
    python bench/training.py --model runs/smollm2 --data gsm8k_train.jsonl.gz --curve batch-size 2 8 32
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pairing import (  # noqa: E402
    Side,
    Work,
    along_curve,
    compare,
    interleave,
    matmul_flops,
    parser,
    product_weights,
    require_agreement,
    set_up,
    shared_options,
    to_length,
    write_figures,
)  # fmt: skip

from mathref.runs import run_command  # noqa: E402

LR = 1e-5


def examples_of(model: str, data: str, n: int, length: int) -> list[Any]:
    """The first n solved problems of a file as prompt and target ids.

    With `length` each one is repeated and cut to that many tokens, the second half at least its target.
    """
    from mathref.batches import Example, encode_example
    from mathref.data import load_problems
    from mathref.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(Path(model))
    solved = [p for p in load_problems(data).problems if p.solution][:n]
    found = [encode_example(tokenizer, p.problem, p.solution or "") for p in solved]
    if not length:
        return found
    return [Example(to_length(list(e.ids), length), min(e.n_prompt, length // 2)) for e in found]


def ours(*, model: str, data: str, batch_size: int, steps: int, length: int, tokens_per_batch: int,
         dtype: str, device: str, threads: int) -> Work:  # fmt: skip
    """mathref.trainer's step."""
    import torch

    from mathref.trainer import SolutionLikelihood, TrainConfig, make_optimizer, optimise_step
    from mathref.weights import load_model

    network = load_model(model, device=set_up(device, threads), dtype=torch.float32)
    config = TrainConfig(
        steps=1, batch_size=batch_size, lr=LR, dtype=getattr(torch, dtype), tokens_per_batch=tokens_per_batch
    )
    optimizer, objective = make_optimizer(network, config), SolutionLikelihood()
    examples = examples_of(model, data, batch_size * steps, length)

    def work() -> dict[str, Any]:
        log = []
        for first in range(0, len(examples), batch_size):
            items = examples[first : first + batch_size]
            log.append(optimise_step(network, items, objective, optimizer, LR, config)[:2])
            optimizer.step()
        return {"units": sum(map(objective.weight, examples)), "log": log}

    return work


def theirs(*, model: str, data: str, batch_size: int, steps: int, length: int, dtype: str, device: str,
           threads: int) -> Work:  # fmt: skip
    """One padded batch a step through transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    place = set_up(device, threads)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).to(place).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    examples = examples_of(model, data, batch_size * steps, length)

    def work() -> dict[str, Any]:
        log = []
        for first in range(0, len(examples), batch_size):
            items = examples[first : first + batch_size]
            longest = max(len(e.ids) for e in items)
            ids = torch.zeros(len(items), longest, dtype=torch.long)
            labels = torch.full_like(ids, -100)
            attended = torch.zeros_like(ids)
            for row, e in enumerate(items):
                ids[row, : len(e.ids)] = torch.tensor(e.ids)
                labels[row, e.n_prompt : len(e.ids)] = torch.tensor(e.ids[e.n_prompt :])
                attended[row, : len(e.ids)] = 1
            ids, labels, attended = (tensor.to(place) for tensor in (ids, labels, attended))
            with torch.autocast(place.type, dtype=getattr(torch, dtype), enabled=dtype != "float32"):
                loss = network(input_ids=ids, attention_mask=attended, labels=labels).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            log.append((loss.item(), norm.item()))
        return {"units": sum(len(e.ids) - e.n_prompt for e in examples), "log": log}

    return work


def main(argv: list[str] | None = None) -> int:
    flags = parser(__doc__)
    flags.add_argument("--batch-size", type=int, default=8, help="examples a step")
    flags.add_argument("--steps", type=int, default=2, help="a round")
    flags.add_argument("--tokens-per-batch", type=int, default=1024, help="of our micro-batches")
    flags.add_argument("--length", type=int, default=0, help="tokens that examples are repeated and cut to")
    args = flags.parse_args(argv)
    curves = ("batch-size", "length", "tokens-per-batch", "model")
    write_figures(args.json, along_curve(args, curves, measure))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time the sides, and check on the round that does not count that they agree."""
    common = shared_options(args)
    common |= {"batch_size": args.batch_size, "steps": args.steps, "length": args.length}
    us = Side("mathref", ours, common | {"tokens_per_batch": args.tokens_per_batch})
    peer = Side("transformers", theirs, common)
    interleave([us, peer], args.rounds)
    (loss, norm), (loss_2, norm_2) = us.rounds[0]["log"][0], peer.rounds[0]["log"][0]
    print(f"first step: loss {loss:.5f} and {loss_2:.5f}, gradient norm {norm:.4f} and {norm_2:.4f}")
    require_agreement("relative, loss", abs(loss - loss_2) / loss, 0.02)
    examples = examples_of(common["model"], common["data"], args.batch_size * args.steps, args.length)
    ceiling = matmul_flops(args.dtype, set_up(args.device, args.threads)) / flops_per_target(
        common["model"], examples
    )
    print(
        f"{common['device']}, {args.dtype}, {args.steps} steps of {args.batch_size} examples a round; "
        f"target tokens; matrix products allow {ceiling:,.0f} tokens/s"
    )
    agreed = {"loss": [loss, loss_2], "norm": [norm, norm_2], "ceiling": ceiling}
    return agreed | compare(us, peer, ceiling=ceiling)


def flops_per_target(model: str, examples: list[Any]) -> float:
    """FLOP that the matrix products of a step need, over its targets (see above)."""
    layers, head = product_weights(model)
    targets = sum(len(e.ids) - e.n_prompt for e in examples)
    return 6 * (layers * sum(len(e.ids) for e in examples) / targets + head)


if __name__ == "__main__":
    sys.exit(run_command(main))
