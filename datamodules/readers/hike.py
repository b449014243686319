"""HiKE (Paik and others, EACL Findings 2026): 1,121 Korean-English sentences read aloud, with loanword labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from common.errors import UserError
from datamodules.readers.base import Notice, Reader, Record, Skipped
from datamodules.readers.parquet import clip_of, file_name, read_parquet
from datamodules.readers.source import Source, text_field

LABELS = ("text_normalized", "text_pier_labeled", "cs_level", "cs_levels_all", "category", "loanwords")


@dataclass(frozen=True)
class Hike(Reader):
    """One parquet file, one `test` split; HiKE's own labels go beside the manifest, for scoring as HiKE scores."""

    name: ClassVar[str] = "hike"
    summary: ClassVar[str] = "ko-en test speech (HiKE)"
    needs: ClassVar[str] = "the hub's thetaone-ai/HiKE (the default) or a snapshot's folder"
    licence: ClassVar[str] = "Apache-2.0"
    hub_id: ClassVar[str | None] = "thetaone-ai/HiKE"

    def read(self, source: Source) -> Iterator[Record | Skipped | Notice]:
        """Yields the rows in the file's order."""
        for where, number, row in read_parquet(source, ["audio", "text", "sample_id", *LABELS], "test"):
            if number == 0:
                for column in sorted(set(row) - {"audio", "text", "sample_id", *LABELS}):
                    yield Notice(
                        "unknown field", f"{where}: the column {column!r} is not one this reader knows; ignored"
                    )
            identity = file_name(text_field(row, "sample_id", where))
            yield Record(
                id=identity,
                where=where,
                clip=clip_of(row, "audio", identity, where, source),
                text=text_field(row, "text", where),
                pair="ko-en",
                matrix_language="ko",
                split="test",
                labels={name: row[name] for name in LABELS} | {"loanwords": _loanwords(row["loanwords"], where)},
            )


def _loanwords(cell: Any, where: str) -> list[tuple[str, str]]:
    try:
        loanwords = [(word["Korean"], word["English"]) for word in json.loads(cell)]
        if not all(isinstance(spelling, str) for word in loanwords for spelling in word):
            raise ValueError(cell)
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"{where}: the column 'loanwords' is {str(cell)[:60]!r}, expected a JSON list of objects with 'Korean' and "
            "'English'"
        ) from None
    return loanwords
