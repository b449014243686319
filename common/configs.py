"""Configurations in YAML: found by name, composed from left to right, unknown keys answered with the nearest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError, nearest

CONFIGS = Path(__file__).parent.parent / "configs"


def find_config(name: str, folder: Path = CONFIGS) -> Path:
    """The file that a name means: a path, or a file of `folder` with or without its ending.

    Raises:
        UserError: where there is none, naming the nearest.
    """
    for candidate in (folder / name, folder / f"{name}.yaml", Path(name)):
        if candidate.is_file():
            return candidate
    known = sorted(path.name for path in folder.glob("*.yaml"))
    suggestion = nearest(name if name.endswith(".yaml") else f"{name}.yaml", known)
    shown = folder.relative_to(CONFIGS.parent)
    raise UserError(f"--config {name}: no such file, here or in {shown}/{suggestion} There are: {', '.join(known)}")


def read_configs(names: Sequence[str], folder: Path, keys: Iterable[str]) -> dict[str, Any]:
    """The mapping that several files make together, later ones winning key by key.

    Raises:
        UserError: where a file is missing, is not a YAML mapping, or has a key outside `keys`.
    """
    merged: dict[str, Any] = {}
    keys = list(keys)
    for name in names:
        path = find_config(name, folder)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise UserError(f"{path}: expected a mapping of options, found {type(content).__name__}")
        for key in content:
            if key not in keys:
                raise UserError(f"{path}: unknown option {key!r}{nearest(str(key), keys)} Known: {', '.join(keys)}")
        merged |= content
    return merged
