"""GGA-L: noise on the gradient, the stronger the less the pairs' gradients agree.

Aristotelis Ballas and Christos Diou, "Gradient-Guided Annealing for Domain Generalization", CVPR 2025, and its released
code; see docs/algorithms/gga-l.md for where the two differ.
"""

import torch
from torch import Tensor

from common.errors import in_range
from lightning_modules.algorithms.algorithm import Figures, erm_step
from lightning_modules.algorithms.context import StepContext
from lightning_modules.algorithms.forward import PairBatch
from lightning_modules.algorithms.gradients import GradientAlgorithm, mean_cosine


class GGAL(GradientAlgorithm):
    """The mean of the pairs' gradients plus alpha * N(0, I), alpha = gamma * (1 - mean cosine) * scale.

    Args:
        gamma: strength of the noise.
        relative: scale is the root mean square of the clipped gradient, so that gamma * (1 - mean cosine) is the
            noise-to-gradient ratio on a model of any size; otherwise 1, as published.
        skip_zero_gradients: no noise on elements whose gradient is 0, such as those of tokens and positions that the
            batch does not hold; published is False.
    """

    strength = "gamma"
    supports_sharding = True

    def __init__(self, gamma: float = 0.5, relative: bool = True, skip_zero_gradients: bool = False) -> None:
        super().__init__()
        self.gamma = in_range("GGAL: gamma", gamma, 0)
        self.relative, self.skip_zero_gradients = relative, skip_zero_gradients

    def weights(self, context: StepContext, gram_PP: Tensor) -> Tensor:
        """All the same: ERM's gradient."""
        return torch.full((len(gram_PP),), 1 / len(gram_PP), dtype=torch.float64)

    def noise_std(self, gram_PP: Tensor, gradient_rms: float) -> float:
        """The paper's alpha."""
        return self.gamma * (1 - mean_cosine(gram_PP)) * (gradient_rms if self.relative else 1.0)

    def step(self, context: StepContext, batch: PairBatch) -> Figures:
        """One backward pass a pair, noise after clipping."""
        return super().step(context, batch) if self.gamma else erm_step(context, batch)
