"""One analysis: models opened and checked, their deltas measured, figures and CSV written whole or not at all."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from analysis import measures_csv as tables
from analysis.deltas import PlaceMeasure, measure
from analysis.measures_csv import Measures
from analysis.pictures import brief, draw, saturation
from backbone.model_folder.alike import check_alike
from backbone.model_folder.locate import named_models
from backbone.model_folder.read import read
from backbone.model_folder.stored import ModelFolder
from common.files import atomic_folder, check_replaceable
from common.printing import console, show

RECORD = "analysis.json"
# Half a unit in the last place, in per cent of the weight.
_ROUNDING = {"F16": ("float16", 0.05), "BF16": ("bfloat16", 0.4)}


def analyze(entries: Sequence[Any], base: str, threshold: float | str, out: Path) -> Measures:
    """Analyze fine-tunes of a base; write figures (PNG and SVG), CSV and `analysis.json`.

    Args:
        entries: models as paths or Hub ids, NAME=PATH, or mappings with `path` and optionally `name`.
        base: folder or Hub id.
        threshold: mean absolute delta above which a row counts as changed, or "auto".
        out: the folder to write.

    Raises:
        UserError: where an option is wrong, or a model is missing, unlike the base or not finite; nothing is written.
    """
    check_replaceable(out, RECORD, "earlier analysis")
    sources = {model["name"]: model["path"] for model in named_models(entries)}
    opened = read(base)
    models = [read(source, name) for name, source in sources.items()]
    for model in models:
        check_alike(opened, model)
    measures = measure(opened, models)
    suggested = suggested_threshold(measures)
    chosen = suggested if threshold == "auto" else float(threshold)
    names = list(sources)
    with atomic_folder(out) as folder:
        for name, text in tables.csv_files(names, measures, chosen).items():
            (folder / name).write_text(text, encoding="utf-8")
        draw(folder, names, measures, chosen, suggested)
        record = {"base": base, "models": sources, "threshold": chosen, "threshold_given": threshold}
        (folder / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _report(models, measures, chosen, suggested, out)
    return measures


def suggested_threshold(measures: Measures) -> float:
    """Return the median mean absolute delta of all rows that changed, over all models, to two digits; 0 if none did."""
    rows = torch.cat([measure.rows_MR.flatten() for measure in tables.projections(measures).values()])
    changed = rows[rows > 0]
    return float(f"{changed.median().item():.1e}") if len(changed) else 0.0


def _report(models: Sequence[ModelFolder], measures: Measures, threshold: float, suggested: float, out: Path) -> None:
    """Print the whole models' figures."""
    names = [model.label for model in models]
    whole = PlaceMeasure.total(measures.values())
    rows = PlaceMeasure.total(tables.projections(measures).values())
    screen = console()
    table = Table("model", f"rows above {brief(threshold)} (%)", "norm of change", "in % of the base")
    for index, name in enumerate(names):
        figures = rows.percent_above(index, threshold), whole.geometry.norm(index), whole.geometry.relative_norm(index)
        table.add_row(name, *(f"{figure:.4g}" for figure in figures))
    screen.print(table)
    if len(names) > 1:
        table = Table("models", "cosine", "signs in conflict (%)", "by chance (%)")
        for title, group in tables.groups(names).items():
            cosine = f"{whole.geometry.cosine(*group):.3f}" if len(group) == 2 else ""
            chance = tables.chance_conflict(len(group))
            table.add_row(title, cosine, f"{whole.geometry.percent_conflict(group):.1f}", f"{chance:.3g}")
        screen.print(table)
    for code, (dtype, error) in _ROUNDING.items():
        if stored := [model.label for model in models if code in {tensor.dtype for tensor in model.tensors.values()}]:
            show(
                f"note: {', '.join(stored)}: stored in {dtype}, whose rounding alone moves weights by up to {error} %; "
                "that counts as change where the base is stored more exactly"
            )
    if note := saturation(names, measures, threshold, suggested):
        show(f"note: {note}")
    show(f"figures and CSV: {out}")
