"""The models that an evaluation compares: their names, groups, folders and identities."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from backbone.model_folder.locate import check_generation_config, named_models
from backbone.model_folder.read import read
from backbone.model_folder.stored import ModelFolder
from common.input_files import read_bytes


@dataclass(frozen=True)
class Candidate:
    """A model to be scored.

    Attributes:
        name: in the table.
        path: its folder or Hub id, as given.
        group: in the table.
        language: its own policy of language tags; None takes the evaluation's.
    """

    name: str
    path: str
    group: str = "models"
    language: str | None = None

    @cached_property
    def opened(self) -> ModelFolder:
        """The model, checked.

        Raises:
            UserError: where there is no such model, or its folder is incomplete.
        """
        found = read(self.path, self.name)
        check_generation_config(found.path)
        return found

    @property
    def folder(self) -> Path:
        """The model's folder; raises as `opened`."""
        return self.opened.path

    @cached_property
    def identity(self) -> str:
        """A hash of the folder's weights, configurations and tokenizer."""
        digest = hashlib.sha256(self.opened.weights_hash.encode())
        for file in sorted(self.folder.glob("*.json")):
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode() + read_bytes(file))
        return f"sha256:{digest.hexdigest()}"


def candidates(rows: Sequence[Any]) -> list[Candidate]:
    """Return the models of a configuration's list: paths, or mappings with `path` and optionally the other attributes.

    Raises:
        UserError: where an entry is neither, or two models share a name.
    """
    return [Candidate(**row) for row in named_models(rows, ("name", "path", "group", "language"))]
