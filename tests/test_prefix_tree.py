"""Prefix trees of texts: what is stored once, and where each text finds its tokens."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mathref.model import ModelConfig, Transformer
from mathref.prefix_tree import FEW, LIKE, prefix_tree

SHAPE = ModelConfig(
    vocab_size=11, n_layer=2, n_head=4, n_kv_head=2, head_dim=6, n_embd=20, n_inner=28, max_seq_len=16
)
texts = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12).map(tuple), min_size=1, max_size=12)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts)
def test_each_beginning_stands_in_the_row_once(found):
    tree = prefix_tree(found)
    beginnings = {text[:end] for text in found for end in range(1, len(text) + 1)}
    assert tree.tokens.shape == tree.positions.shape == (1, len(beginnings))
    for text, path in zip(found, tree.paths, strict=True):
        assert tuple(tree.tokens[0, list(path)].tolist()) == text
        assert tree.positions[0, list(path)].tolist() == list(range(len(text)))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts)
def test_each_token_is_worked_on_once_and_sees_the_beginning_it_ends(found):
    tree = prefix_tree(found)
    place, paths = 0, {path[: i + 1] for path in tree.paths for i in range(len(path))}
    for group in tree.groups:
        b, t = group.queries.shape
        causal = torch.ones(t, t, dtype=torch.bool).tril().expand(b, 1, t, t)
        visible = causal if group.visible is None else group.visible
        for row, column in (divmod(i, group.queries.shape[1]) for i in group.is_new.tolist()):
            assert group.queries[row, column] == place  # they stand in the row in the order of the groups
            seen = group.keys[row][visible[row, 0, column]].tolist()
            assert seen[-1] == place and tuple(seen) in paths
            place += 1
    assert place == tree.tokens.shape[1]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, 300), min_size=1, max_size=30), st.integers(0, 60))
def test_attention_is_hardly_padded_where_a_text_adds_little_to_the_one_before(lengths, n_shared):
    """Of texts with one beginning the first adds all of it: among the others it would pad each to that."""
    beginning = (0,) * n_shared
    found = [beginning + (1 + i,) * length for i, length in enumerate(lengths)]
    new = [len(found[0]), *lengths[1:]]
    groups = prefix_tree(found).groups
    assert sum(group.queries.numel() for group in groups) <= sum(LIKE * max(FEW, n) for n in new)
    assert sum(len(group.is_new) for group in groups) == sum(new)
    assert len(groups) <= 1 + math.log(max(*new, FEW) / FEW, LIKE) + 1


def test_a_tree_by_hand():
    """Three texts that share 5 6, two of them 5 6 7: six tokens of eleven."""
    tree = prefix_tree([(5, 6, 7, 8), (5, 6, 9), (5, 6, 7, 1)])
    assert sorted(tree.tokens[0].tolist()) == [1, 5, 6, 7, 8, 9]
    with pytest.raises(ValueError, match="without tokens"):
        prefix_tree([(1,), ()])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts)
def test_a_text_that_shares_too_little_stands_alone(found):
    tree = prefix_tree(found, least_shared=13)  # none of them is that long
    assert tree.tokens.shape[1] == sum(map(len, set(found)))
    assert all(group.visible is None for group in tree.groups)
    for text, path in zip(found, tree.paths, strict=True):
        assert tuple(tree.tokens[0, list(path)].tolist()) == text and path[-1] - path[0] == len(text) - 1


@pytest.mark.parametrize("least_shared", [1, 4, 9])
@pytest.mark.parametrize(
    "switches", [{}, {"sliding_window": 3}, {"attention_softcap": 2.0}], ids=["plain", "window", "cap"]
)
def test_gradients_reach_what_texts_share(least_shared, switches):
    """The gradient of a shared token is the sum of those of the texts that hold it."""
    torch.manual_seed(0)
    config = replace(SHAPE, **switches)
    model, found = Transformer(config), [(1, 2, 3, 4), (1, 2, 5), (1, 2, 3, 4, 6, 7), (8,)]
    tree = prefix_tree(found, least_shared=least_shared)
    gradients = []
    for together in (True, False):
        model.zero_grad()
        if together:
            logits = model.head(model.hidden(tree.tokens, layout=model.tree_layout(tree)))[0]
            rows = [logits[list(path)] for path in tree.paths]
        else:
            rows = [model(torch.tensor([text]))[0] for text in found]
        sum((row.sin() * (i + 1)).sum() for i, row in enumerate(rows)).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)
    assert gradients[0].norm() > 1


def test_a_text_beyond_the_context_is_refused():
    config = replace(SHAPE, max_seq_len=3)
    model = Transformer(config)
    with pytest.raises(ValueError, match="a text of 4 tokens, but the context holds 3"):
        model.tree_layout(prefix_tree([(1, 2, 3), (1, 2, 3, 4)]))
