"""The solution evaluator: S_cls(X | P), the language model's own word on whether a solution is correct.

Paper: section 6.1. The model reads the template T(P, X) and is asked for the next word, "correct" or
"incorrect"; there is no new head. S_cls = p("correct") / (p("correct") + p("incorrect")), computed in log
space from the log-odds of the two words.
Choices [P]: a word of several tokens counts as a whole: its log-probability is the sum over its tokens.
The problem's part of T and the candidate's part are encoded apart, so that all candidates of a problem
share the first one. A batch is one prefix tree (prefix_tree.py): what candidates have in common, the problem
and often the beginning of the solution, is computed once, nothing is padded, and the two words are two
branches from the end of T. Equal texts are scored once. A score depends on the problem and on its own
candidate only, never on the batch (up to rounding: matrix kernels differ by shape). A candidate that does not
fit the context has the lowest score: it stays a candidate, as one without an answer does, and wins only where
no other is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from mathref.calibration import UNREAD
from mathref.model import Transformer
from mathref.prefix_tree import prefix_tree, shared_starts
from mathref.prompts import VERDICTS, evaluator_candidate, evaluator_problem
from mathref.tokenizer import Tokenizer, check_fits, encode_continuation

Ids = tuple[int, ...]
SCORES = (UNREAD, 1 - 2**-53)  # scores stay off 0 and 1; log-odds / temperature beyond -690 and 36.7 tie


class Words(NamedTuple):
    """Token ids of the two words that S_cls compares."""

    correct: Ids
    incorrect: Ids


class Templates(NamedTuple):
    """Distinct candidates of a problem, by text: ids of T(P, X), or how many tokens it has if too many."""

    ids: dict[str, Ids]
    too_long: dict[str, int]


def verdict_words(tokenizer: Tokenizer) -> Words:
    """Ids of " correct" and " incorrect".

    Raises ValueError where one word's ids begin the other's: then no probability is the word's alone.
    """
    words = Words(*(tuple(encode_continuation(tokenizer, word)) for word in VERDICTS))
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
    return tuple(encode_continuation(tokenizer, evaluator_candidate(solution)))


def n_tokens(prefix: Ids, suffix: Ids, words: Words) -> int:
    """Tokens that the context has to hold: the template and the longer word without its last token."""
    return len(prefix) + len(suffix) + max(map(len, words)) - 1


def word_logprobs(model: Transformer, texts: Sequence[Ids], words: Words) -> torch.Tensor:
    """log p_M(" correct" | T) and log p_M(" incorrect" | T) for the ids of B templates T: (B, 2), float32."""
    device = next(model.parameters()).device
    branches = [text + word[:-1] for text in texts for word in words]  # 2B
    tree = prefix_tree(branches, device)
    hidden = model.hidden(tree.tokens, layout=model.tree_layout(tree))[0]  # (N, C)

    def predicted(places: Sequence[int]) -> torch.Tensor:
        """Log-probabilities (n, V) of what follows the tokens at `places`."""
        rows = hidden[torch.tensor(places, device=device)]  # (n, C)
        # In bfloat16 logits around 20 are multiples of 1/8: the best candidates of a problem would be tied.
        with torch.autocast(device.type, enabled=False):
            wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
            return model.head(wide).float().log_softmax(dim=-1)

    # A word's first token is predicted by the text's last one, each later token by the one before it.
    first = predicted(
        [path[len(text) - 1] for text, path in zip(texts, tree.paths[::2], strict=True)]
    )  # (B, V)
    logprobs = []
    for i, word in enumerate(words):
        total = first[:, word[0]]  # (B,)
        for later, token in enumerate(word[1:]):
            inside = [path[len(text) + later] for text, path in zip(texts, tree.paths[i::2], strict=True)]
            total = total + predicted(inside)[:, token]
        logprobs.append(total)
    return torch.stack(logprobs, dim=1)


def templates(tokenizer: Tokenizer, problem: str, solutions: Sequence[str], max_seq_len: int) -> Templates:
    """Encode the distinct candidates of one problem, and tell those that do not fit `max_seq_len` tokens.

    No model is needed, so that this can be asked before its weights are read.
    """
    words, prefix = verdict_words(tokenizer), encode_problem(tokenizer, problem)
    found = Templates({}, {})
    for solution in dict.fromkeys(solutions):
        suffix = encode_candidate(tokenizer, solution)
        if (length := n_tokens(prefix, suffix, words)) > max_seq_len:
            found.too_long[solution] = length
        else:
            found.ids[solution] = prefix + suffix
    return found


def log_odds(
    model: Transformer,
    tokenizer: Tokenizer,
    problem: str,
    solutions: Sequence[str],
    *,
    tokens_per_batch: int = 16384,
) -> list[float]:
    """log p("correct") - log p("incorrect") of each candidate of one problem, in the order of `solutions`.

    Batches hold at most `tokens_per_batch` tokens each, shared ones counted once. Raises ValueError
    for a tokenizer of another model, and naming the candidate that does not fit the model's context.
    """
    check_fits(tokenizer, model.config)
    found = templates(tokenizer, problem, solutions, model.config.max_seq_len)
    for solution, length in found.too_long.items():
        raise ValueError(
            f"problem {problem[:60]!r}: candidate {list(solutions).index(solution)} and the template are "
            f"{length} tokens, the evaluator's context holds {model.config.max_seq_len}; leave it out, "
            "or use a model with a longer context"
        )
    odds = _odds(model, verdict_words(tokenizer), found.ids, tokens_per_batch)
    return [odds[solution] for solution in solutions]


@torch.inference_mode()
def _odds(model: Transformer, words: Words, texts: dict[str, Ids], budget: int) -> dict[str, float]:
    """The log-odds of candidates, by their text, from the ids of their templates."""
    found: dict[str, float] = {}
    by_ids = sorted(texts, key=texts.__getitem__)  # neighbours share their beginnings
    for batch in _batches([texts[solution] for solution in by_ids], words, budget):
        both = word_logprobs(model, [texts[by_ids[i]] for i in batch], words)  # (B, 2)
        odds = (both[:, 0] - both[:, 1]).tolist()
        found |= {by_ids[i]: value for i, value in zip(batch, odds, strict=True)}
    if not all(map(math.isfinite, found.values())):
        raise ValueError("the evaluator's scores are not finite: broken weights, or a dtype that overflows")
    return found


def _batches(texts: Sequence[Ids], words: Words, budget: int) -> list[range]:
    """Cut sorted texts into runs of at most `budget` tokens in their prefix tree (one text at least)."""
    branches = sum(len(word) - 1 for word in words)
    runs: list[range] = []
    start = total = 0
    for place, shared in enumerate(shared_starts(texts)):
        new = len(texts[place]) - shared + branches
        if place > start and total + new > budget:
            runs.append(range(start, place))
            start, total, new = place, 0, new + shared
        total += new
    return [*runs, range(start, len(texts))] if texts else []


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

    `temperature` above 1 makes an over-confident evaluator modest (calibration.fit_temperature finds it on
    validation problems). It turns no order round, but floats near 1 are coarse: scores crowd there, and where
    log-odds / temperature exceeds 36.7 (or is below -690) all are equal. A candidate that does not fit the
    model's context is not read and has the lowest score, SCORES[0]. Other errors as in `log_odds`.
    """
    if not temperature > 0:
        raise ValueError(f"the calibration temperature is {temperature}, expected a positive number")
    check_fits(tokenizer, model.config)
    texts = templates(tokenizer, problem, solutions, model.config.max_seq_len).ids
    found = _odds(model, verdict_words(tokenizer), texts, tokens_per_batch)
    odds = torch.tensor([found.get(solution, -math.inf) for solution in solutions], dtype=torch.float64)
    return odds.div(temperature).sigmoid().clamp(*SCORES).tolist()
