"""Model folders of safetensors, found by path or Hub id and read a stretch of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from backbone.model_folder.locate import TIED, find_model, weight_files
from common.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Model:
    """A model's name in tables and figures, its folder, and of each tensor the file and the shape."""

    name: str
    path: Path
    files: dict[str, Path]
    shapes: dict[str, tuple[int, ...]]
    dtypes: frozenset[str]  # safetensors' codes, e.g. F32, BF16

    def rows(self, tensor: str, first: int, last: int) -> Tensor:
        """Reads the rows [first, last) of a tensor as float32.

        The file is opened and closed each time (a quarter of a millisecond), so that no page of it stays mapped: memory
        is bounded by the rows asked for.
        """
        with safe_open(self.files[tensor], framework="pt") as file:
            return file.get_slice(tensor)[first:last].float()


def open_model(name: str, source: str) -> Model:
    """Reads the headers of a model's weights, downloading a Hub id that is not in the cache.

    Raises:
        UserError: where there is no such model, or its weights are missing, unreadable or no safetensors.
    """
    folder = find_model(source)
    files: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: set[str] = set()
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for tensor in file.keys():  # noqa: SIM118 (no mapping)
                    view = file.get_slice(tensor)
                    files[tensor], shapes[tensor] = path, tuple(view.get_shape())
                    dtypes.add(view.get_dtype())
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: not a safetensors file ({error}); copy or download it again") from None
    shapes.pop(TIED, None)
    return Model(name, folder, files, shapes, frozenset(dtypes))


def check_alike(base: Model, model: Model) -> None:
    """Checks that a fine-tune has the base's tensors.

    Raises:
        UserError: naming the model and the first tensor that is missing, foreign or of another shape.
    """
    for one, other, verb in ((base, model, "lacks"), (model, base, "has")):
        odd = [tensor for tensor in one.shapes if tensor not in other.shapes]
        if odd:
            more = f" and {len(odd) - 1} more" if odd[1:] else ""
            relation = "which the base has" if verb == "lacks" else "which the base lacks"
            raise UserError(
                f"{model.name} ({model.path}): {verb} the tensor {odd[0]}{more}, {relation} ({base.path}); "
                "name the base it was fine-tuned from with --base"
            )
    for tensor, shape in base.shapes.items():
        if model.shapes[tensor] != shape:
            raise UserError(
                f"{model.name} ({model.path}): the tensor {tensor} is {_by(model.shapes[tensor])}, "
                f"in the base {_by(shape)} ({base.path}); name the base it was fine-tuned from with --base"
            )


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
