"""The manifest: one JSON line per utterance, the only format between a corpus and training.

`audio_filepath`, `duration`, `text`, `offset` and `lang` are NeMo's names, so a NeMo manifest can be read and
NeMo reads ours. Audio paths are relative to the manifest's folder.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import atomic_file, check_name
from common.json_lines import read_rows, wrong_field
from common.printing import warn
from common.trust import absolute, audio_outside

_CONTROL_TOKEN = re.compile(r"<\|[^|<>]*\|>")
_ABOUT = ("speaker", "source", "source_sentence_id", "split", "licence")


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one language inside an utterance.

    `start` and `end` are seconds from the utterance's begin, `text` its part of the transcript; each is None where
    the corpus does not give it.
    """

    language: str
    start: float | None = None
    end: float | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recorded sentence: where its audio lies (seconds), what was said, and in which languages.

    `pair` is `ko-en` for mixed speech (matrix language of the corpus first) and `ko` for a single language.
    """

    id: str
    audio: Path
    duration: float
    text: str
    pair: str
    matrix_language: str
    offset: float = 0.0
    spans: tuple[Span, ...] | None = None
    speaker: str | None = None
    source: str | None = None
    source_sentence_id: str | None = None
    split: str | None = None
    licence: str | None = None

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of the pair, e.g. `("ko", "en")`."""
        return tuple(self.pair.split("-"))


def write_manifest(path: Path | str, utterances: Iterable[Utterance]) -> None:
    """Write utterances as JSON lines, atomically, audio paths relative to the manifest's folder."""
    path = Path(path)
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        for utterance in utterances:
            file.write(json.dumps(to_row(utterance, path.parent), ensure_ascii=False) + "\n")


def read_manifest(path: Path | str, *, check_audio: bool = True) -> list[Utterance]:
    """Read a whole manifest; see `iter_manifest`.

    Raises:
        UserError: also where the manifest holds no utterance, or an id twice.
    """
    utterances = {}
    for utterance in iter_manifest(path, check_audio=check_audio):
        if utterance.id in utterances:
            raise UserError(f"{path}: the id {utterance.id!r} stands twice; ids must be unique within a manifest")
        utterances[utterance.id] = utterance
    if not utterances:
        raise UserError(f"{path}: the manifest holds no utterance")
    return list(utterances.values())


def iter_manifest(path: Path | str, *, check_audio: bool = True) -> Iterator[Utterance]:
    """Yield the manifest's utterances line by line, texts in NFC, audio paths resolved.

    Warns once about audio outside the folders where it is expected (see `common.trust`).

    Raises:
        UserError: naming file, line and field, where the manifest is missing, a line is not a JSON object, a field is
            missing or of the wrong kind, a text is empty, or (with `check_audio`) audio does not exist.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such manifest")
    folders: dict[Path, None] = {}
    for where, row in read_rows(path):
        utterance = _utterance(row, where, path.parent, check_audio)
        folders[utterance.audio.parent] = None
        yield utterance
    _say_outside(str(path), tuple(folders))


@cache
def _say_outside(manifest: str, folders: tuple[Path, ...]) -> None:
    if outside := audio_outside(manifest, folders):
        warn(f"{manifest}: takes sound from {outside}, outside its own folder and the working folder")


def _utterance(row: dict[str, Any], where: str, folder: Path, check_audio: bool) -> Utterance:
    row = {"offset": 0.0} | {name: value for name, value in row.items() if value is not None}
    audio_name = _field(row, "audio_filepath", where, alias="audio")
    if "\\" in audio_name and not (folder / audio_name).is_file():
        audio_name = audio_name.replace("\\", "/")
    audio = Path(absolute(folder / audio_name))  # `..` is resolved without following links
    duration, offset = (float(_field(row, name, where, "a number of seconds")) for name in ("duration", "offset"))
    text = unicodedata.normalize("NFC", _field(row, "text", where)).strip()
    if not text:
        raise UserError(f"{where}: the text is empty; every utterance needs a transcript (or drop the line)")
    check_plain(text, where)
    if not duration:
        raise UserError(f"{where}: the field 'duration' is 0, expected seconds above 0")
    if check_audio and not audio.is_file():
        raise UserError(f"{where}: the audio file {audio} does not exist")
    language = _field(row, "matrix_language", where, alias="lang")
    return Utterance(
        id=str(row.get("id") or (f"{audio.stem}@{offset:g}" if offset else audio.stem)),
        audio=audio,
        duration=duration,
        text=text,
        pair=check_name(_field(row, "pair", where) if row.get("pair") else language, f"{where}: the pair"),
        matrix_language=language,
        offset=offset,
        spans=_spans(row.get("spans"), where),
        **{name: str(row[name]) if name in row else None for name in _ABOUT},
    )


def _field(row: dict[str, Any], name: str, where: str, expected: str = "text", alias: str = "") -> Any:
    value = row.get(name, row.get(alias))
    if value is None:
        raise UserError(f"{where}: the field {name!r} is missing" + (f" (or {alias!r})" if alias else ""))
    if not (isinstance(value, str) if expected == "text" else _is_time(value)):
        raise wrong_field(where, name, value, expected)
    return value


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _spans(spans: Any, where: str) -> tuple[Span, ...] | None:
    if not isinstance(spans, list | None):
        raise UserError(f"{where}: the field 'spans' is {type(spans).__name__}, expected a list or null")
    for span in spans or ():
        if not isinstance(span, dict) or not isinstance(span.get("language"), str):
            raise UserError(f"{where}: a span must be an object with a 'language', found {span!r}")
        if unknown := set(span) - {"language", "start", "end", "text"}:
            raise UserError(f"{where}: a span has unknown fields {sorted(unknown)}")
        for name in ("start", "end"):
            if span.get(name) is not None and not _is_time(span[name]):
                raise UserError(f"{where}: a span's {name!r} is {span[name]!r}, expected seconds")
    return None if spans is None else tuple(Span(**span) for span in spans)


def to_row(utterance: Utterance, folder: Path) -> dict[str, Any]:
    """The fields of an utterance's line in a manifest that lies in `folder`."""
    audio, folder = utterance.audio.absolute(), folder.absolute()
    audio = audio.relative_to(folder) if audio.is_relative_to(folder) else audio
    row = {"id": utterance.id, "audio_filepath": audio.as_posix(), "offset": utterance.offset}
    names = ("duration", "text", "pair", "matrix_language", "spans", *_ABOUT)
    row |= {name: getattr(utterance, name) for name in names}
    if utterance.spans is not None:
        row["spans"] = [{k: v for k, v in asdict(span).items() if v is not None} for span in utterance.spans]
    return row


def check_plain(text: str, where: str) -> None:
    """Refuse a transcript that holds control tokens of Whisper, which tools that write timestamps leave in it.

    Raises:
        UserError: naming the first.
    """
    if found := _CONTROL_TOKEN.search(text):
        raise UserError(f"{where}: the text holds the control token {found[0]}, which nobody says; take them out")


def listed(names: Iterable[str | None]) -> str | None:
    """Join licences or sources as one text, `A; B`, each once; the texts may be such lists themselves."""
    return "; ".join(dict.fromkeys(one for name in names if name for one in name.split("; "))) or None
