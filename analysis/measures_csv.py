"""The measures as CSV, a line a place; a first line with side `all` sums the whole model."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import isnan

from analysis.deltas import Place, PlaceMeasure
from backbone.model_folder.geometry import TaskVectorGeometry

ALL = Place("all", None, "all")
Measures = Mapping[Place, PlaceMeasure]


def projections(measures: Measures) -> dict[Place, PlaceMeasure]:
    """The projection matrices alone."""
    return {place: measure for place, measure in measures.items() if place.is_projection}


def groups(names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """What may be merged, by title: every pair of models, and all of them."""
    every = tuple(range(len(names)))
    chosen = dict.fromkeys([*combinations(every, 2), every])
    return {" + ".join(names[one] for one in group): group for group in chosen if len(group) > 1}


def chance_conflict(models: int) -> float:
    """Per cent of entries on which so many models with independent, even signs are not all of one sign."""
    return 100 * (1 - 2.0 ** (1 - models))


def rows_changed(names: Sequence[str], measures: Measures, threshold: float) -> str:
    """Count the rows whose mean absolute delta exceeds the threshold, by model and projection matrix.

    Args:
        names: the models'.
        measures: by place.
        threshold: mean absolute change above which a row counts as changed.
    """

    def lines() -> Iterator[list[object]]:
        for model, name in enumerate(names):
            for place, measure in _with_total(projections(measures)):
                rows_R = measure.rows_MR[model]
                above = int((rows_R > threshold).sum())
                percent = measure.percent_above(model, threshold)
                yield [name, *_cells(place), len(rows_R), above, percent, rows_R.median().item(), rows_R.max().item()]

    head = ["model", "side", "layer", "module", "rows", "rows_above", "percent_above", "median_mav", "max_mav"]
    return _csv([*head, "threshold"], ([*line, threshold] for line in lines()))


def norms(names: Sequence[str], measures: Measures) -> str:
    """L2 norms of the deltas, and in per cent of the base's norm, by model and place."""
    head = ["model", "side", "layer", "module", "parameters", "delta_norm", "base_norm", "relative_norm_percent"]
    return _csv(
        head,
        (
            [name, *_cells(place), found.parameters, found.norm(model), found.base_square**0.5]
            + [found.relative_norm(model)]
            for model, name in enumerate(names)
            for place, found in _geometries(measures)
        ),
    )


def cosines(names: Sequence[str], measures: Measures) -> str:
    """Cosines between two models' deltas, by pair of models and place."""
    return _csv(
        ["model_a", "model_b", "side", "layer", "module", "cosine"],
        (
            [names[a], names[b], *_cells(place), found.cosine(a, b)]
            for a, b in combinations(range(len(names)), 2)
            for place, found in _geometries(measures)
        ),
    )


def sign_conflicts(names: Sequence[str], measures: Measures) -> str:
    """Entries whose signs differ among those non-zero in two or more deltas, for every pair of models and for all."""

    def lines() -> Iterator[list[object]]:
        for title, group in groups(names).items():
            for place, found in _geometries(measures):
                yield [title, *_cells(place), *found.conflict(group), found.percent_conflict(group)]

    head = ["models", "side", "layer", "module", "shared", "conflicting", "percent_conflicting"]
    return _csv(head, lines())


def _with_total(measures: Measures) -> Iterator[tuple[Place, PlaceMeasure]]:
    yield ALL, PlaceMeasure.total(measures.values())
    yield from measures.items()


def _geometries(measures: Measures) -> Iterator[tuple[Place, TaskVectorGeometry]]:
    return ((place, measure.geometry) for place, measure in _with_total(measures))


def _cells(place: Place) -> list[object]:
    return [place.side, "" if place.layer is None else place.layer, place.module]


def _csv(head: list[str], lines: Iterable[list[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_shown(cell) for cell in line] for line in lines)
    return out.getvalue()


def _shown(cell: object) -> object:
    """Six significant digits; empty where a figure is undefined (0/0)."""
    if not isinstance(cell, float):
        return cell
    return "" if isnan(cell) else f"{cell:.6g}"
