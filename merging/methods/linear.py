"""The weighted mean."""

from merging.parameters import Weight
from merging.vectors import Tensor, weighted_sum


def linear(base: Tensor, models: list[Tensor], *, weight: Weight = 1.0, normalize: bool = True) -> Tensor:
    """Linear: the weighted mean of the fine-tunes; the base takes part only where all weights are zero.

    Formula: sum_i w_i theta_i / sum_i w_i
    Source: Wortsman et al. 2022 (Model soups), arXiv:2203.05482

    Args:
        base: theta_0, float32.
        models: theta_i, float32; the method may change the list.
        weight: weight w_i of each fine-tune; 1/n for the mean of n models.
        normalize: divide by the sum of the weights.
    """
    return weighted_sum(models, weight, normalize) if any(weight) or not normalize else base
