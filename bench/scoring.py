"""The evaluator against plain batch scoring with transformers: N candidates of each problem.

Paper: section 6.1, S_cls = p("correct") / (p("correct") + p("incorrect")) after the template T(P, X).
Choices: the peer reads the whole template of every candidate, `rows` at a time, padded on the left, and takes
the logits of the last position, as a plain script would; the words have to be one token each for it to be
that simple. Both score the same distinct candidates, and their scores have to agree before the ratio counts.
Candidates are solutions of the file's other problems, drawn at random: text of the right kind and length,
which says something else each time, the hard case for us. With `--sampled` they are those of a samples file
(sample.py): what a generator writes begins alike, and may repeat.

    python bench/scoring.py --model runs/smollm2 --data gsm8k_train.jsonl.gz [--candidates 64] [--problems 2]
    python bench/scoring.py --model runs/smollm2 --data gsm8k_train.jsonl.gz --curve candidates 4 16 64
    python bench/scoring.py --model runs/smollm2 --sampled --data samples/smollm2-gsm8k_test-n64-t0.9.jsonl
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pairing import (  # noqa: E402
    ROUNDING,
    Side,
    Work,
    along_curve,
    compare_each,
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


def candidates_of(
    data: str, sampled: bool, problems: int, n: int, length: int = 0
) -> list[tuple[str, list[str]]]:
    """The first problems of a file, each with its first n samples, or with n solutions of others (seeded).

    With `length` every candidate is repeated and cut to that many characters.
    """
    from mathref.data import load_problems
    from mathref.samples import read_samples

    if sampled:
        found = read_samples(data)[1][:problems]
        return [(p.problem, [to_length(sample.text, length) for sample in p.samples][:n]) for p in found]
    solved = [p for p in load_problems(data).problems if p.solution]
    texts = sorted({p.solution or "" for p in solved[problems:]})
    rng = random.Random(0)
    return [
        (p.problem, [to_length(text, length) for text in rng.sample(texts, n)]) for p in solved[:problems]
    ]


def token_counts(embedding: nn.Module) -> list[int]:
    """A list that takes the number of tokens, padding included, of every call of a model's embedding."""
    counts: list[int] = []
    embedding.register_forward_pre_hook(lambda module, inputs: counts.append(inputs[0].numel()))
    return counts


def ours(*, model: str, data: str, candidates: tuple[bool, int, int, int], dtype: str, device: str,
         threads: int) -> Work:  # fmt: skip
    """mathref.evaluator, problem by problem."""
    import torch

    from mathref.evaluator import log_odds
    from mathref.tokenizer import load_tokenizer
    from mathref.weights import load_model

    network = load_model(model, device=set_up(device, threads), dtype=getattr(torch, dtype))
    tokenizer = load_tokenizer(Path(model))
    groups = candidates_of(data, *candidates)
    counts = token_counts(network.embedding)

    def work() -> dict[str, Any]:
        counts.clear()
        odds = [log_odds(network, tokenizer, problem, texts) for problem, texts in groups]
        return {"units": sum(map(len, odds)), "odds": odds, "tokens": sum(counts)}

    return work


def theirs(*, model: str, data: str, candidates: tuple[bool, int, int, int], rows: int, dtype: str,
           device: str, threads: int) -> Work:  # fmt: skip
    """transformers, `rows` templates at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from mathref.prompts import VERDICTS, evaluator_prompt

    place = set_up(device, threads)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).to(place).eval()
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    words = [tokenizer.encode(word, add_special_tokens=False) for word in VERDICTS]
    if any(len(word) != 1 for word in words):
        raise ValueError(f"{model}: its words for {VERDICTS} are {words}, expected one token each")
    (correct,), (incorrect,) = words
    groups = candidates_of(data, *candidates)
    counts = token_counts(network.get_input_embeddings())

    @torch.inference_mode()
    def work() -> dict[str, Any]:
        counts.clear()
        odds = []
        for problem, texts in groups:
            found: list[float] = []
            for first in range(0, len(texts), rows):
                prompts = [evaluator_prompt(problem, text) for text in texts[first : first + rows]]
                batch = tokenizer(prompts, return_tensors="pt", padding=True).to(place)
                last = network(**batch, logits_to_keep=1).logits[:, -1].float()  # (B, V)
                found += (last[:, correct] - last[:, incorrect]).tolist()
            odds.append(found)
        return {"units": sum(map(len, odds)), "odds": odds, "tokens": sum(counts)}

    return work


def main(argv: list[str] | None = None) -> int:
    flags = parser(__doc__)
    flags.add_argument("--candidates", type=int, default=64, help="of each problem")
    flags.add_argument("--problems", type=int, default=2, help="the first of the file")
    flags.add_argument("--sampled", action="store_true", help="--data is a samples file: score those")
    flags.add_argument(
        "--length", type=int, default=0, help="characters that candidates are repeated and cut to"
    )
    flags.add_argument("--peer-rows", type=int, nargs="+", default=[8, 32], help="the peer's batch sizes")
    args = flags.parse_args(argv)
    write_figures(args.json, along_curve(args, ("candidates", "problems", "length", "model"), measure))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time the sides, and check on the round that does not count that they agree."""
    common = shared_options(args) | {
        "candidates": (args.sampled, args.problems, args.candidates, args.length)
    }
    us = Side("mathref", ours, common)
    peers = [Side(f"transformers, {rows} rows", theirs, common | {"rows": rows}) for rows in args.peer_rows]
    interleave([us, *peers], args.rounds)
    difference = max(
        abs(a - b)
        for mine, others in zip(us.rounds[0]["odds"], peers[0].rounds[0]["odds"], strict=True)
        for a, b in zip(mine, others, strict=True)
    )
    require_agreement("log-odds of the same candidates", difference, ROUNDING[args.dtype])
    tokens = {side.name: side.rounds[0]["tokens"] for side in (us, *peers)}
    units, weights = us.rounds[0]["units"], product_weights(common["model"])[0]
    flops = matmul_flops(args.dtype, set_up(args.device, args.threads))
    ceiling = units * flops / (2 * weights * tokens[us.name])
    print(
        f"{common['device']}, {args.dtype}, {args.problems} problems, {args.candidates} candidates each; "
        f"on our tokens matrix products allow {ceiling:.2f} candidates/s"
    )
    for side in peers:
        times = tokens[side.name] / tokens[us.name]
        print(f"tokens: {tokens[us.name]:,}; {side.name} {tokens[side.name]:,}, {times:.2f} times as many")
    return {"tokens": tokens} | compare_each(us, peers, unit="candidates/s", ceiling=ceiling)


if __name__ == "__main__":
    sys.exit(run_command(main))
