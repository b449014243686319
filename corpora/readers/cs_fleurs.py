"""CS-FLEURS (Yan and others, Interspeech 2025): FLEURS sentences rewritten as mixed speech and read aloud."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from common.errors import UserError
from common.json_lines import wrong_field
from corpora.readers.reader import Clip, LeftOut, Notice, Reader, Record, iso_639_3, languages_of
from corpora.readers.source import SourceFiles
from corpora.readers.tables import FIELDS, number_field, optional_text, read_jsonl, text_field, unknown_fields


@dataclass(frozen=True)
class CsFleurs(Reader):
    """ko-en, ja-en and de-en test speech (CS-FLEURS, READ).

    `<subset>/metadata.jsonl` with paths relative to it; the READ subset (`read/test`) is spoken by people.
    """

    needs: ClassVar[str] = "the hub's byan/cs-fleurs (the default) or a snapshot's folder"
    licence: ClassVar[str] = "CC-BY-NC-4.0"
    hub_id: ClassVar[str | None] = "byan/cs-fleurs"

    pairs: tuple[str, ...] = ("ko-en", "ja-en", "de-en")
    """The language pairs to read, matrix language first."""
    subset: str = "read/test"
    """One of read/test, xtts/train, xtts/test1, xtts/test2, mms/test."""

    def read(self, source: SourceFiles) -> Iterator[Record | LeftOut | Notice]:
        """Yield the subset's rows of the wanted pairs in the file's order."""
        wanted = {"-".join(map(iso_639_3, languages_of(pair))): pair for pair in self.pairs}
        (table, *more) = source.require(f"*{self.subset}/metadata.jsonl", f"the {self.subset} subset")
        if more:
            raise UserError(f"{source.root}: {self.subset}/metadata.jsonl is in it {len(more) + 1} times")
        unknown: set[str] = set()
        seen: set[str] = set()
        for where, row in read_jsonl(source, table):
            yield from unknown_fields(row, FIELDS["cs_fleurs"], where, unknown)
            language = text_field(row, "language", where)
            seen.add(language)
            if language in wanted:
                yield self._record(row, where, wanted[language], source, table)
        if missing := sorted(set(wanted) - seen):
            raise UserError(f"{source.where(table)}: no row has the language {missing[0]!r}; it has {sorted(seen)}")

    def hub_patterns(self) -> list[str] | None:
        """The subset's table, and its audio where the pairs' folders are known."""
        if self.subset != "read/test":
            return [f"{self.subset}/*"]
        matrices = [iso_639_3(languages_of(pair)[0]) for pair in self.pairs]
        return [f"{self.subset}/metadata.jsonl", *(f"{self.subset}/audio/{matrix}/*" for matrix in matrices)]

    def manifest(self, record: Record) -> str:
        """`ko-en/test` for READ, `ko-en/xtts-train` and the like for the others."""
        return f"{record.pair}/{'test' if self.subset == 'read/test' else self.subset.replace('/', '-')}"

    def _record(self, row: dict[str, Any], where: str, pair: str, source: SourceFiles, table: str) -> Record:
        identity = text_field(row, "id", where)
        sentence = re.search(r"\d+", identity)
        if not sentence:
            raise wrong_field(where, "id", identity, "a FLEURS id in it, like deu_1234")
        file = source.beside(table, text_field(row, "file_name", where), where, "file_name")
        split = "train" if self.subset.endswith("train") else "test"
        about = {"source_sentence_id": f"fleurs:{int(sentence[0])}", "speaker": optional_text(row, "speaker", where)}
        about |= {"stated_duration_s": number_field(row, "duration", where)}
        return Record(identity, where, Clip(file), text_field(row, "text", where), pair, split, **about)
