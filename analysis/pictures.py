"""The figures of an analysis: their panels, captions and scales."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from analysis.deltas import PlaceMeasure
from analysis.heat_maps import DIVERGING, ColourScale, Values, heat_maps, matrix
from analysis.measures_csv import Measures, chance_conflict, groups, projections
from common.figures import save

_MOST_PANELS = 6  # with more pairs of models than this, figures show the pairs' mean


def draw(folder: Path, names: Sequence[str], measures: Measures, threshold: float, suggested: float) -> None:
    """Write every figure as PNG and SVG; those that compare models need two or three of them.

    Args:
        folder: where to.
        names: the models'.
        measures: by place.
        threshold: mean absolute change above which a row counts as changed.
        suggested: the median of all rows.
    """
    save(_rows_changed(names, measures, threshold, suggested), f"{folder}/rows_changed")
    save(_norms(names, measures), f"{folder}/norms")
    if len(names) > 1:
        save(_cosines_by_layer(names, measures), f"{folder}/cosines_by_layer")
        save(_sign_conflicts(names, measures), f"{folder}/sign_conflicts")
    if len(names) > 2:
        save(_cosines(names, measures), f"{folder}/cosines")


def brief(value: float) -> str:
    """Write a threshold as on the command line: 5e-5, 0.0021."""
    return f"{value:g}".replace("e-0", "e-")


def saturation(names: Sequence[str], measures: Measures, threshold: float, suggested: float) -> str:
    """Say what to do where (nearly) all rows of every matrix lie on one side of the threshold; else return "".

    Args:
        names: the models'.
        measures: by place.
        threshold: mean absolute change above which a row counts as changed.
        suggested: the median of all rows.
    """
    panels = _changed(names, measures, threshold)
    percents = [value for values in panels.values() for value in values.values()]
    if suggested == 0:
        return "No row changed at all: these models equal the base."
    if min(percents) < 99.5 and max(percents) > 0.5:
        return ""
    side = "above" if min(percents) >= 99.5 else "below"
    return (
        f"Nearly all rows lie {side} this threshold, so it does not separate the places. "
        f"Half of all rows lie above {brief(suggested)}: try --threshold {brief(suggested)}, or auto."
    )


def _rows_changed(names: Sequence[str], measures: Measures, threshold: float, suggested: float) -> Figure:
    panels = _changed(names, measures, threshold)
    caption = f"Rows of each projection matrix whose mean absolute change exceeds {brief(threshold)}"
    caption += ", the median of all rows." if threshold == suggested else "."
    note = saturation(names, measures, threshold, suggested)
    scale = ColourScale("rows above the threshold (%)", 0, 100)
    return heat_maps("Rows changed by fine-tuning", caption, panels, scale, note)


def _changed(names: Sequence[str], measures: Measures, threshold: float) -> dict[str, Values]:
    return _panels(_single(names), measures, lambda measure, model: measure.percent_above(model, threshold))


def _norms(names: Sequence[str], measures: Measures) -> Figure:
    panels = _panels(_single(names), measures, lambda measure, model: measure.geometry.relative_norm(model))
    caption = "L2 norm of the change of each projection matrix, in per cent of the norm of the base's matrix."
    high = max(_defined(panels), default=0.0) or 1.0
    form = "{:.0f}" if high >= 100 else "{:.1f}" if high >= 2 else "{:.2g}"
    return heat_maps(
        "Size of the change", caption, panels, ColourScale("norm of change / norm of base (%)", 0, high, form=form)
    )


def _cosines(names: Sequence[str], measures: Measures) -> Figure:
    whole = PlaceMeasure.total(measures.values())
    values = np.array([[whole.geometry.cosine(a, b) for b in range(len(names))] for a in range(len(names))])
    off_diagonal = values[~np.eye(len(names), dtype=bool)].tolist()
    caption = "Cosine between two models' changes, over all parameters. 0: unrelated directions; 1: the same direction."
    return matrix("Cosine between task vectors", caption, names, values, _cosine_scale(off_diagonal))


def _cosines_by_layer(names: Sequence[str], measures: Measures) -> Figure:
    caption = "Cosine between two models' changes of each projection matrix. 0: unrelated directions."
    if len(names) == 2:
        caption += f" Over all parameters: {PlaceMeasure.total(measures.values()).geometry.cosine(0, 1):.2f}."
    pairs = {f"{names[a]} and {names[b]}": (a, b) for a, b in combinations(range(len(names)), 2)}
    panels = _panels(pairs, measures, lambda measure, a, b: measure.geometry.cosine(a, b))
    if len(panels) > _MOST_PANELS:
        every = list(panels.values())
        means = {place: float(np.mean([panel[place] for panel in every])) for place in every[0]}
        panels = {f"mean of {len(every)} pairs": means}
    return heat_maps("Cosine between task vectors by layer", caption, panels, _cosine_scale(_defined(panels)))


def _sign_conflicts(names: Sequence[str], measures: Measures) -> Figure:
    chosen = groups(names)
    if len(chosen) > _MOST_PANELS:
        chosen = {f"all {len(names)} models": tuple(range(len(names)))}
    panels = _panels(chosen, measures, lambda measure, *group: measure.geometry.percent_conflict(group))
    sizes = sorted({len(group) for group in chosen.values()})
    caption = (
        "Entries whose signs differ, among those that two or more of the models changed: what TIES resolves. "
        f"With signs by chance {' and '.join(f'{chance_conflict(n):.3g} % for {n} models' for n in sizes)}."
    )
    found = _defined(panels) or [0.0]
    low, high = 10 * math.floor(min(found) / 10), 10 * math.floor(max(found) / 10 + 1)
    return heat_maps("Sign conflict", caption, panels, ColourScale("entries in conflict (%)", low, high))


def _single(names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    return {name: (number,) for number, name in enumerate(names)}


def _panels(
    groups: Mapping[str, tuple[int, ...]], measures: Measures, figure: Callable[..., float]
) -> dict[str, Values]:
    """Return a panel for each group of models; `figure` takes a place's measure and the models' indices."""
    matrices = projections(measures)
    return {
        title: {place: figure(measure, *group) for place, measure in matrices.items()}
        for title, group in groups.items()
    }


def _defined(panels: Mapping[str, Values]) -> list[float]:
    return [value for panel in panels.values() for value in panel.values() if not math.isnan(value)]


def _cosine_scale(values: Sequence[float]) -> ColourScale:
    """Return a scale symmetric about zero, rounded up to the next tenth."""
    largest = max((abs(value) for value in values if not math.isnan(value)), default=0.0)
    high = min(1.0, max(0.1, math.ceil(10 * largest) / 10))
    return ColourScale("cosine", -high, high, DIVERGING, "{:.2f}")
