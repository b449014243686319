"""Folders are whole or absent: a reader that looks while one is replaced finds the old one or the new one."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
from safetensors import SafetensorError

from common.errors import UserError
from common.files import atomic_file, atomic_folder, size_text, sole_writer
from corpora.readers.clips import ClipStore, Header
from corpora.readers.reader import Clip
from corpora.readers.source import SourceFiles


def fill(folder: Path, number: int) -> None:
    with atomic_folder(folder) as partial:
        for name in range(20):
            (partial / f"{name}.txt").write_text(str(number))


def exchanges(folder: Path) -> bool:
    """Whether the file system lets two folders change places in one stroke."""
    one, two = folder / "one", folder / "two"
    one.mkdir(), two.mkdir()
    exchange = getattr(ctypes.CDLL(None), "renameat2", None)
    return bool(exchange) and exchange(-100, os.fsencode(one), -100, os.fsencode(two), 2) == 0


def test_a_folder_is_there_while_it_is_replaced(tmp_path: Path):
    if not exchanges(tmp_path):
        pytest.skip("two renames, between which the folder is absent")
    folder, ended = tmp_path / "model", threading.Event()
    fill(folder, 0)
    looks: list[bool] = []

    def look() -> None:
        while not ended.is_set():
            looks.append((folder / "0.txt").exists())

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(1, 41):
        fill(folder, number)
    ended.set()
    reader.join()
    assert all(looks) and len(looks) > 100
    assert {file.read_text() for file in folder.iterdir()} == {"40"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "one", "two"]


def test_a_failed_writing_leaves_the_old_folder(tmp_path: Path):
    fill(tmp_path / "model", 1)
    with pytest.raises(ArithmeticError), atomic_folder(tmp_path / "model") as partial:
        (partial / "0.txt").write_text("2")
        raise ArithmeticError
    assert {file.read_text() for file in (tmp_path / "model").iterdir()} == {"1"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def full(folder: Path, free: int = 0) -> SimpleNamespace:
    return SimpleNamespace(free=free, total=40_960, used=40_960 - free)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        soundfile.LibsndfileError(2),  # "System error."
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
    ],
    ids=repr,
)
def test_a_full_disk_is_named_whoever_writes(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", full)
    (tmp_path / "out").write_text("old")
    with pytest.raises(OSError) as found, atomic_file(tmp_path / "out"):
        raise error
    assert found.value.filename == str(tmp_path / "out")
    if getattr(error, "errno", errno.ENOSPC) == errno.ENOSPC:
        assert found.value.strerror.startswith("No space left on device: 0 bytes of 41 kB are free on the disk of /")
    assert [file.name for file in tmp_path.iterdir()] == ["out"] and (tmp_path / "out").read_text() == "old"


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_lock_that_is_something_else_is_left_alone(kind: str, tmp_path: Path):
    lock, mine = tmp_path / ".out.lock", tmp_path / "mine.txt"
    mine.write_text("mine")
    {"link": lambda: lock.symlink_to(mine), "folder": lock.mkdir, "pipe": lambda: os.mkfifo(lock)}[kind]()
    with pytest.raises(UserError, match=r"\.out\.lock: is no regular file"), sole_writer(tmp_path / "out"):
        pass
    assert mine.read_text() == "mine" and lock.exists()


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full(folder, free=10**9))
    for error in (RuntimeError("a bug"), OSError(errno.EACCES, "Permission denied"), UserError("a mistake")):
        with pytest.raises(type(error)) as found, atomic_file(tmp_path / "out"):
            raise error
        assert found.value is error
    monkeypatch.setattr(shutil, "disk_usage", full)
    with pytest.raises(UserError, match="a mistake"), atomic_file(tmp_path / "out"):
        raise UserError("a mistake")


def test_a_corpus_on_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def write(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    store = ClipStore(SourceFiles(tmp_path), tmp_path / "out")
    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(OSError, match="No space left on device: .* free on the disk of /.*a.wav"):
        store.store(Clip("a.wav", data=bytes(100)), Header(1.0, 16_000, 1, ".wav"))
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file()]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (40_960, "41 kB"), (5_650_000, "5.7 MB"), (3.1e9, "3.1 GB")]
)
def test_sizes_are_written_for_people(size: float, text: str):
    assert size_text(size) == text
