"""Safetensors files read and written piece by piece: the format is a length, a JSON header and the bytes."""

from __future__ import annotations

import json
import math
import os
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError

Floats = NDArray[np.float32]
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
TORCH_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
MOST_HEADER_BYTES = 100_000_000  # the limit of the safetensors library
DTYPES = {name: code for code, name in TORCH_NAMES.items() if code != "F64"}


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies: its file, dtype (safetensors' code), shape, and first byte in the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int

    @property
    def numel(self) -> int:
        """How many elements the tensor has."""
        return math.prod(self.shape)

    def rows(self, first: int, last: int) -> tuple[int, int]:
        """The elements [first, last) as (position, length) in bytes."""
        size = ITEM_BYTES[self.dtype]
        return self.begin + first * size, (last - first) * size


def read_header(file: Path) -> dict[str, Entry]:
    """Reads where the tensors of a safetensors file lie, in the order of the file.

    Raises:
        UserError: where the file is no safetensors file, is cut short, or holds a dtype that cannot be merged.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size - 8, MOST_HEADER_BYTES):
                raise ValueError(f"its header should have {length} bytes, the whole file has {size}")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        entries, end = {}, 8 + length
        for name, value in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            first, last = value["data_offsets"]
            if not all(type(number) is int and number >= 0 for number in (first, last, *value["shape"])):
                raise ValueError(f"the tensor {name} has a shape or place that is no number")
            if 8 + length + first < end:
                raise ValueError(f"the tensor {name} lies over the one before it")
            entry = Entry(file, value["dtype"], tuple(value["shape"]), 8 + length + first)
            if not isinstance(entry.dtype, str) or entry.dtype not in ITEM_BYTES:
                raise UserError(f"{file}: the tensor {name} is {entry.dtype}; merged are {', '.join(ITEM_BYTES)}")
            if last - first != entry.numel * ITEM_BYTES[entry.dtype]:
                raise ValueError(f"the tensor {name} has {last - first} bytes for {entry.dtype}{list(entry.shape)}")
            entries[name], end = entry, max(end, 8 + length + last)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{file}: not a safetensors file ({error}); copy or download it again") from None
    if size < end:
        raise UserError(f"{file}: cut short, {size} bytes of {end}; copy or download it again")
    return entries


class Reader:
    """Reads elements of tensors; safe to use from several threads."""

    def __init__(self) -> None:
        """Opens nothing yet; files are opened when first asked for."""
        self._handles: dict[Path, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Reader:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the files."""
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()

    def open(self, entry: Entry) -> int:
        """Returns the file descriptor of the entry's file."""
        with self._lock:
            if entry.file not in self._handles:
                self._handles[entry.file] = os.open(entry.file, os.O_RDONLY)
            return self._handles[entry.file]

    def read(self, entry: Entry, first: int = 0, last: int | None = None) -> NDArray[Any]:
        """Returns the elements [first, last) of a tensor, flat, as they lie in the file (bfloat16 as uint16)."""
        position, length = entry.rows(first, entry.numel if last is None else last)
        array = np.empty(length // ITEM_BYTES[entry.dtype], NUMPY[entry.dtype])
        view, done = memoryview(array).cast("B"), 0
        while done < length:
            count = os.preadv(self.open(entry), [view[done:]], position + done)
            if count == 0:
                raise UserError(f"{entry.file}: ended while it was read; was it changed meanwhile?")
            done += count
        return array


def to_float32(array: NDArray[Any]) -> Floats:
    """Returns what was read as float32; the array itself where it is that already."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def from_float32(array: Floats, dtype: str) -> NDArray[Any]:
    """Returns float32 as a file's dtype, rounded to nearest even (bfloat16 as uint16)."""
    if dtype == "BF16":
        bits = array.view(np.uint32)
        return ((bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    return array.astype(NUMPY[dtype], copy=False)


def word_sum(array: NDArray[Any]) -> int:
    """The sum of an array's 64-bit words (and of the bytes of a last, partial one): a checksum at memory's speed."""
    raw = array.reshape(-1).view(np.uint8)
    whole = raw.size // 8 * 8
    return int(raw[:whole].view(np.uint64).sum(dtype=np.uint64)) + int.from_bytes(raw[whole:].tobytes(), "little")


class Writer:
    """Writes one safetensors file of known names and shapes, elements in any order, from several threads."""

    def __init__(self, file: Path, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str]) -> None:
        """Writes the header and reserves the room; `dtypes` are safetensors' codes."""
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        place = 0
        for name, shape in shapes.items():
            length = math.prod(shape) * ITEM_BYTES[dtypes[name]]
            header[name] = {"dtype": dtypes[name], "shape": list(shape), "data_offsets": [place, place + length]}
            place += length
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.entries = {
            name: Entry(file, dtypes[name], tuple(shape), 8 + len(text) + header[name]["data_offsets"][0])  # type: ignore[index]
            for name, shape in shapes.items()
        }
        self._handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        os.pwrite(self._handle, struct.pack("<Q", len(text)) + text, 0)
        os.truncate(self._handle, 8 + len(text) + place)

    def __enter__(self) -> Writer:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file."""
        os.close(self._handle)

    def write(self, name: str, values: Floats, first: int = 0) -> None:
        """Writes a tensor's elements from its element `first` on, cast to the file's dtype."""
        entry = self.entries[name]
        cast = from_float32(np.ascontiguousarray(values).reshape(-1), entry.dtype)
        position, _ = entry.rows(first, first)
        view, done = memoryview(cast).cast("B"), 0
        while done < len(view):
            done += os.pwrite(self._handle, view[done:], position + done)
