"""Rotary positions: the angles by which a token's place turns its queries and keys.

Paper: section 2, the positions of x_i. Su et al. (arXiv 2104.09864): pair i of a head turns by
position * theta ** (-2 i / D). Contexts longer than those of pre-training are reached by slower turns: all
of them ("linear", Chen et al., arXiv 2306.15595), or the slow ones only ("llama3", Llama 3.1 and later).
Choices [P]: pairs are (i, i + D / 2), as in Hugging Face checkpoints; angles are float32 in every model.

Shapes: B batch, T tokens, D = head_dim.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import torch

SCALINGS = ("linear", "llama3")


@dataclass(frozen=True)
class RopeScaling:
    """How the turns were slowed; the last three fields are llama3's alone."""

    kind: str  # one of SCALINGS
    factor: float  # how many times slower
    low_freq_factor: float = 1.0  # fully slowed: fewer turns than this in the original context
    high_freq_factor: float = 4.0  # left alone: more turns than this; in between, something in between
    original_max_seq_len: int = 8192  # the original context, in tokens

    def __post_init__(self) -> None:
        if self.kind not in SCALINGS:
            raise ValueError(f"rope scaling: kind is {self.kind!r}, supported: {', '.join(SCALINGS)}")
        for name in ("factor", "low_freq_factor", "high_freq_factor", "original_max_seq_len"):
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not 0 < value <= sys.float_info.max
            ):
                raise ValueError(f"rope scaling: {name} is {value!r}, expected a positive number")
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(
                f"rope scaling: low_freq_factor {self.low_freq_factor} is not below "
                f"high_freq_factor {self.high_freq_factor}"
            )


def frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None = None, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Angle per position of each pair: (D/2,) float32."""
    pairs = torch.arange(0, head_dim, 2, device=device)  # (D/2,)
    plain = 1.0 / theta ** (pairs.float() / head_dim)  # (D/2,)
    if scaling is None:
        return plain
    if scaling.kind == "linear":
        return plain / scaling.factor
    turns = scaling.original_max_seq_len * plain / (2 * math.pi)  # within the original context
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * plain / scaling.factor + kept * plain


def angles(positions: torch.Tensor, frequencies: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine (..., D) of positions (...), always in float32: bfloat16 has no 257."""
    half = positions.float().unsqueeze(-1) * frequencies  # (..., D/2)
    both = torch.cat((half, half), dim=-1)  # (..., D)
    return both.cos(), both.sin()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair (x_i, x_{i + D/2}) by its position's angle; x (B, heads, T, D), computed in float32."""
    first, second = x.float().chunk(2, dim=-1)  # (B, heads, T, D/2) each
    turned = torch.cat((-second, first), dim=-1)  # (B, heads, T, D)
    return (x.float() * cos + turned * sin).to(x.dtype)
