"""Empirical risk minimisation: the mean of the pairs' losses (Vapnik 1991); what all others are compared with."""

from lightning_modules.algorithms.algorithm import Algorithm, Figures, erm_step
from lightning_modules.algorithms.context import StepContext
from lightning_modules.algorithms.forward import PairBatch


class ERM(Algorithm):
    """Minimises the mean over pairs of each pair's mean token cross-entropy."""

    supports_sharding = True

    def step(self, context: StepContext, batch: PairBatch) -> Figures:
        """One forward pass over all pairs, one backward pass, one optimizer step."""
        return erm_step(context, batch)
