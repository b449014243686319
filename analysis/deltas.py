"""Statistics of parameter deltas (fine-tune minus base), streamed over the models' tensors.

Shapes: M models, R rows, C columns, E entries (R x C).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analysis.models import Model
from common.errors import UserError

PROJECTIONS = {
    "self_attn.q_proj": "self q", "self_attn.k_proj": "self k",
    "self_attn.v_proj": "self v", "self_attn.out_proj": "self out",
    "encoder_attn.q_proj": "cross q", "encoder_attn.k_proj": "cross k",
    "encoder_attn.v_proj": "cross v", "encoder_attn.out_proj": "cross out",
    "fc1": "fc1", "fc2": "fc2",
}  # fmt: skip
MODULES = tuple(PROJECTIONS.values())
SIDES = ("encoder", "decoder")
OTHER = "other"
_LAYER = re.compile(r"(?:^|\.)(encoder|decoder)\.layers\.(\d+)\.(.+)")
# Rows are read until a stretch has so many entries: 8 MB a model in float32, and counts that float32 holds exactly.
_STRETCH = 1 << 21


@dataclass(frozen=True)
class Place:
    """Where a tensor stands: side (`encoder`, `decoder`), layer from 0, and one of `MODULES` for a projection matrix.

    A layer's biases and norms are its module `other`; the side and layer of embeddings, convolutions and final norms
    are "" and None.
    """

    side: str
    layer: int | None
    module: str

    @property
    def is_projection(self) -> bool:
        """Whether a projection matrix stands here."""
        return self.module != OTHER


def place_of(tensor: str) -> Place:
    """The place of a tensor of a Whisper, by its name."""
    found = _LAYER.search(tensor)
    if not found:
        return Place("", None, OTHER)
    side, layer, rest = found.groups()
    matrix = rest.removesuffix(".weight")
    return Place(side, int(layer), PROJECTIONS.get(matrix, OTHER) if matrix != rest else OTHER)


@dataclass(frozen=True, eq=False)
class Measure:
    """What was measured of the deltas of one place, or of several added up; the first axes are models.

    Attributes:
        parameters: entries of the base.
        base_square: the base's squared L2 norm.
        gram_MM: inner products of the models' deltas; the diagonal holds their squared norms.
        shared_MM: entries that are non-zero in both models' deltas.
        opposed_MM: those among them whose signs differ.
        shared: entries that are non-zero in at least two of all models' deltas.
        opposed: those among them where two signs occur.
        rows_MR: mean absolute delta of each row of projection matrices.
    """

    gram_MM: Tensor
    shared_MM: Tensor
    opposed_MM: Tensor
    rows_MR: Tensor
    parameters: int = 0
    base_square: float = 0.0
    shared: float = 0.0
    opposed: float = 0.0

    @classmethod
    def of(cls, base: Tensor, delta_ME: Tensor) -> Measure:
        """Measures a stretch of a tensor, without its rows."""
        sign_ME = delta_ME.sign()
        used_ME = sign_ME.abs()
        shared_MM = (used_ME @ used_ME.T).double()
        # Agreeing minus differing signs is sign.sign; agreeing plus differing is `shared`.
        opposed_MM = (shared_MM - (sign_ME @ sign_ME.T).double()) / 2
        both_E = (sign_ME.amax(0) > 0) & (sign_ME.amin(0) < 0)
        return cls(
            gram_MM=(delta_ME @ delta_ME.T).double(),
            shared_MM=shared_MM,
            opposed_MM=opposed_MM,
            rows_MR=delta_ME.new_empty((len(delta_ME), 0)),
            parameters=base.numel(),
            base_square=base.square().sum(dtype=torch.float64).item(),
            shared=(used_ME.sum(0) > 1).sum().item(),
            opposed=both_E.sum().item(),
        )

    @classmethod
    def total(cls, measures: Iterable[Measure]) -> Measure:
        """Adds measures of places that do not overlap; their rows follow one another."""
        every = list(measures)
        return cls(
            *(sum(getattr(one, name) for one in every) for name in ("gram_MM", "shared_MM", "opposed_MM")),
            torch.cat([one.rows_MR for one in every], dim=1),
            *(sum(getattr(one, name) for one in every) for name in ("parameters", "base_square", "shared", "opposed")),
        )

    def percent_above(self, model: int, threshold: float) -> float:
        """Per cent of rows whose mean absolute delta exceeds the threshold."""
        return 100 * (self.rows_MR[model] > threshold).double().mean().item()

    def norm(self, model: int) -> float:
        """L2 norm of a model's delta."""
        return self.gram_MM[model, model].sqrt().item()

    def relative_norm(self, model: int) -> float:
        """L2 norm of a model's delta in per cent of the base's; NaN where the base is zero."""
        return 100 * self.norm(model) / self.base_square**0.5 if self.base_square else float("nan")

    def cosine(self, first: int, second: int) -> float:
        """Cosine of the angle between two models' deltas; NaN where one is zero."""
        norms = self.norm(first) * self.norm(second)
        return self.gram_MM[first, second].item() / norms if norms else float("nan")

    def conflict(self, group: Sequence[int]) -> tuple[int, int]:
        """Entries shared by two models or by all, and those among them whose signs differ."""
        if len(group) == 2:
            first, second = group
            return int(self.shared_MM[first, second].item()), int(self.opposed_MM[first, second].item())
        return int(self.shared), int(self.opposed)

    def percent_conflict(self, group: Sequence[int]) -> float:
        """Per cent of a group's shared entries whose signs differ (what TIES resolves); NaN where none is shared."""
        shared, opposed = self.conflict(group)
        return 100 * opposed / shared if shared else float("nan")


def measure(
    base: Model, models: Sequence[Model], progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[Place, Measure]:
    """Measures every tensor, by place, in the order encoder, decoder, layer, module; what is in no layer comes last.

    `progress(done, total)` is told of each stretch, in entries of the base.

    Raises:
        UserError: where the base has no layers of a Whisper, or a weight is not finite.
    """
    if not any(place_of(tensor).is_projection for tensor in base.shapes):
        raise UserError(f"{base.path}: holds no encoder or decoder layers of a Whisper")
    total = sum(math.prod(shape) for shape in base.shapes.values())
    found: dict[Place, list[Measure]] = {}
    for tensor, shape in base.shapes.items():
        place = place_of(tensor)
        for first, last in _stretches(shape):
            stretch = _measure_rows(base, models, tensor, first, last, place.is_projection)
            found.setdefault(place, []).append(stretch)
            progress(stretch.parameters, total)
    return {place: Measure.total(found[place]) for place in sorted(found, key=_order)}


def _measure_rows(
    base: Model, models: Sequence[Model], tensor: str, first: int, last: int, is_projection: bool
) -> Measure:
    base_R = base.rows(tensor, first, last)
    _check_finite(base, tensor, base_R.sum())
    delta_MR = torch.stack([model.rows(tensor, first, last) for model in models]).sub_(base_R)
    whole = Measure.of(base_R, delta_MR.flatten(1))
    for model, square in zip(models, whole.gram_MM.diagonal(), strict=True):
        _check_finite(model, tensor, square)
    return replace(whole, rows_MR=delta_MR.abs().mean(2)) if is_projection else whole


def _check_finite(model: Model, tensor: str, value: Tensor) -> None:
    if not value.isfinite():
        raise UserError(
            f"{model.name} ({model.path}): {tensor} holds weights that are not finite; did training diverge?"
        )


def _stretches(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    rows = shape[0]
    step = max(1, _STRETCH * rows // max(1, math.prod(shape)))
    return ((first, min(first + step, rows)) for first in range(0, rows, step))


def _order(place: Place) -> tuple[int, int, int]:
    modules = (*MODULES, OTHER)
    return (
        SIDES.index(place.side) if place.side else len(SIDES),
        -1 if place.layer is None else place.layer,
        modules.index(place.module),
    )
