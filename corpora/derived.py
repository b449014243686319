"""The record of a corpus, `corpus.json`: what it was made from, and what its manifests contain."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import write_text
from common.input_files import RECORDS
from common.json_lines import read_object, read_rows
from common.manifest import Utterance, listed
from corpora.manifest_counts import ManifestCounts

RECORD = "corpus.json"
Manifests = Mapping[str, Mapping[str, Any]]  # by name, as `about` describes them


def earlier_manifests(folder: Path, **made_by: str) -> dict[str, Mapping[str, Any]]:
    """The manifests that an earlier preparation left in a folder, as its record describes them.

    Args:
        folder: where the manifests lie.
        made_by: fields that the record must have with these values: the corpus and its reader, or the command.

    Raises:
        UserError: where the folder holds another corpus, whose audio and record would be overwritten.
    """
    if not (folder / RECORD).is_file():
        return {}
    record = _record(folder)
    if made_by.items() <= record.items() and isinstance(manifests := record.get("manifests"), dict):
        return {name: of for name, of in manifests.items() if (folder / name).is_file()}
    maker = record.get("reader") or record.get("command") or "other means"
    found = f"the corpus {record.get('corpus', 'of another kind')}, prepared by {maker},"
    raise UserError(f"{folder}: {found} lies there; choose another --out")


def check_own_manifest(path: Path, first: str) -> None:
    """Check that a manifest that no record lists may be overwritten: an earlier call that was killed left it.

    Args:
        path: the manifest; usually it does not exist yet.
        first: the id that this call's manifest begins with.

    Raises:
        UserError: where the file is something else.
    """
    if not path.exists():
        return
    with suppress(UserError):
        if next(read_rows(path), ("", {}))[1].get("id") == first:
            return
    raise UserError(f"{path}: exists, and is no manifest of an earlier call; move it, or choose another --out")


def follows_from(folder: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether a folder's record holds every entry of a recipe, so that the corpus need not be made again."""
    return recipe.items() <= _record(folder).items()


def holds(folder: Path, field: str) -> bool:
    """Whether a folder's record has a field."""
    return field in _record(folder)


def _record(folder: Path) -> dict[str, Any]:
    try:
        return read_object(folder / RECORD, most=RECORDS)
    except UserError:
        return {}


def about(utterances: Sequence[Utterance], **more: Any) -> dict[str, Any]:
    """The record's entry for a manifest: licence and statistics of its utterances, and how it was made (`more`)."""
    licence = listed(utterance.licence for utterance in utterances)
    return {"licence": licence, **more, **ManifestCounts.of(utterances).as_dict()}


def write_record(folder: Path, corpus: str, command: str, manifests: Manifests) -> None:
    """Write the record of a folder of manifests; it is written last, and shows that the corpus is complete.

    Args:
        folder: where the manifests lie.
        corpus: the corpus's name.
        command: what made it.
        manifests: by name, as `about` describes them.
    """
    licence = listed(of["licence"] for of in manifests.values())
    record = {"corpus": corpus, "command": command, "licence": licence, "manifests": manifests}
    write_json(folder / RECORD, record)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON that people can read."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")
