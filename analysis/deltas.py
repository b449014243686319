"""Statistics of parameter deltas (fine-tune minus base), streamed over the models' tensors.

Shapes: M models, R rows, C columns, E entries (R x C).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from backbone.model_folder.geometry import TaskVectorGeometry
from backbone.model_folder.stored import ModelFolder, check_finite

_ATTENTION = {"self_attn": "self", "encoder_attn": "cross"}
PROJECTIONS = {
    f"{a}.{part}_proj": f"{name} {part}" for a, name in _ATTENTION.items() for part in ("q", "k", "v", "out")
}
PROJECTIONS |= {"fc1": "fc1", "fc2": "fc2"}
MODULES = tuple(PROJECTIONS.values())
SIDES = ("encoder", "decoder")
OTHER = "other"
_LAYER = re.compile(r"(?:^|\.)(encoder|decoder)\.layers\.(\d+)\.(.+)")
# So many entries are read at once: 8 MB a model in float32, few enough for float32 to count them exactly.
_STRETCH = 1 << 21


@dataclass(frozen=True)
class Place:
    """The place of a tensor: side (`encoder`, `decoder`), layer from 0, and one of `MODULES` for a projection matrix.

    A layer's biases and norms are its module `other`; the side and layer of embeddings, convolutions and final norms
    are "" and None.
    """

    side: str
    layer: int | None
    module: str

    @property
    def is_projection(self) -> bool:
        """Whether it is the place of a projection matrix."""
        return self.module != OTHER


def place_of(tensor: str) -> Place:
    """The place of a tensor of a Whisper, by its name."""
    found = _LAYER.search(tensor)
    if not found:
        return Place("", None, OTHER)
    side, layer, rest = found.groups()
    matrix = rest.removesuffix(".weight")
    return Place(side, int(layer), PROJECTIONS.get(matrix, OTHER) if matrix != rest else OTHER)


@dataclass(eq=False)
class PlaceMeasure:
    """The measures of the deltas of one place, or of several added up.

    Attributes:
        geometry: the deltas' lengths, angles and conflicts of sign.
        rows_MR: mean absolute delta of each row of projection matrices.
    """

    geometry: TaskVectorGeometry
    rows_MR: Tensor

    @classmethod
    def zero(cls, models: int, rows: int = 0) -> PlaceMeasure:
        """Return an empty measure with room for so many rows."""
        return cls(TaskVectorGeometry.zero(models), torch.zeros(models, rows))

    @classmethod
    def total(cls, measures: Iterable[PlaceMeasure]) -> PlaceMeasure:
        """Add the measures of places that do not overlap; their rows are concatenated."""
        every = list(measures)
        geometry = TaskVectorGeometry.total(one.geometry for one in every)
        return cls(geometry, torch.cat([one.rows_MR for one in every], dim=1))

    def percent_above(self, model: int, threshold: float) -> float:
        """Per cent of rows whose mean absolute delta exceeds the threshold."""
        return 100 * (self.rows_MR[model] > threshold).double().mean().item()


def measure(base: ModelFolder, models: Sequence[ModelFolder]) -> dict[Place, PlaceMeasure]:
    """Measure every tensor, by place, in the order encoder, decoder, layer, module; what is in no layer comes last.

    Raises:
        UserError: where a weight is not finite.
    """
    # Whatever outlives a stretch is allocated first: small blocks kept between large ones would fragment the heap,
    # gigabytes of it for whisper-medium.
    found: dict[Place, PlaceMeasure] = {}
    for name in sorted(base.tensors, key=lambda name: _order(place_of(name))):
        place = place_of(name)
        rows = base.tensors[name].shape[0] if place.is_projection else 0
        found.setdefault(place, PlaceMeasure.zero(len(models), rows))
    with tqdm(total=base.numel, unit=" weights", unit_scale=True, disable=None, leave=False) as bar:
        for name, tensor in base.tensors.items():
            rows = tensor.shape[0]
            step = max(1, _STRETCH * rows // max(1, tensor.numel))
            for first in range(0, rows, step):
                _add_rows(found[place_of(name)], base, models, name, (first, min(first + step, rows)))
            bar.update(tensor.numel)
    return found


def _add_rows(
    measure: PlaceMeasure, base: ModelFolder, models: Sequence[ModelFolder], name: str, rows: tuple[int, int]
) -> None:
    """Add a stretch of a tensor's rows to the measure of its place."""
    base_R = base.rows(name, *rows)
    model_MR = torch.stack([model.rows(name, *rows) for model in models])
    for folder, weights in zip((base, *models), (base_R, *model_MR), strict=True):
        check_finite(folder, name, weights)
    delta_MR = model_MR.sub_(base_R)
    measure.geometry.add(base_R.flatten(), delta_MR.flatten(1))
    if measure.rows_MR.numel():
        measure.rows_MR[:, slice(*rows)] = delta_MR.abs().mean(2)


def _order(place: Place) -> tuple[int, int, int]:
    modules = (*MODULES, OTHER)
    return (
        SIDES.index(place.side) if place.side else len(SIDES),
        -1 if place.layer is None else place.layer,
        modules.index(place.module),
    )
