"""DELLA."""

from typing import Annotated, Literal

import numpy as np

from common.errors import UserError
from common.option_types import Range
from merging.parameters import Density, Lambda, Majority, PerModel, Seed, Weight
from merging.vectors import Draw, Tensor, elected_sum, restore_l1, step_from, task_vectors

_ENTRIES = 2**22  # sorted at once: the indices of a whole sorted embedding would take 0.4 GB


def della(
    base: Tensor,
    models: list[Tensor],
    *,
    draw: Draw,
    weight: Weight = 1.0,
    lambda_: Lambda = 1.0,
    density: Density = 0.5,
    epsilon: Annotated[PerModel, Range(0, 0.5)] = 0.15,
    rescale: Literal["l1", "1/p", "1/density", "none"] = "l1",
    normalize: bool = True,
    majority: Majority = "weighted",
    seed: Seed = 0,
) -> Tensor:
    """DELLA: drops entries at random, small ones more often, rescales, elects signs, and averages those that agree.

    Formula: as dare_ties, keep probabilities p from density - epsilon to density + epsilon by rank in the row
    Source: Deep et al. 2024 (DELLA), arXiv:2406.11617, section 3

    Args:
        base: theta_0, float32.
        models: theta_i, float32; the method may change the list.
        draw: random numbers, the same for the same seed, model and tensor.
        weight: weight w_i of each fine-tune; 1/n for the mean of n models.
        lambda_: step length: the merged step is multiplied by it; papers search 0.2 to 1.5.
        density: share of each task vector that is kept; 1 keeps all.
        epsilon: half the spread of the keep probabilities; density +- epsilon in (0, 1).
        rescale: what makes up for dropping: the L1 norm (as mergekit), each entry divided by its own keep probability
            (the paper), all by the density, nothing.
        normalize: divide by the sum of the weights.
        majority: whether the weights count in the election of each entry's sign.
        seed: seed of the random masks, with the model's and the tensor's name.
    """
    for share, spread in zip(density, epsilon, strict=True):
        if share < 1 and not spread < share < 1 - spread:
            raise UserError(f"density {share:g} +- epsilon {spread:g} leaves (0, 1); take a smaller epsilon")
    vectors = task_vectors(base, models)
    for model, (vector, share, spread) in enumerate(zip(vectors, density, epsilon, strict=True)):
        if share < 1:
            _drop_by_rank(vector, draw, model, share, spread, rescale)
    return step_from(base, elected_sum(vectors, weight, normalize, majority), lambda_)


def _drop_by_rank(vector: Tensor, draw: Draw, model: int, density: float, epsilon: float, rescale: str) -> None:
    """Drop entries of a task vector in place; a vector is one row, other tensors have rows along the first axis."""
    rows = vector if vector.dim() > 1 else vector[None]
    norm = float(vector.abs().sum())
    for some in rows.split(max(1, _ENTRIES // rows[0].numel())):
        order = some.abs().argsort(dim=1, stable=True)
        steps = np.arange(some.shape[1], dtype=np.float32) / np.float32(max(1, some.shape[1] - 1))
        by_rank = some.new_tensor(np.float32(density - epsilon) + steps * np.float32(2 * epsilon))
        by_rank = by_rank.view(-1, *[1] * (some.dim() - 2)).expand_as(order)
        chance = some.new_empty(some.shape).scatter_(1, order, by_rank)
        some.mul_(draw(model, some) < chance)
        if rescale == "1/p":
            some.div_(chance)
    if rescale == "l1":
        restore_l1(vector, norm)
    elif rescale == "1/density":
        vector.mul_(1 / density)
