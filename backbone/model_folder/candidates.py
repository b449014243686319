"""The models that an evaluation compares: their names, groups, folders and identities."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from backbone.model_folder.locate import check_generation_config, find_model, named_models, weight_files
from common.errors import UserError

_DECIDES_OUTPUT = ("*.safetensors", "*.json")


@dataclass(frozen=True)
class Candidate:
    """A model to be scored: its name and group in the table, and its folder or Hub id as given.

    `language` is its own policy of language tags; None leaves it that of the evaluation.
    """

    name: str
    path: str
    group: str = "models"
    language: str | None = None

    @cached_property
    def folder(self) -> Path:
        """Where the model lies.

        Raises:
            UserError: where there is no such model, or its folder lacks something that decoding needs.
        """
        folder = find_model(self.path)
        if not (folder / "config.json").is_file():
            raise UserError(
                f"{folder}: not a model folder (no config.json); expected what train.py leaves as <run>/model"
            )
        check_generation_config(folder)
        weight_files(folder)
        return folder

    @cached_property
    def identity(self) -> str:
        """A hash of the folder's weights, configurations and tokenizer."""
        digest = hashlib.sha256()
        for file in sorted(file for pattern in _DECIDES_OUTPUT for file in self.folder.glob(pattern)):
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 24):
                    digest.update(block)
        return f"sha256:{digest.hexdigest()}"


def candidates(rows: Sequence[Any]) -> list[Candidate]:
    """Models from a configuration's list: paths, or mappings with `path`, optionally `name`, `group` and `language`.

    Raises:
        UserError: where an entry is neither, or two models share a name.
    """
    return [Candidate(**row) for row in named_models(rows, ("name", "path", "group", "language"))]
