"""What `merge.py` does with its arguments: compose the recipe, merge or sweep, say what was made."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from common.errors import UserError
from merging import merge_run as run
from merging import recipe as recipes
from merging import sweep
from merging.arguments import overrides, parser
from merging.folders import find_all
from merging.recipe import Recipe

OUTPUTS = "outputs/merges"


def main(arguments: Sequence[str] | None = None, score: sweep.Score | None = None) -> None:
    """Runs `merge.py` on a command line; `score` is what a sweep scores weights with.

    Raises:
        UserError: for whatever the user can put right.
    """
    options = parser().parse_args(arguments)
    method = options.swept if options.method == "sweep" else options.method
    settings = recipes.compose(method, options.config, overrides(options, method))
    recipe = recipes.recipe_of(method, settings)
    if options.method == "sweep":
        _sweep(options, settings, recipe, score)
        return
    for out, part in _planned(options, settings, recipe).items():
        if options.skip_existing and run.is_finished(part, out):
            print(f"{out}: up to date")
        else:
            _merge(part, out)


def _planned(options: argparse.Namespace, settings: Mapping[str, Any], recipe: Recipe) -> dict[Path, Recipe]:
    """The merges that are asked for, each by its folder."""
    labels = [model.label for model in find_all(recipe.models)]
    parts = list(recipes.subsets(recipe, settings.get("subsets"), labels))
    if options.out is not None and settings.get("subsets") is None:
        return {Path(options.out): parts[0][1]}
    parent = Path(options.out or settings.get("output_root", OUTPUTS))
    return {parent / name: part for name, part in parts}


def _merge(recipe: Recipe, out: Path, notes: Sequence[str] = ()) -> None:
    console, start = Console(stderr=True), time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(out.name, total=None)
        statistics = run.merge(recipe, out, lambda done, total: bar.update(task, advance=done, total=total), notes)
    print(f"{out}: {run.summary(statistics)}, in {time.perf_counter() - start:.1f} s")
    if doubt := run.doubt(recipe, statistics):
        print(f"warning: {doubt}", file=sys.stderr)


def _sweep(options: argparse.Namespace, settings: Mapping[str, Any], recipe: Recipe, score: sweep.Score | None) -> None:
    labels = [model.label for model in find_all(recipe.models)]
    manifests = [Path(name) for name in settings.get("score") or ()]
    if not manifests:
        raise UserError("sweep: name development manifests of the seen pairs with --score")
    seen = settings.get("seen") or sweep.seen_pairs(labels)
    pairs = sweep.pairs_of(manifests, seen, allow_unseen=options.allow_unseen)
    if score is None:
        raise UserError("sweep: there is nothing to score with")
    name = f"sweep-{recipes.name_of(recipe.method, labels)}"
    out = Path(options.out or Path(settings.get("output_root", OUTPUTS)) / name)
    densities = getattr(options, "densities", None)
    points = sweep.sweep(
        recipe,
        step_lengths=sweep.values(options.step_lengths, "lambda"),
        densities=[None] if densities is None else sweep.values(densities, "density"),
        manifests=manifests,
        score=score,
        scratch=out,
        told=_tell,
    )
    sweep.write_curve(out, points)
    best = min(points, key=lambda point: point.mean)
    print(f"{out / 'sweep.csv'}: {len(points)} points; best {_place(best)}")
    unseen = [pair for pair in pairs if "-" in pair and pair not in seen]
    notes = [f"{_place(best)} chosen of {len(points)} points by the mean error rate on {', '.join(pairs)}."]
    notes += [
        f"Chosen on unseen pairs ({', '.join(unseen)}): its scores on them are not those of an unseen pair."
    ] * bool(unseen)
    _merge(sweep.chosen(recipe, best), out / "best", notes)


def _tell(point: sweep.Point) -> None:
    scores = "  ".join(f"{pair} {100 * value:.2f}" for pair, value in point.scores.items())
    print(f"{_place(point)}: mean {100 * point.mean:.2f} %  ({scores})", flush=True)


def _place(point: sweep.Point) -> str:
    density = "" if point.density is None else f"density {point.density:g}, "
    return f"{density}lambda {point.step_length:g}"
