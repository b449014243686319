"""Model folders in Hugging Face's layout: found, read to their headers, and written whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from backbone.model_folder.locate import TIED, WINDOW, find_model, short_name, weight_files
from common.errors import UserError
from merging.tensors import Entry, read_header

SIDE_FILES = (
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "normalizer.json",
    "added_tokens.json", "special_tokens_map.json", "processor_config.json", "preprocessor_config.json",
)  # fmt: skip


@dataclass(frozen=True)
class ModelFolder:
    """A model on this machine: its folder, the name it was asked for by, and a short label."""

    path: Path
    name: str
    label: str = field(default="")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's `config.json`."""
        return self.json("config.json")

    @cached_property
    def tensors(self) -> dict[str, Entry]:
        """Where each tensor lies; the output projection is left out where it is tied to the embedding."""
        found: dict[str, Entry] = {}
        for file in weight_files(self.path):
            found |= read_header(file)
        if self.config.get("tie_word_embeddings", True):
            found.pop(TIED, None)
        return found

    def json(self, file: str) -> dict[str, Any]:
        """Reads one of the folder's JSON files.

        Raises:
            UserError: where it is missing or not JSON.
        """
        path = self.path / file
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{self.path}: has no {file}; is it a model folder?") from None
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"{path}: not JSON ({error})") from None


def find(name: str) -> ModelFolder:
    """Finds a model by folder or Hub id, downloading it where it is not in the cache.

    Raises:
        UserError: where there is neither.
    """
    return ModelFolder(find_model(name), name, short_name(name))


def find_all(names: Iterable[str]) -> list[ModelFolder]:
    """Finds models and gives each a label of its own: the folder's name, longer where two are alike.

    Raises:
        UserError: where a model is missing or named twice.
    """
    found = [find(name) for name in names]
    for first, one in enumerate(found):
        if any(other.path.resolve() == one.path.resolve() for other in found[:first]):
            raise UserError(f"{one.name}: named twice among the models")
    labels = [one.label for one in found]
    for place, one in enumerate(found):
        if labels.count(one.label) > 1:
            parts = [part for part in one.path.absolute().parts if part != "model"]
            found[place] = ModelFolder(one.path, one.name, "-".join(parts[-2:]))
    labels = [one.label for one in found]
    return [
        ModelFolder(one.path, one.name, f"{one.label}-{place}") if labels.count(one.label) > 1 else one
        for place, one in enumerate(found, start=1)
    ]


def write_side_files(folder: Path, base: ModelFolder, models: list[ModelFolder], dtype: str) -> None:
    """Writes config, generation config, tokenizer and both processor files: the base's, or of the first that has them.

    The window of training alone is the fine-tunes', so that the merge is decoded as they are.

    Raises:
        UserError: where none has a tokenizer or a feature extractor.
    """
    donors = [base, *models]
    for file in SIDE_FILES:
        donor = next((donor for donor in donors if (donor.path / file).is_file()), None)
        if donor is not None:
            shutil.copyfile(donor.path / file, folder / file)
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise UserError(f"{base.name}: has no tokenizer files (tokenizer.json, or vocab.json and merges.txt)")
    _complete_processor(folder, base)
    config = {key: value for key, value in base.config.items() if key not in ("_name_or_path", "torch_dtype", WINDOW)}
    window = {key: value for key, value in models[0].config.items() if key == WINDOW}
    _write_json(folder / "config.json", config | window | {"dtype": dtype})


def _complete_processor(folder: Path, donor: ModelFolder) -> None:
    """Writes the one processor file from the other: transformers 5 saves one, faster-whisper reads the other."""
    old, new = folder / "preprocessor_config.json", folder / "processor_config.json"
    made = ModelFolder(folder, str(folder))
    if new.is_file() and "feature_extractor" in (whole := made.json(new.name)):
        extractor = whole["feature_extractor"] | {"processor_class": whole.get("processor_class", "WhisperProcessor")}
        _write_json(old, extractor)
    elif old.is_file():
        extractor = made.json(old.name)
        kind = extractor.pop("processor_class", "WhisperProcessor")
        _write_json(new, {"feature_extractor": extractor, "processor_class": kind})
    else:
        raise UserError(f"{donor.name}: has neither {old.name} nor {new.name}; both are written from either")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
