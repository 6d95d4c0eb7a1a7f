"""One model trained by several processes: who holds which weights, and how gradients are added.

Paper: section 13, item 9, over processes: the gradient of a step is that of the mean over all its targets,

    g = sum over ranks r, sum over micro-batches b of r, of grad loss_b / W,    W: weight of the whole step,

so ranks add plain sums, whatever they hold (`batches.my_batches`): a mean of means weighs short texts more.
Choices [P]: "ddp", a whole model a process, whose gradients are added once a step, after its last
micro-batch. torch's DistributedDataParallel is not used: it divides by the number of processes, wants the
loss behind one `forward`, and needs care for ranks with fewer micro-batches; five lines do without, and what
they give up, adding while the last micro-batch is still computed, is a small part of a step that has several.
"fsdp", torch's fully_shard (FSDP2): weights, gradients and optimiser state lie in slices of 1/n on n
processes, and each block's weights are gathered in their own type to compute. Checkpoints are the one file
of one process, gathered tensor by tensor: sharded ones (torch.distributed.checkpoint) would save the time of
the gathering and bind a run to a second format; so a run goes on with any number of processes, either way. A
model is validated by all processes in step, its loss in shares. A single process sees nothing of all this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import torch
import torch.distributed as dist

from mathref import processes
from mathref.model import Transformer

Result = TypeVar("Result")
Parallel = Literal["ddp", "fsdp"]


# ---- Weights -----------------------------------------------------------------------------------------


def loading_device(device: torch.device, parallel: Parallel) -> torch.device:
    """Where a model to be trained is loaded: what is going to be sharded exists once, in the first process's
    main memory; the others know its shapes.
    """
    if not dist.is_initialized() or parallel == "ddp":
        return device
    return torch.device("cpu" if processes.is_first() else "meta")


def wrap(model: Transformer, parallel: Parallel) -> None:
    """Prepare `model` for training, in place: all processes start from the first one's weights, whole ("ddp")
    or a slice each ("fsdp").
    """
    if not dist.is_initialized():
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
    values = {name: parameter.detach() for name, parameter in model.named_parameters()}
    model.to("meta")
    mesh = init_device_mesh(device, (processes.world_size(),))
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
            value = values.pop(name)
            value = value.to(device) if processes.is_first() else torch.empty_like(value, device=device)
            parameter.copy_(distribute_tensor(value, mesh, parameter.placements, src_data_rank=0))


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether it is a DTensor, whose module alone takes a second to import."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor that may be sharded; then every process has to ask for it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def mine(tensor: torch.Tensor) -> torch.Tensor:
    """What this process has of a tensor that may be sharded."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def laid_out_as(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`value`, whole on every process, on the device of `parameter`; this process's slice, if that is one."""
    value = value.to(parameter.device)
    if not is_sharded(parameter):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


# ---- A step, a validation ----------------------------------------------------------------------------


def add_gradients(model: Transformer) -> None:
    """Sum the gradients over all processes; those of a sharded model are summed as they arise."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None and not is_sharded(p.grad)]
    for work in [dist.all_reduce(gradient, async_op=True) for gradient in gradients]:
        work.wait()


def in_step(function: Callable[[Transformer], Result], model: Transformer) -> Result:
    """`function(model)`, called by all processes at once without gradients; the first one's result."""
    result = function(model)
    if dist.is_initialized() and hasattr(model, "reshard"):
        model.reshard()  # without a backward pass what `hidden` left gathered stays so
    return processes.on_first(lambda: result)
