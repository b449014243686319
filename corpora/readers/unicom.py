"""UniCoM (Lee and others, EMNLP Findings 2025): FLEURS sentences with words swapped in from their translation.

Its generator writes `intra/<split>/eng_deu/metadata.csv` with the wavs beside it; `anchor` holds the cumulative lengths
of the joined segments, which are the exact switch times.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar

from common.errors import UserError
from common.languages import ENGLISH_NAMES
from common.manifest import Span
from corpora.readers.reader import Clip, LeftOut, Notice, Reader, Record, iso_639_3, languages_of
from corpora.readers.source import SourceFiles
from corpora.readers.splits import split_named
from corpora.readers.tables import read_csv, text_field, unknown_fields

COLUMNS = {"file path", "major language", "word pair", "anchor", "transcription"} | {
    f"source {name} {index}" for name in ("path", "id", "language", "transcription", "roman") for index in (1, 2)
}
ANCHOR_RATE_HZ = 16000
_INTEGER = r"(?:np\.int\d+\()?(\d+)\)?"
_ARRAY = re.compile(rf"(?:array\()?\[\s*{_INTEGER}(?:[\s,]+{_INTEGER})*\s*\](?:,\s*dtype=\w+)?\)?")


@dataclass(frozen=True)
class UniCoM(Reader):
    """Mixed sentences spliced from two recordings and converted to one voice; lower-case, without punctuation."""

    name: ClassVar[str] = "unicom"
    summary: ClassVar[str] = "de-en training speech spliced from FLEURS (UniCoM, not CS-FLEURS)"
    needs: ClassVar[str] = "the generator's output folder (the one that holds intra/), from the authors or made anew"
    licence: ClassVar[str] = "UniCoM: not published; made from FLEURS (CC-BY-4.0)"
    sample_rate_hz: ClassVar[int | None] = ANCHOR_RATE_HZ
    held_out: ClassVar[str | None] = "cs_fleurs/*/test.jsonl"

    pair: str = "de-en"
    """The language pair, matrix language of the study first."""

    def read(self, source: SourceFiles) -> Iterator[Record | LeftOut | Notice]:
        """Yield the rows of the pair's metadata files, split by split."""
        codes = [iso_639_3(language) for language in languages_of(self.pair)]
        tables = source.glob(f"*{'_'.join(codes)}/metadata.csv") + source.glob(
            f"*{'_'.join(reversed(codes))}/metadata.csv"
        )
        if not tables:
            source.require(f"*{'_'.join(reversed(codes))}/metadata.csv", f"UniCoM's {self.pair} table")
        for table in tables:
            folder = PurePosixPath(table).parent
            split = split_named(folder.parent.name) or folder.parent.name or "train"
            unknown: set[str] = set()
            for where, row in read_csv(source, table):
                yield from unknown_fields(row, COLUMNS, where, unknown)
                yield self._record(row, where, folder, split)

    def _record(self, row: dict[str, Any], where: str, folder: PurePosixPath, split: str) -> Record:
        sources = [_language(row, f"source language {index}", where) for index in (1, 2)]
        matrix = _language(row, "major language", where)
        text = text_field(row, "transcription", where)
        file = PurePosixPath(text_field(row, "file path", where).replace("\\", "/")).name
        spans = spans_of(
            text,
            matrix,
            sources,
            _word_pairs(text_field(row, "word pair", where), where),
            _anchors(text_field(row, "anchor", where), where),
        )
        return Record(
            id=PurePosixPath(file).stem,
            where=where,
            clip=Clip(str(folder / file)),
            text=text,
            pair=self.pair,
            matrix_language=matrix,
            split=split,
            spans=spans,
            source_sentence_id=f"fleurs:{_sentence(row, where)}",
        )


def spans_of(
    text: str, matrix: str, languages: list[str], pairs: list[tuple[str, str]], ends: list[int]
) -> tuple[Span, ...] | None:
    """The alternating spans of a spliced sentence.

    The words swapped in are found in the text one after the other; the generator leaves out an empty first or last
    segment, and so do we. Times are given where as many segments as anchors remain. None where a word is not found, or
    found twice: the generator swaps one in the audio and all in the text, and does not say which one is spoken.

    Args:
        text: the sentence.
        matrix: its matrix language.
        languages: of the first and second words of the pairs.
        pairs: words swapped in and out.
        ends: cumulative samples at which the segments end.
    """
    embedded_index = 1 - languages.index(matrix)
    parts: list[tuple[str, str]] = []
    rest = text
    for pair in pairs:
        places = list(re.finditer(rf"(?<!\w){re.escape(pair[embedded_index])}(?!\w)", rest))
        if len(places) != 1:
            return None
        (found,) = places
        parts += [(matrix, rest[: found.start()]), (languages[embedded_index], found.group())]
        rest = rest[found.end() :]
    parts.append((matrix, rest))
    parts = parts[0 if parts[0][1].strip() else 1 : len(parts) if parts[-1][1].strip() else -1]
    timed = len(parts) == len(ends)
    starts = [0, *ends[:-1]]
    return tuple(
        Span(
            language,
            starts[index] / ANCHOR_RATE_HZ if timed else None,
            ends[index] / ANCHOR_RATE_HZ if timed else None,
            part,
        )
        for index, (language, part) in enumerate(parts)
        if part.strip()
    )


def _language(row: dict[str, Any], field: str, where: str) -> str:
    name = text_field(row, field, where)
    if name not in ENGLISH_NAMES:
        raise UserError(f"{where}: the field {field!r} is {name!r}, expected one of {', '.join(ENGLISH_NAMES)}")
    return ENGLISH_NAMES[name]


def _word_pairs(cell: str, where: str) -> list[tuple[str, str]]:
    try:
        pairs = ast.literal_eval(cell)
        if not all(len(pair) == 2 and all(isinstance(word, str) and word for word in pair) for pair in pairs):
            raise ValueError(cell)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise UserError(
            f"{where}: the field 'word pair' is {cell[:60]!r}, expected a list of pairs like [('hello', 'hallo')]"
        ) from None
    return [tuple(pair) for pair in pairs]


def _anchors(cell: str, where: str) -> list[int]:
    if not _ARRAY.fullmatch(cell.strip()):
        raise UserError(
            f"{where}: the field 'anchor' is {cell[:60]!r}, expected ascending sample counts like [16000 24000]"
        )
    anchors = [int(number) for number in re.findall(_INTEGER, cell.split("[")[1].split("]")[0])]
    if sorted(anchors) != anchors:
        raise UserError(f"{where}: the field 'anchor' is {cell[:60]!r}; cumulative sample counts must not fall")
    return anchors


def _sentence(row: dict[str, Any], where: str) -> int:
    first, second = (text_field(row, f"source id {index}", where) for index in (1, 2))
    try:
        sentence = {int(float(first)), int(float(second))}
    except ValueError:
        sentence = set()
    if len(sentence) != 1:
        raise UserError(
            f"{where}: the fields 'source id 1' and 'source id 2' are {first!r} and {second!r}, expected one FLEURS id "
            "twice; without it leaks into the test set cannot be found"
        )
    return sentence.pop()
