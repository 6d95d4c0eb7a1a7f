"""N completions per prompt with a KV cache: greedy, temperature, top-k and nucleus sampling.

Paper: the greedy solution behind Pass@1 and the N = 64 nucleus samples (top-p 0.95 [Q]) behind Maj1@64,
MajK@64 and Pass@64 of Tables 2 to 7.
Choices: temperature is 0.9 by default [Q], the length limit 256 tokens [P]: both are arguments. Temperature
comes first, then top-k, then top-p on what top-k left. The log-probability of a completion is that of all
its tokens, EOS and stop string included, under the model's own distribution, without temperature and
truncation [P]: so it means the same under every decoding setting. A completion ends at an EOS id, at a stop
string (cut off, with all after it), at `max_new_tokens`, or where the model's context is full; finish_reason
is "stop" for the first two, "length" for the others.

How the work is laid out: what n completions have in common is computed once. Each prompt is one row of the
batch, and so are all its completions until they part: a row is copied when two of them choose different
tokens. Where a model is sure of itself this is most of the work (of 64 solutions that a fine-tuned base
writes, some 10 to 25 differ, and most of those only towards the end). Prompts of different lengths share a
batch, since every cache row has its own length. All random numbers are drawn beforehand, from one generator
per (seed, problem id, sample index): a completion depends on nothing else, and no step of the loop does
Python work per row. Rows that nobody writes any more are given to new ones, or leave once they are a quarter
of the batch.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn.utils.rnn import pad_sequence

from mathref.model import KVCache, Transformer
from mathref.tokenizer import Tokenizer, check_fits

# Most probable tokens looked at before a full sort: the first ones hold the nucleus of nearly every row, the
# others that of a row in doubt. A sort of 50,000 logits takes as long as a tenth of a small model.
PREFIXES = (64, 1024)
LEAVE_SHARE = 0.25  # moving the cache together pays once this share of its rows is idle


@dataclass(frozen=True)
class Completion:
    """One sampled solution; `token_ids` are all tokens the model wrote, EOS and stop string included."""

    text: str
    token_ids: tuple[int, ...]
    logprob: float
    finish_reason: Literal["stop", "length"]


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
                raise ValueError(f"{name} must be {allowed}, got {getattr(self, name)!r}")


# ---- choosing the next token -------------------------------------------------------------------------


def row_uniforms(seed: int, problem_id: str, samples: range, length: int) -> torch.Tensor:
    """(len(samples), length) uniform numbers in [0, 1), each row from (seed, problem id, sample index) alone.

    The generators live on the CPU for every device, so that a GPU draws the same numbers.
    """
    rows = []
    for i in samples:
        digest = hashlib.sha256(f"{seed}\0{i}\0{problem_id}".encode("utf-8", "surrogatepass")).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        rows.append(torch.rand(length, generator=generator))
    return torch.stack(rows)


def _rank(probs: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `width` most probable tokens of each row, falling: probabilities and ids (B, width)."""
    if width < probs.shape[-1]:
        return probs.topk(width, dim=-1)
    return probs.sort(dim=-1, descending=True, stable=True)


def _draw(ranked: torch.Tensor, uniforms: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Invert the distribution function of the nucleus of `ranked` (B, W) at `uniforms` (B,).

    Returns the drawn places (B,) and whether the nucleus lies within the W columns (B,).
    """
    mass = ranked.cumsum(dim=-1)  # (B, W)
    before = (mass < top_p).sum(dim=-1)  # (B,) places before the one where the mass reaches top_p
    last = before.clamp(max=ranked.shape[-1] - 1)
    total = mass.gather(1, last.unsqueeze(1))  # (B, 1) mass of the nucleus
    # Why the limit: rounding may lift u * total to total, and tokens of probability 0 share the last mass.
    last = torch.minimum(last, (mass < total).sum(dim=-1))
    place = (mass <= uniforms.unsqueeze(1) * total).sum(dim=-1)
    return torch.minimum(place, last), before < ranked.shape[-1]


def choose(
    logits: torch.Tensor, uniforms: torch.Tensor, config: SampleConfig, rows: torch.Tensor | None = None
) -> torch.Tensor:
    """Draw tokens: logits (B, V) float32, uniforms (A,) in [0, 1) -> tokens (A,).

    Draw i is from row rows[i] of the logits, by default from row i: one distribution may serve many draws.
    The nucleus is the smallest set of most probable tokens whose mass reaches top_p, so never empty.
    Example: p = (0.5, 0.3, 0.15, 0.05), top_p = 0.7 -> the first two tokens (0.5 alone is below 0.7, 0.5 +
    0.3 is not), renormalised to (0.625, 0.375); u = 0.6 draws the first, u = 0.7 the second. Of equal
    probabilities at the edge only as many stay as are needed: ties enlarge neither the nucleus nor the
    top-k.
    """
    rows = torch.arange(len(uniforms), device=logits.device) if rows is None else rows  # (A,)
    if config.temperature == 0:
        return logits.argmax(dim=-1)[rows]
    probs = torch.softmax(logits / config.temperature, dim=-1)  # (B, V)
    if config.top_k:
        ranked, order = _rank(probs, config.top_k)  # (B, k)
        place, _ = _draw((ranked / ranked.sum(dim=-1, keepdim=True))[rows], uniforms, config.top_p)
        return order[rows, place]
    if config.top_p == 1:  # nothing is cut off, so nothing needs an order
        return _draw(probs[rows], uniforms, 1.0)[0]
    peak, best = probs.max(dim=-1)  # (B,)
    tokens = best[rows]  # (A,)
    # In mathematical text most tokens are near certain: where one is the whole nucleus nothing is ranked.
    open_draws = (peak < config.top_p)[rows].nonzero().squeeze(1)
    vocab = probs.shape[-1]
    for width in [*(w for w in PREFIXES if w < vocab), vocab]:
        if len(open_draws) == 0:
            break
        open_rows, at = rows[open_draws].unique(return_inverse=True)  # (b,), (a,)
        ranked, order = _rank(probs[open_rows], width)  # (b, width)
        place, complete = _draw(ranked[at], uniforms[open_draws], config.top_p)  # (a,)
        tokens[open_draws] = order[at, place]
        open_draws = open_draws[~complete]  # a nucleus wider than the prefix: these are ranked further
    return tokens


# ---- stop strings ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _can_end(tokenizer: Tokenizer, stop: tuple[str, ...]) -> torch.Tensor:
    """(V,) bool: which tokens can complete a stop string.

    Only after such a token is any text decoded. A token can complete one if its text holds the last
    character of one; a token without text of its own (part of a character, a space that decoding drops)
    always may.
    """
    last = {string[-1] for string in stop}
    if any(character.isspace() for character in last - {"\n"}):  # some decoders drop a space at the start
        return torch.ones(tokenizer.vocab_size, dtype=torch.bool)
    texts = (tokenizer.decode([token]) for token in range(tokenizer.vocab_size))
    return torch.tensor([not text or "\ufffd" in text or not last.isdisjoint(text) for text in texts])


def _stop_hits(
    tokenizer: Tokenizer, tokens: torch.Tensor, candidates: torch.Tensor, stop: tuple[str, ...]
) -> torch.Tensor:
    """Those of the rows `candidates` (b,) of `tokens` (R, t) whose text holds a stop string."""
    # A token is one byte of text at least, so the last tokens hold the string; 8 more allow for special ones.
    window = max(len(string.encode()) for string in stop) + 8
    tails = tokens[candidates, -window:].tolist()
    hits = [any(string in tokenizer.decode(tail) for string in stop) for tail in tails]
    return candidates[torch.tensor(hits, dtype=torch.bool, device=candidates.device)]


# ---- the decoding loop -------------------------------------------------------------------------------


def encode_prompts(
    tokenizer: Tokenizer, prompts: Sequence[str], ids: Sequence[str], max_seq_len: int
) -> list[list[int]]:
    """Token ids of each prompt, BOS first if there is one; ValueError names a problem that is too long."""
    bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    encoded = [bos + tokenizer.encode(prompt) for prompt in prompts]
    for problem_id, tokens in zip(ids, encoded, strict=True):
        if not tokens:
            raise ValueError(f"problem {problem_id}: its prompt has no tokens, expected some text")
        if len(tokens) >= max_seq_len:
            raise ValueError(
                f"problem {problem_id}: its prompt has {len(tokens)} tokens, but the model's context of "
                f"{max_seq_len} must hold it and the solution; shorten it, or leave the problem out"
            )
    return encoded


def _prefill(model: Transformer, encoded: list[list[int]], max_len: int) -> tuple[torch.Tensor, KVCache]:
    """Run P prompts once; next-token logits (P, V) and the cache."""
    weight = next(model.parameters())
    lengths = torch.tensor([len(tokens) for tokens in encoded], device=weight.device)  # (P,)
    rows = [torch.tensor(tokens, device=weight.device) for tokens in encoded]
    tokens = pad_sequence(rows, batch_first=True)  # (P, T), padded on the right with 0
    mask = torch.arange(tokens.shape[1], device=weight.device) < lengths.unsqueeze(1)  # (P, T)
    cache = KVCache(model.config, len(encoded), max_len, device=weight.device, dtype=weight.dtype)
    hidden = model.hidden(tokens, mask=mask, kv_cache=cache)  # (P, T, C)
    last = hidden[torch.arange(len(encoded), device=weight.device), lengths - 1]  # (P, C)
    return model.head(last), cache


def _part(
    cache: KVCache, slot: torch.Tensor, token: torch.Tensor, full: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give every distinct text a row of its own: (A,) rows and chosen tokens of the completions being written
    -> (A,) their new rows, and (B,) the next token of each row.

    A row whose completions part is copied, into a row that nobody writes any more or behind the last one.
    Idle rows go on with padding until there are too many of them, or, where the cache is `full` and has no
    place for their next token, until now.
    """
    n_rows = len(cache.lengths)
    (parent, word), text = torch.stack((slot, token)).unique(dim=1, return_inverse=True)  # (U,), (U,), (A,)
    stays = torch.ones_like(parent, dtype=torch.bool)  # the first of a row's continuations
    stays[1:] = parent[1:] != parent[:-1]
    idle = torch.ones(n_rows, dtype=torch.bool, device=slot.device)
    idle[parent] = False
    behind = torch.arange(n_rows, n_rows + len(parent), device=slot.device)
    free = torch.cat((idle.nonzero().squeeze(1), behind))
    place = parent.clone()
    place[~stays] = free[: len(parent) - int(stays.sum())]
    cache.copy_rows(parent[~stays], place[~stays])
    n_rows = len(cache.lengths)
    if len(place) < n_rows and (full or len(place) <= (1 - LEAVE_SHARE) * n_rows):
        cache.select(place)
        return text, word
    following = torch.zeros(n_rows, dtype=torch.int64, device=slot.device)
    following[place] = word
    return place[text], following


def _decode(
    model: Transformer,
    tokenizer: Tokenizer,
    encoded: list[list[int]],
    uniforms: torch.Tensor,
    config: SampleConfig,
) -> list[Completion]:
    """Complete P prompts, R / P times each, with `uniforms` (R, max_new_tokens); completions in row order."""
    device, R = uniforms.device, len(uniforms)
    prompt_lengths = torch.tensor([len(tokens) for tokens in encoded], device=device)
    limits = (model.config.max_seq_len - prompt_lengths).clamp(max=config.max_new_tokens)  # (P,)
    limits = limits.repeat_interleave(R // len(encoded))  # (R,) tokens each completion may have
    steps, longest = int(limits.max()), max(map(len, encoded))
    max_len = min(model.config.max_seq_len, longest + steps)
    logits, cache = _prefill(model, encoded, max_len)  # (P, V)

    eos = torch.tensor(tokenizer.eos_ids, device=device, dtype=torch.int64)
    usable = max((tokenizer.vocab_size, *(i + 1 for i in tokenizer.eos_ids)))  # ids the tokenizer can read
    can_end = _can_end(tokenizer, config.stop).to(device) if config.stop else None
    tokens = torch.zeros(R, steps, dtype=torch.int64, device=device)
    logprob = torch.zeros(R, dtype=torch.float64, device=device)
    length = torch.zeros(R, dtype=torch.int64, device=device)
    stopped = torch.zeros(R, dtype=torch.bool, device=device)
    live = torch.arange(R, device=device)  # (A,) the completions still being written
    slot = live // (R // len(encoded))  # (A,) the batch row that holds the text of each so far
    for step in range(steps):
        logits = logits.float()  # (B, V)
        token = choose(logits[:, :usable], uniforms[live, step], config, slot)  # (A,)
        tokens[live, step] = token
        logprob[live] += (logits[slot, token] - logits.logsumexp(dim=-1)[slot]).double()
        length[live] = step + 1
        stopped[live] = torch.isin(token, eos)
        if can_end is not None and len(candidates := live[~stopped[live] & can_end[token]]):
            stopped[_stop_hits(tokenizer, tokens[:, : step + 1], candidates, config.stop)] = True
        going = ~stopped[live] & (step + 1 < limits[live])
        live, slot, token = live[going], slot[going], token[going]
        if not len(live):
            break
        slot, following = _part(cache, slot, token, full=longest + step >= max_len)
        logits = model(following.unsqueeze(1), kv_cache=cache)[:, -1]  # (B, V)
    if not logprob.isfinite().all():
        raise ValueError("the model's logits are not finite: broken weights, or a dtype that overflows")
    written = zip(tokens.tolist(), length.tolist(), logprob.tolist(), stopped.tolist(), strict=True)
    return [_completion(tokenizer, row[:end], p, ended, config.stop) for row, end, p, ended in written]


def _completion(
    tokenizer: Tokenizer, token_ids: list[int], logprob: float, stopped: bool, stop: tuple[str, ...]
) -> Completion:
    """Turn one row's tokens into a record: EOS is no text, and the text ends before the first stop string."""
    ended_by_eos = token_ids[-1] in tokenizer.eos_ids
    text = tokenizer.decode(token_ids[:-1] if ended_by_eos else token_ids)
    cuts = [at for string in stop if (at := text.find(string)) >= 0]
    reason = "stop" if stopped or cuts else "length"
    return Completion(text[: min(cuts)] if cuts else text, tuple(token_ids), logprob, reason)


# ---- the public function -----------------------------------------------------------------------------


def problems_per_batch(n: int, batch_rows: int) -> int:
    """How many problems of n samples each share a batch; n beyond `batch_rows` takes several."""
    return max(1, batch_rows // n)


def _check_ids(ids: Sequence[str], prompts: Sequence[str]) -> None:
    if len(ids) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts but {len(ids)} ids, expected one id per prompt")
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if list(ids).count(i) > 1)
        raise ValueError(f"problem id {twice!r} occurs twice: both would draw the same random numbers")


@torch.inference_mode()
def sample(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    n: int = 64,
    temperature: float = 0.9,
    top_p: float = 0.95,
    top_k: int = 0,
    max_new_tokens: int = 256,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    stop: tuple[str, ...] = (),
    batch_rows: int = 256,
) -> list[list[Completion]]:
    """Sample n completions of each prompt; temperature 0 is greedy (then the n completions are equal).

    `ids` name the problems (default: their place in the list) and, with `seed` and the sample index, fix
    the random numbers. The batch composition follows from the arguments alone, so one call repeats bit for
    bit; other companions in the batch change the logits by rounding only (matrix kernels differ by shape).
    ValueError: an option out of range, a prompt that leaves no room in the context, a tokenizer of another
    model.
    """
    config = SampleConfig(n, temperature, top_p, top_k, max_new_tokens, seed, tuple(stop), batch_rows)
    ids = [str(i) for i in range(len(prompts))] if ids is None else ids
    _check_ids(ids, prompts)
    check_fits(tokenizer, model.config)
    encoded = encode_prompts(tokenizer, prompts, ids, model.config.max_seq_len)
    device = next(model.parameters()).device
    distinct = 1 if temperature == 0 else n
    group = problems_per_batch(distinct, batch_rows)
    results: list[list[Completion]] = []
    for start in range(0, len(prompts), group):
        batch, batch_ids = encoded[start : start + group], ids[start : start + group]
        completions: list[list[Completion]] = [[] for _ in batch]
        for first in range(0, distinct, batch_rows):
            indices = range(first, min(first + batch_rows, distinct))
            uniforms = [row_uniforms(seed, problem_id, indices, max_new_tokens) for problem_id in batch_ids]
            written = _decode(model, tokenizer, batch, torch.cat(uniforms).to(device), config)
            for place, found in enumerate(completions):
                found.extend(written[place * len(indices) : (place + 1) * len(indices)])
        results.extend(found * (n // distinct) for found in completions)
    return results
