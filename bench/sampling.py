"""Sampling against transformers generate: N solutions of each problem, real prompts, real stopping.

Paper: none; N = 64 nucleus samples a problem are its setting (section 5).
Choices: both sides load the same folder in the same type and draw with the same temperature and top-p until
EOS or the length limit; tokens are counted up to each solution's end, so that padding is no work. The peer
gets several batch sizes, and each has its ratio: that of the fastest counts. Before anything is timed the
peer's model has to give our completions the log-probability that we report.

    python bench/sampling.py --model runs/smollm2 --data gsm8k_test.jsonl [--n 64] [--problems 4]
    python bench/sampling.py --model runs/smollm2 --data gsm8k_test.jsonl --greedy --problems 8
    python bench/sampling.py --model runs/smollm2 --data gsm8k_test.jsonl --curve n 1 8 64
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
    compare_each,
    interleave,
    matmul_flops,
    parser,
    product_weights,
    release,
    require_agreement,
    set_up,
    shared_options,
    write_figures,
)  # fmt: skip

from mathref.runs import run_command  # noqa: E402

# Nats a token that the sides may differ by: a logit of 20 in bfloat16 is rounded to eighths.
A_TOKEN = {"float32": 1e-3, "bfloat16": 0.25}


def prompts_of(data: str, problems: int) -> list[str]:
    """The prompts of the first problems of a file."""
    from mathref.data import load_problems
    from mathref.prompts import generator_prompt

    return [generator_prompt(p.problem) for p in load_problems(data).problems[:problems]]


def ours(*, model: str, data: str, problems: int, decoding: dict[str, Any], rows: int, dtype: str,
         device: str, threads: int) -> Work:  # fmt: skip
    """mathref.sampler on the whole list of prompts."""
    import torch

    from mathref.sampler import sample
    from mathref.tokenizer import load_tokenizer
    from mathref.weights import load_model

    network = load_model(model, device=set_up(device, threads), dtype=getattr(torch, dtype))
    tokenizer = load_tokenizer(Path(model))
    prompts = prompts_of(data, problems)

    def work() -> dict[str, Any]:
        found = sample(network, tokenizer, prompts, **decoding, batch_rows=rows)
        return {"units": sum(len(c.token_ids) for completions in found for c in completions)}

    return work


def theirs(*, model: str, data: str, problems: int, decoding: dict[str, Any], rows: int, dtype: str,
           device: str, threads: int) -> Work:  # fmt: skip
    """transformers generate, `rows` sequences at a time: several prompts, padded on the left."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = set_up(device, threads)
    network = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).to(place).eval()
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    prompts, n = prompts_of(data, problems), decoding["n"]
    if decoding["temperature"] == 0:
        options: dict[str, Any] = {"do_sample": False}
    else:
        options = {
            "do_sample": True,
            "temperature": decoding["temperature"],
            "top_p": decoding["top_p"],
            "top_k": 0,
        }
    ends = torch.tensor(network.generation_config.eos_token_id, device=place).reshape(-1)
    group = max(1, rows // n)

    @torch.inference_mode()
    def work() -> dict[str, Any]:
        torch.manual_seed(decoding["seed"])
        tokens = 0
        for first in range(0, len(prompts), group):
            batch = tokenizer(prompts[first : first + group], return_tensors="pt", padding=True).to(place)
            for part in range(0, n, rows):
                written = network.generate(
                    **batch, **options, num_return_sequences=min(rows, n - part),
                    max_new_tokens=decoding["max_new_tokens"], pad_token_id=tokenizer.pad_token_id,
                )[:, batch["input_ids"].shape[1] :]  # fmt: skip
                is_end = torch.isin(written, ends)
                length = torch.where(is_end.any(dim=1), is_end.int().argmax(dim=1) + 1, written.shape[1])
                tokens += int(length.sum())
        return {"units": tokens}

    return work


def agree(*, model: str, data: str, decoding: dict[str, Any], dtype: str, device: str, threads: int) -> float:
    """Largest difference between the log-probability we report of a completion and the peer's, in nats a
    token.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from mathref.sampler import encode_prompts, sample
    from mathref.tokenizer import load_tokenizer
    from mathref.weights import load_model

    place, weights = set_up(device, threads), getattr(torch, dtype)
    network, tokenizer = load_model(model, device=place, dtype=weights), load_tokenizer(Path(model))
    peer = AutoModelForCausalLM.from_pretrained(model, dtype=weights).to(place).eval()
    prompts = prompts_of(data, 2)
    largest = 0.0
    for prompt, completions in zip(
        prompts, sample(network, tokenizer, prompts, **decoding | {"n": 2}), strict=True
    ):
        (start,) = encode_prompts(tokenizer, [prompt], ["0"], network.config.max_seq_len)
        for completion in completions:
            ids = torch.tensor([start + list(completion.token_ids)], device=place)
            with torch.inference_mode():
                logits = peer(ids).logits[0, len(start) - 1 : -1]  # (T, V)
                logprobs = logits.float().log_softmax(dim=-1)  # (T, V)
            theirs = logprobs.gather(1, ids[0, len(start) :, None]).sum().item()
            largest = max(largest, abs(theirs - completion.logprob) / len(completion.token_ids))
    return largest


def main(argv: list[str] | None = None) -> int:
    flags = parser(__doc__)
    flags.add_argument("--n", type=int, default=64, help="solutions a problem")
    flags.add_argument("--problems", type=int, default=4, help="the first of the file")
    flags.add_argument("--max-new-tokens", type=int, default=256, help="longest solution")
    flags.add_argument("--rows", type=int, default=256, help="our batch_rows")
    flags.add_argument("--peer-rows", type=int, nargs="+", default=[64, 256], help="the peer's batch sizes")
    flags.add_argument("--greedy", action="store_true", help="one solution a problem, one problem at a time")
    args = flags.parse_args(argv)
    curves = ("n", "rows", "problems", "max-new-tokens", "model")
    write_figures(args.json, along_curve(args, curves, measure))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Check that the sides agree, then time them."""
    place = set_up(args.device, args.threads)
    decoding: dict[str, Any] = {"n": args.n, "temperature": 0.9, "top_p": 0.95, "seed": 0}
    decoding["max_new_tokens"] = args.max_new_tokens
    if args.greedy:
        decoding |= {"n": 1, "temperature": 0.0}
        args.rows, args.peer_rows = 1, [1]
    difference = agree(**shared_options(args), decoding=decoding)
    release()
    require_agreement(
        "log-probability of the same completions, nats a token", difference, A_TOKEN[args.dtype]
    )
    common = shared_options(args) | {"problems": args.problems, "decoding": decoding}
    us = Side(f"mathref, {args.rows} rows", ours, common | {"rows": args.rows})
    peers = [Side(f"transformers, {r} rows", theirs, common | {"rows": r}) for r in args.peer_rows]
    interleave([us, *peers], args.rounds)
    ceiling = matmul_flops(args.dtype, place) / (2 * sum(product_weights(str(args.model))))
    print(
        f"{place.type}, {args.dtype}, {args.problems} problems, n = {decoding['n']}; "
        f"matrix products allow {ceiling:,.0f} tokens/s"
    )
    return {"ceiling": ceiling, **compare_each(us, peers, ceiling=ceiling)}


if __name__ == "__main__":
    sys.exit(run_command(main))
