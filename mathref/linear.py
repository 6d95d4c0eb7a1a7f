"""Matrix products with weights, in the form that a CPU is fast at.

Paper: none.
Choices [P], measured in docs/SPEED.md; results are the same up to the order of the summands.
Few rows, as in sampling: MKL uses the cores better if the weight stands on the left, x W^T = (W x^T)^T, and
the result of a large vocabulary, turned over in pieces, stays in the cache. Of a single row it makes no
parallel work, so there the weight is handed over in parts.
bfloat16: x86 CPUs without AVX-512 emulate its products, which take five times as long as those of float32.
There the weights stay in bfloat16 and are widened piece by piece; sums were kept in float32 before.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

FEW_ROWS = 32 if torch.backends.mkl.is_available() else 0  # from 64 on both forms are equally fast ...
FEW_OF_A_VOCABULARY = 4 * FEW_ROWS  # ... and from 256 on with a weight of more than one piece
PARTS = 8  # of the weight that a single row meets
BFLOAT16_IS_EMULATED = torch.backends.cpu.get_cpu_capability() == "AVX2"
PLAIN_ROWS = 3  # so few are limited by reading the weights, of which bfloat16 has half the bytes
PIECE = 2048  # rows of a weight that are taken at a time: what is made of them stays in the processor's cache


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x (..., n_in), weight (n_out, n_in), bias (n_out,) -> (..., n_out), as `F.linear`."""
    if x.device.type != "cpu":
        return F.linear(x, weight, bias)
    if x.dtype != torch.bfloat16:
        return _product(x, weight, bias)
    is_slow = BFLOAT16_IS_EMULATED and weight.dtype == torch.bfloat16
    if not is_slow or x.shape[:-1].numel() <= PLAIN_ROWS:
        return F.linear(x, weight, bias)
    wide = x.float()
    with torch.autocast("cpu", enabled=False):  # which would narrow them again
        y = torch.cat([_product(wide, piece.float(), None) for piece in weight.split(PIECE)], dim=-1)
    return (y if bias is None else y + bias.float()).to(x.dtype)


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Shapes as in `linear`."""
    n_out, n_in = weight.shape
    n_rows = x.numel() // n_in
    if n_rows == 1 and FEW_ROWS and n_out % PARTS == 0 and weight.is_contiguous():
        # The transpose of a row: a column that is made as one has no stride that MKL takes.
        column = x.reshape(1, n_in).t().expand(PARTS, n_in, 1)
        y = torch.bmm(weight.view(PARTS, n_out // PARTS, n_in), column)  # (PARTS, n_out / PARTS, 1)
    elif 1 < n_rows <= (FEW_ROWS if n_out <= PIECE else FEW_OF_A_VOCABULARY):
        columns = x.reshape(n_rows, n_in).t()  # (n_in, R)
        y = torch.cat([(piece @ columns).t() for piece in weight.split(PIECE)], dim=1)  # (R, n_out)
    else:
        return F.linear(x, weight, bias)
    y = y.view(*x.shape[:-1], n_out)
    return y if bias is None else y + bias.to(y.dtype)


class Linear(nn.Linear):
    """`nn.Linear` by way of `linear`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., n_in) -> (..., n_out)."""
        return linear(x, self.weight, self.bias)


def product_type(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """`dtype`, but float32 on a CPU that emulates bfloat16 (see above): faster there, and finer."""
    return torch.float32 if device.type == "cpu" and BFLOAT16_IS_EMULATED else dtype
