"""Try out step lengths and densities: task vectors are trimmed once for each density, points are scored in memory."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbone.model_folder.locate import WEIGHTS
from backbone.model_folder.stored import ModelFolder
from backbone.model_folder.write import SafetensorsWriter, write_side_files
from common import escape
from common.csv_text import csv_text
from common.errors import UserError
from common.files import atomic_file, scratch_folder, write_text
from common.json_lines import read_rows
from common.printing import show
from merging import merge_engine as engine
from merging.inputs import read_all
from merging.merge_run import merge_and_report, open_inputs
from merging.recipe import MOST_POINTS, MergeRecipe, check_count, checked_parameters, name_of
from merging.vectors import step_from

if TYPE_CHECKING:
    from torch import Tensor

Score = Callable[[Path, "Mapping[str, Tensor]", Sequence[Path]], Mapping[str, float]]
"""Scores weights: takes a folder with config, tokenizer and processor, the weights by name (float32, without the tied
projection) and development manifests; returns an error rate for each pair."""
_MOST_VALUES = 10_000


@dataclass(frozen=True)
class SweepPoint:
    """One density (None for methods without) and step length, and the error rate of each pair there."""

    density: float | None
    step_length: float
    scores: Mapping[str, float]

    @property
    def mean(self) -> float:
        """The mean over the pairs."""
        return sum(self.scores.values()) / len(self.scores)

    def __str__(self) -> str:
        """Name the place in the grid."""
        density = "" if self.density is None else f"density {self.density:g}, "
        return f"{density}lambda {self.step_length:g}"


def values(text: str, name: str) -> list[float]:
    """Read `0.2:1.2:0.1` (first, last, step) or `0.2,0.5,1`.

    Raises:
        UserError: where it is neither.
    """
    try:
        if ":" in text:
            first, last, step = (float(part) for part in text.split(":"))
            count = math.floor((last - first) / step + 1e-9) + 1
            if count > _MOST_VALUES:
                raise UserError(f"--{name} {text!r}: {count:,} values, expected {_MOST_VALUES:,} at most")
            found = [round(first + place * step, 10) for place in range(count)]
        else:
            found = [float(part) for part in text.split(",")]
    except (ValueError, ZeroDivisionError, OverflowError):
        found = []
    if not found or not all(map(math.isfinite, found)):
        raise UserError(f"--{name} {text!r}: expected FIRST:LAST:STEP, such as 0.2:1.2:0.1, or numbers as 0.2,0.5,1")
    return found


def _pairs_of(manifests: Sequence[Path], seen: Sequence[str], *, allow_unseen: bool) -> tuple[list[str], list[str]]:
    """Return the pairs that the manifests hold, and the unseen ones among them.

    Args:
        manifests: of development sets.
        seen: pairs that the models were fine-tuned on.
        allow_unseen: whether other pairs may be among them.

    Raises:
        UserError: where a manifest cannot be read, holds test utterances, or (unless allowed) an unseen pair.
    """
    found: dict[str, None] = {}
    for manifest in manifests:
        for where, row in read_rows(manifest):
            if row.get("split") == "test":
                raise UserError(f"{where}: holds test utterances; a step length is chosen on development sets")
            if "pair" not in row:
                raise UserError(f"{where}: not a manifest, each line of which has a `pair`")
            found[str(row["pair"])] = None
    unseen = [pair for pair in found if "-" in pair and pair not in seen]
    if unseen and not allow_unseen:
        raise UserError(
            f"the models were fine-tuned on {', '.join(seen)}, but --score holds {', '.join(unseen)}: choosing on "
            "unseen pairs would make them seen; leave them out, or give --allow-unseen, which the model card will state"
        )
    return list(found), unseen


def _seen_pairs(labels: Sequence[str]) -> list[str]:
    """Return the pairs that models named like `ko-en` were fine-tuned on.

    Raises:
        UserError: where a name is no pair.
    """
    for label in labels:
        if not re.fullmatch(r"[a-z]{2,3}[_-][a-z]{2,3}", label):
            raise UserError(f"{label}: is not named by the pair that it was fine-tuned on, as ko-en; give --seen")
    return [label.replace("_", "-") for label in labels]


def run_sweep(recipe: MergeRecipe, options: Mapping[str, Any], given: Mapping[str, Any], score: Score) -> None:
    """Sweep, write the curve, and merge at the best point.

    Args:
        recipe: what is merged.
        options: the command's.
        given: the options on the command line itself, with the values to try.
        score: what scores weights.

    Raises:
        UserError: where manifests or values do not allow it, or as `sweep`.
    """
    labels = [model.label for model in read_all(recipe.models)]
    manifests = [Path(name) for name in options["score"]]
    if not manifests:
        raise UserError("sweep: name development manifests of the seen pairs with --score")
    pairs, unseen = _pairs_of(manifests, options["seen"] or _seen_pairs(labels), allow_unseen=options["allow_unseen"])
    out = Path(options["out"] or Path(options["output_root"]) / f"sweep-{name_of(recipe.method, labels)}")
    step_lengths = values(" ".join(given.get("lambda", ["0.2:1.2:0.1"])), "lambda")
    densities = values(" ".join(given["density"]), "density") if "density" in given else [None]
    check_count(len(step_lengths) * len(densities), MOST_POINTS, "points to score", options["yes"])
    points = sweep(
        recipe,
        step_lengths=step_lengths,
        densities=densities,
        manifests=manifests,
        score=score,
        scratch=out,
    )
    write_curve(out, points)
    best = min(points, key=lambda point: point.mean)
    show(f"{out / 'sweep.csv'}: {len(points)} points; best {best}")
    notes = [f"{best} chosen of {len(points)} points by the mean error rate on {', '.join(pairs)}."]
    if unseen:
        notes.append(f"Chosen on unseen pairs ({', '.join(unseen)}): its scores on them are not those of unseen pairs.")
    chosen = {"lambda": best.step_length} | ({} if best.density is None else {"density": best.density})
    merge_and_report(_with(recipe, **chosen), out / "best", notes)


def sweep(
    recipe: MergeRecipe,
    *,
    step_lengths: Sequence[float],
    densities: Sequence[float | None],
    manifests: Sequence[Path],
    score: Score,
    scratch: Path,
) -> list[SweepPoint]:
    """Score every step length at every density, and print each point.

    Args:
        recipe: what is merged.
        step_lengths: values of lambda.
        densities: None takes the recipe's.
        manifests: of development sets.
        score: what scores weights.
        scratch: the folder in which the merged step is written, once for each density.

    Raises:
        UserError: where the models cannot be merged, or as `score` raises it.
    """
    grid = {density: recipe if density is None else _with(recipe, density=density) for density in densities}
    for settled, step_length in itertools.product(grid.values(), step_lengths):
        checked_parameters(_with(settled, **{"lambda": step_length}))  # the last point, too, before the first is scored
    points = []
    for density, settled in grid.items():
        with merged_step(settled, scratch) as (folder, weights_at):
            for step_length in step_lengths:
                point = SweepPoint(density, step_length, dict(score(folder, weights_at(step_length), manifests)))
                points.append(point)
                rates = "  ".join(f"{pair} {100 * rate:.2f}" for pair, rate in point.scores.items())
                show(f"{point}: mean {100 * point.mean:.2f} %  ({rates})")
    return points


def _with(recipe: MergeRecipe, **parameters: Any) -> MergeRecipe:
    return replace(recipe, parameters={**recipe.parameters, **parameters})


@contextmanager
def merged_step(recipe: MergeRecipe, scratch: Path) -> Iterator[tuple[Path, Callable[[float], dict[str, Tensor]]]]:
    """Merge the step once, and yield a folder with all but weights, and a function from step length to weights.

    The step is in float32 in a file of that folder; the weights of one model at a time are in memory.
    """
    inputs = open_inputs(_with(recipe, **{"lambda": 1.0}))
    with scratch_folder(scratch / "step") as folder:
        folder.mkdir(parents=True, exist_ok=True)
        write_side_files(folder, inputs.base, inputs.models, "F32")
        shapes = {name: tensor.shape for name, tensor in inputs.base.tensors.items()}
        with SafetensorsWriter(folder / WEIGHTS, shapes, dict.fromkeys(shapes, "F32")) as writer:
            engine.write_steps(inputs, writer)
        steps = ModelFolder(folder, str(folder))

        def weights_at(length: float) -> dict[str, Tensor]:
            return {name: step_from(inputs.base.tensor(name).float(), steps.tensor(name), length) for name in shapes}

        yield folder, weights_at


def write_curve(folder: Path, points: Sequence[SweepPoint]) -> None:
    """Write `sweep.csv` and `sweep.svg`: error rates over the step length, one panel for each density."""
    pairs = list(points[0].scores)
    lines = [["density", "lambda", *map(escape.csv, pairs), "mean"]]
    for point in points:
        density = "" if point.density is None else f"{point.density:g}"
        figures = [f"{value:.6f}" for value in (*(point.scores[pair] for pair in pairs), point.mean)]
        lines.append([density, f"{point.step_length:g}", *figures])
    write_text(folder / "sweep.csv", csv_text(lines))
    with atomic_file(folder / "sweep.svg") as partial:
        _draw(partial, points, pairs)


def _draw(file: Path, points: Sequence[SweepPoint], pairs: Sequence[str]) -> None:
    from matplotlib.figure import Figure

    densities = list(dict.fromkeys(point.density for point in points))
    figure = Figure(figsize=(1.8 + 2.9 * len(densities), 3.2), layout="constrained")
    panels = figure.subplots(1, len(densities), sharey=True, squeeze=False)[0]
    best = min(points, key=lambda point: point.mean)
    for panel, density in zip(panels, densities, strict=True):
        line = sorted((point for point in points if point.density == density), key=lambda point: point.step_length)
        lengths = [point.step_length for point in line]
        for pair in pairs:
            panel.plot(
                lengths, [100 * point.scores[pair] for point in line], lw=1, marker=".", ms=4, label=escape.figure(pair)
            )
        panel.plot(lengths, [100 * point.mean for point in line], "k-", lw=2, label="mean")
        if best.density == density:
            panel.plot([best.step_length], [100 * best.mean], "ko", ms=8, mfc="none", label="chosen")
        panel.set_xlabel("λ")
        panel.set_title("" if density is None else f"density {density:g}", fontsize="medium")
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("mixed error rate, %")
    handles, labels = panels[densities.index(best.density)].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.savefig(file, format="svg")
