"""V-REx: a penalty on the variance of the pairs' losses.

David Krueger et al., "Out-of-Distribution Generalization via Risk Extrapolation", ICML 2021, equation 8, with
DomainBed's annealing.

Shape suffixes: P pairs.
"""

from torch import Tensor

from common.errors import in_range
from lightning_modules.algorithms.algorithm import Needs, ObjectiveAlgorithm
from lightning_modules.algorithms.context import StepContext


class VREx(ObjectiveAlgorithm):
    """mean_p L_p + penalty_weight * var_p L_p, the variance over the pairs (biased).

    Args:
        penalty_weight: lambda after the annealing.
        anneal_steps: steps with a lambda of at most 1; then the optimizer's moments are forgotten, once.
    """

    strength = "penalty_weight"

    def __init__(self, penalty_weight: float = 10.0, anneal_steps: int = 20) -> None:
        super().__init__()
        self.penalty_weight = in_range("VREx: penalty_weight", penalty_weight, 0)
        self.anneal_steps = in_range("VREx: anneal_steps", anneal_steps, 0)

    def needs(self, pairs: int) -> Needs:
        """One loss has no variance."""
        return Needs(min_pairs=2)

    def objective(self, context: StepContext, losses_P: Tensor) -> Tensor:
        """The mean plus the weighted variance."""
        if context.step == self.anneal_steps != 0 and self.penalty_weight:
            context.reset_optimizer()
        weight = self.penalty_weight if context.step >= self.anneal_steps else min(1.0, self.penalty_weight)
        return losses_P.mean() + weight * losses_P.var(correction=0)
