"""The language model M: a decoder transformer of the Llama shape, and the cache that makes sampling cheap.

Paper: section 2, p_M(x_i | x_<i). PaLM 2 is closed; this is the common open shape: RMSNorm before each part,
rotary positions (Su et al., arXiv 2104.09864), grouped-query attention, SwiGLU, no biases, input and output
embedding tied or not.
Choices [P]: rotary pairs are (i, i + head_dim / 2), as in Hugging Face checkpoints. A row's result depends on
that row's tokens alone: padding is never attended to, and positions count real tokens only.

Shapes: B batch, T new tokens, S cached tokens, C = n_embd, H = n_head, G = n_kv_head, D = head_dim,
V = vocab_size.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

# Fields of ModelConfig that count something.
SIZES = ("vocab_size", "n_layer", "n_head", "n_kv_head", "head_dim", "n_embd", "n_inner", "max_seq_len")


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model; weights.py reads and writes it as config.json."""

    vocab_size: int
    n_layer: int
    n_head: int  # query heads
    n_kv_head: int  # key and value heads, each shared by n_head / n_kv_head query heads
    head_dim: int
    n_embd: int
    n_inner: int  # width of the SwiGLU part
    max_seq_len: int  # context: prompt and completion together, in tokens
    rope_theta: float = 10000.0  # base of the rotary wavelengths
    norm_eps: float = 1e-5
    tie_embeddings: bool = True  # the output head is the input embedding

    def __post_init__(self) -> None:
        for name in SIZES:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"model config: {name} is {value!r}, expected a whole number of at least 1")
        if self.n_head % self.n_kv_head:
            heads = f"n_head {self.n_head} is not a multiple of n_kv_head {self.n_kv_head}"
            raise ValueError(f"model config: {heads}")
        if self.head_dim % 2:
            raise ValueError(f"model config: head_dim {self.head_dim} is odd, rotary positions need pairs")
        for name in ("rope_theta", "norm_eps"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ValueError(f"model config: {name} is {value!r}, expected a positive number")
        if not isinstance(self.tie_embeddings, bool):
            raise ValueError(
                f"model config: tie_embeddings is {self.tie_embeddings!r}, expected true or false"
            )


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
        self.longest = 0  # of `lengths`, kept on the host so that no step waits for the device
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

    def advance(self, counts: torch.Tensor | int, longest: int) -> None:
        """Count the new real tokens of each row, once all layers have written them."""
        self.lengths += counts
        self.longest = longest

    def repeat(self, n: int) -> KVCache:
        """A cache with every row n times in succession: n candidates continue one prefilled problem."""
        cache = copy(self)
        cache.select(torch.arange(len(self.lengths), device=self.lengths.device).repeat_interleave(n))
        return cache

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
        if B > len(self.k[0]):  # twice the room, so that a batch that grows is copied now and then only
            self._move(torch.arange(len(self.lengths), device=target.device), 2 * B)
        for tensor in (*self.k, *self.v):
            tensor[target, :, : self.longest] = tensor[source, :, : self.longest]
        lengths = F.pad(self.lengths, (0, B - len(self.lengths)))
        lengths[target] = lengths[source]
        self.lengths = lengths

    def _move(self, rows: torch.Tensor, capacity: int) -> None:
        """Put `rows` first in new tensors with room for `capacity` rows; only what is filled is copied."""
        self.k, self.v = (
            [self._moved(old, rows, capacity) for old in tensors] for tensors in (self.k, self.v)
        )

    def _moved(self, old: torch.Tensor, rows: torch.Tensor, capacity: int) -> torch.Tensor:
        new = old.new_zeros(capacity, *old.shape[1:])
        new[: len(rows), :, : self.longest] = old[rows, :, : self.longest]
        return new


@dataclass(frozen=True)
class Layout:
    """Where the tokens of one call stand: made once, used by every layer."""

    cos: torch.Tensor  # (T, D) or (B, 1, T, D)
    sin: torch.Tensor
    slots: torch.Tensor | None  # (B, T): where the cache stores them; None without a cache
    visible: torch.Tensor | None  # (B, 1, T, S) bool, True = attended to; None = plain causal attention


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair (x_i, x_{i + D/2}) by its position's angle; x (B, heads, T, D), computed in float32."""
    first, second = x.float().chunk(2, dim=-1)  # (B, heads, T, D/2) each
    turned = torch.cat((-second, first), dim=-1)  # (B, heads, T, D)
    return (x.float() * cos + turned * sin).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query causal self-attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.q = nn.Linear(config.n_embd, config.n_head * config.head_dim, bias=False)
        self.k = nn.Linear(config.n_embd, config.n_kv_head * config.head_dim, bias=False)
        self.v = nn.Linear(config.n_embd, config.n_kv_head * config.head_dim, bias=False)
        self.out = nn.Linear(config.n_head * config.head_dim, config.n_embd, bias=False)

    def forward(self, x: torch.Tensor, layout: Layout, kv_cache: KVCache | None, layer: int) -> torch.Tensor:
        """x (B, T, C) -> (B, T, C)."""
        B, T, _ = x.shape
        config = self.config
        q = self.q(x).view(B, T, config.n_head, config.head_dim).transpose(1, 2)  # (B, H, T, D)
        k = self.k(x).view(B, T, config.n_kv_head, config.head_dim).transpose(1, 2)  # (B, G, T, D)
        v = self.v(x).view(B, T, config.n_kv_head, config.head_dim).transpose(1, 2)  # (B, G, T, D)
        q, k = rotate(q, layout.cos, layout.sin), rotate(k, layout.cos, layout.sin)
        if kv_cache is not None:
            assert layout.slots is not None
            k, v = kv_cache.write(layer, k, v, layout.slots)  # (B, G, S, D) each
        if T == 1:
            # The query heads that share a key head stand in for query positions: no key is copied for them.
            q = q.view(B, config.n_kv_head, -1, config.head_dim)  # (B, G, H/G, D)
            y = F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), attn_mask=layout.visible)
            return self.out(y.reshape(B, 1, -1))
        y = F.scaled_dot_product_attention(
            q,
            k.to(q.dtype),
            v.to(q.dtype),
            attn_mask=layout.visible,
            is_causal=layout.visible is None,
            enable_gqa=config.n_kv_head != config.n_head,
        )  # (B, H, T, D)
        return self.out(y.transpose(1, 2).reshape(B, T, -1))  # (B, T, C)


class SwiGLU(nn.Module):
    """Gated feed-forward part: out(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.n_embd, config.n_inner, bias=False)
        self.up = nn.Linear(config.n_embd, config.n_inner, bias=False)
        self.out = nn.Linear(config.n_inner, config.n_embd, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (B, T, C) -> (B, T, C)."""
        return self.out(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """One layer: attention, then feed-forward, each on the normalised stream and added back to it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm_1 = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        self.attention = Attention(config)
        self.norm_2 = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        self.mlp = SwiGLU(config)

    def forward(self, x: torch.Tensor, layout: Layout, kv_cache: KVCache | None, layer: int) -> torch.Tensor:
        """x (B, T, C) -> (B, T, C)."""
        x = x + self.attention(self.norm_1(x), layout, kv_cache, layer)
        return x + self.mlp(self.norm_2(x))


class Transformer(nn.Module):
    """Token ids in, next-token logits out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_layers = False  # recompute each layer in the backward pass: less memory, more time
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        if not config.tie_embeddings:
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Normal with deviation 0.02, less for what is added to the stream 2 n_layer times (GPT-2's rule)."""
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                std = 0.02 / math.sqrt(2 * self.config.n_layer) if name.endswith("out.weight") else 0.02
                weight.normal_(0.0, std)

    def forward(
        self, tokens: torch.Tensor, *, mask: torch.Tensor | None = None, kv_cache: KVCache | None = None
    ) -> torch.Tensor:
        """tokens (B, T) int64 -> logits (B, T, V); see `hidden` for the arguments."""
        return self.head(self.hidden(tokens, mask=mask, kv_cache=kv_cache))

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (..., C) -> logits (..., V)."""
        return F.linear(hidden, self.embedding.weight if self.config.tie_embeddings else self.lm_head.weight)

    def hidden(
        self,
        tokens: torch.Tensor,
        *,
        mask: torch.Tensor | None = None,
        kv_cache: KVCache | None = None,
        layout: Layout | None = None,
    ) -> torch.Tensor:
        """tokens (B, T) int64 -> the normalised stream (B, T, C) that `head` reads.

        mask (B, T) bool, True = real token: padding may stand on either side, with a cache on the right only.
        What comes out at padding is meaningless. Without a mask, right-padded rows are right too: causality
        hides the pads. `layout` (see `free_layout`) says instead where each token stands and what it sees.
        Raises ValueError for an empty batch, wrong types, or more tokens than the context or
        the cache can hold.
        """
        self._check(tokens, mask, kv_cache)
        layout = self._layout(tokens, mask, kv_cache) if layout is None else layout
        x = self.embedding(tokens)  # (B, T, C)
        for layer, block in enumerate(self.blocks):
            if self.checkpoint_layers and self.training:
                x = checkpoint(block, x, layout, kv_cache, layer, use_reentrant=False)
            else:
                x = block(x, layout, kv_cache, layer)
        if kv_cache is not None:
            counts = tokens.shape[1] if mask is None else mask.sum(dim=1)  # (B,)
            longest = kv_cache.longest + tokens.shape[1]
            kv_cache.advance(counts, longest)
        return self.norm(x)

    def free_layout(
        self, positions: torch.Tensor, visible: torch.Tensor, *, kv_cache: KVCache | None = None
    ) -> Layout:
        """Rows that are no plain sequences, such as two continuations of one text side by side.

        positions (B, T) are those that the rotary angles use, and two tokens may share one; visible
        (B, T, S) bool is True where a token attends to one of the S cached and new ones. The cache stores the
        new tokens behind its longest row, in the order in which they come.
        """
        cos, sin = self._angles(positions)  # (B, T, D)
        slots = None
        if kv_cache is not None:
            slots = kv_cache.longest + torch.arange(positions.shape[1], device=positions.device)
            slots = slots.expand(positions.shape)  # (B, T)
        return Layout(cos.unsqueeze(1), sin.unsqueeze(1), slots, visible.unsqueeze(1))

    def _layout(self, tokens: torch.Tensor, mask: torch.Tensor | None, kv_cache: KVCache | None) -> Layout:
        """Positions, rotary angles and visibility for this call."""
        T, device = tokens.shape[1], tokens.device
        if mask is None and kv_cache is None:
            cos, sin = self._angles(torch.arange(T, device=device))  # (T, D)
            return Layout(cos, sin, None, None)
        if kv_cache is None:
            assert mask is not None
            positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)  # (B, T)
            square = torch.ones(T, T, dtype=torch.bool, device=device)  # (T, T)
            # A pad sees itself, since a softmax over nothing is not a number.
            itself = torch.eye(T, dtype=torch.bool, device=device)
            visible = square.tril() & mask[:, None, None, :] | itself  # (B, 1, T, T)
        else:
            positions = kv_cache.lengths[:, None] + torch.arange(T, device=device)  # (B, T)
            # A row sees up to its own length: what lies behind, padding or another row's reach, is hidden.
            reach = torch.arange(kv_cache.longest + T, device=device)  # (S,)
            visible = reach <= positions[:, None, :, None]  # (B, 1, T, S)
        cos, sin = self._angles(positions)  # (B, T, D)
        return Layout(cos.unsqueeze(1), sin.unsqueeze(1), positions, visible)

    def _check(self, tokens: torch.Tensor, mask: torch.Tensor | None, kv_cache: KVCache | None) -> None:
        """Raise ValueError for input that `hidden` does not take."""
        shape = tuple(tokens.shape)
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"tokens have shape {shape}, expected (batch, time), each at least 1")
        if tokens.dtype != torch.long:
            raise ValueError(f"tokens are {tokens.dtype}, expected int64")
        if mask is not None and (mask.shape != tokens.shape or mask.dtype != torch.bool):
            raise ValueError(
                f"mask is {mask.dtype} {tuple(mask.shape)}, expected bool {shape} like the tokens"
            )
        seen, limit = 0, self.config.max_seq_len
        if kv_cache is not None:
            seen, limit = kv_cache.longest, min(kv_cache.max_len, limit)
            if mask is not None and (mask[:, 1:] & ~mask[:, :-1]).any():
                raise ValueError("with a cache, padding must stand on the right")
        if seen + shape[1] > limit:
            raise ValueError(f"{seen} + {shape[1]} tokens, but the context or the cache holds {limit}")

    def _angles(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine (..., D) of positions (...), always in float32: bfloat16 has no 257."""
        pairs = torch.arange(0, self.config.head_dim, 2, device=positions.device)  # (D/2,)
        frequencies = 1.0 / self.config.rope_theta ** (pairs.float() / self.config.head_dim)  # (D/2,)
        angles = positions.float().unsqueeze(-1) * frequencies  # (..., D/2)
        angles = torch.cat((angles, angles), dim=-1)  # (..., D)
        return angles.cos(), angles.sin()


def with_more_layers(model: Transformer, n: int) -> Transformer:
    """A model that computes the same and has `n` more layers on top.

    What a new layer adds to the stream is zero until it is trained, since its output matrices are.
    """
    deeper = Transformer(replace(model.config, n_layer=model.config.n_layer + n))
    with torch.no_grad():
        for block in deeper.blocks[model.config.n_layer :]:
            block.attention.out.weight.zero_()
            block.mlp.out.weight.zero_()
    deeper.load_state_dict(model.state_dict(), strict=False)
    return deeper
