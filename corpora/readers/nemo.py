"""A NeMo manifest: JSON lines of `audio_filepath`, `duration`, `text`, and `offset`, `lang`, `speaker` where given."""

import posixpath
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from common.json_lines import wrong_field
from corpora.readers.folder import Folder
from corpora.readers.reader import Clip, Record, languages_of
from corpora.readers.source import SourceFiles
from corpora.readers.splits import SplitFinder
from corpora.readers.tables import FIELDS, number_field, optional_text, text_field


@dataclass(frozen=True, kw_only=True)
class Nemo(Folder):
    """A NeMo manifest (audio_filepath, duration, text, offset, lang).

    Manifests of a folder, each a split by its name (`train.jsonl`, `dev_manifest.json`), or a single one.

    Unlike a corpus from elsewhere, a NeMo manifest is one's own: its audio paths may be absolute.
    """

    needs: ClassVar[str] = "the manifest or a folder of them, and --pair"

    corpus: str = "nemo"
    """The corpus's name, written into every row."""

    def _tables(self, source: SourceFiles) -> list[str]:
        tables = [name for name in source.names if name.endswith((".json", ".jsonl"))]
        return tables or source.require("*.jsonl", "or .json: NeMo manifests")

    def _known(self, row: dict[str, Any]) -> list[str]:
        return FIELDS["nemo"]

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
            raise wrong_field(where, "lang", language, f"one of the pair's, {languages}")
        offset_s, duration_s = number_field(row, "offset", where), number_field(row, "duration", where)
        identity = optional_text(row, "id", where) or (f"{name}@{offset_s:g}" if offset_s else name)
        about = {"speaker": optional_text(row, "speaker", where), "split_from": split_from}
        clip = Clip(file if file in source else path)
        if offset_s is None:
            about["stated_duration_s"] = duration_s
        else:  # with an offset, even of 0, the duration says where the part ends
            clip = replace(clip, start_s=offset_s, duration_s=duration_s)
        return Record(identity, where, clip, text_field(row, "text", where), self.pair, split, language, **about)
