"""One decoding step on a GPU, recorded once as a CUDA graph and replayed.

Paper: none.
Choices [P]: a step of decoding is hundreds of small kernels, and a GPU finishes them sooner than Python can
start them one by one; a graph starts all of them at once. What is recorded has fixed shapes and addresses, so
the batch is padded: up to a quarter more rows, which belong to nobody, and keys up to the next multiple of
64, which each row's mask hides. A shape is computed step by step when it is first met, which also makes CUDA
load what the recording needs, and recorded when it is met again: one that a batch only passes through is not
worth a recording. Both ways run the same kernels on the same padded batch, so a result does not depend on
which it was. A sharded model, whose weights are gathered layer by layer, is never recorded, and neither is
anything on another device, where nothing is padded either.

Shapes: B rows of the batch, C = n_embd.
"""

from __future__ import annotations

import contextlib
import copy

import torch

from mathref.distributed import is_sharded
from mathref.kv_cache import KVCache
from mathref.model import Transformer

KEYS = 64  # the number of keys is padded to a multiple of this


def padded_rows(rows: int) -> int:
    """The next number that has at most three binary digits before its zeros: at most a quarter above.

    Two at least, since the model lets a row that is alone see all keys.
    """
    rows = max(2, rows)
    unit = 2 ** max(0, rows.bit_length() - 3)
    return -(-rows // unit) * unit


class DecodingStep:
    """`model.hidden` of one more token a row, with the cache of one decoding loop."""

    def __init__(self, model: Transformer, cache: KVCache, *, pad: bool | None = None) -> None:
        """`pad`: whether the batch is padded, by default where steps are recorded."""
        self.model, self.cache = model, cache
        self.records = cache.lengths.is_cuda and not any(map(is_sharded, model.parameters()))
        self.pad = self.records if pad is None else pad
        self._home: torch.Tensor | None = None  # of the cache that all addresses are from

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens (B,) int64, one a row of the cache -> the normalised stream (B, C), until the next call."""
        cache = self.cache
        if not self.pad:
            return self.model.hidden(tokens.unsqueeze(1), kv_cache=cache)[:, -1]
        B = len(tokens)
        keys = -(-(cache.longest + 1) // KEYS) * KEYS
        shape = padded_rows(B), min(keys, cache.max_len)
        cache.reserve(shape[0])
        if cache.k[0] is not self._home:
            self._move_in()
        for held, new in ((self._tokens, tokens.unsqueeze(1)), (self._lengths, cache.lengths)):
            held[:B] = new
            held[B : shape[0]] = 0
        if self.records and shape in self._graphs:
            graph, hidden = self._graphs[shape] = self._graphs[shape] or self._record(*shape)
            graph.replay()
        else:
            self._graphs[shape] = None  # met
            hidden = self._hidden(*shape)
        cache.advance(1)
        return hidden[:B]

    def _move_in(self) -> None:
        """Begin anew with a cache that lies elsewhere; what no row has written must be numbers, too."""
        cache = self.cache
        self._home = cache.k[0]
        self._graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, torch.Tensor] | None] = {}
        self._pool = torch.cuda.graph_pool_handle() if self.records else None
        room = len(cache.k[0])
        self._tokens = cache.lengths.new_zeros(room, 1)
        self._lengths = cache.lengths.new_zeros(room)
        for tensor in (*cache.k, *cache.v):
            tensor[len(cache.lengths) :] = 0
            tensor[:, :, cache.longest :] = 0

    def _hidden(self, rows: int, keys: int) -> torch.Tensor:
        """The step of the padded batch: (rows, C)."""
        padded = copy.copy(self.cache)  # the same memory
        padded.lengths, padded.longest = self._lengths[:rows], keys - 1
        return self.model.hidden(self._tokens[:rows], kv_cache=padded)[:, -1]

    def _record(self, rows: int, keys: int) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        """The graph of `_hidden`, and where each replay leaves the result."""
        # torch.cuda.graph also collects garbage and empties the allocator: that takes longer than all else.
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                hidden = self._hidden(rows, keys)
            except BaseException:  # out of memory, say: that is told, not that a recording broke off
                with contextlib.suppress(RuntimeError):
                    graph.capture_end()
                raise
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)
        return graph, hidden
