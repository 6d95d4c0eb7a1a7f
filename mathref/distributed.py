"""One run on several processes, as torchrun starts them: what each one takes, and what they tell each other.

Paper: section 13, item 9, over processes: the gradient of a step is that of the mean over all its targets,

    g = sum over ranks r, sum over micro-batches b of r, of grad loss_b / W,    W the weight of the whole step,

so ranks add plain sums, whatever they hold: a mean of the ranks' means would weigh a short text more.
Choices [P]: "ddp", a whole model a process, whose gradients are added once a step, after its last
micro-batch. torch's DistributedDataParallel is not used: it divides by the number of processes, wants the
loss behind one `forward`, and needs care for ranks with fewer micro-batches; ten lines do without, and what
they give up, adding while the last micro-batch is still computed, is a small part of a step that has several.
"fsdp", torch's fully_shard (FSDP2): weights, gradients and optimiser state lie in slices of 1/n on n
processes, and each block's weights are gathered, in float32, while it computes. Checkpoints are the one file
of one process, gathered tensor by tensor: sharded ones (torch.distributed.checkpoint) would save the time of
the gathering and bind a run to a second format; so a run goes on with any number of processes, and either way.
A model is validated by all processes in step, its loss in shares. Without torchrun every function here
returns at once what one process has.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist

from mathref.batches import micro_batches
from mathref.model import Transformer

Item = TypeVar("Item")
Result = TypeVar("Result")
Parallel = Literal["ddp", "fsdp"]
# torchrun ends the others when one dies; waiting alone, for a model to be written, is no fault.
PATIENCE = timedelta(hours=2)


# ---- The processes -----------------------------------------------------------------------------------


def start(device: torch.device) -> None:
    """Join the processes that torchrun started: NCCL between GPUs, gloo between CPUs; alone, do nothing.

    Raises ValueError for a device that several processes cannot share, or more processes than GPUs.
    """
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        return
    if device.type == "cuda" and device.index is None:
        local, present = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= present:
            raise ValueError(
                f"torchrun started process {local + 1} of this machine, which has {present} GPUs; "
                f"expected --nproc-per-node {present} at most, or --device cpu"
            )
        torch.cuda.set_device(local)  # "cuda" now means this one
    elif device.type != "cpu":
        raise ValueError(f"--device {device}: under torchrun expected cpu, or cuda without a number")
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)


def is_running() -> bool:
    """Whether this is one of torchrun's processes."""
    return dist.is_initialized()


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if is_running() else 0


def world_size() -> int:
    return dist.get_world_size() if is_running() else 1


def is_first() -> bool:
    """Whether this process is the one that writes what all share."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes are here."""
    on_first(bool)


def on_first(function: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """Call `function` on the first process alone; all wait for it, and get its result or raise its error."""
    if not is_running():
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


def total(value: torch.Tensor | int | float) -> Any:
    """The sum of `value`, a tensor or a number, over all processes."""
    if not is_running():
        return value
    is_tensor = isinstance(value, torch.Tensor)
    summed = value.clone() if is_tensor else torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(summed)
    return summed if is_tensor else type(value)(summed.item())


# ---- Batches -----------------------------------------------------------------------------------------


def my_batches(
    items: Sequence[Item], n_tokens: Callable[[Item], int], budget: int
) -> list[tuple[list[Item], int]]:
    """This process's micro-batches of `items`, equally many on each; each with its factor in sums, 1 or 0.

    The items are dealt out by length, and each process cuts its share as one process cuts all. Where others
    have more micro-batches, or there are fewer items than processes, the shortest item comes again with factor
    0: with sharded weights every process has to take part in every forward and backward pass.
    """
    n = world_size()
    if n == 1:
        return [(batch, 1) for batch in micro_batches(items, n_tokens, budget)]
    by_length = sorted(items, key=n_tokens, reverse=True)
    cuts = [micro_batches(by_length[first::n], n_tokens, budget) for first in range(n)]
    mine = [(batch, 1) for batch in cuts[rank()]]
    return mine + [(by_length[-1:], 0)] * (max(map(len, cuts)) - len(mine))


# ---- Models ------------------------------------------------------------------------------------------


def loading_device(device: torch.device, parallel: Parallel) -> torch.device:
    """Where a model to be trained is loaded: what is going to be sharded exists once, in the first process's
    main memory; the others know its shapes.
    """
    if not is_running() or parallel == "ddp":
        return device
    return torch.device("cpu" if is_first() else "meta")


def wrap(model: Transformer, parallel: Parallel) -> None:
    """Prepare `model` for training, in place: all processes start from the first one's weights, whole ("ddp")
    or a slice each ("fsdp").
    """
    if not is_running():
        return
    if parallel == "fsdp":
        _shard(model)
        return
    for parameter in model.parameters():
        dist.broadcast(parameter.data, src=0)


def _shard(model: Transformer) -> None:
    """FSDP2 on each block, and on what is left: embedding, last norm and head."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
    from torch.distributed.tensor import distribute_tensor

    device = "cuda" if "nccl" in str(dist.get_backend_config()) else "cpu"
    whole = {name: parameter.detach() for name, parameter in model.named_parameters()}
    model.to("meta")
    mesh = init_device_mesh(device, (world_size(),))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    # `head` follows `hidden`, which therefore leaves the weights that both use gathered.
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    register_fsdp_forward_method(model, "hidden")
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # sums, not means
            module.set_force_sum_reduction_for_comms(True)  # by an operation that gloo has, too
    model.to_empty(device=device)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            value = whole.pop(name)
            value = value.to(device) if is_first() else torch.empty_like(value, device=device)
            parameter.copy_(distribute_tensor(value, mesh, parameter.placements, src_data_rank=0))


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether it is a DTensor, whose module alone takes a second to import."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor that may be sharded; then every process has to ask for it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def laid_out_as(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`value`, whole on every process, on the device of `parameter`; this process's slice, if that is one."""
    value = value.to(parameter.device)
    if not is_sharded(parameter):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def add_gradients(model: Transformer) -> None:
    """Sum the gradients over all processes; those of a sharded model are summed as they arise."""
    if not is_running():
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None and not is_sharded(p.grad)]
    for work in [dist.all_reduce(gradient, async_op=True) for gradient in gradients]:
        work.wait()


def evaluate(function: Callable[[Transformer], Result], model: Transformer) -> Result:
    """`function(model)`, called by all processes in step; the first one's result."""
    result = function(model)
    if is_running() and hasattr(model, "reshard"):
        model.reshard()  # without a backward pass what `hidden` left gathered stays so
    return on_first(lambda: result)


# ---- How a run ends ----------------------------------------------------------------------------------


def run(attempt: Callable[[], tuple[int, str]]) -> int:
    """Call `attempt`, a command that returns its exit status and a line about its failure, as one of
    torchrun's processes: the first prints, and of a failure that all meet one line is shown.
    """
    stderr = sys.stderr
    if int(os.environ["RANK"]):
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (as long as the process lives)
    try:
        status, line = attempt()
    except RuntimeError as error:
        if not _is_lost_connection(error):
            sys.stderr = stderr  # a fault of the program: its traceback
            raise
        status = 1
        line = "another process of this run has ended; the same command goes on (train.py: with --resume)"
    if status == 0 and is_running():
        dist.destroy_process_group()
    if line and _is_first_failure():
        print(line, file=stderr)
    return status


def _is_lost_connection(error: RuntimeError) -> bool:
    """Whether a collective failed because a process of the others is gone. gloo has no class for it."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def _is_first_failure() -> bool:
    """Whether no other process has asked this before; torchrun's store knows, and outlives them all."""
    environment = os.environ
    try:
        address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
        store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=10))
        return store.add(f"mathref/failures/{environment.get('TORCHELASTIC_RESTART_COUNT')}", 1) == 1
    except (dist.DistError, RuntimeError, KeyError):
        return True
