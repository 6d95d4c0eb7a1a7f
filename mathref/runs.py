"""What surrounds a run: its folder, where its numbers come from, on which device, and how a command ends.

Paper: none. A run folder holds config.json, model.safetensors and the tokenizer's files (a checkpoint that
other tools load), run.json (arguments, seed, versions, git commit, data), metrics.jsonl and
checkpoint.safetensors.
Choices [P]: a folder that holds a run is never written over; --resume continues it if its arguments are the
same. SIGTERM ends a command as Ctrl-C does: what is finished is kept, exit status 130.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import platform
import select
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mathref import __version__, hub, processes
from mathref.files import (
    append_jsonl,
    atomic_write,
    digest_text,
    drop_temporaries,
    locked,
    read_json,
    read_jsonl,
    write_json,
)
from mathref.interrupts import terminable

if TYPE_CHECKING:
    import torch

RUN = "run.json"
LOCK = ".lock"  # in a run folder while a process writes there
PACKAGES = ("torch", "numpy", "safetensors", "sentencepiece", "sympy")
PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
ASSETS = PACKAGE / "assets"
# Where train.py and its like lie: the top of a checkout, or inside the package where that is installed.
SCRIPTS = PACKAGE / "scripts" if (PACKAGE / "scripts").is_dir() else ROOT
VERSION = f"mathref {__version__}"
# What the commands need beyond a plain installation; the grader needs none of it.
EXTRAS = ("torch", "sentencepiece", "safetensors", "numpy", "tqdm", "tokenizers", "matplotlib")
SHIPPED = ("tiny", "small")  # base models that come with the repository
# What the commands make, and the next ones read, unless told otherwise.
GENERATOR, EVALUATOR = "runs/ssft", "runs/scr"
SAMPLES = "samples/ssft-test-n64-t0.9.jsonl"

# What a user can cause, and mend.
MISTAKES = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    BlockingIOError,
)
SIGPIPE_STATUS = 141  # 128 and the number of the signal, as shells say it
SMALLER = (
    " Less is taken with a smaller --tokens-per-batch (train.py, rerank.py), --activation-checkpointing or "
    "--lora-rank (train.py), a smaller --batch-rows (sample.py, candidates of train.py)"
)
GO_ON = "the same command goes on where it stopped (train.py: with --resume)"


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default to a flag's help, unless the help says it itself or there is none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        said = action.default in (None, "", []) or "(default" in (action.help or "")
        if isinstance(action.default, list) and not said:  # as it would be typed
            return f"{action.help} (default: {(' ' if action.nargs else ',').join(action.default)})"
        return action.help if said else super()._get_help_string(action)


def run_command(main: Callable[[list[str] | None], int | None], argv: list[str] | None = None) -> int:
    """Call `main(argv)` and return the exit status: what a user caused is one line, not a traceback.

    2 for a mistake in the input and for files that another process writes, 1 for a run that failed on its own
    (full disk, non-finite loss), 130 for Ctrl-C and SIGTERM, and 141 without a word, as of a command that
    SIGPIPE ends, where nobody reads on (`| head`). Of torchrun's processes one prints the line.
    """
    if processes.are_launched():  # torchrun sends SIGTERM to those that are left when one has failed
        return processes.run(lambda: _attempt(main, argv))
    with terminable():
        status, line = _attempt(main, argv)
    if line:
        print(line, file=sys.stderr)
    return status


def _attempt(main: Callable[[list[str] | None], int | None], argv: list[str] | None) -> tuple[int, str]:
    """The exit status of `main(argv)`, and the line about what went wrong, if something did."""
    try:
        status = main(argv) or 0
        if sys.stdout:  # None where it was closed (`>&-`)
            sys.stdout.flush()  # here, since a failure at the interpreter's end is a traceback
        return status, ""
    except MISTAKES as error:
        return 2, _one_line(error)
    except ModuleNotFoundError as error:
        return 1, _one_line(_how_to_install(error))
    except (OSError, FloatingPointError, MemoryError) as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            return SIGPIPE_STATUS, ""
        return 1, _one_line(error, _advice(error))
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not MemoryError
            raise
        first = str(error).partition(" GPU ")[0]  # what was asked for; the rest is about the allocator
        return 1, _one_line(first, SMALLER)
    except KeyboardInterrupt as stop:
        return 130, _one_line(f"interrupted{f' {stop}' if str(stop) else ''}; {GO_ON}")


def _reader_left() -> bool:
    """Whether the pipe behind standard output is the broken one; what is left to print is let go then."""
    if not sys.stdout or not hasattr(select, "poll"):  # closed from the beginning; Windows
        return False
    poll = select.poll()
    poll.register(sys.stdout, 0)  # nothing is asked for: that the other end is closed is told anyway
    if not poll.poll(0):
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return True


def _one_line(error: BaseException | str, advice: str = "") -> str:
    text = " ".join((str(error) + advice).split()) or type(error).__name__
    if len(text) > 2000:  # a file may hold a value of any length
        text = f"{text[:1200]} [...] {text[-300:]}"
    return f"{Path(sys.argv[0]).name}: error: {text}"


def _advice(error: BaseException) -> str:
    """What to do where a file could not be written."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"; make room, then {GO_ON}"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "; choose another place, or change who may write there"
    return ""


def _how_to_install(error: ModuleNotFoundError) -> str:
    """The error's words; for a package that an extra brings, the command that brings it."""
    package = (error.name or "").split(".")[0]
    if package not in EXTRAS:
        return str(error)
    return (
        f"{package} is not installed, which this command needs; in the folder of the source: "
        "pip install '.[all]' (or pip install -r requirements.txt, to run from there)"
    )


def spelled(script: str, *words: str | Path) -> str:
    """A command as its user types it: `python sample.py`, or `mathref-sample` where that was installed; with
    its arguments, quoted where a shell needs it.
    """
    installed = SCRIPTS != ROOT or Path(sys.argv[0]).name.startswith("mathref-")
    return shlex.join(
        [*([f"mathref-{Path(script).stem}"] if installed else ["python", script]), *map(str, words)]
    )


def on_several_processes(script: str) -> str:
    """The start of a command line that runs `script` on N processes, as its user types it."""
    command = spelled(script).removeprefix("python ")
    return f"torchrun --nproc-per-node N {'' if command == script else '--no-python '}{command}"


# ---- Names from the command line ---------------------------------------------------------------------


def comma_list(text: str) -> list[str]:
    """The names of a flag like `--families linear,gcd`."""
    return [name.strip() for name in text.split(",") if name.strip()]


def flag_of(name: str) -> str:
    """A field of the arguments as its user types it: --n-problems."""
    return f"--{name.replace('_', '-')}"


def check_least(args: argparse.Namespace, **least: float) -> None:
    """ValueError for a flag below the least value that means something; None is no value."""
    for name, bound in least.items():
        value = getattr(args, name)
        if value is not None and not value >= bound:  # so that NaN is none, either
            raise ValueError(f"{flag_of(name)} is {value}, expected at least {bound}")


def refuse_ignored(
    args: argparse.Namespace, parser: argparse.ArgumentParser, ignored: Mapping[str, Sequence[str]]
) -> None:
    """ValueError for a flag that was given and changes nothing; `ignored` has flags by the reason for it."""
    for why, names in ignored.items():
        for name in names:
            if getattr(args, name) != parser.get_default(name):
                raise ValueError(f"{flag_of(name)} would be ignored {why}: leave it out")


def require_default(path: str, made_by: str, otherwise: str) -> None:
    """FileNotFoundError for what a command reads by default, and nothing has made yet."""
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} is not there yet: make it with `{made_by}`, or {otherwise}")


def resolve_model(name: str) -> Path:
    """Folder of a model: `tiny` and `small` are shipped, anything else is a folder with config.json, or with
    adapter_config.json, which names its base, or owner/name on the hub.

    Raises FileNotFoundError naming the shipped ones, and how to get others; for the hub as `hub.fetch` does.
    """
    if hub.is_id(name):
        return hub.fetch(name)
    folder = ASSETS / name if name in SHIPPED else Path(name)
    if not any((folder / name).exists() for name in ("config.json", "adapter_config.json")):
        what = "has no config.json" if folder.is_dir() else "is not a folder"
        if (folder / "adapter_model.safetensors").exists():
            what = "has an adapter's weights and no adapter_config.json, which names their base"
        raise FileNotFoundError(
            f"--model {name}: {folder} {what}; expected {' or '.join(SHIPPED)} (shipped), a folder with "
            "config.json, model.safetensors and a tokenizer, an adapter's, or owner/name of a model on the "
            "Hugging Face hub"
        )
    return folder


# Types of weights that sampling and scoring take. In float64 no draw depends on what shares the batch.
WEIGHT_DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


def pick_device(name: str) -> torch.device:
    """`auto` is cuda, else mps, else cpu. Raises ValueError for a device that this machine lacks."""
    import torch

    # cuDNN's attention plans a kernel for every new length, 1.6 ms a layer and token of decoding on an H100.
    torch.backends.cuda.enable_cudnn_sdp(False)
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if present[kind]))
    if not present.get(name.split(":")[0], False):
        there = ", ".join(kind for kind, yes in present.items() if yes)
        raise ValueError(f"--device {name}: not on this machine, which has {there}")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device {name}: expected auto, cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device {name}: not on this machine, which has {torch.cuda.device_count()} GPUs")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # what is recorded (cuda_graph.py) is recorded on the current one
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on cuda and float32 elsewhere. Raises ValueError for float64 on mps."""
    import torch

    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name == "float64" and device.type == "mps":
        raise ValueError("--dtype float64: mps has no such numbers; use --device cpu, or --dtype float32")
    return getattr(torch, name)


# ---- Run folders -------------------------------------------------------------------------------------


def refuse_existing(folder: Path, *, resume: bool) -> None:
    """Raise FileExistsError for a folder that holds a run, unless it is to be resumed, and for a file."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder}: is a file, expected the name of a run folder; choose another --out")
    if (folder / RUN).exists() and not resume:
        raise FileExistsError(
            f"{folder} holds a run already; add --resume to continue it, or choose another --out"
        )


def _refuse_foreign(folder: Path, *, resume: bool) -> None:
    """Raise FileExistsError for a folder that holds another's files, or a run that is not to be resumed."""
    refuse_existing(folder, resume=resume)
    if not (folder / RUN).exists():
        # A kill before run.json had its name leaves its temporary file and the lock, which are nobody's.
        ours = (f".{RUN}.", LOCK)
        if folder.is_dir() and any(not file.name.startswith(ours) for file in folder.iterdir()):
            raise FileExistsError(
                f"{folder} is not empty and holds no run of this program; choose another --out"
            )


@contextlib.contextmanager
def open_run(folder: Path, settings: dict[str, Any], *, resume: bool) -> Iterator[str]:
    """Create the run folder with run.json, or check that it holds this very run; yields its fingerprint.

    The folder is this process's until the block ends. `settings` is all that decides the result. Raises
    FileExistsError for a folder that holds a run when not resuming, ValueError naming the settings that
    differ when resuming, BlockingIOError for a folder that another process has.
    """
    processes.on_first(_refuse_foreign, folder, resume=resume)
    with processes.held_by_first(locked(folder / LOCK, folder)):
        yield processes.on_first(_enter_run, folder, settings)


def _enter_run(folder: Path, settings: dict[str, Any]) -> str:
    """Write run.json, or compare with it; returns the fingerprint of the settings."""
    fingerprint = digest_text(json.dumps(settings, sort_keys=True))
    drop_temporaries(folder)
    if (folder / RUN).exists():
        before = _settings(folder / RUN)
        changed = [f"{k} was {before.get(k)!r}, is {v!r}" for k, v in settings.items() if before.get(k) != v]
        if changed:
            raise ValueError(f"{folder}: cannot resume with other settings: {'; '.join(changed)}")
        return fingerprint
    write_json(folder / RUN, {"settings": settings, "fingerprint": fingerprint, **provenance()})
    return fingerprint


def _settings(path: Path) -> dict[str, Any]:
    """What a run.json keeps of the arguments; ValueError for a file of another shape."""
    content = read_json(path)
    settings = content.get("settings") if isinstance(content, dict) else None
    if not isinstance(settings, dict):
        raise ValueError(
            f"{path}: expected an object with the run's 'settings'; put the file that train.py wrote in its "
            "place, or choose another --out"
        )
    return settings


def last_stage(folder: Path) -> Any:
    """The stage of train.py that a model came out of last, None where its folder does not say."""
    try:
        settings = _settings(folder / RUN)
    except (FileNotFoundError, ValueError):
        return None
    sequence = settings.get("sequence") if settings.get("stage") == "mtsf" else None
    return sequence[-1] if sequence and isinstance(sequence, list) else settings.get("stage")


def publish(last: Path, folder: Path) -> None:
    """Put the checkpoint of a sequence's last stage and the metrics of all stages into the run's folder.

    Large files are linked, not copied, where the file system can.
    """
    for file in last.iterdir():
        kept_back = file.name in (RUN, "metrics.jsonl", "checkpoint.safetensors") or file.name.startswith(".")
        if file.is_file() and not kept_back:
            temporary = folder / f".{file.name}.{os.getpid()}.tmp"
            try:
                os.link(file, temporary)
            except OSError:  # another file system, or one without links
                shutil.copyfile(file, temporary)
            os.replace(temporary, folder / file.name)
            temporary.unlink(missing_ok=True)  # a rename between two links of one file does nothing
    stages = sorted(folder.glob("*/metrics.jsonl"), key=lambda path: int(path.parent.name.split("-")[0]))
    lines = [{"stage": path.parent.name, **line} for path in stages for _, line in read_jsonl(path)]
    with atomic_write(folder / "metrics.jsonl") as metrics:
        append_jsonl(metrics, lines)


def provenance() -> dict[str, Any]:
    """Versions, machine and commit that a result was made with."""
    return {
        "mathref": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}",
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    if not (ROOT / ".git").exists():  # installed: a repository around site-packages is another project's
        return None
    try:
        result = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):  # no git, or not a checkout: the version has to do
        return None
    return result.stdout.strip() or None
