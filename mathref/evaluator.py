"""The solution evaluator: S_cls(X | P), the language model's own word on whether a solution is correct.

Paper: section 6.1. The model reads the template T(P, X) and is asked for the next word, "correct" or
"incorrect"; there is no new head. S_cls = p("correct") / (p("correct") + p("incorrect")), computed in log
space from the log-odds of the two words.
Choices [P]: a word of several tokens counts as a whole: its log-probability is the sum over its tokens.
Both words are read in one pass: they grow like two branches from the end of T, neither seeing the other.
The problem's part of T and the candidate's part are encoded apart, so that all candidates of a problem
share the first one; its keys and values are computed once. Equal texts are scored once. A score depends on
the problem and on its own candidate only, never on the batch (up to rounding: matrix kernels differ by
shape).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from mathref.model import KVCache, Layout, Transformer
from mathref.prompts import VERDICTS, evaluator_candidate, evaluator_problem
from mathref.tokenizer import Tokenizer, check_fits

Ids = tuple[int, ...]
SCORES = (1e-300, 1 - 2**-53)  # scores stay off 0 and 1, probabilities that can be ranked


class Words(NamedTuple):
    """Token ids of the two words that S_cls compares."""

    correct: Ids
    incorrect: Ids


def verdict_words(tokenizer: Tokenizer) -> Words:
    """Ids of " correct" and " incorrect".

    Raises ValueError where one word's ids begin the other's: then no probability is the word's alone.
    """
    words = Words(*(tuple(tokenizer.encode(word)) for word in VERDICTS))
    shorter = min(map(len, words))
    if not shorter or words.correct[:shorter] == words.incorrect[:shorter]:
        raise ValueError(
            f"this tokenizer writes{VERDICTS[0]} as {list(words.correct)} and{VERDICTS[1]} as "
            f"{list(words.incorrect)}: the evaluator cannot tell them apart; use a model with another "
            "tokenizer"
        )
    return words


def encode_problem(tokenizer: Tokenizer, problem: str) -> Ids:
    """Ids of the part of T(P, X) that all candidates share, BOS first if there is one."""
    start = () if tokenizer.bos_id is None else (tokenizer.bos_id,)
    return (*start, *tokenizer.encode(evaluator_problem(problem)))


def encode_candidate(tokenizer: Tokenizer, solution: str) -> Ids:
    """Ids of the candidate's part of T(P, X); the verdict comes next."""
    return tuple(tokenizer.encode(evaluator_candidate(solution)))


def n_tokens(prefix: Ids, suffix: Ids, words: Words) -> int:
    """Tokens of a row: the template, and all of both words but their last tokens, which predict nothing."""
    return len(prefix) + len(suffix) + sum(len(word) - 1 for word in words)


def _branches(
    model: Transformer, lengths: torch.Tensor, words: Words, width: int, kv_cache: KVCache | None
) -> Layout | None:
    """The layout of rows [text, "correct" but its last token, "incorrect" but its last token, padding].

    lengths (B,) of the texts. The second word stands where the first does and does not see it. None for words
    of one token each, whose rows are plain sequences.
    """
    first, second = (len(word) - 1 for word in words)
    if first == second == 0 and kv_cache is None:
        return None
    seen = 0 if kv_cache is None else kv_cache.longest
    place = torch.arange(width, device=lengths.device)  # (T,)
    in_second = place >= (lengths + first).unsqueeze(1)  # (B, T)
    in_first = (place >= lengths.unsqueeze(1)) & ~in_second  # (B, T)
    positions = seen + place - first * in_second.long()  # (B, T)
    causal = torch.ones(width, width, dtype=torch.bool, device=lengths.device).tril()  # (T, T)
    visible = causal & ~(in_second.unsqueeze(2) & in_first.unsqueeze(1))  # (B, T, T)
    if seen:
        before = torch.ones(len(lengths), width, seen, dtype=torch.bool, device=lengths.device)
        visible = torch.cat((before, visible), dim=2)  # (B, T, S)
    return model.free_layout(positions, visible, kv_cache=kv_cache)


def word_logprobs(
    model: Transformer, texts: Sequence[Ids], words: Words, *, kv_cache: KVCache | None = None
) -> torch.Tensor:
    """log p_M(" correct" | T) and log p_M(" incorrect" | T) of B rows: (B, 2) in float32.

    `texts` hold the templates' ids, or what follows the part that stands in `kv_cache` (B equal rows).
    """
    device = next(model.parameters()).device
    rows = [torch.tensor((*text, *words.correct[:-1], *words.incorrect[:-1])) for text in texts]
    tokens = pad_sequence(rows, batch_first=True).to(device)  # (B, T)
    lengths = torch.tensor([len(text) for text in texts], device=device)  # (B,)
    layout = _branches(model, lengths, words, tokens.shape[1], kv_cache)
    hidden = model.hidden(tokens, kv_cache=kv_cache, layout=layout)  # (B, T, C)
    row = torch.arange(len(texts), device=device).unsqueeze(1)  # (B, 1)
    logprobs = []
    for word, start in ((words.correct, 0), (words.incorrect, len(words.correct) - 1)):
        # A word's first token is predicted by the text's last one, each later token by the one before it.
        inside = lengths.unsqueeze(1) + start + torch.arange(len(word) - 1, device=device)  # (B, L-1)
        predicts = torch.cat((lengths.unsqueeze(1) - 1, inside), dim=1)  # (B, L)
        logits = model.head(hidden[row, predicts]).float()  # (B, L, V)
        target = torch.tensor(word, device=device).expand(len(texts), -1).unsqueeze(2)  # (B, L, 1)
        logprobs.append(logits.log_softmax(dim=-1).gather(2, target).sum(dim=(1, 2)))  # (B,)
    return torch.stack(logprobs, dim=1)


@torch.inference_mode()
def log_odds(
    model: Transformer,
    tokenizer: Tokenizer,
    problem: str,
    solutions: Sequence[str],
    *,
    tokens_per_batch: int = 16384,
) -> list[float]:
    """log p("correct") - log p("incorrect") of each candidate of one problem, in the order of `solutions`.

    Batches hold candidates of like length, at most `tokens_per_batch` padded tokens each. Raises ValueError
    for a tokenizer of another model, and naming the candidate that does not fit the model's context.
    """
    check_fits(tokenizer, model.config)
    words = verdict_words(tokenizer)
    prefix = encode_problem(tokenizer, problem)
    texts = {solution: encode_candidate(tokenizer, solution) for solution in dict.fromkeys(solutions)}
    for solution, suffix in texts.items():
        if (length := n_tokens(prefix, suffix, words)) > model.config.max_seq_len:
            raise ValueError(
                f"problem {problem[:60]!r}: candidate {list(solutions).index(solution)} and the template are "
                f"{length} tokens, the evaluator's context holds {model.config.max_seq_len}; leave it out, "
                "or use a model with a longer context"
            )
    found: dict[str, float] = {}
    if texts:
        device, dtype = (getattr(next(model.parameters()), name) for name in ("device", "dtype"))
        longest = max(n_tokens(prefix, suffix, words) for suffix in texts.values())
        shared = KVCache(model.config, 1, longest, device=device, dtype=dtype)
        model.hidden(torch.tensor([prefix], device=device), kv_cache=shared)
        by_length = sorted(texts, key=lambda solution: len(texts[solution]))
        for batch in _batches([n_tokens((), texts[s], words) for s in by_length], tokens_per_batch):
            suffixes = [texts[by_length[i]] for i in batch]
            both = word_logprobs(model, suffixes, words, kv_cache=shared.repeat(len(suffixes)))  # (B, 2)
            odds = (both[:, 0] - both[:, 1]).tolist()
            found |= {by_length[i]: value for i, value in zip(batch, odds, strict=True)}
    if not all(map(math.isfinite, found.values())):
        raise ValueError("the evaluator's scores are not finite: broken weights, or a dtype that overflows")
    return [found[solution] for solution in solutions]


def _batches(lengths: Sequence[int], budget: int) -> list[range]:
    """Cut places 0..n-1 of rising lengths into runs of at most `budget` padded tokens (one row at least)."""
    runs: list[range] = []
    start = 0
    for place, length in enumerate(lengths):
        if place > start and (place - start + 1) * length > budget:
            runs.append(range(start, place))
            start = place
    return [*runs, range(start, len(lengths))]


def score(
    model: Transformer,
    tokenizer: Tokenizer,
    problem: str,
    solutions: Sequence[str],
    *,
    tokens_per_batch: int = 16384,
    temperature: float = 1.0,
) -> list[float]:
    """S_cls(X | P) = sigmoid(log-odds / temperature) of each candidate, in (0, 1).

    `temperature` above 1 makes an over-confident evaluator modest; it changes no order
    (calibration.fit_temperature finds it on validation problems). Errors as in `log_odds`.
    """
    if not temperature > 0:
        raise ValueError(f"the calibration temperature is {temperature}, expected a positive number")
    odds = log_odds(model, tokenizer, problem, solutions, tokens_per_batch=tokens_per_batch)
    probabilities = torch.tensor(odds, dtype=torch.float64).div(temperature).sigmoid()
    return probabilities.clamp(*SCORES).tolist()
