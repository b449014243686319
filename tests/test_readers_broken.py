"""Every reader, with each part of its corpus broken in turn: a message naming file and field, nothing half-written."""

from __future__ import annotations

import io
import json
import re
import stat
import time
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from common.errors import UserError
from common.manifest import read_manifest
from corpora.check import check
from corpora.corpus import prepare
from corpora.readers.clips import BrokenRecord, measure
from corpora.readers.reader import Clip
from corpora.readers.source import SourceFiles, open_source
from corpora.readers.tables import read_csv
from tests.corpus_trees import TREES, hike_row, put, wav
from tests.test_readers_layouts import READERS, assert_as_expected, prepared, reader


def decoded(data: bytes) -> tuple[np.ndarray, int]:
    samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    return samples, rate_hz


def encoded(samples: np.ndarray, rate_hz: int, subtype: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, subtype=subtype, format="WAV")
    return buffer.getvalue()


def with_nan(data: bytes) -> bytes:
    samples, rate_hz = decoded(data)
    samples[100:103] = np.nan
    return encoded(samples, rate_hz, "FLOAT")


def with_two_channels(data: bytes) -> bytes:
    samples, rate_hz = decoded(data)
    return encoded(np.stack([samples, samples], axis=1), rate_hz, "PCM_16")


def at_8_khz(data: bytes) -> bytes:
    samples, rate_hz = decoded(data)
    return encoded(samples[: len(samples) * 8000 // rate_hz], 8000, "PCM_16")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: b"", "0 bytes"),
        (lambda data: b"<html>Access denied</html>", "not readable as audio"),
        (lambda data: data[:44], "cut short|no samples|No 'data' chunk"),
        (lambda data: None, "does not exist|neither bytes nor a path|no KE0001"),
    ],
    ids=["truncated", "empty", "no audio", "header only", "missing"],
)
@pytest.mark.parametrize("name", READERS)
def test_broken_audio_is_skipped_and_named(name: str, spoil: Callable, message: str, tmp_path: Path):
    TREES[name].write(tmp_path / "in", spoil)
    first = TREES[name].expected[0]
    if name == "hike" and spoil(b"12") is None:  # neither bytes nor a file name: a broken table
        with pytest.raises(UserError, match=r"00000.*\.parquet, row 0: the column 'audio' .*" + message):
            prepared(name, tmp_path / "in", tmp_path / "out")
        return
    found = prepared(name, tmp_path / "in", tmp_path / "out")
    (skipped,) = [item for item in found.skipped if item.id == first.id]
    assert re.search(message, skipped.reason)
    assert str(tmp_path / "in") in skipped.reason
    assert sum(item.utterances for item in found.statistics.values()) == len(TREES[name].expected) - 1


@pytest.mark.parametrize("name", READERS)
def test_odd_audio_is_kept_and_told(name: str, tmp_path: Path):
    for folder, spoil, kind in (("8", at_8_khz, "low sample rate"), ("2", with_two_channels, "several channels")):
        TREES[name].write(tmp_path / folder, spoil)
        found = prepared(name, tmp_path / folder, tmp_path / f"out-{folder}")
        assert found.notices[kind] == 1
        assert str(tmp_path / folder) in found.examples[kind][0]


@pytest.mark.parametrize("name", READERS)
def test_samples_that_are_no_numbers_are_found_by_check(name: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    TREES[name].write(tmp_path / "in", with_nan)
    prepared(name, tmp_path / "in", tmp_path / "out")
    assert check([tmp_path / "out"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "not finite" in line]
    assert f"{TREES[name].expected[0].manifest}.jsonl {TREES[name].expected[0].id}: samples: 3 of" in line


EDITS = [
    ("aihub", "KE0001.json", '"dialogs"', '"dialog"', r"KE0001\.json: the field 'dialogs' is missing"),
    ("aihub", "KE0001.json", "{", "", r"KE0001\.json: not JSON \(.* at line 2 column"),
    ("aihub", "KE0001.json", '"text": "b/', '"txt": "b/', r"KE0001\.json: dialogs\[0\]: the field 'text' is missing"),
    ("aihub", "KE0002.json", '"endTime"', '"end"', r"KE0002\.json: dialogs\[0\].*'endTime'.*--end-field"),
    (
        "aihub",
        "KE0001.json",
        '"text": "b/',
        '"text": null, "b": "',
        r"dialogs\[0\]: the field 'text' is null, expected",
    ),
    ("aihub", "KE0001.json", "SPK017", r"\ud800", r"KE0001\.json: JSON that cannot be used \(half a character"),
    ("aihub", "KE0002.json", '"startTime": 0', '"startTime": "x"', r"dialogs\[0\]: the field 'startTime' is 'x'"),
    (
        "aihub",
        "KE0002.json",
        '"startTime": 0',
        '"startTime": NaN',
        r"dialogs\[0\]: the field 'startTime' is nan, expected",
    ),
    ("jecs", "transcripts_cs.txt", "JECS0002_CS: ", "", r"transcripts_cs\.txt:2: expected 'JECS0001_CS: sentence'"),
    ("jecs", "transcripts_cs.txt", "JECS0002_CS", "../../JECS0002_CS", r"transcripts_cs\.txt:2: expected 'JECS0001_CS"),
    ("jecs", "transcripts_cs.txt", "JECS0002_CS", "/etc/JECS0002_CS", r"transcripts_cs\.txt:2: expected 'JECS0001_CS"),
    ("unicom", "eng_deu/metadata.csv", "source roman 2", "anchor", r"metadata\.csv:1: the header holds 'anchor' twice"),
    ("unicom", "eng_deu/metadata.csv", ",drüben is", ',"drüben is', r"metadata\.csv:3: from here on not CSV"),
    (
        "unicom",
        "eng_deu/metadata.csv",
        "anchor",
        "anchors",
        r"metadata\.csv:2: the field 'anchor' is missing, did you mean",
    ),
    (
        "unicom",
        "eng_deu/metadata.csv",
        "[ 8000 16000 31999]",
        "exit()",
        r"metadata\.csv:2: the field 'anchor' is 'exit\(\)'",
    ),
    (
        "unicom",
        "eng_deu/metadata.csv",
        "[ 8000 16000",
        "[ 8000 1600",
        r"metadata\.csv:2: the field 'anchor'.*must not fall",
    ),
    ("unicom", "eng_deu/metadata.csv", "[('house', 'haus')]", "print(1)", r"metadata\.csv:2: the field 'word pair'"),
    (
        "unicom",
        "eng_deu/metadata.csv",
        "[('house', 'haus')]",
        "[('house',)]",
        r"metadata\.csv:2: the field 'word pair'",
    ),
    (
        "unicom",
        "eng_deu/metadata.csv",
        ",German,",
        ",Klingon,",
        r"metadata\.csv:2: the field 'major language' is 'Klingon'",
    ),
    (
        "unicom",
        "eng_deu/metadata.csv",
        "en.wav,7",
        "en.wav,9",
        r"metadata\.csv:2: the fields 'source id 1' and 'source id 2'",
    ),
    (
        "unicom",
        "eng_deu/metadata.csv",
        "en.wav,7,",
        "en.wav,",
        r"metadata\.csv:2: the row does not have the header's 15 cells",
    ),
    ("cs_fleurs", "read/test/metadata.jsonl", "{", "", r"read/test/metadata\.jsonl:1: not JSON"),
    ("cs_fleurs", "read/test/metadata.jsonl", '"text"', '"txt"', r"metadata\.jsonl:1: the field 'text' is missing"),
    ("cs_fleurs", "read/test/metadata.jsonl", "audio/kor", "/audio/kor", r"metadata\.jsonl:1: the field 'file_name'"),
    (
        "cs_fleurs",
        "read/test/metadata.jsonl",
        "audio/kor",
        "../../x",
        r"metadata\.jsonl:1: the field 'file_name'.*'\.\.'",
    ),
    (
        "cs_fleurs",
        "read/test/metadata.jsonl",
        ": 2.0",
        ': "long"',
        r"metadata\.jsonl:1: the field 'duration' is 'long'",
    ),
    (
        "cs_fleurs",
        "read/test/metadata.jsonl",
        "jpn-eng",
        "jap-eng",
        r"metadata\.jsonl: no row has the language 'jpn-eng'",
    ),
    (
        "cs_fleurs",
        "read/test/metadata.jsonl",
        '"id": "kor_101"',
        '"id": "x"',
        r"metadata\.jsonl:1: the field 'id' is 'x'",
    ),
    (
        "fleurs",
        "ko_kr/train.tsv",
        "\t32000",
        "",
        r"ko_kr/train\.tsv:1: 6 cells, expected 7 cells between tabs \(id, file_n",
    ),
    ("fleurs", "ko_kr/train.tsv", "7\t", "x\t", r"train\.tsv:1: the field 'id' is 'x', expected a whole number"),
    ("fleurs", "ko_kr/train.tsv", "10.wav", "../../../x.wav", r"train\.tsv:1: the field 'file_name'"),
    ("folder", "test/metadata.csv", "clips/a.wav", "/etc/a.wav", r"metadata\.csv:2: the field 'file_name' is '/etc/a"),
    ("folder", "test/metadata.csv", "clips/a.wav", "../a.wav", r"metadata\.csv:2: the field 'file_name' is '\.\./a"),
    ("folder", "test/metadata.csv", "clips/a.wav", r"C:\a.wav", r"metadata\.csv:2: the field 'file_name'"),
    (
        "folder",
        "test/metadata.csv",
        "transcription",
        "transkript",
        r"metadata\.csv:2: neither the field 'transcription'",
    ),
    ("folder", "test/metadata.csv", "이 Haus", '"이" Haus', r"metadata\.csv:2: from here on not CSV"),
    ("folder", "test/metadata.csv", "file_name", "speaker", r"metadata\.csv:1: the header holds 'speaker' twice"),
    ("folder", "test/metadata.csv", ",kim", "", r"metadata\.csv:2: the row does not have the header's 3 cells"),
    ("folder", "train/metadata.jsonl", '{"file', '["file', r"metadata\.jsonl:1: not JSON"),
    ("folder", "train/metadata.jsonl", '"b.flac"', "7.5e3.1", r"metadata\.jsonl:1: not JSON"),
    (
        "folder",
        "train/metadata.jsonl",
        '"b.flac"',
        '"b.flac", "id": ["b"]',
        r"metadata\.jsonl:1: the field 'id' is \['b'\]",
    ),
    (
        "folder",
        "train/metadata.jsonl",
        '"b.flac"',
        "[" * 9999 + "]" * 9999,
        r"metadata\.jsonl:1: JSON that cannot be used",
    ),
    ("folder", "train/metadata.jsonl", '"b.flac"', "9" * 4999, r"metadata\.jsonl:1: JSON that cannot be used"),
    (
        "folder",
        "train/metadata.jsonl",
        "오늘",
        r"\udcec",
        r"metadata\.jsonl:1: JSON that cannot be used \(half a character",
    ),
    (
        "nemo",
        "dev_manifest.json",
        '"duration": 2.5',
        '"duration": NaN',
        r"json:2: the field 'duration' is nan, expected",
    ),
    ("nemo", "dev_manifest.json", '"duration": 2.0', '"duration": true', r"json:1: the field 'duration' is True"),
    (
        "nemo",
        "dev_manifest.json",
        '"lang": "ko"',
        '"speaker": {"id": 1}',
        r"json:1: the field 'speaker' is \{'id': 1\}",
    ),
    ("nemo", "dev_manifest.json", '"duration": 2.0', '"duration": [2]', r"json:1: the field 'duration' is \[2\]"),
    ("nemo", "dev_manifest.json", '"lang": "ko"', '"lang": "fr"', r"json:1: the field 'lang' is 'fr', expected one of"),
    ("nemo", "dev_manifest.json", '"audio_filepath"', '"audio"', r"json:1: the field 'audio_filepath' is missing"),
]


@pytest.mark.parametrize(("name", "file", "old", "new", "message"), EDITS, ids=[f"{e[0]}-{e[2]}-{e[3]}" for e in EDITS])
def test_broken_tables_are_refused(name: str, file: str, old: str, new: str, message: str, tmp_path: Path):
    TREES[name].write(tmp_path / "in", lambda data: data)
    (path,) = [path for path in (tmp_path / "in").rglob("*") if path.as_posix().endswith(file)]
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        prepared(name, tmp_path / "in", tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".jsonl", ".json", ".partial")]


@pytest.mark.parametrize("name", [name for name in READERS if TREES[name].tables])
def test_text_of_another_encoding_is_refused(name: str, tmp_path: Path):
    TREES[name].write(tmp_path / "in", lambda data: data)
    path = sorted(path for path in (tmp_path / "in").rglob("*") if path.match(TREES[name].tables))[0]
    path.write_bytes(path.read_bytes() + "요".encode("euc-kr"))
    with pytest.raises(UserError, match=rf"{path.name}: not UTF-8 text"):
        prepared(name, tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("name", READERS)
def test_a_source_of_something_else_is_refused(name: str, tmp_path: Path):
    put(tmp_path / "in/holiday.txt", b"sun")
    with pytest.raises(UserError, match=r"in: no .* in it .*holiday\.txt"):
        prepared(name, tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "table", "field"),
    [
        ("cs_fleurs", "read/test/metadata.jsonl", '{"accent": "Seoul", '),
        ("folder", "train/metadata.jsonl", '{"accent": "Seoul", '),
        ("nemo", "dev_manifest.json", '{"accent": "Seoul", '),
        ("aihub", "1.Training/라벨링데이터/TL1/KE0002.json", '{"accent": "Seoul", '),
    ],
)
def test_an_unknown_field_is_told_once(name: str, table: str, field: str, tmp_path: Path):
    """Of AI-Hub's labels, whose other fields are published nowhere, none is told."""
    TREES[name].write(tmp_path / "in", lambda data: data)
    path = tmp_path / "in" / table
    path.write_text(path.read_text(encoding="utf-8").replace("{", field), encoding="utf-8")
    found = prepared(name, tmp_path / "in", tmp_path / "out")
    assert_as_expected(name, tmp_path / "out")
    told = [f"{path}:1: the field 'accent' is not one this reader knows; ignored"]
    assert found.examples.get("unknown field", []) == ([] if name == "aihub" else told)


def test_a_table_of_a_hundred_thousand_columns_is_answered_at_once(tmp_path: Path):
    (tmp_path / "metadata.csv").write_text(",".join(map(str, range(100_000))) + "\n1\n")
    begun = time.process_time()
    with pytest.raises(UserError, match="the row does not have the header's 100000 cells, but 1"):
        list(read_csv(SourceFiles(tmp_path), "metadata.csv"))
    assert time.process_time() - begun < 10


def test_an_unknown_column_is_told_once(tmp_path: Path):
    TREES["unicom"].write(tmp_path / "csv", lambda data: data)
    path = tmp_path / "csv/intra/train/eng_deu/metadata.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0] + ",accent", *(f"{line},x" for line in lines[1:])]), encoding="utf-8")
    found = prepared("unicom", tmp_path / "csv", tmp_path / "out")
    assert found.examples == {"unknown field": [f"{path}:2: the field 'accent' is not one this reader knows; ignored"]}
    for name in ("hike", "ko_ja"):
        TREES[name].write(tmp_path / name, lambda data: data)
        for path in (tmp_path / name).rglob("*.parquet"):
            table = pyarrow.parquet.read_table(path)
            pyarrow.parquet.write_table(table.append_column("accent", [["x"] * len(table)]), path)
        found = prepared(name, tmp_path / name, tmp_path / f"out-{name}")
        assert found.notices == {"unknown field": 1}
        assert "parquet, row 0: the field 'accent'" in found.examples["unknown field"][0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"KE0002\.pcm: 0 bytes; raw 16-bit audio has an even number of bytes above 0"),
        (bytes(3), r"KE0002\.pcm: 3 bytes; raw 16-bit"),
        (bytes(32000), r"KE0002\.pcm: 2 to 3 s was asked of 1 s of audio"),
        (None, r"KE0002\.json: no KE0002\.pcm or KE0002\.wav in the source"),
    ],
    ids=["empty", "odd", "truncated", "missing"],
)
def test_broken_raw_audio_is_skipped_and_named(data: bytes | None, message: str, tmp_path: Path):
    TREES["aihub"].write(tmp_path / "in", lambda data: data)
    (path,) = (tmp_path / "in").rglob("KE0002.pcm")
    path.unlink()
    put(path, data)
    reasons = [item.reason for item in prepared("aihub", tmp_path / "in", tmp_path / "out").skipped]
    assert re.search(message, reasons[-1])


def test_a_clip_ends_with_its_file(tmp_path: Path):
    """Two seconds: a label may end 0.1 s late, which is then cut off."""
    put(tmp_path / "a.wav", wav(2.0, 16000, 1))
    source = SourceFiles(tmp_path)
    for duration_s, held_s in ((0.5, 0.5), (1.0, 1.0), (1.05, 1.0), (None, 1.0)):
        assert measure(source, Clip("a.wav", start_s=1.0, duration_s=duration_s)).duration_s == held_s
    with pytest.raises(BrokenRecord, match=r"a\.wav: 1 to 2\.2 s was asked of 2 s of audio"):
        measure(source, Clip("a.wav", start_s=1.0, duration_s=1.2))


@pytest.mark.parametrize("name", ["hike", "ko_ja"])
@pytest.mark.parametrize("path", ["/etc/passwd.wav", "../../secret.wav", "C:\\a.wav"])
def test_parquet_paths_that_climb_are_refused(name: str, path: str, tmp_path: Path):
    row = hike_row("a", "이 bug는", None) | {"audio": {"bytes": None, "path": path}}
    parquet(tmp_path / "in/data/test-00000-of-00001.parquet", [row])
    with pytest.raises(UserError, match=r"parquet, row 0: the field 'audio' is .*, expected a path relative"):
        prepared(name, tmp_path / "in", tmp_path / "out")


def test_a_nemo_manifest_may_point_anywhere(tmp_path: Path):
    """Its own author wrote it: absolute paths, `..`, names spelt decomposed on disk; ids stay apart."""
    files = {"in/가/a.wav": 1, "elsewhere/a.wav": 2, "가나.wav": 3}
    for name, seed in files.items():
        put(tmp_path / unicodedata.normalize("NFD", name), wav(1.0, 16000, seed))
    paths = ["가/a.wav", f"{tmp_path}/elsewhere/a.wav", "../가나.wav", "gone.wav"]
    rows = [json.dumps({"audio_filepath": path, "duration": 1.0, "text": "이 Haus"}) for path in paths]
    put(tmp_path / "in/train.jsonl", "\n".join(rows).encode())
    for source in ("in", "in/train.jsonl"):  # a folder, or the manifest alone
        found = prepare(reader("nemo"), SourceFiles(tmp_path / source), tmp_path / "out")
        ids = [utterance.id for utterance in read_manifest(tmp_path / "out/train.jsonl")]
        assert ids == ["가/a", f"{tmp_path}/elsewhere/a".lstrip("/"), f"{tmp_path}/가나".lstrip("/")]
        assert [item.id for item in found.skipped] == ["gone"]


def test_korean_labels_without_their_english_are_left_out(tmp_path: Path):
    TREES["aihub"].write(tmp_path / "in", lambda data: data)
    (path,) = (tmp_path / "in").rglob("KE0001.json")
    path.write_text(path.read_text(encoding="utf-8").replace("project는", ""), encoding="utf-8")
    found = prepared("aihub", tmp_path / "in", tmp_path / "out")
    reasons = {item.id: item.reason for item in found.skipped}
    assert re.search(r"KE0001\.json: the field 'dialogs' has no 'originalForm'", reasons["KE0001"])
    assert re.search(r"KE0002\.json: dialogs\[1\]: the sentence holds the mask '@이름1'", reasons["KE0002-001"])


def test_unpaired_asterisks_are_left_out(tmp_path: Path):
    TREES["jecs"].write(tmp_path / "in", lambda data: data)
    path = tmp_path / "in/jecs_ver1/neutral/transcripts_cs.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("goal*", "goal"), encoding="utf-8")
    (skipped,) = prepared("jecs", tmp_path / "in", tmp_path / "out").skipped
    assert re.search(r"transcripts_cs\.txt:1: the sentence's asterisks do not pair up", skipped.reason)


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def test_broken_parquet_files_are_refused(tmp_path: Path):
    row = hike_row("a", "이 bug는", wav(1.0, 16000, 1))
    parquet(tmp_path / "1/data/test-00000-of-00001.parquet", [{k: v for k, v in row.items() if k != "loanwords"}])
    with pytest.raises(UserError, match=r"test-00000-of-00001\.parquet: the column 'loanwords' is missing"):
        prepared("hike", tmp_path / "1", tmp_path / "out")
    parquet(tmp_path / "2/data/test-00000-of-00001.parquet", [row | {"loanwords": "버그=bug"}])
    with pytest.raises(UserError, match=r"parquet, row 0: the column 'loanwords' is '버그=bug'"):
        prepared("hike", tmp_path / "2", tmp_path / "out")
    put(tmp_path / "3/data/test-00000-of-00001.parquet", b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match=r"parquet: not a readable parquet file"):
        prepared("hike", tmp_path / "3", tmp_path / "out")
    parquet(tmp_path / "4/data/test-00000-of-00001.parquet", [row | {"audio": "a.wav"}])
    with pytest.raises(UserError, match=r"parquet, row 0: the column 'audio' is 'a.wav', expected audio"):
        prepared("hike", tmp_path / "4", tmp_path / "out")


def test_other_column_names_are_configurable(tmp_path: Path):
    row = {"sound": {"bytes": wav(1.0, 16000, 1), "path": None}, "sentence": "오늘은 天気がいい。"}
    parquet(tmp_path / "in/data/test-00000-of-00001.parquet", [row])
    with pytest.raises(UserError, match=r"the column 'audio' is missing .*'sound', 'sentence'"):
        prepared("ko_ja", tmp_path / "in", tmp_path / "out")
    configured = READERS["ko_ja"](audio_column="sound", text_column="sentence")
    found = prepare(configured, SourceFiles(tmp_path / "in"), tmp_path / "out")
    assert found.statistics["test"].utterances == 1


def archive_with(path: Path, info: zipfile.ZipInfo, data: bytes = b"x") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("jecs_ver1/readme.txt", "hello")
        archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize("name", READERS)
def test_a_delivery_with_a_member_that_climbs_is_refused(name: str, tmp_path: Path):
    TREES[name].write(tmp_path / "in", lambda data: data)
    with zipfile.ZipFile(tmp_path / "delivered.zip", "w") as archive:
        for path in (tmp_path / "in").rglob("*"):
            archive.write(path, path.relative_to(tmp_path / "in"))
        archive.writestr("../evil.wav", b"x")
    with pytest.raises(UserError, match=r"delivered\.zip: the member '\.\./evil\.wav' is a path with '\.\.'"):
        prepared(name, tmp_path / "delivered.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path.parent / "evil.wav").exists()


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("../evil.wav", r"'\.\./evil\.wav' is a path with '\.\.'"),
        ("a/../../evil.wav", r"a path with '\.\.'"),
        ("..\\evil.wav", r"a path with '\.\.'"),
        ("/etc/evil.wav", r"'/etc/evil\.wav' is an absolute path"),
        ("C:/evil.wav", r"an absolute path"),
    ],
)
def test_archives_that_climb_are_refused(member: str, message: str, tmp_path: Path):
    archive = archive_with(tmp_path / "a.zip", zipfile.ZipInfo(member))
    for source in (archive, tmp_path):
        with pytest.raises(UserError, match=rf"a\.zip: the member .*{message}"):
            SourceFiles(source)


def test_archives_with_links_and_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    link = zipfile.ZipInfo("passwords.wav")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UserError, match=r"link\.zip: the member 'passwords\.wav' is a link"):
        SourceFiles(archive_with(tmp_path / "link.zip", link, b"/etc/passwd"))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for part in range(5):
            archive.writestr(f"{part}.pcm", bytes(2**26))
    with pytest.raises(UserError, match=r"bomb\.zip: \d+ bytes that unpack to 335544320; that is a zip bomb"):
        SourceFiles(tmp_path / "bomb.zip")
    monkeypatch.setattr("corpora.readers.source.MAX_MEMBER_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "big.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("big.wav", bytes(2**20 + 1))
    with pytest.raises(UserError, match=r"big\.zip: the member 'big\.wav' is 1048577 bytes unpacked"):
        SourceFiles(tmp_path / "big.zip")
    encrypted = archive_with(tmp_path / "encrypted.zip", zipfile.ZipInfo("a.wav"))
    data = bytearray(encrypted.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    encrypted.write_bytes(data)
    with pytest.raises(UserError, match=r"encrypted\.zip: the member 'a\.wav' is encrypted"):
        SourceFiles(encrypted)
    put(tmp_path / "folder/damaged.zip", (tmp_path / "link.zip").read_bytes()[:40])
    with pytest.raises(UserError, match=r"damaged\.zip: not a readable zip archive"):
        SourceFiles(tmp_path / "folder")


def test_a_damaged_member_is_named(tmp_path: Path):
    put(tmp_path / "in/jecs_ver1/neutral/transcripts_cs.txt", "JECS0001_CS: この*word*が\n".encode() * 50)
    with zipfile.ZipFile(tmp_path / "jecs.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.write(tmp_path / "in/jecs_ver1/neutral/transcripts_cs.txt", "jecs_ver1/neutral/transcripts_cs.txt")
    data = bytearray((tmp_path / "jecs.zip").read_bytes())
    data[200] ^= 0xFF
    (tmp_path / "jecs.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"jecs\.zip/jecs_ver1/neutral/transcripts_cs\.txt: the archive is damaged"):
        prepare(reader("jecs"), SourceFiles(tmp_path / "jecs.zip"), tmp_path / "out")


def test_sources_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"nowhere: no such folder or archive"):
        open_source(str(tmp_path / "nowhere"), None, None)
    with pytest.raises(UserError, match=r"fetched by hand"):
        open_source(None, None, None)
    import huggingface_hub

    def refuse(*args, **kwargs):
        raise OSError("401 Client Error\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(
        UserError, match=r"byan/cs-fleurs: .* \(401 Client Error\); where .*cs-fleurs --local-dir FOLDER`"
    ):
        open_source(None, "byan/cs-fleurs", None)


def test_a_hub_snapshot_is_read_at_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    snapshot = tmp_path / "hub/snapshots/0cdbf166"
    TREES["cs_fleurs"].write(tmp_path / "tree", lambda data: data)
    for number, path in enumerate(sorted(path for path in (tmp_path / "tree").rglob("*") if path.is_file())):
        put(tmp_path / f"hub/blobs/{number}", path.read_bytes())  # as the hub's cache keeps files: links to blobs
        link = snapshot / path.relative_to(tmp_path / "tree")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / f"hub/blobs/{number}")
    import huggingface_hub

    asked = {}

    def download(repository: str, **keywords):
        asked.update(keywords, repository=repository)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    source = open_source(None, "byan/cs-fleurs", reader("cs_fleurs").hub_patterns())
    assert (source.hub_id, source.revision) == ("byan/cs-fleurs", "0cdbf166")
    assert asked["repository"] == "byan/cs-fleurs"
    assert asked["repo_type"] == "dataset"
    wanted = {f"read/test/audio/{language}/*" for language in ("kor", "jpn", "deu")}
    assert prepare(reader("cs_fleurs"), source, tmp_path / "out").title.startswith("cs_fleurs from byan/cs-fleurs, ")
    assert_as_expected("cs_fleurs", tmp_path / "out")
    assert set(asked["allow_patterns"]) == {"read/test/metadata.jsonl"} | wanted
