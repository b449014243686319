"""Every reader reads back a small tree in its corpus's layout, as folder and as archive, however its text is spelt."""

from __future__ import annotations

import json
import unicodedata
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from common.errors import UserError
from common.manifest import Span, read_manifest
from corpora.corpus import Prepared, configured, prepare
from corpora.readers import discover
from corpora.readers.aihub import resolve_notation
from corpora.readers.reader import Reader
from corpora.readers.source import SourceFiles
from corpora.readers.unicom import spans_of
from tests.corpus_trees import TREES, put, wav

READERS = discover()


def reader(name: str) -> Reader:
    defaults = {item.name: item.default for item in READERS[name].__dataclass_fields__.values()}
    return configured(READERS[name], defaults | TREES[name].options)


def prepared(name: str, root: Path, out: Path) -> Prepared:
    return prepare(reader(name), SourceFiles(root), out)


def assert_as_expected(name: str, out: Path) -> None:
    tree = TREES[name]
    found = {
        (path.relative_to(out).with_suffix("").as_posix(), utterance.id): utterance
        for path in out.rglob("*.jsonl")
        for utterance in read_manifest(path)
    }
    assert set(found) == {(item.manifest, item.id) for item in tree.expected}
    for item in tree.expected:
        utterance = found[item.manifest, item.id]
        assert utterance.text == item.text
        assert (utterance.pair, utterance.matrix_language) == (item.pair, item.matrix)
        assert utterance.duration == pytest.approx(item.duration_s)
        assert utterance.offset == item.offset_s
        assert utterance.speaker == item.speaker
        assert utterance.source_sentence_id == item.sentence
        assert utterance.spans == (None if item.spans is None else tuple(Span(**span) for span in item.spans))
        assert utterance.licence == tree.licence
        assert utterance.source == tree.options.get("corpus", name)
        assert soundfile.info(utterance.audio).duration >= utterance.offset + utterance.duration - 1e-6


def test_every_reader_has_a_tree():
    assert set(TREES) == set(READERS)


@pytest.mark.parametrize("name", READERS)
def test_reads_its_layout(name: str, tmp_path: Path):
    TREES[name].write(tmp_path / "in", lambda data: data)
    prepared(name, tmp_path / "in", tmp_path / "out")
    assert_as_expected(name, tmp_path / "out")
    about = json.loads((tmp_path / "out/corpus.json").read_text())
    assert about["licence"] == TREES[name].licence
    assert sum(item["utterances"] for item in about["manifests"].values()) == len(TREES[name].expected)
    hours = sum(item.duration_s for item in TREES[name].expected) / 3600
    assert sum(item["hours"] for item in about["manifests"].values()) == pytest.approx(hours, abs=2e-4)


@pytest.mark.parametrize("name", READERS)
def test_reads_an_archive_in_place(name: str, tmp_path: Path):
    TREES[name].write(tmp_path / "in", lambda data: data)
    (tmp_path / "delivered").mkdir()
    with zipfile.ZipFile(tmp_path / "delivered/corpus.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "in").rglob("*")):
            archive.write(path, path.relative_to(tmp_path / "in"))
    for source in ("delivered", "delivered/corpus.zip"):
        prepared(name, tmp_path / source, tmp_path / f"out-{len(source)}")
        assert_as_expected(name, tmp_path / f"out-{len(source)}")


@pytest.mark.parametrize("spelling", ["bom", "crlf", "nfd"])
@pytest.mark.parametrize("name", [name for name in READERS if TREES[name].tables])
def test_reads_any_spelling_of_its_tables(name: str, spelling: str, tmp_path: Path):
    TREES[name].write(tmp_path / "in", lambda data: data)
    tables = [path for path in (tmp_path / "in").rglob("*") if path.match(TREES[name].tables)]
    assert tables
    for path in tables:
        text = path.read_text(encoding="utf-8")
        if spelling == "nfd":
            text = unicodedata.normalize("NFD", text)
        text = "\ufeff" + text if spelling == "bom" else text
        path.write_text(text, encoding="utf-8", newline="\r\n" if spelling == "crlf" else "\n")
    prepared(name, tmp_path / "in", tmp_path / "out")
    assert_as_expected(name, tmp_path / "out")


def test_a_training_split_of_raw_audio_becomes_wav(tmp_path: Path):
    TREES["aihub"].write(tmp_path / "in", lambda data: data)
    prepared("aihub", tmp_path / "in", tmp_path / "out")
    (utterance,) = read_manifest(tmp_path / "out/dev.jsonl")
    samples, rate_hz = soundfile.read(utterance.audio, dtype="int16")
    assert rate_hz == 16000
    assert samples.tobytes() == (tmp_path / "in/2.Validation/원천데이터/KE0003.pcm").read_bytes()


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("(50%)/(오십 프로) 할인", "50% 할인"),
        ("(Zoom) / (줌)으로 (AI)/(에이아이)를", "Zoom으로 AI를"),
        ("b/ 아/ 그러니까 n/ 음/, 네 l/ o/ u/", "아 그러니까 음, 네"),
        ("모+ 모르* 겠어", "모 모르 겠어"),
        ("C++ 언어와 24/7 지원, I/O, job/직업 (웃음)", "C++ 언어와 24/7 지원, I/O, job/직업 (웃음)"),
    ],
)
def test_the_transcribers_notation(written: str, plain: str):
    assert resolve_notation(written) == plain


@pytest.mark.parametrize(
    ("heard", "words", "sentence"),
    [  # words as (heard, originalForm); the last three sentences cannot be rebuilt
        (
            "이번 프로젝트는 좋아.",
            [("이번", ""), ("프로젝트", "project"), ("는", None), ("좋아", "")],
            "이번 project는 좋아.",
        ),
        ("가나 가 나", [("가", ""), ("나", "B"), ("가", "C"), ("나", "")], "가B C 나"),
        ("미팅 후 미팅", [("미팅", "meeting"), ("후", ""), ("미팅", "meeting")], "meeting 후 meeting"),
        ("내비게이션 비 버그는", [("비", "B"), ("버그", "bug")], "내비게이션 B bug는"),
        ("이번 미팅은 (줌)/(zoom)", [("미팅", "meeting")], "이번 meeting은 줌"),
        ("이번 미팅은", [("회의", "meeting")], None),
        ("이번 미팅은", [("", "meeting")], None),
        ("내비게이션은", [("비", "B")], None),
    ],
)
def test_a_sentence_rebuilt_from_its_words(heard: str, words: list[tuple[str, str]], sentence: str | None):
    dialog = {"text": heard, "tokens": [{"word": word, "originalForm": form} for word, form in words]}
    assert READERS["aihub"]()._rebuild(dialog) == sentence


@pytest.mark.parametrize(
    ("heard", "whole", "sentence"),
    [
        ("이번 프로젝트는", "이번 project는", "이번 project는"),
        ("오케이 굿", "OK good", "OK good"),
        ("이번 프로젝트는 좋아", "project", None),  # one word of it, and not told where
        ("그냥 한국어", "", None),
    ],
)
def test_a_sentence_rebuilt_as_a_whole(heard: str, whole: str, sentence: str | None):
    assert READERS["aihub"]()._rebuild({"text": heard, "originalForm": whole}) == sentence


def test_words_that_stand_twice_give_no_spans():
    """The generator swaps one in the audio and all in the text."""
    pairs = [("house", "haus")]
    spans = spans_of("das house ist alt", "de", ["en", "de"], pairs, [8000, 16000, 24000])
    assert [(span.language, span.start, span.end) for span in spans] == [
        ("de", 0.0, 0.5), ("en", 0.5, 1.0), ("de", 1.0, 1.5)
    ]  # fmt: skip
    assert spans_of("das house im house ist alt", "de", ["en", "de"], pairs, [8000, 16000, 24000]) is None
    assert spans_of("das haus ist alt", "de", ["en", "de"], pairs, [8000, 16000, 24000]) is None
    untimed = spans_of("house ist alt", "de", ["en", "de"], pairs, [8000, 16000, 24000])
    assert untimed == (Span("en", text="house"), Span("de", text=" ist alt"))


@pytest.mark.parametrize(("table", "disk"), [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("name", ["folder", "nemo", "ko_ja"])
def test_file_names_however_their_accents_are_spelt(name: str, table: str, disk: str, tmp_path: Path):
    file = unicodedata.normalize(table, "clips/가.wav")
    put(tmp_path / "in/data" / unicodedata.normalize(disk, "clips/가.wav"), wav(1.0, 16000, 1))
    if name == "ko_ja":
        rows = pyarrow.Table.from_pylist([{"audio": {"bytes": None, "path": file}, "text": "물 ください"}])
        pyarrow.parquet.write_table(rows, tmp_path / "in/data/test-0.parquet")
    else:
        row = {"file_name": file} if name == "folder" else {"audio_filepath": file, "duration": 1}
        path = tmp_path / "in/data" / ("metadata.jsonl" if name == "folder" else "test.jsonl")
        put(path, json.dumps(row | {"text": "이 Haus"}).encode())
    assert sum(item.utterances for item in prepared(name, tmp_path / "in", tmp_path / "out").statistics.values()) == 1


def test_a_recording_of_the_labels_own_split_is_taken(tmp_path: Path):
    TREES["aihub"].write(tmp_path / "in", lambda data: data)
    put(tmp_path / "in/1.Training/원천데이터/KE0003.wav", wav(4.0, 16000, 9))  # another one of the same name
    prepared("aihub", tmp_path / "in", tmp_path / "out")
    assert_as_expected("aihub", tmp_path / "out")


def test_fleurs_without_its_capitals_or_with_its_recordings_packed(tmp_path: Path):
    TREES["fleurs"].write(tmp_path, lambda data: data)
    read = READERS["fleurs"](languages=("ko", "en"), normalized=True)
    assert {record.text for record in read.read(SourceFiles(tmp_path))} == {
        "이 집은 오래됐다",
        "안녕 세상",
        "this house is old",
    }
    with pytest.raises(UserError, match=r"no \*ja_\*/train\.tsv in it \(FLEURS's tables of ja\)"):
        list(READERS["fleurs"](languages=("ja",)).read(SourceFiles(tmp_path)))
    put(tmp_path / "nde/nde_zw/train.tsv", b"of a language that ends alike")
    with pytest.raises(UserError, match=r"no \*de_\*/train\.tsv in it \(FLEURS's tables of de\)"):
        list(READERS["fleurs"](languages=("de",)).read(SourceFiles(tmp_path / "nde")))
    (tmp_path / "data/en_us/audio/train").rename(tmp_path / "unpacked")
    put(tmp_path / "data/en_us/audio/train.tar.gz", b"packed")
    folder = tmp_path / "data/en_us/audio"
    with pytest.raises(UserError, match=rf"unpack them: tar xzf {folder}/train\.tar\.gz -C {folder}$"):
        list(read.read(SourceFiles(tmp_path)))


def test_the_synthetic_parts_of_cs_fleurs(tmp_path: Path):
    TREES["cs_fleurs"].write(tmp_path / "in", lambda data: data)
    row = {"id": "kor_7", "file_name": "audio/kor_7.wav", "text": "이 bridge는", "duration": 1.0, "language": "kor-eng"}
    for subset in ("train", "test1"):
        put(tmp_path / f"in/xtts/{subset}/metadata.jsonl", json.dumps(row).encode())
        put(tmp_path / f"in/xtts/{subset}/audio/kor_7.wav", wav(1.0, 16000, 1))
        read = READERS["cs_fleurs"](pairs=("ko-en",), subset=f"xtts/{subset}")
        prepare(read, SourceFiles(tmp_path / "in"), tmp_path / "out")
        (utterance,) = read_manifest(tmp_path / f"out/ko-en/xtts-{subset}.jsonl")
        assert (utterance.split, utterance.source_sentence_id) == (subset.rstrip("1"), "fleurs:7")
        assert read.hub_patterns() == [f"xtts/{subset}/*"]


def test_hike_keeps_its_labels_beside_the_manifest(tmp_path: Path):
    TREES["hike"].write(tmp_path / "in", lambda data: data)
    prepared("hike", tmp_path / "in", tmp_path / "out")
    labels = json.loads((tmp_path / "out/test.labels.json").read_text())
    assert labels["dev-1"]["loanwords"] == [["버그", "bug"]]
    assert labels["dev-1"]["text_normalized"] == "이번 bug는 session에 문제가 있었어."
    assert labels["dev-2"]["cs_level"] == "word"


def test_linked_folders_are_followed_once(tmp_path: Path):
    TREES["jecs"].write(tmp_path / "elsewhere", lambda data: data)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/jecs").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "in")
    assert not prepared("jecs", tmp_path / "in", tmp_path / "out").skipped
    assert_as_expected("jecs", tmp_path / "out")
