"""The cache that makes sampling cheap: keys and values of the tokens that a model has seen.

Paper: section 5, N solutions of one problem: its prompt is computed once and its rows are copied.
Choices [P]: one slot per token and layer, in layers with a sliding window too; the model hides the far ones.

Shapes: B batch, T new tokens, S cached and new tokens, G = n_kv_head, D = head_dim.
"""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F

from mathref.config import ModelConfig


class KVCache:
    """Keys and values of the tokens seen so far; every row has its own length and no gaps.

    Layer by layer `k` and `v` are (rows, G, max_len, D), of which the first B rows are in use; `lengths` (B,)
    counts the real tokens of a row. A row's new tokens are written behind its own old ones, so rows of
    different lengths share a batch. What a row has behind its own tokens, up to the longest row, is hidden
    from it but read, so numbers stand there; all else is memory that nobody has touched.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        max_len: int,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        most_rows: int = sys.maxsize,
    ) -> None:
        """`most_rows`: it is not going to grow beyond that, so that no memory is taken for more."""
        shape = (batch_size, config.n_kv_head, max_len, config.head_dim)
        self.k = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.n_layer)]
        self.v = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.n_layer)]
        self.lengths = torch.zeros(batch_size, dtype=torch.long, device=device)
        self.longest = 0  # of `lengths`, known on the host so that no decoding step waits for the device
        self.max_len, self.most_rows = max_len, most_rows

    def write(
        self, layer: int, k: torch.Tensor, v: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store k, v (B, G, T, D) at `positions` (B, T); return both up to the longest row (B, G, S, D)."""
        B, end = len(positions), self.longest + positions.shape[1]
        rows = torch.arange(B, device=positions.device).unsqueeze(1)  # (B, 1)
        for cache, new in ((self.k[layer], k), (self.v[layer], v)):
            cache[:B, :, self.longest : end] = 0  # where a shorter row has no token
            cache[rows, :, positions] = new.transpose(1, 2).to(cache.dtype)  # (B, T, G, D)
        return self.k[layer][:B, :, :end], self.v[layer][:B, :, :end]

    def advance(self, counts: torch.Tensor | int) -> None:
        """Count the new real tokens, of each row (B,) or of every row, once all layers have written them."""
        self.lengths += counts
        self.longest = self.longest + counts if isinstance(counts, int) else int(self.lengths.max())

    def select(self, rows: torch.Tensor) -> None:
        """Keep `rows` only: finished sequences leave the batch, and what only they reached is cut off."""
        self.reserve(len(rows))
        for tensor in (*self.k, *self.v):  # what is left behind them stays, and stays hidden
            tensor[: len(rows), :, : self.longest] = tensor[rows, :, : self.longest]
        self.lengths = self.lengths[rows]
        self.longest = int(self.lengths.max()) if len(rows) else 0

    def copy_rows(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Make the rows `target` copies of the rows `source`; rows beyond the last one become new ones."""
        if not len(source):
            return
        B = max(len(self.lengths), int(target.max()) + 1)
        self.reserve(B)
        for tensor in (*self.k, *self.v):
            tensor[target, :, : self.longest] = tensor[source, :, : self.longest]
        lengths = F.pad(self.lengths, (0, B - len(self.lengths)))
        lengths[target] = lengths[source]
        self.lengths = lengths

    def extend(self, other: KVCache) -> None:
        """Append the rows of `other`, a cache of the same model and the same max_len."""
        B, n = len(self.lengths), len(other.lengths)
        if not B and n > len(self.k[0]):
            self.k, self.v = other.k, other.v
            self.lengths, self.longest = other.lengths, other.longest
            return
        self.reserve(B + n)
        longest = max(self.longest, other.longest)
        for own, new in zip((*self.k, *self.v), (*other.k, *other.v), strict=True):
            own[:B, :, self.longest : longest] = 0
            own[B : B + n, :, : other.longest] = new[:n, :, : other.longest]
            own[B : B + n, :, other.longest : longest] = 0
        self.lengths, self.longest = torch.cat((self.lengths, other.lengths)), longest

    def reserve(self, rows: int) -> None:
        """Have memory for `rows` rows; what the rows in use hold stays."""
        room, B = len(self.k[0]), len(self.lengths)
        if rows <= room:
            return
        # Twice the room, so that a batch that grows is copied now and then only.
        room = max(rows, min(2 * room, self.most_rows))
        for tensors in (self.k, self.v):
            for layer, old in enumerate(tensors):
                tensors[layer] = old.new_empty(room, *old.shape[1:])
                tensors[layer][:B, :, : self.longest] = old[:B, :, : self.longest]
