"""Models as users name them (a folder, a Hub id, NAME=PATH), and the files that hold their weights."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.configs import read_yaml
from common.errors import UserError, first_line
from common.json_lines import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
WINDOW = "encoder_window"  # in config.json: the audio that the encoder had in training; absent where it is the whole
_HUB_FILES = ("*.json", "*.txt", "README.md", WEIGHTS, "model-*-of-*.safetensors")


def short_name(source: Path | str) -> str:
    """Return a model's short name: that of `outputs/demo/ko-en/model` is `ko-en`."""
    return next((part for part in reversed(Path(source).absolute().parts) if part != "model"), str(source))


def named_models(entries: Sequence[Any] | str, keys: Sequence[str] = ("name", "path")) -> list[dict[str, str]]:
    """Return names and paths from one path or a list of paths, NAME=PATH, or mappings with `path` and others of `keys`.

    Raises:
        UserError: where an entry is none of these, or two models share a name.
    """
    found: dict[str, dict[str, str]] = {}
    for entry in [entries] if isinstance(entries, str) else entries:
        if isinstance(entry, dict) and "path" in entry and set(entry) <= set(keys):
            row = {key: str(value) for key, value in entry.items()}
        elif isinstance(entry, str):
            name, separator, path = entry.partition("=")
            row = {"name": name, "path": path} if separator else {"path": entry}
        else:
            raise UserError(f"a model must be a path, NAME=PATH, or {{{', '.join(keys)}}}; found {entry!r}")
        row.setdefault("name", short_name(row["path"]))
        if row["name"] in found:
            raise UserError(f"two models are called {row['name']!r}; write NAME=PATH to name them apart")
        found[row["name"]] = row
    return list(found.values())


def find_model(source: Path | str) -> Path:
    """Return the folder that a path or a Hub id means; what the Hub's cache lacks is downloaded, safetensors alone.

    Raises:
        UserError: where there is no such folder and no such model on the Hub.
    """
    path, name = Path(source), str(source)
    if path.is_dir():
        return path
    if path.exists() or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) or path.parent.is_dir():
        raise UserError(f"{name}: no such model folder; expected what train.py leaves as <run>/model, or a Hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        failed = "no such folder, and the Hugging Face Hub does not provide it"
        raise UserError(f"{name}: {failed} ({first_line(error)})") from None


def check_kind(folder: Path) -> None:
    """Check that a folder holds a model in Hugging Face's layout, and not a related format.

    Raises:
        UserError: naming what the folder is and what to do.
    """
    has = {file.name for file in folder.iterdir()}
    if "config.json" not in has or not has & {WEIGHTS, INDEX}:
        for file, problem in read_yaml(Path(__file__).with_name("relatives.yaml")).items():
            if file in has:
                raise UserError(f"{folder}: {problem}")
    if "config.json" not in has:
        inner = folder / "model"
        found = (inner / "config.json").is_file()
        hint = f", did you mean {inner}?" if found else "; expected what train.py leaves as <run>/model"
        raise UserError(f"{folder}: not a model folder (no config.json){hint}")


def weight_files(folder: Path) -> list[Path]:
    """Return the folder's safetensors: one file, or the shards that its index names.

    Raises:
        UserError: where there is neither, or a shard is missing.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    if not index.is_file():
        raise UserError(f"{folder}: holds neither {WEIGHTS} nor {INDEX}; is it a model folder?")
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise ValueError("a shard outside of the folder")
        shards = [folder / name for name in names]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{index}: no index of safetensors files; copy or download the folder again") from None
    for shard in shards:
        if not shard.is_file():
            raise UserError(f"{index}: names {shard.name}, which does not exist; copy or download the folder again")
    return shards


def check_generation_config(folder: Path) -> None:
    """Check that a model folder has what decoding needs beside the weights.

    Raises:
        UserError: where `generation_config.json` is missing.
    """
    if not (folder / "generation_config.json").is_file():
        raise UserError(
            f"{folder}: the model folder has no generation_config.json, which holds the tokens that may not be "
            "emitted and the languages' ids; copy it from the model that this one was fine-tuned from"
        )
