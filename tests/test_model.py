"""model.py against a plain numpy forward pass; rows that do not depend on padding, cache or neighbours."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mathref import model as model_module
from mathref.model import GatedMLP, KVCache, ModelConfig, Transformer

pytestmark = pytest.mark.usefixtures("poisoned_memory")  # the cache is not cleared

SMALL = dict(
    vocab_size=61, n_layer=2, n_head=4, n_kv_head=2, head_dim=6, n_embd=20, n_inner=28, max_seq_len=48
)


def build(seed: int = 0, **changes: object) -> Transformer:
    """A random model whose weights are large enough that an error in attention shows in the logits."""
    torch.manual_seed(seed)
    model = Transformer(ModelConfig(**{**SMALL, **changes})).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * 0.3 + (1.0 if "norm" in name else 0.0))
    return model


def random_tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, SMALL["vocab_size"], shape, generator=torch.Generator().manual_seed(seed))


def plain_logits(model: Transformer, tokens: list[int]) -> np.ndarray:
    """The Llama forward pass over one sequence in float64: loops over positions and heads, no torch."""
    config = model.config
    weights = {name: p.detach().double().numpy() for name, p in model.named_parameters()}
    D, group = config.head_dim, config.n_head // config.n_kv_head

    def normed(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + config.norm_eps) * weight

    def turned(vector: np.ndarray, position: int) -> np.ndarray:
        result = vector.copy()
        for i in range(D // 2):
            angle = position * config.rope_theta ** (-2 * i / D)
            a, b = vector[i], vector[i + D // 2]
            result[i] = a * math.cos(angle) - b * math.sin(angle)
            result[i + D // 2] = b * math.cos(angle) + a * math.sin(angle)
        return result

    x = weights["embedding.weight"][tokens]  # (T, C)
    for layer in range(config.n_layer):
        w = {
            n.removeprefix(f"blocks.{layer}."): v
            for n, v in weights.items()
            if n.startswith(f"blocks.{layer}.")
        }
        h = normed(x, w["norm_1.weight"])
        q, k, v = (h @ w[f"attention.{name}.weight"].T for name in "qkv")
        mixed = np.zeros((len(tokens), config.n_head * D))
        for head in range(config.n_head):
            mine, shared = slice(head * D, (head + 1) * D), slice(head // group * D, (head // group + 1) * D)
            for t in range(len(tokens)):
                scores = [
                    turned(q[t, mine], t) @ turned(k[s, shared], s) / math.sqrt(D) for s in range(t + 1)
                ]
                share = np.exp(scores) / np.exp(scores).sum()
                mixed[t, mine] = share @ v[: t + 1, shared]
        x = x + mixed @ w["attention.out.weight"].T
        h = normed(x, w["norm_2.weight"])
        gate = h @ w["mlp.gate.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w["mlp.up.weight"].T)) @ w["mlp.out.weight"].T
    return normed(x, weights["norm.weight"]) @ weights.get("lm_head.weight", weights["embedding.weight"]).T


@pytest.mark.parametrize(
    "changes",
    [{}, {"n_kv_head": 1}, {"n_kv_head": 4, "tie_embeddings": False}, {"rope_theta": 500.0, "norm_eps": 0.1}],
    ids=["grouped", "one-key-head", "untied", "theta-eps"],
)
def test_logits_equal_a_plain_forward_pass(changes: dict) -> None:
    model, tokens = build(**changes), random_tokens(1, 9)
    expected = plain_logits(model, tokens[0].tolist())
    np.testing.assert_allclose(model(tokens)[0].detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_no_logit_sees_a_later_token() -> None:
    model, tokens = build(), random_tokens(1, 12)
    changed = tokens.clone()
    changed[0, 7] = (changed[0, 7] + 1) % SMALL["vocab_size"]
    before, after = model(tokens)[0], model(changed)[0]
    torch.testing.assert_close(before[:7], after[:7], rtol=0, atol=0)
    assert (before[7:] - after[7:]).abs().amax(dim=-1).min() > 1e-4  # position 7 and all behind it did change


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_equal_the_rows_alone(side: str) -> None:
    """USERS.md 3.5: positions came from the column, not from the count of real tokens."""
    model = build()
    rows = [random_tokens(length, seed=length) for length in (1, 5, 11)]
    tokens = torch.full((3, 11), 7)
    mask = torch.zeros(3, 11, dtype=torch.bool)
    for i, row in enumerate(rows):
        place = slice(11 - len(row), 11) if side == "left" else slice(0, len(row))
        tokens[i, place], mask[i, place] = row, True
    logits = model(tokens, mask=mask)
    assert torch.isfinite(logits).all()  # a pad must not poison its row through a softmax over nothing
    for i, row in enumerate(rows):
        torch.testing.assert_close(logits[i][mask[i]], model(row[None])[0], rtol=1e-4, atol=1e-5)


def test_right_padding_needs_no_mask() -> None:
    model, row = build(), random_tokens(1, 6)
    padded = torch.cat((row, torch.full((1, 5), 7)), dim=1)
    torch.testing.assert_close(model(padded)[:, :6], model(row), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_pads_get_no_gradient(side: str) -> None:
    model, pad = build(tie_embeddings=False), 60
    tokens = random_tokens(2, 8) % 60  # the pad's id is nowhere else
    mask = torch.ones(2, 8, dtype=torch.bool)
    place = slice(0, 3) if side == "left" else slice(5, 8)
    tokens[1, place], mask[1, place] = pad, False
    model(tokens, mask=mask)[mask].square().sum().backward()
    gradient = model.embedding.weight.grad
    assert gradient is not None
    assert torch.count_nonzero(gradient[pad]) == 0
    assert torch.count_nonzero(gradient[tokens[0, 0]]) > 0


@pytest.mark.parametrize("chunks", [[10], [1] * 10, [4, 1, 1, 3, 1]], ids=["whole", "single", "mixed"])
def test_cached_equals_uncached(chunks: list[int]) -> None:
    model, tokens = build(), random_tokens(3, 10)
    cache = KVCache(model.config, 3, 10, device="cpu", dtype=torch.float32)
    pieces = [model(piece, kv_cache=cache) for piece in tokens.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), rtol=1e-4, atol=1e-5)
    assert cache.lengths.tolist() == [10, 10, 10]


def test_rows_of_different_lengths_share_a_cache() -> None:
    """Prompts of 2, 7 and 4 tokens, padded on the right, then six more tokens each: every row as if alone."""
    model, lengths = build(), [2, 7, 4]
    rows = [random_tokens(length + 6, seed=length) for length in lengths]
    prompts, mask = torch.full((3, 7), 9), torch.zeros(3, 7, dtype=torch.bool)
    for i, length in enumerate(lengths):
        prompts[i, :length], mask[i, :length] = rows[i][:length], True
    cache = KVCache(model.config, 3, 13, device="cpu", dtype=torch.float32)
    logits = model(prompts, mask=mask, kv_cache=cache)
    alone = [model(row[None])[0] for row in rows]
    for i, length in enumerate(lengths):
        torch.testing.assert_close(logits[i, :length], alone[i][:length], rtol=1e-4, atol=1e-5)
    for step in range(6):
        token = torch.stack([row[length + step] for row, length in zip(rows, lengths, strict=True)])
        logits = model(token[:, None], kv_cache=cache)[:, 0]
        expected = torch.stack([alone[i][length + step] for i, length in enumerate(lengths)])
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert cache.lengths.tolist() == [8, 13, 10]


@pytest.mark.parametrize(
    "changes", [{}, {"attention_softcap": 5.0}, {"sliding_window": 4}], ids=["plain", "capped", "windowed"]
)
def test_a_single_row_goes_on_behind_its_padding(changes: dict) -> None:
    """Its next tokens need no mask, so they must not reach the padding of its prompt."""
    model, row = build(**changes), random_tokens(1, 9)
    prompt = torch.cat((row[:, :3], torch.full((1, 4), 7)), dim=1)
    cache = KVCache(model.config, 1, 12, device="cpu", dtype=torch.float32)
    model(prompt, mask=torch.arange(7)[None] < 3, kv_cache=cache)
    found = torch.cat([model(row[:, i : i + 1], kv_cache=cache) for i in range(3, 9)], dim=1)
    torch.testing.assert_close(found, model(row)[:, 3:], rtol=1e-4, atol=1e-5)
    assert cache.longest == 9


def test_repeated_and_selected_rows_go_on_as_their_originals() -> None:
    model, prompt, more = build(), random_tokens(2, 5), random_tokens(6, 1, seed=3)
    cache = KVCache(model.config, 2, 16, device="cpu", dtype=torch.float32)
    model(prompt, kv_cache=cache)
    cache.select(torch.tensor([0, 0, 0, 1, 1, 1]))
    whole = torch.cat((prompt.repeat_interleave(3, dim=0), more), dim=1)
    torch.testing.assert_close(model(more, kv_cache=cache)[:, 0], model(whole)[:, -1], rtol=1e-4, atol=1e-5)
    kept = torch.tensor([4, 1])
    cache.select(kept)
    token = random_tokens(2, 1, seed=4)
    expected = model(torch.cat((whole[kept], token), dim=1))[:, -1]
    torch.testing.assert_close(model(token, kv_cache=cache)[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_copied_rows_go_on_as_their_originals() -> None:
    """Into a row that is in use, and behind the last one, where the cache has to grow first."""
    model, prompt, more = build(), random_tokens(2, 5), random_tokens(4, 1, seed=3)
    cache = KVCache(model.config, 2, 16, device="cpu", dtype=torch.float32)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    model(prompt, mask=mask, kv_cache=cache)
    cache.copy_rows(torch.tensor([1, 0, 1]), torch.tensor([0, 2, 3]))
    assert cache.lengths.tolist() == [3, 3, 5, 3]
    logits = model(more, kv_cache=cache)[:, 0]
    for row, (origin, length) in enumerate([(1, 3), (1, 3), (0, 5), (1, 3)]):
        alone = model(torch.cat((prompt[origin : origin + 1, :length], more[row : row + 1]), dim=1))[0, -1]
        torch.testing.assert_close(logits[row], alone, rtol=1e-4, atol=1e-5)


def test_the_cache_narrows_when_its_longest_row_leaves() -> None:
    model = build()
    cache = KVCache(model.config, 2, 12, device="cpu", dtype=torch.float32)
    mask = torch.tensor([[True] * 12, [True] * 3 + [False] * 9])
    tokens = random_tokens(2, 12)
    model(tokens, mask=mask, kv_cache=cache)
    cache.select(torch.tensor([1]))
    logits = model(torch.tensor([[5]]), kv_cache=cache)  # a cache that still counted the 12 would be full
    alone = model(torch.cat((tokens[1:, :3], torch.tensor([[5]])), dim=1))
    torch.testing.assert_close(logits[:, 0], alone[:, -1], rtol=1e-4, atol=1e-5)


def test_a_bfloat16_model_uses_a_bfloat16_cache() -> None:
    model, tokens = build().bfloat16(), random_tokens(2, 8)
    cache = KVCache(model.config, 2, 8, device="cpu", dtype=torch.bfloat16)
    cached = torch.cat([model(piece, kv_cache=cache) for piece in tokens.split(1, dim=1)], dim=1)
    assert cached.dtype == torch.bfloat16
    assert (cached - model(tokens)).abs().max() < 0.05 * cached.abs().max()


def test_positions_are_exact_in_bfloat16() -> None:
    """bfloat16 holds no integer above 256 exactly: positions and angles have to stay in float32."""
    model = build(max_seq_len=1024, rope_theta=10000.0)
    tokens = random_tokens(1, 1000)
    exact, rounded = model(tokens)[0, -40:], build(max_seq_len=1024).bfloat16()(tokens)[0, -40:].float()
    error = (exact - rounded).abs().mean() / exact.abs().mean()
    assert error < 0.05  # about 0.01; with bfloat16 positions it is near 1


def test_recomputed_layers_give_the_same_gradients() -> None:
    gradients = []
    for recompute in (False, True):
        model = build().train()
        model.checkpoint_layers = recompute
        model(random_tokens(2, 7)).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=1e-5, atol=1e-7)


def test_new_weights_have_the_stated_spread() -> None:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(**{**SMALL, "n_layer": 8, "n_embd": 64, "n_inner": 128}))
    block = model.blocks[3]
    assert model.embedding.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert block.mlp.gate.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert block.mlp.out.weight.std().item() == pytest.approx(0.02 / 4, rel=0.1)  # sqrt(2 * 8 layers) = 4
    assert block.attention.out.weight.std().item() == pytest.approx(0.02 / 4, rel=0.1)
    assert torch.equal(block.norm_1.weight, torch.ones(64))


def test_a_new_model_is_nearly_uniform() -> None:
    torch.manual_seed(0)
    logits = Transformer(ModelConfig(**SMALL))(random_tokens(4, 20))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), random_tokens(80, seed=5))
    assert loss.item() == pytest.approx(math.log(SMALL["vocab_size"]), abs=0.1)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"n_kv_head": 3}, "n_kv_head 3"),
        ({"head_dim": 5}, "head_dim 5"),
        ({"n_layer": 0}, "n_layer is 0"),
        ({"vocab_size": 61.0}, "vocab_size is 61.0"),
        ({"n_embd": True}, "n_embd is True"),
        ({"rope_theta": -1.0}, "rope_theta is -1.0"),
        ({"norm_eps": float("nan")}, "norm_eps is nan"),
        ({"rope_theta": "10000"}, "rope_theta is '10000'"),
        ({"tie_embeddings": "no"}, "tie_embeddings is 'no'"),
    ],
)
def test_a_wrong_config_names_field_and_value(changes: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named) as error:
        ModelConfig(**{**SMALL, **changes})
    assert "\n" not in str(error.value)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig(**SMALL).n_layer = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("tokens", "mask", "named"),
    [
        (torch.zeros(5, dtype=torch.long), None, "shape"),
        (torch.zeros(1, 0, dtype=torch.long), None, "shape"),
        (torch.zeros(1, 49, dtype=torch.long), None, "49 tokens"),
        (torch.zeros(1, 5), None, "int64"),
        (torch.tensor([[1, -1]]), None, "a token id is not within 0 to"),
        (torch.tensor([[1, 10**6]]), None, "a token id is not within 0 to"),
        (torch.zeros(1, 5, dtype=torch.long), torch.ones(1, 4, dtype=torch.bool), "mask"),
        (torch.zeros(1, 5, dtype=torch.long), torch.ones(1, 5), "bool"),
    ],
    ids=[
        "one-dimension",
        "no-token",
        "too-long",
        "float-tokens",
        "negative",
        "large",
        "mask-shape",
        "mask-type",
    ],
)
def test_wrong_input_is_refused(tokens: torch.Tensor, mask: torch.Tensor | None, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build()(tokens, mask=mask)


def test_a_full_cache_and_left_padding_with_a_cache_are_refused() -> None:
    model = build()
    cache = KVCache(model.config, 1, 6, device="cpu", dtype=torch.float32)
    model(random_tokens(1, 5), kv_cache=cache)
    with pytest.raises(ValueError, match="holds 6"):
        model(random_tokens(1, 2), kv_cache=cache)
    with pytest.raises(ValueError, match="on the right"):
        fresh = KVCache(model.config, 1, 6, device="cpu", dtype=torch.float32)
        model(random_tokens(1, 2), mask=torch.tensor([[False, True]]), kv_cache=fresh)


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_the_feed_forward_part_keeps_two_wide_arrays_and_repeats_no_product(activation, monkeypatch):
    """Gradients are those of the formula; each product is done once forward and twice for its gradients."""
    monkeypatch.setattr(model_module, "WIDE", 0)
    config = ModelConfig(**SMALL, activation=activation)
    torch.manual_seed(0)
    part, x = GatedMLP(config), torch.randn(1, 7, config.n_embd, requires_grad=True)
    kept = set()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.shape == (1, 7, config.n_inner):
            kept.add(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = part(x)
    assert len(kept) == 2
    with FlopCounterMode(display=False) as backward:
        y.sin().sum().backward()
    assert backward.get_total_flops() == 2 * 3 * 2 * 7 * config.n_embd * config.n_inner
    found = [p.grad for p in part.parameters()] + [x.grad]

    weights = [p.detach().double().requires_grad_() for p in (part.gate.weight, part.up.weight)]
    out, z = part.out.weight.detach().double().requires_grad_(), x.detach().double().requires_grad_()
    gate, up = (z @ weight.T for weight in weights)
    slope = torch.sigmoid(gate) if activation == "silu" else 0.5 * (
        1 + torch.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3))
    )  # fmt: skip
    ((gate * slope * up) @ out.T).sin().sum().backward()
    for mine, exact in zip(found, [*weights, out, z], strict=True):
        torch.testing.assert_close(mine.double(), exact.grad, rtol=1e-4, atol=1e-6)
