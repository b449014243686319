"""Isotropic merging in the common subspace."""

from merging.parameters import Lambda, Weight
from merging.subspaces import decompose, linear_layer
from merging.vectors import Tensor, step_from, task_vectors, weighted_sum


def iso_c(
    base: Tensor, models: list[Tensor], *, layer: int | None, weight: Weight = 1.0, lambda_: Lambda = 1.0
) -> Tensor:
    """Iso-C: the sum of the task vectors with equal singular values, so that no direction outweighs the others.

    Formula: theta_0 + lambda mean(S) U V', U S V' = sum_i w_i tau_i in linear layers; elsewhere the mean of the tau_i
    Source: Marczak et al. 2025 (Iso-C), arXiv:2502.04959, algorithm 1

    Args:
        base: theta_0, float32.
        models: theta_i, float32; the method may change the list.
        layer: the layer's number over encoder and decoder; None outside of the layers.
        weight: weight w_i of each fine-tune; 1/n for the mean of n models.
        lambda_: step length: the merged step is multiplied by it; the paper chooses it on development sets.
    """
    matrix = linear_layer(base, layer)
    total = weighted_sum(task_vectors(base, models), weight, normalize=not matrix)
    if matrix and total.any():
        found = decompose(total)
        total = found.U_MK @ found.V_KN * found.S_K.mean()
    return step_from(base, total, lambda_)
