"""Sample N solutions of every problem and grade them: the candidates behind Pass@1, Maj1@N and Pass@N.

Paper: section 5 (N = 64 nucleus samples, or the greedy solution) and the few-shot rows of Tables 2 and 5.
Choices: few-shot examples are drawn with --seed from the training side (--shots), never from the problems
that are evaluated; prompt and stop strings are the same with and without examples [P]. A killed run
continues with the same command, problem by problem, and its file is then byte for byte that of an
undisturbed run: problems are batched in fixed groups, and a sample depends on (seed, problem id, sample
index) alone. Under torchrun each process takes some of the groups, and the file is the same
(docs/DISTRIBUTED.md). With --server another engine writes the solutions (docs/ENGINES.md); all else stays the
same.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mathref import __version__, processes
from mathref.files import digest_text, keep_apart, writable
from mathref.hub import name_of
from mathref.runs import (
    GENERATOR,
    VERSION,
    WEIGHT_DTYPES,
    HelpFormatter,
    check_least,
    comma_list,
    flag_of,
    last_stage,
    pick_device,
    pick_dtype,
    refuse_ignored,
    require_default,
    resolve_model,
    run_command,
    spelled,
)

if TYPE_CHECKING:
    from mathref.candidates import Drawn
    from mathref.data import Problem
    from mathref.decoding import SampleConfig

DEFAULTS = {"n": 64, "temperature": 0.9, "top_p": 0.95, "top_k": 0, "max_new_tokens": 256, "seed": 0}
GREEDY = {"n": 1, "temperature": 0.0, "top_p": 1.0, "top_k": 0}
LOCAL_FLAGS = ("batch_rows", "device", "dtype")
SERVER_FLAGS = ("api_key_env", "samples_per_request", "concurrency", "timeout", "retries", "no_logprobs")


class Engine(NamedTuple):
    """What writes the solutions: its entries in the meta line, and how it draws the problems not done yet."""

    title: str
    model: dict[str, Any]
    settings: dict[str, Any]
    draw: Callable[[Collection[str]], Iterable[Drawn]]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Sample solutions, grade them, and write one line per problem (JSON Lines).",
        formatter_class=HelpFormatter,
    )
    add = parser.add_argument_group("what to solve, and with which model").add_argument
    add(
        "--model",
        metavar="DIR",
        help="tiny, small (shipped), a model folder, or owner/name; with --server: its name there "
        f"(default: {GENERATOR}; with --server: the only one there)",
    )
    add("--data", default="builtin", metavar="FILE", help="builtin, or a file or folder of problems")
    add("--split", default="test", choices=["test", "validation", "train"], help="of the built-in problems")
    add(
        "--families", type=comma_list, metavar="A,B", help="evaluate these families of built-in problems only"
    )
    add("--exclude-families", type=comma_list, metavar="A,B", help="evaluate no built-in problems of these")
    add(
        "--skip-bad-lines",
        action="store_true",
        help="leave bad lines of --data and --shots out, and list them",
    )
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
    add("--dtype", default="auto", choices=WEIGHT_DTYPES, help="of the weights; float64: exact")
    add = parser.add_argument_group("another engine, through the OpenAI completions protocol").add_argument
    add(
        "--server",
        metavar="URL",
        help="ask this server, such as http://localhost:8000, instead of sampling here",
    )
    add("--api-key-env", default="OPENAI_API_KEY", metavar="NAME", help="environment variable with its key")
    add("--samples-per-request", type=int, default=1, metavar="N", help="more: one prompt read for N samples")
    add("--concurrency", type=int, default=16, metavar="N", help="requests underway at a time")
    add("--timeout", type=float, default=600.0, metavar="SECONDS", help="longest wait for an answer")
    add("--retries", type=int, default=5, metavar="N", help="further tries where a fault may pass")
    add(
        "--no-logprobs",
        action="store_true",
        help="do not ask for log-probabilities, which some servers refuse",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    args = parser.parse_args(argv)
    _check(args, parser)
    if args.greedy:
        args.n, args.temperature, args.top_p, args.top_k = GREEDY.values()
    return args


def _check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Refuse what would be ignored, and values that mean nothing."""
    if args.server == "":
        raise ValueError("--server is empty, expected an address such as http://localhost:8000")
    ignored = {"with --server": LOCAL_FLAGS} if args.server else {"without --server": SERVER_FLAGS}
    ignored |= {} if args.few_shot else {"without --few-shot": ("shots", "style")}
    ignored |= {"with --shots, it is of built-in examples": ("style",)} if args.shots != "builtin" else {}
    ignored |= {"with --data, it is of the built-in problems": ("split",)} if args.data != "builtin" else {}
    refuse_ignored(args, parser, ignored)
    for name, value in GREEDY.items() if args.greedy else ():
        if (given := getattr(args, name)) not in (value, DEFAULTS[name]):
            raise ValueError(
                f"--greedy writes one solution a problem, of the most probable tokens, not {flag_of(name)} "
                f"{given}; leave out one of them"
            )
    check_least(args, few_shot=0, limit=0)


def default_out(args: argparse.Namespace, model_name: str) -> Path:
    """A file name that tells runs of different options apart; options at their defaults are not in it."""
    served = (
        re.sub(r"[^\w.+-]", "-", Path(model_name).name) + "-served"
    )  # beside the local file of the same name
    parts = [
        served if args.server else model_name,
        args.split if args.data == "builtin" else Path(args.data).name.split(".")[0],
    ]
    if args.few_shot:
        shots = args.style if args.shots == "builtin" else Path(args.shots).name.split(".")[0]
        parts.append(f"{args.few_shot}shot-{shots}")
    greedy = args.temperature == 0 and args.n == 1
    parts.append("greedy" if greedy else f"n{args.n}-t{args.temperature:g}")
    for name, short in (("top_p", "p"), ("top_k", "k"), ("max_new_tokens", "max"), ("seed", "seed")):
        if getattr(args, name) != DEFAULTS[name] and not (greedy and name.startswith("top")):
            value = getattr(args, name)
            parts.append(f"{short}{value:g}" if isinstance(value, float) else f"{short}{value}")
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
    from mathref.formats import normalized

    evaluated = {normalized(p.problem) for p in problems}
    known = load_problems(args.shots, split="train", style=args.style, skip_bad_lines=args.skip_bad_lines)
    for note in known.notes:
        print(f"--shots: {note}", file=sys.stderr)
    pool = [p for p in known.problems if p.solution and normalized(p.problem) not in evaluated]
    if len(pool) < args.few_shot:
        raise ValueError(
            f"--few-shot {args.few_shot}: only {len(pool)} solved problems of {args.shots} are not evaluated "
            "themselves; name another file with --shots"
        )
    return random.Random(args.seed).sample(pool, args.few_shot)


def describe(args: argparse.Namespace, problems: list[Problem], shots: list[Problem]) -> dict[str, Any]:
    """Data and examples for the meta line: two runs with equal meta lines write equal files."""
    builtin = args.data == "builtin"
    return {
        "data": "builtin" if builtin else Path(args.data).name,
        "split": args.split if builtin else None,
        "data_digest": digest([[p.id, p.problem, p.answer] for p in problems]),
        "few_shot": args.few_shot,
        "shots": digest([[p.problem, p.solution] for p in shots]) if shots else None,
        "style": args.style if shots and args.shots == "builtin" else None,
    }


def local_engine(
    args: argparse.Namespace, config: SampleConfig, problems: list[Problem], prompts: list[str]
) -> Engine:
    """The sampler here, with a model folder."""
    from mathref import memory
    from mathref.candidates import in_groups
    from mathref.sampler import encode_prompts, problems_per_group, sample
    from mathref.tokenizer import load_tokenizer
    from mathref.weights import load_config, load_model, model_digest

    processes.start(args.device)
    device = pick_device(args.device)
    folder = processes.on_first(resolve_model, args.model)
    if last_stage(folder) == "scr":
        print(
            f"note: {folder} was trained last as an evaluator (--stage scr), which judges solutions and has "
            "unlearnt to write them; rerank.py scores with it",
            file=sys.stderr,
        )
    dtype = pick_dtype(args.dtype, device)
    tokenizer, model_config = load_tokenizer(folder), load_config(folder)
    # Every prompt is checked before the first sample: an hour's run must not end at problem 400.
    try:
        encoded = encode_prompts(tokenizer, prompts, [p.id for p in problems], model_config.max_seq_len)
    except ValueError as error:
        fewer = f"; or take fewer examples than --few-shot {args.few_shot}" if args.few_shot else ""
        raise ValueError(f"{error}{fewer}") from None
    if tight := memory.check(memory.of_sampling(model_config, config, encoded, device, dtype), device):
        print(tight, file=sys.stderr)
    model = load_model(folder, device=device, dtype=dtype)
    sample_batch = functools.partial(sample, model, tokenizer, **vars(config))
    made_of = model_digest(folder)
    return Engine(
        f"{folder} ({made_of})",
        {"model": name_of(folder), "model_digest": made_of},
        {"device": device.type, "dtype": str(dtype).removeprefix("torch.")},
        lambda done: in_groups(done, problems, prompts, sample_batch, problems_per_group(config)),
    )


def served_engine(
    args: argparse.Namespace, config: SampleConfig, problems: list[Problem], prompts: list[str]
) -> Engine:
    """A server that speaks the completions protocol."""
    from tqdm import tqdm

    from mathref.server import Client, base_url

    if processes.are_launched():
        raise ValueError(
            "--server under torchrun: one process is enough, it has --concurrency requests under way"
        )
    key = os.environ.get(args.api_key_env, "").strip()
    if not key and args.api_key_env not in ("", "OPENAI_API_KEY"):
        raise ValueError(
            f"--api-key-env {args.api_key_env}: there is no such environment variable, or no key in it"
        )
    client = Client(
        base_url(args.server),
        key or None,
        samples_per_request=args.samples_per_request,
        concurrency=args.concurrency,
        timeout_s=args.timeout,
        retries=args.retries,
        logprobs=not args.no_logprobs,
        tell=functools.partial(tqdm.write, file=sys.stderr),
    )
    model = args.model or client.only_model()

    def draw(done: Collection[str]) -> Iterable[Drawn]:
        missing = [(p, prompt) for p, prompt in zip(problems, prompts, strict=True) if p.id not in done]
        answers = client.draw(model, config, [(p.id, prompt) for p, prompt in missing])
        for (problem, _), completions in zip(missing, answers, strict=True):
            yield [(problem, completions)]

    settings = {"server": client.url, "samples_per_request": client.samples_per_request}
    return Engine(
        f"{model} at {client.url}",
        {"model": model, "model_digest": None},
        settings | {"logprobs": client.logprobs},
        draw,
    )


def report(path: Path, seconds: float, tokens: int, n_new: int) -> None:
    """Say what was written, the quick figures, and what comes next."""
    from mathref.samples import read_samples

    samples = [s for problem in read_samples(path)[1] for s in problem.samples]
    right, cut, mute = (
        100 * sum(flags) / len(samples)
        for flags in (
            [s.correct for s in samples],
            [s.finish_reason == "length" for s in samples],
            [s.answer is None for s in samples],
        )
    )
    speed = f"{tokens:,} tokens in {seconds:.0f} s, {tokens / seconds:,.0f} a second"
    if not tokens:
        speed = f"{n_new} problems in {seconds:.0f} s" if n_new else "nothing to do"
    print(f"{path}: {len(samples):,} samples ({speed})")
    print(f"correct {right:.1f}%, cut off by the length limit {cut:.1f}%, without an answer {mute:.1f}%")
    print(f"next: {spelled('evaluate.py', path)}")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parse_args(argv)
    if not args.server:
        args.model = args.model or GENERATOR
        if args.model == GENERATOR:
            base = spelled("sample.py", "--model", "tiny", "--few-shot", "4")
            require_default(
                GENERATOR,
                spelled("train.py", "--stage", "ssft"),
                f"sample a shipped base model with `{base}`",
            )
    from mathref.candidates import write_samples
    from mathref.data import load_problems
    from mathref.decoding import SampleConfig
    from mathref.parts import open_shared
    from mathref.problems import select_families
    from mathref.prompts import STOP, few_shot_prompt

    if args.out != "auto":
        keep_apart({"--data": [args.data], "--shots": [args.shots]}, {"--out": args.out})
        writable(args.out)  # before a model is loaded
    decoding = {name: getattr(args, name) for name in (*DEFAULTS, "batch_rows")}
    config = SampleConfig(**decoding, stop=STOP)  # refuses an option out of range before anything is loaded
    families = select_families(args.families, args.exclude_families)
    loaded = load_problems(args.data, split=args.split, families=families, skip_bad_lines=args.skip_bad_lines)
    if loaded.format == "samples":
        raise ValueError(
            f"--data {args.data}: this is a samples file, expected problems to sample solutions of"
        )
    for note in loaded.notes:
        print(note, file=sys.stderr)
    problems = loaded.problems[: args.limit or None]
    if not problems:
        raise ValueError(
            f"--data {args.data}: holds no problem with an answer, so there is nothing to sample"
        )
    shots = draw_shots(args, problems)
    prompts = [few_shot_prompt(shots, p.problem) for p in problems]
    engine = (served_engine if args.server else local_engine)(args, config, problems, prompts)
    meta = {"mathref": __version__} | engine.model | describe(args, problems, shots) | decoding
    if args.server:
        del meta["batch_rows"]
    if families is not None:  # only then, so that files made before the flag keep their meta line
        meta["families"] = list(families)
    meta |= {"stop": list(STOP)} | engine.settings
    out = default_out(args, engine.model["model"]) if args.out == "auto" else Path(args.out)
    start = time.perf_counter()
    with open_shared(out, meta, [p.id for p in problems], overwrite=args.overwrite) as file:
        source = f"built-in {args.split}" if args.data == "builtin" else f"{args.data}, {loaded.format}"
        print(f"{engine.title} on {len(problems)} problems ({source})", file=sys.stderr)
        n_new = sum(p.id not in file.done for p in problems)
        tokens = write_samples(file, problems, engine.draw(file.done))
    report(out, time.perf_counter() - start, tokens, n_new)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
