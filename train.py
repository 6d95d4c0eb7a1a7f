"""Train a model: pre-train a base on built-in text, or fine-tune one on step-by-step solutions (SSFT).

    python train.py --stage ssft                                    the shipped tiny base on the built-in
    problems python train.py --stage ssft --model small --style brief --out runs/small-brief python train.py
    --stage ssft --model DIR --data math_train.jsonl.gz prm800k.jsonl --dtype bfloat16 python train.py
    --stage pretrain --model tiny --out runs/base   how the shipped bases were made

Paper: section 4 (SSFT). What the paper leaves open is a flag with a default; --help lists all of them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mathref.runs import comma_list, open_run, pick_device, pick_dtype, resolve_model, run_command

if TYPE_CHECKING:
    from mathref.trainer import Progress

STAGES = ("pretrain", "ssft")
# Defaults that differ by stage; a flag on the command line wins.
DEFAULTS = {
    "pretrain": {"steps": 1200, "batch_size": 32, "lr": 3e-3, "warmup_steps": 100, "eval_every": 200},
    "ssft": {"steps": 250, "batch_size": 64, "lr": 1.5e-3, "warmup_steps": 20, "eval_every": 125},
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--stage", choices=STAGES, required=True, help="what to train")
    add("--model", default="tiny", help="tiny or small (shipped), or a folder with a checkpoint")
    add(
        "--data",
        nargs="+",
        default=["builtin"],
        metavar="FILE",
        help="builtin, or files and folders of solved problems; samples files: their correct solutions",
    )
    add(
        "--style",
        choices=["detailed", "brief", "both"],
        default="detailed",
        help="solutions of the built-in problems",
    )
    names = {"type": comma_list, "metavar": "A,B"}
    add("--families", **names, help="built-in problems of these families only (an unknown name lists them)")
    add(
        "--exclude-families",
        **names,
        help="none of these: held out, to evaluate on with sample.py --families",
    )
    add("--per-problem", type=int, help="solutions kept of one problem (default: 1 of PRM800K, 4 of samples)")
    add("--merge-steps", type=int, metavar="K", default=1, help="write K steps of a solution on one line")
    add("--drop-steps", type=float, metavar="RATE", default=0.0, help="leave out a share of the steps")
    add("--corrupt-steps", type=float, metavar="RATE", default=0.0, help="make a share of the steps wrong")
    add("--out", type=Path, help="run folder (default: runs/STAGE)")
    add("--resume", action="store_true", help="continue the run in --out; start it where there is none")
    add("--steps", type=int, help=_by_stage("steps", "optimiser steps"))
    add("--batch-size", type=int, help=_by_stage("batch_size", "examples an optimiser step"))
    add("--lr", type=float, help=_by_stage("lr", "peak learning rate"))
    add(
        "--schedule", choices=["cosine", "constant"], default="cosine", help="learning rate after the warm-up"
    )
    add("--warmup-steps", type=int, help=_by_stage("warmup_steps", "steps of linear warm-up"))
    add("--weight-decay", type=float, default=0.1, help="AdamW's, on matrices")
    add("--max-grad-norm", type=float, default=1.0, help="gradients are scaled down to this norm")
    add("--tokens-per-batch", type=int, default=4096, help="tokens of a micro-batch: memory, not mathematics")
    add("--activation-checkpointing", action="store_true", help="less memory for about a third more time")
    add("--eval-every", type=int, help=_by_stage("eval_every", "steps between validations"))
    add("--n-validation", type=int, help="validation problems (default: 1000 built-in, a twelfth of a file)")
    add("--n-greedy", type=int, default=200, help="of these, problems solved greedily at each validation")
    add("--max-new-tokens", type=int, default=256, help="longest greedy solution")
    add("--save-every", type=int, default=100, help="steps between checkpoints for --resume")
    add("--log-every", type=int, default=10, help="steps between lines of metrics.jsonl")
    add("--seed", type=int, default=0, help="of the example order, the data cut and new weights")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--dtype", choices=["auto", "float32", "bfloat16"], default="auto", help="of the matrix products")
    args = parser.parse_args(argv)
    for name, value in DEFAULTS[args.stage].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.out = args.out or Path("runs") / args.stage
    return args


def _by_stage(name: str, text: str) -> str:
    values = ", ".join(f"{defaults[name]:g} for {stage}" for stage, defaults in DEFAULTS.items())
    return f"{text} (default: {values})"


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    started = time.perf_counter()
    from mathref import stages, trainer  # after parsing, so that --help answers at once
    from mathref.ablations import Ablation
    from mathref.problems import select_families
    from mathref.weights import save_model

    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, device)
    flags = {k: v for k, v in vars(args).items() if k in trainer.TrainConfig.__dataclass_fields__}
    config = trainer.TrainConfig(**flags | {"dtype": dtype})
    if args.stage == "pretrain":
        stage = stages.pretrain(args.model, config, device=device)
    else:
        stage = stages.ssft(
            resolve_model(args.model),
            args.data,
            config,
            style=args.style,
            device=device,
            n_validation=args.n_validation,
            per_problem=args.per_problem,
            families=select_families(args.families, args.exclude_families),
            ablation=Ablation(args.merge_steps, args.drop_steps, args.corrupt_steps, seed=args.seed),
            n_greedy=args.n_greedy,
            max_new_tokens=args.max_new_tokens,
        )
    print(*stage.notes, sep="\n")
    settings = {k: v for k, v in vars(args).items() if k not in ("out", "resume")}
    settings |= {"device": str(device), "dtype": str(dtype), "data_digest": stage.digest}
    fingerprint = open_run(args.out, settings, resume=args.resume)
    stage.tokenizer.save(args.out)
    progress = trainer.train(
        stage.model,
        stage.items,
        stage.objective,
        config,
        args.out,
        validate=stage.validate,
        save_best=lambda model: save_model(model, args.out),
        resume=args.resume,
        fingerprint=fingerprint,
    )
    report(args, progress, time.perf_counter() - started)
    return 0


def report(args: argparse.Namespace, progress: Progress, seconds: float) -> None:
    """What was made, where it is, how long it took, and what comes next."""
    accuracy, loss = progress.best or (0.0, 0.0)
    solved = args.stage != "pretrain" and args.n_greedy  # else no problem was solved, and 0% would be wrong
    shown = f"validation loss {-loss:.4f}" + (f", pass@1 {accuracy:.1%}" if solved else "")
    print(f"best checkpoint: step {progress.best_step} of {progress.step}, {shown}")
    print(f"wrote {args.out} (model, tokenizer, run.json, metrics.jsonl) in {seconds:.0f} s")
    following = (
        "python train.py --stage ssft --model" if args.stage == "pretrain" else "python sample.py --model"
    )
    print(f"next: {following} {args.out}")


if __name__ == "__main__":
    raise SystemExit(run_command(main))
