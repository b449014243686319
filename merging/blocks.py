"""What a merge method sees: some rows of one parameter, and all rows of it again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from merging.tensors import Floats

Random = Callable[[int, int], NDArray[np.uint32]]
"""Called with a model's number and a count, draws the next so many random 32-bit numbers of that model."""


def no_random(model: int, count: int) -> NDArray[np.uint32]:
    """Stands where a method draws no random numbers."""
    raise RuntimeError("no seed was given")


@dataclass
class Block:
    """Some rows of one parameter in the base and in each fine-tune: float32, of shape (rows, ...).

    `start` is the flat index of the first element over all parameters in the order of their names; `depth` the
    parameter's place over encoder and decoder in [0, 1]; `layer` its layer's number of `layers` over both, None
    outside the layers.
    """

    base: Floats
    models: Sequence[Floats]
    start: int = 0
    depth: float = 0.0
    layer: int | None = None
    layers: int = 0

    @cached_property
    def deltas(self) -> list[Floats]:
        """The task vectors tau_i; not to be written to."""
        return [model - self.base for model in self.models]


class Rows(Protocol):
    """All rows of one parameter."""

    numel: int
    random: Random

    def __iter__(self) -> Iterator[Block]:
        """Runs through the rows in order; a block's arrays hold until the next one is asked for."""

    def sample(self, count: int) -> Iterator[Block]:
        """Runs through some rows, evenly spread, of about so many elements."""


@dataclass
class Whole:
    """One parameter given whole: a single block."""

    block: Block
    random: Random = field(default=no_random)

    @property
    def numel(self) -> int:
        """Elements of the parameter."""
        return self.block.base.size

    def __iter__(self) -> Iterator[Block]:
        """Yields the one block."""
        yield self.block

    def sample(self, count: int) -> Iterator[Block]:
        """Yields the one block."""
        yield self.block
