"""DARE."""

from collections.abc import Sequence

from merging.parameters import Density, Lambda, Rescale, Seed, Weight
from merging.vectors import Draw, Tensor, restore_l1, step_from, task_vectors, weighted_sum


def dare_linear(
    base: Tensor,
    models: list[Tensor],
    *,
    draw: Draw,
    weight: Weight = 1.0,
    lambda_: Lambda = 1.0,
    density: Density = 0.5,
    rescale: Rescale = "l1",
    normalize: bool = False,
    seed: Seed = 0,
) -> Tensor:
    """DARE: drops entries of each task vector at random, rescales the rest, and adds them.

    Formula: theta_0 + lambda sum_i w_i s_i m_i tau_i, m_i ~ Bernoulli(density), s_i the rescaling
    Source: Yu et al. 2024 (DARE), arXiv:2311.03099, section 3.2

    Args:
        base: theta_0, float32.
        models: theta_i, float32; the method may change the list.
        draw: random numbers, the same for the same seed, model and tensor.
        weight: weight w_i of each fine-tune; 1/n for the mean of n models.
        lambda_: step length: the merged step is multiplied by it; papers search 0.2 to 1.5.
        density: share of each task vector that is kept; 1 keeps all.
        rescale: what makes up for dropping: the L1 norm (as mergekit), 1/density (the paper), nothing.
        normalize: divide by the sum of the weights.
        seed: seed of the random masks, with the model's and the tensor's name.
    """
    vectors = task_vectors(base, models)
    drop_at_random(vectors, draw, density, rescale)
    return step_from(base, weighted_sum(vectors, weight, normalize), lambda_)


def drop_at_random(vectors: list[Tensor], draw: Draw, density: Sequence[float], rescale: str) -> None:
    """Drop entries of task vectors at random, in place, and rescale what is left.

    Args:
        vectors: the task vectors.
        draw: the random numbers.
        density: the probability of keeping an entry, for each vector.
        rescale: `l1`, `1/p` or `none`.
    """
    for model, (vector, share) in enumerate(zip(vectors, density, strict=True)):
        if share < 1:
            norm = float(vector.abs().sum())
            vector.mul_(draw(model, vector) < share)
            if rescale == "l1":
                restore_l1(vector, norm)
            elif rescale == "1/p":
                vector.mul_(1 / share)
