"""A Korean-German test set of your own: HiKE's sentences, with the English translated by hand, and recorded.

The sheet is a CSV for a spreadsheet program: `id, text, english, german`. Several English parts of a sentence are
separated by ` | `, and the German is filled in the same way. Rows left empty are left out of the test set.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

import regex

from common.errors import UserError
from common.files import atomic_file
from corpora.corpus import Prepared, prepare
from corpora.readers.hike import Hike
from corpora.readers.reader import Clip, LeftOut, Notice, Reader, Record, joined_spans
from corpora.readers.source import SourceFiles, open_source
from corpora.readers.tables import read_csv, text_field

SEPARATOR = " | "
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
_WORD = r"\p{Latin}[\p{Latin}\p{N}'’&+-]*"
_ENGLISH = regex.compile(rf"{_WORD}(?:[^\p{{L}}|]+{_WORD})*")


def write_sheet(hike: str | None, path: Path) -> list[str]:
    """Write the recording script from HiKE (a snapshot's folder or hub id; None: the hub's); returns lines to print.

    Raises:
        UserError: where HiKE cannot be read, or a sheet is already there (it may hold translations).
    """
    if path.exists():
        raise UserError(f"{path}: a sheet is already there and may hold translations; move it or choose another --out")
    source = open_source(hike, Hike.hub_id, Hike().hub_patterns())
    rows = 0
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8-sig", newline="") as file:  # for spreadsheets
        sheet = csv.writer(file)
        sheet.writerow(["id", "text", "english", "german"])
        for record in Hike().read(source):
            if isinstance(record, Record) and (english := _ENGLISH.findall(record.text)):
                sheet.writerow([record.id, " ".join(record.text.split()), SEPARATOR.join(english), ""])
                rows += 1
    return [
        f"{path}: {rows} sentences",
        "fill the column 'german', parts separated by '|' as in 'english'; an empty one leaves its sentence out,",
        "record each sentence with the German in the place of the English as <id>.wav, then:",
        f"  python prepare.py ko_de_script --sheet {path} --audio FOLDER --speaker NAME --out {path.parent}",
    ]


def prepare_recorded(sheet: Path, audio: Path, folder: Path, speaker: str | None) -> Prepared:
    """Read the filled sheet and the recordings into `test.jsonl` under `folder`.

    Args:
        sheet: the filled sheet.
        audio: the folder of the recordings.
        folder: where to write.
        speaker: who recorded them.

    Raises:
        UserError: naming the sheet's line and column, where a translation does not fit its sentence.
    """
    return prepare(KoDeSheet(str(sheet), speaker), SourceFiles(audio), folder)


@dataclass(frozen=True)
class KoDeSheet(Reader):
    """Reads the filled sheet; the source is the folder of recordings."""

    licence: ClassVar[str] = "sentences after HiKE (Apache-2.0); recordings: their makers'"

    sheet: str
    speaker: str | None

    def read(self, source: SourceFiles) -> Iterator[Record | LeftOut | Notice]:
        """Yield the filled rows in the sheet's order."""
        table = SourceFiles(self.sheet)
        recordings = {PurePosixPath(name).stem: name for name in source.names if name.lower().endswith(AUDIO_SUFFIXES)}
        for where, row in read_csv(table, Path(self.sheet).name):
            identity, german = text_field(row, "id", where), text_field(row, "german", where)
            if not german.strip():
                yield LeftOut(identity, f"{where}: the column 'german' is empty")
            elif identity not in recordings:
                others = ", ".join(AUDIO_SUFFIXES[1:])
                yield LeftOut(identity, f"{where}: no {identity}.wav (or {others}) in {source.root}")
            else:
                parts = _translated(text_field(row, "text", where), text_field(row, "english", where), german, where)
                text, spans, clip = "".join(part for _, part in parts), joined_spans(parts), Clip(recordings[identity])
                yield Record(identity, where, clip, text, "ko-de", "test", spans=spans, speaker=self.speaker)


def _translated(text: str, english: str, german: str, where: str) -> list[tuple[str, str]]:
    """The sentence as (language, text) parts, each English part replaced by its German one."""
    found = _ENGLISH.findall(text)
    if found != [part.strip() for part in english.split("|")]:
        raise UserError(f"{where}: the column 'english' is {english!r}, but 'text' holds {SEPARATOR.join(found)!r}")
    translations = [part.strip() for part in german.split("|")]
    if len(translations) != len(found) or not all(translations):
        wrong = f"{german!r}: {len(translations)} parts for the {len(found)} of {english!r}"
        raise UserError(f"{where}: the column 'german' is {wrong}; separate them by '|' in the same order")
    korean = _ENGLISH.split(text)
    parts = [("ko", korean[0])]
    for translation, after in zip(translations, korean[1:], strict=True):
        parts += [("de", translation), ("ko", after)]
    return parts
