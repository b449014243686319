"""The data passed between model, step and algorithm: batches, forward passes, and terms at the output projection.

Shape suffixes: B utterances, U label tokens, V vocabulary, D width, P pairs.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from backbone.loss import IGNORED_LABEL, Losses
from lightning_modules.algorithms.sharded import whole


class PairBatch(Protocol):
    """The labels of a step's batch, and which of its rows belong to which pair."""

    labels_BU: Tensor

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice) -> Self: ...

    def pair_slices(self) -> dict[str, slice]:
        """Each pair's rows, in the batch's order."""

    def by_pair(self) -> dict[str, Self]:
        """A view for each pair, in the batch's order."""


class Head(NamedTuple):
    """The output projection of a whole step's batch: its input, its output and its weight, without their graphs.

    `loss_weights_BU` is each token's weight in the mean of the pairs' losses, `label_smoothing` that of the losses.
    """

    logits_BUV: Tensor
    hidden_BUD: Tensor
    labels_BU: Tensor
    loss_weights_BU: Tensor
    pair_slices: dict[str, slice]
    weight_VD: Tensor | None
    label_smoothing: float = 0.0


class HeadPenalty(NamedTuple):
    """A term of the objective with its known derivatives by the output projection's output and input."""

    value: Tensor
    d_logits_BUV: Tensor
    d_hidden_BUD: Tensor


def with_penalty(loss: Tensor, penalty: HeadPenalty | None, out: Losses, rows: slice) -> Tensor:
    """Return the loss plus the penalty, whose gradient reaches the rows of a forward pass.

    Args:
        loss: of the forward pass.
        penalty: of the whole batch; None returns the loss alone.
        out: the forward pass.
        rows: which of the batch's utterances went through it.
    """
    if penalty is None:
        return loss
    length = out.logits_BUV.shape[1]  # micro-batches are cut to their longest utterance
    for values, derivative in ((out.logits_BUV, penalty.d_logits_BUV), (out.hidden_BUD, penalty.d_hidden_BUD)):
        # Linear in the values, with the wanted derivative; adds its gradient but not its value.
        linear = torch.dot(values.flatten(), derivative[rows, :length].to(values.dtype).flatten()).to(loss.dtype)
        loss = loss + (linear - linear.detach())
    return loss + penalty.value.to(loss.dtype)


def head_of(
    outs: Sequence[Losses],
    batch: PairBatch,
    normaliser_P: Tensor,
    weight_VD: Tensor | None,
    label_smoothing: float = 0,
) -> Head:
    """Join the output projection's inputs and outputs of a whole batch.

    Args:
        outs: the forward passes over the batch's micro-batches, in order.
        batch: the whole batch.
        normaliser_P: what each pair's sum of losses is divided by.
        weight_VD: of the projection.
        label_smoothing: of the losses.
    """
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
        label_smoothing,
    )
