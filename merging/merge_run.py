"""One merge from recipe to model folder: read, checked, merged, written whole or not at all."""

import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from backbone.model_folder.alike import check_alike, check_windows
from backbone.model_folder.geometry import TaskVectorGeometry
from backbone.model_folder.locate import WEIGHTS
from backbone.model_folder.read import read
from backbone.model_folder.write import SafetensorsWriter, check_disk, write_side_files
from common.configs import read_yaml
from common.errors import UserError
from common.files import atomic_folder, check_replaceable, sole_writer
from common.markdown import licence_of, render
from common.printing import show, warn
from merging import merge_engine as engine
from merging import mergekit_engine
from merging import recipe as recipes
from merging.inputs import MergeInputs, read_all
from merging.merge_engine import MergeGeometry
from merging.methods import methods
from merging.recipe import DTYPES, RECIPE_FILE, MergeRecipe


def merge(recipe: MergeRecipe, out: Path, notes: Sequence[str] = ()) -> MergeGeometry:
    """Merge the recipe's models into the folder `out`, which is written whole or left as it was.

    Args:
        recipe: what is merged and how.
        out: the folder.
        notes: sentences for the model card.

    Returns:
        What the merge did.

    Raises:
        UserError: where the recipe, the models or the disk do not allow it; nothing is written then.
    """
    inputs = open_inputs(recipe)
    _check_out(out, inputs)
    check_disk(inputs.base, DTYPES[recipe.dtype], out)
    try:
        with sole_writer(out), atomic_folder(out) as folder:
            geometry = _write_weights(folder, recipe, inputs)
            hashes = {model.name: model.weights_hash for model in (inputs.base, *inputs.models)}
            _check_hashes(recipe, hashes)
            (folder / RECIPE_FILE).write_text(recipe.as_yaml(hashes), encoding="utf-8")
            (folder / "README.md").write_text(_card(recipe, inputs, geometry, hashes, notes), encoding="utf-8")
    except OSError as error:
        named = f" ({error.filename})" if error.filename and error.filename != str(out) else ""
        raise UserError(f"{out}: {error.strerror}{named}; nothing was written") from None
    return geometry


def _write_weights(folder: Path, recipe: MergeRecipe, inputs: MergeInputs) -> MergeGeometry:
    tensors = inputs.base.tensors
    dtypes = {name: DTYPES[recipe.dtype] or tensor.dtype for name, tensor in tensors.items()}
    codes = list(dtypes.values())
    write_side_files(folder, inputs.base, inputs.models, max(set(codes), key=codes.count))
    merge_tensor = mergekit_engine.merge_tensor if recipe.engine == "mergekit" else engine.merge_tensor
    with SafetensorsWriter(folder / WEIGHTS, {name: t.shape for name, t in tensors.items()}, dtypes) as writer:
        return engine.merge(inputs, writer, merge_tensor)


def _card(
    recipe: MergeRecipe, inputs: MergeInputs, geometry: MergeGeometry, hashes: dict[str, str], notes: Sequence[str]
) -> str:
    """Return the model card: the recipe, the lineage, and what the merge did to the weights."""
    sources = [inputs.base, *(model for model in inputs.models if model is not inputs.base)]
    count, total = len(inputs.models), TaskVectorGeometry.total(geometry.values())
    labels = [model.label for model in inputs.models]
    return render(
        Path(__file__).with_name("merge_card.md.jinja"),
        title=recipes.name_of(recipe.method, labels),
        method=inputs.method,
        notes=notes,
        recipe=recipe.as_yaml(),
        sources=sources,
        licences={source.name: licence_of(source.path) for source in sources},
        hashes=hashes,
        count=count,
        vectors=[*labels, "merged step"],
        cosines=[[total.cosine(i, j) for j in range(count) if j != i] for i in range(count + 1)],
        total=total,
        modules=geometry,
    )


def _check_hashes(recipe: MergeRecipe, found: dict[str, str]) -> None:
    for name, expected in (recipe.weights_sha256 or {}).items():
        if name in found and found[name] != expected:
            raise UserError(
                f"{name}: its weights are not those that the recipe was made with ({found[name]}, recipe {expected}); "
                "remove `weights_sha256` from the recipe to merge them all the same"
            )


def open_inputs(recipe: MergeRecipe) -> MergeInputs:
    """Read the recipe's models and check that they can be merged by it.

    Raises:
        UserError: where a model is missing or unlike the base, or a parameter is out of range.
    """
    method = methods()[recipe.method]
    fewest, most = method.models
    if not fewest <= len(recipe.models) <= most:
        expected = f"exactly {fewest}" if fewest == most else f"at least {fewest}"
        raise UserError(f"{method.name} merges {expected} fine-tunes, found {len(recipe.models)}; choose with --models")
    parameters = recipes.checked_parameters(recipe)
    if recipe.engine == "mergekit":
        mergekit_engine.check(recipe.method, parameters)
    models = read_all(recipe.models)
    base = models[0] if recipe.base == "none" else read(recipe.base)
    for model in models:
        if recipe.base != "none" and model.path.resolve() == base.path.resolve():
            raise UserError(f"{model.name}: is the base itself; name fine-tunes of it with --models")
        check_alike(base, model)
    check_windows(models)
    inputs = MergeInputs(base, models, method, parameters)
    inputs.check_values()
    return inputs


def _check_out(out: Path, inputs: MergeInputs) -> None:
    """Raise a `UserError` where writing to `out` would destroy something other than an earlier merge."""
    for model in [inputs.base, *inputs.models]:
        if out.resolve() == model.path.resolve() or out.resolve() in model.path.resolve().parents:
            raise UserError(f"{out}: holds {model.name}, which is being merged; name another folder with --out")
    check_replaceable(out, RECIPE_FILE, "merged model")


def merge_and_report(recipe: MergeRecipe, out: Path, notes: Sequence[str] = ()) -> None:
    """Merge as `merge` does, and print the distances of merge and models from the base, relative to the base's norm.

    Args:
        recipe: what is merged and how.
        out: the folder.
        notes: sentences for the model card.
    """
    start = time.perf_counter()
    geometry = TaskVectorGeometry.total(merge(recipe, out, notes).values())
    *models, merged = [f"{geometry.relative_norm(i) / 100:.2%}" for i in range(len(geometry.gram_MM))]
    seconds = time.perf_counter() - start
    show(f"{out}: merged, {merged} from the base (what was merged: {', '.join(models)}), in {seconds:.1f} s")
    if recipe.base == "none":
        return
    question = "is it what they were fine-tuned from?"
    cosine = geometry.mean_cosine(len(recipe.models))
    if far := [name for i, name in enumerate(recipe.models) if geometry.relative_norm(i) > 100]:
        warn(f"warning: {far[0]} is further from {recipe.base} than that is from zero; {question}")
    elif cosine > 0.95:
        warn(
            f"warning: the models are nearly as far from {recipe.base} as they are alike (mean cosine of the task "
            f"vectors {cosine:.3f}); {question}"
        )


def is_finished(recipe: MergeRecipe, out: Path) -> bool:
    """Whether `out` already holds this merge of the same weights."""
    try:
        found = read_yaml(out / RECIPE_FILE)
        hashes = found.pop("weights_sha256", None)
        if found != yaml.safe_load(recipe.as_yaml()) or not (out / WEIGHTS).is_file() or not isinstance(hashes, dict):
            return False
        names = {*recipe.models, *([] if recipe.base == "none" else [recipe.base])}
        return all(hashes.get(name) == read(name).weights_hash for name in names)
    except (OSError, UserError):
        return False
