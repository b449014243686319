"""The spans that splicing inserts: every language's, drawn to fit into what room there is."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from common.audio import SAMPLE_RATE_HZ
from common.manifest import Utterance
from datamodules.splicing.joining import bare
from datamodules.splicing.spans import NotCuttable, Part, cut_parts

_TRIES = 16


class Room(NamedTuple):
    """What is left of the model's window, in samples at 16 kHz, and of its decoder, in tokens."""

    samples: int
    tokens: int

    def without(self, other: Room) -> Room:
        """What is left after taking something in."""
        return Room(self.samples - other.samples, self.tokens - other.tokens)

    def plus(self, other: Room) -> Room:
        """What there is after giving something back."""
        return Room(self.samples + other.samples, self.tokens + other.tokens)

    def holds(self, other: Room) -> bool:
        """Whether there is room for something."""
        return other.samples <= self.samples and other.tokens <= self.tokens


class Filler(NamedTuple):
    """A part of a source utterance, which is the `index`-th of `pair`, and the room it takes."""

    size: Room
    pair: str
    index: int
    utterance: Utterance
    part: Part


class FillerPool:
    """All parts of the sources that can be inserted, and all runs of a part's words where they have times, by language.

    Args:
        sources: utterances by pair.
        shortest_s: parts shorter than this are left out.
        count_tokens: how many tokens a text takes.
        whole: the room there is at most, by whose measure a language's least part is found.
    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[Utterance]],
        shortest_s: float,
        count_tokens: Callable[[str], int],
        whole: Room,
    ) -> None:
        self.left_out: dict[str, Counter[str]] = defaultdict(Counter)
        self._by_language: dict[str, list[Filler]] = defaultdict(list)
        self._by_speaker: dict[tuple[str, str], list[Filler]] = defaultdict(list)
        for pair, utterances in sources.items():
            for index, utterance in enumerate(utterances):
                try:
                    parts = cut_parts(utterance)
                except NotCuttable as reason:
                    self.left_out[pair][str(reason)] += 1
                    continue
                for part in (run for whole in parts for run in whole.runs()):
                    if part.end_s - part.start_s >= shortest_s and bare(part.text):
                        size = Room(_samples(part), count_tokens(part.text))
                        filler = Filler(size, pair, index, utterance, part)
                        self._by_language[part.language].append(filler)
                        if utterance.speaker:
                            self._by_speaker[part.language, utterance.speaker].append(filler)
        for fillers in (*self._by_language.values(), *self._by_speaker.values()):
            fillers.sort(key=lambda filler: filler.size.samples)
        self._least = {
            language: min(fillers, key=lambda f: max(f.size.samples / whole.samples, f.size.tokens / whole.tokens))
            for language, fillers in self._by_language.items()
        }

    @property
    def languages(self) -> list[str]:
        """The languages of which there are parts."""
        return list(self._least)

    def counts(self) -> dict[str, int]:
        """How many parts there are of each language."""
        return {language: len(fillers) for language, fillers in self._by_language.items()}

    def least(self, language: str) -> Room:
        """The room that a part of the language takes at least."""
        return self._least[language].size

    def draw(self, language: str, room: Room, rng: random.Random, speaker: str | None = None) -> Filler:
        """A part of the language that fits the room, which must hold its `least`; of the speaker's where one fits."""
        fillers = self._by_speaker.get((language, speaker), []) if speaker else []
        fitting = _fitting(fillers, room)
        if not fitting:
            fillers = self._by_language[language]
            fitting = _fitting(fillers, room)
        for _ in range(_TRIES):  # samples nearly always decide, so that tokens need no order of their own
            filler = fillers[rng.randrange(fitting)]
            if room.holds(filler.size):
                return filler
        return self._least[language]


def _fitting(fillers: list[Filler], room: Room) -> int:
    """How many of the fillers, shortest first, are short enough."""
    return bisect_right(fillers, room.samples, key=lambda filler: filler.size.samples)


def _samples(part: Part) -> int:
    return round(part.end_s * SAMPLE_RATE_HZ) - round(part.start_s * SAMPLE_RATE_HZ)
