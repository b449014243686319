"""The models that an evaluation compares: their names, groups and identities."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from common.errors import UserError

_DECIDES_OUTPUT = ("*.safetensors", "*.json")


@dataclass(frozen=True)
class Candidate:
    """A model to be scored: its name and group in the table, and its folder or Hub id."""

    name: str
    path: str
    group: str = "models"

    @cached_property
    def identity(self) -> str:
        """A hash of the folder's weights, configurations and tokenizer; the Hub id of a model that is not here."""
        files = sorted(file for pattern in _DECIDES_OUTPUT for file in Path(self.path).glob(pattern))
        if not files:
            return self.path
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 24):
                    digest.update(block)
        return f"sha256:{digest.hexdigest()}"

    def check_folder(self) -> None:
        """Refuses a folder without what decoding needs beside the weights.

        Raises:
            UserError: where `generation_config.json` is missing.
        """
        folder = Path(self.path)
        if (folder / "config.json").is_file() and not (folder / "generation_config.json").is_file():
            raise UserError(
                f"{folder}: the model folder has no generation_config.json, which holds the tokens that may not be "
                "emitted and the languages' ids; copy it from the model that this one was fine-tuned from"
            )


def candidates(rows: Sequence[Any]) -> list[Candidate]:
    """Models from a configuration's list: paths, or mappings with `path` and optionally `name` and `group`.

    Raises:
        UserError: where an entry is neither, or two models share a name.
    """
    models = [_candidate(row) for row in rows]
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two models are called {name!r}; write NAME=PATH to name them apart")
    return models


def _candidate(row: Any) -> Candidate:
    if isinstance(row, str):
        name, separator, path = row.partition("=")
        return Candidate(name, path) if separator else Candidate(_name_of(row), row)
    if isinstance(row, dict) and "path" in row and set(row) <= {"name", "path", "group"}:
        return Candidate(row.get("name", _name_of(row["path"])), row["path"], row.get("group", "models"))
    raise UserError(f"a model must be a path, NAME=PATH, or {{name, path, group}}; found {row!r}")


def _name_of(path: str) -> str:
    """`outputs/demo/ko_en/model` is called `ko_en`."""
    parts = [part for part in Path(path).parts if part != "model"]
    return parts[-1] if parts else path
