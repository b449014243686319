"""SAM: the gradient at the worst point nearby.

Pierre Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021, algorithm 1.
"""

import torch

from common.errors import in_range
from lightning_modules.algorithms.algorithm import Algorithm, Figures, Needs, erm_step, loss_figures
from lightning_modules.algorithms.context import StepContext
from lightning_modules.algorithms.forward import PairBatch
from lightning_modules.algorithms.gradients import gram_matrix


class SAM(Algorithm):
    """A step with the gradient at theta + rho g / |g|, g the gradient at theta.

    Args:
        rho: how far to climb, as a norm over all parameters.
    """

    strength = "rho"

    def __init__(self, rho: float = 0.05) -> None:
        super().__init__()
        self.rho = in_range("SAM: rho", rho, 0)

    def needs(self, pairs: int) -> Needs:
        """Two gradients a step, and the weights they are taken from."""
        return Needs(passes=2, parameter_copies=1)

    def step(self, context: StepContext, batch: PairBatch) -> Figures:
        """Climbs, takes the gradient there, comes back and steps."""
        if not self.rho:
            return erm_step(context, batch)
        losses_P = context.backward(batch)
        start, gradients = context.snapshot(), context.take_gradients()
        norm = float(gram_matrix([gradients]).sqrt())
        with torch.no_grad():
            for parameter, gradient in zip(context.parameters, gradients, strict=True):
                parameter.add_(gradient, alpha=self.rho / max(norm, 1e-12))
        del gradients
        context.backward(batch)
        context.restore(start)
        context.optimizer_step()
        return loss_figures(batch, losses_P)
