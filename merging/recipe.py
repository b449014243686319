"""A merge's recipe: configs composed from left to right, then the command line, checked as a whole."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from common.configs import CONFIGS as ALL_CONFIGS
from common.configs import read_yaml
from common.errors import UserError
from merging.methods import methods
from merging.parameters import check

CONFIGS = ALL_CONFIGS / "merge"
DTYPES = {"auto": None, "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""What the merged weights may be stored as, and safetensors' name of it; `auto` is the base's own."""
RECIPE_FILE = "merge_recipe.yaml"
MOST_MERGES, MOST_POINTS = 64, 200
"""How many merges, and points of a sweep, are made without asking."""


@dataclass(frozen=True)
class MergeRecipe:
    """What is merged and how.

    Attributes:
        method: its name.
        models: the fine-tunes, as folders or Hub ids.
        base: what they were fine-tuned from; `none` takes the first model.
        parameters: every parameter of the method as it was given.
        dtype: of the merged weights, a key of `DTYPES`.
        engine: what merges.
        weights_sha256: by model, the hash of the weights that the recipe was first made with, where it is known.
    """

    method: str
    models: tuple[str, ...]
    base: str
    parameters: Mapping[str, Any]
    dtype: str = "auto"
    engine: str = "stream"
    weights_sha256: Mapping[str, str] | None = None

    def as_yaml(self, hashes: dict[str, str] | None = None) -> str:
        """Return the recipe as a config that reproduces the merge, from weights with these hashes."""
        shared = {"method": self.method, "base": self.base, "models": list(self.models)}
        settings = shared | dict(self.parameters) | {"dtype": self.dtype, "engine": self.engine}
        settings |= {"weights_sha256": hashes} if hashes else {}
        head = f"# python merge.py {self.method} --config {RECIPE_FILE} --out FOLDER makes this model again\n"
        return head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def defaults(method: str) -> dict[str, Any]:
    """Return what the method's own configuration says, with the declaration's defaults for the rest."""
    file = CONFIGS / f"{method}.yaml"
    declared = {name: parameter.default for name, parameter in methods()[method].parameters.items()}
    return declared | (read_yaml(file) if file.is_file() else {})


def recipe_of(method: str, settings: Mapping[str, Any]) -> MergeRecipe:
    """Check settings and return the recipe over all their models.

    Raises:
        UserError: naming the setting, what was found and what was expected.
    """
    if settings.get("method") not in (None, method):
        other = settings["method"]
        raise UserError(f"the config is a recipe for {other}: run `python merge.py {other} --config ...`")
    models = settings.get("models")
    if not models:
        raise UserError("no model named: give model folders or Hub ids with --models")
    values = {name: settings.get(name, one.default) for name, one in methods()[method].parameters.items()}
    others = {key: settings[key] for key in ("dtype", "engine", "weights_sha256") if key in settings}
    recipe = MergeRecipe(method, tuple(models), settings.get("base") or "none", values, **others)
    checked_parameters(recipe)
    return recipe


def checked_parameters(recipe: MergeRecipe) -> dict[str, Any]:
    """Return the parameters as they are used: in range, `1/n` resolved for the recipe's number of models.

    Raises:
        UserError: naming the parameter, what was found and what was expected.
    """
    kind, count = methods()[recipe.method], len(recipe.models)
    return {name: check(kind.parameters[name], value, count) for name, value in recipe.parameters.items()}


def subsets(recipe: MergeRecipe, labels: list[str]) -> Iterator[tuple[str, MergeRecipe]]:
    """Yield (name, recipe) of every subset: of two or more models, unless the method merges single ones.

    `labels` are the models' short names.
    """
    kind = methods()[recipe.method]
    for size in _sizes(recipe):
        for chosen in itertools.combinations(range(len(recipe.models)), size):
            values = {
                name: [value[i] for i in chosen]
                if kind.parameters[name].per_model and isinstance(value, list)
                else value
                for name, value in recipe.parameters.items()
            }
            part = replace(recipe, models=tuple(recipe.models[i] for i in chosen), parameters=values)
            yield name_of(recipe.method, [labels[i] for i in chosen]), part


def count_of_subsets(recipe: MergeRecipe) -> int:
    """Return how many merges `subsets` yields with `all`."""
    return sum(math.comb(len(recipe.models), size) for size in _sizes(recipe))


def check_count(count: int, most: int, what: str, yes: bool) -> None:
    """Check, before work begins, that there is not much more to do than the user may have meant.

    Args:
        count: how many there are.
        most: how many may be done without --yes.
        what: what is counted, in the plural.
        yes: whether --yes was given.

    Raises:
        UserError: giving the count.
    """
    if count > most and not yes:
        raise UserError(f"{count:,} {what}, and more than {most} may be a mistake: give --yes to go on")


def _sizes(recipe: MergeRecipe) -> range:
    fewest, most = methods()[recipe.method].models
    return range(int(max(fewest, min(most, 2))), int(min(most, len(recipe.models))) + 1)


def name_of(method: str, labels: list[str]) -> str:
    """Return a merge's name, such as `ties-ko-en+ja-en`."""
    return f"{method}-{'+'.join(labels)}"
