"""Training utterances that a test set holds, too: found by sentence id, by audio, and by transcript."""

import filecmp
import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from common.errors import UserError
from common.manifest import Utterance, iter_manifest


def transcript_key(text: str) -> bytes:
    """Eight bytes that are equal for transcripts of the same letters and digits, whatever case and punctuation."""
    letters = "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())
    return hashlib.blake2b(letters.encode(), digest_size=8).digest()


def sentence_keys(text: str, source_sentence_id: str | None) -> dict[str, bytes | str]:
    """The keys that equal sentences have in common: of the transcript, and the id of the source sentence."""
    return {"transcript": transcript_key(text)} | ({"sentence": source_sentence_id} if source_sentence_id else {})


class HeldOut:
    """The sentences of manifests that must stay out of training."""

    def __init__(self, manifests: Iterable[Path | str]) -> None:
        self._sentences: dict[str, str] = {}
        self._transcripts: dict[bytes, str] = {}
        self._speech: dict[tuple[str, float], list[tuple[Path, str]]] = defaultdict(list)
        for manifest in manifests:
            for utterance in iter_manifest(manifest, check_audio=False):
                place = f"{manifest} ({utterance.id})"
                if utterance.source_sentence_id:
                    self._sentences.setdefault(utterance.source_sentence_id, place)
                self._transcripts.setdefault(transcript_key(utterance.text), place)
                self._speech[utterance.id, utterance.offset].append((utterance.audio, place))

    def speech(self, utterance: Utterance) -> str | None:
        """The held-out manifest and utterance of the same id and audio, None without one."""
        for audio, place in self._speech.get((utterance.id, utterance.offset), []):
            if audio.is_file() and filecmp.cmp(audio, utterance.audio, shallow=False):
                return place
        return None

    def sentence(self, source_sentence_id: str | None) -> str | None:
        """The held-out manifest and utterance of the same source sentence, None without one."""
        return self._sentences.get(source_sentence_id) if source_sentence_id else None

    def transcript(self, text: str) -> str | None:
        """The held-out manifest and utterance of the same transcript, None without one."""
        return self._transcripts.get(transcript_key(text))


def check_leaks(utterances: Sequence[Utterance], held_out: HeldOut, where: str) -> list[str]:
    """Refuses training utterances that are held out; lists those that share no more than their transcript.

    Args:
        utterances: of training.
        held_out: what is held out.
        where: their manifest, for the message.

    Raises:
        UserError: naming the first whose source sentence, or whose id and audio, is in a held-out manifest.
    """
    leaks = [(u, place) for u in utterances if (place := held_out.sentence(u.source_sentence_id) or held_out.speech(u))]
    if leaks:
        named = ", ".join(f"{utterance.id} in {place}" for utterance, place in leaks[:3])
        raise UserError(
            f"{where}: {len(leaks)} of {len(utterances)} training utterances are held out for testing: {named}"
            f"{' ...' if len(leaks) > 3 else ''}; drop their lines, or the test set from data.held_out"
        )
    return [f"{u.id} in {place}" for u in utterances if (place := held_out.transcript(u.text))]
