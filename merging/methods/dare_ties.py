"""DARE with the election of TIES."""

from merging.methods.dare_linear import drop_at_random
from merging.parameters import Density, Lambda, Majority, Rescale, Seed, Weight
from merging.vectors import Draw, Tensor, elected_sum, step_from, task_vectors


def dare_ties(
    base: Tensor,
    models: list[Tensor],
    *,
    draw: Draw,
    weight: Weight = 1.0,
    lambda_: Lambda = 1.0,
    density: Density = 0.5,
    rescale: Rescale = "l1",
    normalize: bool = False,
    majority: Majority = "weighted",
    seed: Seed = 0,
) -> Tensor:
    """DARE with TIES: drops at random, rescales, elects a sign for each entry, and adds those that agree.

    Formula: as dare_linear, over the entries of the elected sign
    Source: Yu et al. 2024 (DARE), arXiv:2311.03099, with the election of TIES

    Args:
        base: theta_0, float32.
        models: theta_i, float32; the method may change the list.
        draw: random numbers, the same for the same seed, model and tensor.
        weight: weight w_i of each fine-tune; 1/n for the mean of n models.
        lambda_: step length: the merged step is multiplied by it; papers search 0.2 to 1.5.
        density: share of each task vector that is kept; 1 keeps all.
        rescale: what makes up for dropping: the L1 norm (as mergekit), 1/density (the paper), nothing.
        normalize: divide by the sum of the weights.
        majority: whether the weights count in the election of each entry's sign.
        seed: seed of the random masks, with the model's and the tensor's name.
    """
    vectors = task_vectors(base, models)
    drop_at_random(vectors, draw, density, rescale)
    return step_from(base, elected_sum(vectors, weight, normalize, majority), lambda_)
