"""Layer swapping."""

from typing import Annotated

from common.option_types import Range
from merging.vectors import Tensor

MODELS = (2, 2)


def layer_swap(
    base: Tensor,
    models: list[Tensor],
    *,
    layer: int | None,
    layers: int,
    bottom: Annotated[int, Range(0)] = 4,
    top: Annotated[int, Range(0)] = 4,
    transition: Annotated[int, Range(0)] = 1,
) -> Tensor:
    """Layer swapping: the outer layers of one fine-tune in another; layers are counted over encoder and decoder.

    Formula: theta_2 in the first `bottom` and last `top` layers, the mean in `transition` more, theta_1 elsewhere
    Source: Bandarkar et al. 2024 (layer swapping), arXiv:2410.01335, section 3.2

    Args:
        base: theta_0, float32.
        models: theta_i, float32; the method may change the list.
        layer: the layer's number over encoder and decoder; None outside of the layers.
        layers: how many layers both have.
        bottom: layers taken from the second model at the input's end.
        top: layers taken from the second model at the output's end.
        transition: layers after those that are the mean of both.
    """
    one, two = models
    if layer is None:  # embeddings, convolutions, final norms
        return one
    inwards = min(layer - bottom, layers - top - 1 - layer)  # below 0 among the swapped layers
    if inwards < 0:
        return two
    return (one + two) * 0.5 if inwards < transition else one
