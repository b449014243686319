"""Statistics of parameter deltas (fine-tune minus base), streamed over the models' tensors.

Shapes: M models, R rows, C columns, E entries (R x C).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.delta_models import Model
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


@dataclass(eq=False)
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
    shared: int = 0
    opposed: int = 0

    @classmethod
    def zero(cls, models: int, rows: int = 0) -> Measure:
        """Nothing measured yet, with room for so many rows."""
        gram, shared, opposed = (torch.zeros(models, models, dtype=torch.float64) for _ in range(3))
        return cls(gram, shared, opposed, torch.zeros(models, rows))

    def add(self, base: Tensor, delta_ME: Tensor) -> None:
        """Adds a stretch of a tensor, but for its rows."""
        sign_ME = delta_ME.sign()
        used_ME = sign_ME.abs()
        shared_MM = (used_ME @ used_ME.T).double()
        self.gram_MM += delta_ME @ delta_ME.T
        self.shared_MM += shared_MM
        # Agreeing minus differing signs is sign.sign; agreeing plus differing is `shared`.
        self.opposed_MM += (shared_MM - sign_ME @ sign_ME.T) / 2
        self.parameters += base.numel()
        self.base_square += base.square().sum(dtype=torch.float64).item()
        self.shared += int((used_ME.sum(0) > 1).sum())
        self.opposed += int(((sign_ME.amax(0) > 0) & (sign_ME.amin(0) < 0)).sum())

    @classmethod
    def total(cls, measures: Iterable[Measure]) -> Measure:
        """Adds measures of places that do not overlap; their rows follow one another."""
        every = list(measures)
        found = cls.zero(len(every[0].gram_MM))
        for name in ("gram_MM", "shared_MM", "opposed_MM", "parameters", "base_square", "shared", "opposed"):
            setattr(found, name, sum((getattr(one, name) for one in every), getattr(found, name)))
        found.rows_MR = torch.cat([one.rows_MR for one in every], dim=1)
        return found

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
        return self.shared, self.opposed

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
    # All that outlives a stretch is made beforehand: small pieces kept between large ones would scatter over the heap
    # and hold it open, gigabytes for whisper-medium.
    found: dict[Place, Measure] = {}
    for tensor in sorted(base.shapes, key=lambda tensor: _order(place_of(tensor))):
        place = place_of(tensor)
        found.setdefault(place, Measure.zero(len(models), base.shapes[tensor][0] if place.is_projection else 0))
    for tensor, shape in base.shapes.items():
        for first, last in _stretches(shape):
            _add_rows(found[place_of(tensor)], base, models, tensor, first, last)
            progress(math.prod(shape[1:]) * (last - first), total)
    return found


def _add_rows(measure: Measure, base: Model, models: Sequence[Model], tensor: str, first: int, last: int) -> None:
    """Adds the rows [first, last) of a tensor to the measure of its place."""
    base_R = base.rows(tensor, first, last)
    _check_finite(base, tensor, base_R.sum())
    delta_MR = torch.stack([model.rows(tensor, first, last) for model in models]).sub_(base_R)
    delta_ME = delta_MR.flatten(1)
    for model, delta_E in zip(models, delta_ME, strict=True):
        _check_finite(model, tensor, delta_E.sum())
    measure.add(base_R, delta_ME)
    if measure.rows_MR.numel():
        measure.rows_MR[:, first:last] = delta_MR.abs().mean(2)


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
