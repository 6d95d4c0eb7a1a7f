"""The shape of a model and its switches, checked once.

Paper: section 2; the sizes of PaLM 2 are not published.
Choices [P]: what the open families do differently is a field with Llama's value as its default, not a
subclass. architectures.py reads and writes these fields as each family's config.json. Sizes are bounded, far
above any open model, so that a config.json made of wrong numbers ends in one line and not in all the memory.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from mathref.rope import RopeScaling

# Fields of ModelConfig that count something, that are numbers, and that say yes or no.
SIZES = ("vocab_size", "n_layer", "n_head", "n_kv_head", "head_dim", "n_embd", "n_inner", "max_seq_len")
NUMBERS = ("rope_theta", "norm_eps")
OPTIONAL_NUMBERS = ("query_scalar", "attention_softcap", "logit_softcap", "window_rope_theta")
CLAIMS = ("tie_embeddings", "qkv_bias", "qk_norm", "norm_unit_offset", "post_norms", "scale_embedding")
ACTIVATIONS = ("silu", "gelu_tanh")
MAX_LAYERS, MAX_SIZE = 1000, 2**31 - 1
MAX_MATRIX = 2**40  # numbers in one matrix


def _is_count(value: object, most: int = MAX_SIZE) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and switches of a decoder transformer."""

    vocab_size: int
    n_layer: int
    n_head: int  # query heads
    n_kv_head: int  # key and value heads, each shared by n_head / n_kv_head query heads
    head_dim: int
    n_embd: int
    n_inner: int  # width of the feed-forward part
    max_seq_len: int  # context: prompt and completion together, in tokens
    rope_theta: float = 10000.0  # base of the rotary wavelengths
    norm_eps: float = 1e-5
    tie_embeddings: bool = True  # the output head is the input embedding
    family: str = "llama"  # whose files a checkpoint has (architectures.py); nothing is computed from it
    rope_scaling: RopeScaling | None = None  # rotary turns slowed down for a longer context
    qkv_bias: bool = False  # queries, keys and values have biases
    qk_norm: bool = False  # each head's queries and keys are normalised before they are turned
    query_scalar: float | None = None  # scores are divided by its square root; None: head_dim
    attention_softcap: float | None = None  # scores are squeezed into (-cap, cap)
    logit_softcap: float | None = None  # and so are the logits
    sliding_window: int | None = None  # tokens that a windowed layer sees, the current one included
    window_pattern: tuple[bool, ...] = (True,)  # which layers are windowed; repeated over all of them
    window_rope_theta: float | None = None  # rotary base of windowed layers, unscaled; None: as the others
    activation: str = "silu"  # of the gate: one of ACTIVATIONS
    norm_unit_offset: bool = False  # norm weights are stored as their difference from one
    post_norms: bool = False  # what attention and feed-forward add to the stream is normalised, too
    scale_embedding: bool = False  # embeddings are multiplied by the square root of n_embd

    def __post_init__(self) -> None:
        for name in SIZES:
            most = MAX_LAYERS if name == "n_layer" else MAX_SIZE
            self._require(name, _is_count(getattr(self, name), most), f"a whole number from 1 to {most}")
        if (
            widest := max(self.vocab_size, self.n_inner, self.n_head * self.head_dim) * self.n_embd
        ) > MAX_MATRIX:
            raise ValueError(
                f"model config: a matrix of {widest:.0e} numbers, expected at most {MAX_MATRIX:.0e}"
            )
        if self.n_head % self.n_kv_head:
            heads = f"n_head {self.n_head} is not a multiple of n_kv_head {self.n_kv_head}"
            raise ValueError(f"model config: {heads}")
        if self.head_dim % 2:
            raise ValueError(f"model config: head_dim {self.head_dim} is odd, rotary positions need pairs")
        for name in (*NUMBERS, *OPTIONAL_NUMBERS):
            value, absent = getattr(self, name), name in OPTIONAL_NUMBERS and getattr(self, name) is None
            number = isinstance(value, int | float) and not isinstance(value, bool)
            self._require(name, absent or (number and 0 < value <= sys.float_info.max), "a positive number")
        for name in CLAIMS:
            self._require(name, isinstance(getattr(self, name), bool), "true or false")
        window, pattern = self.sliding_window, self.window_pattern
        self._require(
            "sliding_window", window is None or _is_count(window), f"a whole number from 1 to {MAX_SIZE}"
        )
        whole = isinstance(pattern, tuple) and pattern and all(isinstance(value, bool) for value in pattern)
        self._require("window_pattern", bool(whole), "a tuple of true and false")
        self._require("activation", self.activation in ACTIVATIONS, " or ".join(ACTIVATIONS))

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"model config: {name} is {getattr(self, name)!r}, expected {expected}")

    def is_windowed(self, layer: int) -> bool:
        """Whether a layer sees the last sliding_window tokens only."""
        return self.sliding_window is not None and self.window_pattern[layer % len(self.window_pattern)]
