"""Merging by task singular vectors."""

from merging.parameters import Lambda, Weight
from merging.subspaces import decompose, linear_layer, orthogonalize, weighted_steps
from merging.vectors import Tensor, step_from, task_vectors, weighted_sum


def tsv_m(
    base: Tensor, models: list[Tensor], *, layer: int | None, weight: Weight = 1.0, lambda_: Lambda = 1.0
) -> Tensor:
    """TSV-M: the largest singular vectors of each task vector, an equal share each, made orthogonal to one another.

    Formula: theta_0 + lambda U S V' in linear layers, U and V the orthonormal matrices nearest to [U_1 ... U_n] and
        [V_1 ... V_n], S all S_i, with U_i S_i V_i' the r/n largest of w_i tau_i; elsewhere the mean of the tau_i
    Source: Gargiulo et al. 2025 (Task Singular Vectors), arXiv:2412.00081, section 4

    Args:
        base: theta_0, float32.
        models: theta_i, float32; the method may change the list.
        layer: the layer's number over encoder and decoder; None outside of the layers.
        weight: weight w_i of each fine-tune; a fine-tune of weight 0 takes no share.
        lambda_: step length: the merged step is multiplied by it; the paper's is 1.
    """
    vectors = task_vectors(base, models)
    if not linear_layer(base, layer):
        return step_from(base, weighted_sum(vectors, weight, normalize=True), lambda_)
    vectors = weighted_steps(vectors, weight)
    if not vectors:
        return base
    share = max(1, min(base.shape) // len(vectors))
    found = orthogonalize([decompose(vector).first(share) for vector in vectors])
    return step_from(base, found.U_MK * found.S_K @ found.V_KN, lambda_)
