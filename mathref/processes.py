"""The processes that torchrun starts: which one this is, what they tell each other, and how they end.

Paper: none; distributed.py has what they compute together, parts.py what they write together.
Choices [P]: NCCL between GPUs, gloo between CPUs. The first process writes what all share and prints, the
others are silent; of a failure that all meet, one line is shown. An error of what the first one does for all
is raised in all, so that none waits for ever. Without torchrun every function returns at once what a single
process has, and torch, whose import takes seconds, is not imported here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")
# torchrun ends the others when one dies; waiting alone, for a model to be written, is no fault.
PATIENCE = timedelta(hours=2)


def are_launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def start(device_name: str) -> None:
    """Join the other processes of torchrun; do nothing without it. `device_name` is that of --device.

    Raises ValueError for a device that several processes cannot share, or more processes than GPUs.
    """
    if not are_launched() or _group():
        return
    import torch

    from mathref.runs import pick_device

    device = pick_device(device_name)
    if device.type == "cuda" and device.index is None:
        local, present = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= present:
            raise ValueError(
                f"torchrun started process {local + 1} of this machine, which has {present} GPUs; "
                f"expected --nproc-per-node {present} at most, or --device cpu"
            )
        torch.cuda.set_device(local)  # from now on "cuda" means this one
    elif device.type != "cpu":
        raise ValueError(f"--device {device}: under torchrun expected cpu, or cuda without a number")
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=PATIENCE)


def _group() -> Any:
    """torch.distributed once `start` has joined the others, else None."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist and dist.is_initialized() else None


def rank() -> int:
    """This process's number, from 0."""
    dist = _group()
    return dist.get_rank() if dist else 0


def world_size() -> int:
    """How many processes there are."""
    dist = _group()
    return dist.get_world_size() if dist else 1


def is_first() -> bool:
    """Whether this process writes what all share."""
    return rank() == 0


def on_first(function: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """Call `function` on the first process alone; all wait for it, and get its result or raise its error."""
    dist = _group()
    if not dist:
        return function(*args, **options)
    outcome: list[Any] = [None, None]
    if is_first():
        try:
            outcome[0] = function(*args, **options)
        except Exception as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


@contextmanager
def held_by_first(context: AbstractContextManager[Any]) -> Iterator[None]:
    """Enter `context` on the first process alone; all raise its error."""
    with ExitStack() as held:
        on_first(lambda: held.enter_context(context))
        yield


def total(value: Any) -> Any:
    """The sum of a number, or of a tensor, over all processes."""
    if not (dist := _group()):
        return value
    import torch

    is_tensor = isinstance(value, torch.Tensor)
    summed = value.clone() if is_tensor else torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(summed)
    return summed if is_tensor else type(value)(summed.item())


def barrier() -> None:
    """Wait until all processes are here."""
    total(0)


# ---- How a run ends ----------------------------------------------------------------------------------


def run(attempt: Callable[[], tuple[int, str]]) -> int:
    """Call `attempt`, a command that returns its exit status and a line about its failure, as one of
    torchrun's processes: the first prints, and of a failure that all meet one line is shown.
    """
    stderr = sys.stderr
    if int(os.environ["RANK"]):
        sys.stdout = sys.stderr = open(os.devnull, "w")  # as long as the process lives
    try:
        status, line = attempt()
    except RuntimeError as error:
        if not _is_lost_connection(error):
            sys.stderr = stderr  # a fault of the program: its traceback
            raise
        ended = "another process of this run has ended; the same command goes on (train.py: with --resume)"
        status, line = 1, f"{Path(sys.argv[0]).name}: error: {ended}"
    if status == 0 and (dist := _group()):
        dist.destroy_process_group()
    if line and _is_first_failure():
        print(line, file=stderr)
    return status


def _is_lost_connection(error: RuntimeError) -> bool:
    """Whether the processes could not talk, since one of them is gone. gloo has no class for it."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def _is_first_failure() -> bool:
    """Whether no other process has asked this before; torchrun's store knows, and outlives them all."""
    import torch.distributed as dist

    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=10))
        return store.add(f"mathref/failures/{os.environ['TORCHELASTIC_RESTART_COUNT']}", 1) == 1
    except (RuntimeError, KeyError):  # nobody to ask
        return True
