"""Fishr: keeps the variance of the gradients at the output projection alike between pairs.

Alexandre Ramé et al., "Fishr: Invariant Gradient Variances for Out-of-Distribution Generalization", ICML 2022, with the
moving average of DomainBed's version.

Shape suffixes: B utterances, U label tokens, V vocabulary, D width, P pairs.
"""

from typing import Literal

import torch
from torch import Tensor

from backbone.loss import IGNORED_LABEL
from common.errors import UserError, in_range
from lightning_modules.algorithms.algorithm import Algorithm, Figures, Needs, erm_step, loss_figures
from lightning_modules.algorithms.context import StepContext
from lightning_modules.algorithms.forward import Head, HeadPenalty, PairBatch
from lightning_modules.algorithms.head_variance import Memory, TokenVariance, UtteranceVariance, VariancePenalty


class Fishr(Algorithm):
    """The mean loss plus lambda/P sum_e |v_e - mean_f v_f|², v_e the gradient variance within pair e.

    Args:
        penalty_weight: with scale `calibrated`, how large the penalty's gradient is beside the loss's, at the input of
            the output projection; with `sum` and `mean`, lambda itself.
        scale: `calibrated`, or the squares' `sum` over the projection's elements (paper) or their `mean` (DomainBed).
        ema: decay of the variances' moving average.
        anneal_steps: steps that only fill the moving average; then the optimizer's moments are forgotten, once.
        samples: the variance is over each pair's utterances or tokens.
        active_rows: look only at the labels' rows and each token's so many most probable ones; null looks at all.
    """

    strength = "penalty_weight"
    supports_sharding = True

    def __init__(
        self,
        penalty_weight: float = 0.03,
        scale: Literal["calibrated", "sum", "mean"] = "calibrated",
        ema: float = 0.95,
        anneal_steps: int = 20,
        samples: Literal["utterance", "token"] = "utterance",
        active_rows: int | None = None,
    ) -> None:
        super().__init__()
        self.penalty_weight = in_range("Fishr: penalty_weight", penalty_weight, 0)
        self.ema = in_range("Fishr: ema", ema, 0, 0.9999)
        self.anneal_steps = in_range("Fishr: anneal_steps", anneal_steps, 0)
        in_range("Fishr: active_rows", 1 if active_rows is None else active_rows, 1)
        self.scale, self.samples, self.active_rows = scale, samples, active_rows
        self.register_buffer("average_PVD", torch.empty(0))
        self.register_buffer("updated_V", torch.empty(0, dtype=torch.long))
        self.register_buffer("norms_2", torch.zeros(2, dtype=torch.float64))  # of the loss's and penalty's gradients

    def needs(self, pairs: int) -> Needs:
        """The moving average has the projection's size for each pair."""
        return Needs(min_pairs=2, head_copies=pairs if self.ema else 0)

    def step(self, context: StepContext, batch: PairBatch) -> Figures:
        """ERM's step with the penalty's gradient added at the output projection."""
        if not self.penalty_weight:
            return erm_step(context, batch)
        if context.step == self.anneal_steps != 0:
            context.reset_optimizer()
        figures: Figures = {}
        losses_P = context.backward(batch, head=lambda head: self._penalty(context, head, figures))
        context.optimizer_step()
        return loss_figures(batch, losses_P) | figures

    @torch.no_grad()
    def _penalty(self, context: StepContext, head: Head, figures: Figures) -> HeadPenalty | None:
        sample = {"utterance": UtteranceVariance, "token": TokenVariance}[self.samples]
        rows = None if self.active_rows is None else _active_rows(head, self.active_rows, context)
        penalty = VariancePenalty(head, sample(head, context.all_reduce), self._memory(head, context.step), rows)
        if context.step < self.anneal_steps:
            figures["fishr/penalty"] = penalty.value()
            return None
        value, d_logits_BUV, d_hidden_BUD = penalty.value_and_gradients()
        at_input_BUD = d_hidden_BUD + d_logits_BUV @ head.weight_VD.to(d_logits_BUV.dtype)
        norms_2 = torch.stack([penalty.loss_gradient().norm(), at_input_BUD.norm() * context.world_size])
        norms_2 = context.all_reduce(norms_2.double().square()).sqrt()
        weight = self._weight(norms_2, head.weight_VD.numel())
        figures["fishr/penalty"], figures["fishr/weight"] = value, weight
        figures["fishr/penalty_to_loss_gradient"] = weight * norms_2[1] / norms_2[0]
        local = weight * context.world_size  # ranks' gradients are averaged; this one is a share of their sum
        return HeadPenalty(weight * value, d_logits_BUV.mul_(local), d_hidden_BUD.mul_(local))

    def _weight(self, norms_2: Tensor, elements: int) -> Tensor:
        if self.scale != "calibrated":
            return norms_2.new_tensor(self.penalty_weight / (elements if self.scale == "mean" else 1))
        self.norms_2.lerp_(norms_2, 1 - self.ema)
        loss_norm, penalty_norm = self.norms_2
        return torch.where(penalty_norm > 0, self.penalty_weight * loss_norm / penalty_norm, 0.0)

    def _memory(self, head: Head, step: int) -> Memory | None:
        if not self.ema:
            return None
        shape = (len(head.pair_slices), head.logits_BUV.shape[2], head.hidden_BUD.shape[2])
        if not self.average_PVD.numel():
            self.average_PVD = head.loss_weights_BU.new_zeros(shape)
            self.updated_V = torch.zeros(shape[1], dtype=torch.long, device=self.average_PVD.device)
        if self.average_PVD.shape != shape:
            raise UserError(
                f"Fishr resumes with a moving average for {len(self.average_PVD)} pairs, data.train names {shape[0]}"
            )
        return Memory(self.ema, self.average_PVD, self.updated_V, step)


def _active_rows(head: Head, most_probable: int, context: StepContext) -> Tensor:
    """Rows of the vocabulary, ascending: all ranks' labels and each of their tokens' most probable."""
    valid_BU = head.labels_BU != IGNORED_LABEL
    logits_NV = head.logits_BUV[valid_BU]
    is_active_V = torch.zeros(logits_NV.shape[1], device=logits_NV.device)
    is_active_V[head.labels_BU[valid_BU]] = 1.0
    is_active_V[logits_NV.topk(most_probable).indices.flatten()] = 1.0
    return context.all_reduce(is_active_V).nonzero().flatten()
