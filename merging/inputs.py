"""What an engine merges: base, fine-tunes, method and its values for each tensor."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from common.errors import UserError
from merging.folders import ModelFolder
from merging.methods import Method
from merging.parameters import Layout, value_at
from merging.tensors import Floats, Reader, to_float32


@dataclass
class Inputs:
    """One merge as the engines see it.

    `parameters` are checked; `progress(done, total)` is told of each merged stretch, in elements.
    """

    base: ModelFolder
    models: list[ModelFolder]
    method: Method
    parameters: Mapping[str, Any]
    reader: Reader
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)

    @cached_property
    def layout(self) -> Layout:
        """Where each tensor stands in encoder and decoder."""
        return Layout(self.base.tensors)

    @cached_property
    def offsets(self) -> dict[str, int]:
        """The flat index of each tensor's first element, all tensors in a row in the order of their names."""
        names = sorted(self.base.tensors)
        sizes = [self.base.tensors[name].numel for name in names]
        return dict(zip(names, itertools.accumulate([0, *sizes]), strict=False))

    @cached_property
    def numel(self) -> int:
        """Elements of one model."""
        return sum(entry.numel for entry in self.base.tensors.values())

    def values(self, name: str) -> dict[str, Any]:
        """The method's parameters for one tensor: a number, or a list with one for each model."""
        found: dict[str, Any] = {}
        for key, parameter in self.method.parameters.items():
            value = self.parameters[key]
            if parameter.per_model:
                each = value if isinstance(value, list) else [value] * len(self.models)
                found[key] = [value_at(one, name, self.layout, self.default(key)) for one in each]
            else:
                found[key] = value_at(value, name, self.layout, self.default(key))
        return found

    def default(self, key: str) -> Any:
        """The parameter's default as a number."""
        value = self.method.parameters[key].default
        return 1.0 / len(self.models) if value == "1/n" else value

    def whole(self, model: int, name: str) -> Floats:
        """A whole tensor of a model (-1: the base) in float32, finite throughout.

        Raises:
            UserError: naming the model and the tensor, where a weight is not finite.
        """
        folder = self.base if model < 0 else self.models[model]
        entry = folder.tensors[name]
        array = to_float32(self.reader.read(entry)).reshape(entry.shape)
        if not np.isfinite(array).all():
            raise not_finite(folder, name)
        return array

    @staticmethod
    def seed(seed: int, *names: str) -> int:
        """A 63-bit seed from a seed and names: the same on every machine, independent of order."""
        digest = hashlib.sha256("\0".join((str(seed), *names)).encode()).digest()
        return int.from_bytes(digest[:8], "little") >> 1


def not_finite(folder: ModelFolder, name: str) -> UserError:
    """The error for a weight that is not a finite number."""
    return UserError(f"{folder.name}: the tensor {name} holds NaN or infinite weights; was its training diverging?")
