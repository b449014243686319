"""Empirical risk minimisation: the mean of the pairs' losses (Vapnik 1991); what all others are compared with."""

from __future__ import annotations

from torch import Tensor

from lightning_modules.algorithms.base import ObjectiveAlgorithm


class ERM(ObjectiveAlgorithm):
    """Minimises the mean over pairs of each pair's mean token cross-entropy."""

    def objective(self, losses_P: Tensor) -> Tensor:
        """The mean of the pairs' losses."""
        return losses_P.mean()
