"""The exact variance of each pair's gradients at the output projection, and a penalty on it, without double backward.

The gradient of utterance n's loss by the projection's weight is G_n = delta_n^T H_n: H_n is the projection's input,
delta_n = (softmax - target) / tokens, where the target is the label, smoothed or not. Everything is elementwise in
(row, column) of the weight, so rows of the vocabulary are taken a block at a time and nothing of size
utterances x vocabulary x width is ever held.

Shape suffixes: B utterances, U label tokens, V vocabulary, c rows of a block, D width, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from backbone.loss import IGNORED_LABEL
from lightning_modules.algorithms.forward import Head

AllReduce = Callable[[Tensor], Tensor]


class UtteranceVariance:
    """Variance over a pair's utterances; one sample is the gradient of an utterance's mean token loss."""

    def __init__(self, head: Head, all_reduce: AllReduce) -> None:
        self.hidden_BUD = head.hidden_BUD.to(head.loss_weights_BU.dtype)
        self.slices, self.all_reduce = list(head.pair_slices.values()), all_reduce
        valid_BU = (head.labels_BU != IGNORED_LABEL).to(self.hidden_BUD.dtype)
        self.scale_BU = valid_BU / valid_BU.sum(1, keepdim=True).clamp(min=1)
        self.samples_P = all_reduce(self.scale_BU.new_tensor([rows.stop - rows.start for rows in self.slices]))

    def variance(self, delta_BUc: Tensor) -> Tensor:
        """The variances (P, c, D); keeps the deviations for `gradient`."""
        self.delta_BUc = delta_BUc
        self.deviation_BcD = torch.bmm(delta_BUc.transpose(1, 2), self.hidden_BUD)
        sums_PcD = torch.stack([self.deviation_BcD[rows].sum(0) for rows in self.slices])
        means_PcD = self.all_reduce(sums_PcD) / self.samples_P[:, None, None]
        for rows, mean_cD in zip(self.slices, means_PcD, strict=True):
            self.deviation_BcD[rows] -= mean_cD
        squares_PcD = torch.stack([_sum_of_squares(self.deviation_BcD[rows]) for rows in self.slices])
        return self.all_reduce(squares_PcD) / self.samples_P[:, None, None]

    def gradient(self, dv_PcD: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives by delta (B, U, c) and H (B, U, D), from those by the variances; consumes the deviations."""
        d_gradient_BcD = self.deviation_BcD
        for rows, dv_cD, samples in zip(self.slices, dv_PcD, self.samples_P, strict=True):
            d_gradient_BcD[rows] *= dv_cD * (2 / samples)
        return torch.bmm(self.hidden_BUD, d_gradient_BcD.transpose(1, 2)), torch.bmm(self.delta_BUc, d_gradient_BcD)


class TokenVariance:
    """Variance over a pair's tokens; one sample is the gradient of a token's loss."""

    def __init__(self, head: Head, all_reduce: AllReduce) -> None:
        self.hidden_BUD = head.hidden_BUD.to(head.loss_weights_BU.dtype)
        self.slices, self.all_reduce = list(head.pair_slices.values()), all_reduce
        self.scale_BU = (head.labels_BU != IGNORED_LABEL).to(self.hidden_BUD.dtype)
        counts = torch.stack([self.scale_BU[rows].sum() for rows in self.slices])
        self.samples_P = all_reduce(counts).clamp(min=1)

    def variance(self, delta_BUc: Tensor) -> Tensor:
        """The variances (P, c, D), as E[delta² h²] - E[delta h]²; keeps the means for `gradient`."""
        self.delta_BUc = delta_BUc
        pairs = [(delta_BUc[rows].flatten(0, 1), self.hidden_BUD[rows].flatten(0, 1)) for rows in self.slices]
        sums = torch.stack([delta.T @ hidden for delta, hidden in pairs])
        squares = torch.stack([delta.square().T @ hidden.square() for delta, hidden in pairs])
        self.means_PcD = self.all_reduce(sums) / self.samples_P[:, None, None]
        return self.all_reduce(squares) / self.samples_P[:, None, None] - self.means_PcD.square()

    def gradient(self, dv_PcD: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives by delta (B, U, c) and by H (B, U, D), from those by the variances."""
        d_delta_BUc, d_hidden_BUD = torch.empty_like(self.delta_BUc), torch.empty_like(self.hidden_BUD)
        for rows, dv, mean, samples in zip(self.slices, dv_PcD, self.means_PcD, self.samples_P, strict=True):
            delta, hidden = self.delta_BUc[rows], self.hidden_BUD[rows]
            d_mean = dv * mean
            d_delta_BUc[rows] = (delta * (hidden.square() @ dv.T) - hidden @ d_mean.T) * (2 / samples)
            d_hidden_BUD[rows] = (hidden * (delta.square() @ dv) - delta @ d_mean) * (2 / samples)
        return d_delta_BUc, d_hidden_BUD


Variance = UtteranceVariance | TokenVariance


@dataclass
class Memory:
    """A moving average of the variances, `average_PVD`, and for each row the step after its last update.

    A row that was left out of a step counts as a variance of 0 there; its average decays at its next update.
    """

    decay: float
    average_PVD: Tensor
    updated_V: Tensor
    step: int

    def add(self, variances_PcD: Tensor, rows: slice | Tensor) -> Tensor:
        """v + decay / (1 - decay) * average, as DomainBed scales it; stores the new average."""
        skipped_c = self.step - self.updated_V[rows]
        faded_PcD = self.average_PVD[:, rows] * (self.decay**skipped_c)[:, None].to(variances_PcD.dtype)
        scaled_PcD = variances_PcD + faded_PcD * (self.decay / (1 - self.decay))
        self.average_PVD[:, rows] = scaled_PcD * (1 - self.decay)
        self.updated_V[rows] = self.step + 1
        return scaled_PcD


@dataclass(eq=False)
class VariancePenalty:
    """1/P sum_e |v_e - mean_f v_f|², summed over the weight's elements, and its gradient, in blocks of the vocabulary.

    Args:
        head: the output projection of a step's batch.
        variance: what a sample is.
        memory: the moving average to add the variances to; None takes them as they are.
        rows: the rows of the vocabulary to look at, ascending; None takes all.
        block: rows at a time; None fits a processor's cache or a GPU's memory.
    """

    head: Head
    variance: Variance
    memory: Memory | None = None
    rows: Tensor | None = None
    block: int | None = None

    def __post_init__(self) -> None:
        head, hidden_BUD = self.head, self.variance.hidden_BUD
        self.dtype = hidden_BUD.dtype
        width = hidden_BUD.shape[0] * hidden_BUD.shape[2]
        size = self.block or max(32, (2**24 if head.logits_BUV.is_cuda else 2**20) // width)
        ids = torch.arange(head.logits_BUV.shape[2], device=head.logits_BUV.device)
        self.all_blocks = [_Block(part, slice(i * size, (i + 1) * size)) for i, part in enumerate(ids.split(size))]
        self.blocks = self.all_blocks if self.rows is None else [_Block(part, part) for part in self.rows.split(size)]
        self.log_sum_BU1 = head.logits_BUV.to(self.dtype).logsumexp(2, keepdim=True)

    def value(self) -> Tensor:
        """The penalty, float64; updates the memory."""
        return torch.stack([_spread(self._variances(block, self._softmax(block)))[0] for block in self.blocks]).sum()

    def value_and_gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """The penalty, and its derivatives by the logits (B, U, V) and the hidden states (B, U, D)."""
        scale_BU1 = self.variance.scale_BU[:, :, None]
        value = self.log_sum_BU1.new_zeros((), dtype=torch.float64)
        d_logits_BUV = torch.zeros_like(self.head.logits_BUV, dtype=self.dtype)
        d_hidden_BUD = torch.zeros_like(self.variance.hidden_BUD)
        inner_BU1 = torch.zeros_like(scale_BU1)  # <p, dP/dp>, for the softmax's Jacobian
        for block in self.blocks:
            p_BUc = self._softmax(block)
            term, dv_PcD = _spread(self._variances(block, p_BUc))
            d_delta_BUc, d_hidden = self.variance.gradient(dv_PcD)
            value += term
            d_hidden_BUD += d_hidden
            inner_BU1 += (p_BUc * d_delta_BUc).sum(2, keepdim=True)
            d_logits_BUV[:, :, block.rows] = d_delta_BUc
        for block in self.all_blocks:
            d_logits_BUV[:, :, block.rows].sub_(inner_BU1).mul_(self._softmax(block)).mul_(scale_BU1)
        return value, d_logits_BUV, d_hidden_BUD

    def loss_gradient(self) -> Tensor:
        """The derivative of the mean of the pairs' losses by the hidden states (B, U, D)."""
        weight_VD = self.head.weight_VD.to(self.dtype)
        scale_BU1 = self.head.loss_weights_BU[:, :, None]
        return sum(
            self._delta(block, self._softmax(block), scale_BU1) @ weight_VD[block.rows] for block in self.all_blocks
        )

    def _softmax(self, block: _Block) -> Tensor:
        return (self.head.logits_BUV[:, :, block.rows].to(self.dtype) - self.log_sum_BU1).exp_()

    def _delta(self, block: _Block, p_BUc: Tensor, scale_BU1: Tensor) -> Tensor:
        """(softmax - target) * scale: the derivative of the scaled cross-entropy by a block's logits."""
        smoothing, vocabulary = self.head.label_smoothing, self.head.logits_BUV.shape[2]
        place_BU1 = torch.searchsorted(block.ids, self.head.labels_BU)[:, :, None].clamp(max=len(block.ids) - 1)
        is_here_BU1 = block.ids[place_BU1] == self.head.labels_BU[:, :, None]
        delta_BUc = (p_BUc - smoothing / vocabulary if smoothing else p_BUc) * scale_BU1
        return delta_BUc.scatter_add_(2, place_BU1, (smoothing - 1) * scale_BU1 * is_here_BU1)

    def _variances(self, block: _Block, p_BUc: Tensor) -> Tensor:
        delta_BUc = self._delta(block, p_BUc, self.variance.scale_BU[:, :, None])
        variances_PcD = self.variance.variance(delta_BUc)
        return self.memory.add(variances_PcD, block.rows) if self.memory else variances_PcD


class _Block(NamedTuple):
    """Rows of the vocabulary: their ids, ascending, and how to index with them."""

    ids: Tensor
    rows: slice | Tensor


def _spread(variances_PcD: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs' mean squared distance from their mean, and its derivative by the variances."""
    distance_PcD = variances_PcD - variances_PcD.mean(0)
    pairs = len(variances_PcD)
    return distance_PcD.square().sum(dtype=torch.float64) / pairs, distance_PcD.mul_(2 / pairs)


def _sum_of_squares(samples_BcD: Tensor) -> Tensor:
    total_cD = torch.zeros_like(samples_BcD[0])
    for sample_cD in samples_BcD:
        total_cD.addcmul_(sample_cD, sample_cD)
    return total_cD
