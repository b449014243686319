"""The manifest: what is written is read back, and each broken line is named."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from common.errors import UserError
from common.manifest import Span, Utterance, iter_manifest, read_manifest, write_manifest

GOOD = {
    "id": "a",
    "audio_filepath": "a.wav",
    "duration": 1.5,
    "text": "안녕 world",
    "pair": "ko-en",
    "matrix_language": "ko",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.wav").write_bytes(b"x")
    return tmp_path


def write_lines(folder: Path, *rows: object, encoding: str = "utf-8") -> Path:
    path = folder / "m.jsonl"
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_text(text, encoding=encoding)
    return path


def test_round_trip(folder: Path):
    spans = (Span("ko", 0.0, 0.5, "안녕"), Span("en", 0.5, 1.5, "world"))
    utterance = Utterance(
        "a", folder / "a.wav", 1.5, "안녕 world", "ko-en", "ko", 0.25, spans, "s1", "demo", "17", "train", "CC0-1.0"
    )
    write_manifest(folder / "m.jsonl", [utterance])
    assert read_manifest(folder / "m.jsonl") == [utterance]
    assert json.loads((folder / "m.jsonl").read_text())["audio_filepath"] == "a.wav"  # moves with its folder


def test_reads_a_nemo_manifest(folder: Path):
    path = write_lines(folder, {"audio_filepath": "a.wav", "duration": 2, "text": "hi", "offset": 3.5, "lang": "en"})
    (utterance,) = read_manifest(path)
    assert utterance.id == "a@3.5"
    assert (utterance.offset, utterance.matrix_language, utterance.pair) == (3.5, "en", "en")


def test_a_backslash_is_a_separator_unless_a_file_is_named_with_it(folder: Path):
    (folder / "clips").mkdir()
    (folder / "clips" / "b.wav").write_bytes(b"x")
    path = write_lines(folder, GOOD | {"audio_filepath": "clips\\b.wav"})
    assert read_manifest(path)[0].audio == folder / "clips" / "b.wav"
    (folder / "clips\\b.wav").write_bytes(b"y")
    assert read_manifest(path)[0].audio == folder / "clips\\b.wav"


def test_text_becomes_nfc_and_a_bom_is_no_matter(folder: Path):
    path = write_lines(folder, GOOD | {"text": unicodedata.normalize("NFD", "한글 Übung")}, encoding="utf-8-sig")
    assert read_manifest(path)[0].text == "한글 Übung"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{not json", r"m\.jsonl:2: not JSON"),
        ("[1]", r"m\.jsonl:2: expected a JSON object, found list"),
        ({k: v for k, v in GOOD.items() if k != "text"}, r"m\.jsonl:2: the field 'text' is missing"),
        (GOOD | {"text": " \n"}, r"m\.jsonl:2: the text is empty"),
        (GOOD | {"text": 3}, r"m\.jsonl:2: the field 'text' is 3, expected text"),
        (GOOD | {"duration": 0}, r"m\.jsonl:2: the field 'duration' is 0, expected seconds above 0"),
        (GOOD | {"duration": -1}, r"m\.jsonl:2: the field 'duration' is -1, expected a number of seconds"),
        (GOOD | {"duration": float("nan")}, r"m\.jsonl:2: the field 'duration' is nan, expected a number"),
        (GOOD | {"duration": 10**400}, r"m\.jsonl:2: the field 'duration' is 1000+, expected a number"),
        (GOOD | {"duration": True}, r"m\.jsonl:2: the field 'duration' is True, expected a number"),
        (GOOD | {"offset": -0.5}, r"m\.jsonl:2: the field 'offset' is -0\.5, expected a number"),
        (GOOD | {"pair": ["ko", "en"]}, r"m\.jsonl:2: the field 'pair' is \['ko', 'en'\], expected text"),
        (json.dumps(GOOD).replace("world", r"\ud83d"), r"m\.jsonl:2: JSON that cannot be used \(half a character"),
        ("[" * 9999 + "]" * 9999, r"m\.jsonl:2: JSON that cannot be used \(nested too deep"),
        (GOOD | {"duration": "1"}, r"m\.jsonl:2: the field 'duration' is '1', expected a number"),
        (GOOD | {"audio_filepath": "no.wav"}, r"m\.jsonl:2: the audio file .*no\.wav does not exist"),
        (GOOD | {"spans": [{"start": 0}]}, r"m\.jsonl:2: a span must be an object with a 'language'"),
        (GOOD | {"spans": {"ko": 0}}, r"m\.jsonl:2: the field 'spans' is dict, expected a list or null"),
        (
            GOOD | {"spans": [{"language": "ko", "end": float("inf")}]},
            r"m\.jsonl:2: a span's 'end' is inf, expected sec",
        ),
        (GOOD | {"spans": [{"language": "ko", "begin": 0}]}, r"m\.jsonl:2: a span has unknown fields \['begin'\]"),
        (GOOD, r"the id 'a' stands twice"),
    ],
)
def test_broken_line_is_named(folder: Path, row: object, message: str):
    with pytest.raises(UserError, match=message):
        read_manifest(write_lines(folder, GOOD, row))


def test_whole_characters_beyond_the_basic_plane_are_read(folder: Path):
    (utterance,) = read_manifest(write_lines(folder, json.dumps(GOOD | {"text": "이 bug 🐛"}), "", "  "))
    assert utterance.text == "이 bug 🐛"


def test_names_given_as_numbers_are_text(folder: Path):
    (utterance,) = read_manifest(write_lines(folder, GOOD | {"speaker": 7, "source_sentence_id": 12}))
    assert (utterance.speaker, utterance.source_sentence_id) == ("7", "12")


def test_missing_empty_and_binary_manifests(folder: Path):
    with pytest.raises(UserError, match="no such manifest"):
        read_manifest(folder / "none.jsonl")
    with pytest.raises(UserError, match="holds no utterance"):
        read_manifest(write_lines(folder))
    (folder / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_manifest(folder / "b.jsonl")


def test_a_failed_write_leaves_the_old_manifest(folder: Path):
    path = write_lines(folder, GOOD)
    before = path.read_bytes()

    def broken():
        yield read_manifest(path)[0]
        raise ValueError("reader died")

    with pytest.raises(ValueError, match="reader died"):
        write_manifest(path, broken())
    assert path.read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["a.wav", "m.jsonl"]


def test_control_tokens_in_a_transcript_are_refused(tmp_path: Path):
    row = {"audio_filepath": "a.wav", "duration": 1, "text": "이 bug <|endoftext|>", "lang": "ko"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row | {"text": "a < b | c > d"}) + "\n" + json.dumps(row))
    with pytest.raises(UserError, match=r"m.jsonl:2: the text holds the control token <\|endoftext\|>"):
        list(iter_manifest(tmp_path / "m.jsonl", check_audio=False))
