"""Cross-entropy fused with the output projection: no copy of the logits, and none at positions without a label.

Of a batch's tokens, the prompt's and the padding are never predicted, so they are not projected. What stays for the
backward pass are the logits, once and in the precision of the projection; softmax and its derivative are taken a block
at a time, where PyTorch's own loss holds the logits three times over in float32.

Shape suffixes: B utterances, U label tokens, N tokens with a label, V vocabulary, c rows of a block, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from backbone.products import product
from lightning_modules.algorithms.forward import IGNORED_LABEL, Forward

_BLOCK_ELEMENTS = 2**22


class FusedForward(Forward):
    """A forward pass that knows the logits of labelled tokens; the others' are filled in with 0 for who asks."""

    def __init__(self, losses_BU: Tensor, hidden_BUD: Tensor, logits_NV: Tensor, labelled_BU: Tensor) -> None:
        vars(self).update(
            losses_BU=losses_BU, hidden_BUD=hidden_BUD, _logits_NV=logits_NV, _labelled_BU=labelled_BU
        )  # the fields are frozen, and `logits_BUV` is made on demand

    def with_losses(self, losses_BU: Tensor) -> FusedForward:
        """The same with other losses."""
        return FusedForward(losses_BU, self.hidden_BUD, self._logits_NV, self._labelled_BU)

    @cached_property
    def logits_BUV(self) -> Tensor:
        """The output projection's output, with its graph; 0 where there is no label."""
        return _spread_out(self._logits_NV, self._labelled_BU)


@contextmanager
def fused_cross_entropy(projection: nn.Linear, labels_BU: Tensor) -> Iterator[list[FusedForward]]:
    """While it lasts, the projection adds what it finds to the list it yields, and returns no logits.

    To be entered around one call of the whole model, which is where FSDP gathers the weights.

    Args:
        projection: the model's output projection, without bias.
        labels_BU: what each position must predict, `IGNORED_LABEL` where nothing.
    """
    found: list[FusedForward] = []

    def forward(hidden_BUD: Tensor) -> Tensor:
        labelled_BU = labels_BU != IGNORED_LABEL
        losses_N, logits_NV = token_cross_entropy(hidden_BUD[labelled_BU], projection.weight, labels_BU[labelled_BU])
        found.append(FusedForward(_spread_out(losses_N, labelled_BU), hidden_BUD, logits_NV, labelled_BU))
        return hidden_BUD.new_empty(*labels_BU.shape, 0)

    projection.forward = forward
    try:
        yield found
    finally:
        del projection.forward


def token_cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """Each token's loss (N,), in float32 or the weight's precision if that is higher, and its logits (N, V).

    Both may be differentiated. Equals `cross_entropy(linear(hidden, weight), labels, reduction="none")`; under autocast
    the matrix products are in autocast's precision, the loss is not.
    """
    kind = hidden_ND.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight_VD.dtype
    return _TokenCrossEntropy.apply(hidden_ND, weight_VD, labels_N, dtype)


class _TokenCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, dtype: torch.dtype) -> Any:
        with torch.autocast(hidden_ND.device.type, enabled=False):
            logits_NV = product(hidden_ND.to(dtype), weight_VD.to(dtype))
            whole = torch.promote_types(weight_VD.dtype, torch.float32)
            rows = max(1, _BLOCK_ELEMENTS // logits_NV.shape[1])
            log_sums_N = torch.cat([block.to(whole).logsumexp(1) for block in logits_NV.split(rows)])
            losses_N = log_sums_N - logits_NV.gather(1, labels_N[:, None])[:, 0].to(whole)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(hidden_ND, weight_VD, labels_N, logits_NV, log_sums_N)
        return losses_N, logits_NV

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_losses_N: Tensor | None, d_logits_NV: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden_ND, weight_VD, labels_N, logits_NV, log_sums_N = ctx.saved_tensors
        if d_losses_N is None and d_logits_NV is None:
            return None, None, None, None
        dtype = logits_NV.dtype
        d_hidden_ND = torch.zeros_like(hidden_ND, dtype=log_sums_N.dtype)
        d_weight_VD = torch.empty_like(weight_VD) if ctx.needs_input_grad[1] else None
        size = max(1, _BLOCK_ELEMENTS // max(1, len(labels_N)))
        for start in range(0, len(weight_VD), size):
            rows = slice(start, min(start + size, len(weight_VD)))
            parts = [] if d_logits_NV is None else [d_logits_NV[:, rows]]
            if d_losses_N is not None:
                parts.append(_loss_derivative(logits_NV[:, rows], log_sums_N, labels_N - start, d_losses_N))
            d_Nc = (parts[0] if len(parts) == 1 else parts[0] + parts[1]).to(dtype)
            d_hidden_ND += product(d_Nc, weight_VD[rows].to(dtype).T)
            if d_weight_VD is not None:
                d_weight_VD[rows] = product(d_Nc.T, hidden_ND.to(dtype).T)
        return d_hidden_ND.to(hidden_ND.dtype), d_weight_VD, None, None


def _loss_derivative(logits_Nc: Tensor, log_sums_N: Tensor, labels_N: Tensor, d_losses_N: Tensor) -> Tensor:
    """(softmax - onehot) d_losses of some rows of the vocabulary; labels count from the first of them."""
    d_Nc = logits_Nc.to(log_sums_N.dtype).sub(log_sums_N[:, None]).exp_().mul_(d_losses_N[:, None])
    last = logits_Nc.shape[1] - 1
    is_here_N = (labels_N >= 0) & (labels_N <= last)
    return d_Nc.scatter_add_(1, labels_N.clamp(0, last)[:, None], (-d_losses_N * is_here_N)[:, None])


def _spread_out(values: Tensor, labelled_BU: Tensor) -> Tensor:
    """Values of the labelled tokens (N, ...) at their places (B, U, ...), 0 elsewhere."""
    return values.new_zeros(*labelled_BU.shape, *values.shape[1:]).index_put((labelled_BU,), values)
