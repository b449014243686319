"""A recording's transcript, and how it is written: plain text, subtitles (SRT and WebVTT), JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from backbone.guards import SILENCE
from common.escape import json_text
from decoding.segments import Segment
from decoding.transcriber import Hypothesis
from decoding.words import TimedWord

_NO_SPEECH, _NO_TEXT = "no speech", "speech, but the model wrote nothing"
_UNLIKELY = "left empty: the model doubts that it is speech"
_REST_S = 2
_UNSPACED = ("\u3000", "\u9fff")  # kana, kanji and their punctuation are written without spaces


@dataclass(frozen=True)
class Transcript:
    """A model's transcript of a recording, segment by segment."""

    file: Path
    model: str
    segments: Sequence[Segment]
    hypotheses: Sequence[Hypothesis]

    @property
    def text(self) -> str:
        """The whole text; Japanese segments are joined without a space."""
        whole = ""
        for text in filter(None, (hypothesis.text for hypothesis in self.hypotheses)):
            touching = whole and all(_UNSPACED[0] <= char <= _UNSPACED[1] for char in (whole[-1], text[0]))
            whole += text if touching or not whole else f" {text}"
        return whole

    def notes(self) -> Iterator[str]:
        """Say how much of the recording has no speech, beyond a short rest, and where speech has no or cut text."""
        silent_s = sum(segment.end - segment.start for segment in self.segments if not segment.has_speech)
        if silent_s > _REST_S or not any(segment.has_speech for segment in self.segments):
            yield f"{_NO_SPEECH} in {silent_s:.1f} of its {self.segments[-1].end:.1f} s"
        for segment, found in self._rows():
            if segment.has_speech and (note := _note(segment, found)):
                yield f"{segment.start:.1f} to {segment.end:.1f} s: {note} ({self.model})"

    def written(self, form: str) -> str:
        """Return the transcript as `txt`, `srt`, `vtt` or `json`."""
        return {"txt": self._txt, "srt": self._srt, "vtt": self._vtt, "json": self._json}[form]()

    def _rows(self) -> Iterator[tuple[Segment, Hypothesis]]:
        return zip(self.segments, self.hypotheses, strict=True)

    def _txt(self) -> str:
        return f"{self.text}\n"

    def _srt(self) -> str:
        return "\n".join(
            f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{found.text}\n"
            for number, (start, end, found) in enumerate(self._cues(), start=1)
        )

    def _vtt(self) -> str:
        cues = (
            f"\n{_clock(start, '.')} --> {_clock(end, '.')}\n{_marked(found)}\n" for start, end, found in self._cues()
        )
        return "WEBVTT\n" + "".join(cues)

    def _cues(self) -> Iterator[tuple[float, float, Hypothesis]]:
        for segment, found in self._rows():
            if found.words:
                yield found.words[0].start, found.words[-1].end, found
            elif found.text:
                yield segment.start, segment.end, found

    def _json(self) -> str:
        segments = [_json_segment(*row) for row in self._rows()]
        found = {"file": str(self.file), "model": self.model, "text": self.text, "segments": segments}
        return json_text(found, indent=1) + "\n"


def _json_segment(segment: Segment, found: Hypothesis) -> dict[str, Any]:
    row: dict[str, Any] = {"start": round(segment.start, 3), "end": round(segment.end, 3), "text": found.text}
    if found.languages:
        row["language"] = "-".join(found.languages)
    if found.language_probability is not None:
        row["language_probability"] = round(found.language_probability, 4)
    if note := _note(segment, found):
        row["note"] = note
    if found.words:
        rounded = ({"start": round(one.start, 3), "end": round(one.end, 3)} for one in found.words)
        row["words"] = [
            asdict(word) | times | {"probability": round(word.probability, 3)}
            for word, times in zip(found.words, rounded, strict=True)
        ]
    return row


def _note(segment: Segment, found: Hypothesis) -> str | None:
    if not segment.has_speech:
        return _NO_SPEECH
    if found.cut == SILENCE:
        return _UNLIKELY
    if not found.text:
        return _NO_TEXT
    return found.cut and f"cut by the guard on {found.cut}"


def language_runs(found: Hypothesis) -> Iterator[tuple[str, str, list[tuple[str, TimedWord]]]]:
    """Yield each run of words in one language: the white space before it, the language, and its words.

    Each word comes with the white space before it in the text; the first word of a run comes with none.
    """
    spaced, place = [], 0
    for word in found.words:
        begin = found.text.index(word.text, place)
        spaced.append((found.text[place:begin], word))
        place = begin + len(word.text)
    for language, run in groupby(spaced, key=lambda item: item[1].language):
        (space, first), *others = run
        yield space, language, [("", first), *others]


def _marked(found: Hypothesis) -> str:
    """The text of a WebVTT cue: the time before each word but the first, and a tag for each run of one language."""
    marked = "" if found.words else escape(found.text, quote=False)
    for space, language, run in language_runs(found):
        inside = ""
        for gap, word in run:
            time = f"<{_clock(word.start, '.')}>" if word is not found.words[0] else ""
            inside += f"{gap}{time}{escape(word.text, quote=False)}"
        marked += f"{space}<lang {language}>{inside}</lang>"
    return marked


def _clock(seconds: float, point: str) -> str:
    whole, milliseconds = divmod(round(1000 * seconds), 1000)
    minutes, second = divmod(whole, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{second:02}{point}{milliseconds:03}"
