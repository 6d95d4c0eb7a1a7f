"""The language model M: a decoder transformer, with the switches of the open families.

Paper: section 2, p_M(x_i | x_<i). PaLM 2 is closed; this is the common open shape: RMSNorm before each part,
rotary positions (rope.py), grouped-query attention, a gated feed-forward part. What the families do
differently is switched by fields of ModelConfig (config.py), whose defaults are Llama's.
Choices [P]: a row's result depends on that row's tokens alone: padding is never attended to, and positions
count real tokens only. Layers with a sliding window keep all keys in the cache and hide the far ones.

Shapes: B batch, T new tokens, S cached and new tokens, C = n_embd, H = n_head, G = n_kv_head, D = head_dim,
V = vocab_size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from mathref.config import ModelConfig
from mathref.kv_cache import KVCache
from mathref.linear import Linear, linear
from mathref.prefix_tree import Group, PrefixTree, attend_by_text
from mathref.rope import RopeScaling, angles, frequencies, rotate

WIDE = 2**20  # entries; keeping smaller arrays for the gradient is faster than computing them again
# What each token attends to: (B or 1, 1, T, S) bool, True = attended to; None = all before it; or, in a row
# that holds a prefix tree, the tree's groups.
Seen: TypeAlias = torch.Tensor | tuple[Group, ...] | None


@dataclass(frozen=True)
class Layout:
    """Where the tokens of one call stand: made once, used by every layer."""

    cos: torch.Tensor  # (B or 1, 1, T, D)
    sin: torch.Tensor
    slots: torch.Tensor | None  # (B, T): where the cache stores them; None without a cache
    visible: Seen
    windowed: Layout | None = None  # what the windowed layers have instead, where there are any


def capped_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    visible: torch.Tensor | None,
    *,
    scale: float,
    cap: float,
) -> torch.Tensor:
    """Attention with scores cap * tanh(score / cap), for which torch has no fused kernel.

    q (B, H, T, D), k and v (B, G, S, D), visible (B or 1, 1, T, S) or None = causal -> (B, H, T, D).
    """
    B, H, T, D = q.shape
    G, S = k.shape[1:3]
    if visible is None:
        visible = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)  # (T, S)
    # The query heads that share a key head stand in a row: no key is copied for them.
    scores = q.reshape(B, G, H // G * T, D) @ k.transpose(2, 3) * scale  # (B, G, H/G * T, S)
    scores = cap * torch.tanh(scores.view(B, H, T, S).float() / cap)
    shares = scores.masked_fill(~visible, -math.inf).softmax(dim=-1).to(v.dtype)  # (B, H, T, S)
    return (shares.view(B, G, H // G * T, S) @ v).view(B, H, T, D)


class UnitOffsetRMSNorm(nn.RMSNorm):
    """RMSNorm whose weight is stored as its difference from one; applied in float32, as Gemma does."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., width) -> (..., width)."""
        weight = 1.0 + self.weight.float()
        return F.rms_norm(x.float(), self.normalized_shape, weight, self.eps).to(x.dtype)


def new_norm(config: ModelConfig, width: int) -> nn.RMSNorm:
    """The family's kind of norm over the last `width` values."""
    return (UnitOffsetRMSNorm if config.norm_unit_offset else nn.RMSNorm)(width, eps=config.norm_eps)


class Attention(nn.Module):
    """Grouped-query causal self-attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = None if config.query_scalar is None else config.query_scalar**-0.5
        self.q = Linear(config.n_embd, config.n_head * config.head_dim, bias=config.qkv_bias)
        self.k = Linear(config.n_embd, config.n_kv_head * config.head_dim, bias=config.qkv_bias)
        self.v = Linear(config.n_embd, config.n_kv_head * config.head_dim, bias=config.qkv_bias)
        self.out = Linear(config.n_head * config.head_dim, config.n_embd, bias=False)
        if config.qk_norm:
            self.q_norm = new_norm(config, config.head_dim)
            self.k_norm = new_norm(config, config.head_dim)

    def forward(self, x: torch.Tensor, layout: Layout, kv_cache: KVCache | None, layer: int) -> torch.Tensor:
        """x (B, T, C) -> (B, T, C)."""
        B, T, _ = x.shape
        config = self.config
        q = self.q(x).view(B, T, config.n_head, config.head_dim).transpose(1, 2)  # (B, H, T, D)
        k = self.k(x).view(B, T, config.n_kv_head, config.head_dim).transpose(1, 2)  # (B, G, T, D)
        v = self.v(x).view(B, T, config.n_kv_head, config.head_dim).transpose(1, 2)  # (B, G, T, D)
        if config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rotate(q, layout.cos, layout.sin), rotate(k, layout.cos, layout.sin)
        if kv_cache is not None:
            assert layout.slots is not None
            k, v = kv_cache.write(layer, k, v, layout.slots)  # (B, G, S, D) each
        k, v = k.to(q.dtype), v.to(q.dtype)
        if isinstance(layout.visible, tuple):
            y = attend_by_text(self._attend, q, k, v, layout.visible)  # (1, H, T, D)
        else:
            y = self._attend(q, k, v, layout.visible)  # (B, H, T, D)
        return self.out(y.transpose(1, 2).reshape(B, T, -1))  # (B, T, C)

    def _attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, visible: torch.Tensor | None
    ) -> torch.Tensor:
        """Shapes as in `capped_attention`."""
        config = self.config
        if config.attention_softcap is not None:
            scale = self.scale or config.head_dim**-0.5
            return capped_attention(q, k, v, visible, scale=scale, cap=config.attention_softcap)
        if q.shape[2] == 1:
            # The query heads that share a key head stand in for query positions: no key is copied for them.
            grouped = q.reshape(len(q), config.n_kv_head, -1, config.head_dim)  # (B, G, H/G, D)
            y = F.scaled_dot_product_attention(grouped, k, v, attn_mask=visible, scale=self.scale)
            return y.reshape(q.shape)
        causal, gqa = visible is None, config.n_kv_head != config.n_head
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=visible, is_causal=causal, scale=self.scale, enable_gqa=gqa
        )


class GatedMLP(nn.Module):
    """Gated feed-forward part: out(activation(gate(x)) * up(x)); SwiGLU with silu, GeGLU with gelu_tanh."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.gate = Linear(config.n_embd, config.n_inner, bias=False)
        self.up = Linear(config.n_embd, config.n_inner, bias=False)
        self.out = Linear(config.n_inner, config.n_embd, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (B, T, C) -> (B, T, C)."""
        gate, up = self.gate(x), self.up(x)  # (B, T, n_inner) each
        if not torch.is_grad_enabled() or gate.numel() < WIDE:
            return self._finish(gate, up)
        # Of the four arrays of this width only these two are kept: the product with `out` is not done again,
        # since checkpointing stops as soon as it has what the gradient needs.
        return checkpoint(self._finish, gate, up, use_reentrant=False, preserve_rng_state=False)

    def _finish(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """gate and up (B, T, n_inner) -> (B, T, C)."""
        gate = F.silu(gate) if self.config.activation == "silu" else F.gelu(gate, approximate="tanh")
        return self.out(gate * up)


class Block(nn.Module):
    """One layer: attention, then feed-forward, each on the normalised stream and added back to it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm_1 = new_norm(config, config.n_embd)
        self.attention = Attention(config)
        self.norm_2 = new_norm(config, config.n_embd)
        self.mlp = GatedMLP(config)
        self.post_norm_1 = new_norm(config, config.n_embd) if config.post_norms else nn.Identity()
        self.post_norm_2 = new_norm(config, config.n_embd) if config.post_norms else nn.Identity()

    def forward(self, x: torch.Tensor, layout: Layout, kv_cache: KVCache | None, layer: int) -> torch.Tensor:
        """x (B, T, C) -> (B, T, C)."""
        x = x + self.post_norm_1(self.attention(self.norm_1(x), layout, kv_cache, layer))
        return x + self.post_norm_2(self.mlp(self.norm_2(x)))


class Transformer(nn.Module):
    """Token ids in, next-token logits out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_layers = False  # recompute each layer in the backward pass: less memory, more time
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = new_norm(config, config.n_embd)
        if not config.tie_embeddings:
            self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Normal with deviation 0.02, less for what is added to the stream 2 n_layer times (GPT-2's rule)."""
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                std = 0.02 / math.sqrt(2 * self.config.n_layer) if name.endswith("out.weight") else 0.02
                weight.normal_(0.0, std)
            elif name.endswith("bias"):
                weight.zero_()

    def forward(
        self, tokens: torch.Tensor, *, mask: torch.Tensor | None = None, kv_cache: KVCache | None = None
    ) -> torch.Tensor:
        """tokens (B, T) int64 -> logits (B, T, V); see `hidden` for the arguments."""
        return self.head(self.hidden(tokens, mask=mask, kv_cache=kv_cache))

    @property
    def head_weight(self) -> torch.Tensor:
        """(V, C): what `head` multiplies with."""
        return self.embedding.weight if self.config.tie_embeddings else self.lm_head.weight

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (..., C) -> logits (..., V), computed in the type of `hidden` if that is wider."""
        cap, weight = self.config.logit_softcap, self.head_weight
        logits = linear(hidden, weight.to(torch.promote_types(weight.dtype, hidden.dtype)))
        return logits if cap is None else cap * torch.tanh(logits / cap)

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
        hides the pads. `layout` (see `tree_layout`) says instead where each token stands and what it sees.
        Raises ValueError for an empty batch, wrong types or ids, more tokens than context or cache can hold.
        """
        if layout is None:
            self._check(tokens, mask, kv_cache)
            layout = self._layout(tokens, mask, kv_cache)
        x = self.embedding(tokens)  # (B, T, C)
        if self.config.scale_embedding:
            # The factor is rounded to the type of the weights, as it was when they were trained.
            x = x * torch.tensor(math.sqrt(self.config.n_embd), dtype=x.dtype)
        for layer, block in enumerate(self.blocks):
            here = layout.windowed if self.config.is_windowed(layer) else layout
            if self.checkpoint_layers and self.training:
                x = checkpoint(block, x, here, kv_cache, layer, use_reentrant=False)
            else:
                x = block(x, here, kv_cache, layer)
        if kv_cache is not None:
            kv_cache.advance(tokens.shape[1] if mask is None else mask.sum(dim=1))
        return self.norm(x)

    def tree_layout(self, tree: PrefixTree) -> Layout:
        """The layout of `tree.tokens`: each token sees the texts' tokens before it that it belongs to.

        Raises ValueError for a text that is longer than the context.
        """
        longest, limit = max(map(len, tree.paths)), self.config.max_seq_len
        if longest > limit:
            raise ValueError(f"a text of {longest} tokens, but the context holds {limit}")
        window = self.config.sliding_window
        near = tree.groups if window is None else tuple(group.within(window) for group in tree.groups)
        return self._arrange(tree.positions, None, tree.groups, near)

    def _layout(self, tokens: torch.Tensor, mask: torch.Tensor | None, kv_cache: KVCache | None) -> Layout:
        """The layout of plain sequences, padded or not."""
        T, device = tokens.shape[1], tokens.device
        if kv_cache is not None:
            positions = kv_cache.lengths[:, None] + torch.arange(T, device=device)  # (B, T)
            keys, slots = torch.arange(kv_cache.longest + T, device=device).unsqueeze(0), positions  # (1, S)
            # A row sees up to its own length: what lies behind, padding or another row's reach, is hidden.
            # Rows that start together need no mask for that, and the next token of a single row sees all.
            plain = kv_cache.longest == 0 or tokens.shape == (1, 1)
            visible = None if plain else keys.unsqueeze(1) <= positions.unsqueeze(2)  # (B, T, S)
        elif mask is None:
            positions = keys = torch.arange(T, device=device).unsqueeze(0)  # (1, T)
            slots = visible = None
        else:
            positions = keys = (mask.long().cumsum(dim=1) - 1).clamp(min=0)  # (B, T)
            square = torch.ones(T, T, dtype=torch.bool, device=device)  # (T, T)
            # A pad sees itself, since a softmax over nothing is not a number.
            itself = torch.eye(T, dtype=torch.bool, device=device)
            slots, visible = None, square.tril() & mask.unsqueeze(1) | itself
        near, window = visible, self.config.sliding_window
        if window is not None and keys.shape[1] > window:  # else it hides nothing, and no mask is faster
            behind = positions.unsqueeze(2) - keys.unsqueeze(1)  # (B, T, S)
            near = (behind >= 0 if visible is None else visible) & (behind < window)
        with_head = (None if seen is None else seen.unsqueeze(1) for seen in (visible, near))  # (B, 1, T, S)
        return self._arrange(positions, slots, *with_head)

    def _arrange(
        self, positions: torch.Tensor, slots: torch.Tensor | None, visible: Seen, near: Seen
    ) -> Layout:
        """Rotary angles of `positions` (B or 1, T), and what the two kinds of layers see."""
        config = self.config

        def turned(theta: float, scaling: RopeScaling | None) -> tuple[torch.Tensor, torch.Tensor]:
            turns = frequencies(config.head_dim, theta, scaling, positions.device)  # (D/2,)
            cos, sin = angles(positions, turns)  # (B, T, D)
            return cos.unsqueeze(1), sin.unsqueeze(1)

        full = Layout(*turned(config.rope_theta, config.rope_scaling), slots, visible)
        if config.sliding_window is None:
            return full
        windowed = replace(full, visible=near)
        if config.window_rope_theta is not None:
            cos, sin = turned(config.window_rope_theta, None)
            windowed = replace(windowed, cos=cos, sin=sin)
        return replace(full, windowed=windowed)

    def _check(self, tokens: torch.Tensor, mask: torch.Tensor | None, kv_cache: KVCache | None) -> None:
        """Raise ValueError for input that `hidden` does not take."""
        shape = tuple(tokens.shape)
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"tokens have shape {shape}, expected (batch, time), each at least 1")
        if tokens.dtype != torch.long:
            raise ValueError(f"tokens are {tokens.dtype}, expected int64")
        if tokens.is_cpu and not 0 <= tokens.min() <= tokens.max() < self.config.vocab_size:
            raise ValueError(f"a token id is not within 0 to {self.config.vocab_size - 1}")
        if mask is not None and (mask.shape != tokens.shape or mask.dtype != torch.bool):
            raise ValueError(
                f"mask is {mask.dtype} {tuple(mask.shape)}, expected bool {shape}, as the tokens"
            )
        seen, limit = 0, self.config.max_seq_len
        if kv_cache is not None:
            seen, limit = kv_cache.longest, min(kv_cache.max_len, limit)
            if mask is not None and (mask[:, 1:] & ~mask[:, :-1]).any():
                raise ValueError("with a cache, padding must stand on the right")
        if seen + shape[1] > limit:
            raise ValueError(f"{seen} + {shape[1]} tokens, but the context or the cache holds {limit}")


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
