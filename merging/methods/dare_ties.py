"""DARE with the election of TIES."""

from __future__ import annotations

from merging.methods.dare_linear import drop_at_random
from merging.parameters import Density, Lambda, Majority, Normalize, Rescale, Seed, Weight
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
    normalize: Normalize = False,
    majority: Majority = "weighted",
    seed: Seed = 0,
) -> Tensor:
    """DARE with TIES: drops at random, rescales, elects a sign for each entry, and adds those that agree.

    Formula: as dare_linear, over the entries of the elected sign
    Source: Yu et al. 2024 (DARE), arXiv:2311.03099, with the election of TIES
    """
    vectors = task_vectors(base, models)
    drop_at_random(vectors, draw, density, rescale)
    return step_from(base, elected_sum(vectors, weight, normalize, majority), lambda_)
