"""Folders are whole or absent: a reader that looks while one is replaced finds the old one or the new one."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

import pytest

from common.files import atomic_folder


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
