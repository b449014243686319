"""The measures as CSV, one line for each place; the first line, with side `all`, sums up the whole model."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from math import isnan
from typing import Any

from analysis.deltas import Place, PlaceMeasure
from common import escape
from common.csv_text import csv_text

ALL = Place("all", None, "all")
Measures = Mapping[Place, PlaceMeasure]
Groups = Mapping[tuple[str, ...], tuple[int, ...]]  # models' indices by the cells that name them in a line


def projections(measures: Measures) -> dict[Place, PlaceMeasure]:
    """The projection matrices alone."""
    return {place: measure for place, measure in measures.items() if place.is_projection}


def groups(names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """What may be merged, by title: every pair of models, and all of them."""
    every = tuple(range(len(names)))
    chosen = dict.fromkeys([*combinations(every, 2), every])
    return {" + ".join(names[one] for one in group): group for group in chosen if len(group) > 1}


def chance_conflict(models: int) -> float:
    """Return the per cent of entries in conflict if so many models had independent signs, + and - equally likely."""
    return 100 * (1 - 2.0 ** (1 - models))


def csv_files(names: Sequence[str], measures: Measures, threshold: float) -> dict[str, str]:
    """Return the text of each CSV file by its name; those that compare models need at least two.

    Args:
        names: the models'.
        measures: by place.
        threshold: mean absolute change above which a row counts as changed.
    """

    def rows(measure: PlaceMeasure, model: int) -> Sequence[float]:
        rows_R = measure.rows_MR[model]
        above, percent = int((rows_R > threshold).sum()), measure.percent_above(model, threshold)
        return len(rows_R), above, percent, rows_R.median().item(), rows_R.max().item(), threshold

    def norms(measure: PlaceMeasure, model: int) -> Sequence[float]:
        found = measure.geometry
        return found.parameters, found.norm(model), found.base_square**0.5, found.relative_norm(model)

    def cosine(measure: PlaceMeasure, *group: int) -> Sequence[float]:
        return [measure.geometry.cosine(*group)]

    def conflicts(measure: PlaceMeasure, *group: int) -> Sequence[float]:
        return *measure.geometry.conflict(group), measure.geometry.percent_conflict(group)

    single = {(name,): (number,) for number, name in enumerate(names)}
    head = "model,side,layer,module,rows,rows_above,percent_above,median_mav,max_mav,threshold"
    files = {"rows_changed.csv": _csv(head, single, projections(measures), rows)}
    head = "model,side,layer,module,parameters,delta_norm,base_norm,relative_norm_percent"
    files["norms.csv"] = _csv(head, single, measures, norms)
    if len(names) > 1:
        pairs = {(names[a], names[b]): (a, b) for a, b in combinations(range(len(names)), 2)}
        files["cosines.csv"] = _csv("model_a,model_b,side,layer,module,cosine", pairs, measures, cosine)
        titled = {(title,): group for title, group in groups(names).items()}
        head = "models,side,layer,module,shared,conflicting,percent_conflicting"
        files["sign_conflicts.csv"] = _csv(head, titled, measures, conflicts)
    return files


def _csv(head: str, groups: Groups, measures: Measures, figures: Callable[..., Sequence[float]]) -> str:
    """Return a line for each group of models and place; `figures` takes the place's measure and the models' indices."""
    lines: list[Sequence[Any]] = [head.split(",")]
    every = {ALL: PlaceMeasure.total(measures.values()), **measures}
    for names, group in groups.items():
        for place, measure in every.items():
            shown = [_shown(figure) for figure in figures(measure, *group)]
            where = place.side, place.layer, place.module  # no layer is an empty cell
            lines.append([*map(escape.csv, names), *where, *shown])
    return csv_text(lines)


def _shown(figure: float) -> float | str:
    """Six significant digits; empty where a figure is undefined (0/0)."""
    if isinstance(figure, int):
        return figure
    return "" if isnan(figure) else f"{figure:.6g}"
