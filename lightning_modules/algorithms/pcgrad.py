"""PCGrad: removes from each pair's gradient the component that conflicts with another pair's.

Tianhe Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, algorithm 1.

Shape suffixes: P pairs.
"""

import torch
from torch import Tensor

from lightning_modules.algorithms.context import StepContext
from lightning_modules.algorithms.gradients import GradientAlgorithm


class PCGrad(GradientAlgorithm):
    """The mean of the pairs' gradients, each projected off those it conflicts with, in random order."""

    def weights(self, context: StepContext, gram_PP: Tensor) -> Tensor:
        """Row i of the coefficients writes pair i's projected gradient in terms of the original ones."""
        pairs = len(gram_PP)
        generator = context.generator()
        coefficients_PP = torch.eye(pairs, dtype=gram_PP.dtype)
        for i in range(pairs):
            for j in torch.randperm(pairs, generator=generator).tolist():
                conflict = coefficients_PP[i] @ gram_PP[j]
                if j != i and conflict < 0:
                    coefficients_PP[i, j] -= conflict / gram_PP[j, j]
        return coefficients_PP.mean(0)
