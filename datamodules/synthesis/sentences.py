"""The demo's sentences: frames filled from the lexicon, in one language or switching between two."""

from __future__ import annotations

import functools
import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.synthesis.grammar import GRAMMARS, Filler, Slot, capitalised, particle
from datamodules.synthesis.lexicon import Word, spoken, words, written
from datamodules.synthesis.mixing import Pieces, switched

_SLOT = re.compile(r"\{([a-z+]+)(?::([a-z,]+))?(?:\|([^}]+))?\}")
_TABLES = {"verb": "verbs", "adj": "adjectives", "adverb": "adverbs", "time": "times", "place": "places"}
_LEVELS = ("word", "phrase", "sentence")
_LEVEL_WEIGHTS = (5, 3, 2)
# Seconds at the slowest rate, a little over what the voices need: a letter of Latin text, a syllable, a kana.
_SECONDS_PER_CHARACTER = {"en": 0.066, "de": 0.066, "ko": 0.16, "ja": 0.105}
LONGEST_S = 4.3


@dataclass(frozen=True)
class Frame:
    """A sentence pattern of one language: literal text and slots in turn."""

    language: str
    parts: tuple[str | Slot, ...]

    @property
    def slots(self) -> list[int]:
        """The positions of the slots among the parts."""
        return [i for i, part in enumerate(self.parts) if isinstance(part, Slot)]


@dataclass(frozen=True)
class Sentence:
    """A sentence as pieces of one language each, annotated with Japanese readings."""

    pieces: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The transcript."""
        return "".join(written(text, language) for language, text in self.pieces).strip()

    @property
    def spans(self) -> list[tuple[str, str, str]]:
        """A `(language, written, spoken)` for each stretch of one language; punctuation stays with its word."""
        return [(language, written(text, language).strip(), spoken(text, language)) for language, text in self.pieces]

    @property
    def id(self) -> str:
        """The same for the same text, in whatever corpus it stands."""
        return hashlib.blake2b(self.text.encode(), digest_size=6).hexdigest()

    @property
    def estimated_s(self) -> float:
        """About how long the sentence takes, in seconds."""
        return sum(
            _SECONDS_PER_CHARACTER[language] * len(re.sub(r"[\W_]", "", said) if language in ("ko", "ja") else said)
            for language, _, said in self.spans
        )


@functools.cache
def frames(language: str) -> tuple[Frame, ...]:
    """The frames of a language, one a line of `frames/<language>.txt`."""
    lines = (Path(__file__).parent / "frames" / f"{language}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(Frame(language, tuple(_parse(line))) for line in lines)


def _parse(line: str) -> Iterator[str | Slot]:
    end = 0
    for match in _SLOT.finditer(line):
        if match.start() > end:
            yield line[end : match.start()]
        kind, tags, form = match.groups()
        yield Slot(kind, frozenset(tags.split(",")) if tags else frozenset(), form or "")
        end = match.end()
    if end < len(line):
        yield line[end:]


def fill(frame: Frame, rng: random.Random) -> dict[int, Filler]:
    """Draws a word for every slot: an object that its verb takes, a noun that its adjective describes."""
    slots = {i: frame.parts[i] for i in frame.slots}
    kinds = {slot.kind for slot in slots.values()}
    drawn: dict[str, Word] = {}
    if "verb" in kinds:
        drawn["verb"] = rng.choice(words("verbs"))
    if "adj" in kinds:
        drawn["adj"] = rng.choice(words("adjectives"))
    return {i: _draw(slot, drawn, rng) for i, slot in slots.items()}


def _draw(slot: Slot, drawn: dict[str, Word], rng: random.Random) -> Filler:
    if slot.kind in drawn:
        return Filler(drawn[slot.kind])
    if slot.kind == "clause":
        return Filler(rng.choice(words("clauses")))
    if slot.kind in _TABLES:
        return Filler(_choose(words(_TABLES[slot.kind]), slot.tags, rng))
    if slot.kind == "object":
        noun = _choose(words("nouns"), drawn["verb"].tags, rng)
        wants_adjective = rng.random() < 0.3
    elif slot.kind == "noun" and "adj" in drawn:
        return Filler(_choose(words("nouns"), drawn["adj"].tags, rng))
    else:
        noun = _choose(words("nouns"), slot.tags or frozenset({"person"}), rng)
        wants_adjective = slot.kind == "adj+noun"
    fitting = [adjective for adjective in words("adjectives") if noun.goes_with(adjective.tags)]
    return Filler(noun, rng.choice(fitting) if wants_adjective and fitting else None)


def _choose(candidates: tuple[Word, ...], tags: frozenset[str], rng: random.Random) -> Word:
    return rng.choice([word for word in candidates if word.goes_with(tags)])


def assemble(frame: Frame, fillers: dict[int, Filler], switches: dict[int, Pieces] | None = None) -> Sentence:
    """Joins literals and filled slots, some of them switched, and settles particles, capitals and spaces."""
    pieces: Pieces = []
    for i, part in enumerate(frame.parts):
        if isinstance(part, Slot):
            pieces += (switches or {}).get(i) or [(frame.language, GRAMMARS[frame.language](part, fillers[i]))]
        elif pieces:
            language, before = pieces[-1]
            pieces.append((frame.language, particle(part, before, language)))
        else:
            pieces.append((frame.language, part))
    return Sentence(tuple(_merged(_capitalised(frame.language, pieces))))


def _capitalised(matrix: str, pieces: Pieces) -> Pieces:
    pieces = [(language, text) for language, text in pieces if text]
    if matrix in ("de", "en"):
        sentence_starts = True
        for i, (language, text) in enumerate(pieces):
            if sentence_starts:
                pieces[i] = (language, capitalised(text))
            sentence_starts = text.rstrip().endswith((".", "?")) and text.endswith(" ")
    return pieces


def _merged(pieces: Pieces) -> Pieces:
    """Joins neighbours of one language; a mark goes to the piece before it, a space to the one after."""
    merged: Pieces = []
    space = ""
    for language, text in pieces:
        if not text.strip():
            space = text
        elif merged and (merged[-1][0] == language or not re.search(r"\w", text)):
            merged[-1] = (merged[-1][0], merged[-1][1] + space + text)
            space = ""
        else:
            merged.append((language, space + text))
            space = ""
    return merged


def draw_mono(language: str, rng: random.Random) -> Sentence:
    """Draws a sentence of one language."""
    frame = rng.choice(frames(language))
    return assemble(frame, fill(frame, rng))


def draw_mixed(matrix: str, embedded: str, rng: random.Random) -> Sentence | None:
    """Draws a sentence of the matrix language with one or two switches; None where the draw has no switch."""
    level = rng.choices(_LEVELS, _LEVEL_WEIGHTS)[0]
    frame = rng.choice(
        [f for f in frames(matrix) if any(f.parts[i].kind == "clause" for i in f.slots) == (level == "sentence")]
    )
    fillers = fill(frame, rng)
    possible = {}
    for i in frame.slots:
        following = frame.parts[i + 1] if i + 1 < len(frame.parts) and isinstance(frame.parts[i + 1], str) else ""
        pieces = switched(frame.parts[i], fillers[i], matrix, embedded, level, following)
        if pieces:
            possible[i] = pieces
    if not possible:
        return None
    count = min(len(possible), 1 if level == "sentence" else rng.choice((1, 2, 2)))
    return assemble(frame, fillers, {i: possible[i] for i in rng.sample(sorted(possible), count)})


@dataclass
class Source:
    """A stream of sentences of a corpus, each short enough and never one of those already `seen`."""

    pair: str
    seed: str
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._rng = random.Random(f"{self.seed} {self.pair}")

    def take(self, count: int) -> list[Sentence]:
        """Draws `count` new sentences."""
        matrix, _, embedded = self.pair.partition("-")
        taken: list[Sentence] = []
        for _ in range(1000 * count):
            if len(taken) == count:
                return taken
            sentence = draw_mixed(matrix, embedded, self._rng) if embedded else draw_mono(matrix, self._rng)
            if sentence and sentence.text not in self.seen and sentence.estimated_s <= LONGEST_S:
                self.seen.add(sentence.text)
                taken.append(sentence)
        raise RuntimeError(f"{self.pair}: the frames give no {count} different sentences; add words or frames")
