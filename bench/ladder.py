"""The measured ladder: from the loop that comes to mind first to the present code, one idea at a time.

Paper: sections 4 (training), 5 (N samples a problem) and 6.1 (the evaluator): the work that is measured.
Choices: a rung is the rung before it with one more idea. The lower ones are written here, as plainly as they
can be, from the same model and loss; the last is the library's own function. All do the same work, which is
checked: the same completions but for a draw or two on the edge, the same loss, the same log-odds. Each rung
lives in a process of its own, so that peak memory is its own, and the rounds take turns.

    python bench/ladder.py sampling --model runs/smollm2 --data gsm8k_test.jsonl
    python bench/ladder.py training --model runs/smollm2 --data gsm8k_train.jsonl.gz
    python bench/ladder.py scoring --model runs/smollm2 --data gsm8k_train.jsonl.gz
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pairing import (  # noqa: E402
    ROUNDING,
    Side,
    Work,
    interleave,
    memory,
    parser,
    require_agreement,
    set_up,
    shared_options,
    spread,
    write_figures,
)  # fmt: skip

from mathref.runs import run_command  # noqa: E402

if TYPE_CHECKING:
    import torch

    from mathref.decoding import SampleConfig
    from mathref.model import Transformer
    from mathref.tokenizer import Tokenizer

SAMPLING = (
    "the whole text again for every token",
    "+ a key-value cache",
    "+ each prompt computed once",
    "+ a nucleus without sorting the vocabulary",
    "+ completions share a row until they part",
    "+ all problems in one batch, refilled",
)
TRAINING = (
    "padded rows, logits at every position",
    "+ the head on targets alone",
    "+ no padding",
    "+ the loss in chunks",
    "+ micro-batches of 1,024 tokens",
)
SCORING = (
    "a pass for each candidate and word, logits at every position",
    "+ one pass for both words, the head on the last position",
    "+ candidates padded to one batch",
    "+ one prefix tree",
)
DIFFERENT = 0.05  # share of completions that rounding may turn, at most


def load(model: str, dtype: str, device: str, threads: int) -> tuple[Transformer, Tokenizer]:
    """The model in `dtype` and its tokenizer."""
    import torch

    from mathref.tokenizer import load_tokenizer
    from mathref.weights import load_model

    network = load_model(model, device=set_up(device, threads), dtype=getattr(torch, dtype))
    return network, load_tokenizer(Path(model))


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids as one (B, T) batch, padded on the right, and its mask."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    tokens = pad_sequence([torch.tensor(row) for row in rows], batch_first=True).to(device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return tokens, torch.arange(tokens.shape[1], device=device) < lengths.unsqueeze(1)


# ---- Sampling ----------------------------------------------------------------------------------------


def sampling(*, rung: int, model: str, data: str, dtype: str, device: str, threads: int, problems: int,
             n: int, max_new_tokens: int) -> Work:  # fmt: skip
    """Rung `rung` of SAMPLING: n completions of each problem."""
    import torch

    from mathref import choosing
    from mathref.data import load_problems
    from mathref.decoding import SampleConfig
    from mathref.prompts import generator_prompt
    from mathref.sampler import encode_prompts, sample

    network, tokenizer = load(model, dtype, device, threads)
    prompts = [generator_prompt(p.problem) for p in load_problems(data).problems[:problems]]
    ids = [str(i) for i in range(problems)]
    config = SampleConfig(n=n, max_new_tokens=max_new_tokens)
    if rung < 3:
        choosing.PREFIXES = ()

    def by_the_library(group: slice) -> list[list[int]]:
        found = sample(network, tokenizer, prompts[group], ids=ids[group], n=n, max_new_tokens=max_new_tokens)
        return [list(c.token_ids) for completions in found for c in completions]

    def by_hand(group: slice) -> list[list[int]]:
        (prompt,) = encode_prompts(tokenizer, prompts[group], ids[group], network.config.max_seq_len)
        uniforms = choosing.row_uniforms(config.seed, *ids[group], range(n), max_new_tokens)
        step = uncached(network, prompt, n) if rung == 0 else cached(network, prompt, n, rung >= 2)
        return plain_loop(step, uniforms.to(device), config, tokenizer.eos_ids)

    @torch.inference_mode()
    def work() -> dict[str, Any]:
        apart = [slice(i, i + 1) for i in range(problems)]
        groups = apart if rung < len(SAMPLING) - 1 else [slice(0, problems)]
        write = by_the_library if rung >= 4 else by_hand
        written = [row for group in groups for row in write(group)]
        return {"units": sum(map(len, written)), "result": written}

    return work


def plain_loop(
    next_logits: Callable[[torch.Tensor | None], torch.Tensor],
    uniforms: torch.Tensor,
    config: SampleConfig,
    eos_ids: Sequence[int],
) -> list[list[int]]:
    """Draw until all rows have ended: uniforms (n, steps), `next_logits` takes the last tokens (n,)."""
    import torch

    from mathref.choosing import choose

    eos = torch.tensor(list(eos_ids), device=uniforms.device)
    token, columns = None, []
    ended = torch.zeros(len(uniforms), dtype=torch.bool, device=uniforms.device)
    for numbers in uniforms.unbind(dim=1):
        token = choose(next_logits(token).float(), numbers, config)
        columns.append(token)
        ended |= torch.isin(token, eos)
        if ended.all():
            break
    rows = torch.stack(columns, dim=1).tolist()  # (n, steps)
    ends = [next((i + 1 for i, token in enumerate(row) if token in eos_ids), len(row)) for row in rows]
    return [row[:end] for row, end in zip(rows, ends, strict=True)]


def uncached(network: Transformer, prompt: list[int], n: int) -> Callable[..., torch.Tensor]:
    """Logits (n, V) after one more token a row, each time from all tokens."""
    import torch

    tokens = torch.tensor([prompt] * n, device=network.embedding.weight.device)  # (n, T)

    def step(new: torch.Tensor | None) -> torch.Tensor:
        nonlocal tokens
        if new is not None:
            tokens = torch.cat((tokens, new.unsqueeze(1)), dim=1)
        return network.head(network.hidden(tokens)[:, -1])

    return step


def cached(network: Transformer, prompt: list[int], n: int, once: bool) -> Callable[..., torch.Tensor]:
    """Logits (n, V) after one more token a row, from the cache; the prompt is computed n times, or once."""
    import torch

    from mathref.kv_cache import KVCache

    weight = network.embedding.weight
    rows = 1 if once else n
    cache = KVCache(
        network.config, rows, network.config.max_seq_len, device=weight.device, dtype=weight.dtype
    )

    def step(new: torch.Tensor | None) -> torch.Tensor:
        if new is not None:
            return network(new.unsqueeze(1), kv_cache=cache)[:, -1]
        tokens = torch.tensor([prompt] * rows, device=weight.device)  # (rows, T)
        logits = network.head(network.hidden(tokens, kv_cache=cache)[:, -1])
        if once:
            cache.select(torch.zeros(n, dtype=torch.long, device=weight.device))
        return logits.expand(n, -1)

    return step


# ---- Training ----------------------------------------------------------------------------------------


def training(*, rung: int, model: str, data: str, dtype: str, device: str, threads: int,
             batch_size: int) -> Work:  # fmt: skip
    """Rung `rung` of TRAINING: the gradient of one step and AdamW's part of it."""
    import torch
    import torch.nn.functional as F

    from mathref.batches import encode_example, micro_batches
    from mathref.data import load_problems
    from mathref.losses import mle_loss
    from mathref.trainer import TrainConfig, autocast, make_optimizer, predicting_states
    from mathref.vocabulary import target_loss

    network, tokenizer = load(model, "float32", device, threads)
    config = TrainConfig(steps=1, lr=1e-5, dtype=getattr(torch, dtype))
    optimizer = make_optimizer(network.train(), config)
    solved = [p for p in load_problems(data).problems if p.solution][:batch_size]
    examples = [encode_example(tokenizer, p.problem, p.solution or "") for p in solved]
    n_targets = sum(len(e.ids) - e.n_prompt for e in examples)

    def loss_of(batch: Sequence[Any]) -> torch.Tensor:
        """Summed -log p of the targets."""
        if rung >= 2:
            hidden, packed = predicting_states(network, batch)
            if rung >= 3:
                return target_loss(network, hidden, packed.targets)
            return mle_loss(network.head(hidden), packed.targets)
        tokens, mask = padded([e.ids for e in batch], network.embedding.weight.device)  # (B, T)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        prompts = torch.tensor([[e.n_prompt] for e in batch], device=tokens.device)
        labels = tokens.masked_fill(~mask | (places < prompts), -100)[:, 1:]  # (B, T - 1)
        hidden = network.hidden(tokens[:, :-1])
        if rung == 0:
            logits = network.head(hidden).flatten(0, 1).float()  # (B * (T - 1), V)
            return F.cross_entropy(logits, labels.flatten(), reduction="sum")
        chosen = labels >= 0
        return mle_loss(network.head(hidden[chosen]), labels[chosen])

    def work() -> dict[str, Any]:
        budget = config.tokens_per_batch if rung == len(TRAINING) - 1 else sys.maxsize
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for batch in micro_batches(examples, lambda e: len(e.ids), budget):
            with autocast(network.embedding.weight.device, config):
                loss = loss_of(batch) / n_targets
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return {"units": n_targets, "result": total}

    return work


# ---- Scoring -----------------------------------------------------------------------------------------


def scoring(*, rung: int, model: str, data: str, dtype: str, device: str, threads: int, problems: int,
            n: int) -> Work:  # fmt: skip
    """Rung `rung` of SCORING: the log-odds of n candidates of each problem."""
    import torch
    from scoring import candidates_of

    from mathref.evaluator import encode_candidate, encode_problem, log_odds, verdict_words

    network, tokenizer = load(model, dtype, device, threads)
    groups = candidates_of(data, False, problems, n)
    words = verdict_words(tokenizer)
    if any(len(word) != 1 for word in words):
        raise ValueError(f"{model}: its words are {list(words)}, expected one token each")
    (correct,), (incorrect,) = words
    place = network.embedding.weight.device

    def last_logprobs(rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """log p (B, V) of what comes after each row."""
        tokens, mask = padded(rows, place)
        last = network.hidden(tokens, mask=mask)[torch.arange(len(rows)), mask.sum(dim=1) - 1]  # (B, C)
        return network.head(last).float().log_softmax(dim=-1)

    def plainly(problem: str, texts: list[str]) -> list[float]:
        start = encode_problem(tokenizer, problem)
        rows = [start + encode_candidate(tokenizer, text) for text in texts]
        if rung == 0:

            def logprob(row: tuple[int, ...], word: int) -> float:
                logits = network(torch.tensor([[*row, word]], device=place))[0]  # (T, V)
                return logits.float().log_softmax(dim=-1)[-2, word].item()

            return [logprob(row, correct) - logprob(row, incorrect) for row in rows]
        batches = [[row] for row in rows] if rung == 1 else [rows[i : i + 16] for i in range(0, n, 16)]
        found = torch.cat([last_logprobs(batch) for batch in batches])  # (n, V)
        return (found[:, correct] - found[:, incorrect]).tolist()

    @torch.inference_mode()
    def work() -> dict[str, Any]:
        odds = [
            log_odds(network, tokenizer, *group) if rung == len(SCORING) - 1 else plainly(*group)
            for group in groups
        ]
        return {"units": problems * n, "result": odds}

    return work


# ---- The ladder --------------------------------------------------------------------------------------


def difference(what: str, a: Any, b: Any) -> float:
    """How far the results of two rungs lie apart: a share of completions, a relative loss, log-odds."""
    if what == "sampling":
        return sum(x != y for x, y in zip(a, b, strict=True)) / len(a)
    if what == "training":
        return abs(a - b) / abs(b)
    pairs = [pair for x, y in zip(a, b, strict=True) for pair in zip(x, y, strict=True)]
    return max(abs(x - y) for x, y in pairs)


def main(argv: list[str] | None = None) -> int:
    flags = parser(__doc__)
    flags.add_argument("what", choices=["sampling", "training", "scoring"], help="which ladder")
    flags.add_argument("--problems", type=int, default=4, help="of sampling and scoring")
    flags.add_argument("--n", type=int, default=16, help="completions or candidates a problem")
    flags.add_argument("--max-new-tokens", type=int, default=96, help="longest completion")
    flags.add_argument("--batch-size", type=int, default=8, help="examples of a training step")
    args = flags.parse_args(argv)
    sizes: dict[str, Any] = {"problems": args.problems, "n": args.n}
    setup, rungs, options, limit = {
        "sampling": (sampling, SAMPLING, sizes | {"max_new_tokens": args.max_new_tokens}, DIFFERENT),
        "training": (training, TRAINING, {"batch_size": args.batch_size}, 0.01),
        "scoring": (scoring, SCORING, sizes, ROUNDING[args.dtype]),
    }[args.what]
    common = shared_options(args) | options
    sides = [Side(name, setup, common | {"rung": rung}) for rung, name in enumerate(rungs)]
    interleave(sides, args.rounds)
    first = [side.rounds[0]["result"] for side in sides]
    apart = max(difference(args.what, result, first[-1]) for result in first)
    require_agreement(f"rungs of {args.what}", apart, limit)
    unit = "candidates/s" if args.what == "scoring" else "tokens/s"
    print(f"{common['device']}, {args.dtype}; {unit}, times the rung before, times the first; peak memory")
    figures: dict[str, Any] = {}
    for below, side in zip([sides[0], *sides], sides, strict=False):
        steps = [[a / b for a, b in zip(side.rates, other.rates, strict=True)] for other in (below, sides[0])]
        digits = 0 if min(side.rates) >= 100 else 2
        ratios = " ".join(f"x{statistics.median(step):.2f}" for step in steps)
        peak = memory(side.rounds)
        print(f"  {side.name:60s} {spread(side.rates, digits):>20s} {ratios}, {max(peak.values()):,} MB")
        figures[side.name] = {"rates": side.rates, **peak}
    write_figures(args.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
