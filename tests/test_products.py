"""oneDNN's products against double precision, forwards and backwards, and which layers take them."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from backbone import products
from backbone.loss import token_cross_entropy
from backbone.products import Linear, takes, use_onednn

onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")


@pytest.fixture
def avx512(monkeypatch: pytest.MonkeyPatch):
    """Whatever the processor: the products are the same, only slower."""
    monkeypatch.setattr(products, "_has_avx512", lambda: True)


def away(ours: Tensor, exact: Tensor) -> float:
    """Distance beside the size, in units of float32's last place."""
    return float((ours.double() - exact).norm() / exact.norm()) / torch.finfo(torch.float32).eps


@onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 300), (3, 100), (300,)])
def test_a_layer_and_its_gradients_are_exact_to_float32s_last_places(avx512, shape: tuple[int, ...], bias: bool):
    torch.manual_seed(0)
    layer = nn.Linear(384, 512, bias=bias)
    exactly = deepcopy(layer).double()
    use_onednn(layer_in := nn.Sequential(layer))
    assert type(layer_in[0]) is Linear and layer_in.state_dict().keys() == nn.Sequential(exactly).state_dict().keys()
    inputs, d_outputs = torch.randn(*shape, 384, requires_grad=True), torch.randn(*shape, 512)
    inputs_64 = inputs.detach().double().requires_grad_()
    outputs = layer(inputs)
    assert takes(inputs, layer.weight) and "Product" in type(outputs.grad_fn).__name__
    outputs.backward(d_outputs)
    exact = exactly(inputs_64)
    exact.backward(d_outputs.double())
    assert away(outputs.detach(), exact.detach()) < 4
    assert away(inputs.grad, inputs_64.grad) < 4
    for ours, theirs in zip(layer.parameters(), exactly.parameters(), strict=True):
        assert away(ours.grad, theirs.grad) < 4
    with torch.inference_mode():
        assert torch.equal(layer(inputs), outputs)


@onednn
def test_what_is_frozen_gets_no_gradient(avx512):
    layer = nn.Linear(384, 384)
    use_onednn(nn.Sequential(layer))
    layer.weight.requires_grad_(False)
    inputs = torch.randn(300, 384)
    layer(inputs).sum().backward()
    assert layer.weight.grad is None and torch.allclose(layer.bias.grad, torch.full((384,), 300.0))
    layer(inputs.requires_grad_()).sum().backward()
    torch.testing.assert_close(inputs.grad, layer.weight.sum(0).expand(300, 384), rtol=1e-4, atol=1e-5)


@onednn
def test_cross_entropy_by_onednn(avx512):
    """Against PyTorch's own in double precision."""
    torch.manual_seed(0)
    hidden, weight, labels = torch.randn(90, 256), torch.randn(2000, 256) / 16, torch.randint(2000, (90,))
    assert takes(hidden, weight)
    found = []
    for dtype in (torch.float32, torch.float64):
        given = [one.to(dtype, copy=True).requires_grad_() for one in (hidden, weight)]
        if dtype == torch.float32:
            losses = token_cross_entropy(*given, labels)[0]
        else:
            losses = functional.cross_entropy(functional.linear(*given), labels, reduction="none")
        losses.mean().backward()
        found.append([losses.detach(), *(one.grad for one in given)])
    for ours, exact in zip(*found, strict=True):
        assert away(ours, exact) < 8


@pytest.mark.parametrize(
    ("inputs", "weight", "options", "expected"),
    [
        ((1500, 384), (384, 384), {}, True),  # whisper-tiny's encoder
        ((8, 384), (51_865, 384), {}, True),  # its logits, a token of eight utterances
        ((8, 384), (1536, 384), {}, False),  # a decoding step's layers
        ((15 * 250, 128), (512, 128), {}, False),  # the demo's encoder
        ((300, 128), (2809, 128), {}, False),  # the demo's logits
        ((1500, 384), (384, 384), {"dtype": torch.bfloat16}, False),
        ((1500, 384), (384, 384), {"dtype": torch.float64}, False),
        ((1500, 384), (384, 384), {"device": "meta"}, False),
    ],
)
def test_which_products(avx512, inputs: tuple[int, int], weight: tuple[int, int], options: dict, expected: bool):
    assert takes(torch.empty(inputs, **options), torch.empty(weight, **options)) is expected


def test_other_processors_and_autocast_keep_pytorchs(monkeypatch: pytest.MonkeyPatch):
    layer, inputs = nn.Linear(384, 384), torch.randn(300, 384)
    use_onednn(nn.Sequential(layer))
    monkeypatch.setattr(products, "_has_avx512", lambda: False)
    assert torch.equal(layer(inputs), functional.linear(inputs, layer.weight, layer.bias))
    monkeypatch.setattr(products, "_has_avx512", lambda: True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(inputs).dtype == torch.bfloat16
