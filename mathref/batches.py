"""Examples as token ids, and the batches that an optimiser step is cut into.

Paper: section 4 (the problem is the condition, the solution the target).
Choices [P]: end-of-sequence is a target, too. An optimiser step takes `batch_size` examples, sorts them by
length and cuts them into micro-batches of at most `tokens_per_batch` tokens. A micro-batch is one prefix tree
(prefix_tree.py): no token of it is padding, and a prompt that several examples share is computed once. The
order of the examples is a function of (seed, epoch), so that a resumed run sees what an undisturbed one sees.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

from mathref import processes
from mathref.prefix_tree import PrefixTree, prefix_tree
from mathref.prompts import completion, generator_prompt
from mathref.tokenizer import Tokenizer, encode_continuation

if TYPE_CHECKING:
    from mathref.formats import Problem

LEAST_SHARED = 16  # tokens: below that, attention with a mask costs more than computing them again
Item = TypeVar("Item")


@dataclass(frozen=True)
class Example:
    """Token ids of prompt and completion; targets are the ids from `n_prompt` on."""

    ids: Sequence[int]
    n_prompt: int


def encode_example(tokenizer: Tokenizer, problem: str, solution: str) -> Example:
    """One SSFT example: the prompt is the condition, X = solution + end-of-sequence is the target.

    Prompt and completion are encoded apart, so that the prompt's tokens are the same as in sampling.
    """
    start = [tokenizer.bos_id] if tokenizer.bos_id is not None else []
    prompt = start + tokenizer.encode(generator_prompt(problem))
    target = encode_continuation(tokenizer, completion(solution)) + [tokenizer.eos_ids[0]]
    return Example(prompt + target, len(prompt))


def encode_document(tokenizer: Tokenizer, text: str) -> Example:
    """One pre-training example: every token after the first is a target."""
    start = [tokenizer.bos_id] if tokenizer.bos_id is not None else []
    return Example(start + tokenizer.encode(text) + [tokenizer.eos_ids[0]], 1)


def drop_too_long(examples: list[Example], max_seq_len: int) -> tuple[list[Example], int]:
    """Keep the examples that fit the model's context; return them and the number left out."""
    kept = [e for e in examples if len(e.ids) <= max_seq_len]
    return kept, len(examples) - len(kept)


def longest_text(tokenizer: Tokenizer, prompts: Sequence[str], max_new_tokens: int) -> int:
    """Tokens of the longest prompt, a BOS included, with the longest completion that it may get."""
    return 1 + max((len(tokenizer.encode(prompt)) for prompt in prompts), default=0) + max_new_tokens


def with_room(tokenizer: Tokenizer, problems: Sequence[Problem], max_seq_len: int) -> list[Problem]:
    """The problems whose prompt leaves room for a solution in the context."""
    n_start = tokenizer.bos_id is not None
    return [p for p in problems if n_start + len(tokenizer.encode(generator_prompt(p.problem))) < max_seq_len]


@dataclass(frozen=True)
class Batch:
    """Examples as one prefix tree of N tokens, and the M targets that they predict."""

    tree: PrefixTree
    predicts: torch.Tensor  # (M,): places in N of the tokens that predict a target
    targets: torch.Tensor  # (M,): ids
    example: torch.Tensor  # (M,): number of the example whose target it is


def pack_batch(items: Sequence[Example], device: torch.device) -> Batch:
    """Lay examples out without padding. The last token of each predicts nothing and has no place.

    Raises ValueError for an example of a single token.
    """
    tree = prefix_tree([tuple(item.ids[:-1]) for item in items], device, least_shared=LEAST_SHARED)
    predicts, targets, example = [], [], []
    for number, (item, path) in enumerate(zip(items, tree.paths, strict=True)):
        first = max(item.n_prompt, 1)
        predicts += path[first - 1 :]  # the place of token t predicts token t + 1
        targets += item.ids[first:]
        example += [number] * (len(item.ids) - first)
    return Batch(tree, *(torch.tensor(numbers, device=device) for numbers in (predicts, targets, example)))


def micro_batches(items: Sequence[Item], n_tokens: Callable[[Item], int], budget: int) -> list[list[Item]]:
    """Cut items, longest first, into groups of at most `budget` tokens (one item at least)."""
    groups: list[list[Item]] = []
    room = 0
    for item in sorted(items, key=n_tokens, reverse=True):
        if not groups or n_tokens(item) > room:
            groups.append([])
            room = budget
        groups[-1].append(item)
        room -= n_tokens(item)
    return groups


def my_batches(
    items: Sequence[Item], n_tokens: Callable[[Item], int], budget: int
) -> list[tuple[list[Item], int]]:
    """This process's micro-batches of `items`, equally many on each; each with its factor in sums, 1 or 0.

    The items are dealt out by length, and each process cuts its share as one process cuts all. Where others
    have more micro-batches, or there are fewer items than processes, the shortest item comes again with
    factor 0: with sharded weights every process has to take part in every forward and backward pass.
    """
    n = processes.world_size()
    if n == 1:
        return [(batch, 1) for batch in micro_batches(items, n_tokens, budget)]
    by_length = sorted(items, key=n_tokens, reverse=True)
    cuts = [micro_batches(by_length[first::n], n_tokens, budget) for first in range(n)]
    mine = [(batch, 1) for batch in cuts[processes.rank()]]
    return mine + [(by_length[-1:], 0)] * (max(map(len, cuts)) - len(mine))


def step_items(items: Sequence[Item], step: int, batch_size: int, seed: int) -> list[Item]:
    """The examples of step `step` (from 0): consecutive places in an endless series of shuffled epochs."""
    chosen = []
    for place in range(step * batch_size, (step + 1) * batch_size):
        epoch, offset = divmod(place, len(items))
        chosen.append(items[_shuffled(len(items), seed, epoch)[offset]])
    return chosen


@functools.lru_cache(maxsize=2)  # one step touches two epochs at most, unless they are shorter than a step
def _shuffled(n: int, seed: int, epoch: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return tuple(torch.randperm(n, generator=generator).tolist())
