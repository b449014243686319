"""WiSE-FT."""

from typing import Annotated

from common.option_types import Range
from merging.vectors import Tensor

MODELS = (1, 1)


def wise_ft(
    base: Tensor,
    models: list[Tensor],
    *,
    alpha: Annotated[float, Range(0, 1)] = 0.5,
) -> Tensor:
    """WiSE-FT: interpolates between the base and one fine-tune.

    Formula: (1 - alpha) theta_0 + alpha theta_1
    Source: Wortsman et al. 2022 (WiSE-FT), arXiv:2109.01903, equation 1

    Args:
        base: theta_0, float32.
        models: theta_i, float32; the method may change the list.
        alpha: 0 is the base, 1 the fine-tune.
    """
    return base * (1 - alpha) + models[0] * alpha
