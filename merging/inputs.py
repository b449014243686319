"""What is merged: base, fine-tunes, method, and the method's values for each tensor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from backbone.model_folder.read import read
from backbone.model_folder.stored import ModelFolder
from common.errors import UserError
from merging.layout import Layout, value_at
from merging.methods import MergeMethod
from merging.parameters import check

if TYPE_CHECKING:
    from torch import Tensor


def read_all(names: Iterable[str]) -> list[ModelFolder]:
    """Read models and give each a unique label: the folder's name, made longer where two are alike.

    Raises:
        UserError: where a model is missing, not whole, or named twice.
    """
    found = [read(name) for name in names]
    for place, one in enumerate(found):
        if any(other.path.resolve() == one.path.resolve() for other in found[:place]):
            raise UserError(f"{one.name}: named twice among the models")
    labels = [one.label for one in found]
    for place, one in enumerate(found):
        if labels.count(one.label) > 1:
            labels[place] = "-".join([part for part in one.path.absolute().parts if part != "model"][-2:])
    unique = [label if labels.count(label) == 1 else f"{label}-{n}" for n, label in enumerate(labels, start=1)]
    return [ModelFolder(one.path, one.name, label) for one, label in zip(found, unique, strict=True)]


@dataclass
class MergeInputs:
    """One merge, its models read and its parameters checked.

    Attributes:
        base: the base.
        models: its fine-tunes.
        method: the method.
        parameters: the method's parameters, checked.
    """

    base: ModelFolder
    models: list[ModelFolder]
    method: MergeMethod
    parameters: Mapping[str, Any]

    @cached_property
    def layout(self) -> Layout:
        """The place of each tensor in encoder and decoder."""
        return Layout(self.base.tensors)

    def values(self, name: str) -> dict[str, Any]:
        """Return the method's parameters for one tensor: a number, or a list with one for each model."""
        found: dict[str, Any] = {}
        for key, parameter in self.method.parameters.items():
            value = self.parameters[key]
            default = check(parameter, parameter.default, len(self.models))
            if parameter.per_model:
                each = value if isinstance(value, list) else [value] * len(self.models)
                found[key] = [value_at(one, name, self.layout, default) for one in each]
            else:
                found[key] = value_at(value, name, self.layout, default)
        return found

    def merged(self, name: str, base: Tensor, models: list[Tensor], **changed: Any) -> Tensor:
        """Return one tensor merged.

        Args:
            name: the tensor's name.
            base: the base's tensor, float32.
            models: each fine-tune's tensor, float32; the method may change the list.
            changed: parameters to override; lambda is called `lambda_`.
        """
        values = self.values(name)
        context: dict[str, Any] = {
            "depth": self.layout.depth(name),
            "layer": self.layout.layer(name),
            "layers": self.layout.total,
            "draw": self._draw(name, values.get("seed", 0)),
        }
        arguments = {"lambda_" if key == "lambda" else key: value for key, value in values.items()} | changed
        asked = {key: value for key, value in context.items() if key in self.method.context}
        return self.method.merge(base, models, **arguments, **asked)

    def check_values(self) -> None:
        """Try the method with each tensor's parameters on 2 x 2 zeros, before gigabytes are read.

        Raises:
            UserError: where a module's name fits no tensor, or the method refuses a combination of values.
        """
        import torch

        for name, value in self.parameters.items():
            self.layout.check_modules(name, value)
        for name in self.base.tensors:
            self.merged(name, torch.zeros(2, 2), [torch.zeros(2, 2) for _ in self.models])

    def _draw(self, name: str, seed: int) -> Callable[[int, Tensor], Tensor]:
        """Return a source of random numbers, which depend only on the seed, the tensor's name and the model's label."""
        import torch

        generators = [np.random.Generator(np.random.SFC64(self.seed(seed, model.label, name))) for model in self.models]
        return lambda model, like: torch.from_numpy(generators[model].random(tuple(like.shape), dtype=np.float32))

    @staticmethod
    def seed(seed: int, *names: str) -> int:
        """Return a 63-bit seed made of a seed and names: the same on every machine."""
        digest = hashlib.sha256("\0".join((str(seed), *names)).encode()).digest()
        return int.from_bytes(digest[:8], "little") >> 1
