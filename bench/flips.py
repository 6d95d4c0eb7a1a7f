"""How often a sample comes out otherwise because another batch shape rounds differently.

Paper: none. A sample's random numbers depend on nothing but seed, problem and index; the logits depend on the
shape of the batch in their last bits, since matrix kernels sum in another order. A draw that falls between
the two roundings flips, and the rest of its text is another one.
Choices: the same call twice, with two values of batch_rows; counted are samples whose tokens differ at all.

    python bench/flips.py --model small [--data builtin] [--dtype bfloat16] [--rows 64 256] [--problems 16]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pairing  # noqa: E402, F401  # puts the checkout on the path

from mathref.runs import WEIGHT_DTYPES, run_command  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    flags = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], formatter_class=formatter)
    flags.add_argument("--model", required=True, help="tiny, small or a checkpoint folder")
    flags.add_argument("--data", default="builtin", help="builtin (its test problems) or a file")
    flags.add_argument("--problems", type=int, default=16, help="the first of them")
    flags.add_argument("--n", type=int, default=64, help="samples a problem")
    flags.add_argument("--max-new-tokens", type=int, default=256, help="longest sample")
    flags.add_argument("--rows", type=int, nargs=2, default=[64, 256], help="the two batch sizes")
    flags.add_argument("--dtype", default="float32", choices=WEIGHT_DTYPES[1:], help="of weights")
    flags.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="cuda if there")
    args = flags.parse_args(argv)
    import torch

    from mathref.data import load_problems
    from mathref.metrics import wilson_interval
    from mathref.prompts import generator_prompt
    from mathref.runs import resolve_model
    from mathref.sampler import sample
    from mathref.tokenizer import load_tokenizer
    from mathref.weights import load_model

    folder, device = resolve_model(args.model), pairing.set_up(args.device, 0)
    model = load_model(folder, device=device, dtype=getattr(torch, args.dtype))
    tokenizer = load_tokenizer(folder)
    problems = load_problems(args.data, split="test").problems[: args.problems]
    prompts, ids = [generator_prompt(p.problem) for p in problems], [p.id for p in problems]
    options = {"n": args.n, "max_new_tokens": args.max_new_tokens, "ids": ids}
    runs = [sample(model, tokenizer, prompts, **options, batch_rows=rows) for rows in args.rows]
    flipped = sum(
        a.token_ids != b.token_ids for pair in zip(*runs, strict=True) for a, b in zip(*pair, strict=True)
    )
    total = len(prompts) * args.n
    share = wilson_interval(flipped, total)
    print(
        f"{args.model}, {args.dtype}, {device.type}: {flipped} of {total} samples differ between "
        f"{args.rows[0]} and {args.rows[1]} rows, {share.value:.2%} ({share.low:.2%}-{share.high:.2%})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
