"""Which token comes next: greedy, temperature, top-k and nucleus sampling, each sample with its own numbers.

Paper: section 5, the greedy solution behind Pass@1 and N = 64 nucleus samples (top-p 0.95 [Q]).
Choices: temperature comes first, then top-k, then top-p on what top-k left. All random numbers of a
completion come from one generator with the seed of that sample (decoding.py) [P]: it depends on nothing else.
"""

from __future__ import annotations

import torch

from mathref.decoding import SampleConfig, sample_seed

# Most probable tokens looked at before a full sort: the first ones hold the nucleus of nearly every row, the
# others that of a row in doubt. A sort of 50,000 logits takes as long as a tenth of a small model.
PREFIXES = (64, 1024)
# Logits divided by less may overflow float32, and softmax then has no value: below it the limit, greedy.
LEAST_TEMPERATURE = 1e-30


def row_uniforms(seed: int, problem_id: str, samples: range, length: int) -> torch.Tensor:
    """(len(samples), length) uniform numbers in [0, 1), each row from (seed, problem id, sample index) alone.

    The generators live on the CPU for every device, so that a GPU draws the same numbers.
    """
    rows = []
    for i in samples:
        generator = torch.Generator().manual_seed(sample_seed(seed, problem_id, i))
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
    if config.temperature < LEAST_TEMPERATURE:
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
