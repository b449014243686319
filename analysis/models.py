"""Model folders of safetensors, found by path or Hub id and read a stretch of rows at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from common.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TIED = "proj_out.weight"  # Whisper's output projection is its token embedding; some files hold it twice


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


def named(entries: Sequence[Any] | str) -> dict[str, str]:
    """Paths by name, from one path or a list of paths, NAME=PATH, or mappings with `path` and optionally `name`.

    Raises:
        UserError: where an entry is none of these, or two models share a name.
    """
    found: dict[str, str] = {}
    for entry in [entries] if isinstance(entries, str) else entries:
        if isinstance(entry, dict) and "path" in entry and set(entry) <= {"name", "path"}:
            name, path = str(entry.get("name", _short(entry["path"]))), str(entry["path"])
        elif isinstance(entry, str):
            name, separator, path = entry.partition("=")
            name, path = (name, path) if separator else (_short(entry), entry)
        else:
            raise UserError(f"a model must be a path, NAME=PATH, or {{name, path}}; found {entry!r}")
        if name in found:
            raise UserError(f"two models are called {name!r}; write NAME=PATH to name them apart")
        found[name] = path
    return found


def _short(path: str) -> str:
    """`outputs/demo/ko_en/model` is called `ko_en`."""
    return next((part for part in reversed(Path(path).parts) if part != "model"), path)


def open_model(name: str, source: str) -> Model:
    """Reads the headers of a model's weights, downloading a Hub id that is not in the cache.

    Raises:
        UserError: where there is no such model, or its weights are missing, unreadable or no safetensors.
    """
    folder = _folder(source)
    files: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: set[str] = set()
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for tensor in file.keys():  # noqa: SIM118 (no mapping)
                    view = file.get_slice(tensor)
                    files[tensor], shapes[tensor] = path, tuple(view.get_shape())
                    dtypes.add(view.get_dtype())
        except FileNotFoundError:
            raise UserError(
                f"{folder / INDEX}: names {path.name}, which does not exist; copy the folder again"
            ) from None
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: not a safetensors file ({error}); copy or download it again") from None
    shapes.pop(TIED, None)
    return Model(name, folder, files, shapes, frozenset(dtypes))


def _folder(source: str) -> Path:
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists() or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source) or path.parent.is_dir():
        raise UserError(f"{source}: no such model folder; expected what train.py leaves as <run>/model, or a Hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(source, allow_patterns=[WEIGHTS, INDEX, "model-*-of-*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise UserError(f"{source}: no folder here, and not to be had from the Hugging Face Hub ({reason})") from None


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    if not index.is_file():
        inner = folder / "model"
        hint = f", did you mean {inner}?" if (inner / WEIGHTS).is_file() or (inner / INDEX).is_file() else ""
        raise UserError(f"{folder}: holds neither {WEIGHTS} nor {INDEX}{hint or '; is it a model folder?'}")
    try:
        return [
            folder / name for name in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{index}: no index of safetensors files; copy or download the folder again") from None


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
