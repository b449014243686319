"""Singular vectors of task matrices, for the merge methods that work on subspaces.

Embeddings and convolutions are not linear layers. For tensors outside of the layers, and for all that are not matrices,
these methods take the weighted mean, as their authors do. Shape suffixes: M rows, N columns, K singular vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from merging.vectors import Tensor


class Singular(NamedTuple):
    """A matrix as its singular value decomposition `U_MK @ diag(S_K) @ V_KN`, without singular values of zero."""

    U_MK: Tensor
    S_K: Tensor
    V_KN: Tensor

    def first(self, count: int) -> Singular:
        """The `count` largest singular values, or all where there are fewer."""
        return Singular(self.U_MK[:, :count], self.S_K[:count], self.V_KN[:count])


def decompose(matrix_MN: Tensor) -> Singular:
    """Decompose a matrix, without the directions that are rounding error alone."""
    import torch  # not at the top of the file, so that `merge.py --help` does not wait for it

    try:
        U_MK, S_K, V_KN = torch.linalg.svd(matrix_MN, full_matrices=False)
    except torch.linalg.LinAlgError:  # LAPACK's divide and conquer sometimes fails where singular values repeat
        found = torch.linalg.svd(matrix_MN.double(), full_matrices=False)
        U_MK, S_K, V_KN = (one.to(matrix_MN.dtype) for one in found)
    rounding = S_K[0] * max(matrix_MN.shape) * torch.finfo(S_K.dtype).eps
    rank = int(S_K.gt(rounding).sum())
    return Singular(U_MK, S_K, V_KN).first(rank)


def orthogonalize(parts: Sequence[Singular]) -> Singular:
    """Put the singular vectors of several matrices side by side and take the nearest orthonormal ones.

    The nearest to U = P D Q' is P Q' (the Procrustes problem; Gargiulo et al. 2025, section 4.2).
    """
    import torch

    left_MK, right_NK = (
        _nearest_orthonormal(torch.cat(vectors, dim=1))
        for vectors in ([one.U_MK for one in parts], [one.V_KN.mT for one in parts])
    )
    return Singular(left_MK, torch.cat([one.S_K for one in parts]), right_NK.mT)


def _nearest_orthonormal(vectors_MK: Tensor) -> Tensor:
    """Return P Q' = U (U'U)^(-1/2), by eigenvalues: with nearly all singular values 1, an SVD may not converge.

    In float64, since the eigenvalues are the singular values' squares; without directions that are rounding error.
    """
    import torch

    U_MK = vectors_MK.double()
    squares_K, Q_KK = torch.linalg.eigh(U_MK.mT @ U_MK)
    rounding = squares_K[-1] * (max(U_MK.shape) * torch.finfo(vectors_MK.dtype).eps) ** 2
    Q_KK, squares_K = Q_KK[:, squares_K > rounding], squares_K[squares_K > rounding]
    return (U_MK @ (Q_KK * squares_K.rsqrt()) @ Q_KK.mT).to(vectors_MK.dtype)


def weighted_steps(vectors: list[Tensor], weight: Sequence[float]) -> list[Tensor]:
    """Return w_i tau_i, without those that are zero."""
    return [vector * w for vector, w in zip(vectors, weight, strict=True) if w and vector.any()]


def linear_layer(tensor: Tensor, layer: int | None) -> bool:
    """Whether a tensor is the matrix of a linear layer; `layer` is None for what lies outside of the layers."""
    return layer is not None and tensor.dim() == 2
