"""The Korean-Japanese test set of 450 sentences by two speakers, whose columns' names are published nowhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from corpora.readers.parquet import clip_of, file_name, read_parquet
from corpora.readers.reader import LeftOut, Notice, Reader, Record
from corpora.readers.source import SourceFiles
from corpora.readers.tables import optional_text, text_field, unknown_fields


@dataclass(frozen=True)
class KoJa(Reader):
    """ko-ja test speech, two speakers.

    Parquet files with an audio and a text column; without an `id` column, ids are row numbers.
    """

    needs: ClassVar[str] = "the hub's thetaone-ai/Korean-Japanese-Code-Switching-Speech (the default) or a folder"
    licence: ClassVar[str] = "Apache-2.0"
    hub_id: ClassVar[str | None] = "thetaone-ai/Korean-Japanese-Code-Switching-Speech"

    audio_column: str = "audio"
    """The column with the audio."""
    text_column: str = "text"
    """The column with the transcript."""
    speaker_column: str = "speaker"
    """The column with the speaker, if any."""

    def read(self, source: SourceFiles) -> Iterator[Record | LeftOut | Notice]:
        """Yield the rows in the files' order, all as the test split."""
        known, unknown = {self.audio_column, self.text_column, self.speaker_column, "id"}, set()
        for where, number, row in read_parquet(source, [self.audio_column, self.text_column]):
            yield from unknown_fields(row, known, where, unknown)
            if number == 0 and self.speaker_column not in row:
                yield Notice("no speaker", f"{where}: no column {self.speaker_column!r}; speakers stay unnamed")
            identity = file_name(optional_text(row, "id", where) or f"ko_ja_{number:04d}")
            clip = clip_of(row, self.audio_column, identity, where, source)
            text, speaker = text_field(row, self.text_column, where), optional_text(row, self.speaker_column, where)
            yield Record(identity, where, clip, text, "ko-ja", "test", speaker=speaker)
