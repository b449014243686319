"""One merge from recipe to model folder: found, checked, merged, written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from common.errors import UserError
from common.files import atomic_folder
from merging import checks
from merging import recipe as recipes
from merging.card import write_card
from merging.folders import WEIGHTS, find, find_all, write_side_files
from merging.inputs import Inputs
from merging.methods import methods
from merging.recipe import RECIPE_FILE, Recipe
from merging.statistics import Statistics
from merging.tensors import TORCH_NAMES, Reader, Writer


def merge(recipe: Recipe, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Merges the recipe's models into the folder `out`, which is written whole or left as it was.

    `progress(done, total)` is told of each merged stretch, in elements.

    Raises:
        UserError: where the recipe, the models or the disk do not allow it; nothing is written then.
    """
    inputs = open_inputs(recipe, Reader(), progress)
    check_out(out, inputs)
    checks.check_disk(inputs.base, recipe.dtype, out)
    with inputs.reader, atomic_folder(out) as folder:
        dtypes = {
            name: entry.dtype if recipe.dtype == "auto" else recipe.dtype for name, entry in inputs.base.tensors.items()
        }
        write_side_files(folder, [inputs.base, *inputs.models], _torch_dtype(dtypes))
        shapes = {name: entry.shape for name, entry in inputs.base.tensors.items()}
        with Writer(folder / WEIGHTS, shapes, dtypes) as writer:
            statistics = _engine(recipe.engine)(inputs, writer)
        (folder / RECIPE_FILE).write_text(
            f"# python merge.py {recipe.method} --config {RECIPE_FILE} --out FOLDER makes this model again\n"
            + recipe.as_yaml(),
            encoding="utf-8",
        )
        write_card(folder, out.name, recipe, inputs, statistics)


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


def is_finished(recipe: Recipe, out: Path) -> bool:
    """Whether `out` holds this very merge, made after its models were last written."""
    file = out / RECIPE_FILE
    if not file.is_file() or file.read_text(encoding="utf-8").partition("\n")[2] != recipe.as_yaml():
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


def _torch_dtype(dtypes: dict[str, str]) -> str:
    """The dtype that config.json names: that of most tensors."""
    codes = list(dtypes.values())
    return TORCH_NAMES[max(set(codes), key=codes.count)]
