"""Products in the form that is fast: the same numbers, those of bfloat16 rounded once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mathref import linear as module
from mathref.linear import Linear, linear


@pytest.fixture
def emulated(monkeypatch):
    monkeypatch.setattr(module, "BFLOAT16_IS_EMULATED", True)
    monkeypatch.setattr(module, "PIECE", 5)  # the weight below has three pieces


@pytest.mark.parametrize("with_bias", [False, True])
def test_the_product_is_the_exact_one_rounded_once(emulated, with_bias):
    torch.manual_seed(0)
    x, weight = torch.randn(3, 2, 40).bfloat16(), torch.randn(13, 40).bfloat16()
    bias = torch.randn(13).bfloat16() if with_bias else None
    found = linear(x, weight, bias)
    exact = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert found.shape == (3, 2, 13) and found.dtype == torch.bfloat16
    # bfloat16 has 8 significant bits, half a unit of the last is 2**-8; sums near 0 have float32's error.
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-5)


def test_gradients_are_those_of_the_plain_product(emulated):
    torch.manual_seed(0)
    layer, x = Linear(16, 13).bfloat16(), torch.randn(6, 16).bfloat16()
    layer(x).float().sin().sum().backward()
    found = [p.grad.float() for p in layer.parameters()]
    exact = torch.nn.Linear(16, 13).double()
    exact.load_state_dict({name: p.double() for name, p in layer.state_dict().items()})
    exact(x.double()).sin().sum().backward()
    for mine, theirs in zip(found, exact.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.grad.float(), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("n_rows", [0, 1, 2, 3, 32, 33, 128, 129])
@pytest.mark.parametrize("n_out", [24, 13, 1])  # a weight in parts, and two that are not split
@pytest.mark.parametrize("piece", [2048, 10])
@pytest.mark.parametrize("with_bias", [False, True])
def test_however_many_rows_it_is_the_same_product(n_rows, n_out, with_bias, piece, monkeypatch):
    monkeypatch.setattr(module, "PIECE", piece)
    torch.manual_seed(0)
    layer = Linear(40, n_out, bias=with_bias).double()
    exact = torch.nn.Linear(40, n_out, bias=with_bias).double()
    exact.load_state_dict(layer.state_dict())
    x = torch.randn(n_rows, 1, 40, dtype=torch.float64, requires_grad=True)
    same_x = x.detach().clone().requires_grad_()
    found, expected = layer(x), exact(same_x)
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    found.sin().sum().backward()
    expected.sin().sum().backward()
    for mine, theirs in zip([x, *layer.parameters()], [same_x, *exact.parameters()], strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-12, atol=1e-12)


def test_a_weight_that_is_the_transpose_of_another_is_taken():
    torch.manual_seed(0)
    x, weight = torch.randn(1, 40, dtype=torch.float64), torch.randn(40, 16, dtype=torch.float64)
    torch.testing.assert_close(linear(x, weight.t()), x @ weight, rtol=1e-12, atol=1e-12)


def test_very_few_rows_of_bfloat16_are_left_as_they_are(emulated):
    torch.manual_seed(0)
    x, weight = torch.randn(3, 16).bfloat16(), torch.randn(13, 16).bfloat16()
    assert torch.equal(linear(x, weight), F.linear(x, weight))


def test_autocast_does_not_narrow_them_again(emulated):
    """Under autocast the widened numbers became bfloat16 once more, and the emulated product was done."""
    torch.manual_seed(0)
    x, weight = torch.randn(6, 40).bfloat16(), torch.randn(13, 40).bfloat16()
    with torch.autocast("cpu", torch.bfloat16), Types() as types:
        linear(x, weight)
    assert types.products == {torch.float32}


@pytest.mark.parametrize("n_rows", [1, 3, 40])
def test_under_autocast_the_type_is_that_of_the_plain_layer(n_rows, monkeypatch):
    """A bias in float32 made a float32 result of few rows."""
    monkeypatch.setattr(module, "BFLOAT16_IS_EMULATED", False)
    x, layer = torch.randn(n_rows, 40), Linear(40, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == F.linear(x, layer.weight, layer.bias).dtype == torch.bfloat16


class Types(TorchDispatchMode):
    """The types of the numbers that are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.products: set[torch.dtype] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.products |= {arg.dtype for arg in args}
        return function(*args, **(kwargs or {}))
