"""Where an utterance can be cut: its stretches of one language, with their times and their place in the transcript."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from common.manifest import Utterance
from datamodules.splicing.joining import UNSPACED

_TOLERANCE_S = 0.1  # by which audio files and the durations stated of them may differ


@dataclass(frozen=True, slots=True)
class Part:
    """A longest stretch of one language: seconds from its utterance's begin, and its text.

    `glued_before` and `glued_after` tell of a part in the matrix language that no space parts it from its neighbour,
    as a particle: it will be written so beside any other neighbour. `pieces` are the spans that it was given as, such
    as words, where it was more than one, each with the white space before it.
    """

    language: str
    start_s: float
    end_s: float
    text: str
    glued_before: bool = False
    glued_after: bool = False
    pieces: tuple[tuple[str, Part], ...] = ()

    def runs(self) -> Iterator[Part]:
        """The part, and all that some of its pieces, one after the other, make."""
        yield replace(self, pieces=())
        for size in range(1, len(self.pieces)):
            for first in self.beginnings:
                if first + size <= len(self.pieces):
                    yield self.run(first, first + size)

    @property
    def beginnings(self) -> list[int]:
        """The pieces that a run may begin with: not with a particle, where others stand behind white space."""
        unspaced = self.language in UNSPACED
        return [index for index, (gap, _) in enumerate(self.pieces) if index == 0 or gap or unspaced]

    def run(self, first: int, end: int) -> Part:
        """What its pieces from the `first` to the one before `end` make."""
        chosen = self.pieces[first:end]
        return Part(
            self.language,
            chosen[0][1].start_s,
            chosen[-1][1].end_s,
            "".join(gap + piece.text for gap, piece in chosen).strip(),
            self.glued_before and first == 0,
            self.glued_after and end == len(self.pieces),
        )


class NotCuttable(Exception):
    """Why an utterance cannot be cut, in words that are the same for all of a kind."""


def cut_parts(utterance: Utterance, shortest_s: float = 0.0) -> tuple[Part, ...]:
    """The utterance's spans, neighbours of one language as one; punctuation goes with the span before it.

    Raises:
        NotCuttable: where there are no spans, a span's time or text is missing, the texts do not make up the
            transcript, the times are out of order or beyond the utterance, or a part is shorter than `shortest_s`.
    """
    if not utterance.spans:
        raise NotCuttable("without spans")
    if any(span.text is None for span in utterance.spans):
        raise NotCuttable("without the spans' texts")
    if any(span.start is None or span.end is None for span in utterance.spans):
        raise NotCuttable("without the spans' times")
    matrix = None if utterance.matrix_language in UNSPACED else utterance.matrix_language
    found: list[Part] = []
    for span, (gap, text) in zip(utterance.spans, _in_transcript(utterance), strict=True):
        part = Part(span.language, span.start, span.end, text)
        before = found[-1] if found else None
        if (before and part.start_s < before.end_s - 1e-3) or part.end_s <= part.start_s:
            raise NotCuttable("with span times out of order")
        if before and before.language == part.language:
            pieces = (*(before.pieces or (("", before),)), (gap, part))
            found[-1] = replace(before, end_s=part.end_s, text=before.text + gap + part.text, pieces=pieces)
            continue
        if before and not gap:
            found[-1] = replace(before, glued_after=before.language == matrix)
            part = replace(part, glued_before=part.language == matrix)
        found.append(part)
    if found[0].start_s < 0 or found[-1].end_s > utterance.duration + _TOLERANCE_S:
        raise NotCuttable("with span times beyond the audio")
    if any(part.end_s - part.start_s < shortest_s for part in found):
        raise NotCuttable(f"with a span under {shortest_s:g} s")
    return tuple(found)


def _in_transcript(utterance: Utterance) -> list[tuple[str, str]]:
    """The white space before each span, and its text with the punctuation that follows."""
    found: list[tuple[str, str]] = []
    position = 0
    for span in utterance.spans or ():
        text = (span.text or "").strip()
        begin = utterance.text.find(text, position)
        between = utterance.text[position : max(position, begin)]
        mark = between.rstrip()
        if not text or begin < 0 or any(map(str.isalnum, mark)):
            raise NotCuttable("with span texts that do not make up the transcript")
        if mark and found:
            found[-1] = (found[-1][0], found[-1][1] + mark)
        found.append((between[len(mark) :], text if found else mark + text))
        position = begin + len(text)
    rest = utterance.text[position:].rstrip()
    if any(map(str.isalnum, rest)):
        raise NotCuttable("with span texts that do not make up the transcript")
    found[-1] = (found[-1][0], found[-1][1] + rest)
    return found
