"""The test sets of an evaluation: utterances, their corpus's own labels, and their hypotheses to score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.input_files import RECORDS, digest_of_file
from common.json_lines import read_object
from common.manifest import Utterance, read_manifest
from scoring.contributions import UtteranceToScore
from scoring.transcript_files import spellings, usable_spans


@dataclass(frozen=True)
class EvaluationSet:
    """A test set; `labels` are the corpus's own by utterance id, if it has any; `identity` is the manifest's hash."""

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
            f"sha256:{digest_of_file(path)}",
            read_manifest(path),
            _read_labels(Path(path).with_suffix(".labels.json")),
        )
        for name, path in manifests.items()
    ]


def _read_labels(file: Path) -> dict[str, dict[str, Any]]:
    if not file.is_file():
        return {}
    labels = read_object(file, "an object of labels by utterance id", RECORDS)
    for name, row in labels.items():
        try:
            spellings(row.get("loanwords")), spellings(row.get("transliterations"))
            is_right = isinstance(row.get("text_normalized"), str | None)
        except (AttributeError, TypeError, ValueError):
            is_right = False
        if not is_right:
            expected = "text_normalized as text, loanwords as [[native, borrowed]]"
            raise UserError(
                f"{file}: the labels of {name!r} are not a corpus's own, expected {expected}; prepare the corpus again"
            )
    return labels
