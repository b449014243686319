"""What `merge.py` does with its arguments: compose the recipe, merge each subset, say what was made."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from merging import recipe as recipes
from merging import run
from merging.arguments import overrides, parser
from merging.folders import find_all
from merging.recipe import Recipe

OUTPUTS = Path("outputs/merges")


def main(arguments: list[str] | None = None) -> int:
    """Runs `merge.py` on a command line."""
    options = parser().parse_args(arguments)
    given = overrides(options)
    names = [name for group in options.config for name in group]
    settings = recipes.compose(options.method, names, given)
    plan = planned(options, settings)
    console = Console(stderr=True)
    for out, recipe in plan.items():
        if options.skip_existing and run.is_finished(recipe, out):
            print(f"{out}: up to date")
            continue
        _merge(recipe, out, console)
    return 0


def planned(options: argparse.Namespace, settings: dict[str, object]) -> dict[Path, Recipe]:
    """The merges that the settings ask for, each by its folder."""
    recipe = recipes.recipe_of(options.method, settings)
    subsets = settings.get("subsets")
    labels = [model.label for model in find_all(recipe.models)]
    parts = list(recipes.subsets(recipe, None if subsets is None else str(subsets), labels))
    given = settings.get("out")
    if given is not None and subsets is None:
        return {Path(str(given)): parts[0][1]}
    parent = OUTPUTS if given is None else Path(str(given))
    return {parent / name: part for name, part in parts}


def _merge(recipe: Recipe, out: Path, console: Console) -> None:
    start = time.perf_counter()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(out.name, total=None)
        run.merge(recipe, out, lambda done, total: bar.update(task, advance=done, total=total))
    print(f"{out}: merged in {time.perf_counter() - start:.1f} s")
