"""JECS (Takamichi and others): one speaker's Japanese with English in it, the English between asterisks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from common.errors import UserError
from corpora.readers.reader import Clip, LeftOut, Notice, Reader, Record, joined_spans
from corpora.readers.source import SourceFiles


@dataclass(frozen=True)
class Jecs(Reader):
    """ja-en training speech, one speaker (JECS).

    `jecs_ver1/<emotion>/transcripts_cs.txt` beside `wav24kHz16bit/<id>.wav`; no official split, all is training.
    """

    needs: ClassVar[str] = "jecs_ver1, its folder or .zip, downloaded by hand"
    licence: ClassVar[str] = "JECS: text CC-BY-3.0, audio for non-commercial research only"
    sample_rate_hz: ClassVar[int | None] = 24000

    emotions: tuple[str, ...] = ("neutral",)
    """Which of neutral, joy, sad, anger to read."""

    def read(self, source: SourceFiles) -> Iterator[Record | LeftOut | Notice]:
        """Yield the mixed sentences of each emotion in the file's order."""
        for emotion in self.emotions:
            for name in source.require(f"*{emotion}/transcripts_cs.txt", "the mixed sentences of JECS"):
                folder = PurePosixPath(name).parent
                for number, line in enumerate(source.lines(name), start=1):
                    if line.strip():
                        yield _record(line, f"{source.where(name)}:{number}", folder, emotion)


def _record(line: str, where: str, folder: PurePosixPath, emotion: str) -> Record | LeftOut:
    found = re.fullmatch(r"\s*([\w-]+)\s*:(.*)", line)
    if not found:
        raise UserError(f"{where}: expected 'JECS0001_CS: sentence', found {line[:60]!r}")
    key, marked = found[1], found[2].strip()
    parts = marked.split("*")
    if len(parts) % 2 == 0:
        return LeftOut(f"{emotion}-{key}", f"{where}: the sentence's asterisks do not pair up: {marked!r}")
    spans = joined_spans([("en" if index % 2 else "ja", part) for index, part in enumerate(parts)])
    clip = Clip(str(folder / "wav24kHz16bit" / f"{key}.wav"))
    return Record(f"{emotion}-{key}", where, clip, "".join(parts), "ja-en", "train", spans=spans, speaker="jecs")
