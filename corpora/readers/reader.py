"""The base class of readers: they turn the layout of a corpus into records, and do nothing else.

A reader knows where a corpus keeps its audio, text, languages and speakers. Everything that all corpora share (opening
folders, archives and hub snapshots, measuring audio, guarding against leaks, cutting, counting, writing) is done
around it, by `corpora.corpus`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from common.errors import UserError, nearest
from common.languages import ISO_639_3
from common.manifest import Span
from corpora.readers.source import SourceFiles


@dataclass(frozen=True, slots=True)
class Clip:
    """Where an utterance's audio is stored: in a file of the source, or as bytes from a table.

    `name` is the file's name within the source (for bytes: the name to store them under). `start_s` and `duration_s`
    cut a part out of it. `raw_rate_hz` says that the file is headerless 16-bit little-endian mono at that rate.
    """

    name: str
    data: bytes | None = None
    start_s: float = 0.0
    duration_s: float | None = None
    raw_rate_hz: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One utterance as the corpus states it, its audio not yet opened.

    `where` is its place for messages ("file:line"), `matrix_language` by default the pair's first, `split_from` the
    name that its split was read from.
    """

    id: str
    where: str
    clip: Clip
    text: str
    pair: str
    split: str
    matrix_language: str | None = None
    spans: tuple[Span, ...] | None = None
    speaker: str | None = None
    source_sentence_id: str | None = None
    stated_duration_s: float | None = None
    split_from: str = ""
    labels: dict[str, Any] | None = None


class LeftOut(NamedTuple):
    """An utterance left out, and why: the reason names the file and the field."""

    id: str
    reason: str


class Notice(NamedTuple):
    """Something that the user should know about the corpus, but that leaves out no utterance."""

    kind: str
    message: str


@dataclass(frozen=True)
class Reader(ABC):
    """A corpus. A subclass's dataclass fields, each with a docstring, are its command-line options.

    The first line of its docstring names the corpus for the list of commands; the rest describes the layout.
    """

    name: ClassVar[str]
    """The name of the module, which is also that of the corpus and of the command."""
    needs: ClassVar[str]
    licence: ClassVar[str]
    hub_id: ClassVar[str | None] = None
    sample_rate_hz: ClassVar[int | None] = None
    held_out: ClassVar[str | None] = None
    """Test manifests this corpus is known to overlap with: a glob beside the output folder."""

    def __init_subclass__(cls) -> None:
        """Name the corpus by its module."""
        cls.name = cls.__module__.rpartition(".")[2]

    @abstractmethod
    def read(self, source: SourceFiles) -> Iterator[Record | LeftOut | Notice]:
        """Yield the corpus's utterances in a fixed order.

        Raises:
            UserError: naming file, line and field, where the layout is not the one this reader knows.
        """

    def hub_patterns(self) -> list[str] | None:
        """The files of the Hub's repository that this reader reads; None for all."""
        return None

    def manifest(self, record: Record) -> str:
        """The manifest a record goes to, relative to the output folder, without its suffix."""
        return record.split


def languages_of(pair: str) -> list[str]:
    """`["ko", "de"]` for `ko-de`, `["ko"]` for `ko`.

    Raises:
        UserError: where it is not two-letter codes joined by `-`.
    """
    if not re.fullmatch(r"[a-z]{2}(-[a-z]{2})*", pair):
        raise UserError(f"pair {pair!r}: expected two-letter language codes joined by '-', like ko-de")
    return pair.split("-")


def iso_639_3(language: str) -> str:
    """`kor` for `ko`.

    Raises:
        UserError: where the language is not in the table.
    """
    if language not in ISO_639_3:
        raise UserError(f"language {language!r}: not one of {', '.join(ISO_639_3)}{nearest(language, ISO_639_3)}")
    return ISO_639_3[language]


def joined_spans(parts: list[tuple[str, str]]) -> tuple[Span, ...]:
    """Make spans of (language, text) parts: empty parts are dropped, neighbours in one language joined."""
    spans: list[Span] = []
    for language, text in parts:
        if spans and spans[-1].language == language:
            spans[-1] = Span(language, text=(spans[-1].text or "") + text)
        elif text.strip():
            spans.append(Span(language, text=text))
    return tuple(spans)
