"""A merge's recipe: configs composed from left to right, the command line last, checked whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError, nearest
from merging.methods import Method, methods
from merging.parameters import check
from merging.tensors import DTYPES

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "merge"
ENGINES = ("stream", "mergekit")
RECIPE_FILE = "merge_recipe.yaml"
_SHARED = ("method", "base", "models", "subsets", "out", "dtype", "engine")


@dataclass(frozen=True)
class Recipe:
    """What is merged and how; `parameters` are checked and hold every parameter of the method."""

    method: str
    models: tuple[str, ...]
    base: str
    parameters: Mapping[str, Any]
    dtype: str = "auto"
    engine: str = "stream"

    def as_yaml(self) -> str:
        """The recipe as a config that makes the merge again."""
        shared = {"method": self.method, "base": self.base, "models": list(self.models)}
        settings = shared | dict(self.parameters) | {"dtype": self.dtype, "engine": self.engine}
        return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def compose(method: str, configs: Iterable[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of the method's own config, then of each named config, then the overrides.

    Raises:
        UserError: where a config is missing, is no mapping, or holds a key that the method does not know.
    """
    known = {*_SHARED, *methods()[method].parameters}
    own = CONFIGS / f"{method}.yaml"
    files = [own] if own.is_file() else []
    settings: dict[str, Any] = {}
    for file in [*files, *map(find_config, configs)]:
        for key, value in _read(file).items():
            if key not in known:
                raise UserError(
                    f"{file}: {method} has no setting {key!r}{nearest(key, known)}; it has {', '.join(sorted(known))}"
                )
            if key == "method" and value != method:
                raise UserError(f"{file}: is a recipe for {value}; run `python merge.py {value} --config {file}`")
            settings[key] = value
    return settings | {key: value for key, value in overrides.items() if value is not None}


def find_config(name: str) -> Path:
    """Finds a config by its name in `configs/merge/`, or by its path."""
    for path in (CONFIGS / name, CONFIGS / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path
    names = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    raise UserError(
        f"--config {name}: neither in configs/merge/ nor a file{nearest(Path(name).stem, names)} ({', '.join(names)})"
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not YAML ({' '.join(str(error).split())})") from None
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{file}: expected settings as `key: value`, found {type(content).__name__}")
    return content or {}


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
    )
    _check_epsilon(checked_parameters(recipe))
    return recipe


def checked_parameters(recipe: Recipe) -> dict[str, Any]:
    """Returns the parameters as they are used: in range, `1/n` resolved for the recipe's number of models."""
    kind = methods()[recipe.method]
    return {name: check(kind.parameters[name], value, len(recipe.models)) for name, value in recipe.parameters.items()}


def _check_epsilon(values: Mapping[str, Any]) -> None:
    density, epsilon = values.get("density"), values.get("epsilon")
    if isinstance(density, float) and isinstance(epsilon, float) and density < 1:  # fmt: skip
        inside = 0 < density - epsilon <= density + epsilon < 1
        if not inside:
            raise UserError(f"density {density} +- epsilon {epsilon} leaves (0, 1); take a smaller epsilon")


def check_count(method: Method, recipe: Recipe) -> None:
    """Raises a `UserError` where the method cannot merge so many or so few models."""
    fewest, most = method.models
    if not fewest <= len(recipe.models) <= most:
        expected = f"exactly {fewest}" if fewest == most else f"at least {fewest}"
        raise UserError(f"{method.name} merges {expected} fine-tunes, found {len(recipe.models)}; see --models")


def subsets(recipe: Recipe, which: str | None, labels: list[str]) -> Iterator[tuple[str, Recipe]]:
    """Yields (name, recipe) of the whole set, or with `all` of every subset of two models or more.

    Subsets that the method cannot merge (three models under SLERP) are left out.
    """
    kind = methods()[recipe.method]
    if which is None:
        check_count(kind, recipe)
        yield _name(recipe.method, labels), recipe
        return
    if which != "all":
        raise UserError(f"subsets is {which!r}, expected all")
    fewest, most = kind.models
    for size in range(2, len(recipe.models) + 1):
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
            yield _name(recipe.method, [labels[i] for i in chosen]), part


def _name(method: str, labels: list[str]) -> str:
    return f"{method}-{'+'.join(labels)}"
