"""The command line of `merge.py`, made from the methods' own declarations, and what it runs."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from common.option_types import metavar
from common.options import Command, Option, option, options_of, parse
from common.printing import show
from merging import recipe as recipes
from merging.methods import MergeMethod, methods
from merging.parameters import MergeParameter, parse_words
from merging.recipe import MergeRecipe

if TYPE_CHECKING:
    from merging.sweep import Score

_VALUES = (
    "a number for all models or one for each, as in 1 0.5 1; by depth as in 1,0.5; by module as in encoder=1 norms=0"
)


@dataclass(frozen=True)
class MergeSettings:
    """How to merge."""

    models: list[str] = option([], metavar="MODEL")
    """Fine-tunes: model folders or Hub ids."""
    base: str | None = option(None, metavar="MODEL")
    """What they were fine-tuned from: a model folder or Hub id; `none` takes the first model."""
    out: str | None = option(None, metavar="DIR", in_config=False, shown_default="METHOD-MODEL+MODEL in --output-root")
    """Where to write; with --subsets all the folder of their folders."""
    output_root: str = option("outputs/merges", metavar="DIR")
    """The folder of merges."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Dtype of the merged weights; auto is the base's."""
    subsets: Literal["all"] | None = None
    """Merge every subset of the models; without effect in a sweep."""
    skip_existing: bool = option(False, in_config=False)
    """Leave merges alone that were made by the same recipe of the same weights."""
    yes: bool = option(False, in_config=False)
    """Go on although there are more than 64 merges, or more than 200 points in a sweep."""
    engine: Literal["stream", "mergekit"] = "stream"
    """What merges; a sweep always takes stream."""
    method: str | None = None
    """The method that a merge's own recipe is for."""
    weights_sha256: dict[str, str] | None = None
    """By model, the hash of the weights that a recipe was made with; others are refused."""


@dataclass(frozen=True)
class SweepSettings:
    """The sweep."""

    score: list[str] = option([], metavar="MANIFEST")
    """Development manifests of seen pairs."""
    seen: list[str] = option([], metavar="PAIR", shown_default="the models' names")
    """Pairs fine-tuned on."""
    allow_unseen: bool = option(False, in_config=False)
    """Choose on unseen pairs, too; the card says so."""


def command() -> Command:
    """Return the command: a subcommand for each method, and `sweep METHOD`."""
    swept = [_command(method, sweep=True) for method in methods().values() if method.has_step]
    summary = "Try out step lengths and densities of a method on development sets."
    return Command(
        "merge.py",
        "Merges fine-tunes of one Whisper into one model, without training.\n\n"
        "merge.py METHOD --help explains a method and its parameters.",
        examples="""
        python merge.py ties --subsets all
        python merge.py task_arithmetic --lambda 0.4 --models outputs/ko-en/model outputs/de-en/model --base openai/whisper-medium
        python merge.py sweep ties --config demo.yaml --lambda 0.2:1.2:0.1 --density 0.2,0.5
        """,  # noqa: E501
        commands=[*map(_command, methods().values()), Command("sweep", summary, commands=swept)],
    )


def _command(method: MergeMethod, sweep: bool = False) -> Command:
    text = f"{method.summary}\n\n{_filled(method.formula, '  ')}\n\n{_filled(method.source)}"
    shared = [*options_of(MergeSettings), *options_of(SweepSettings, "the sweep" if sweep else "for sweep METHOD")]
    useless = "skip_existing" if sweep else "allow_unseen"
    defaults = recipes.defaults(method.name)
    shared = [replace(one, default=defaults.get(one.name, one.default)) for one in shared if one.name != useless]
    own = [_option(parameter, method, defaults) for parameter in method.parameters.values()]
    if sweep:
        own = [_swept(one) if one.name in ("lambda", "density") else one for one in own]
    return Command(method.name, text, [*shared, *own], config=("merge",))


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=2 * indent)


def _option(parameter: MergeParameter, method: MergeMethod, defaults: Mapping[str, Any]) -> Option:
    default = defaults[parameter.name]
    group = f"parameters of {method.name}"
    if any(one.by_module for one in method.parameters.values()):
        group += f" (VALUE: {_VALUES})"
    return Option(
        parameter.name,
        Any,
        default,
        f"{parameter.help}; {parameter.range}",
        group,
        metavar="VALUE" if parameter.by_module else metavar(parameter.hint),
        shown_default=str(default).lower(),
    )


def _swept(one: Option) -> Option:
    """Turn a parameter into the option of a sweep, which takes several values; a configuration still holds one."""
    shown = "0.2:1.2:0.1" if one.name == "lambda" else "the recipe's"
    text = f"{'step lengths' if one.name == 'lambda' else 'densities'}, as FIRST:LAST:STEP or 0.2,0.5,1"
    return replace(one, text=text, group="the sweep", metavar="VALUES", shown_default=shown)


def main(words: Sequence[str] | None = None, score: Score | None = None) -> None:
    """Run `merge.py`.

    Args:
        words: the command line; the process's own by default.
        score: what a sweep scores weights with.

    Raises:
        UserError: for any mistake that the user can correct.
    """
    words = sys.argv[1:] if words is None else words
    parsed = parse(command(), words)
    options, method = dict(parsed.options), parsed.command.name
    swept = {"lambda", "density"} & parsed.given.keys() if words[0] == "sweep" else set()
    for name in parsed.given.keys() & methods()[method].parameters.keys() - swept:
        options[name] = parse_words(methods()[method].parameters[name], parsed.given[name])
    recipe = recipes.recipe_of(method, {name: value for name, value in options.items() if name not in swept})
    if words[0] == "sweep":
        from merging.sweep import run_sweep

        run_sweep(recipe, options, parsed.given, score)
        return
    from merging import merge_run

    for out, part in _planned(options, recipe).items():
        if options["skip_existing"] and merge_run.is_finished(part, out):
            show(f"{out}: up to date")
        else:
            merge_run.merge_and_report(part, out)


def _planned(options: Mapping[str, Any], recipe: MergeRecipe) -> dict[Path, MergeRecipe]:
    """Return the merges to make, by folder."""
    from merging.inputs import read_all

    if options["subsets"] is not None:  # before a model is read
        recipes.check_count(recipes.count_of_subsets(recipe), recipes.MOST_MERGES, "merges", options["yes"])
    labels = [model.label for model in read_all(recipe.models)]
    if options["subsets"] is None:
        return {Path(options["out"] or Path(options["output_root"]) / recipes.name_of(recipe.method, labels)): recipe}
    parent = Path(options["out"] or options["output_root"])
    return {parent / name: part for name, part in recipes.subsets(recipe, labels)}
