"""Training speech that a test set also holds: found by sentence id, where corpora share a source, and by transcript."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from datamodules.manifest import iter_manifest


def transcript_key(text: str) -> bytes:
    """Eight bytes that are equal for transcripts of the same letters and digits, whatever case and punctuation."""
    letters = "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())
    return hashlib.blake2b(letters.encode(), digest_size=8).digest()


class HeldOut:
    """The sentences of manifests that training must not see."""

    def __init__(self, manifests: Iterable[Path | str]) -> None:
        self._sentences: dict[str, str] = {}
        self._transcripts: dict[bytes, str] = {}
        for manifest in manifests:
            for utterance in iter_manifest(manifest, check_audio=False):
                place = f"{manifest} ({utterance.id})"
                if utterance.source_sentence_id:
                    self._sentences.setdefault(utterance.source_sentence_id, place)
                self._transcripts.setdefault(transcript_key(utterance.text), place)

    def sentence(self, source_sentence_id: str | None) -> str | None:
        """Where the sentence stands in a held-out manifest, None where it does not."""
        return self._sentences.get(source_sentence_id) if source_sentence_id else None

    def transcript(self, text: str) -> str | None:
        """Where the same transcript stands in a held-out manifest, None where it does not."""
        return self._transcripts.get(transcript_key(text))
