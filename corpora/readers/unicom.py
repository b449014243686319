"""UniCoM (Lee and others, EMNLP Findings 2025): FLEURS sentences with words swapped in from their translation.

Its generator writes `intra/<split>/eng_deu/metadata.csv` with the wavs beside it; `anchor` holds the cumulative lengths
of the joined segments, which are the exact switch times.
"""

import ast
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, repeat
from pathlib import PurePosixPath
from typing import Any, ClassVar

from common.errors import UserError
from common.json_lines import wrong_field
from common.languages import ENGLISH_NAMES
from common.manifest import Span
from corpora.readers.reader import Clip, LeftOut, Notice, Reader, Record, iso_639_3, languages_of
from corpora.readers.source import SourceFiles
from corpora.readers.splits import split_named
from corpora.readers.tables import FIELDS, read_csv, text_field, unknown_fields

ANCHOR_RATE_HZ = 16000
_INTEGER = r"(?:np\.int\d+\()?(\d+)\)?"
_ARRAY = re.compile(rf"(?:array\()?\[\s*{_INTEGER}(?:[\s,]+{_INTEGER})*\s*\](?:,\s*dtype=\w+)?\)?")


@dataclass(frozen=True)
class UniCoM(Reader):
    """de-en training speech spliced from FLEURS (UniCoM, not CS-FLEURS).

    Mixed sentences spliced from two recordings and converted to one voice; lower-case, without punctuation.
    """

    needs: ClassVar[str] = "the generator's output folder (the one that holds intra/), from the authors or made anew"
    licence: ClassVar[str] = "UniCoM: not published; made from FLEURS (CC-BY-4.0)"
    sample_rate_hz: ClassVar[int | None] = ANCHOR_RATE_HZ
    held_out: ClassVar[str | None] = "cs_fleurs/*/test.jsonl"

    pair: str = "de-en"
    """The language pair, matrix language of the study first."""

    def read(self, source: SourceFiles) -> Iterator[Record | LeftOut | Notice]:
        """Yield the rows of the pair's metadata files, split by split."""
        codes = [iso_639_3(language) for language in languages_of(self.pair)]
        this, other = (f"*{'_'.join(order)}/metadata.csv" for order in (codes, reversed(codes)))
        for table in [*source.glob(this), *source.glob(other)] or source.require(other, f"UniCoM's {self.pair} table"):
            folder = PurePosixPath(table).parent
            split = split_named(folder.parent.name) or folder.parent.name or "train"
            unknown: set[str] = set()
            for where, row in read_csv(source, table):
                yield from unknown_fields(row, FIELDS["unicom"], where, unknown)
                yield self._record(row, where, folder, split)

    def _record(self, row: dict[str, Any], where: str, folder: PurePosixPath, split: str) -> Record:
        sources = [_language(row, f"source language {index}", where) for index in (1, 2)]
        matrix = _language(row, "major language", where)
        text = text_field(row, "transcription", where)
        file = folder / PurePosixPath(text_field(row, "file path", where).replace("\\", "/")).name
        pairs = _word_pairs(text_field(row, "word pair", where), where)
        spans = spans_of(text, matrix, sources, pairs, _anchors(text_field(row, "anchor", where), where))
        about = {"spans": spans, "source_sentence_id": f"fleurs:{_sentence(row, where)}"}
        return Record(file.stem, where, Clip(str(file)), text, self.pair, split, matrix, **about)


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
    times = pairwise(end / ANCHOR_RATE_HZ for end in (0, *ends)) if len(parts) == len(ends) else repeat((None, None))
    spans = [Span(language, *time, text) for (language, text), time in zip(parts, times, strict=False)]
    return tuple(span for span in spans if span.text.strip())


def _language(row: dict[str, Any], field: str, where: str) -> str:
    name = text_field(row, field, where)
    if name not in ENGLISH_NAMES:
        raise wrong_field(where, field, name, f"one of {', '.join(ENGLISH_NAMES)}")
    return ENGLISH_NAMES[name]


def _word_pairs(cell: str, where: str) -> list[tuple[str, str]]:
    try:
        pairs = [(first, second) for first, second in ast.literal_eval(cell)]
        if all(isinstance(word, str) and word for pair in pairs for word in pair):
            return pairs
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    raise wrong_field(where, "word pair", cell[:60], "a list of pairs like [('hello', 'hallo')]")


def _anchors(cell: str, where: str) -> list[int]:
    anchors = [int(number) for number in re.findall(_INTEGER, cell.split("[")[-1].split("]")[0])]
    if not _ARRAY.fullmatch(cell.strip()) or sorted(anchors) != anchors:
        raise wrong_field(where, "anchor", cell[:60], "sample counts, which must not fall, like [16000 24000]")
    return anchors


def _sentence(row: dict[str, Any], where: str) -> int:
    first, second = (text_field(row, f"source id {index}", where) for index in (1, 2))
    with contextlib.suppress(ValueError):
        if int(float(first)) == int(float(second)):
            return int(float(first))
    found = f"the fields 'source id 1' and 'source id 2' are {first!r} and {second!r}, expected one FLEURS id twice"
    raise UserError(f"{where}: {found}; without it leaks into the test set cannot be found")
