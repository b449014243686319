"""HiKE (Paik and others, EACL Findings 2026): 1,121 Korean-English sentences read aloud, with loanword labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from common.errors import UserError
from common.json_lines import parse_json, wrong_field
from corpora.readers.parquet import clip_of, file_name, read_parquet
from corpora.readers.reader import LeftOut, Notice, Reader, Record
from corpora.readers.source import SourceFiles
from corpora.readers.tables import text_field, unknown_fields

LABELS = ("text_normalized", "text_pier_labeled", "cs_level", "cs_levels_all", "category", "loanwords")
COLUMNS = ("audio", "text", "sample_id", *LABELS)


@dataclass(frozen=True)
class Hike(Reader):
    """ko-en test speech (HiKE).

    One parquet file, one `test` split; HiKE's own labels go beside the manifest, for scoring as HiKE scores.
    """

    needs: ClassVar[str] = "the hub's thetaone-ai/HiKE (the default) or a snapshot's folder"
    licence: ClassVar[str] = "Apache-2.0"
    hub_id: ClassVar[str | None] = "thetaone-ai/HiKE"

    def read(self, source: SourceFiles) -> Iterator[Record | LeftOut | Notice]:
        """Yield the rows in the file's order."""
        unknown: set[str] = set()
        for where, _, row in read_parquet(source, list(COLUMNS), "test"):
            yield from unknown_fields(row, COLUMNS, where, unknown)
            identity, text = file_name(text_field(row, "sample_id", where)), text_field(row, "text", where)
            labels = {name: row[name] for name in LABELS} | {"loanwords": _loanwords(row["loanwords"], where)}
            clip = clip_of(row, "audio", identity, where, source)
            yield Record(identity, where, clip, text, "ko-en", "test", labels=labels)


def _loanwords(cell: Any, where: str) -> list[tuple[str, str]]:
    try:
        loanwords = [(word["Korean"], word["English"]) for word in parse_json(cell, where)]
        if all(isinstance(spelling, str) for word in loanwords for spelling in word):
            return loanwords
    except (UserError, TypeError, KeyError):
        pass
    expected = "a JSON list of objects with 'Korean' and 'English'"
    raise wrong_field(where, "loanwords", str(cell)[:60], expected, "column")
