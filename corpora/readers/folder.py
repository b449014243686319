"""Anybody's own recordings: audio with a `metadata.csv` or `metadata.jsonl` (Hugging Face's AudioFolder)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar

from common.errors import UserError
from corpora.readers.reader import Clip, LeftOut, Notice, Reader, Record, languages_of, option, split_named
from corpora.readers.source import SourceFiles
from corpora.readers.tables import number_field, optional_text, read_csv, read_jsonl, text_field, unknown_fields

FIELDS = {"file_name", "transcription", "text", "id", "speaker", "duration"}


@dataclass(frozen=True)
class Folder(Reader):
    """One table or one a split folder (`train/metadata.csv`), with `file_name` and `transcription` or `text`."""

    name: ClassVar[str] = "folder"
    summary: ClassVar[str] = "your own recordings with a metadata.csv or metadata.jsonl"
    needs: ClassVar[str] = "a folder with the table (file_name, transcription or text), and --pair"

    pair: str = option(None, "the language pair, matrix language first, e.g. ko-de (or one language)")
    split: str = option("train", "the split of a table that does not lie in a folder named after one")
    corpus: str = option("folder", "the corpus's name, written into every row")
    licence: str = option("not stated", "the corpus's licence, written into every row")

    def read(self, source: SourceFiles) -> Iterator[Record | LeftOut | Notice]:
        """Yields the rows of all tables in the tables' order."""
        tables = source.glob("*metadata.csv") + source.glob("*metadata.jsonl")
        if not tables:
            source.require("*metadata.csv", "or metadata.jsonl: the table of file names and transcripts")
        for table in tables:
            split = split_named(PurePosixPath(table).parent.name) or self.split
            unknown: set[str] = set()
            for where, row in (read_csv if table.endswith(".csv") else read_jsonl)(source, table):
                yield from unknown_fields(row, FIELDS, where, unknown)
                yield self._record(row, where, source, table, split)

    def _record(self, row: dict[str, Any], where: str, source: SourceFiles, table: str, split: str) -> Record:
        name = text_field(row, "file_name", where)
        if "transcription" not in row and "text" not in row:
            raise UserError(f"{where}: neither the field 'transcription' nor 'text' is there; it has {sorted(row)}")
        file = source.beside(table, name, where, "file_name")
        return Record(
            id=optional_text(row, "id", where) or PurePosixPath(name.replace("\\", "/")).with_suffix("").as_posix(),
            where=where,
            clip=Clip(file),
            text=text_field(row, "transcription" if "transcription" in row else "text", where),
            pair=self.pair,
            matrix_language=languages_of(self.pair)[0],
            split=split,
            speaker=optional_text(row, "speaker", where),
            stated_duration_s=number_field(row, "duration", where),
        )
