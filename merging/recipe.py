"""A merge's recipe: configs composed from left to right, the command line last, checked whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from common.configs import CONFIGS as ALL_CONFIGS
from common.configs import read_configs
from common.errors import UserError
from merging.methods import Method, methods
from merging.parameters import check
from merging.tensors import DTYPES

CONFIGS = ALL_CONFIGS / "merge"
ENGINES = ("stream", "mergekit")
RECIPE_FILE = "merge_recipe.yaml"
_SHARED = ("method", "base", "models", "subsets", "output_root", "dtype", "engine", "fingerprints", "score", "seen")


@dataclass(frozen=True)
class Recipe:
    """What is merged and how.

    `parameters` holds every parameter of the method as it was given; `fingerprints`, where known, those of the models
    that the recipe was first made with.
    """

    method: str
    models: tuple[str, ...]
    base: str
    parameters: Mapping[str, Any]
    dtype: str = "auto"
    engine: str = "stream"
    fingerprints: Mapping[str, str] | None = None

    def as_yaml(self) -> str:
        """The recipe as a config that makes the merge again."""
        shared = {"method": self.method, "base": self.base, "models": list(self.models)}
        settings = shared | dict(self.parameters) | {"dtype": self.dtype, "engine": self.engine}
        return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def compose(method: str, configs: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of the method's own config, then of each named config, then the overrides.

    Raises:
        UserError: where a config is missing, is no mapping, or holds a key that the method does not know.
    """
    own = [method] if (CONFIGS / f"{method}.yaml").is_file() else []
    settings = read_configs([*own, *configs], CONFIGS, [*_SHARED, *methods()[method].parameters])
    if settings.get("method", method) != method:
        other = settings["method"]
        raise UserError(f"the config is a recipe for {other}: run `python merge.py {other} --config ...`")
    return settings | {key: value for key, value in overrides.items() if value is not None}


def recipe_of(method: str, settings: Mapping[str, Any]) -> Recipe:
    """Checks composed settings and returns the recipe over all their models.

    Raises:
        UserError: naming the setting, what was found and what was expected.
    """
    models = settings.get("models") or []
    models = [models] if isinstance(models, str) else list(models)
    if not models or not all(isinstance(name, str) for name in models):
        raise UserError(f"models: expected model folders or Hub ids, found {models!r}; give them with --models")
    for key, known in (("dtype", ("auto", *DTYPES)), ("engine", ENGINES)):
        if settings.get(key, known[0]) not in known:
            raise UserError(f"{key} is {settings[key]!r}, expected one of {', '.join(known)}")
    kind = methods()[method]
    values = {
        name: settings.get(name, parameter.default) for name, parameter in kind.parameters.items()
    }  # fmt: skip
    recipe = Recipe(
        method=method,
        models=tuple(models),
        base=str(settings.get("base") or "none"),
        parameters=values,
        dtype=settings.get("dtype", "auto"),
        engine=settings.get("engine", ENGINES[0]),
        fingerprints=settings.get("fingerprints"),
    )
    checked_parameters(recipe)
    return recipe


def checked_parameters(recipe: Recipe) -> dict[str, Any]:
    """Returns the parameters as they are used: in range, `1/n` resolved for the recipe's number of models.

    Raises:
        UserError: naming the parameter, what was found and what was expected.
    """
    kind, count = methods()[recipe.method], len(recipe.models)
    values = {name: check(kind.parameters[name], value, count) for name, value in recipe.parameters.items()}
    density, epsilon = (
        value if isinstance(value, list) else [value] * count
        for value in (values.get("density"), values.get("epsilon"))
    )
    for share, spread in zip(density, epsilon, strict=True):
        plain = isinstance(share, float) and isinstance(spread, float)
        if plain and share < 1 and (share - spread <= 0 or share + spread >= 1):
            raise UserError(f"density {share} +- epsilon {spread} leaves (0, 1); take a smaller epsilon")
    if values.get("trim") == "global" and not all(isinstance(share, float) for share in density):
        raise UserError("trim global seeks one cut for all tensors: density must be a number, not set by module")
    return values


def check_count(method: Method, recipe: Recipe) -> None:
    """Raises a `UserError` where the method cannot merge so many or so few models."""
    fewest, most = method.models
    if not fewest <= len(recipe.models) <= most:
        expected = f"exactly {fewest}" if fewest == most else f"at least {fewest}"
        raise UserError(f"{method.name} merges {expected} fine-tunes, found {len(recipe.models)}; choose with --models")


def subsets(recipe: Recipe, which: str | None, labels: list[str]) -> Iterator[tuple[str, Recipe]]:
    """Yields (name, recipe) of the whole set, or with `all` of every subset that the method merges.

    A single model is a subset only to a method for single models.
    """
    kind = methods()[recipe.method]
    if which is None:
        check_count(kind, recipe)
        yield name_of(recipe.method, labels), recipe
        return
    if which != "all":
        raise UserError(f"subsets is {which!r}, expected all")
    fewest, most = kind.models
    for size in range(int(min(most, 2)), len(recipe.models) + 1):
        if not fewest <= size <= most:
            continue
        for chosen in itertools.combinations(range(len(recipe.models)), size):
            values = {
                name: [value[i] for i in chosen]
                if kind.parameters[name].per_model and isinstance(value, list | tuple)
                else value
                for name, value in recipe.parameters.items()
            }
            part = replace(recipe, models=tuple(recipe.models[i] for i in chosen), parameters=values)
            yield name_of(recipe.method, [labels[i] for i in chosen]), part


def name_of(method: str, labels: list[str]) -> str:
    """What a merge is called: `ties-ko-en+ja-en`."""
    return f"{method}-{'+'.join(labels)}"
