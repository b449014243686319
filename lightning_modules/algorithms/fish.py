"""Fish: a step through each pair in turn, then part of the way back; it rewards gradients that agree.

Yuge Shi et al., "Gradient Matching for Domain Generalization", ICLR 2022, algorithm 1.
"""

import torch

from common.errors import in_range
from lightning_modules.algorithms.algorithm import Algorithm, Figures, Needs, loss_figures
from lightning_modules.algorithms.context import StepContext
from lightning_modules.algorithms.forward import PairBatch


class Fish(Algorithm):
    """theta <- theta_0 + meta_lr * (theta_P - theta_0), theta_P after an optimizer step on each pair in random order.

    Args:
        meta_lr: the paper's epsilon, the share of the way to theta_P.
    """

    supports_sharding = True

    def __init__(self, meta_lr: float = 0.5) -> None:
        super().__init__()
        self.meta_lr = in_range("Fish: meta_lr", meta_lr, 0)

    def needs(self, pairs: int) -> Needs:
        """Copies the weights, and steps once a pair."""
        return Needs(min_pairs=2, optimizer_steps=pairs, parameter_copies=1)

    def step(self, context: StepContext, batch: PairBatch) -> Figures:
        """Inner steps on the live weights with the optimizer's persistent state; the last one ends the batch."""
        start = context.snapshot()
        parts = list(batch.by_pair().values())
        order = torch.randperm(len(parts), generator=context.generator()).tolist()
        losses: dict[int, torch.Tensor] = {}
        for pair in order:
            losses[pair] = context.backward(parts[pair])
            context.optimizer_step() if pair == order[-1] else context.inner_step()
        with torch.no_grad():
            for parameter, origin in zip(context.parameters, start, strict=True):
                parameter.lerp_(origin, 1 - self.meta_lr)
        return loss_figures(batch, torch.cat([losses[pair] for pair in range(len(parts))]))
