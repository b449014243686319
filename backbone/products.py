"""Matrix products on a CPU by oneDNN, where PyTorch's linear layers use MKL.

MKL does not use AVX-512 on processors of other makers than Intel; oneDNN, which PyTorch brings along for convolutions,
does, and is then about twice as fast. On Intel's the two are alike. Both add up in float32, in another order. Layers
narrower than Whisper's narrowest, and products of few rows, stay with MKL.

Shape suffixes: N rows, I and O a layer's inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_LEAST_WIDTH = 256
_LEAST_PRODUCTS = 2**25  # multiplications; below, a call's overhead counts


class Linear(nn.Linear):
    """A linear layer whose large products in float32 are oneDNN's, forwards and backwards."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        if not takes(input, self.weight):
            return functional.linear(input, self.weight, self.bias)
        return _Product.apply(input, self.weight, self.bias)


class GELULinear(Linear):
    """GELU and a linear layer, of which only GELU's input is kept for the backward pass, and not its output, too."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        if not takes(input, self.weight):
            return functional.linear(functional.gelu(input), self.weight, self.bias)
        return _GELUProduct.apply(input, self.weight, self.bias)


def use_onednn(model: nn.Module) -> None:
    """Gives a model's linear layers oneDNN's products; weights, names and configuration stay as they are."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear


def product(inputs_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`functional.linear` without autograd, by oneDNN where it is the faster."""
    if not takes(inputs_NI, weight_OI):
        return functional.linear(inputs_NI, weight_OI, bias_O)
    return times(inputs_NI, weight_OI, bias_O)


def times(inputs_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """oneDNN's own product, without autograd; what PyTorch's compiler, too, calls for a linear layer."""
    return torch.ops.mkldnn._linear_pointwise(inputs_NI, weight_OI, bias_O, "none", [], "")


def takes(inputs: Tensor, weight_OI: Tensor) -> bool:
    """Whether a product is oneDNN's."""
    return (
        has_onednn(inputs)
        and weight_OI.dtype == torch.float32
        and min(weight_OI.shape) >= _LEAST_WIDTH
        and inputs.numel() * len(weight_OI) >= _LEAST_PRODUCTS
    )


def has_onednn(inputs: Tensor) -> bool:
    """Whether products of these states may be oneDNN's: on such a processor, in float32, outside of autocast."""
    return (
        inputs.device.type == "cpu"
        and inputs.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and _has_avx512()
    )


@cache
def _has_avx512() -> bool:
    has_call = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # not public
    return has_call and torch.backends.cpu.get_cpu_capability() == "AVX512"


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight_OI)
        return product(inputs, weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return _gradients(d_outputs, *ctx.saved_tensors, ctx.needs_input_grad)


class _GELUProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight_OI)
        return product(functional.gelu(inputs), weight_OI, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight_OI = ctx.saved_tensors
        activated = functional.gelu(inputs)
        d_activated, *others = _gradients(d_outputs, activated, weight_OI, ctx.needs_input_grad)
        del activated
        return None if d_activated is None else torch.ops.aten.gelu_backward(d_activated, inputs), *others


def _gradients(
    d_outputs: Tensor, inputs: Tensor, weight_OI: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """By a product's inputs, weight and bias."""
    d_NO = d_outputs.flatten(0, -2)
    return (
        product(d_outputs, weight_OI.T) if needed[0] else None,
        product(d_NO.T, inputs.flatten(0, -2).T) if needed[1] else None,
        d_NO.sum(0) if needed[2] else None,
    )
