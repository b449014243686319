"""The model card of a merge: its recipe, its lineage, and what the merge did to the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from backbone.model_folder.geometry import TaskVectorGeometry
from common.markdown import licence_of, render, table
from merging.inputs import MergeInputs
from merging.merge_engine import MergeGeometry
from merging.recipe import MergeRecipe

_LENGTHS = ("vector", "L2 norm", "share of the base's norm", "mean cosine with the task vectors")
_MODULES = ("module", "entries in conflict", "mean cosine of the task vectors", "step / mean task vector")


def write_card(
    folder: Path,
    title: str,
    recipe: MergeRecipe,
    inputs: MergeInputs,
    geometry: MergeGeometry,
    hashes: Mapping[str, str],
    notes: Sequence[str] = (),
) -> None:
    """Write `README.md`: front matter for the Hub, the recipe, the lineage, and the geometry of the merge.

    Args:
        folder: the model folder.
        title: what the merge is called.
        recipe: what was merged and how.
        inputs: the models.
        geometry: what the merge did.
        hashes: of each model's weights, by name.
        notes: sentences that a reader must know.
    """
    sources = [inputs.base, *(model for model in inputs.models if model is not inputs.base)]
    licences = {source.name: licence_of(source.path) for source in sources}
    total = TaskVectorGeometry.total(geometry.values())
    text = render(
        Path(__file__).with_name("merge_card.md.jinja"),
        title=title,
        method=inputs.method,
        notes=notes,
        recipe=recipe.as_yaml(),
        sources=sources,
        licences=licences,
        hashes=hashes,
        lengths=table(_LENGTHS, _lengths(inputs, total)),
        modules=table(_MODULES, _modules(geometry)),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _lengths(inputs: MergeInputs, total: TaskVectorGeometry) -> list[tuple[str, ...]]:
    names = [*(model.label for model in inputs.models), "merged step"]
    count = len(inputs.models)
    rows = []
    for place, name in enumerate(names):
        others = [total.cosine(place, other) for other in range(count) if other != place]
        cosine = f"{sum(others) / len(others):.3f}" if others else "-"
        rows.append((name, f"{total.norm(place):.4g}", f"{total.relative_norm(place) / 100:.2%}", cosine))
    return rows


def _modules(geometry: MergeGeometry) -> list[tuple[str, ...]]:
    rows = []
    for name, part in sorted(geometry.items()):
        count = len(part.gram_MM) - 1
        mean = sum(part.norm(i) for i in range(count)) / count
        ratio = f"{part.norm(count) / mean:.2f}" if mean > 0 else "-"
        conflicts = part.opposed / max(1, part.compared)
        rows.append((name, f"{conflicts:.1%}", f"{part.mean_cosine(count):.3f}", ratio))
    return rows
