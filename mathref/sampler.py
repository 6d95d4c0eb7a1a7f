"""N completions per prompt with a KV cache: greedy, temperature, top-k and nucleus sampling.

Paper: the greedy solution behind Pass@1 and the N = 64 nucleus samples (top-p 0.95 [Q]) behind Maj1@64 and
Pass@64 of Tables 2 to 7.
Choices: how a token is chosen is in choosing.py. The log-probability of a completion is that of all its
tokens, EOS and stop string included, under the model's own distribution, without temperature and truncation
[P]: so it means the same under every decoding setting. A completion ends at an EOS id, at a stop string (cut
off, with all after it), at `max_new_tokens`, or where the model's context is full; finish_reason is "stop"
for the first two, "length" for the others.

How the work is laid out: what n completions have in common is computed once. Each prompt is one row of the
batch, and so are all its completions until they part: a row is copied when two of them choose different
tokens. Where a model is sure of itself this is most of the work (of 64 solutions that a fine-tuned base
writes, some 10 to 25 differ, and most of those only towards the end). Every cache row has its own length, so
prompts of different lengths share a batch, and the next prompts come in as soon as a quarter of the
completions has ended. All random numbers are drawn beforehand, and no step of the loop does Python work per
row. Rows that nobody writes any more are given to new ones, or leave once they are a quarter of the batch.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn.utils.rnn import pad_sequence

from mathref.choosing import choose, row_uniforms
from mathref.cuda_graph import DecodingStep, padded_rows
from mathref.decoding import SampleConfig, before_stop
from mathref.kv_cache import KVCache
from mathref.model import Transformer
from mathref.tokenizer import Tokenizer, check_fits

LEAVE_SHARE = 0.25  # moving the cache together pays once this share of its rows is idle
REFILL_SHARE = 0.25  # so does a prefill once this share of the batch is free
TOKENS = 2**32  # more than any vocabulary has
BATCHES_PER_GROUP = 4  # a group of problems is what one call decodes, and what a killed run repeats


@dataclass(frozen=True)
class Completion:
    """One sampled solution; `token_ids` are all tokens the model wrote, EOS and stop string included."""

    text: str
    token_ids: tuple[int, ...]
    logprob: float
    finish_reason: Literal["stop", "length"]

    @property
    def n_tokens(self) -> int:
        return len(self.token_ids)


# ---- stop strings ------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _can_end(tokenizer: Tokenizer, stop: tuple[str, ...], usable: int) -> torch.Tensor:
    """(usable,) bool: which of the ids that may be chosen can complete a stop string.

    Only after such a token is any text decoded. A token can complete one if its text holds the last
    character of one; a token without text of its own (part of a character, a space that decoding drops)
    always may. Ids that the tokenizer does not know, as an EOS id can be, are no part of any text.
    """
    can_end = torch.zeros(usable, dtype=torch.bool)
    known = can_end[: tokenizer.vocab_size]
    last = {string[-1] for string in stop}
    if any(character.isspace() for character in last - {"\n"}):  # some decoders drop a space at the start
        known[:] = True
    else:
        texts = (tokenizer.decode([token]) for token in range(tokenizer.vocab_size))
        ends = [not text or "\ufffd" in text or not last.isdisjoint(text) for text in texts]
        known[:] = torch.tensor(ends)
    return can_end


def _stop_hits(
    tokenizer: Tokenizer,
    tokens: torch.Tensor,
    length: torch.Tensor,
    candidates: torch.Tensor,
    stop: tuple[str, ...],
) -> torch.Tensor:
    """Those of the rows `candidates` (b,) whose text, `length` (R,) of `tokens` (R, steps), holds a stop
    string.
    """
    # A token is one byte of text at least, so the last tokens hold the string; 8 more allow for special ones.
    window = max(len(string.encode()) for string in stop) + 8
    ends = length[candidates].unsqueeze(1)  # (b, 1)
    places = (ends - window + torch.arange(window, device=tokens.device)).clamp(min=0)  # (b, window)
    tails = tokens[candidates.unsqueeze(1), places].tolist()
    texts = [tokenizer.decode(tail[-end:]) for tail, (end,) in zip(tails, ends.tolist(), strict=True)]
    hits = [any(string in text for string in stop) for text in texts]
    return candidates[torch.tensor(hits, dtype=torch.bool, device=candidates.device)]


def cache_rows(batch_rows: int, completions: int, device: torch.device) -> int:
    """Rows of the cache while `completions` are written, `batch_rows` of them side by side: at most.

    Idle rows stay for a while (`_part`), and where steps are recorded rows are padded (cuda_graph.py).
    """
    rows = min(completions, math.ceil(batch_rows / (1 - LEAVE_SHARE)))
    return padded_rows(rows) if device.type == "cuda" else rows


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


def _part(cache: KVCache, slot: torch.Tensor, token: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give every distinct text a row of its own: (A,) rows and chosen tokens of the completions being written
    -> (A,) their new rows, and (B,) the next token of each row.

    A row whose completions part is copied, into a row that nobody writes any more or behind the last one.
    Idle rows go on with padding until there are too many of them, or until the longest has no place for
    another token: those still written do.
    """
    n_rows = len(cache.lengths)
    # One number a pair: these are sorted much faster than pairs.
    pairs, text = (slot * TOKENS + token).unique(return_inverse=True)  # (U,), (A,)
    parent, word = pairs // TOKENS, pairs % TOKENS  # (U,) each
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
    if cache.longest >= cache.max_len or len(place) <= (1 - LEAVE_SHARE) * n_rows:
        cache.select(place)
        return text, word
    following = torch.zeros(n_rows, dtype=torch.int64, device=slot.device)
    following[place] = word
    return place[text], following


@dataclass(frozen=True)
class _Task:
    """Completions of one prompt that start together, from one row."""

    prompt: list[int]
    problem_id: str
    samples: range


def _decode(
    model: Transformer, tokenizer: Tokenizer, tasks: Sequence[_Task], config: SampleConfig
) -> list[Completion]:
    """All R completions of the tasks, in their order; at most batch_rows of them are written side by side."""
    weight = next(model.parameters())
    device = weight.device
    sizes = [len(task.samples) for task in tasks]
    ends = [0, *itertools.accumulate(sizes)]  # the completions of task i are ends[i] to ends[i + 1] - 1
    counts = torch.tensor(sizes, device=device)  # (tasks,)
    rooms = [min(model.config.max_seq_len - len(task.prompt), config.max_new_tokens) for task in tasks]
    limits = torch.tensor(rooms, device=device).repeat_interleave(counts)  # (R,) tokens each may have
    R, steps = ends[-1], max(rooms)
    max_len = min(model.config.max_seq_len, max(len(task.prompt) for task in tasks) + steps)
    drawn = [row_uniforms(config.seed, task.problem_id, task.samples, steps) for task in tasks]
    uniforms = torch.cat(drawn).to(device)  # (R, steps)

    eos = torch.tensor(tokenizer.eos_ids, device=device, dtype=torch.int64)
    usable = max((tokenizer.vocab_size, *(i + 1 for i in tokenizer.eos_ids)))  # ids below it may be chosen
    can_end = _can_end(tokenizer, config.stop, usable).to(device) if config.stop else None
    tokens = torch.zeros(R, steps, dtype=torch.int64, device=device)
    wide = torch.float32 if device.type == "mps" else torch.float64  # which mps does not have
    logprob = torch.zeros(R, dtype=wide, device=device)
    length = torch.zeros(R, dtype=torch.int64, device=device)
    stopped = torch.zeros(R, dtype=torch.bool, device=device)
    live = slot = length[:0]  # (A,) the completions being written, and the batch row with each one's text
    most_rows = cache_rows(config.batch_rows, R, device)
    cache = KVCache(model.config, 0, max_len, device=device, dtype=weight.dtype, most_rows=most_rows)
    hidden_after = DecodingStep(model, cache)
    logits = torch.empty(0, model.config.vocab_size, device=device)  # (B, V)
    started = 0  # tasks
    while started < len(tasks) or len(live):
        room = config.batch_rows - len(live)
        # Tasks started, if all that have room come in.
        fitting = bisect.bisect_right(ends, ends[started] + room) - 1
        if fitting > started and room >= REFILL_SHARE * config.batch_rows:
            first, prompts_cache = _prefill(model, [t.prompt for t in tasks[started:fitting]], max_len)
            rows = len(logits) + torch.arange(fitting - started, device=device)
            slot = torch.cat((slot, rows.repeat_interleave(counts[started:fitting])))
            live = torch.cat((live, torch.arange(ends[started], ends[fitting], device=device)))
            logits = torch.cat((logits, first))
            cache.extend(prompts_cache)
            started = fitting

        logits, step = logits.float(), length[live]  # (B, V), (A,)
        token = choose(logits[:, :usable], uniforms[live, step], config, slot)  # (A,)
        tokens[live, step] = token
        logprob[live] += (logits[slot, token] - logits.logsumexp(dim=-1)[slot]).to(wide)
        length[live] = step + 1
        stopped[live] = torch.isin(token, eos)
        if can_end is not None and len(candidates := live[~stopped[live] & can_end[token]]):
            stopped[_stop_hits(tokenizer, tokens, length, candidates, config.stop)] = True
        going = ~stopped[live] & (step + 1 < limits[live])
        live, slot, token = live[going], slot[going], token[going]
        if len(live):
            slot, following = _part(cache, slot, token)
            logits = model.head(hidden_after(following))
        else:
            cache.select(live)
            logits = logits[:0]
    if not logprob.isfinite().all():
        raise ValueError("the model's logits are not finite: broken weights, or a dtype that overflows")
    written = zip(tokens.tolist(), length.tolist(), logprob.tolist(), stopped.tolist(), strict=True)
    return [_completion(tokenizer, row[:end], p, ended, config.stop) for row, end, p, ended in written]


def _completion(
    tokenizer: Tokenizer, token_ids: list[int], logprob: float, stopped: bool, stop: tuple[str, ...]
) -> Completion:
    """Turn one row's tokens into a record: EOS is no text, and the text ends before the first stop string."""
    ended_by_eos = token_ids[-1] in tokenizer.eos_ids
    written = tokenizer.decode(token_ids[:-1] if ended_by_eos else token_ids)
    text = before_stop(written, stop)
    reason = "stop" if stopped or len(text) < len(written) else "length"
    return Completion(text, tuple(token_ids), logprob, reason)


# ---- the public function -----------------------------------------------------------------------------


def problems_per_group(config: SampleConfig) -> int:
    """How many problems are decoded together, several batches' worth of them."""
    return BATCHES_PER_GROUP * max(1, config.batch_rows // config.n_distinct)


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
    bit; other companions in the batch change the logits by rounding only (matrix kernels differ by shape),
    which a model in float64 does not show: its completions and logprobs are the same in every batch.
    ValueError: an option out of range, a prompt that leaves no room in the context, a tokenizer of another
    model.
    """
    config = SampleConfig(n, temperature, top_p, top_k, max_new_tokens, seed, tuple(stop), batch_rows)
    ids = [str(i) for i in range(len(prompts))] if ids is None else ids
    _check_ids(ids, prompts)
    check_fits(tokenizer, model.config)
    encoded = encode_prompts(tokenizer, prompts, ids, model.config.max_seq_len)
    distinct = config.n_distinct
    parts = [range(first, min(first + batch_rows, distinct)) for first in range(0, distinct, batch_rows)]
    group = problems_per_group(config)
    results: list[list[Completion]] = []
    for start in range(0, len(prompts), group):
        batch = zip(encoded[start : start + group], ids[start : start + group], strict=True)
        tasks = [_Task(tokens, problem_id, part) for tokens, problem_id in batch for part in parts]
        written = _decode(model, tokenizer, tasks, config)
        found = [written[first : first + distinct] for first in range(0, len(written), distinct)]
        results.extend(completions * (n // distinct) for completions in found)
    return results
