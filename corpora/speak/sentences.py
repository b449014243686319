"""The demo's sentences: templates filled from the lexicon, in one language or switching between two."""

import functools
import hashlib
import random
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError
from corpora.speak.grammar import GRAMMARS, Blank, Filling, Word, capitalised, particle, spoken, words, written
from corpora.speak.mixing import Pieces, switched

_BLANK = re.compile(r"\{([a-z+]+)(?::([a-z,]+))?(?:\|([^}]+))?\}")
_TABLES = {kind: f"{kind}s" for kind in ("verb", "adverb", "time", "place", "clause")} | {"adj": "adjectives"}
_ADJECTIVE_SHARE = 0.3
_LEVELS = {"word": 5, "phrase": 3, "sentence": 2}  # their weights in the draw
# Seconds at the slowest rate, a little over what the voices need: a letter of Latin text, a syllable, a kana.
_SECONDS_PER_CHARACTER = {"en": 0.066, "de": 0.066, "ko": 0.16, "ja": 0.105}
LONGEST_S = 4.3
LONGEST_SALAD_S = 2.8  # each full stop in it adds a pause


class Template(NamedTuple):
    """A sentence pattern of one language: literal text, which may be empty, and blanks in turn."""

    language: str
    parts: tuple[str | Blank, ...]

    @property
    def blanks(self) -> list[int]:
        """The positions of the blanks among the parts."""
        return [i for i, part in enumerate(self.parts) if isinstance(part, Blank)]


class Sentence(NamedTuple):
    """A sentence as pieces of one language each, annotated with Japanese readings."""

    pieces: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The transcript."""
        return "".join(written(text, language) for language, text in self.pieces).strip()

    @property
    def key(self) -> str:
        """The text without capitals, which cannot be heard."""
        return self.text.casefold()

    @property
    def spans(self) -> list[tuple[str, str, str]]:
        """A `(language, written, spoken)` for each stretch of one language; punctuation stays with its word."""
        return [(language, written(text, language).strip(), spoken(text, language)) for language, text in self.pieces]

    @property
    def id(self) -> str:
        """A hash of the text, equal in every corpus."""
        return hashlib.blake2b(self.text.encode(), digest_size=6).hexdigest()

    @property
    def estimated_s(self) -> float:
        """About how long the sentence takes, in seconds."""
        sounds = [(code, re.sub(r"[\W_]", "", said) if code in ("ko", "ja") else said) for code, _, said in self.spans]
        return sum(_SECONDS_PER_CHARACTER[code] * len(said) for code, said in sounds)


@functools.cache
def templates(language: str) -> tuple[Template, ...]:
    """The templates of a language, one a line of `templates/<language>.txt`."""
    lines = (Path(__file__).parent / "templates" / f"{language}.txt").read_text(encoding="utf-8").splitlines()
    return tuple(Template(language, _parse(line)) for line in lines)


def _parse(line: str) -> tuple[str | Blank, ...]:
    literal, *blanks = _BLANK.split(line)
    parts: list[str | Blank] = [literal]
    for kind, tags, form, literal in zip(*[iter(blanks)] * 4, strict=True):
        parts += [Blank(kind, frozenset(tags.split(",") if tags else ()), form or ""), literal]
    return tuple(parts)


class Picker:
    """A seeded random choice that evens out how often words are used: the least used of three candidates."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self._used: Counter[int] = Counter()

    def word(self, part_of_speech: str, tags: frozenset[str] = frozenset()) -> Word:
        """Picks a word of a table that has one of the tags."""
        candidates = [word for word in words(part_of_speech) if word.goes_with(tags)]
        word = min(self.random.choices(candidates, k=3), key=lambda word: self._used[id(word)])
        self._used[id(word)] += 1
        return word


def fill(template: Template, picker: Picker) -> dict[int, Filling]:
    """Picks a word for every blank: an object that its verb takes, a noun that its adjective describes."""
    blanks = {i: template.parts[i] for i in template.blanks}
    heads = {blank.kind: picker.word(_TABLES[blank.kind]) for blank in blanks.values() if blank.kind in ("verb", "adj")}
    return {i: _pick(blank, heads, picker) for i, blank in blanks.items()}


def _pick(blank: Blank, heads: dict[str, Word], picker: Picker) -> Filling:
    if blank.kind in heads:
        return Filling(heads[blank.kind])
    if blank.kind in _TABLES:
        return Filling(picker.word(_TABLES[blank.kind], blank.tags))
    tags = frozenset({"person"}) if blank.kind == "person" else blank.tags
    head = heads.get({"noun": "adj", "object": "verb"}.get(blank.kind, ""))
    noun = picker.word("nouns", head.tags if head else tags)
    is_described = blank.kind == "adj+noun" or (blank.kind == "object" and picker.random.random() < _ADJECTIVE_SHARE)
    is_described &= "person" not in noun.tags  # which no adjective describes
    return Filling(noun, picker.word("adjectives", noun.tags) if is_described else None)


def assemble(template: Template, fillings: dict[int, Filling], switches: dict[int, Pieces] | None = None) -> Sentence:
    """Joins literals and filled blanks into a sentence with its particles, capitals and spaces.

    Args:
        template: literals and blanks.
        fillings: the words of each blank, by position.
        switches: what replaces a blank's word, in the embedded language, by position.
    """
    pieces: Pieces = []
    for i, part in enumerate(template.parts):
        if isinstance(part, Blank):
            pieces += (switches or {}).get(i) or [(template.language, GRAMMARS[template.language](part, fillings[i]))]
        else:
            language, before = pieces[-1] if pieces else (template.language, "")
            pieces.append((template.language, particle(part, before, language)))
    return Sentence(tuple(_merged(template.language, _capitalised(template.language, pieces))))


def _capitalised(matrix: str, pieces: Pieces) -> Pieces:
    written_out: Pieces = []
    starts = matrix in ("de", "en")
    for language, text in pieces:
        if text:
            written_out.append((language, capitalised(text) if starts else text))
            starts = matrix in ("de", "en") and text.rstrip().endswith((".", "?")) and text.endswith(" ")
    return written_out


def _merged(matrix: str, pieces: Pieces) -> Pieces:
    """Joins neighbours of one language; a lone mark goes to the piece before, a lone space to the matrix language."""
    merged: Pieces = []
    space = ""
    for language, text in pieces:
        if not text.strip() and merged and merged[-1][0] != matrix:
            space = text
            continue
        if merged and (merged[-1][0] == language or not re.search(r"\w", text)):
            merged[-1] = (merged[-1][0], merged[-1][1] + space + text)
        else:
            merged.append((language, space + text))
        space = ""
    return merged


def draw_mono(language: str, picker: Picker) -> Sentence:
    """Draws a sentence of one language."""
    template = picker.random.choice(templates(language))
    return assemble(template, fill(template, picker))


def draw_salad(language: str, picker: Picker) -> Sentence:
    """Draws one to three phrases of different templates, one after the other.

    What comes next cannot be guessed, so that a model trained on it has to listen.
    """
    parts: list[str | Blank] = []
    fillings: dict[int, Filling] = {}
    for _ in range(picker.random.randint(1, 3)):
        template = picker.random.choice(templates(language))
        i = picker.random.choice(template.blanks)
        fillings[len(parts)] = fill(template, picker)[i]
        parts += [template.parts[i], template.parts[i + 1].rstrip() + " "]
    return assemble(Template(language, tuple(parts)), fillings)


def draw_mixed(matrix: str, embedded: str, picker: Picker) -> Sentence | None:
    """Draws a sentence of the matrix language with one or two switches; None where the draw has no switch.

    A word that both languages spell alike but for capitals, as `laptop`, is no switch.

    Args:
        matrix: the language of the template.
        embedded: the language of the switches.
        picker: draws template, words and switches.
    """
    rng = picker.random
    level = rng.choices(list(_LEVELS), list(_LEVELS.values()))[0]
    is_whole = level == "sentence"
    fitting = [one for one in templates(matrix) if is_whole == any(one.parts[i].kind == "clause" for i in one.blanks)]
    template = rng.choice(fitting)
    fillings = fill(template, picker)
    possible: dict[int, Pieces] = {}
    for i, filling in fillings.items():
        if pieces := switched(template.parts[i], filling, matrix, embedded, level, template.parts[i + 1]):
            possible[i] = pieces
    if not possible:
        return None
    count = min(len(possible), 1 if is_whole else rng.choice((1, 2, 2)))
    mixed = assemble(template, fillings, {i: possible[i] for i in rng.sample(sorted(possible), count)})
    return mixed if mixed.key != assemble(template, fillings).key else None


class SentenceStream:
    """A stream of sentences of a corpus, each short enough and none whose `key` is among those already `seen`."""

    def __init__(self, pair: str, seed: str, seen: set[str]) -> None:
        self.pair, self.seen, self._picker = pair, seen, Picker(f"{seed} {pair}")

    def take(self, count: int, *, salad: bool = False) -> list[Sentence]:
        """Draws `count` new sentences, or as many salads of phrases.

        Raises:
            UserError: where the templates and words give no more.
        """
        matrix, _, embedded = self.pair.partition("-")
        longest_s = LONGEST_SALAD_S if salad else LONGEST_S
        taken: list[Sentence] = []
        for _ in range(100 * count):
            if len(taken) == count:
                return taken
            if embedded:
                sentence = draw_mixed(matrix, embedded, self._picker)
            else:
                sentence = (draw_salad if salad else draw_mono)(matrix, self._picker)
            if sentence and sentence.key not in self.seen and sentence.estimated_s <= longest_s:
                self.seen.add(sentence.key)
                taken.append(sentence)
        given = f"the demo's templates and words gave {len(taken)} new sentences of the {count} asked for"
        raise UserError(f"{self.pair}: {given}; ask for fewer, or add words or templates")
