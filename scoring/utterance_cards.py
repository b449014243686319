"""The report's utterances: the worst of each test set, aligned for every model, with their sound."""

import base64
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.languages import language_by_script
from scoring.contributions import EDITS, ScoredUtterance
from scoring.edit_alignment import DELETION, INSERTION
from scoring.results import Results, having

# The bytes of a WAV file, or the path of a sound file, for (test set, utterance id); None where there is no audio.
Audio = Callable[[str, str], bytes | Path | None]


def worst_utterances(results: Results, sets: Sequence[str], number: int, audio: Audio | None) -> list[dict[str, Any]]:
    """The worst utterances of each set, each model naming its worst in turn until there are enough.

    Args:
        results: scores by model, then by test set.
        sets: the test sets to show.
        number: how many utterances of each.
        audio: gives an utterance's sound; None shows none.
    """
    shown = []
    for name in sets:
        by_model = {m: {u.transcript.id: u for u in r.utterances} for m, r in having(results, name).items()}
        ranked = [sorted(found, key=lambda key, f=found: -(f[key].counts.rate or 0)) for found in by_model.values()]
        turns = (by_id for turn in zip(*ranked, strict=False) for by_id in turn)
        wrong = (key for key in turns if any(key in f and f[key].counts.errors for f in by_model.values()))
        for identity in list(dict.fromkeys(wrong))[:number]:
            hypotheses = {model: found[identity] for model, found in by_model.items() if identity in found}
            shown.append(_card(name, identity, hypotheses, audio))
    return sorted(shown, key=lambda card: -card["rate"])


def _card(name: str, identity: str, hypotheses: Mapping[str, ScoredUtterance], audio: Audio | None) -> dict[str, Any]:
    one = next(iter(hypotheses.values()))
    return {
        "set": name,
        "said": one.transcript,
        "tokens": list(zip(one.alignment.reference, one.languages, strict=True)),
        "languages": [code for code in dict.fromkeys(one.languages) if code],
        "audio": _data_uri(audio(name, identity), name, identity) if audio else None,
        "rate": sum(utterance.counts.rate or 0.0 for utterance in hypotheses.values()) / len(hypotheses),
        "hypotheses": [(model, utterance, _steps(utterance)) for model, utterance in hypotheses.items()],
    }


def _steps(utterance: ScoredUtterance) -> list[tuple[str, str, str, str]]:
    """The alignment as (kind, reference token, hypothesis token, language tag for the fonts)."""
    alignment, languages = utterance.alignment, utterance.transcript.languages
    kinds = {"=": "hit"} | EDITS
    steps = []
    for operation, i, j in alignment.steps():
        said = "" if operation == INSERTION else alignment.reference[i]
        recognised = "" if operation == DELETION else alignment.hypothesis[j]
        tag = language_by_script(recognised or said, languages) or (utterance.languages[i] if i is not None else None)
        steps.append((kinds[operation], said, recognised, tag or ""))
    return steps


def _data_uri(sound: bytes | Path | None, name: str, identity: str) -> str | None:
    kind = "audio/wav"
    if isinstance(sound, Path):
        kind = mimetypes.guess_type(sound)[0] or kind
        try:
            sound = sound.read_bytes()
        except OSError as error:
            raise UserError(f"{sound}: the audio of {identity!r} ({name}) cannot be read ({error.strerror})") from None
    return f"data:{kind};base64,{base64.b64encode(sound).decode()}" if sound else None
