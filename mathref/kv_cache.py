"""The cache that makes sampling cheap: keys and values of the tokens that a model has seen.

Paper: section 5, N solutions of one problem: its prompt is computed once and its rows are copied.
Choices [P]: one slot per token and layer, in layers with a sliding window too; the model hides the far ones.

Shapes: B batch, T new tokens, S cached and new tokens, G = n_kv_head, D = head_dim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mathref.config import ModelConfig


class KVCache:
    """Keys and values of the tokens seen so far; every row has its own length and no gaps.

    Layer by layer `k` and `v` are (rows, G, max_len, D), of which the first B rows are in use; `lengths` (B,)
    counts the real tokens of a row. A row's new tokens are written behind its own old ones, so rows of
    different lengths share a batch.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        max_len: int,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> None:
        shape = (batch_size, config.n_kv_head, max_len, config.head_dim)
        self.k = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layer)]
        self.v = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layer)]
        self.lengths = torch.zeros(batch_size, dtype=torch.long, device=device)
        self.longest = 0  # of `lengths`, known on the host so that no decoding step waits for the device
        self.max_len = max_len

    def write(
        self, layer: int, k: torch.Tensor, v: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store k, v (B, G, T, D) at `positions` (B, T); return both up to the longest row (B, G, S, D)."""
        rows = torch.arange(len(positions), device=positions.device).unsqueeze(1)  # (B, 1)
        self.k[layer][rows, :, positions] = k.transpose(1, 2).to(self.k[layer].dtype)  # (B, T, G, D)
        self.v[layer][rows, :, positions] = v.transpose(1, 2).to(self.v[layer].dtype)
        B, end = len(positions), self.longest + positions.shape[1]
        return self.k[layer][:B, :, :end], self.v[layer][:B, :, :end]

    def advance(self, counts: torch.Tensor | int) -> None:
        """Count the new real tokens, of each row (B,) or of every row, once all layers have written them."""
        self.lengths += counts
        self.longest = self.longest + counts if isinstance(counts, int) else int(self.lengths.max())

    def select(self, rows: torch.Tensor) -> None:
        """Keep `rows` only: finished sequences leave the batch, and what only they reached is cut off."""
        self._move(rows, len(rows))
        self.lengths = self.lengths[rows]
        self.longest = int(self.lengths.max()) if len(rows) else 0

    def copy_rows(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Make the rows `target` copies of the rows `source`; rows beyond the last one become new ones."""
        if not len(source):
            return
        B = max(len(self.lengths), int(target.max()) + 1)
        self._make_room(B)
        for tensor in (*self.k, *self.v):
            tensor[target, :, : self.longest] = tensor[source, :, : self.longest]
        lengths = F.pad(self.lengths, (0, B - len(self.lengths)))
        lengths[target] = lengths[source]
        self.lengths = lengths

    def extend(self, other: KVCache) -> None:
        """Append the rows of `other`, a cache of the same model and the same max_len."""
        B, n = len(self.lengths), len(other.lengths)
        if not B:
            self.k, self.v = other.k, other.v
            self.lengths, self.longest = other.lengths, other.longest
            return
        self._make_room(B + n)
        for own, new in zip((*self.k, *self.v), (*other.k, *other.v), strict=True):
            own[B : B + n, :, : other.longest] = new[:n, :, : other.longest]
        self.lengths = torch.cat((self.lengths, other.lengths))
        self.longest = max(self.longest, other.longest)

    def _make_room(self, rows: int) -> None:
        room = len(self.k[0])
        if rows > room:  # twice the room, so that a batch that grows is copied now and then only
            self._move(torch.arange(len(self.lengths), device=self.lengths.device), max(rows, 2 * room))

    def _move(self, rows: torch.Tensor, capacity: int) -> None:
        """Put `rows` first in new tensors with room for `capacity` rows; only what is filled is copied."""
        self.k, self.v = (
            [self._moved(old, rows, capacity) for old in tensors] for tensors in (self.k, self.v)
        )

    def _moved(self, old: torch.Tensor, rows: torch.Tensor, capacity: int) -> torch.Tensor:
        new = old.new_zeros(capacity, *old.shape[1:])
        new[: len(rows), :, : self.longest] = old[rows, :, : self.longest]
        return new
