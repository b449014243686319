"""The geometry of task vectors: their lengths, the angles between them, and where their signs conflict.

Shapes: M vectors, E entries.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from typing import Self

import torch
from torch import Tensor


@dataclass(eq=False)
class TaskVectorGeometry:
    """Running sums over parts of several task vectors, from which norms, cosines and conflicts are computed.

    Attributes:
        gram_MM: inner products; the diagonal holds the squared norms.
        shared_MM: entries that are non-zero in both vectors.
        opposed_MM: those among them whose signs differ.
        parameters: entries seen.
        base_square: the base's squared norm.
        compared: entries whose signs were compared.
        shared: those of them that are non-zero in at least two of all vectors.
        opposed: those among these where both signs occur.
    """

    gram_MM: Tensor
    shared_MM: Tensor
    opposed_MM: Tensor
    parameters: int = 0
    base_square: float = 0.0
    compared: int = 0
    shared: int = 0
    opposed: int = 0

    @classmethod
    def zero(cls, vectors: int) -> Self:
        """Return sums over nothing."""
        return cls(*(torch.zeros(vectors, vectors, dtype=torch.float64) for _ in range(3)))

    def add(self, base_E: Tensor, delta_ME: Tensor, *, signed: int | None = None) -> None:
        """Add a part of the vectors.

        Args:
            base_E: the base.
            delta_ME: the vectors, float32.
            signed: how many of the vectors, from the first on, to compare signs of; all by default.
        """
        self.gram_MM += delta_ME @ delta_ME.T
        self.parameters += base_E.numel()
        self.base_square += base_E.dot(base_E).item()
        sign_ME = delta_ME[:signed].sign()
        if not len(sign_ME):
            return
        used_ME = sign_ME.abs()
        shared_MM = (used_ME @ used_ME.T).double()
        count = len(sign_ME)
        self.shared_MM[:count, :count] += shared_MM
        # Agreeing minus differing signs is sign.sign; agreeing plus differing is `shared`.
        self.opposed_MM[:count, :count] += (shared_MM - sign_ME @ sign_ME.T) / 2
        self.compared += base_E.numel()
        self.shared += int((used_ME.sum(0) > 1).count_nonzero())
        self.opposed += int(((sign_ME.amax(0) > 0) & (sign_ME.amin(0) < 0)).count_nonzero())

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """Return the sums over parts that do not overlap."""
        return reduce(lambda one, other: one + other, parts)

    def __add__(self, other: Self) -> Self:
        """Return the sums over both."""
        return type(self)(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def norm(self, vector: int) -> float:
        """L2 norm of a vector."""
        return self.gram_MM[vector, vector].sqrt().item()

    def relative_norm(self, vector: int) -> float:
        """L2 norm of a vector in per cent of the base's; NaN where the base is zero."""
        return 100 * self.norm(vector) / self.base_square**0.5 if self.base_square else float("nan")

    def cosine(self, first: int, second: int) -> float:
        """Cosine of the angle between two vectors; NaN where one is zero."""
        norms = self.norm(first) * self.norm(second)
        return self.gram_MM[first, second].item() / norms if norms else float("nan")

    def mean_norm(self, vectors: int) -> float:
        """The mean L2 norm of the first `vectors` vectors."""
        return sum(map(self.norm, range(vectors))) / vectors

    def mean_cosine(self, vectors: int) -> float:
        """The mean cosine between each two of the first `vectors` vectors, zero ones counted as orthogonal."""
        cosines = [self.cosine(i, j) for i, j in combinations(range(vectors), 2)]
        return sum(0.0 if cosine != cosine else cosine for cosine in cosines) / max(1, len(cosines))

    def conflict(self, group: Sequence[int]) -> tuple[int, int]:
        """Entries shared by two vectors or by all, and those among them whose signs differ."""
        if len(group) == 2:
            first, second = group
            return int(self.shared_MM[first, second].item()), int(self.opposed_MM[first, second].item())
        return self.shared, self.opposed

    def percent_conflict(self, group: Sequence[int]) -> float:
        """Per cent of a group's shared entries whose signs differ (what TIES resolves); NaN where none is shared."""
        shared, opposed = self.conflict(group)
        return 100 * opposed / shared if shared else float("nan")
