"""What merge methods share: task vectors, the masks that thin them, and their sums.

It calls only methods of tensors and does not import torch, so that `merge.py --help` does not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any  # for the annotations of methods, which import it from here

Draw = Callable[[int, Tensor], Tensor]
"""`draw(i, like)` returns the next random numbers of model i, even in [0, 1), in the shape of a tensor."""

_PIECE = 2**16


def task_vectors(base: Tensor, models: list[Tensor]) -> list[Tensor]:
    """Return tau_i = theta_i - theta_0 as new tensors, which the caller may change.

    `models` is emptied meanwhile, so that at most one of them is in memory beside the task vectors.
    """
    return [models.pop(0) - base for _ in range(len(models))]


def step_from(base: Tensor, step: Tensor, length: float) -> Tensor:
    """Return `base + length * step`.

    Args:
        base: theta_0.
        step: the merged step at length 1.
        length: lambda.
    """
    return base + (step if length == 1 else step * length)


def dot(one: Tensor, other: Tensor) -> float:
    """Return the inner product of two tensors: summed in float32 within short pieces, in float64 over them."""
    pieces = zip(one.flatten().split(_PIECE), other.flatten().split(_PIECE), strict=True)
    return sum(float(a.dot(b)) for a, b in pieces)


def largest(vector: Tensor, count: int) -> Tensor:
    """Return the mask of the `count` entries of largest magnitude; of equal ones the first are taken."""
    size = vector.numel()
    if not 0 < count < size:
        return vector.isfinite() if count >= size else vector.isnan()  # all or none
    ordered = vector.abs().flatten().numpy()
    ordered.partition(size - count)  # in place: a second copy of an embedding would be 0.2 GB
    cut = float(ordered[size - count])
    del ordered
    magnitude = vector.abs()
    mask = magnitude >= cut
    if excess := int(mask.count_nonzero()) - count:
        equal = (magnitude.flatten() == cut).nonzero().flatten()
        mask.view(-1)[equal[equal.numel() - excess :]] = False
    return mask


def restore_l1(vector: Tensor, norm: float) -> None:
    """Scale a thinned vector in place to the L1 norm that it had."""
    left = float(vector.abs().sum())
    if norm >= 1e-7 and left >= 1e-7:
        vector.mul_(norm / left)


def weighted_sum(vectors: list[Tensor], weight: Sequence[float], normalize: bool) -> Tensor:
    """Return sum_i w_i v_i.

    Args:
        vectors: v_i.
        weight: w_i.
        normalize: whether to divide by sum_i w_i, unless that is zero.
    """
    total = vectors[0] * weight[0]
    for vector, w in zip(vectors[1:], weight[1:], strict=True):
        total += vector if w == 1 else vector * w
    divisor = sum(np.float32(w) for w in weight)
    return total.div_(float(divisor)) if normalize and abs(divisor) >= 1e-8 else total


def elected_sum(vectors: list[Tensor], weight: Sequence[float], normalize: bool, majority: str) -> Tensor:
    """Return the sum of the weighted entries that have the elected sign, or their weighted mean.

    Args:
        vectors: the thinned task vectors; they are changed and the list is emptied.
        weight: one for each.
        normalize: whether to divide each entry by the weights of those that agree.
        majority: `weighted` or `unweighted`: the sum whose sign is elected; zero counts as positive.
    """
    ballot = weighted_sum(vectors, weight if majority == "weighted" else [1.0] * len(vectors), normalize=False)
    elected = ballot.ge_(0).mul_(2).sub_(1)  # 1 or -1
    for vector, w in zip(vectors, weight, strict=True):
        vector.mul_(w).mul_(elected).relu_().mul_(elected)  # 0 where the signs differ
    del ballot, elected
    total = vectors.pop(0)
    divisor = total.sign().abs_().mul_(weight[0])
    for w in weight[1:]:
        part = vectors.pop(0)
        total += part
        divisor.add_(part.sign_().abs_(), alpha=w)
    return total.div_(divisor.masked_fill_(divisor == 0, 1)) if normalize else total
