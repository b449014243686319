"""Phrases and their translations: one sentence spoken in two languages, in which a phrase can change its language.

A switch there keeps the meaning of the sentence, as in UniCoM (arXiv:2508.15244).
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize

from common.errors import UserError
from common.json_lines import read_rows
from common.manifest import Utterance
from datamodules.splicing.inserts import Insert, Room
from datamodules.splicing.splice_text import bare
from datamodules.splicing.stretches import Stretch, cuttable

Words = tuple[int, int]  # the first word of a run, and the one after its last


class PhrasedSentence(NamedTuple):
    """A sentence in one language, the `row`-th of its file: where in its text each numbered phrase begins and ends."""

    row: int
    phrases: dict[str, tuple[int, int]]

    def words(self, stretch: Stretch) -> dict[str, Words]:
        """The words of each phrase, without phrases that begin or end inside a word."""
        places, position = [], 0
        for index, word in enumerate(stretch.words):
            begin = position + len(word.space) * (index > 0)
            position = begin + len(word.text)
            places.append((begin, begin + len(bare(word.text))))
        found = {}
        for number, (begin, end) in self.phrases.items():
            inside = [index for index, place in enumerate(places) if place[0] < end and begin < place[1]]
            if inside and places[inside[0]][0] == begin and places[inside[-1]][1] <= end:
                found[number] = (inside[0], inside[-1] + 1)
        return found


class Translations:
    """The numbered phrases of the sources' sentences, by sentence and language.

    Args:
        path: JSON lines, a sentence each, with a list of `[number, text]` under each language's code; phrases of one
            number are translations of each other, and those without a number have no translation.
        sources: utterances by pair; those that say a sentence of the file in one language are used.
        shortest_s: a phrase under this many seconds is not inserted.
        count_tokens: how many tokens a text takes.

    Raises:
        UserError: where the file cannot be read, or no source says a sentence of it.
    """

    def __init__(
        self,
        path: Path,
        sources: Mapping[str, Sequence[Utterance]],
        shortest_s: float,
        count_tokens: Callable[[str], int],
    ) -> None:
        self._sentences = {(language, text): sentence for language, text, sentence in _read(path)}
        self._spoken: dict[tuple[int, str], list[dict[str, Insert]]] = defaultdict(list)  # by row and language
        for pair, utterances in sources.items():
            for index, utterance, found in cuttable(utterances, 0.0, 0.0, Counter()):
                sentence = self._sentences.get((found[0].language, found[0].text)) if len(found) == 1 else None
                if sentence is None:
                    continue
                inserts = {}
                for number, (first, end) in sentence.words(found[0]).items():
                    run = Stretch(found[0].language, found[0].words[first:end])
                    if run.duration_s >= shortest_s and bare(run.text):
                        room = Room(run.end - run.begin, count_tokens(run.text))
                        inserts[number] = Insert(room, pair, index, utterance, run)
                self._spoken[sentence.row, found[0].language].append(inserts)
        if not self._spoken:
            raise UserError(f"data.splice.phrases: no utterance of {', '.join(sources)} says a sentence of {path}")

    def draw(
        self, found: Sequence[Stretch], language: str, rng: random.Random, speaker: str | None = None
    ) -> dict[Words, Insert]:
        """Draw some of an utterance's phrases and give their translations, by the words that these replace.

        At least one word stays. The result is empty for an utterance in two languages or a sentence not in the file.

        Args:
            found: the utterance's stretches.
            language: of the translations.
            rng: the source of randomness.
            speaker: whose translations are preferred.
        """
        stretch = found[0]
        sentence = self._sentences.get((stretch.language, stretch.text)) if len(found) == 1 else None
        spoken = self._spoken.get((sentence.row, language), []) if sentence else []
        if speaker:
            spoken = [one for one in spoken if any(i.utterance.speaker == speaker for i in one.values())] or spoken
        if not spoken:
            return {}
        inserts = rng.choice(spoken)
        places = {number: words for number, words in sentence.words(stretch).items() if number in inserts}
        most = len(places) - (sum(end - first for first, end in places.values()) == len(stretch.words))
        if most < 1:
            return {}
        return {places[number]: inserts[number] for number in rng.sample(sorted(places), rng.randint(1, most))}


def _read(path: Path) -> Iterator[tuple[str, str, PhrasedSentence]]:
    """Yield each sentence of a file with its language and text; lines without a list of phrases have none."""
    for row, (where, content) in enumerate(read_rows(path)):
        for language, parts in content.items():
            if isinstance(parts, list) and language != "spans":
                whole, phrases = "", {}
                for number, text in _parts(parts, language, where):
                    text = text if whole else text.lstrip()
                    if number:
                        phrases[number] = (len(whole), len(whole) + len(text))
                    whole += text
                yield language, whole.strip(), PhrasedSentence(row, phrases)


def _parts(parts: list[Any], language: str, where: str) -> Iterator[tuple[str, str]]:
    for part in parts:
        if not (isinstance(part, list) and len(part) == 2 and all(isinstance(item, str) for item in part)):
            raise UserError(f"{where}: {language!r} must be a list of [number, text], found {part!r:.80}")
        yield part[0], normalize("NFC", part[1])
