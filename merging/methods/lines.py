"""LiNeS."""

from typing import Annotated

from common.option_types import Range
from merging.parameters import Weight
from merging.vectors import Tensor, step_from, task_vectors, weighted_sum


def lines(
    base: Tensor,
    models: list[Tensor],
    *,
    depth: float,
    weight: Weight = "1/n",  # type: ignore[assignment]
    alpha: Annotated[float, Range(0)] = 0.5,
    beta: float = 0.5,
) -> Tensor:
    """LiNeS: Task Arithmetic with a step that grows linearly with depth, so that shallow layers stay near the base.

    Formula: theta_0 + (alpha + beta d) sum_i w_i tau_i, d in [0, 1] the depth over encoder and decoder
    Source: Wang et al. 2024 (LiNeS), arXiv:2410.17146, equation 3

    Args:
        base: theta_0, float32.
        models: theta_i, float32; the method may change the list.
        depth: d.
        weight: weight w_i of each fine-tune; 1/n for the mean of n models.
        alpha: step length at the first layer.
        beta: what the step length grows by until the last layer.
    """
    return step_from(base, weighted_sum(task_vectors(base, models), weight, False), alpha + beta * depth)
