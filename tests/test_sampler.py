"""mathref.sampler against a slow reference sampler, a fixed-logits model, and the uncached model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mathref import sampler
from mathref.choosing import PREFIXES, SampleConfig, choose, row_uniforms
from mathref.model import KVCache, ModelConfig, Transformer
from mathref.sampler import LEAVE_SHARE, Completion, cache_rows, sample

pytestmark = pytest.mark.usefixtures("poisoned_memory")  # the cache is not cleared

BOS, EOS, EOS2 = 1, 2, 3
LETTERS = "abcdefghij :\n"


class CharTokenizer:
    """One token per character; ids 0 to 3 are pad, BOS and two EOS; the last token is the text "ab"."""

    bos_id: int | None = BOS
    eos_ids = (EOS, EOS2)
    vocab_size = 4 + len(LETTERS) + 1

    def __init__(self) -> None:
        self.decoded = 0

    def encode(self, text: str) -> list[int]:
        return [4 + LETTERS.index(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        self.decoded += 1
        return "".join((LETTERS + "#")[i - 4].replace("#", "ab") for i in ids if i >= 4)


TOKENIZER = CharTokenizer()
V = TOKENIZER.vocab_size
CONFIG = ModelConfig(
    vocab_size=V, n_layer=2, n_head=4, n_kv_head=2, head_dim=8, n_embd=32, n_inner=48, max_seq_len=64
)


class FixedLogits(nn.Module):
    """A Markov chain: the logits are the row of a table for the last token, exactly, in any batch."""

    def __init__(self, table: torch.Tensor, max_seq_len: int = 64) -> None:
        super().__init__()
        self.table = nn.Parameter(table)
        self.config = ModelConfig(
            vocab_size=len(table), n_layer=1, n_head=1, n_kv_head=1, head_dim=2, n_embd=2, n_inner=2,
            max_seq_len=max_seq_len,
        )  # fmt: skip
        self.batches: list[int] = []

    def hidden(
        self, tokens: torch.Tensor, *, mask: torch.Tensor | None = None, kv_cache: KVCache
    ) -> torch.Tensor:
        self.batches.append(len(tokens))
        return tokens.unsqueeze(-1)

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.table[hidden.squeeze(-1)]

    def forward(self, tokens: torch.Tensor, *, kv_cache: KVCache) -> torch.Tensor:
        return self.head(self.hidden(tokens, kv_cache=kv_cache))


def chain(steps: dict[str, str], start: str = "a") -> FixedLogits:
    """A model with certain successors: {"a": "b"} is b after a; "$" and "%" are the two EOS, "#" is "ab"."""
    names = {**{letter: i + 4 for i, letter in enumerate(LETTERS)}, "$": EOS, "%": EOS2, "#": V - 1}
    table = torch.zeros(V, V)
    for before, after in steps.items():
        table[names[before], names[after]] = 50.0
    return FixedLogits(table)


def noisy(seed: int = 0, eos: float = 0.0) -> FixedLogits:
    table = 2 * torch.randn(V, V, generator=torch.Generator().manual_seed(seed))
    table[:, [EOS, EOS2]] += eos
    return FixedLogits(table)


def tiny_model(seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    model = Transformer(CONFIG)
    with torch.no_grad():  # larger weights than a fresh model's: its logits would be all but equal
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(12)
    return model


# ---- choosing a token --------------------------------------------------------------------------------


def reference_choice(logits: torch.Tensor, u: float, config: SampleConfig) -> int:
    """One row, in double precision, by plain loops over tokens sorted by probability."""
    probs = torch.softmax(logits.double() / config.temperature, dim=-1).tolist()
    ranked = sorted(range(len(probs)), key=lambda i: (-probs[i], i))
    if config.top_k:
        ranked = ranked[: config.top_k]
    whole = math.fsum(probs[i] for i in ranked)
    kept, mass = [], 0.0
    for i in ranked:
        kept.append(i)
        mass += probs[i] / whole
        if mass >= config.top_p:
            break
    target, running = u * math.fsum(probs[i] for i in kept), 0.0
    for i in kept:
        running += probs[i]
        if target < running:
            return i
    return kept[-1]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    vocab=st.sampled_from([2, 5, PREFIXES[0], PREFIXES[0] + 1, PREFIXES[1] + 300]),
    scale=st.sampled_from(
        [0.1, 1.0, 4.0, 20.0]
    ),  # nearly flat rows need more than the prefix, peaked ones less
    temperature=st.sampled_from([0.3, 0.9, 2.0]),
    top_p=st.sampled_from([0.01, 0.5, 0.95, 0.999]),
    top_k=st.sampled_from([0, 1, 3, 1000]),
)
def test_choose_agrees_with_the_plain_loop(
    seed: int, vocab: int, scale: float, temperature: float, top_p: float, top_k: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(8, vocab, generator=generator)
    uniforms = torch.rand(8, generator=generator)
    config = SampleConfig(temperature=temperature, top_p=top_p, top_k=top_k)
    expected = [reference_choice(row, float(u), config) for row, u in zip(logits, uniforms, strict=True)]
    found = choose(logits, uniforms, config)
    # Of 1,300 nearly equal logits some have one probability in float32: any order of those is right.
    probs, places = torch.softmax(logits / temperature, dim=-1), range(len(expected))
    assert torch.allclose(probs[places, found], probs[places, expected], rtol=1e-6, atol=0)
    assert vocab > 5 or found.tolist() == expected


def test_the_worked_example_of_the_docstring() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().repeat(4, 1)
    uniforms = torch.tensor([0.0, 0.6, 0.7, 0.999])
    assert choose(logits, uniforms, SampleConfig(temperature=1, top_p=0.7)).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("vocab", [4, PREFIXES[0], 3 * PREFIXES[0], 3 * PREFIXES[1]])
def test_ties_enlarge_neither_nucleus_nor_top_k(vocab: int) -> None:
    """Of equally probable tokens exactly as many stay as were asked for, also at the edge."""
    n = max(1000, 2 * vocab)
    logits, uniforms = torch.zeros(n, vocab), torch.linspace(0, 0.9999, n)
    assert len(choose(logits, uniforms, SampleConfig(temperature=1, top_p=1, top_k=3)).unique()) == 3
    half = choose(logits, uniforms, SampleConfig(temperature=1, top_p=0.5))
    assert len(half.unique()) == vocab // 2


def test_top_p_keeps_one_token_at_least() -> None:
    logits = torch.zeros(5, 10)
    logits[:, 7] = 0.1
    assert choose(logits, torch.rand(5), SampleConfig(top_p=1e-6)).tolist() == [7] * 5


@pytest.mark.parametrize("temperature", [1e-3, 1e-20, 1e-37, 1e-38, 1e-45, 5e-324])
def test_the_lowest_temperatures_are_greedy(temperature: float) -> None:
    """Logits divided by 1e-38 overflow: token 0 was drawn, whatever they were."""
    logits = torch.tensor([[1.0, 5.0, 3.0], [-40.0, -90.0, -30.0]])
    assert choose(logits, torch.tensor([0.1, 0.9]), SampleConfig(temperature=temperature)).tolist() == [1, 2]


def test_frequencies_follow_the_truncated_distribution() -> None:
    """100,000 draws at temperature 2 within five standard errors of softmax(logits / 2) cut at 0.8."""
    logits = torch.tensor([3.0, 2.0, 1.0, 0.0, -1.0])
    probs = (logits / 2).softmax(0)  # 0.43, 0.26, 0.16, 0.10, 0.06: three tokens reach 0.8
    expected = torch.cat([probs[:3] / probs[:3].sum(), torch.zeros(2)])
    n = 100_000
    uniforms = torch.rand(n, generator=torch.Generator().manual_seed(1))
    drawn = choose(logits.repeat(n, 1), uniforms, SampleConfig(temperature=2, top_p=0.8))
    found = torch.bincount(drawn, minlength=5) / n
    assert ((found - expected).abs() <= 5 * (expected * (1 - expected) / n).sqrt()).all()


def test_impossible_tokens_are_never_drawn() -> None:
    """Probability 0 stays 0 at the very end of the unit interval, with and without truncation."""
    logits = torch.tensor([[0.0, 1.0, -math.inf, -math.inf]]).repeat(3, 1)
    last = torch.tensor([1 - 2**-24, 0.9999, 0.0])
    for config in (SampleConfig(top_p=1), SampleConfig(top_p=0.9999), SampleConfig(top_p=1, top_k=4)):
        assert choose(logits, last, config).max() <= 1


def test_uniforms_depend_on_seed_problem_and_index_alone() -> None:
    rows = row_uniforms(0, "p", range(4), 50)
    assert torch.equal(row_uniforms(0, "p", range(2, 3), 50)[0], rows[2])
    assert torch.equal(row_uniforms(0, "p", range(4), 20), rows[:, :20])  # a longer limit changes no prefix
    others = [row_uniforms(1, "p", range(1), 50), row_uniforms(0, "q", range(1), 50), rows[1:2]]
    assert all(not torch.equal(other, rows[:1]) for other in others)
    assert not torch.equal(
        row_uniforms(1, "1", range(2), 9), row_uniforms(11, "", range(2), 9)
    )  # no run-together


# ---- what a completion depends on --------------------------------------------------------------------

PROMPTS = ["abc", "d", "ghijab cd", "bb"]
IDS = ["p0", "p1", "p2", "p3"]


def test_a_sample_depends_on_seed_problem_and_index_alone() -> None:
    """Alone, in company, in other batches and numbers: the same completion (vLLM #1595)."""
    model = noisy(eos=-1.5)
    together = sample(model, TOKENIZER, PROMPTS, n=6, max_new_tokens=20, seed=5, ids=IDS)
    alone = [
        sample(model, TOKENIZER, [p], n=6, max_new_tokens=20, seed=5, ids=[i])[0]
        for p, i in zip(PROMPTS, IDS, strict=True)
    ]
    shuffled = sample(model, TOKENIZER, PROMPTS[::-1], n=9, max_new_tokens=20, seed=5, ids=IDS[::-1])[::-1]
    small = sample(model, TOKENIZER, PROMPTS, n=6, max_new_tokens=20, seed=5, ids=IDS, batch_rows=4)
    assert together == alone == small == [found[:6] for found in shuffled]
    assert len({c.finish_reason for found in together for c in found}) == 2  # both ends occur in this test


def test_equal_prompts_do_not_share_their_samples() -> None:
    """Several rows of one prompt must not draw the same numbers (mlx-vlm #1818)."""
    model = noisy(eos=-20.0)
    found = sample(model, TOKENIZER, ["abc", "abc"], n=8, max_new_tokens=20)
    texts = [c.text for completions in found for c in completions]
    assert len(set(texts)) == 16
    other_seed = sample(model, TOKENIZER, ["abc", "abc"], n=8, max_new_tokens=20, seed=1)
    assert not set(texts) & {c.text for completions in other_seed for c in completions}


def test_a_real_model_samples_the_same_in_any_batch() -> None:
    """Prompts of other lengths beside it change neither tokens nor log-probabilities (unsloth #4078)."""
    model = tiny_model()
    together = sample(model, TOKENIZER, PROMPTS, n=5, max_new_tokens=25, ids=IDS)
    for prompt, problem_id, found in zip(PROMPTS, IDS, together, strict=True):
        alone = sample(model, TOKENIZER, [prompt], n=5, max_new_tokens=25, ids=[problem_id])[0]
        assert [c.token_ids for c in alone] == [c.token_ids for c in found]
        assert [c.logprob for c in alone] == pytest.approx([c.logprob for c in found], abs=1e-3)
    again = sample(model, TOKENIZER, PROMPTS, n=5, max_new_tokens=25, ids=IDS)
    assert again == together  # the same call repeats to the last bit


# ---- against the uncached model ----------------------------------------------------------------------


def uncached_greedy(model: Transformer, prompt: str, max_new_tokens: int) -> tuple[int, ...]:
    tokens = [BOS, *TOKENIZER.encode(prompt)]
    written: list[int] = []
    while len(written) < max_new_tokens and (not written or written[-1] not in (EOS, EOS2)):
        with torch.no_grad():
            logits = model(torch.tensor([tokens + written]))[0, -1]
        written.append(int(logits.argmax()))
    return tuple(written)


@pytest.mark.parametrize("seed", range(4))
def test_greedy_equals_the_uncached_loop(seed: int) -> None:
    model = tiny_model(seed)
    found = sample(model, TOKENIZER, PROMPTS, n=2, temperature=0, max_new_tokens=30)
    for prompt, completions in zip(PROMPTS, found, strict=True):
        assert completions[0].token_ids == uncached_greedy(model, prompt, 30)
        assert completions[0] == completions[1]


def test_logprob_is_the_models_own() -> None:
    """The sum of log_softmax over all written tokens, EOS included, whatever temperature and top-p were."""
    model = tiny_model()
    for options in (
        {"temperature": 0.5, "top_p": 0.6},
        {"temperature": 1.7, "top_p": 1.0},
        {"temperature": 0},
    ):
        for prompt, found in zip(PROMPTS, sample(model, TOKENIZER, PROMPTS, n=3, **options), strict=True):
            for completion in found:
                prefix = [BOS, *TOKENIZER.encode(prompt)]
                with torch.no_grad():
                    logits = model(torch.tensor([[*prefix, *completion.token_ids[:-1]]]))[0]
                logprobs = logits[len(prefix) - 1 :].log_softmax(-1)
                expected = logprobs.gather(1, torch.tensor(completion.token_ids).unsqueeze(1)).sum()
                assert completion.logprob == pytest.approx(float(expected), abs=2e-3)


# ---- how a completion ends ---------------------------------------------------------------------------


@pytest.mark.parametrize(("end", "token"), [("$", EOS), ("%", EOS2)])
def test_every_eos_id_ends_a_completion(end: str, token: int) -> None:
    """Where only the first of several EOS ids counted, samples ran to the limit (trl PR #7039)."""
    (found,) = sample(chain({"a": "b", "b": "c", "c": end}), TOKENIZER, ["a"], n=1)
    assert found[0].text == "bc" and found[0].finish_reason == "stop"
    assert found[0].token_ids[-1] == token and len(found[0].token_ids) == 3


def test_the_length_limit_is_told_apart() -> None:
    (found,) = sample(chain({"a": "b", "b": "c", "c": "b"}), TOKENIZER, ["a"], n=2, max_new_tokens=5)
    assert [(c.text, c.finish_reason) for c in found] == [("bcbcb", "length")] * 2
    (found,) = sample(chain({"a": "b", "b": "$"}), TOKENIZER, ["a"], n=1, max_new_tokens=2)
    assert found[0].finish_reason == "stop"  # EOS as the last token allowed is a stop


@pytest.mark.parametrize(
    ("steps", "stop", "text"),
    [
        ({"a": "b", "b": "c", "c": "d", "d": "e"}, ("cd",), "b"),  # across two tokens
        ({"a": "d", "d": "c", "c": "#", "#": "d"}, ("ca",), "d"),  # ends inside the token "ab"
        ({"a": "c", "c": "#", "#": "d"}, ("b",), "ca"),
        ({"a": "b", "b": "\n", "\n": ":", ":": "c"}, ("never", "\n:", "zz"), "b"),
        ({"a": "b", "b": " ", " ": "c"}, ("b ",), ""),  # a space at the end, and nothing is left
        ({"a": "b", "b": "$"}, ("c",), "b"),
    ],
)
def test_stop_strings_cut_the_text(steps: dict[str, str], stop: tuple[str, ...], text: str) -> None:
    (found,) = sample(chain(steps), TOKENIZER, ["a"], n=3, stop=stop, max_new_tokens=40)
    assert {c.text for c in found} == {text}
    assert {c.finish_reason for c in found} == {"stop"}
    assert all(len(c.token_ids) < 8 for c in found)  # and sampling stopped there


def test_stop_strings_agree_with_cutting_afterwards() -> None:
    """Random text: what stops early is what a search in the unstopped text finds."""
    options = {"n": 40, "max_new_tokens": 30, "seed": 2}
    (free,) = sample(noisy(3), TOKENIZER, ["ab"], **options)
    (cut,) = sample(noisy(3), TOKENIZER, ["ab"], stop=("ab", "j:"), **options)
    places = [min((at for s in ("ab", "j:") if (at := c.text.find(s)) >= 0), default=None) for c in free]
    assert [c.text for c in cut] == [f.text[:at] for f, at in zip(free, places, strict=True)]
    assert 0 < sum(at is not None for at in places) < 40


class FewerIds(CharTokenizer):
    """Knows V ids of V + 2: not the model's EOS, which is the last, and not the one before it."""

    eos_ids = (V + 1,)

    def decode(self, ids: Sequence[int]) -> str:
        return super().decode([i for i in ids if i < V])


@pytest.mark.parametrize("last", [":", " "])  # a blank: then any id may complete the stop string
def test_an_eos_id_that_the_tokenizer_does_not_know_ends_a_completion(last: str) -> None:
    """With stop strings it was an IndexError: the tokenizer's ids were looked up, EOS is behind them."""
    known = chain({"a": "b", "b": "j", "j": last}).table.detach()
    table = nn.functional.pad(known, (0, 2, 0, 2))
    options = {"n": 3, "stop": ("j" + last,), "max_new_tokens": 40}
    (found,) = sample(FixedLogits(table), FewerIds(), ["a"], **options)
    assert {(c.text, len(c.token_ids), c.finish_reason) for c in found} == {("b", 3, "stop")}
    (b,) = TOKENIZER.encode("b")
    table[b, V] = table[V, V + 1] = 99.0
    (found,) = sample(FixedLogits(table), FewerIds(), ["a"], **options)
    assert {(c.text, c.token_ids, c.finish_reason) for c in found} == {("b", (b, V, V + 1), "stop")}


def test_text_is_decoded_only_where_it_may_stop() -> None:
    """A stop string costs decoding only after tokens that can complete it: here after none of 600."""
    tokenizer = CharTokenizer()
    sample(chain({"a": "b", "b": "c", "c": "b"}), tokenizer, ["a"], n=20, stop=("j",), max_new_tokens=30)
    assert tokenizer.decoded == V + 20  # the vocabulary once, and each finished text


def test_the_context_caps_a_completion() -> None:
    """Prompt and completion fill the context together, in a batch with a prompt that has room."""
    model = FixedLogits(chain({"a": "b", "b": "a"}).table.detach(), max_seq_len=12)
    short, long = sample(model, TOKENIZER, ["a", "a" * 9], n=3, max_new_tokens=8)
    assert {(len(c.token_ids), c.finish_reason) for c in short} == {(8, "length")}
    assert {(len(c.token_ids), c.finish_reason) for c in long} == {(2, "length")}


def test_the_context_caps_a_real_model() -> None:
    model = tiny_model()  # 64 positions, BOS included
    found = sample(model, TOKENIZER, ["a" * 60, "a" * 40, "a"], n=2, temperature=1.5, max_new_tokens=100)
    assert all(len(c.token_ids) <= room for room, cs in zip((3, 23, 62), found, strict=True) for c in cs)
    assert any(c.finish_reason == "length" for c in found[0])


@pytest.mark.parametrize("length", [63, 200])
def test_a_prompt_longer_than_the_context_is_named(length: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^problem long: its prompt has {length + 1} tokens.* 64 "
    ) as error:
        sample(tiny_model(), TOKENIZER, ["a", "a" * length], n=1, ids=["short", "long"])
    assert "\n" not in str(error.value)


# ---- what it costs -----------------------------------------------------------------------------------


def rows_needed(found: list[list[Completion]]) -> list[int]:
    """Distinct texts, problem by problem, after 1, 2, ... tokens: those that some completion goes on from."""
    longest = max(len(c.token_ids) for completions in found for c in completions)
    return [
        sum(len({c.token_ids[:t] for c in completions if len(c.token_ids) > t}) for completions in found)
        for t in range(1, longest)
    ]


@pytest.mark.parametrize("eos", [0.0, 2.0, 4.0])
@pytest.mark.parametrize("temperature", [0.3, 0.9])
def test_equal_beginnings_are_one_row(eos: float, temperature: float) -> None:
    """Each step runs every distinct text once, and at most a third more rows that are idle."""
    model = noisy(eos=eos)
    found = sample(model, TOKENIZER, PROMPTS, n=50, max_new_tokens=40, temperature=temperature)
    assert model.batches[0] == 4  # each prompt is one row for all of its samples
    needed = rows_needed(found)
    assert len(model.batches) == 1 + len(needed)  # no step after the last completion has ended
    for rows, least in zip(model.batches[1:], needed, strict=True):
        assert least <= rows <= max(least / (1 - LEAVE_SHARE), 4)


def test_completions_that_part_keep_their_own_past() -> None:
    """Rows are copied where completions part, and moved where others end: each equals the uncached loop."""
    model, config = tiny_model(), SampleConfig(temperature=0.5)
    prompts, n, limit = ["ab", "abcabcab", "j"], 12, 24
    found = sample(model, TOKENIZER, prompts, n=n, temperature=config.temperature, max_new_tokens=limit)
    agreeing = rows_needed(found)
    assert agreeing[0] < sum(agreeing) / len(agreeing) < n * len(prompts)  # some part later than others
    for place, (prompt, completions) in enumerate(zip(prompts, found, strict=True)):
        for uniforms, completion in zip(
            row_uniforms(0, str(place), range(n), limit), completions, strict=True
        ):
            tokens = [BOS, *TOKENIZER.encode(prompt)]
            written: list[int] = []
            while len(written) < limit and not (written and written[-1] in TOKENIZER.eos_ids):
                logits = model(torch.tensor([tokens + written]))[:, -1, :V]
                written.append(int(choose(logits, uniforms[len(written)].reshape(1), config)))
            assert list(completion.token_ids) == written


def test_a_wide_request_is_cut_into_batches() -> None:
    model, wide = noisy(), noisy()
    found = sample(model, TOKENIZER, ["a", "b"], n=10, max_new_tokens=5, batch_rows=4)
    assert [len(completions) for completions in found] == [10, 10]
    assert found == sample(wide, TOKENIZER, ["a", "b"], n=10, max_new_tokens=5, batch_rows=20)
    assert max(model.batches) <= 4 < max(wide.batches)


MANY = ["abcdefghij"[: 1 + i % 7] for i in range(16)]


def test_the_next_prompts_come_in_when_completions_end() -> None:
    """Batches that are filled up again take fewer steps than one after the other, within the same bound."""
    one_group, apart = noisy(eos=1.0), noisy(eos=1.0)
    options = {"n": 4, "max_new_tokens": 60, "seed": 3}
    found = sample(one_group, TOKENIZER, MANY, **options, batch_rows=16)  # 16 prompts, 4 at a time: one group
    ids = [str(i) for i in range(16)]
    one_by_one = [
        completions
        for first in range(0, 16, 4)
        for completions in sample(
            apart, TOKENIZER, MANY[first : first + 4], ids=ids[first : first + 4], **options, batch_rows=16
        )
    ]
    assert found == one_by_one
    assert max(one_group.batches) <= 16
    assert len(one_group.batches) < 0.8 * len(apart.batches)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.2])
def test_refilled_rows_keep_their_own_past(temperature: float) -> None:
    """A real model, little room: prompts that enter beside older rows write what they write alone."""
    model = tiny_model()
    options = {"n": 3, "temperature": temperature, "max_new_tokens": 40}
    found = sample(model, TOKENIZER, MANY, **options, batch_rows=6)
    for place, (prompt, completions) in enumerate(zip(MANY, found, strict=True)):
        (alone,) = sample(model, TOKENIZER, [prompt], **options, ids=[str(place)])
        assert [c.token_ids for c in completions] == [c.token_ids for c in alone]
        assert [c.logprob for c in completions] == pytest.approx([c.logprob for c in alone], abs=1e-3)


def test_in_float64_nothing_depends_on_the_batch() -> None:
    """The exact mode: completions and logprobs to the last bit; float32 rounds otherwise in another batch."""

    def batches(dtype: torch.dtype) -> list[list[list[Completion]]]:
        model = tiny_model().to(dtype)
        options = {"n": 16, "max_new_tokens": 12}
        return [sample(model, TOKENIZER, PROMPTS, **options, batch_rows=rows) for rows in (8, 64)]

    small, large = batches(torch.float64)
    assert small == large
    small, large = batches(torch.float32)
    assert small != large  # else this test would show nothing


# ---- mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"temperature": -0.1}, "temperature must be 0"),
        ({"temperature": math.inf}, "temperature must be 0"),
        ({"top_p": 0.0}, "--top-p must be above 0"),
        ({"top_p": 1.5}, "--top-p must be .* got 1.5"),
        ({"top_k": -1}, "--top-k must be"),
        ({"max_new_tokens": 0}, "--max-new-tokens must be"),
        ({"stop": ("",)}, "^stop must be without empty"),
        ({"ids": ["x"]}, "2 prompts but 1 ids"),
        ({"ids": ["x", "x"]}, "'x' occurs twice"),
    ],
)
def test_bad_options_are_named(options: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        sample(noisy(), TOKENIZER, ["a", "b"], **options)


def test_a_foreign_tokenizer_is_refused() -> None:
    with pytest.raises(ValueError, match=f"ids up to {V - 1},.* ends at {V - 2}:"):
        sample(FixedLogits(torch.zeros(V - 1, V - 1)), TOKENIZER, ["a"])


def test_non_finite_logits_are_no_samples() -> None:
    with pytest.raises(ValueError, match="not finite"):
        sample(FixedLogits(torch.full((V, V), math.nan)), TOKENIZER, ["a"], n=2, max_new_tokens=3)


def test_a_tokenizer_without_bos() -> None:
    tokenizer = CharTokenizer()
    tokenizer.bos_id = None
    (found,) = sample(chain({"a": "b", "b": "$"}), tokenizer, ["a"], n=1)
    assert found[0].text == "b"
    with pytest.raises(ValueError, match="problem 0: its prompt has no tokens"):
        sample(chain({"a": "b"}), tokenizer, [""], n=1)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 9), n_prompts=st.integers(1, 9), batch_rows=st.integers(1, 24), seed=st.integers(0, 99)
)
def test_the_cache_has_no_more_rows_than_are_counted(
    n: int, n_prompts: int, batch_rows: int, seed: int
) -> None:
    """It doubled whenever it grew: 256 samples side by side got 352 rows, 200 greedy ones 400 on a GPU."""
    rooms: list[int] = []

    class Watched(KVCache):
        def write(self, *arguments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            rooms.append(len(self.k[0]))
            return super().write(*arguments)

    torch.manual_seed(seed)
    model = Transformer(replace(CONFIG, n_layer=1))
    prompts = [LETTERS[: 1 + i] for i in range(n_prompts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler, "KVCache", Watched)
        options = {"n": n, "max_new_tokens": 12, "seed": seed, "batch_rows": batch_rows}
        sample(model, TOKENIZER, prompts, temperature=1.5, **options)
    assert max(rooms) <= cache_rows(batch_rows, n * n_prompts, torch.device("cpu"))


def test_rows_of_a_gpu_are_padded() -> None:
    assert cache_rows(256, 200, torch.device("cuda")) == 224  # the greedy solutions of a validation
    assert cache_rows(256, 200, torch.device("cpu")) == 200
    assert cache_rows(64, 10_000, torch.device("cpu")) == 86  # 64 written, a quarter of all idle


def test_ids_that_the_tokenizer_does_not_know_are_never_drawn() -> None:
    """Embeddings are padded to round sizes (Qwen): rows that were never trained may have any logit."""
    table = nn.functional.pad(chain({"a": "b", "b": "j", "j": ":"}).table.detach(), (0, 3, 0, 3))
    table[:, -3:] = 99.0
    for temperature in (0.0, 1.0):
        options = {"n": 3, "max_new_tokens": 6, "temperature": temperature, "top_p": 1.0}
        for completion in sample(FixedLogits(table), TOKENIZER, ["a"], **options)[0]:
            assert all(token < V for token in completion.token_ids)
