"""FLEURS (Conneau and others, SLT 2022): the same sentences read aloud in 102 languages."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from common.errors import UserError
from common.json_lines import wrong_field
from corpora.readers.reader import Clip, LeftOut, Notice, Reader, Record, languages_of
from corpora.readers.source import SourceFiles

RATE_HZ = 16000
_COLUMNS = ("id", "file_name", "raw_transcription", "transcription", "characters", "num_samples", "gender")


@dataclass(frozen=True)
class Fleurs(Reader):
    """Read sentences in single languages, for splicing and against forgetting (FLEURS).

    `<language>_<region>/<split>.tsv`, without a header, beside `audio/<split>/<file>`.
    """

    needs: ClassVar[str] = "the languages' folders of google/fleurs, their audio unpacked"
    licence: ClassVar[str] = "CC-BY-4.0"
    sample_rate_hz: ClassVar[int | None] = RATE_HZ
    held_out: ClassVar[str | None] = "cs_fleurs/*/test.jsonl"

    languages: tuple[str, ...] = ("ko", "ja", "de", "en")
    """The languages to read."""
    normalized: bool = False
    """Take the lower-case text without punctuation, in place of what was read aloud."""

    def read(self, source: SourceFiles) -> Iterator[Record | LeftOut | Notice]:
        """Yield each language's rows, split by split, in the files' order."""
        for language in self.languages:
            languages_of(language)
            tables = [name for name in source.names if re.search(rf"(^|/){language}_\w+/(train|dev|test)\.tsv$", name)]
            if not tables:
                what, held = f"FLEURS's tables of {language}", ", ".join(source.names[:5]) or "nothing"
                raise UserError(f"{source.root}: no *{language}_*/train.tsv in it ({what}); it holds {held}")
            for table in tables:
                _require_audio(source, table)
                for number, line in enumerate(source.lines(table), start=1):
                    if line:
                        yield self._record(line, f"{source.where(table)}:{number}", source, table, language)

    def manifest(self, record: Record) -> str:
        """`ko/train` and the like."""
        return f"{record.pair}/{record.split}"

    def _record(self, line: str, where: str, source: SourceFiles, table: str, language: str) -> Record:
        cells = line.split("\t")
        if len(cells) != len(_COLUMNS):
            expected = f"{len(_COLUMNS)} cells between tabs ({', '.join(_COLUMNS)})"
            raise UserError(f"{where}: {len(cells)} cells, expected {expected}")
        row = dict(zip(_COLUMNS, cells, strict=True))
        for name in ("id", "num_samples"):
            if not re.fullmatch("[0-9]+", row[name]):
                raise wrong_field(where, name, row[name], "a whole number")
        split = PurePosixPath(table).stem
        audio = source.beside(table, f"audio/{split}/{row['file_name']}", where, "file_name")
        return Record(
            id=f"{language}-{PurePosixPath(audio).stem}",
            where=where,
            clip=Clip(audio),
            text=row["transcription" if self.normalized else "raw_transcription"].strip(),
            pair=language,
            split=split,
            source_sentence_id=f"fleurs:{int(row['id'])}",
            stated_duration_s=int(row["num_samples"]) / RATE_HZ,
        )


def _require_audio(source: SourceFiles, table: str) -> None:
    """Refuse a split whose recordings are still packed, with the command that unpacks them."""
    folder, split = PurePosixPath(table).parent / "audio", PurePosixPath(table).stem
    packed = str(folder / f"{split}.tar.gz")
    if packed in source and not source.glob(f"{folder}/{split}/*"):
        where, target = source.where(packed), source.where(str(folder))
        raise UserError(f"{where}: the recordings are packed; unpack them: tar xzf {where} -C {target}")
