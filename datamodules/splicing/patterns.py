"""What a spliced utterance is made of: stretches of an utterance, places for spans of others, and what they say."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from typing import NamedTuple

from common.audio import SAMPLE_RATE_HZ
from common.manifest import Span, Utterance
from datamodules.splicing.fillers import Filler
from datamodules.splicing.joining import bare, closing, space
from datamodules.splicing.spans import Part

_LEAST_SILENCE = 320  # samples at a frame's edge; less is not worth a joint


class Cut(NamedTuple):
    """Samples `begin` to `end` of an utterance, what is said in them, and the filler that they are, if any.

    `part` is None for the silence at a frame's edge.
    """

    utterance: Utterance
    begin: int
    end: int
    part: Part | None
    filler: Filler | None = None


class Slot(NamedTuple):
    """A place for a part in a language, and the text that stood there, if any."""

    language: str
    text: str = ""

    def taking(self, filler: Filler) -> Cut:
        """The filler's cut, its text closed by the punctuation of what stood there."""
        part = filler.part
        text = bare(part.text) + closing(self.text, part.language)
        begin, end = _sample(part.start_s), _sample(part.end_s)
        return Cut(filler.utterance, begin, end, replace(part, text=text), filler)


Pattern = list[Cut | Slot]


def frame(utterance: Utterance, parts: Sequence[Part], kept: str, other: str, rng: random.Random) -> Pattern:
    """The whole utterance with a slot of the `other` language for each stretch that is not in the `kept` one.

    Of an utterance in one language, a run of its words gives way.
    """
    told = [(part.language == kept, part) for part in parts] if len(parts) > 1 else _without_a_run(parts[0], rng)
    runs = [(is_kept, [part for _, part in run]) for is_kept, run in groupby(told, key=lambda one: one[0])]
    borders = [_sample(run[0].start_s) for _, run in runs[1:]]
    ends = [_sample(run[-1].end_s) for _, run in runs[:-1]]
    whole = round(utterance.duration * SAMPLE_RATE_HZ)
    pattern: Pattern = []
    for index, (is_kept, run) in enumerate(runs):
        if is_kept:
            begin = ends[index - 1] if index else 0
            end = borders[index] if index < len(borders) else whole
            pattern.append(Cut(utterance, begin, end, run[0]))
        else:
            pattern.append(Slot(other, run[-1].text))
    if isinstance(pattern[0], Slot) and (begin := _sample(runs[0][1][0].start_s)) >= _LEAST_SILENCE:
        pattern.insert(0, Cut(utterance, 0, begin, None))
    if isinstance(pattern[-1], Slot) and whole - (end := _sample(runs[-1][1][-1].end_s)) >= _LEAST_SILENCE:
        pattern.append(Cut(utterance, end, whole, None))
    return pattern


def _without_a_run(part: Part, rng: random.Random) -> list[tuple[bool, Part]]:
    """A part in two or three, each with whether it is kept: all but a run of its pieces, which is not all of them."""
    gaps = [gap for gap, _ in part.pieces]
    first = rng.choice(part.beginnings)
    end = rng.randint(first + 1, len(gaps) if first else len(gaps) - 1)
    told = []
    for begin, before in pairwise(sorted({0, first, end, len(gaps)})):
        run = part.run(begin, before)
        glued = {"glued_before": begin > 0 and not gaps[begin], "glued_after": before < len(gaps) and not gaps[before]}
        told.append((begin != first, replace(run, **glued)))
    return told


def chain(
    utterance: Utterance, parts: Sequence[Part], kept: str, other: str, count: int, rng: random.Random
) -> Pattern:
    """One of the utterance's parts in the `kept` language among slots, `count` in all, the two languages in turn."""
    own = rng.choice([part for part in parts if part.language == kept])
    first = rng.randrange(2)
    place = rng.choice(range(first, count, 2))
    pattern: Pattern = [Slot(kept if index % 2 == first else other) for index in range(count)]
    pattern[place] = Cut(utterance, _sample(own.start_s), _sample(own.end_s), replace(own, text=bare(own.text)))
    return pattern


def transcript(cuts: Sequence[Cut], matrix: str, gap: int) -> tuple[str, tuple[Span, ...]]:
    """The text of joined cuts, and their spans with times."""
    text, spans, before, samples = "", [], None, 0
    for cut in cuts:
        if part := cut.part:
            if before:
                text += space(matrix, (before.language, before.glued_after), (part.language, part.glued_before))
            text += part.text
            start = samples + _sample(part.start_s) - cut.begin
            end = start + _sample(part.end_s) - _sample(part.start_s)
            spans.append(Span(part.language, start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, part.text))
            before = part
        samples += cut.end - cut.begin + gap
    return text, tuple(spans)


def longest(cuts: Sequence[Cut]) -> str:
    """The language that is spoken for most of the time."""
    samples: dict[str, int] = {}
    for cut in cuts:
        if cut.part:
            samples[cut.part.language] = samples.get(cut.part.language, 0) + cut.end - cut.begin
    return max(samples, key=lambda language: samples[language])


def _sample(time_s: float) -> int:
    return round(time_s * SAMPLE_RATE_HZ)
