"""Matrix products with weights, in float32 where a CPU cannot multiply bfloat16 numbers.

Paper: none.
Choices [P]: x86 CPUs without AVX-512 emulate bfloat16 products, which take five times as long as those of
float32 (docs/SPEED.md). There the weights stay in bfloat16 and are widened piece by piece; sums were kept in
float32 before, so the result is the same up to the order of the summands. A few rows are faster as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

BFLOAT16_IS_EMULATED = torch.backends.cpu.get_cpu_capability() == "AVX2"
FEW_ROWS = 4  # fewer are limited by reading the weights, of which bfloat16 has half the bytes
PIECE = 2048  # rows of a weight that are widened at a time: they stay in the processor's cache


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x (..., n_in), weight (n_out, n_in), bias (n_out,) -> (..., n_out), as `F.linear`."""
    is_slow = BFLOAT16_IS_EMULATED and x.device.type == "cpu" and x.dtype == weight.dtype == torch.bfloat16
    if not is_slow or x.shape[:-1].numel() < FEW_ROWS:
        return F.linear(x, weight, bias)
    wide = x.float()
    with torch.autocast("cpu", enabled=False):  # which would narrow them again
        pieces = [F.linear(wide, piece.float()) for piece in weight.split(PIECE)]
    y = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)  # (..., n_out)
    return (y if bias is None else y + bias.float()).to(x.dtype)


class Linear(nn.Linear):
    """`nn.Linear` by way of `linear`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., n_in) -> (..., n_out)."""
        return linear(x, self.weight, self.bias)
