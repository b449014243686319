"""The demo's words: one row a concept, aligned over the four languages, in `lexicon/*.tsv`.

A cell holds the forms that the templates need, separated by `/`. English and German nouns carry their article
(`a report`, `der Bericht`; `some coffee` marks what is not counted). Japanese is annotated with its reading,
`本[ほん]`, since espeak-ng's Japanese voice reads kana only, with spaces between phrases for the voice alone.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

_ANNOTATED = re.compile(r"([一-龯々]+|は|へ)\[([ぁ-んァ-ンー]+)\]")


@dataclass(frozen=True)
class Word:
    """A concept: its semantic tags, which say what goes with what, and its forms by language."""

    tags: frozenset[str]
    forms: dict[str, tuple[str, ...]]

    def __getitem__(self, language: str) -> tuple[str, ...]:
        return self.forms[language]

    def goes_with(self, tags: frozenset[str]) -> bool:
        """Whether the word has one of the tags (every word goes with no tags)."""
        return not tags or bool(self.tags & tags)


@functools.cache
def words(part_of_speech: str) -> tuple[Word, ...]:
    """The rows of one table, in file order."""
    table = Path(__file__).parent / "lexicon" / f"{part_of_speech}.tsv"
    header, *rows = (line.split("\t") for line in table.read_text(encoding="utf-8").splitlines())
    return tuple(
        Word(frozenset(tags.split()), dict(zip(header[1:], (tuple(cell.split("/")) for cell in cells), strict=True)))
        for tags, *cells in rows
    )


def written(text: str, language: str) -> str:
    """What the transcript shows of an annotated text: kanji without readings, Japanese without spaces."""
    return _ANNOTATED.sub(r"\1", text).replace(" ", "") if language == "ja" else text


def spoken(text: str, language: str) -> str:
    """What the voice is given of an annotated text: for Japanese the kana, phrase by phrase."""
    return _ANNOTATED.sub(r"\2", text).replace("。", ". ") if language == "ja" else text
