"""What any engine is asked for: decoding options, the seed of each sample, and where its text ends.

Paper: section 5, the greedy solution behind Pass@1 and N = 64 nucleus samples (top-p 0.95 [Q]).
Choices: temperature is 0.9 by default [Q], the length limit 256 tokens [P]: both are arguments. The seed of a
sample is a digest of (seed, problem id, sample index) [P]: it depends on nothing else, so not on the batch,
the order or the number of samples. No torch here: a server is asked without it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class SampleConfig:
    """Decoding options, checked once."""

    n: int = 64  # completions per prompt
    temperature: float = 0.9  # 0: greedy
    top_p: float = 0.95  # nucleus mass, 1: off
    top_k: int = 0  # most probable tokens kept, 0: off
    max_new_tokens: int = 256
    seed: int = 0
    stop: tuple[str, ...] = ()  # strings that end a completion
    batch_rows: int = 256  # completions decoded side by side; equal beginnings are one row

    def __post_init__(self) -> None:
        bounds = [
            ("n", self.n >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < math.inf, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1 (off)"),
            ("top_k", self.top_k >= 0, "0 (off) or more"),
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("stop", all(self.stop), "without empty strings"),
            ("batch_rows", self.batch_rows >= 1, "at least 1"),
        ]
        for name, holds, allowed in bounds:
            if not holds:
                flag = name if name == "stop" else f"--{name.replace('_', '-')}"
                raise ValueError(f"{flag} must be {allowed}, got {getattr(self, name)!r}")

    @property
    def n_distinct(self) -> int:
        """How many completions of a prompt have to be decoded: greedy ones are all equal."""
        return 1 if self.temperature == 0 else self.n


class Written(Protocol):
    """What an engine answers with, for each sample."""

    @property
    def text(self) -> str: ...

    @property
    def n_tokens(self) -> int | None:
        """Tokens that the model wrote, EOS and stop string included; None: the engine did not say."""

    @property
    def logprob(self) -> float | None:
        """Log-probability of these tokens; None: the engine did not say."""

    @property
    def finish_reason(self) -> str: ...


def sample_seed(seed: int, problem_id: str, index: int) -> int:
    """63 bits from (seed, problem id, sample index) alone."""
    digest = hashlib.sha256(f"{seed}\0{index}\0{problem_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text up to the first stop string in it."""
    return text[: min((at for string in stop if (at := text.find(string)) >= 0), default=len(text))]
