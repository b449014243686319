"""The plan of a spliced utterance: which samples follow each other, what they say, whose place they take.

A plan begins as a pattern: excerpts of the host among slots. Each slot takes an insert, and the excerpts in their order
give transcript and spans.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, zip_longest
from typing import NamedTuple

from common.audio import SAMPLE_RATE_HZ
from common.manifest import Span, Utterance, listed
from datamodules.splicing.inserts import Insert, InsertPool, Room
from datamodules.splicing.phrases import Words
from datamodules.splicing.splice_text import bare, ending_like, joined
from datamodules.splicing.stretches import Stretch

_LEAST_SILENCE = 320  # samples before the first slot or after the last; less is not worth a joint


class Excerpt(NamedTuple):
    """Samples `begin` to `end` of an utterance at 16 kHz.

    `stretch` is what they say, None for the silence at a host's ends; `text` is what is written for it; `insert` is
    the insert that they are from, None for the host's own.
    """

    utterance: Utterance
    begin: int
    end: int
    stretch: Stretch | None = None
    text: str = ""
    insert: Insert | None = None


class Slot(NamedTuple):
    """A place for an insert in a language, and the text that it replaces, if any."""

    language: str
    replaced: str = ""

    def filled(self, insert: Insert) -> Excerpt:
        """The insert as an excerpt; its text takes the punctuation of the text that it replaces."""
        stretch = insert.stretch
        text = ending_like(self.replaced, stretch.text, stretch.language)
        return Excerpt(insert.utterance, stretch.begin, stretch.end, stretch, text, insert)


class SplicePlan(NamedTuple):
    """A spliced utterance with transcript and spans, and the excerpts that it is joined from."""

    utterance: Utterance
    excerpts: tuple[Excerpt, ...]


Pattern = list[Excerpt | Slot]


def host_pattern(host: Utterance, found: Sequence[Stretch], kept: str, other: str, rng: random.Random) -> Pattern:
    """The whole host with a slot for each stretch that is not in the kept language.

    Args:
        host: the utterance that gives way.
        found: its stretches. Where there is only one, a run of its words is replaced.
        kept: the language that stays.
        other: the language of the slots.
        rng: draws the run of words.
    """
    marked = [(s.language == kept, s) for s in found] if len(found) > 1 else _without_a_run(found[0], rng)
    return _with_slots(host, marked, lambda run: [Slot(other, run[-1].text)])


def parallel_pattern(host: Utterance, stretch: Stretch, translations: Mapping[Words, Insert]) -> Pattern:
    """The whole host with the translations of some of its phrases in their places.

    Args:
        host: an utterance in one language.
        stretch: its words.
        translations: by the words that they replace.
    """
    parts, first = stretch.parts(*translations), 0
    inserts: dict[Stretch, Insert] = {}
    for part in parts:
        words = (first, first := first + len(part.words))
        if words in translations:
            inserts[part] = translations[words]
    marked = [(part not in inserts, part) for part in parts]
    return _with_slots(
        host, marked, lambda run: [Slot(inserts[s].stretch.language, s.text).filled(inserts[s]) for s in run]
    )


def _with_slots(
    host: Utterance, marked: Sequence[tuple[bool, Stretch]], filling: Callable[[list[Stretch]], Pattern]
) -> Pattern:
    """The host, from its begin to its end, with a filling for each run of stretches that do not stay.

    Args:
        host: the utterance.
        marked: its stretches, each with whether it stays.
        filling: what stands for a run.
    """
    replaced = [[s for _, s in run] for is_kept, run in groupby(marked, key=lambda mark: mark[0]) if not is_kept]
    stays: list[Stretch | None] = [stretch for is_kept, stretch in marked if is_kept]
    stays = [None] * (not marked[0][0]) + stays + [None] * (not marked[-1][0])
    borders = [border for run in replaced for border in (run[0].begin, run[-1].end)]
    borders = [0, *borders, round(host.duration * SAMPLE_RATE_HZ)]
    pattern: Pattern = []
    for stretch, begin, end, run in zip_longest(stays, borders[::2], borders[1::2], replaced):
        if stretch or end - begin >= _LEAST_SILENCE:
            pattern.append(Excerpt(host, begin, end, stretch, stretch.text if stretch else ""))
        if run:
            pattern += filling(run)
    return pattern


def _without_a_run(stretch: Stretch, rng: random.Random) -> list[tuple[bool, Stretch]]:
    """Split a stretch into two or three, each with whether it stays: a run of words, but never all, is replaced."""
    count = len(stretch.words)
    first = rng.choice(stretch.beginnings)
    end = rng.randint(first + 1, count if first else count - 1)
    return [(index != (first > 0), part) for index, part in enumerate(stretch.parts((first, end)))]


def chain_pattern(
    host: Utterance, found: Sequence[Stretch], kept: str, other: str, count: int, rng: random.Random
) -> Pattern:
    """One of the host's stretches among slots, the two languages in turn.

    Args:
        host: the utterance that the stretch is from.
        found: its stretches.
        kept: the language of the chosen stretch.
        other: the other language.
        count: the stretch and the slots together.
        rng: draws the stretch, its place, and the language that begins.
    """
    own = rng.choice([stretch for stretch in found if stretch.language == kept])
    first = rng.randrange(2)
    place = rng.choice(range(first, count, 2))
    pattern: Pattern = [Slot(kept if index % 2 == first else other) for index in range(count)]
    pattern[place] = Excerpt(host, own.begin, own.end, own, bare(own.text))
    return pattern


def fill(
    pattern: Pattern, pool: InsertPool, gap: int, rng: random.Random, speaker: str | None = None
) -> tuple[Excerpt, ...] | None:
    """The pattern with an insert in each slot; None where even the smallest inserts do not fit.

    Args:
        pattern: excerpts and slots.
        pool: where inserts are drawn from, and the room that a whole utterance has.
        gap: samples of silence between neighbours.
        rng: draws the inserts.
        speaker: whose inserts are preferred.
    """
    least = [
        pool.least_room(item.language)
        if isinstance(item, Slot)
        else Room(item.end - item.begin, pool.count_tokens(item.text) if item.stretch else 0)
        for item in pattern
    ]
    left = pool.whole.minus(Room(gap * (len(pattern) - 1), 0), *least)
    if min(left) < 0:
        return None
    excerpts: list[Excerpt] = []
    for item, own in zip(pattern, least, strict=True):
        if isinstance(item, Slot):
            insert = pool.draw(item.language, left.plus(own), rng, speaker)
            left = left.plus(own).minus(insert.room)
            item = item.filled(insert)
        excerpts.append(item)
    return tuple(excerpts)


def spliced_utterance(
    host: Utterance, pair: str, matrix: str | None, excerpts: Sequence[Excerpt], gap: int
) -> Utterance:
    """The utterance that joined excerpts make: its transcript, spans with times, sources and licences.

    Args:
        host: gives whatever splicing does not change.
        pair: the pair that it is of.
        matrix: its matrix language; by default the one spoken for most of the time.
        excerpts: what it is joined from.
        gap: samples of silence between two excerpts.
    """
    spans, samples, spoken = [], 0, Counter[str]()
    for excerpt in excerpts:
        if stretch := excerpt.stretch:
            spoken[stretch.language] += excerpt.end - excerpt.begin
            start = samples + stretch.begin - excerpt.begin
            times = (start / SAMPLE_RATE_HZ, (start + stretch.end - stretch.begin) / SAMPLE_RATE_HZ)
            spans.append(Span(stretch.language, *times, excerpt.text))
        samples += excerpt.end - excerpt.begin + gap
    matrix = matrix or spoken.most_common(1)[0][0]
    sources = dict.fromkeys(excerpt.utterance for excerpt in excerpts)
    return replace(
        host,
        id="+".join(source.id for source in sources),
        duration=(samples - gap) / SAMPLE_RATE_HZ,
        offset=0.0,
        text=joined([excerpt.stretch.says(excerpt.text) for excerpt in excerpts if excerpt.stretch], matrix),
        pair=pair,
        matrix_language=matrix,
        spans=tuple(spans),
        source=listed(source.source for source in sources),
        source_sentence_id=None,
        licence=listed(source.licence for source in sources),
    )
