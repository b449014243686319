"""One merge from recipe to model folder: found, checked, merged, written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from backbone.model_folder.locate import WEIGHTS
from common.configs import read_yaml
from common.errors import UserError
from common.files import atomic_folder, sole_writer
from merging import merge_checks as checks
from merging import recipe as recipes
from merging.folders import find, find_all, write_side_files
from merging.inputs import Inputs
from merging.merge_card import write_card
from merging.methods import methods
from merging.recipe import RECIPE_FILE, Recipe
from merging.statistics import Statistics
from merging.tensors import DTYPES, TORCH_NAMES, Reader, Writer


def merge(
    recipe: Recipe,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    notes: Sequence[str] = (),
) -> Statistics:
    """Merges the recipe's models into the folder `out`, which is written whole or left as it was.

    `progress(done, total)` is told of each merged stretch, in elements; `notes` are put into the model card.

    Raises:
        UserError: where the recipe, the models or the disk do not allow it; nothing is written then.
    """
    with Reader() as reader:
        inputs = open_inputs(recipe, reader, progress)
        check_out(out, inputs)
        checks.check_disk(inputs.base, recipe.dtype, out)
        try:
            with sole_writer(out), atomic_folder(out) as folder:
                statistics = _write_weights(folder, recipe, inputs)
                _check_fingerprints(recipe, statistics.fingerprints(inputs))
                _write_recipe(folder / RECIPE_FILE, recipe, statistics.fingerprints(inputs))
                title = recipes.name_of(recipe.method, [model.label for model in inputs.models])
                write_card(folder, title, recipe, inputs, statistics, notes)
        except OSError as error:
            named = f" ({error.filename})" if error.filename else ""
            raise UserError(f"{out}: {error.strerror}{named}; nothing was written") from None
    return statistics


def _write_weights(folder: Path, recipe: Recipe, inputs: Inputs) -> Statistics:
    tensors = inputs.base.tensors
    dtypes = {name: entry.dtype if recipe.dtype == "auto" else DTYPES[recipe.dtype] for name, entry in tensors.items()}
    codes = list(dtypes.values())
    write_side_files(folder, inputs.base, inputs.models, TORCH_NAMES[max(set(codes), key=codes.count)])
    with Writer(folder / WEIGHTS, {name: entry.shape for name, entry in tensors.items()}, dtypes) as writer:
        return _engine(recipe.engine)(inputs, writer)


def _write_recipe(file: Path, recipe: Recipe, fingerprints: dict[str, str]) -> None:
    head = f"# python merge.py {recipe.method} --config {file.name} --out FOLDER makes this model again\n"
    tail = yaml.safe_dump({"fingerprints": fingerprints}, sort_keys=False, allow_unicode=True)
    file.write_text(head + recipe.as_yaml() + tail, encoding="utf-8")


def _check_fingerprints(recipe: Recipe, found: dict[str, str]) -> None:
    for name, expected in (recipe.fingerprints or {}).items():
        if name in found and found[name] != expected:
            raise UserError(
                f"{name}: its weights are not those that the recipe was made with (fingerprint {found[name]}, recipe "
                f"{expected}); remove `fingerprints` from the recipe to merge them all the same"
            )


def open_inputs(
    recipe: Recipe, reader: Reader, progress: Callable[[int, int], None] = lambda done, total: None
) -> Inputs:
    """Finds the recipe's models and checks them to their headers.

    Raises:
        UserError: where a model is missing or unlike the base, or a parameter is out of range.
    """
    method = methods()[recipe.method]
    recipes.check_count(method, recipe)
    parameters = recipes.checked_parameters(recipe)
    if recipe.engine == "mergekit":
        from merging import mergekit_engine

        mergekit_engine.check(recipe.method, parameters)
    models = find_all(recipe.models)
    base = models[0] if recipe.base == "none" else find(recipe.base)
    for model in models:
        if recipe.base != "none" and model.path.resolve() == base.path.resolve():
            raise UserError(f"{model.name}: is the base itself; name fine-tunes of it with --models")
    checks.check_alike(base, models)
    inputs = Inputs(base, models, method, parameters, reader, progress)
    for name, value in parameters.items():
        inputs.layout.check_modules(name, value)
    return inputs


def check_out(out: Path, inputs: Inputs) -> None:
    """Raises a `UserError` where writing to `out` would destroy something that is no earlier merge."""
    for model in [inputs.base, *inputs.models]:
        if out.resolve() == model.path.resolve() or out.resolve() in model.path.resolve().parents:
            raise UserError(f"{out}: holds {model.name}, which is being merged; name another folder with --out")
    if out.exists() and not (out / RECIPE_FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is no merged model (it has no {RECIPE_FILE}); name another with --out")


def summary(statistics: Statistics) -> str:
    """Says how far from the base the merge and its models are, as shares of the base's norm."""
    *models, merged = [f"{share:.2%}" for share in statistics.total.shares]
    return f"merged, {merged} from the base (what was merged: {', '.join(models)})"


def doubt(recipe: Recipe, statistics: Statistics) -> str | None:
    """Says why the base may not be what the models were fine-tuned from, or None."""
    total = statistics.total
    if recipe.base == "none":
        return None
    far = [name for name, share in zip(recipe.models, total.shares, strict=False) if share > 1]
    if far:
        return f"{far[0]} is further from {recipe.base} than that is from zero; is it what it was fine-tuned from?"
    if total.mean_cosine > 0.95:
        return (
            f"the models are nearly as far from {recipe.base} as they are alike (mean cosine of the task vectors "
            f"{total.mean_cosine:.3f}); is it what they were fine-tuned from?"
        )
    return None


def is_finished(recipe: Recipe, out: Path) -> bool:
    """Whether `out` holds this very merge, made after its models were last written."""
    try:
        found = read_yaml(out / RECIPE_FILE)
    except (OSError, UserError):
        return False
    found.pop("fingerprints", None)
    if found != yaml.safe_load(recipe.as_yaml()):
        return False
    names = [*recipe.models] + ([] if recipe.base == "none" else [recipe.base])
    weights = [path for name in names for path in find(name).path.glob("*.safetensors")]
    return all(path.stat().st_mtime <= (out / WEIGHTS).stat().st_mtime for path in weights)


def _engine(name: str) -> Callable[[Inputs, Writer], Statistics]:
    if name == "mergekit":
        from merging import mergekit_engine

        return mergekit_engine.merge
    from merging import stream

    return stream.merge
