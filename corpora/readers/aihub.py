"""AI-Hub 71260, Korean-English mixed speech: dialogues whose labels spell the English in Hangul.

`text` holds what was spoken, English included, in Hangul; `originalForm` holds the Latin spelling. Trained on `text`, a
model would learn to transliterate English, so the mixed sentence is rebuilt and what cannot be rebuilt is left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, ClassVar

from common.errors import UserError
from common.json_lines import parse_json
from corpora.readers.reader import Clip, LeftOut, Notice, Reader, Record
from corpora.readers.source import SourceFiles
from corpora.readers.splits import split_named
from corpora.readers.tables import number_field, text_field

RAW_RATE_HZ = 16000
_DUAL = re.compile(r"\(([^()]*)\)\s*/\s*\(([^()]*)\)")
_NOISE = re.compile(r"(?<![A-Za-z])[bnlou]/")
_DROPPED = re.compile(r"(?<=\w)/(?=\s|$|[.,?!])|(?<=[가-힣])\+|\*")  # filler, repetition, doubt
_LATIN = re.compile(r"[A-Za-z]")
_SPOKEN_FIELDS = ("text", "form", "word", "pronunciation")


@dataclass(frozen=True)
class AiHub(Reader):
    """ko-en training speech, dialogues (AI-Hub 71260).

    A `.json` label a recording, beside a `.pcm` (16 kHz, 16-bit, mono) or `.wav` of the same stem, zipped or not.
    """

    needs: ClassVar[str] = "the folder of the delivery, its zip archives as they are; apply at aihub.or.kr"
    licence: ClassVar[str] = "AI-Hub terms of use, not redistributable"
    sample_rate_hz: ClassVar[int | None] = RAW_RATE_HZ

    text_field: str = "text"
    """The dialog's field with what was spoken."""
    english_field: str = "originalForm"
    """The dialog's or its words' field with the Latin spelling."""
    start_field: str = "startTime"
    """The dialog's begin in seconds, where a recording holds several."""
    end_field: str = "endTime"
    """The dialog's end in seconds, where a recording holds several."""

    def read(self, source: SourceFiles) -> Iterator[Record | LeftOut | Notice]:
        """Yield the dialogs of all labels, ordered by file name."""
        audio: dict[str, list[str]] = {}
        for name in source.names:
            if name.lower().endswith((".pcm", ".wav")):
                audio.setdefault(PurePosixPath(name).stem, []).append(name)
        for label in source.require("*.json", "the labels of AI-Hub 71260"):
            yield from self._recording(source, label, audio.get(PurePosixPath(label).stem, []))

    def _recording(self, source: SourceFiles, label: str, audio: list[str]) -> Iterator[Record | LeftOut]:
        stem, where, split = PurePosixPath(label).stem, source.where(label), _split(label)
        dialogs = self._dialogs(source, label)
        sentences = [self._rebuild(dialog) for dialog in dialogs]
        if not any(sentence and _LATIN.search(sentence) for sentence in sentences):
            missing = f"the field 'dialogs' has no {self.english_field!r} from which its English can be rebuilt"
            yield LeftOut(stem, f"{where}: {missing}; training on it would teach transliteration")
            return
        if not audio:
            yield LeftOut(stem, f"{where}: no {stem}.pcm or {stem}.wav in the source")
            return
        file = next((name for name in audio if _split(name) == split), audio[0])
        for number, (dialog, sentence) in enumerate(zip(dialogs, sentences, strict=True)):
            place = f"{where}: dialogs[{number}]"
            identity = stem if len(dialogs) == 1 else f"{stem}-{number:03d}"
            if sentence is None:
                yield LeftOut(identity, f"{place}: no {self.english_field!r} from which the sentence can be rebuilt")
            elif mask := re.search(r"@\w+", sentence):
                yield LeftOut(identity, f"{place}: the sentence holds the mask {mask[0]!r}; what was said is unknown")
            else:
                clip = Clip(file, raw_rate_hz=RAW_RATE_HZ if file.lower().endswith(".pcm") else None)
                if len(dialogs) > 1:
                    start_s, end_s = self._times_s(dialog, place)
                    clip = replace(clip, start_s=start_s, duration_s=end_s - start_s)
                speaker = _speaker(dialog, PurePosixPath(file).stem)
                yield Record(identity, place, clip, sentence, "ko-en", split, speaker=speaker)

    def _times_s(self, dialog: dict[str, Any], where: str) -> tuple[float, float]:
        start_s, end_s = (number_field(dialog, field, where) for field in (self.start_field, self.end_field))
        if start_s is None or end_s is None:
            missing = f"the fields {self.start_field!r} and {self.end_field!r} are not both there"
            found = f"{where}: the recording holds several dialogs, and {missing}; it has {sorted(dialog)}"
            raise UserError(f"{found} (name them by --start-field and --end-field)")
        return start_s, end_s

    def _dialogs(self, source: SourceFiles, label: str) -> list[dict[str, Any]]:
        where = source.where(label)
        content = parse_json("\n".join(source.lines(label)), where)
        dialogs = content.get("dialogs") if isinstance(content, dict) else None
        if not isinstance(dialogs, list) or not dialogs or not all(isinstance(dialog, dict) for dialog in dialogs):
            held = sorted(content) if isinstance(content, dict) else type(content).__name__
            raise UserError(f"{where}: the field 'dialogs' is missing or no list of objects; the file holds {held}")
        for number, dialog in enumerate(dialogs):
            text_field(dialog, self.text_field, f"{where}: dialogs[{number}]")
        return dialogs

    def _rebuild(self, dialog: dict[str, Any]) -> str | None:
        """The sentence in mixed script, from the `originalForm` of sentence or words; None without either."""
        spoken = resolve_notation(str(dialog[self.text_field]))
        if isinstance(whole := dialog.get(self.english_field), str) and whole.strip():
            whole = resolve_notation(whole)
            is_complete = re.search("[가-힣]", whole) or len(whole.split()) == len(spoken.split())
            return whole if is_complete else None
        for words in dialog.values():
            if isinstance(words, list) and any(isinstance(word, dict) and self.english_field in word for word in words):
                return _respell(spoken, [word for word in words if isinstance(word, dict)], self.english_field)
        return None


def _respell(sentence: str, words: list[dict[str, Any]], english_field: str) -> str | None:
    """Put each word's Latin spelling in the place of what was spoken; None where a word is not found.

    Where the words do not make up the whole sentence, each must match at the beginning of a word.
    """
    spoken = [resolve_notation(next((str(word[f]) for f in _SPOKEN_FIELDS if word.get(f)), "")) for word in words]
    is_whole = re.sub(r"\W", "", "".join(spoken)) == re.sub(r"\W", "", sentence)
    begin = "" if is_whole else r"(?<!\w)"
    pieces, rest = [], sentence
    for word, part in zip(words, spoken, strict=True):
        found = re.search(begin + re.escape(part), rest) if part else None
        if not found:
            return None
        pieces += [rest[: found.start()], resolve_notation(str(word.get(english_field) or "")) or part]
        rest = rest[found.end() :]
    return "".join([*pieces, rest])


def resolve_notation(text: str) -> str:
    """Remove AI-Hub's notation: keep the spelling of `(spelling)/(pronunciation)`, and drop the other marks."""
    text = _NOISE.sub(" ", _DUAL.sub(r"\1", text))
    return " ".join(_DROPPED.sub("", text).split())


def _speaker(dialog: dict[str, Any], recording: str) -> str | None:
    """The dialog's speaker; 1 or A is unique within one recording only, so the recording's name is added."""
    speaker = str(dialog.get("speaker") or dialog.get("speakerId") or "")
    return (f"{recording}-{speaker}" if len(speaker) < 3 else speaker) if speaker else None


def _split(name: str) -> str:
    return next((split for part in PurePosixPath(name).parts if (split := split_named(part))), "train")
