"""Task Arithmetic."""

from merging.parameters import Lambda, Weight
from merging.vectors import Tensor, step_from, task_vectors, weighted_sum


def task_arithmetic(
    base: Tensor, models: list[Tensor], *, weight: Weight = 1.0, lambda_: Lambda = 1.0, normalize: bool = False
) -> Tensor:
    """Task Arithmetic: adds the task vectors to the base.

    Formula: theta_0 + lambda sum_i w_i tau_i
    Source: Ilharco et al. 2023, arXiv:2212.04089, section 4.2

    Args:
        base: theta_0, float32.
        models: theta_i, float32; the method may change the list.
        weight: weight w_i of each fine-tune; 1/n for the mean of n models.
        lambda_: step length: the merged step is multiplied by it; papers search 0.2 to 1.5.
        normalize: divide by the sum of the weights.
    """
    return step_from(base, weighted_sum(task_vectors(base, models), weight, normalize), lambda_)
