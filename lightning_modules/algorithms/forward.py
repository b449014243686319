"""What passes between model, step and algorithm: batches, forward passes, and terms at the output projection.

Shape suffixes: B utterances, U label tokens, V vocabulary, D width, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from lightning_modules.algorithms.sharded import whole

IGNORED_LABEL = -100  # what torch's cross-entropy leaves out


class PairBatch(Protocol):
    """What a step needs to know of a batch: its labels, and which rows belong to which pair."""

    labels_BU: Tensor

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice) -> Self: ...

    def pair_slices(self) -> dict[str, slice]:
        """Where each pair's rows stand, in the batch's order."""
        ...

    def by_pair(self) -> dict[str, Self]:
        """A view for each pair, in the batch's order."""
        ...


@dataclass(frozen=True)
class Forward:
    """Each token's loss, 0 where its label is ignored, and what comes out of and goes into the output projection."""

    losses_BU: Tensor
    logits_BUV: Tensor | None = None
    hidden_BUD: Tensor | None = None


@dataclass(frozen=True)
class Head:
    """The output projection of a whole step's batch: its input, its output and its weight, without their graphs.

    `loss_weights_BU` is what each token's loss counts in the mean of the pairs' losses.
    """

    logits_BUV: Tensor
    hidden_BUD: Tensor
    labels_BU: Tensor
    loss_weights_BU: Tensor
    pair_slices: dict[str, slice]
    weight_VD: Tensor | None


@dataclass(frozen=True)
class HeadPenalty:
    """A term of the objective with its known gradient at the output projection."""

    value: Tensor
    logits_gradient_BUV: Tensor
    hidden_gradient_BUD: Tensor


class _KnownGradient(torch.autograd.Function):
    """A value whose gradient by logits and hidden states was worked out without autograd."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, logits: Tensor, hidden: Tensor, d_logits: Tensor, d_hidden: Tensor) -> Tensor:
        ctx.save_for_backward(d_logits, d_hidden)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        d_logits, d_hidden = ctx.saved_tensors
        return None, gradient * d_logits, gradient * d_hidden, None, None


def with_penalty(loss: Tensor, penalty: HeadPenalty | None, out: Forward, rows: slice) -> Tensor:
    """The loss plus the penalty, whose gradient reaches the rows of this forward pass."""
    if penalty is None:
        return loss
    length = out.logits_BUV.shape[1]  # micro-batches are cut to their longest utterance
    d_logits = penalty.logits_gradient_BUV[rows, :length].to(out.logits_BUV.dtype)
    d_hidden = penalty.hidden_gradient_BUD[rows, :length].to(out.hidden_BUD.dtype)
    value = penalty.value.to(loss.dtype)
    return loss + _KnownGradient.apply(value, out.logits_BUV, out.hidden_BUD, d_logits, d_hidden)


def head_of(outs: list[Forward], batch: PairBatch, normaliser_P: Tensor, weight_VD: Tensor | None) -> Head:
    """The output projection of a whole batch, from the forward passes over its micro-batches."""
    length = batch.labels_BU.shape[1]
    slices = batch.pair_slices()
    weights_BU = (batch.labels_BU != IGNORED_LABEL).to(normaliser_P.dtype)
    for rows, tokens in zip(slices.values(), normaliser_P, strict=True):
        weights_BU[rows] /= tokens * len(slices)

    def joined(tensors: list[Tensor]) -> Tensor:
        padded = [nn.functional.pad(t.detach(), (0, 0, 0, length - t.shape[1])) for t in tensors]
        return torch.cat(padded) if len(padded) > 1 else padded[0]

    return Head(
        joined([out.logits_BUV for out in outs]),
        joined([out.hidden_BUD for out in outs]),
        batch.labels_BU,
        weights_BU,
        slices,
        None if weight_VD is None else whole(weight_VD.detach()),
    )
