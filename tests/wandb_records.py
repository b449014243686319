"""Reads a `.wandb` file, which an offline run leaves: LevelDB's log format, a protocol buffer a record."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK, _FILE_HEADER, _HEADER = 32_768, 7, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(path: Path) -> list[Record]:
    """All records in order, once wandb's own process has written the last."""
    for _ in range(600):
        found = list(_records(path.read_bytes()))
        if found and found[-1].HasField("exit"):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{path} does not end")


def _records(data: bytes) -> Iterator[Record]:
    assert data[:4] == b":W&B"
    position, parts = _FILE_HEADER, b""
    while position + _HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:  # the rest of a block, too short for a record
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + _HEADER])
        parts += data[position + _HEADER : position + _HEADER + length]
        position += _HEADER + length
        if kind in (_FULL, _LAST):
            yield Record.FromString(parts)
            parts = b""
        assert kind in (_FULL, _FIRST, _MIDDLE, _LAST)
