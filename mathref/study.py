"""The whole study in one command: every table of the paper on the built-in problems, with its controls.

Paper: Tables 2 to 7 and Figure 1, section 11 (what would count as reproducing them), section 12 (what the
paper leaves out: seeds, intervals, the control for extra generator training, MTSF and SCR together).
Choices [P]: tiny stands for PaLM 2-S*, small for PaLM 2-L; brief solutions for MATH's, detailed ones for
PRM800K's. The steps of SSFT leave both sizes in the band where there is something to select, a quarter to
three fifths of the problems solved. Evaluators and MTSF start from the generator trained on detailed
solutions. Everything is computed in float32, on a GPU too. The study is a list of the four commands with
their arguments (`jobs`); each is run as a user would type it, several side by side on one thread each, and
what it took is kept in jobs.jsonl. A job that is done is not run again, and one that was interrupted goes on
where it stopped, so the whole study resumes. findings.py turns the files into tables; what each figure came
from stands in jobs.jsonl.

    python -m mathref.study                            the headline tables, one seed, both sizes
    python -m mathref.study --parts all --seeds 3      all parts, and the spread of training
    python -m mathref.study --jobs 6 --batch-rows 8192 on a GPU, which wants larger batches
    python -m mathref.study --quick                    the same path in minutes, the numbers mean nothing
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mathref.files import append_jsonl, drop_partial_line, locked, open_appending, read_jsonl
from mathref.rerank import LIKELIHOOD
from mathref.runs import LOCK, SCRIPTS, VERSION, HelpFormatter, check_least, run_command, spelled

SIZES = ("tiny", "small")
PARTS = ("headline", "styles", "order", "ablations", "transfer")
PROMPT_PARTS = {"brief": "headline", "detailed": "styles"}  # style of few-shot examples -> part of the study
LOSSES = ("margin", "xent")
# Families that the transfer part trains without: one of each kind of answer and of working.
HELD_OUT_FAMILIES = ("system", "gcd", "percent", "marbles", "radical")
FLOAT32 = ("--dtype", "float32")
LOG = "jobs.jsonl"
NUMBER = int | float
# The fields of a line of it that are read; None where the system does not tell.
RECORD: dict[str, Any] = {"job": str, "command": str, "seconds": NUMBER}
RECORD |= {"cpu_s": NUMBER | None, "peak_mb": NUMBER | None}


@dataclass(frozen=True)
class Scale:
    """How much of everything; the quick one only shows that the path works."""

    n: int = 64  # samples a problem
    limit: int = 0  # test problems, 0 = all 500
    n_validation: int = 200  # validation problems that K and n are chosen on
    n_problems: int = 11000  # training problems that an evaluator's candidates are drawn for: all
    n_candidates: int = 8  # candidates of each; the paper has 64 [S]
    train: tuple[str, ...] = ()  # further flags of every train.py
    ssft_steps: tuple[int, int] = (125, 75)  # of the weak and of the strong model
    later_steps: int = 75  # of the third stage, and of the control
    scr_steps: int = 400
    scr: tuple[str, ...] = ("--lr", "3e-4")  # further flags of every evaluator's training
    mixed_steps: int = 300  # joint and contrastive
    sample: tuple[str, ...] = ()  # further flags of every sample.py
    batch_rows: int = 4096  # an eighth with few-shot examples: long prompts, and completions soon differ


QUICK = Scale(
    n=4,
    limit=12,
    n_validation=12,
    n_problems=64,
    n_candidates=8,
    train=tuple("--n-greedy 4 --max-new-tokens 96 --eval-every 4 --batch-size 16 --n-validation 24".split()),
    ssft_steps=(8, 8),
    later_steps=4,
    scr_steps=4,
    mixed_steps=2,
    sample=("--max-new-tokens", "96"),
)


@dataclass(frozen=True)
class Job:
    """One command of the study: its name, its arguments, the file or folder that it makes, what must come
    first.
    """

    name: str
    command: tuple[str, ...]
    output: Path
    needs: tuple[str, ...] = ()
    cost: float = 1.0  # rough share of the study's time, for the time left


# ---- The list of jobs --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """Where a study of one seed lies, and how its commands are spelled."""

    folder: Path
    seed: int
    scale: Scale

    def model(self, name: str) -> Path:
        return self.folder / f"seed{self.seed}" / name

    def file(self, name: str) -> Path:
        return self.folder / f"seed{self.seed}" / f"{name}.jsonl"

    def train(
        self, name: str, model: str | Path, stage: str, steps: int, *more: str, needs: Sequence[str]
    ) -> Job:
        """Fine-tune `model` into the run folder `name`."""
        command = ("train.py", "--stage", stage, "--model", str(model), "--seed", str(self.seed), "--resume")
        flags = (
            "--steps", str(steps), *FLOAT32, "--out", str(self.model(name)), *self.scale.train, *more,
        )  # fmt: skip
        cost = steps / 50 * (2.6 if "small" in name else 1)
        return Job(self.name(name), command + flags, self.model(name), tuple(map(self.name, needs)), cost)

    def generator(self, name: str, size: str, *more: str, start: str = "", needs: Sequence[str] = ()) -> Job:
        """Fine-tune the base `size`, or the run `start` that was made of it, on solutions."""
        steps = self.scale.ssft_steps[size == SIZES[-1]]
        return self.train(name, self.model(start) if start else size, "ssft", steps, *more, needs=needs)

    def judge(self, name: str, model: str | Path, candidates: str, *more: str, needs: Sequence[str]) -> Job:
        """Fine-tune `model` into an evaluator, on the samples file `candidates`."""
        flags = ("--samples", str(self.file(candidates)), *self.scale.scr, *more)
        return self.train(name, model, "scr", self.scale.scr_steps, *flags, needs=(*needs, candidates))

    def sample(
        self, name: str, model: str | Path, *more: str, needs: Sequence[str] = (), n: int | None = None,
        limit: int | None = None,
    ) -> Job:  # fmt: skip
        """Sample the model `model` into the file `name`."""
        n, limit = self.scale.n if n is None else n, self.scale.limit if limit is None else limit
        command = ("sample.py", "--model", str(model), "--seed", str(self.seed), "--limit", str(limit))
        decoding = ("--greedy",) if n == 1 else ("--n", str(n))
        rows = self.scale.batch_rows // (8 if "--few-shot" in more else 1)
        flags = (
            *decoding,
            "--out",
            str(self.file(name)),
            "--batch-rows",
            str(rows),
            *FLOAT32,
            *self.scale.sample,
            *more,
        )
        cost = 0.3 if n == 1 else n * (limit or 500) / 40000 * (2.6 if "small" in name else 1)
        return Job(self.name(name), command + flags, self.file(name), tuple(map(self.name, needs)), cost)

    def both(self, name: str, model: str | Path, *more: str, needs: Sequence[str] = ()) -> list[Job]:
        """N samples and the greedy solution of every test problem."""
        return [
            self.sample(name, model, *more, needs=needs),
            self.sample(f"{name}-greedy", model, *more, needs=needs, n=1),
        ]

    def rerank(self, samples: str, evaluator: str) -> Job:
        """Score all candidates of the samples file `samples`, so that every rule can be compared."""
        name = f"{samples}-by-{evaluator}"
        control = evaluator == LIKELIHOOD
        command = ("rerank.py", "--evaluator", evaluator if control else str(self.model(evaluator)))
        files = ("--samples", str(self.file(samples)), *FLOAT32, "--out", str(self.file(name)))
        needs = tuple(map(self.name, (samples,) if control else (samples, evaluator)))
        return Job(self.name(name), command + files, self.file(name), needs, 0.2 if control else 2.0)

    def name(self, name: str) -> str:
        return f"seed{self.seed}/{name}"


def jobs(
    folder: Path, seeds: int, scale: Scale, parts: Iterable[str], sizes: Sequence[str] = SIZES
) -> list[Job]:
    """Every command of the study, each after what it needs; prompted bases, which nothing trains, once."""
    listed: list[Job] = []
    for seed in range(seeds):
        plan, weak, strong = Plan(folder, seed, scale), sizes[0], sizes[-1]
        for size in sizes:
            listed += generator(plan, size)
        if "headline" in parts:
            listed += [job for size in sizes for job in evaluators(plan, size)]
            listed += [*across_models(plan, sizes), *in_sequence(plan, strong)]
            listed += [job for size in sizes for job in other_style(plan, size, "brief")]
        if "styles" in parts:
            listed += [job for size in sizes for job in other_style(plan, size, "both")]
            listed += [job for size in sizes for job in own_solutions(plan, size)]
        if seed == 0:
            styles = [style for style, part in PROMPT_PARTS.items() if part in parts]
            listed += prompted(plan, sizes, styles)
        if "order" in parts:
            listed += other_orders(plan, strong)
        if "ablations" in parts:
            listed += ablations(plan, weak)
        if "transfer" in parts:
            listed += transfer(plan, strong)
    return list({job.name: job for job in listed}.values())


def prompted(plan: Plan, sizes: Sequence[str], styles: Sequence[str]) -> list[Job]:
    """The few-shot rows of Table 2 (brief examples) and of Table 5 (detailed ones)."""
    found: list[Job] = []
    for size in sizes:
        for style in styles:
            found += plan.both(f"{size}-fewshot-{style}", size, "--few-shot", "4", "--style", style)
    return found


def generator(plan: Plan, size: str) -> list[Job]:
    """The generator that everything else starts from, and its samples of the test problems."""
    name = f"{size}-detailed"
    return [
        plan.generator(name, size, "--style", "detailed"),
        *plan.both(f"{name}-test", plan.model(name), needs=(name,)),
    ]


def other_style(plan: Plan, size: str, style: str) -> list[Job]:
    """Another fine-tuned row of Table 2."""
    name = f"{size}-{style}"
    return [
        plan.generator(name, size, "--style", style),
        *plan.both(f"{name}-test", plan.model(name), needs=(name,)),
    ]


def candidate_file(plan: Plan, size: str) -> Job:
    """Candidates of training problems, which evaluators (and self-training) learn from."""
    generator, scale = f"{size}-detailed", plan.scale
    return plan.sample(
        f"{size}-candidates", plan.model(generator), "--split", "train", needs=(generator,),
        n=scale.n_candidates, limit=scale.n_problems,
    )  # fmt: skip


def evaluators(plan: Plan, size: str) -> list[Job]:
    """Tables 3 and 7: an evaluator of each loss, and its scores of validation and test candidates."""
    generator, scale = f"{size}-detailed", plan.scale
    validation = plan.sample(
        f"{generator}-validation", plan.model(generator), "--split", "validation", needs=(generator,),
        limit=scale.n_validation,
    )  # fmt: skip
    found = [candidate_file(plan, size), validation]
    for loss in LOSSES:
        name, start = f"{size}-{loss}", plan.model(generator)
        found.append(plan.judge(name, start, f"{size}-candidates", "--loss", loss, needs=(generator,)))
        found += [plan.rerank(f"{generator}-{split}", name) for split in ("validation", "test")]
    return [*found, plan.rerank(f"{generator}-test", LIKELIHOOD)]


def across_models(plan: Plan, sizes: Sequence[str]) -> list[Job]:
    """Table 6: each evaluator on the other generator's candidates."""
    pairs = [(a, b) for a in sizes for b in sizes if a != b]
    return [plan.rerank(f"{g}-detailed-test", f"{e}-xent") for g, e in pairs]


def in_sequence(plan: Plan, size: str) -> list[Job]:
    """Table 4: evaluators fine-tuned as generators again; the control; and both recipes in one."""
    steps, found = plan.scale.later_steps, []
    for name, start in ((f"{size}-mtsf-{loss}", f"{size}-{loss}") for loss in LOSSES):
        found.append(plan.train(name, plan.model(start), "ssft", steps, needs=(start,)))
        found += plan.both(f"{name}-test", plan.model(name), needs=(name,))
    control, start = f"{size}-control", f"{size}-detailed"
    found.append(plan.train(control, plan.model(start), "ssft", steps, needs=(start,)))
    found += plan.both(f"{control}-test", plan.model(control), needs=(control,))
    return [*found, plan.rerank(f"{size}-mtsf-xent-test", f"{size}-xent")]


def own_solutions(plan: Plan, size: str) -> list[Job]:
    """A base fine-tuned on the correct solutions that its fine-tuned self wrote (rejection sampling)."""
    name = f"{size}-own"
    data = ("--data", str(plan.file(f"{size}-candidates")))
    train = plan.generator(name, size, *data, needs=(f"{size}-candidates",))
    return [candidate_file(plan, size), train, *plan.both(f"{name}-test", plan.model(name), needs=(name,))]


def other_orders(plan: Plan, size: str) -> list[Job]:
    """Joint and contrastive training from the same generator, and the evaluator's stage first."""
    start, samples = f"{size}-detailed", ("--samples", str(plan.file(f"{size}-candidates")))
    needs, found = (start, f"{size}-candidates"), [candidate_file(plan, size)]
    variants = [(f"joint-{a}", "joint", ("--alpha-2", a)) for a in ("0.1", "1", "10")]
    variants += [(f"contrastive-{a}", "contrastive", ("--alpha-1", a)) for a in ("0", "1", "10")]
    for label, stage, flags in variants:
        name = f"{size}-{label}"
        found.append(
            plan.train(name, plan.model(start), stage, plan.scale.mixed_steps, *flags, *samples, needs=needs)
        )
        found += plan.both(f"{name}-test", plan.model(name), needs=(name,))
        if stage == "joint":
            found.append(plan.rerank(f"{start}-test", name))
    first = f"{size}-scr-first"  # evaluator, then generator, without a generator before
    found.append(plan.judge(first, size, f"{size}-candidates", needs=()))
    name = f"{size}-scr-ssft"
    found.append(plan.generator(name, size, start=first, needs=(first,)))
    found += plan.both(f"{name}-test", plan.model(name), needs=(name,))
    return [*found, plan.rerank(f"{start}-test", first)]


def ablations(plan: Plan, size: str) -> list[Job]:
    """What it is about detailed solutions that helps: one line, fewer steps, wrong steps."""
    changes = {
        "merged": ("--merge-steps", "100"),
        "dropped": ("--drop-steps", "0.3"),
        "wrong10": ("--corrupt-steps", "0.1"),
        "wrong30": ("--corrupt-steps", "0.3"),
    }
    found: list[Job] = []
    for label, flags in changes.items():
        name = f"{size}-{label}"
        found.append(plan.generator(name, size, *flags))
        found += plan.both(f"{name}-test", plan.model(name), needs=(name,))
    return found


def transfer(plan: Plan, size: str) -> list[Job]:
    """Another distribution: generator and evaluator trained without some families, tested on those alone."""
    names = ",".join(HELD_OUT_FAMILIES)
    without, only, scale = ("--exclude-families", names), ("--families", names), plan.scale
    name, candidates, judge = f"{size}-without", f"{size}-without-candidates", f"{size}-without-xent"
    found = [
        plan.generator(name, size, *without),
        plan.sample(candidates, plan.model(name), "--split", "train", *without, needs=(name,),
                    n=scale.n_candidates, limit=scale.n_problems),
        plan.judge(judge, plan.model(name), candidates, needs=(name,)),
        *plan.both(f"{name}-heldout", plan.model(name), *only, needs=(name,)),
        *plan.both(f"{size}-detailed-heldout", plan.model(f"{size}-detailed"), *only,
                   needs=(f"{size}-detailed",)),
    ]  # fmt: skip
    return [*found, plan.rerank(f"{name}-heldout", judge)]


# ---- Running them ------------------------------------------------------------------------------------


def finished(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of the jobs that are done, by name."""
    log = folder / LOG
    if not log.exists() or not log.stat().st_size:
        return {}
    drop_partial_line(log)
    if not log.stat().st_size:
        return {}
    found = {}
    for number, record in read_jsonl(log):
        if wrong := [name for name, kind in RECORD.items() if not isinstance(record.get(name), kind)]:
            raise ValueError(
                f"{log}:{number}: {wrong[0]!r} is {record.get(wrong[0])!r}, as in no record of a job; remove "
                "the line, and its job is looked at again"
            )
        found[record["job"]] = record
    return found


def run(listed: Sequence[Job], folder: Path, *, n_parallel: int) -> None:
    """Run the jobs that are not done, `n_parallel` at a time; raises ChildProcessError with the words of one
    that fails.

    A job is done if its command is in the log and its output is there; with another command it runs again,
    which the command itself refuses or continues.
    """
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    done = finished(folder)
    waiting = [j for j in listed if done.get(j.name, {}).get("command") != _shown(j) or not j.output.exists()]
    ready = {j.name for j in listed} - {j.name for j in waiting}
    running: dict[subprocess.Popen[str], tuple[Job, float, bool]] = {}
    total, part = sum(j.cost for j in listed), sum(j.cost for j in listed if j.name in ready)
    bar = tqdm(total=round(total, 1), initial=round(part, 1), desc="study", unit="unit", disable=None)
    try:
        with bar, open_appending(folder / LOG) as log:
            while waiting or running:
                for job in [j for j in waiting if ready.issuperset(j.needs)][: n_parallel - len(running)]:
                    waiting.remove(job)
                    resumed = job.output.exists()
                    running[_start(job, folder, n_parallel)] = job, time.perf_counter(), resumed
                for process in [p for p in running if _has_ended(p)]:
                    job, since, resumed = running.pop(process)
                    _check(process, job, folder)
                    append_jsonl(log, [_record(job, time.perf_counter() - since, process, resumed)])
                    ready.add(job.name)
                    bar.update(job.cost)
                    if bar.disable:
                        seconds = time.perf_counter() - since
                        text = f"{len(ready)} of {len(listed)}: {job.name}, {seconds:.0f} s"
                        tqdm.write(text, file=sys.stderr)
                time.sleep(0.05)
    finally:
        for process in running:  # after an error or Ctrl-C: what they wrote stays, and they go on next time
            process.terminate()
        for process in running:
            process.wait()


def _start(job: Job, folder: Path, n_parallel: int) -> subprocess.Popen[str]:
    output = folder / "logs" / f"{job.name.replace('/', '-')}.log"
    output.parent.mkdir(exist_ok=True)
    environment = dict(os.environ)
    if n_parallel > 1:  # results on the CPU depend on the number of threads: one each, however many run
        environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with open(output, "w") as words:
        command = [sys.executable, str(SCRIPTS / job.command[0]), *job.command[1:]]
        return subprocess.Popen(command, stdout=words, stderr=subprocess.STDOUT, env=environment, text=True)


def _has_ended(process: subprocess.Popen[str]) -> bool:
    """Like poll(), and keeps what the process used, which the system tells only once."""
    if not hasattr(os, "wait4"):  # Windows tells no memory
        return process.poll() is not None
    pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not pid:
        return False
    process.returncode = os.waitstatus_to_exitcode(status)
    process.usage = usage  # type: ignore[attr-defined]
    return True


def _check(process: subprocess.Popen[str], job: Job, folder: Path) -> None:
    if process.returncode:
        words = (folder / "logs" / f"{job.name.replace('/', '-')}.log").read_text().strip().splitlines()
        last = words[-1] if words else "no output"
        raise ChildProcessError(
            f"{job.name} ended with status {process.returncode}: {last} (command: {_shown(job)})"
        )


def _record(job: Job, seconds: float, process: subprocess.Popen[str], resumed: bool) -> dict[str, Any]:
    """What a job took; of one that was resumed the figures are those of its last part."""
    usage = getattr(process, "usage", None)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    peak = None if usage is None else round(usage.ru_maxrss / unit)
    cpu = None if usage is None else round(usage.ru_utime + usage.ru_stime, 1)
    spent = {"seconds": round(seconds, 1), "cpu_s": cpu, "peak_mb": peak}
    return {"job": job.name, "command": _shown(job), "resumed": resumed, **spent}


def _shown(job: Job) -> str:
    return spelled(*job.command)


# ---- The command -------------------------------------------------------------------------------------


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m mathref.study",
        description="Run or resume the study on the built-in problems and write its tables and figures.",
        formatter_class=HelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/study"), help="folder for models, samples, tables, figures")
    add("--parts", nargs="+", default=["headline"], choices=[*PARTS, "all"], help="of the study")
    add("--sizes", nargs="+", default=list(SIZES), choices=SIZES, help="weak and strong model, in this order")
    add("--seeds", type=int, default=1, metavar="K", help="repeat all training with the seeds 0 to K-1")
    add("--quick", action="store_true", help="minutes instead of hours; the numbers mean nothing")
    add("--jobs", type=int, default=2, help="commands side by side, one thread each; 1: all threads for one")
    add("--batch-rows", type=int, default=Scale.batch_rows, help="samples side by side; few-shot: an eighth")
    add("--list", action="store_true", help="print the commands, run none")
    add("--tables", action="store_true", help="only write the tables of what is there")
    add("--version", action="version", version=VERSION)
    args = parser.parse_args(argv)
    check_least(args, seeds=1, jobs=1, batch_rows=8)
    args.parts = list(PARTS) if "all" in args.parts else args.parts
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if not (SCRIPTS / "train.py").exists():
        raise FileNotFoundError(f"{SCRIPTS}: train.py is not there; run the study from a checkout")
    started = time.perf_counter()
    scale = replace(QUICK if args.quick else Scale(), batch_rows=args.batch_rows)
    listed = jobs(args.out, args.seeds, scale, args.parts, args.sizes)
    if args.list:
        print(*map(_shown, listed), sep="\n")
        return 0
    if not args.tables:
        with locked(args.out / LOCK, args.out):
            run(listed, args.out, n_parallel=args.jobs)
    from mathref import findings

    page = findings.write(args.out, args.seeds, args.sizes, scale.n)
    print(f"{page}: {time.perf_counter() - started:.0f} s in this run")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
