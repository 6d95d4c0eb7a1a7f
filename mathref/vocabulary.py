"""The head over a large vocabulary: log-probabilities of targets, the logits of all never there at once.

Paper: section 4, L_mle, and the log p_M(X | P) of section 8. With z = W h the logits of a position and
p = softmax(z), the gradient of log p_y is that of z_y - logsumexp(z):

    d log p_y / d z = 1_y - p,    d / d h = W^T (1_y - p),    d / d W = (1_y - p) h^T

so a chunk of positions needs its logits for as long as these products take, and no longer.
Choices [P]: L_mle is a plain sum, whose gradient is found on the way forward, chunk by chunk, and scaled on
the way back: no product is computed twice. Where each log-probability gets a weight of its own, which comes
from the loss, chunks are computed again on the way back. Few logits take the plain way, which autograd
differentiates. A logit soft cap is cap * tanh(z / cap), whose slope is 1 - (capped / cap)^2.

Shapes: M targets, m of a chunk, C = n_embd, V = vocab_size.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from mathref.linear import linear
from mathref.losses import mle_loss
from mathref.model import Transformer

FEW = 2**22  # logits that may exist at once: 16 MB
CPU_CHUNK, DEVICE_CHUNK = 2**24, 2**27  # logits of a chunk: 64 MB, which the gradient of W outweighs; 512 MB


def target_loss(model: Transformer, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """L_mle of targets (M,) that the stream hidden (M, C) predicts; a scalar in float32."""
    if _is_few(model, targets):
        return mle_loss(model.head(hidden), targets)
    if not torch.is_grad_enabled():
        return -target_logprobs(model, hidden, targets).sum()
    return _Loss.apply(*_operands(model, hidden), targets, model.config.logit_softcap)


def target_logprobs(model: Transformer, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log p of each of the targets (M,) that the stream hidden (M, C) predicts: (M,) float32."""
    if _is_few(model, targets):
        return -F.cross_entropy(model.head(hidden).float(), targets, reduction="none")
    return _Logprobs.apply(*_operands(model, hidden), targets, model.config.logit_softcap)


def _is_few(model: Transformer, targets: torch.Tensor) -> bool:
    return len(targets) * model.config.vocab_size <= FEW


def _operands(model: Transformer, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """hidden (M, C) and the head's weight (V, C), in the type that autocast gives a matrix product."""
    device, dtype = hidden.device.type, hidden.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    return hidden.to(dtype), model.head_weight.to(dtype)


def _chunks(hidden: torch.Tensor, weight: torch.Tensor) -> list[slice]:
    """The positions (M,) in runs of at most a chunk's logits."""
    entries = CPU_CHUNK if hidden.device.type == "cpu" else DEVICE_CHUNK
    size = max(1, entries // len(weight))
    return [slice(first, first + size) for first in range(0, len(hidden), size)]


def _logits(hidden: torch.Tensor, weight: torch.Tensor, cap: float | None) -> torch.Tensor:
    """hidden (m, C) -> logits (m, V) in float32."""
    logits = linear(hidden, weight).float()
    return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)


def _logprobs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log p of targets (m,): (m,)."""
    return logits.gather(1, targets.unsqueeze(1))[:, 0] - logits.logsumexp(dim=1)


def _gradients(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    cap: float | None,
    scales: torch.Tensor,
    wanted: tuple[bool, ...],
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """log p of each target (M,), and the gradients of sum(scales * log p) by hidden (M, C) and weight (V, C),
    those that are wanted.
    """
    logprobs = torch.empty(len(targets), device=hidden.device)
    by_hidden = torch.empty_like(hidden) if wanted[0] else None
    by_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
    for run in _chunks(hidden, weight):
        logits = _logits(hidden[run], weight, cap)  # (m, V)
        slope = None if cap is None else 1 - (logits / cap) ** 2  # (m, V)
        target, scale = targets[run].unsqueeze(1), scales[run].unsqueeze(1)  # (m, 1) each
        normaliser = logits.logsumexp(dim=1, keepdim=True)  # (m, 1)
        logprobs[run] = (logits.gather(1, target) - normaliser)[:, 0]
        by_logits = logits.sub_(normaliser).exp_().mul_(-scale)  # - scale p, where the logits stood
        by_logits.scatter_add_(1, target, scale)  # scale (1_y - p)
        if slope is not None:
            by_logits.mul_(slope)
        by_logits = by_logits.to(hidden.dtype)
        if by_hidden is not None:
            by_hidden[run] = linear(by_logits, weight.t())
        if by_weight is not None and weight.dtype == torch.float32:
            by_weight.addmm_(by_logits.t(), hidden[run])
        elif by_weight is not None:  # chunks are added up in float32, whatever the products' type
            by_weight += linear(by_logits.t(), hidden[run].t())
    return logprobs, by_hidden, by_weight


class _Loss(torch.autograd.Function):
    """-sum of log p over all targets; its gradient comes with it."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, cap: float | None
    ) -> torch.Tensor:
        scales = torch.full((len(targets),), -1.0, device=hidden.device)
        logprobs, *found = _gradients(hidden, weight, targets, cap, scales, ctx.needs_input_grad)
        ctx.save_for_backward(*found)
        return -logprobs.sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # In place: the weight's gradient is as large as the weight. autograd refuses to come here again.
        return *(None if found is None else found.mul_(upstream) for found in ctx.saved_tensors), None, None


class _Logprobs(torch.autograd.Function):
    """log p of each target (M,); chunks are computed again for the gradient."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, cap: float | None
    ) -> torch.Tensor:
        ctx.save_for_backward(hidden, weight, targets)
        ctx.cap = cap
        runs = _chunks(hidden, weight)
        return torch.cat([_logprobs(_logits(hidden[run], weight, cap), targets[run]) for run in runs])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        _, *found = _gradients(*ctx.saved_tensors, ctx.cap, upstream, ctx.needs_input_grad)
        return *found, None, None
