"""Sentences as they are written, before anybody speaks them: JSON lines of spans, or plain text of one language.

A JSON line is a sentence: `id`, `split` (train, dev or test), `matrix` (its matrix language) and `spans`, a list of
`[language, text]` whose texts joined are the sentence. What else the line says goes to `<split>.labels.json`, by id.
A line without spans and with a list of `[phrase, text]` under each language's code is a sentence in several languages
side by side: a sentence of each single-language corpus, whose spans are its words, or its phrases where the language
has no spaces.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import check_name
from common.input_files import read_text
from common.json_lines import read_rows, wrong_field
from common.languages import UNSPACED, scripts_of
from corpora.readers.tables import text_field

OWN_SETS = Path(__file__).parent / "sentence_sets"
SPLITS = ("train", "dev", "test")
_FIELDS = ("id", "split", "matrix", "spans")
_LANGUAGE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True)
class WrittenSentence:
    """A sentence to be spoken.

    Args:
        id: unique in its corpus; the name of its audio file.
        split: `train`, `dev` or `test`.
        corpus: the corpus it belongs to: `ko-en`, or `ko` for a single language.
        matrix: its matrix language.
        spans: `(language, text)`; the texts joined are the sentence.
        where: file and line, for messages.
        labels: whatever else is said of it.
    """

    id: str
    split: str
    corpus: str
    matrix: str
    spans: tuple[tuple[str, str], ...]
    where: str = ""
    labels: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The whole sentence."""
        return "".join(text for _, text in self.spans).strip()

    @property
    def source_id(self) -> str:
        """A hash of the sentence, whatever its case, to find training sentences that are also test sentences."""
        return hashlib.blake2b(self.text.casefold().encode(), digest_size=6).hexdigest()


def read_sentence_sets(
    paths: Iterable[Path], language: str | None = None, split: str = "train"
) -> list[WrittenSentence]:
    """Return the sentences of several files, in order.

    Args:
        paths: `.jsonl` files, or plain text with a sentence a line.
        language: of plain text.
        split: of plain text.

    Raises:
        UserError: naming file and line, where a line is not as it should be, an id is there twice, or a sentence of
            another split is also a test sentence of its corpus.
    """
    sentences = []
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: no such sentence set; expected a .jsonl file, or plain text with --language")
        read = _json_lines(path) if path.suffix == ".jsonl" else _plain(path, language, split)
        found = list(read)
        if not found:
            raise UserError(f"{path}: the sentence set is empty")
        sentences += found
    _refuse_twice(sentences)
    return sentences


def _json_lines(path: Path) -> Iterator[WrittenSentence]:
    names = {frozenset(path.stem.split("-")): path.stem}  # the corpus of two languages: the file's name, if it fits
    for where, row in read_rows(path):
        if "spans" in row:
            yield _mixed(row, where, names)
        else:
            yield from _side_by_side(row, where)


def _mixed(row: dict[str, Any], where: str, names: dict[frozenset[str], str]) -> WrittenSentence:
    spans = _pairs(row["spans"], "spans", where)
    languages = list(dict.fromkeys(language for language, _ in spans))
    for language in languages:
        if not _LANGUAGE.fullmatch(language):
            raise UserError(f"{where}: {language!r} is no language code, expected one such as 'ko'")
    matrix = row.get("matrix", languages[0])
    if matrix not in languages:
        raise UserError(f"{where}: the matrix language {matrix!r} is none of its spans' languages {languages}")
    if len(languages) > 2:
        raise UserError(f"{where}: {len(languages)} languages in a sentence, expected one or two: {languages}")
    corpus = row.get("pair") or names.setdefault(frozenset(languages), "-".join(sorted(languages, key=matrix.__ne__)))
    if not isinstance(corpus, str) or sorted(corpus.split("-")) != sorted(languages):
        raise UserError(f"{where}: the spans are of {languages}, expected those of the pair {corpus!r}")
    labels = {key: value for key, value in row.items() if key not in (*_FIELDS, "pair")}
    return WrittenSentence(_id(row, where), _split(row, where), corpus, matrix, spans, where, labels)


def _side_by_side(row: dict[str, Any], where: str) -> Iterator[WrittenSentence]:
    languages = [key for key, value in row.items() if _LANGUAGE.fullmatch(key) and isinstance(value, list)]
    if not languages:
        raise UserError(f"{where}: expected 'spans', a list of [language, text], or such a list by language code")
    for language in languages:
        parts = _pairs(row[language], language, where)
        labels = {key: value for key, value in row.items() if key not in (*_FIELDS, *languages)}
        labels |= {"phrases": [list(part) for part in parts]}
        spans = _words(language, [text for _, text in parts])
        name = f"{language}-{_id(row, where)}"
        yield WrittenSentence(name, _split(row, where), language, language, spans, where, labels)


def _plain(path: Path, language: str | None, split: str) -> Iterator[WrittenSentence]:
    if language is None:
        raise UserError(f"{path}: plain text needs --language, a code such as 'de' (a mixed sentence set is .jsonl)")
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            name = check_name(f"{path.stem}-{number:05d}", f"{path}: rename the file, as its name begins the ids")
            spans = _words(language, [unicodedata.normalize("NFC", line).strip()])
            yield WrittenSentence(name, split, language, language, spans, f"{path}:{number}")


def _words(language: str, phrases: list[str]) -> tuple[tuple[str, str], ...]:
    """Return spans for the words of a sentence in one language, or for its phrases, where words have no spaces."""
    if scripts_of(language).isdisjoint(UNSPACED):
        phrases = re.findall(r"\s*\S+\s*$|\s*\S+", "".join(phrases))
    spans: list[tuple[str, str]] = []
    for text in phrases:
        if spans and not re.search(r"\w", text):
            text = spans.pop()[1] + text
        spans.append((language, text))
    return tuple(spans)


def _pairs(value: Any, name: str, where: str) -> tuple[tuple[str, str], ...]:
    fine = isinstance(value, list) and all(
        isinstance(part, list) and len(part) == 2 and all(isinstance(item, str) for item in part) for part in value
    )
    if not fine or not "".join(text for _, text in value).strip():
        raise UserError(f"{where}: {name!r} must be a list of [language, text], not empty, found {value!r:.80}")
    return tuple((language, unicodedata.normalize("NFC", text)) for language, text in value)


def _id(row: dict[str, Any], where: str) -> str:
    return check_name(text_field(row, "id", where), f"{where}: 'id'")  # it becomes an audio file's name


def _split(row: dict[str, Any], where: str) -> str:
    if row.get("split") not in SPLITS:
        raise wrong_field(where, "split", row.get("split"), f"one of {', '.join(SPLITS)}")
    return row["split"]


def _refuse_twice(sentences: list[WrittenSentence]) -> None:
    first: dict[tuple[str, str], WrittenSentence] = {}
    for sentence in sentences:
        other = first.setdefault((sentence.corpus, sentence.id), sentence)
        if other is not sentence:
            raise UserError(f"{sentence.where}: the id {sentence.id!r} is already that of {other.where}")
    tested = {(s.corpus, s.source_id): s for s in sentences if s.split == "test"}
    for sentence in sentences:
        other = tested.get((sentence.corpus, sentence.source_id))
        if other and sentence.split != "test":
            raise UserError(
                f"{sentence.where}: the {sentence.split} sentence {sentence.id!r} is also the test sentence "
                f"{other.id!r} of {other.where}; drop one"
            )
