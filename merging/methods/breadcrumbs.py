"""Model Breadcrumbs."""

from typing import Annotated

from common.option_types import Range
from merging.parameters import Density, Lambda, PerModel, Weight
from merging.vectors import Tensor, largest, step_from, task_vectors, weighted_sum


def breadcrumbs(
    base: Tensor,
    models: list[Tensor],
    *,
    weight: Weight = 1.0,
    lambda_: Lambda = 1.0,
    density: Density = 0.9,
    gamma: Annotated[PerModel, Range(0, 1)] = 0.01,
    normalize: bool = False,
) -> Tensor:
    """Model Breadcrumbs: drops the outliers and the smallest entries of each task vector, and adds what is left.

    Formula: theta_0 + lambda sum_i w_i m_i tau_i, m_i without the gamma n largest and then the smallest entries
    Source: Davari and Belilovsky 2023 (Model Breadcrumbs), arXiv:2312.06795, section 3

    Args:
        base: theta_0, float32.
        models: theta_i, float32; the method may change the list.
        weight: weight w_i of each fine-tune; 1/n for the mean of n models.
        lambda_: step length: the merged step is multiplied by it; papers search 0.2 to 1.5.
        density: share of each task vector that is kept; 1 keeps all.
        gamma: share of the largest entries that is dropped as outliers.
        normalize: divide by the sum of the weights.
    """
    vectors = task_vectors(base, models)
    for vector, share, outliers in zip(vectors, density, gamma, strict=True):
        if share < 1:
            size = vector.numel()
            kept = int(share * size)
            above = min(int(outliers * size), size - kept)  # fewer outliers are dropped where density leaves no room
            vector.mul_(largest(vector, above + kept) & ~largest(vector, above))
    return step_from(base, weighted_sum(vectors, weight, normalize), lambda_)
