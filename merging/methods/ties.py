"""TIES-Merging."""

from merging.parameters import Density, Lambda, Majority, Weight
from merging.vectors import Tensor, elected_sum, largest, step_from, task_vectors


def ties(
    base: Tensor,
    models: list[Tensor],
    *,
    weight: Weight = 1.0,
    lambda_: Lambda = 1.0,
    density: Density = 0.2,
    normalize: bool = True,
    majority: Majority = "weighted",
) -> Tensor:
    """TIES: keeps each task vector's largest entries, elects a sign for each entry, and averages those that agree.

    Formula: theta_0 + lambda sum_agreeing w_i tau_i / sum_agreeing w_i, over trimmed tau_i of the elected sign
    Source: Yadav et al. 2023 (TIES-Merging), arXiv:2306.01708, algorithm 1

    Args:
        base: theta_0, float32.
        models: theta_i, float32; the method may change the list.
        weight: weight w_i of each fine-tune; 1/n for the mean of n models.
        lambda_: step length: the merged step is multiplied by it; papers search 0.2 to 1.5.
        density: share of each task vector that is kept; 1 keeps all.
        normalize: divide by the sum of the weights.
        majority: whether the weights count in the election of each entry's sign.
    """
    vectors = task_vectors(base, models)
    for vector, share in zip(vectors, density, strict=True):
        if share < 1:
            vector.mul_(largest(vector, max(1, int(share * vector.numel()))))
    return step_from(base, elected_sum(vectors, weight, normalize, majority), lambda_)
