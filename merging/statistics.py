"""What a merge did: lengths of the task vectors and of the merged step, the angles between them, and conflicts of sign.

Sums are taken while the weights pass by, block by block in float32 and over blocks in float64.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, field

import numpy as np

from merging.blocks import Block
from merging.inputs import Inputs
from merging.parameters import EMBEDDINGS, NORMS
from merging.tensors import Floats


class Moments:
    """Squared lengths of the task vectors and the step, and from a share of the rows their angles and conflicts.

    Vector i < n is the task vector of model i, vector n the merged step.
    """

    def __init__(self, models: int) -> None:
        """Starts at nothing, for so many models."""
        self.squares = np.zeros(models + 1)
        self.gram = np.zeros((models + 1, models + 1))
        self.base = 0.0
        self.conflicts = 0
        self.entries = 0

    def add(self, block: Block, step: Floats, *, angles: bool) -> None:
        """Adds a block and the step taken on it, with `angles` also to the products, conflicts and the base."""
        vectors = [*block.deltas, step]
        squares = np.array([_dot(one, one) for one in vectors])
        self.squares += squares
        if not angles:
            return
        self.gram[np.diag_indices_from(self.gram)] += squares
        for i, one in enumerate(vectors):
            for j in range(i):
                self.gram[i, j] += _dot(one, vectors[j])
        self.base += _dot(block.base, block.base)
        self.entries += step.size
        if len(block.deltas) > 1:
            first, *others = [tau.view(np.int32) for tau in block.deltas]
            odds = first ^ others[0]
            for other in others[1:]:
                odds |= first ^ other
            self.conflicts += int(np.count_nonzero(odds < 0))

    def merge(self, other: Moments) -> None:
        """Adds another part's sums."""
        self.squares += other.squares
        self.gram += other.gram
        self.base += other.base
        self.conflicts += other.conflicts
        self.entries += other.entries

    @property
    def finite(self) -> bool:
        """Whether every sum is a finite number."""
        return bool(np.isfinite(self.squares).all())

    @property
    def norms(self) -> list[float]:
        """The L2 norms of the task vectors and, last, of the merged step."""
        return [math.sqrt(value) for value in self.squares]

    @property
    def shares(self) -> list[float]:
        """The norms as shares of the base's norm."""
        return [math.sqrt(value / self.base) if self.base > 0 else 0.0 for value in np.diag(self.gram)]

    def cosine(self, i: int, j: int) -> float:
        """The cosine between two vectors; 0 where one is zero."""
        norms = math.sqrt(self.gram[i, i] * self.gram[j, j])
        return float(self.gram[max(i, j), min(i, j)]) / norms if norms > 0 else 0.0

    @property
    def mean_cosine(self) -> float:
        """The mean cosine between each two task vectors; 0 for a single one."""
        pairs = [(i, j) for i in range(len(self.gram) - 1) for j in range(i)]
        return sum(self.cosine(i, j) for i, j in pairs) / len(pairs) if pairs else 0.0

    @property
    def conflict_share(self) -> float:
        """The share of entries in which two task vectors point in opposite directions."""
        return self.conflicts / self.entries if self.entries else 0.0


def _dot(one: Floats, other: Floats) -> float:
    return float(np.vecdot(one, other).sum(dtype=np.float64))


@dataclass
class Statistics:
    """A merge's moments by module, and a checksum of each tensor of each model."""

    models: int
    modules: dict[str, Moments] = field(default_factory=dict)
    sums: dict[str, list[int]] = field(default_factory=dict)

    def add(self, name: str, moments: Moments, sums: list[int]) -> None:
        """Adds a tensor: its moments, and its checksums in the base and each model."""
        self.modules.setdefault(module_of(name), Moments(self.models)).merge(moments)
        self.sums[name] = sums

    @property
    def total(self) -> Moments:
        """The moments of the whole model."""
        whole = Moments(self.models)
        for part in self.modules.values():
            whole.merge(part)
        return whole

    def fingerprints(self, inputs: Inputs) -> dict[str, str]:
        """For each model by name a SHA-256 over its tensors: name, dtype, shape, and the sum of their 64-bit words."""
        found = {}
        for place, folder in enumerate([inputs.base, *inputs.models]):
            digest = hashlib.sha256()
            for name in sorted(self.sums):
                entry, total = folder.tensors[name], self.sums[name][place] % 2**64
                digest.update(f"{name} {entry.dtype} {list(entry.shape)} {total:016x}\n".encode())
            found[folder.name] = digest.hexdigest()[:32]
        return found


def module_of(name: str) -> str:
    """The part of the model that a tensor belongs to, as the card lists them."""
    if EMBEDDINGS.search(name):
        return "embeddings"
    if NORMS.search(name):
        return "final norms"
    if match := re.search(r"(encoder|decoder)\.(conv|layers\.\d+\.(self_attn|encoder_attn|fc|final_layer_norm))", name):
        kinds = {"self_attn": "self-attention", "encoder_attn": "cross-attention", None: "convolutions"}
        return f"{match[1]} {kinds.get(match[3], 'feed-forward')}"
    return "others"
