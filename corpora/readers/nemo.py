"""A NeMo manifest: JSON lines of `audio_filepath`, `duration`, `text`, and `offset`, `lang`, `speaker` where given."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from common.errors import UserError
from corpora.readers.reader import Clip, LeftOut, Notice, Reader, Record, languages_of
from corpora.readers.source import SourceFiles
from corpora.readers.splits import SplitFinder
from corpora.readers.tables import number_field, optional_text, read_jsonl, text_field, unknown_fields

FIELDS = {"audio_filepath", "duration", "text", "offset", "lang", "speaker", "id"}


@dataclass(frozen=True, kw_only=True)
class Nemo(Reader):
    """Manifests of a folder, each a split by its name (`train.jsonl`, `dev_manifest.json`), or a single one.

    Unlike a corpus from elsewhere, a NeMo manifest is one's own: its audio paths may be absolute.
    """

    name: ClassVar[str] = "nemo"
    summary: ClassVar[str] = "a NeMo manifest (audio_filepath, duration, text, offset, lang)"
    needs: ClassVar[str] = "the manifest or a folder of them, and --pair"

    pair: str
    """The language pair, matrix language first, e.g. ko-de (or one language)."""
    split: str = "auto"
    """The split of rows whose folders and table name no split (auto: train, where nothing does)."""
    corpus: str = "nemo"
    """The corpus's name, written into every row."""
    licence: str = "not stated"
    """The corpus's licence, written into every row."""

    def read(self, source: SourceFiles) -> Iterator[Record | LeftOut | Notice]:
        """Yield the manifests' lines in order."""
        tables = sorted(name for name in source.names if name.endswith((".json", ".jsonl")))
        if not tables:
            source.require("*.jsonl", "or .json: NeMo manifests")
        finder = SplitFinder(source, self.split)
        for table in tables:
            unknown: set[str] = set()
            for where, row in read_jsonl(source, table):
                yield from unknown_fields(row, FIELDS, where, unknown)
                yield self._record(row, where, source, table, finder)

    def _record(self, row: dict[str, Any], where: str, source: SourceFiles, table: str, finder: SplitFinder) -> Record:
        root, folder = posixpath.abspath(source.root), posixpath.dirname(table)
        written = text_field(row, "audio_filepath", where)
        paths = [posixpath.abspath(posixpath.join(root, folder, p)) for p in (written, written.replace("\\", "/"))]
        path = next((path for path in paths if path.removeprefix(f"{root}/") in source), paths[-1])
        file = path.removeprefix(f"{root}/")
        split, split_from = finder.find(table, file, where)
        name = posixpath.splitext(file)[0].removeprefix(f"{folder}/").lstrip("/")
        languages = languages_of(self.pair)
        language = row.get("lang") or languages[0]
        if language not in languages:
            raise UserError(f"{where}: the field 'lang' is {language!r}, expected one of the pair's, {languages}")
        offset_s = number_field(row, "offset", where)
        duration_s = number_field(row, "duration", where)
        whole = offset_s is None  # with an offset, even of 0, the duration says where the part ends
        return Record(
            id=optional_text(row, "id", where) or (f"{name}@{offset_s:g}" if offset_s else name),
            where=where,
            clip=Clip(
                file if file in source else path, start_s=offset_s or 0.0, duration_s=None if whole else duration_s
            ),
            text=text_field(row, "text", where),
            pair=self.pair,
            matrix_language=language,
            split=split,
            split_from=split_from,
            speaker=optional_text(row, "speaker", where),
            stated_duration_s=duration_s if whole else None,
        )
