"""Isotropic merging in common and task-specific subspaces."""

from typing import Annotated

from common.option_types import Range
from merging.parameters import Lambda, Weight
from merging.subspaces import decompose, linear_layer, orthogonalize, weighted_steps
from merging.vectors import Tensor, step_from, task_vectors, weighted_sum


def iso_cts(
    base: Tensor,
    models: list[Tensor],
    *,
    layer: int | None,
    weight: Weight = 1.0,
    lambda_: Lambda = 1.0,
    common: Annotated[float, Range(0, 1)] = 0.8,
) -> Tensor:
    """Iso-CTS: as Iso-C, but the smallest directions of the sum give way to directions of one task vector each.

    Formula: theta_0 + lambda mean(S) U V' in linear layers, U, S, V the largest of sum_i w_i tau_i and the largest of
        what each w_i tau_i has beside them, made orthonormal as in tsv_m; elsewhere the mean of the tau_i
    Source: Marczak et al. 2025 (Iso-CTS), arXiv:2502.04959, algorithm 2

    Args:
        base: theta_0, float32.
        models: theta_i, float32; the method may change the list.
        layer: the layer's number over encoder and decoder; None outside of the layers.
        weight: weight w_i of each fine-tune; a fine-tune of weight 0 takes no share.
        lambda_: step length: the merged step is multiplied by it; the paper chooses it on development sets.
        common: the sum's share of the directions; the task vectors divide the rest.
    """
    vectors = task_vectors(base, models)
    if not linear_layer(base, layer):
        return step_from(base, weighted_sum(vectors, weight, normalize=True), lambda_)
    vectors = weighted_steps(vectors, weight)
    total = sum(vectors)
    if not vectors or not total.any():
        return base
    rank = min(base.shape)
    share = round((rank - int(rank * common)) / len(vectors))
    shared = decompose(total).first(max(0, rank - share * len(vectors)))
    beside = [vector - shared.U_MK @ (shared.U_MK.mT @ vector) for vector in vectors]
    found = orthogonalize([shared, *(decompose(vector).first(share) for vector in beside)])
    return step_from(base, found.U_MK @ found.V_KN * found.S_K.mean(), lambda_)
