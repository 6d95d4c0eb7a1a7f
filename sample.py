"""Sample N solutions of every problem and grade them: the candidates behind Pass@1, Maj1@N and Pass@N.

Paper: section 5 (N = 64 nucleus samples, or the greedy solution) and the few-shot rows of Tables 2 and 5.
Choices: few-shot examples are drawn with --seed from the training side (--shots), never from the problems
that are evaluated; prompt and stop strings are the same with and without examples [P]. A killed run
continues with the same command, problem by problem, and its file is then byte for byte that of an
undisturbed run: problems are batched in fixed groups, and a sample depends on (seed, problem id, sample
index) alone.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathref import __version__
from mathref.files import digest_text
from mathref.hub import name_of
from mathref.runs import (
    VERSION,
    HelpFormatter,
    comma_list,
    pick_device,
    pick_dtype,
    resolve_model,
    run_command,
    spelled,
)

if TYPE_CHECKING:
    from mathref.data import Problem

DEFAULT_MODEL = "runs/ssft"
DEFAULTS = {"n": 64, "temperature": 0.9, "top_p": 0.95, "top_k": 0, "max_new_tokens": 256, "seed": 0}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Sample solutions, grade them, and write one line per problem (JSON Lines).",
        formatter_class=HelpFormatter,
    )
    add = parser.add_argument_group("what to solve, and with which model").add_argument
    add(
        "--model",
        default=DEFAULT_MODEL,
        metavar="DIR",
        help="tiny, small (shipped), a model folder, or owner/name",
    )
    add("--data", default="builtin", metavar="FILE", help="builtin, or a file or folder of problems")
    add("--split", default="test", choices=["test", "validation", "train"], help="of the built-in problems")
    add(
        "--families", type=comma_list, metavar="A,B", help="evaluate these families of built-in problems only"
    )
    add("--exclude-families", type=comma_list, metavar="A,B", help="evaluate no built-in problems of these")
    add("--limit", type=int, metavar="N", default=0, help="only the first N problems, 0: all")
    add = parser.add_argument_group("decoding").add_argument
    add("--n", type=int, default=DEFAULTS["n"], help="samples per problem")
    add("--temperature", type=float, default=DEFAULTS["temperature"], help="0 is greedy")
    add("--top-p", type=float, default=DEFAULTS["top_p"], help="mass of the nucleus, 1 turns it off")
    add("--top-k", type=int, default=DEFAULTS["top_k"], help="most probable tokens kept, 0 turns it off")
    add("--greedy", action="store_true", help="one solution, temperature 0: the paper's Pass@1")
    add("--max-new-tokens", type=int, default=DEFAULTS["max_new_tokens"], help="longest solution, in tokens")
    add("--seed", type=int, default=DEFAULTS["seed"], help="of the samples and of the few-shot examples")
    add = parser.add_argument_group("few-shot prompting").add_argument
    add("--few-shot", type=int, default=0, metavar="K", help="solved examples in the prompt")
    add("--style", default="detailed", choices=["detailed", "brief"], help="of built-in examples")
    add(
        "--shots",
        default="builtin",
        metavar="FILE",
        help="builtin (train split), or a file of solved problems",
    )
    add = parser.add_argument_group("running").add_argument
    add("--out", default="auto", metavar="FILE", help="samples file; auto: samples/MODEL-SPLIT-....jsonl")
    add("--overwrite", action="store_true", help="start anew where --out holds another run")
    add("--batch-rows", type=int, default=256, help="samples decoded side by side")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"], help="of the weights")
    parser.add_argument("--version", action="version", version=VERSION)
    args = parser.parse_args(argv)
    if args.greedy:
        if args.n not in (1, DEFAULTS["n"]):
            raise ValueError(
                f"--greedy writes one solution a problem, not --n {args.n}; leave out one of them"
            )
        args.n, args.temperature, args.top_p, args.top_k = 1, 0.0, 1.0, 0
    for name in ("few_shot", "limit"):
        if (value := getattr(args, name)) < 0:
            raise ValueError(f"--{name.replace('_', '-')} is {value}, expected at least 0")
    return args


def default_out(args: argparse.Namespace, model_name: str) -> Path:
    """A file name that tells runs of different options apart; options at their defaults are not in it."""
    parts = [model_name, args.split if args.data == "builtin" else Path(args.data).name.split(".")[0]]
    if args.few_shot:
        shots = args.style if args.shots == "builtin" else Path(args.shots).name.split(".")[0]
        parts.append(f"{args.few_shot}shot-{shots}")
    greedy = args.temperature == 0 and args.n == 1
    parts.append("greedy" if greedy else f"n{args.n}-t{args.temperature:g}")
    for name, short in (("top_p", "p"), ("top_k", "k"), ("max_new_tokens", "max"), ("seed", "seed")):
        if getattr(args, name) != DEFAULTS[name] and not (greedy and name.startswith("top")):
            parts.append(f"{short}{getattr(args, name):g}")
    for names, word in ((args.families, "only"), (args.exclude_families, "without")):
        parts.extend([word, *(names or ())] if names else [])
    if args.limit:
        parts.append(f"first{args.limit}")
    return Path("samples") / ("-".join(parts) + ".jsonl")


def digest(records: list[Any]) -> str:
    """Short sha256 of JSON data, so that a samples file says which problems it is about."""
    return digest_text(json.dumps(records, ensure_ascii=False))


def draw_shots(args: argparse.Namespace, problems: list[Problem]) -> list[Problem]:
    """K solved examples that are none of the evaluated problems, in seeded order."""
    if not args.few_shot:
        return []
    from mathref.data import load_problems

    evaluated = {p.problem for p in problems}
    known = load_problems(args.shots, split="train", style=args.style).problems
    pool = [p for p in known if p.solution and p.problem not in evaluated]
    if len(pool) < args.few_shot:
        raise ValueError(
            f"--few-shot {args.few_shot}: only {len(pool)} solved problems of {args.shots} are not evaluated "
            "themselves; name another file with --shots"
        )
    return random.Random(args.seed).sample(pool, args.few_shot)


def describe(
    args: argparse.Namespace, folder: Path, problems: list[Problem], shots: list[Problem]
) -> dict[str, Any]:
    """Model, data and examples for the meta line: two runs with equal meta lines write equal files."""
    from mathref.weights import model_digest

    builtin = args.data == "builtin"
    return {
        "mathref": __version__,
        "model": name_of(folder),
        "model_digest": model_digest(folder),
        "data": "builtin" if builtin else Path(args.data).name,
        "split": args.split if builtin else None,
        "data_digest": digest([[p.id, p.problem, p.answer] for p in problems]),
        "few_shot": args.few_shot,
        "shots": digest([[p.problem, p.solution] for p in shots]) if shots else None,
        "style": args.style if shots and args.shots == "builtin" else None,
    }


def report(path: Path, seconds: float, tokens: int) -> None:
    """Say what was written, the quick figures, and what comes next."""
    from mathref.data import read_samples

    samples = [s for problem in read_samples(path)[1] for s in problem.samples]
    right, cut, mute = (
        100 * sum(flags) / len(samples)
        for flags in (
            [s.correct for s in samples],
            [s.finish_reason == "length" for s in samples],
            [s.answer is None for s in samples],
        )
    )
    speed = (
        f"{tokens:,} tokens in {seconds:.0f} s, {tokens / seconds:,.0f} a second"
        if tokens
        else "nothing to do"
    )
    print(f"{path}: {len(samples):,} samples ({speed})")
    print(f"correct {right:.1f}%, cut off by the length limit {cut:.1f}%, without an answer {mute:.1f}%")
    print(f"next: {spelled('evaluate.py')} {path}")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parse_args(argv)
    if args.model == DEFAULT_MODEL and not Path(DEFAULT_MODEL).exists():
        raise FileNotFoundError(
            f"{DEFAULT_MODEL} is not there yet: make it with `{spelled('train.py')} --stage ssft`, or sample "
            f"a shipped base model with `{spelled('sample.py')} --model tiny --few-shot 4`"
        )
    from mathref import memory
    from mathref.candidates import write_samples
    from mathref.choosing import SampleConfig
    from mathref.data import SamplesFile, load_problems
    from mathref.problems import select_families
    from mathref.prompts import STOP, few_shot_prompt
    from mathref.sampler import encode_prompts, problems_per_group, sample
    from mathref.tokenizer import load_tokenizer
    from mathref.weights import load_config, load_model

    decoding = {name: getattr(args, name) for name in (*DEFAULTS, "batch_rows")}
    config = SampleConfig(**decoding, stop=STOP)  # refuses an option out of range before anything is loaded
    folder = resolve_model(args.model)
    families = select_families(args.families, args.exclude_families)
    loaded = load_problems(args.data, split=args.split, families=families)
    if loaded.format == "samples":
        raise ValueError(
            f"--data {args.data}: this is a samples file, expected problems to sample solutions of"
        )
    for note in loaded.notes:
        print(note, file=sys.stderr)
    problems = loaded.problems[: args.limit or None]
    shots = draw_shots(args, problems)
    prompts = [few_shot_prompt(shots, p.problem) for p in problems]
    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, device)
    tokenizer, model_config = load_tokenizer(folder), load_config(folder)
    # Every prompt is checked before the first sample: an hour's run must not end at problem 400.
    encoded = encode_prompts(tokenizer, prompts, [p.id for p in problems], model_config.max_seq_len)
    if tight := memory.check(memory.of_sampling(model_config, config, encoded, device, dtype), device):
        print(tight, file=sys.stderr)
    model = load_model(folder, device=device, dtype=dtype)
    meta = describe(args, folder, problems, shots) | decoding
    if families is not None:  # only then, so that files made before the flag keep their meta line
        meta["families"] = list(families)
    meta |= {"stop": list(STOP), "device": device.type, "dtype": str(dtype).removeprefix("torch.")}
    out = default_out(args, name_of(folder)) if args.out == "auto" else Path(args.out)
    start = time.perf_counter()
    sample_batch = functools.partial(sample, model, tokenizer, stop=STOP, **decoding)
    with SamplesFile(out, meta, overwrite=args.overwrite) as file:
        source = f"built-in {args.split}" if args.data == "builtin" else f"{args.data}, {loaded.format}"
        print(f"{folder} ({meta['model_digest']}) on {len(problems)} problems ({source})", file=sys.stderr)
        tokens = write_samples(file, problems, prompts, sample_batch, problems_per_group(config))
    report(out, time.perf_counter() - start, tokens)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
