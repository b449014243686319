"""The sources of splicing: every stretch of every language that can be inserted, drawn to fit the room that is left."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from common.manifest import Utterance
from datamodules.splicing.splice_options import Splicing
from datamodules.splicing.splice_text import bare
from datamodules.splicing.stretches import Stretch, cuttable

_TRIES = 16


class Room(NamedTuple):
    """Room in the model's window, in samples at 16 kHz, and in its decoder, in tokens."""

    samples: int
    tokens: int

    def minus(self, *others: Room) -> Room:
        """What is left; negative where the others need more."""
        return Room(self.samples - sum(o.samples for o in others), self.tokens - sum(o.tokens for o in others))

    def plus(self, other: Room) -> Room:
        """Both together."""
        return Room(self.samples + other.samples, self.tokens + other.tokens)

    def holds(self, other: Room) -> bool:
        """Whether `other` fits."""
        return other.samples <= self.samples and other.tokens <= self.tokens


class Insert(NamedTuple):
    """A stretch of a source utterance, which is the `index`-th of `pair`, and the room that it takes."""

    room: Room
    pair: str
    index: int
    utterance: Utterance
    stretch: Stretch


@dataclass(eq=False)
class InsertPool:
    """All stretches of the sources that can be inserted, and all runs of their words, by language.

    Args:
        options: `jitter_s` and `shortest_s`, under which nothing is inserted.
        sources: utterances by pair.
        count_tokens: how many tokens a text takes.
        whole: the room that a whole utterance has; a language's smallest insert takes the smallest share of it.
    """

    options: Splicing
    sources: Mapping[str, Sequence[Utterance]]
    count_tokens: Callable[[str], int]
    whole: Room

    def __post_init__(self) -> None:
        whole, options = self.whole, self.options
        self.left_out: Counter[str] = Counter()
        self._inserts: dict[tuple[str, str | None], list[Insert]] = defaultdict(list)  # by language and speaker
        for pair, utterances in self.sources.items():
            for index, utterance, found in cuttable(utterances, options.jitter_s, 0.0, self.left_out):
                for run in (run for stretch in found for run in stretch.runs()):
                    if run.duration_s >= options.shortest_s and bare(run.text):
                        room = Room(run.end - run.begin, self.count_tokens(run.text))
                        insert = Insert(room, pair, index, utterance, run)
                        for speaker in {None, utterance.speaker or None}:
                            self._inserts[run.language, speaker].append(insert)
        for inserts in self._inserts.values():
            inserts.sort(key=lambda insert: insert.room.samples)
        self._smallest = {
            language: min(inserts, key=lambda i: max(i.room.samples / whole.samples, i.room.tokens / whole.tokens))
            for (language, speaker), inserts in self._inserts.items()
            if speaker is None
        }

    @property
    def languages(self) -> list[str]:
        """The languages of which there are inserts."""
        return list(self._smallest)

    def counts(self) -> dict[str, int]:
        """How many inserts there are of each language."""
        return {language: len(self._inserts[language, None]) for language in self._smallest}

    def least_room(self, language: str) -> Room:
        """The room that the language's smallest insert takes."""
        return self._smallest[language].room

    def draw(self, language: str, room: Room, rng: random.Random, speaker: str | None = None) -> Insert:
        """Draws an insert evenly among those that fit.

        Args:
            language: its language.
            room: what it must fit into; the language's `least_room` must fit.
            rng: the source of randomness.
            speaker: whose inserts are preferred, where one of them is short enough.
        """
        for whose in (speaker or None, None):
            inserts = self._inserts.get((language, whose), [])
            fitting = bisect_right(inserts, room.samples, key=lambda insert: insert.room.samples)
            if fitting:
                break
        for _ in range(_TRIES):  # the length is nearly always the limit, so inserts are not sorted by tokens
            insert = inserts[rng.randrange(fitting)]
            if room.holds(insert.room):
                return insert
        return self._smallest[language]
