"""Texts that begin alike as one row of tokens: what they share stands in it once, and nothing is padding.

Paper: none; section 6.1 gives it its work: the candidates of one problem share the template's first part,
and sampled solutions have beginnings in common.
Choices [P]: in alphabetical order of their ids a text shares most with the text before it, so that the new
tokens of each text are what follows that. Every token of the row goes through the matrix products once.
Attention alone works text by text: a text's new tokens against all of its tokens, texts with about as many
new tokens together (`Group`), so that padding costs little and only there.

Shapes: N tokens in the row, b texts in a group, t new tokens and s tokens of a text, padded to the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.utils.rnn import pad_sequence

LIKE = 1.25  # the most new tokens of a text in a group are at most this many times the fewest,
FEW = 8  # or this many, if the fewest are fewer

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Texts for one call of attention; their new tokens, about as many each, follow each other in the row."""

    queries: torch.Tensor  # (b, t) places in the row of each text's new tokens
    is_new: torch.Tensor  # (new tokens,) those of the b * t queries that are no padding
    depths: torch.Tensor  # (b, t) how many tokens of the text stand before it
    keys: torch.Tensor  # (b, s) places in the row of all of each text's tokens
    visible: torch.Tensor | None  # (b, 1, t, s) bool, True = attended to; None = plain causal attention

    def within(self, window: int) -> Group:
        """The group as layers with a sliding window see it."""
        if self.keys.shape[1] <= window:
            return self
        behind = self.depths.unsqueeze(2) - torch.arange(self.keys.shape[1], device=self.keys.device)
        return replace(self, visible=((behind >= 0) & (behind < window)).unsqueeze(1))


@dataclass(frozen=True)
class PrefixTree:
    """`tokens` and `positions` (1, N) of the row; `paths[i]` are the places in it of the tokens of text i."""

    tokens: torch.Tensor
    positions: torch.Tensor
    paths: tuple[Ids, ...]
    groups: tuple[Group, ...]


def common_start(a: Ids, b: Ids) -> int:
    """How many ids two texts begin with in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def shared_starts(texts: Sequence[Ids]) -> list[int]:
    """For sorted, distinct texts: how many tokens each shares with the one before it."""
    return [0, *map(common_start, texts, texts[1:])][: len(texts)]


def prefix_tree(
    texts: Sequence[Ids], device: torch.device | str = "cpu", *, least_shared: int = 1
) -> PrefixTree:
    """Lay out texts, which may repeat; ValueError for a text without tokens.

    A text that shares fewer than `least_shared` tokens with the one before it stands alone: groups of such
    texts are plain rows, for which causal attention needs no mask.
    """
    if not all(texts):
        raise ValueError("a text without tokens has no place in a prefix tree")
    distinct = sorted(set(texts))
    shared = [n if n >= least_shared else 0 for n in shared_starts(distinct)]
    clusters = _of_like_length([len(text) - start for text, start in zip(distinct, shared, strict=True)])
    first_place, end = [0] * len(distinct), 0  # where each text's new tokens begin
    for i in (i for cluster in clusters for i in cluster):
        first_place[i] = end
        end += len(distinct[i]) - shared[i]
    paths: list[Ids] = []
    for text, start, place in zip(distinct, shared, first_place, strict=True):
        paths.append((*(paths[-1][:start] if paths else ()), *range(place, place + len(text) - start)))
    order = [i for cluster in clusters for i in cluster]
    tokens = [token for i in order for token in distinct[i][shared[i] :]]
    positions = [position for i in order for position in range(shared[i], len(distinct[i]))]
    place_of = dict(zip(distinct, paths, strict=True))
    groups = (_group([paths[i] for i in cluster], [shared[i] for i in cluster]) for cluster in clusters)
    return PrefixTree(
        torch.tensor([tokens], device=device),
        torch.tensor([positions], device=device),
        tuple(place_of[text] for text in texts),
        tuple(_on(group, device) for group in groups),
    )


def _of_like_length(lengths: Sequence[int]) -> list[list[int]]:
    """Their indices, shortest first, in runs of like length."""
    runs: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not runs or lengths[i] > LIKE * max(FEW, lengths[runs[-1][0]]):
            runs.append([])
        runs[-1].append(i)
    return runs


def _group(paths: Sequence[Ids], shared: Sequence[int]) -> Group:
    """A group of texts with the given places, of which the first `shared` are not new."""
    keys = pad_sequence([torch.tensor(path) for path in paths], batch_first=True)  # (b, s)
    new = [torch.tensor(path[start:]) for path, start in zip(paths, shared, strict=True)]
    queries = pad_sequence(new, batch_first=True)  # (b, t)
    steps = torch.arange(queries.shape[1])  # (t,)
    is_new = steps < torch.tensor([len(places) for places in new]).unsqueeze(1)  # (b, t)
    depths = torch.tensor(shared).unsqueeze(1) + steps  # (b, t)
    visible = None
    if any(shared):
        visible = (torch.arange(keys.shape[1]) <= depths.unsqueeze(2)).unsqueeze(1)  # (b, 1, t, s)
    return Group(queries, is_new.flatten().nonzero().squeeze(1), depths, keys, visible)


def _on(group: Group, device: torch.device | str) -> Group:
    moved = {name: value if value is None else value.to(device) for name, value in vars(group).items()}
    return Group(**moved)


def attend_by_text(
    attend: Callable[..., torch.Tensor],
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    groups: Sequence[Group],
) -> torch.Tensor:
    """Attention along the texts: q (1, H, N, D), k and v (1, G, N, D) -> (1, H, N, D).

    `attend(q, k, v, visible)` is attention on rows (b, ...), as a plain batch has it.
    """
    q, k, v = (x[0].transpose(0, 1) for x in (q, k, v))  # (N, H or G, D)
    found = []
    for group in groups:
        rows = (_rows(q, group.queries), _rows(k, group.keys), _rows(v, group.keys))
        y = attend(*rows, group.visible).transpose(1, 2)  # (b, t, H, D)
        found.append(y.flatten(0, 1).index_select(0, group.is_new))  # (new tokens, H, D)
    return torch.cat(found).transpose(0, 1).unsqueeze(0)


def _rows(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """x (N, heads, D) at places (b, t) -> (b, heads, t, D)."""
    found = x.index_select(0, places.flatten())  # its gradient is faster than that of x[places]
    return found.view(*places.shape, *x.shape[1:]).transpose(1, 2)
