"""GroupDRO: weights on the pairs that grow exponentially with their losses.

Shiori Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts", ICLR 2020, algorithm 1.

Shape suffixes: P pairs.
"""

import torch
from torch import Tensor

from common.errors import in_range
from lightning_modules.algorithms.algorithm import Needs, ObjectiveAlgorithm
from lightning_modules.algorithms.context import StepContext


class GroupDRO(ObjectiveAlgorithm):
    """sum_p q_p L_p, after q_p <- q_p exp(eta L_p) / sum.

    Args:
        eta: how fast the weights follow the losses.
    """

    strength = "eta"

    def __init__(self, eta: float = 0.01) -> None:
        super().__init__()
        self.eta = in_range("GroupDRO: eta", eta, 0)
        # Logarithms, up to a constant, so that nothing under- or overflows.
        self.register_buffer("log_weights_P", torch.empty(0))

    def needs(self, pairs: int) -> Needs:
        """With one pair there is nothing to weight."""
        return Needs(min_pairs=2)

    def objective(self, context: StepContext, losses_P: Tensor) -> Tensor:
        """The weighted sum of the losses, weights first."""
        if not self.log_weights_P.numel():
            self.log_weights_P = torch.zeros_like(losses_P)
        self.log_weights_P += self.eta * losses_P.detach()
        return (self.log_weights_P.softmax(0) * losses_P).sum()
