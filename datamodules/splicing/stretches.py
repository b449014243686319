"""Where an utterance can be cut: its stretches of one language and their words, with times and texts.

Their borders can be moved at random first, to measure how much splicing loses by a bad alignment.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise, product
from typing import NamedTuple

from common.constants import DURATION_TOLERANCE_S, SAMPLE_RATE_HZ
from common.manifest import Utterance
from datamodules.splicing.splice_text import Text, divided, is_bound, unspaced

_LEAST_SHARE = 0.01  # of the distance between two borders, which jitter always keeps


class TimedText(NamedTuple):
    """One span of a manifest: the white space before it, its times in seconds, its text with punctuation."""

    space: str
    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """A longest stretch of one language, or a run of its words.

    Attributes:
        language: the language's code.
        words: the spans that the manifest gives for it: one, or several such as words.
        bound_before: no space separates it from the text before it, in any language (see `splice_text.Text`).
        bound_after: the same for the text after it.
    """

    language: str
    words: tuple[TimedText, ...]
    bound_before: bool = False
    bound_after: bool = False

    @property
    def text(self) -> str:
        """Its part of the transcript."""
        return self.words[0].text + "".join(word.space + word.text for word in self.words[1:])

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return self.words[-1].end_s - self.words[0].start_s

    @property
    def begin(self) -> int:
        """Its first sample at 16 kHz, counted from the utterance's begin."""
        return round(self.words[0].start_s * SAMPLE_RATE_HZ)

    @property
    def end(self) -> int:
        """The sample after its last."""
        return round(self.words[-1].end_s * SAMPLE_RATE_HZ)

    @property
    def beginnings(self) -> list[int]:
        """The words that a run may begin with."""
        glued = not unspaced(self.language)  # a particle is glued to the word before it
        return [index for index, word in enumerate(self.words) if index == 0 or word.space or not glued]

    def runs(self) -> Iterator[Stretch]:
        """The stretch itself, and every shorter run of its words."""
        yield self
        count = len(self.words)
        for size, first in product(range(1, count), self.beginnings):
            if (end := first + size) <= count:
                bound = (self.bound_before and first == 0, self.bound_after and end == count)
                yield Stretch(self.language, self.words[first:end], *bound)

    def parts(self, *runs: tuple[int, int]) -> list[Stretch]:
        """The stretch divided where each of some runs of its words begins and ends."""
        count = len(self.words)
        found = []
        for begin, end in pairwise(sorted({0, count, *chain(*runs)})):
            bound = [0 < place < count and not self.words[place].space for place in (begin, end)]
            found.append(Stretch(self.language, self.words[begin:end], *bound))
        return found

    def says(self, text: str) -> Text:
        """Wrap a text that takes the place of its own, for `splice_text.joined`."""
        return Text(self.language, text, self.bound_before, self.bound_after)


class NotCuttable(Exception):
    """An utterance cannot be cut; equal reasons have equal messages, so that they can be counted."""


def stretches(utterance: Utterance, shortest_s: float = 0.0) -> tuple[Stretch, ...]:
    """The utterance's spans, neighbours of one language as one stretch; punctuation goes with the span before it.

    Raises:
        NotCuttable: where there are no spans, a span's time or text is missing, the texts do not make up the
            transcript, the times are out of order or beyond the utterance, or a stretch is under `shortest_s` seconds.
    """
    spans = utterance.spans
    if not spans:
        raise NotCuttable("without spans")
    if any(span.text is None for span in spans):
        raise NotCuttable("without the spans' texts")
    if any(span.start is None or span.end is None for span in spans):
        raise NotCuttable("without the spans' times")
    if (texts := divided(utterance.text, [span.text for span in spans])) is None:
        raise NotCuttable("with span texts that do not make up the transcript")
    found: list[Stretch] = []
    for span, (space, text) in zip(spans, texts, strict=True):
        word = TimedText(space, span.start, span.end, text)
        before = found[-1] if found else None
        if (before and word.start_s < before.words[-1].end_s - 1e-3) or word.end_s <= word.start_s:
            raise NotCuttable("with span times out of order")
        if before and before.language == span.language:
            found[-1] = replace(before, words=(*before.words, word))
            continue
        if before and is_bound(before.language, space, utterance.matrix_language):
            found[-1] = replace(before, bound_after=True)
        bound = before is not None and is_bound(span.language, space, utterance.matrix_language)
        found.append(Stretch(span.language, (word,), bound_before=bound))
    if found[0].words[0].start_s < 0 or found[-1].words[-1].end_s > utterance.duration + DURATION_TOLERANCE_S:
        raise NotCuttable("with span times beyond the audio")
    if any(stretch.duration_s < shortest_s for stretch in found):
        raise NotCuttable(f"with a span under {shortest_s:g} s")
    return tuple(found)


def cuttable(
    utterances: Sequence[Utterance], jitter_s: float, shortest_s: float, left_out: Counter[str]
) -> Iterator[tuple[int, Utterance, tuple[Stretch, ...]]]:
    """Yield each utterance that can be cut: its index, itself with its borders moved, and its stretches.

    Args:
        utterances: in the order of the index.
        jitter_s: how far borders are moved at most.
        shortest_s: least length of a stretch.
        left_out: counts the others, by reason.
    """
    for index, utterance in enumerate(utterances):
        moved = jittered(utterance, jitter_s)
        try:
            yield index, moved, stretches(moved, shortest_s)
        except NotCuttable as reason:
            left_out[str(reason)] += 1


def jittered(utterance: Utterance, jitter_s: float) -> Utterance:
    """The utterance with every border of its spans moved by up to `jitter_s` seconds, with its id as seed.

    Spans that meet still meet afterwards. No border passes its neighbours or the utterance's ends: it stops short of
    them. An utterance without times, or whose times are out of order, is returned unchanged.
    """
    spans = utterance.spans
    if not jitter_s or not spans or any(span.start is None or span.end is None for span in spans):
        return utterance
    times = [time for span in spans for time in (span.start, span.end)]
    borders = [*(before for before, after in pairwise(times) if before != after), times[-1]]  # one where two spans meet
    if borders != sorted(set(borders)) or borders[0] < 0:
        return utterance
    rng = random.Random(f"jitter {utterance.id}")
    moved: dict[float, float] = {}
    for earlier, border, later in zip([None, *borders[:-1]], borders, [*borders[1:], utterance.duration], strict=True):
        least = 0.0 if earlier is None else moved[earlier]
        most = max(later, border)  # audio may last a little longer than its manifest says
        least, most = least + _LEAST_SHARE * (border - least), most - _LEAST_SHARE * (most - border)
        moved[border] = min(max(border + rng.uniform(-jitter_s, jitter_s), least), most)
    return replace(utterance, spans=tuple(replace(s, start=moved[s.start], end=moved[s.end]) for s in spans))
