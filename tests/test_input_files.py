"""Whatever a name leads to, it is read or refused in one message, at once: pipes, devices, endless and huge files."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backbone.model_folder.candidates import Candidate
from backbone.model_folder.hub import add_scores
from backbone.model_folder.locate import weight_files
from backbone.model_folder.stored import ModelFolder
from callbacks.checkpoint_files import damage_of
from common.audio import load_waveform
from common.configs import load_yaml, read_yaml
from common.errors import UserError
from common.input_files import check_file, digest_of_file, read_bytes, read_lines, read_text
from common.json_lines import parse_json, read_json, read_object
from common.manifest import read_manifest
from common.markdown import licence_of
from corpora.derived import earlier_manifests
from corpora.readers.clips import BrokenRecord, measure
from corpora.readers.parquet import read_parquet
from corpora.readers.reader import Clip
from corpora.readers.source import SourceFiles
from corpora.readers.tables import read_csv
from corpora.speak.written import read_sentence_sets
from evaluation.test_sets import read_sets
from scoring.compare import find_side
from scoring.transcript_files import read_json_lines, read_texts


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """Whoever waits for a pipe or reads a device to its end is stopped, and has failed."""

    def stop(*_: Any) -> None:
        raise TimeoutError("read without end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**41)  # which takes no room


def of_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):  # a socket's path is a short one
        made.bind(path.name)


def loop(path: Path) -> None:
    path.symlink_to(path)


READERS: dict[str, Callable[[Path], Any]] = {
    "c.yaml": read_yaml,
    "m.jsonl": read_manifest,
    "a.wav": load_waveform,
    "b.mp3": load_waveform,
    "t.txt": lambda file: read_texts(file, file),
    "h.jsonl": read_json_lines,
    "scores.json": lambda file: add_scores(file.parent, file),
    "bytes.bin": read_bytes,
    "digest.bin": digest_of_file,
    "lines.txt": lambda file: list(read_lines(file)),
    "text.txt": read_text,
    "object.json": read_object,
    "config.json": lambda file: ModelFolder(file.parent, "x").json("config.json"),
    "model.safetensors": lambda file: ModelFolder._open(file),
    "model.safetensors.index.json": lambda file: weight_files(file.parent),
    "table.csv": lambda file: list(read_csv(SourceFiles(file.parent), file.name)),
    "delivery.zip": lambda file: SourceFiles(file.parent),
    "test-0.parquet": lambda file: list(read_parquet(SourceFiles(file.parent), [], "test")),
    "set.jsonl": lambda file: read_sentence_sets([file], None, "train"),
    "plain.txt": lambda file: read_sentence_sets([file], "de", "train"),
    "set-of-evaluation.jsonl": lambda file: read_sets({"ko-en": str(file)}),
    "hypotheses.jsonl": lambda file: find_side(str(file.parent)),
}


@pytest.mark.parametrize("make", [pipe, device, folder, huge, of_socket, loop])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_plain_file_is_refused(name: str, make: Callable[[Path], None], tmp_path: Path):
    if make is huge and name in ("a.wav", "b.mp3", "m.jsonl", "digest.bin", "set.jsonl", "h.jsonl"):
        pytest.skip("may be as large as the disk: only parts of it are in memory")
    if make is folder and name in ("table.csv", "delivery.zip"):
        pytest.skip("a folder in a corpus is just a folder")
    make(tmp_path / name)
    with pytest.raises(UserError) as error:
        READERS[name](tmp_path / name)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_audio_that_is_none_leaves_out_the_utterance_alone(tmp_path: Path):
    pipe(tmp_path / "a.wav")
    with pytest.raises(BrokenRecord, match=r"a\.wav: is a pipe"):
        measure(SourceFiles(tmp_path), Clip("a.wav"))


def test_what_may_be_missing_is_as_if_it_were(tmp_path: Path):
    pipe(tmp_path / "README.md")
    pipe(tmp_path / "corpus.json")
    pipe(tmp_path / "step-3.ckpt")
    assert licence_of(tmp_path) is None
    assert earlier_manifests(tmp_path) == {}
    assert damage_of(tmp_path / "step-3.ckpt") == "no such checkpoint"


def test_a_line_has_an_end(tmp_path: Path):
    (tmp_path / "m.jsonl").write_bytes(b" " * 2**25)
    with pytest.raises(UserError, match=r"m\.jsonl:1: the line is longer than"):
        read_manifest(tmp_path / "m.jsonl")


def test_each_kind_is_named(tmp_path: Path):
    for make, kind in ((pipe, "a pipe"), (device, "a device"), (folder, "a folder"), (of_socket, "a socket")):
        make(tmp_path / make.__name__)
        with pytest.raises(UserError, match=f"{make.__name__}: is {kind}, expected a file"):
            check_file(tmp_path / make.__name__)
    huge(tmp_path / "huge")
    with pytest.raises(UserError, match=r"huge: has 2,199,023,255,552 bytes, expected no more than"):
        check_file(tmp_path / "huge")
    for name in ("none", "x" * 300, "nul\0"):
        with pytest.raises(UserError):
            check_file(tmp_path / name)


# JSON and YAML ------------------------------------------------------------------------------------------------------

ODD_JSON = {
    "null": "null",
    "a list": "[]",
    "text": '"x"',
    "nothing": "",
    "deep": "[" * 100_000,
    "deep, but well-formed": '{"a": ' * 300 + "1" + "}" * 300,
    "5,000 digits": '{"a": ' + "9" * 5000 + "}",
    "half a character": '{"a": "\\ud83d"}',
    "bytes that are no UTF-8": b'{"a": "\xff"}',
    "zeros": b"\0" * 1000,
}


@pytest.mark.parametrize("what", ODD_JSON)
def test_odd_json_is_one_message(what: str, tmp_path: Path):
    content = ODD_JSON[what]
    (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    for read in (read_object, lambda file: ModelFolder(file.parent, "x").config):
        with pytest.raises(UserError, match=r"config\.json"):
            read(tmp_path / "config.json")


def test_json_as_deep_as_people_write_it_is_read(tmp_path: Path):
    (tmp_path / "a.json").write_text("[" * 90 + "]" * 90)
    assert json.dumps(read_json(tmp_path / "a.json")) == "[" * 90 + "]" * 90
    assert len(parse_json(json.dumps([[n] for n in range(1000)]), "x")) == 1000  # many are not deep


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 2024-01-31", "2024-01-31"),
        ("a: 12:30", 750),
        ("a: 1.5e-3", 0.0015),
        ("a: ~", None),
        ("a: [yes, 0x1f]", [True, 31]),
    ],
)
def test_yaml_is_plain_values(text: str, value: Any):
    assert load_yaml(text) == {"a": value}


@pytest.mark.parametrize(
    "text",
    [
        "a: !!binary aGk=",
        "a: !!set {x}",
        "a: !!omap [x: 1]",
        "a: !!timestamp 2024-01-31",
        "a: 0x" + "f" * 5000,
        "a: " + "9" * 5000,
        "[" * 5000,
        "a: 1\na: 2",
        "? [a]\n: 1",
        "#" * 2**21,
    ],
)
def test_other_yaml_is_refused(text: str, tmp_path: Path):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=r"c\.yaml: ") as error:
        read_yaml(tmp_path / "c.yaml")
    assert len(str(error.value)) < 500


# Corpora ------------------------------------------------------------------------------------------------------------


def archive(**changed: bytes) -> bytes:
    """A zip of one table, bytes of its headers replaced."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        packed.writestr("metadata.csv", "file_name,text\na.wav,x\n")
    content = made.getvalue()
    for old, new in changed.items():
        content = content.replace(old.encode(), new)
    return content


@pytest.mark.parametrize("place", [6, 8, 10, 28, 30, 42])
def test_archives_with_any_header_are_read_or_refused(place: int, tmp_path: Path):
    """Names that are flagged as UTF-8 and are not, versions and compressions that do not exist, names that are long."""
    whole = archive(**{"metadata": b"meta\xff\xfe\xfda"})
    directory = whole.index(b"PK\x01\x02")
    for value in (b"\xff\xff", b"\x00\x08", b"\x63\x00"):
        changed = bytearray(whole)
        changed[directory + place : directory + place + 2] = value
        changed[directory + 8 : directory + 10] = b"\x00\x08"  # the flag for UTF-8
        (tmp_path / "a.zip").write_bytes(changed)
        with pytest.raises(UserError, match=r"a\.zip"):
            source = SourceFiles(tmp_path / "a.zip")
            for name in source.names:
                source.read(name)
            raise UserError("a.zip was read")


def test_names_that_are_not_utf_8_are_refused(tmp_path: Path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")).touch()
    with pytest.raises(UserError, match="the name is not UTF-8"):
        SourceFiles(tmp_path)


@pytest.mark.parametrize("value", ["text", 10**10, [1, 2], {"bytes": "text"}, {"bytes": 5}, {"path": 5}, None])
def test_audio_columns_of_other_types_are_refused(value: Any, tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")

    from corpora.readers.parquet import clip_of

    pyarrow.parquet.write_table(pyarrow.table({"audio": [value], "n": [1]}), tmp_path / "test-0.parquet")
    source = SourceFiles(tmp_path)
    for where, _, row in read_parquet(source, ["audio"], "test"):
        with pytest.raises(UserError, match="audio"):
            clip_of(row, "audio", "x", where, source)


def test_columns_that_cannot_be_read_are_refused(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")

    odd = {
        "no UTF-8": pyarrow.array([b"\xff\xfe"], pyarrow.binary()).view(pyarrow.string()),
        "no year": pyarrow.array([2**62], pyarrow.int64()).view(pyarrow.timestamp("us")),
    }
    for column in odd.values():
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), tmp_path / "test-0.parquet")
        with pytest.raises(UserError, match=r"test-0\.parquet: not a readable parquet file"):
            list(read_parquet(SourceFiles(tmp_path), ["text"], "test"))
    rows = pyarrow.table({"text": pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 10_000_001, "int8"), ["x"])})
    pyarrow.parquet.write_table(rows, tmp_path / "test-0.parquet")
    with pytest.raises(UserError, match="that is no speech"):
        list(read_parquet(SourceFiles(tmp_path), ["text"], "test"))


def test_whatever_lies_in_a_model_folder_may_be_opened(tiny_model: Path, tmp_path: Path):
    for make, name in ((pipe, "extra.json"), (device, "README.md"), (of_socket, "vocab.json"), (pipe, "a/b.jinja")):
        model = tmp_path / name.replace("/", "-")
        (model / name).parent.mkdir(parents=True)
        for file in tiny_model.iterdir():
            (model / file.name).symlink_to(file)
        make(model / name)
        with pytest.raises(UserError, match=f"{name}: is no regular file"):
            Candidate("x", str(model)).identity  # noqa: B018
