"""Train a model: pre-train a base, fine-tune a generator (SSFT), an evaluator (SCR), or both in turn (MTSF).

    python train.py --stage ssft                             the shipped tiny base on the built-in problems
    python train.py --stage scr                              an evaluator out of runs/ssft
    python train.py --stage scr --loss margin --samples runs/scr-candidates.jsonl --out runs/scr-margin
    python train.py --stage mtsf                             ssft, scr, ssft; --sequence for any other order
    python train.py --stage mtsf --sequence ssft,ssft --out runs/control      the control without an evaluator
    python train.py --stage ssft --model DIR --data math_train.jsonl.gz prm800k.jsonl --dtype bfloat16
    python train.py --stage ssft --model DIR --lora-rank 16      adapters alone are trained (docs/ADAPTERS.md)
    python train.py --stage pretrain --model tiny --out runs/base             how the shipped bases were made
    torchrun --nproc-per-node 8 train.py --stage ssft --parallel fsdp    on several GPUs (docs/DISTRIBUTED.md)

Paper: sections 4 (SSFT), 6 (SCR) and 8 (MTSF, and the joint and contrastive objectives that it replaces).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathref import processes
from mathref.hub import is_id, pinned
from mathref.runs import (
    GENERATOR,
    SAMPLES,
    VERSION,
    HelpFormatter,
    check_least,
    comma_list,
    on_several_processes,
    open_run,
    pick_device,
    pick_dtype,
    publish,
    refuse_existing,
    refuse_ignored,
    require_default,
    resolve_model,
    run_command,
    spelled,
)

if TYPE_CHECKING:
    import torch

    from mathref.checkpoint import Progress
    from mathref.data import TrainingData
    from mathref.lora import LoRAConfig
    from mathref.model import Transformer
    from mathref.stages import Stage
    from mathref.trainer import TrainConfig

STAGES = ("pretrain", "ssft", "scr", "mtsf", "joint", "contrastive")
STEPWISE = ("ssft", "scr", "joint", "contrastive")  # what a sequence may consist of
ON_CANDIDATES = ("scr", "joint", "contrastive")
# Defaults that differ by stage; a flag on the command line wins.
DEFAULTS = {
    "pretrain": {"steps": 1200, "batch_size": 32, "lr": 3e-3, "warmup_steps": 100, "eval_every": 200},
    "ssft": {"steps": 250, "batch_size": 64, "lr": 1.5e-3, "warmup_steps": 20, "eval_every": 125},
    "scr": {"steps": 300, "batch_size": 64, "lr": 1e-4, "warmup_steps": 20, "eval_every": 100},
    "joint": {"steps": 300, "batch_size": 64, "lr": 1e-4, "warmup_steps": 20, "eval_every": 100},
    "contrastive": {"steps": 100, "batch_size": 32, "lr": 2e-4, "warmup_steps": 10, "eval_every": 50},
}
# The stages that read what would change the training if it were read: elsewhere these flags are refused.
READ_BY: dict[tuple[str, ...], tuple[str, ...]] = {  # stages: flags
    ("pretrain",): ("judged_share", "more_layers"),
    STEPWISE: ("data", "families", "exclude_families", "n_validation", "lora_rank", "skip_bad_lines"),
    ("ssft", "joint", "contrastive"): (
        "style", "per_problem", "merge_steps", "drop_steps", "corrupt_steps",
    ),
    ON_CANDIDATES: (
        "samples", "n_problems", "n_candidates", "temperature", "top_p", "batch_rows", "examples_per_problem",
        "margin",
    ),
    ("scr", "joint"): ("loss", "xent_space", "balance"),
    ("contrastive",): ("alpha_1", "length_normalised"),
    ("joint",): ("alpha_2",),
    ("mtsf",): ("sequence",),
}  # fmt: skip
NAMES: dict[str, Any] = {"type": comma_list, "metavar": "A,B,..."}  # what such a flag is given
OF_SSFT = ("style", "n_validation", "per_problem", "n_greedy", "max_new_tokens", "skip_bad_lines")
# What --samples makes needless.
OF_DRAWING = ("n_problems", "n_candidates", "temperature", "top_p", "batch_rows")
OF_MACHINE = ("parallel", "skip_bad_lines", "batch_rows")  # what decides no result
OF_LORA = ("lora_rank", "lora_alpha", "lora_targets")
# Tokens of a micro-batch: on a CPU its activations should stay in the caches (4096 take a third longer).
CPU_TOKENS, DEVICE_TOKENS = 1024, 16384
LARGE = 50_000_000  # weights, from which on the default learning rates are too high
LATER_SSFT_STEPS = 200  # of an ssft stage that follows others: section 8's third stage


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], formatter_class=HelpFormatter)
    add = parser.add_argument_group("what to train, and on what").add_argument
    add("--stage", choices=STAGES, required=True, help="what to train")
    add(
        "--model",
        help="tiny or small (shipped), a folder with a checkpoint, or owner/name[@revision] on the hub "
        f"(default: tiny; {GENERATOR} for {', '.join(ON_CANDIDATES)})",
    )
    sequence = f"stages of mtsf in order, of {', '.join(STEPWISE)}"
    add("--sequence", **NAMES, default=["ssft", "scr", "ssft"], help=sequence)
    data = "builtin, or files and folders of solved problems; samples files: their correct solutions"
    add("--data", nargs="+", default=["builtin"], metavar="FILE", help=data)
    add("--style", choices=["detailed", "brief", "both"], default="detailed", help="of built-in solutions")
    add("--families", **NAMES, help="built-in problems of these families only (an unknown name lists them)")
    add("--exclude-families", **NAMES, help="none of these, to evaluate on them: sample.py --families")
    skip = "leave bad lines of data and samples out, and list them"
    add("--skip-bad-lines", action="store_true", help=skip)
    add("--judged-share", type=float, default=0.0, help="pretrain: share of documents that judge solutions")
    add("--more-layers", type=int, default=0, help="pretrain: new layers on top of a checkpoint")
    add("--per-problem", type=int, help="solutions kept of one problem (default: 1 of PRM800K, 4 of samples)")
    add("--merge-steps", type=int, metavar="K", default=1, help="write K steps of a solution on one line")
    add("--drop-steps", type=float, metavar="RATE", default=0.0, help="leave out a share of the steps")
    add("--corrupt-steps", type=float, metavar="RATE", default=0.0, help="make a share of the steps wrong")
    kept = "1000 built-in; of a file a twelfth, at most 1000; scr: of the candidates' a twelfth, at most 200"
    add("--n-validation", type=int, help=f"validation problems (default: {kept})")
    _add_evaluator_flags(parser)
    _add_lora_flags(parser)
    _add_loop_flags(parser)
    parser.add_argument("--version", action="version", version=VERSION)
    args = parser.parse_args(argv)
    _check(args, parser)
    if args.model is None:
        first = args.sequence[0] if args.stage == "mtsf" else args.stage
        args.model = GENERATOR if first in ON_CANDIDATES else "tiny"
    args.out = args.out or Path("runs") / args.stage
    return args


def _check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse what a stage would ignore, and values that no stage can use."""
    stages = {"mtsf", *args.sequence} if args.stage == "mtsf" else {args.stage}
    ignored = {
        f"by --stage {args.stage}, it is for {', '.join(readers)}": names
        for readers, names in READ_BY.items()
        if stages.isdisjoint(readers)
    }
    ignored |= {"without --lora-rank": OF_LORA} if not args.lora_rank else {}
    ignored |= {"with --samples, which are there": OF_DRAWING} if args.samples else {}
    if not stages.isdisjoint(("scr", "joint")):
        ignored |= {"with --loss margin": ("xent_space", "balance")} if args.loss == "margin" else {}
        apart = args.loss == "xent" and "contrastive" not in stages
        ignored |= {"with --loss xent": ("margin",)} if apart else {}
    ignored |= {"without builtin in --data": ("style",)} if "builtin" not in args.data else {}
    refuse_ignored(args, parser, ignored)
    check_least(args, n_validation=1, n_problems=1, n_candidates=1, batch_rows=1, per_problem=1)
    check_least(args, more_layers=0, n_greedy=0, max_new_tokens=1)
    if not 0 <= args.judged_share <= 1:
        raise ValueError(f"--judged-share is {args.judged_share}, expected a share from 0 to 1")
    wrong = [f"has '{s}'" for s in args.sequence if s not in STEPWISE] or ["is empty"] * (not args.sequence)
    if args.stage == "mtsf" and wrong:
        raise ValueError(f"--sequence {wrong[0]}, expected stages of {', '.join(STEPWISE)}")


def _add_evaluator_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("scr, joint, contrastive: candidates and losses").add_argument
    add("--loss", choices=["margin", "xent"], default="xent", help="the evaluator's loss: Eq. 8 or Eq. 9")
    add("--margin", type=float, default=0.5, help="lambda of Eq. 8 and of the contrastive loss")
    words = "Eq. 9: over the two words or all"
    add("--xent-space", choices=["two-way", "vocab"], default="two-way", help=words)
    given = "graded candidates of training problems; those of validation problems of --data and of families "
    given += "left out are not used (default: the generator draws OUT-candidates.jsonl)"
    add("--samples", type=Path, metavar="FILE", help=given)
    add("--n-problems", type=int, default=3000, help="training problems that candidates are drawn for")
    add("--n-candidates", type=int, default=8, help="candidates drawn for each; the paper has 64 [S]")
    add("--temperature", type=float, default=0.9, help="of these candidates")
    add("--top-p", type=float, default=0.95, help="of these candidates")
    add("--batch-rows", type=int, help="drawn side by side (default: 512; fewer where that takes over 8 GB)")
    add("--examples-per-problem", type=int, default=10, help="pairs (margin) or candidates (xent) a problem")
    halves = "xent: half correct, half incorrect candidates where both are there, or a plain draw"
    add("--balance", choices=["problem", "none"], default="problem", help=halves)
    add("--alpha-1", type=float, default=1.0, help="contrastive: weight of L_mle")
    add("--alpha-2", type=float, default=1.0, help="joint: weight of L_mle")
    add("--length-normalised", action="store_true", help="contrastive: mean log-probabilities, not sums")


def _add_lora_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("LoRA: the model is frozen, and small adapters are trained").add_argument
    add("--lora-rank", type=int, metavar="R", default=0, help="rank of the adapters, 0: train all weights")
    add("--lora-alpha", type=float, metavar="X", help="they count alpha / R times (default: 2 R)")
    targets = "layers that get one (default: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj)"
    add("--lora-targets", **NAMES, help=targets)


def lora_config(args: argparse.Namespace) -> LoRAConfig | None:
    """What the flags of LoRA ask for; None without --lora-rank."""
    from mathref.lora import TARGETS, LoRAConfig

    if not args.lora_rank:
        return None
    alpha = 2 * args.lora_rank if args.lora_alpha is None else args.lora_alpha
    targets = TARGETS if args.lora_targets is None else args.lora_targets
    return LoRAConfig(args.lora_rank, alpha, tuple(targets))


def _add_loop_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the training loop").add_argument
    add("--out", type=Path, help="run folder (default: runs/STAGE)")
    add("--resume", action="store_true", help="continue the run in --out; start it where there is none")
    steps = f"optimiser steps, for mtsf one number a stage; a later ssft {LATER_SSFT_STEPS}"
    add("--steps", type=_steps, metavar="N[,N...]", help=_by_stage("steps", steps))
    pairs = "examples an optimiser step; scr takes half with --loss margin, of pairs"
    add("--batch-size", type=int, help=_by_stage("batch_size", pairs))
    add("--lr", type=float, help=_by_stage("lr", "peak learning rate"))
    add("--schedule", choices=["cosine", "constant"], default="cosine", help="of the rate after the warm-up")
    add("--warmup-steps", type=int, help=_by_stage("warmup_steps", "steps of linear warm-up"))
    add("--weight-decay", type=float, default=0.1, help="AdamW's, on matrices")
    add("--max-grad-norm", type=float, default=1.0, help="gradients are scaled down to this norm")
    tokens = (
        f"speed and memory, not mathematics (default: {CPU_TOKENS} on the CPU, {DEVICE_TOKENS} elsewhere)"
    )
    add("--tokens-per-batch", type=int, help=f"tokens of a micro-batch: {tokens}")
    add("--activation-checkpointing", action="store_true", help="less memory for about a third more time")
    split = "under torchrun: the whole model on each process, or a slice of it (default: ddp)"
    add("--parallel", choices=["ddp", "fsdp"], help=split)
    add("--eval-every", type=int, help=_by_stage("eval_every", "steps between validations, 0: at the end"))
    add("--n-greedy", type=int, default=200, help="validation problems solved greedily at each validation")
    add("--max-new-tokens", type=int, default=256, help="longest solution that is written")
    add("--save-every", type=int, default=100, help="steps between checkpoints for --resume, 0: at the end")
    add("--log-every", type=int, default=10, help="steps between lines of metrics.jsonl")
    add("--seed", type=int, default=0, help="of example order, candidates, their validation and new weights")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--dtype", choices=["auto", "float32", "bfloat16"], default="auto", help="of matrix products")


def _steps(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}, expected whole numbers, such as 200 or 9,8,7") from None


def _by_stage(name: str, text: str) -> str:
    values = ", ".join(f"{defaults[name]:g} for {stage}" for stage, defaults in DEFAULTS.items())
    return f"{text} (default: {values})"


def plan(args: argparse.Namespace) -> list[argparse.Namespace]:
    """One namespace a stage, each with its own defaults filled in, its folder and its number of steps."""
    sequence = args.sequence if args.stage == "mtsf" else [args.stage]
    if args.steps and len(args.steps) not in (1, len(sequence)):
        raise ValueError(
            f"--steps has {len(args.steps)} numbers for {len(sequence)} stages ({', '.join(sequence)}); "
            "give one for all, or one for each"
        )
    stages = []
    for place, stage in enumerate(sequence):
        own = argparse.Namespace(**vars(args) | {"stage": stage})
        own.steps = args.steps[place % len(args.steps)] if args.steps else None
        defaults = DEFAULTS[stage] | ({"steps": LATER_SSFT_STEPS} if stage == "ssft" and place else {})
        if stage == "scr" and args.loss == "margin":
            defaults["batch_size"] //= 2  # an example is a pair: as many candidates a step as with xent
        for name, value in defaults.items():
            if getattr(own, name) is None:
                setattr(own, name, value)
        if args.stage == "mtsf":
            own.out = args.out / f"{place + 1}-{stage}"
        stages.append(own)
    return stages


def build(
    args: argparse.Namespace, generator: Path, config: TrainConfig, device: torch.device, frozen: torch.dtype
) -> Stage:
    """The stage that `args` ask for, its candidates drawn by `generator` where it needs some.

    `frozen` is the type that weights may keep which adapters freeze.
    """
    from mathref import pretraining, stages
    from mathref.ablations import Ablation
    from mathref.problems import select_families

    if args.stage == "pretrain":
        base = str(resolve_model(args.model)) if is_id(args.model) else args.model
        more = {"judged_share": args.judged_share, "more_layers": args.more_layers}
        return pretraining.pretrain(base, config, device=device, **more)
    families = select_families(args.families, args.exclude_families)
    fields = stages.EvaluatorConfig.__dataclass_fields__  # refused, if so, before candidates are drawn
    options = stages.EvaluatorConfig(**{k: v for k, v in vars(args).items() if k in fields})
    samples = candidates(args, generator, device) if args.stage in ON_CANDIDATES else None
    model = stages.start_from(resolve_model(args.model), device, config.parallel, frozen)
    if args.stage == "scr":
        return stages.scr(
            model,
            samples,
            config,
            options,
            device=device,
            n_validation=args.n_validation,
            apart_from=split(args).apart if args.samples else (),
            skip_bad_lines=args.skip_bad_lines,
        )
    data: dict[str, Any] = {name: getattr(args, name) for name in OF_SSFT}
    data |= {"device": device, "families": families}
    data["ablation"] = Ablation(args.merge_steps, args.drop_steps, args.corrupt_steps, seed=args.seed)
    if args.stage == "ssft":
        return stages.ssft(model, args.data, config, **data)
    mixed = stages.joint if args.stage == "joint" else stages.contrastive
    return mixed(model, args.data, samples, config, options, **data)


def split(args: argparse.Namespace) -> TrainingData:
    """Training and validation problems of --data, as ssft splits them."""
    from mathref.data import training_data
    from mathref.problems import select_families

    return training_data(
        args.data,
        n_validation=args.n_validation,
        families=select_families(args.families, args.exclude_families),
        skip_bad_lines=args.skip_bad_lines,
    )


def candidates(args: argparse.Namespace, generator: Path, device: torch.device) -> Path:
    """The file of --samples, or one that `generator` fills now or has filled before."""
    if args.samples:
        return args.samples
    from mathref.candidates import draw_candidates, problems_to_draw, rows_side_by_side
    from mathref.decoding import SampleConfig

    chosen, notes = problems_to_draw(generator, split(args), args.n_problems, args.seed)
    print(*notes, sep="\n", end="\n" * bool(notes))
    dtype = pick_dtype(args.dtype, device)
    rows = args.batch_rows
    if rows is None:
        rows = rows_side_by_side(generator, chosen, args.max_new_tokens, dtype)
    flags = {name: getattr(args, name) for name in ("temperature", "top_p", "max_new_tokens", "seed")}
    config = SampleConfig(n=args.n_candidates, batch_rows=rows, **flags)
    path = args.out.with_name(f"{args.out.name}-candidates.jsonl")
    started = time.perf_counter()
    tokens = draw_candidates(generator, chosen, path, config, device=device, dtype=dtype)
    spent = f"{tokens:,} tokens in {time.perf_counter() - started:.0f} s" if tokens else "already there"
    print(f"{path}: {config.n} candidates for each of {len(chosen)} training problems ({spent})")
    return path


def settings_of(args: argparse.Namespace, *left_out: str) -> dict[str, Any]:
    """The arguments as run.json keeps them: paths as text, without those that decide no result."""
    off = () if args.lora_rank else OF_LORA
    kept = {k: v for k, v in vars(args).items() if k not in (*left_out, *off)}
    return {k: str(v) if isinstance(v, Path) else v for k, v in kept.items()}


def loop_config(args: argparse.Namespace) -> TrainConfig:
    """How one stage is trained; ValueError for what cannot be."""
    from mathref.trainer import TrainConfig

    device = pick_device(args.device)
    if args.tokens_per_batch is None:
        args.tokens_per_batch = CPU_TOKENS if device.type == "cpu" else DEVICE_TOKENS
    flags = {k: v for k, v in vars(args).items() if k in TrainConfig.__dataclass_fields__}
    flags["dtype"], flags["parallel"] = pick_dtype(args.dtype, device), args.parallel or "ddp"
    return TrainConfig(**flags)


def run_stage(args: argparse.Namespace, generator: Path, adapters: LoRAConfig | None) -> Progress:
    """Train one stage in its run folder."""
    from mathref import lora, trainer
    from mathref.checkpoint import check_resumable
    from mathref.files import digest_text
    from mathref.processes import on_first
    from mathref.weights import model_digest, save_model

    on_first(refuse_existing, args.out, resume=args.resume)
    device, config = pick_device(args.device), loop_config(args)
    if args.resume and (told := on_first(check_resumable, args.out, config.steps)):
        print(told)
    stage = build(args, generator, config, device, lora.frozen_type(adapters, device, config.dtype))
    settings = settings_of(args, "out", "resume", "sequence", *OF_MACHINE)
    settings |= {"device": str(device), "dtype": str(config.dtype), "data_digest": stage.digest}
    if adapters:
        # The checkpoint lacks the frozen weights: a resumed run has to find the very same ones.
        base = resolve_model(args.model)
        settings["model_digest"] = model_digest(base)
        # Another base, another draw: the stages of a sequence do not all start from the same A.
        seed = int(digest_text(f"{args.seed} {settings['model_digest']}"), 16)
        stage.notes.append(lora.add_adapters(stage.model, adapters, seed))

    def save_best(model: Transformer) -> None:
        save_model(model, args.out)
        if adapters:
            lora.save_adapter(model, args.out / lora.FOLDER, adapters, base)

    print(*stage.notes, sep="\n")
    with open_run(args.out, settings, resume=args.resume) as fingerprint:
        on_first(stage.tokenizer.save, args.out)
        progress = trainer.train(
            stage.model,
            stage.items,
            stage.objective,
            config,
            args.out,
            validate=stage.validate,
            save_best=save_best,
            resume=args.resume,
            fingerprint=fingerprint,
        )
        if stage.finish:
            print(on_first(stage.finish, args.out))
    return progress


def run_in_turn(planned: list[argparse.Namespace], adapters: LoRAConfig | None) -> None:
    """Train the stages, each from the model of the one before."""
    model = generator = Path(planned[0].model)
    for place, own in enumerate(planned):
        if len(planned) > 1:
            print(f"stage {place + 1} of {len(planned)}: {own.stage}")
        own.model = str(model)
        source = resolve_model(str(generator)) if own.stage in ON_CANDIDATES else generator
        progress = run_stage(own, source, adapters)
        report(own, progress)
        model = own.out
        if own.stage != "scr":
            generator = own.out


def check_memory(args: argparse.Namespace, adapters: LoRAConfig | None) -> None:
    """Refuse a model that cannot be trained here before an hour is spent on its candidates."""
    from mathref import lora, memory
    from mathref.weights import load_config, type_to_load, without_weights

    if args.stage == "pretrain":  # mostly of a new model, and that is a small one
        return
    base, device = resolve_model(args.model), pick_device(args.device)
    model = without_weights(load_config(base))
    n = lora.n_weights(model)[0]
    if args.lr is None and n > LARGE:
        usual = f"for {n:,} weights 1e-5 is usual, 2e-4 with --lora-rank"
        print(f"note: the default --lr is for the shipped models; {usual}", file=sys.stderr)
    if adapters:
        # What a stage of a sequence merges is in float32, and the next one starts from it.
        if args.stage != "mtsf":
            frozen = lora.frozen_type(adapters, device, pick_dtype(args.dtype, device))
            model.to(type_to_load(base, frozen))
        lora.add_adapters(model, adapters, args.seed)
    slices = processes.world_size() if args.parallel == "fsdp" else 1
    if tight := memory.check(memory.of_training(model, slices=slices), device):
        print(tight, file=sys.stderr)


def report(args: argparse.Namespace, progress: Progress) -> None:
    """The best checkpoint of a stage, with what was measured of it."""
    accuracy, loss = progress.best or (0.0, 0.0)
    solved = args.stage not in ("pretrain", "scr") and args.n_greedy  # else no problem was solved greedily
    shown = f"validation loss {-loss:.4f}" + (f", pass@1 {accuracy:.1%}" if solved else "")
    print(f"best checkpoint: step {progress.best_step} of {progress.step}, {shown}")


def following(stage: str, out: Path) -> str:
    """The command that usually comes next."""
    if stage == "pretrain":
        return spelled("train.py", "--stage", "ssft", "--model", out)
    if stage == "scr":
        return spelled("rerank.py", "--samples", SAMPLES, "--evaluator", out)
    return spelled("sample.py", "--model", out)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from mathref import memory

    started = time.perf_counter()
    processes.start(args.device)
    if args.parallel and not processes.are_launched():
        start = f"start N of them with {on_several_processes('train.py')} ..."
        raise ValueError(f"--parallel {args.parallel}: this is one process alone; {start}")
    if args.model == GENERATOR:
        make = spelled("train.py", "--stage", "ssft")
        processes.on_first(require_default, GENERATOR, make, "name a generator's folder with --model")
    args.model = processes.on_first(pinned, args.model)
    planned, adapters = plan(args), lora_config(args)
    for own in planned:  # a later stage's mistake is told before the first one is trained
        loop_config(own)
    check_memory(args, adapters)
    if args.stage == "mtsf":
        settings = settings_of(args, "out", "resume", *OF_MACHINE)
        with open_run(args.out, settings, resume=args.resume):
            run_in_turn(planned, adapters)
            processes.on_first(publish, planned[-1].out, args.out)
    else:
        run_in_turn(planned, adapters)
    spent = f"{time.perf_counter() - started:.0f} s{memory.peak(pick_device(args.device))}"
    print(f"wrote {args.out} (model, tokenizer, run.json, metrics.jsonl) in {spent}")
    print(f"next: {following(planned[-1].stage, args.out)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
