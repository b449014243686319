"""Words of a transcript with their times, languages and probabilities."""

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from backbone.token_times import TokenTimes
from common.languages import JAPANESE_BORDER, script
from decoding.word_languages import word_languages

_JAPANESE = frozenset({"Han", "Kana"})


@dataclass(frozen=True)
class TimedWord:
    """A word as it is written, with the punctuation behind it; times in seconds."""

    start: float
    end: float
    text: str
    language: str
    probability: float

    def later(self, seconds: float) -> "TimedWord":
        """Return the word with its times moved `seconds` later, to its utterance's place in a recording."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)


def timed_words(
    text: str, times: TokenTimes, edges_s: tuple[float, float], languages: Sequence[str]
) -> tuple[TimedWord, ...]:
    """Cut a text into words, each of which begins where the one before ends.

    Args:
        text: as the tokens spell it, with white space around it.
        times: of its tokens.
        edges_s: where speech begins and ends.
        languages: those spoken, the most expected first.
    """
    places = list(word_places(text))
    if not places:
        return ()
    begin_s, end_s = edges_s
    borders_s = [begin_s, *(times.at(end) for _, end in places[:-1]), end_s]
    borders_s = [min(max(border_s, begin_s), end_s) for border_s in borders_s]
    spelled = [text[begin:end] for begin, end in places]
    chances = [statistics.fmean(times.probabilities[times.tokens(*place)] or [0.0]) for place in places]
    found = zip(pairwise(borders_s), spelled, word_languages(spelled, languages), chances, strict=True)
    return tuple(TimedWord(*borders, *word) for borders, *word in found)


def word_places(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each word begins and ends: at white space, where the script changes, and at borders of Japanese."""
    for chunk in re.finditer(r"\S+", text):
        cuts = [chunk.start(), *sorted(_inner_borders(chunk[0], chunk.start())), chunk.end()]
        yield from pairwise(cuts)


def _inner_borders(chunk: str, offset: int) -> set[int]:
    borders, before = set(), None
    for place, character in enumerate(chunk):
        written = script(character)
        if before and written and written != before and not {written, before} <= _JAPANESE:
            borders.add(place)
        before = written or before
    borders |= {found.start() for found in JAPANESE_BORDER.finditer(chunk)}
    return {offset + place for place in borders - {0, len(chunk)}}
