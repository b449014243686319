"""Spherical interpolation."""

import math
from typing import Annotated

from common.option_types import Range
from merging.vectors import Tensor, dot

MODELS = (2, 2)
_PARALLEL = 0.9995  # sin(phi) is too small to divide by beyond this cosine


def slerp(
    base: Tensor,
    models: list[Tensor],
    *,
    t: Annotated[float, Range(0, 1)] = 0.5,
) -> Tensor:
    """SLERP: interpolates between two fine-tunes along the arc, tensor by tensor; nearly parallel ones linearly.

    Formula: sin((1 - t) phi) / sin(phi) theta_1 + sin(t phi) / sin(phi) theta_2, phi the angle between the two
    Source: Shoemake 1985, Animating rotation with quaternion curves

    Args:
        base: theta_0, float32.
        models: theta_i, float32; the method may change the list.
        t: 0 is the first model, 1 the second.
    """
    one, two = models
    norms = math.sqrt(dot(one, one)) * math.sqrt(dot(two, two))
    cosine = max(-1.0, min(1.0, dot(one, two) / norms)) if norms > 1e-16 else 0.0
    if abs(cosine) > _PARALLEL:
        return one * (1 - t) + two * t
    phi = math.acos(cosine)
    return one * (math.sin((1 - t) * phi) / math.sin(phi)) + two * (math.sin(t * phi) / math.sin(phi))
