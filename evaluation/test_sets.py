"""The test sets of an evaluation: utterances, their corpus's own labels, and their hypotheses to score."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.json_lines import naming, parse_json
from common.manifest import Utterance, read_manifest
from scoring.contributions import UtteranceToScore
from scoring.transcript_files import spellings, usable_spans


@dataclass(frozen=True)
class EvaluationSet:
    """A test set: `labels` are a corpus's own, by utterance, empty where it has none; `identity` is the manifest's."""

    name: str
    manifest: str
    identity: str
    utterances: Sequence[Utterance]
    labels: Mapping[str, Mapping[str, Any]]

    def transcripts(self, hypotheses: Mapping[str, str]) -> list[UtteranceToScore]:
        """Return the utterances with their hypotheses; a missing hypothesis counts as empty."""
        labelled = ((utterance, self.labels.get(utterance.id, {})) for utterance in self.utterances)
        return [
            UtteranceToScore(
                utterance.id,
                utterance.text,
                hypotheses.get(utterance.id, ""),
                utterance.languages,
                utterance.matrix_language,
                usable_spans([(span.language, span.text) for span in utterance.spans or ()]),
                utterance.speaker,
                loanwords=spellings(labels.get("loanwords")),
                normalized=labels.get("text_normalized"),
                transliterations=spellings(labels.get("transliterations")),
            )
            for utterance, labels in labelled
        ]


def read_sets(manifests: Mapping[str, str]) -> list[EvaluationSet]:
    """Read test sets by name; labels are in `<manifest>.labels.json`, beside the manifest.

    Raises:
        UserError: where a manifest is missing, empty or not readable, or its labels are not JSON.
    """
    return [
        EvaluationSet(
            name,
            str(path),
            f"sha256:{hashlib.sha256(Path(path).read_bytes()).hexdigest()}",
            read_manifest(path),
            _read_labels(Path(path).with_suffix(".labels.json")),
        )
        for name, path in manifests.items()
    ]


def _read_labels(file: Path) -> dict[str, dict[str, Any]]:
    if not file.is_file():
        return {}
    with naming(file):
        labels = parse_json(file.read_text(encoding="utf-8"), str(file))
    if not isinstance(labels, dict) or not all(isinstance(row, dict) for row in labels.values()):
        raise UserError(f"{file}: expected an object of labels by utterance id; prepare the corpus again")
    return labels
