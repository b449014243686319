"""A user's own recordings: audio with a `metadata.csv` or `metadata.jsonl` (Hugging Face's AudioFolder)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar

from common.errors import UserError
from corpora.readers.reader import Clip, LeftOut, Notice, Reader, Record
from corpora.readers.source import SourceFiles
from corpora.readers.splits import SplitFinder
from corpora.readers.tables import FIELDS, number_field, optional_text, read_table, text_field, unknown_fields

TABLES = ("metadata.csv", "metadata.tsv", "metadata.jsonl")


@dataclass(frozen=True, kw_only=True)
class Folder(Reader):
    """Your own recordings with a metadata.csv or metadata.jsonl.

    One table or one a split folder (`train/metadata.csv`), with `file_name` and `transcription` or `text`.
    """

    needs: ClassVar[str] = "a folder with the table (file_name, transcription or text), and --pair"

    pair: str
    """The language pair, matrix language first, e.g. ko-de (or one language)."""
    split: str = "auto"
    """The split of rows that neither a folder nor the table names one for (auto: train, where none is named)."""
    corpus: str = "folder"
    """The corpus's name, written into every row."""
    licence: str = "not stated"
    """The corpus's licence, written into every row."""

    def read(self, source: SourceFiles) -> Iterator[Record | LeftOut | Notice]:
        """Yield the rows of all tables in the tables' order."""
        finder = SplitFinder(source, self.split)
        for table in self._tables(source):
            unknown: set[str] = set()
            for where, row in read_table(source, table):
                yield from unknown_fields(row, self._known(row), where, unknown)
                yield self._record(row, where, source, table, finder)

    def _tables(self, source: SourceFiles) -> list[str]:
        tables = [name for ending in TABLES for name in source.glob(f"*{ending}")]
        tables += [name for name in source.glob("*.tsv") if name not in tables and _is_of_common_voice(source, name)]
        what = "or metadata.tsv, metadata.jsonl, Common Voice's .tsv: file names and transcripts"
        return tables or source.require("*metadata.csv", what)

    def _known(self, row: dict[str, Any]) -> list[str]:
        return FIELDS["common_voice" if "file_name" not in row and "path" in row else "folder"]

    def _record(self, row: dict[str, Any], where: str, source: SourceFiles, table: str, finder: SplitFinder) -> Record:
        if "file_name" not in row and {"path", "sentence"} <= row.keys():
            row = row | {"file_name": f"clips/{row['path']}", "text": row["sentence"], "speaker": row.get("client_id")}
        name = text_field(row, "file_name", where)
        if "transcription" not in row and "text" not in row:
            raise UserError(f"{where}: neither the field 'transcription' nor 'text' is there; it has {sorted(row)}")
        file = source.beside(table, name, where, "file_name")
        split, split_from = finder.find(table, file, where)
        identity = optional_text(row, "id", where) or str(PurePosixPath(name.replace("\\", "/")).with_suffix(""))
        text = text_field(row, "transcription" if "transcription" in row else "text", where)
        about = {"speaker": optional_text(row, "speaker", where), "split_from": split_from}
        about["stated_duration_s"] = number_field(row, "duration", where)
        return Record(identity, where, Clip(file), text, self.pair, split, **about)


def _is_of_common_voice(source: SourceFiles, name: str) -> bool:
    header = next(source.lines(name), "").split("\t")
    return {"path", "sentence"} <= set(header) and PurePosixPath(name).stem not in FIELDS["common_voice_others"]
