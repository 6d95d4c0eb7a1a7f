"""Score sampled solutions with an evaluator and select one of each problem's N: RR, W.RR, Maj1.TopN.

Paper: sections 6.1 and 7; Tables 3, 6 (any evaluator over any generator's samples) and 7, Figure 1.
Choices [P]: only the candidates that the chosen rules read are scored, and none twice: a later run with other
rules or another K adds what is missing, a killed run continues with the same command. Where the evaluator's
folder holds calibration.json (train.py fits it on validation problems), its temperature divides the log odds.
A candidate that does not fit the evaluator's context gets the lowest score, and a line says how many did.
`--evaluator likelihood` is the control: the generator's own probability of each solution, which its samples
file holds already. An evaluator that ranks no better has learnt nothing that the generator did not know.
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathref import processes
from mathref.files import keep_apart
from mathref.hub import name_of
from mathref.rerank import DEFAULT_K, LIKELIHOOD, STRATEGIES
from mathref.runs import (
    EVALUATOR,
    SAMPLES,
    VERSION,
    WEIGHT_DTYPES,
    HelpFormatter,
    check_least,
    last_stage,
    pick_device,
    pick_dtype,
    require_default,
    resolve_model,
    run_command,
    spelled,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mathref.formats import SampledProblem
    from mathref.scoring import Evaluator


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Score the solutions of a samples file with an evaluator; report every selection rule.",
        formatter_class=HelpFormatter,
    )
    add = parser.add_argument_group("what to score, and with which evaluator").add_argument
    add(
        "--evaluator",
        default=EVALUATOR,
        metavar="DIR",
        help="a run folder of train.py --stage scr, owner/name of a model on the hub, or likelihood",
    )
    add("--samples", default=SAMPLES, metavar="FILE", help="samples of any model or engine")
    add("--skip-bad-lines", action="store_true", help="leave bad lines of --samples out, and list them")
    add("--limit", type=int, metavar="N", default=0, help="only the first N problems, 0: all")
    add = parser.add_argument_group("selection").add_argument
    rules = ["all", *STRATEGIES]
    add("--strategy", nargs="+", default="all", choices=rules, metavar="RULE", help="of " + ", ".join(rules))
    add(
        "--k",
        type=int,
        default=DEFAULT_K,
        metavar="K",
        help="K clusters of rr.majk and w.rr.majk, n of maj1.topn",
    )
    add = parser.add_argument_group("running").add_argument
    add("--out", default="auto", metavar="FILE", help="scored file; auto: samples/SAMPLES-by-EVALUATOR.jsonl")
    add("--overwrite", action="store_true", help="start anew where --out holds other scores")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--dtype", default="auto", choices=WEIGHT_DTYPES, help="of the weights; float64: exact")
    add("--tokens-per-batch", type=int, default=16384, metavar="N", help="tokens scored side by side")
    parser.add_argument("--version", action="version", version=VERSION)
    args = parser.parse_args(argv)
    if "all" in args.strategy:
        args.strategy = list(STRATEGIES)
    check_least(args, k=1, limit=0, tokens_per_batch=1)
    return args


def check_inputs(args: argparse.Namespace) -> Path | None:
    """The evaluator's folder, None for the likelihood; a default that is not there yet gets a line that says
    how to make it.
    """
    if args.evaluator == EVALUATOR:
        make = spelled("train.py", "--stage", "scr")
        require_default(EVALUATOR, make, "name the folder of an evaluator with --evaluator")
    if args.samples == SAMPLES:
        require_default(SAMPLES, spelled("sample.py"), "name a samples file with --samples")
    if args.evaluator == LIKELIHOOD:
        return None
    try:
        folder = resolve_model(args.evaluator)
    except FileNotFoundError as error:
        raise FileNotFoundError(str(error).replace("--model", "--evaluator", 1)) from None
    if (stage := last_stage(folder)) in ("ssft", "contrastive"):
        print(
            f"note: {folder} was trained last as a generator (--stage {stage}); an evaluator comes out of "
            f"`{spelled('train.py', '--stage', 'scr', '--model', folder)}`",
            file=sys.stderr,
        )
    return folder


def default_out(args: argparse.Namespace) -> Path:
    """A file name made of both names; scores of the first N problems are told apart."""
    stem = Path(args.samples).name.split(".jsonl")[0]
    first = f"-first{args.limit}" if args.limit else ""
    return Path("samples") / f"{stem}-by-{Path(args.evaluator).name}{first}.jsonl"


def read_temperature(folder: Path) -> float:
    """The temperature in calibration.json of an evaluator's folder, 1 without that file."""
    from mathref.files import read_json
    from mathref.stages import CALIBRATION

    path = folder / CALIBRATION
    if not path.exists():
        return 1.0
    content = read_json(path)
    value = content.get("temperature") if isinstance(content, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{path}: 'temperature' is {value!r}, expected a number above 0")
    return float(value)


def describe(folder: Path, args: argparse.Namespace, temperature: float) -> dict[str, Any]:
    """What decides an evaluator's scores, for the meta line of the scored file."""
    from mathref.weights import model_digest

    return {
        "evaluator": name_of(folder),
        "evaluator_digest": model_digest(folder),
        "evaluator_dtype": str(pick_dtype(args.dtype, pick_device(args.device))).removeprefix("torch."),
        "evaluator_temperature": temperature,
    }


def tell_too_long(folder: Path, todo: Sequence[tuple[SampledProblem, list[int]]]) -> None:
    """Say how many candidates the evaluator is not going to read, before its weights are loaded."""
    from mathref.evaluator import templates
    from mathref.tokenizer import check_fits, load_tokenizer
    from mathref.weights import load_config

    tokenizer, config = load_tokenizer(folder), load_config(folder)
    check_fits(tokenizer, config)
    n_long = 0
    for problem, indices in todo:
        texts = [problem.samples[i].text for i in indices]
        too_long = templates(tokenizer, problem.problem, texts, config.max_seq_len).too_long
        n_long += sum(text in too_long for text in texts)
    if n_long:
        n_all = sum(len(indices) for _, indices in todo)
        print(
            f"{n_long:,} of {n_all:,} candidates and their template do not fit the evaluator's context of "
            f"{config.max_seq_len:,} tokens: they are not read and get the lowest score",
            file=sys.stderr,
        )


def load_evaluator(folder: Path, args: argparse.Namespace, temperature: float) -> Evaluator:
    """The evaluator as a function from a problem and its solutions to their scores."""
    from mathref import evaluator, memory
    from mathref.tokenizer import load_tokenizer
    from mathref.weights import load_config, load_model

    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, device)
    need = memory.of_scoring(load_config(folder), args.tokens_per_batch, dtype)
    if tight := memory.check(need, device):
        print(tight, file=sys.stderr)
    model = load_model(folder, device=device, dtype=dtype)
    tokenizer = load_tokenizer(folder)
    options = {"tokens_per_batch": args.tokens_per_batch, "temperature": temperature}
    return functools.partial(evaluator.score, model, tokenizer, **options)


def summarize(out: Path, args: argparse.Namespace) -> None:
    """Say what was scored and at what cost, every rule next to Maj1 and Pass@N, and what comes next."""
    from mathref import report, tables
    from mathref.samples import read_samples

    scored = report.score(str(out), *read_samples(out), k=args.k)
    spent = tables.cost(scored)
    share = 100 * spent["scored"] / spent["candidates"]
    print(f"{out}: {spent['scored']:,} of {spent['candidates']:,} candidates scored ({share:.1f}%)")
    print(f"{spent['calls']:,} evaluator calls, {spent['seconds'] or 0:.1f} s in the evaluator")
    found = [s for s in tables.selections(scored) if s.strategy in ("maj1", *args.strategy)]
    print(f"\n{tables.selection_table(found)}\n")
    if oracle := scored.values.get(f"Pass@{scored.n}"):
        print(f"Pass@{scored.n}: {report.percent(oracle)}; percent of problems, 95% interval in brackets")
    image = ("--rerank-plot", "figure1.png") if scored.is_scored else ("--plot", "curves.png")
    print(f"next: {spelled('evaluate.py', out, '--k-curve', *image)}")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parse_args(argv)
    processes.start(args.device)
    folder = processes.on_first(check_inputs, args)
    out = default_out(args) if args.out == "auto" else Path(args.out)
    keep_apart({"--samples": [args.samples]}, {"--out": out})
    from tqdm import tqdm

    from mathref.samples import read_samples_noted
    from mathref.scoring import (
        lacking,
        likelihood,
        open_scored,
        record_cost,
        samples_digest,
        score_file,
        wanted_indices,
    )

    meta, problems, notes = read_samples_noted(args.samples, skip_bad_lines=args.skip_bad_lines)
    for note in notes:
        print(note, file=sys.stderr)
    problems = problems[: args.limit or None]
    if not problems:
        raise ValueError(f"{args.samples}: holds no problems yet; sample.py writes them")
    temperature = read_temperature(folder) if folder else 1.0
    source = describe(folder, args, temperature) if folder else {"evaluator": LIKELIHOOD}
    meta = {k: v for k, v in meta.items() if not k.startswith("evaluator")}  # of scores that were there
    meta |= source | {"samples_digest": samples_digest(problems)}
    wanted = wanted_indices(problems, args.strategy, args.k)
    todo = lacking(problems, open_scored(out, meta, problems, overwrite=args.overwrite), wanted)
    at = f", scores at temperature {temperature:.3g}" if temperature != 1 else ""
    digest = f" ({meta['evaluator_digest']})" if folder else ""
    print(f"{args.evaluator}{digest} on {len(problems)} problems{at}", file=sys.stderr)
    if todo:
        if folder:
            tell_too_long(folder, todo)
        evaluator = load_evaluator(folder, args, temperature) if folder else likelihood(problems)
        done = len(problems) - len(todo)
        bar = tqdm(total=len(problems), initial=done, unit="problem", desc="scoring", disable=None)
        with bar:
            for _ in score_file(out, meta, problems, wanted, evaluator):
                bar.update()
    else:
        processes.on_first(record_cost, out)
    summarize(out, args)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
