"""The record of a corpus that was made of prepared manifests: `corpus.json`, as every preparation leaves one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import write_text
from common.manifest import Utterance, listed
from corpora.manifest_counts import ManifestCounts

RECORD = "corpus.json"
Manifests = Mapping[str, Mapping[str, Any]]  # by name, as `about` describes them


def earlier_record(folder: Path, command: str) -> dict[str, Mapping[str, Any]]:
    """The manifests that an earlier call of a command left in a folder, as `about` described them.

    Raises:
        UserError: where another corpus lies there, whose record would be overwritten.
    """
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["command"] == command:
            return {name: of for name, of in record["manifests"].items() if (folder / name).is_file()}
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise UserError(f"{folder}: another corpus lies there; choose another --out")


def about(utterances: Sequence[Utterance], **more: Any) -> dict[str, Any]:
    """What the record holds of a manifest: its utterances' licence and statistics, and what it was made of and by."""
    statistics = ManifestCounts()
    for utterance in utterances:
        statistics.add(utterance)
    return {"licence": listed(utterance.licence for utterance in utterances), **more, **statistics.as_dict()}


def write_record(folder: Path, corpus: str, command: str, manifests: Manifests) -> None:
    """Write the record of a folder of manifests, the last file of a corpus: all of it is there.

    Args:
        folder: where the manifests lie.
        corpus: the corpus's name.
        command: what made it.
        manifests: by name, as `about` describes them.
    """
    licence = listed(of["licence"] for of in manifests.values())
    record = {"corpus": corpus, "command": command, "licence": licence, "manifests": manifests}
    write_text(folder / RECORD, json.dumps(record, ensure_ascii=False, indent=1) + "\n")
