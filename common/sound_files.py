"""Audio files opened with their true length: where the header does not state it, a file is decoded once, in memory.

Recorders and pipes leave such files: FLAC and WAV written to a pipe, concatenated Ogg streams, and mp3 of varying
bitrate without an index.
"""

import functools
import io
import math
import mmap
import os
import re
import shlex
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from common.constants import DURATION_TOLERANCE_S, SAMPLE_RATE_HZ
from common.errors import UserError
from common.input_files import check_file

MOST_SAMPLES = 2**28  # four hours of mono speech at 16 kHz: what is held in memory at once
_MOST_TAPS = 2**24  # 44,100 Hz needs 70,560; 64 MB of filter
_BLOCK = 2**20
_FIRST_OGG_PAGE = re.compile(rb"OggS\x00[\x02\x06]")  # of a stream
_MP3_INDEX = re.compile(rb"Xing|Info|VBRI")
_MP3_FRAME = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
# What phones, browsers and cameras write, and libsndfile does not read.
_FOREIGN = {
    re.compile(rb"....ftyp", re.DOTALL): "AAC or other sound in an MP4 container",
    re.compile(rb"\x1aE\xdf\xa3"): "sound in a WebM or Matroska container",
    re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"): "AAC",
    re.compile(rb"\x30\x26\xb2\x75"): "Windows Media",
    re.compile(rb"#!AMR"): "AMR",
}
FOREIGN_SUFFIXES = frozenset(
    (".3gp", ".aac", ".amr", ".avi", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wma")
)


@contextmanager
def opened(file: Path | str | io.BytesIO, name: str | None = None) -> Iterator[soundfile.SoundFile]:
    """Open an audio file, or one in memory, to read from; its `frames` is the true length.

    Args:
        file: what to open.
        name: for messages; by default the path.

    Raises:
        UserError: where it is missing or unreadable, also while it is read, its sample rate is not one of audio, or its
            length cannot be found.
    """
    name = name or str(file)
    try:
        if isinstance(file, io.BytesIO):
            rewritten = _rewritten(file.getvalue(), name)
        else:
            stat = check_file(file).stat()
            rewritten = _rewritten_file(Path(file), stat.st_mtime_ns) if stat.st_size else None
        source = io.BytesIO(rewritten) if rewritten else file
        # soundfile takes a name that is not UTF-8 as bytes alone
        with soundfile.SoundFile(source if isinstance(source, io.BytesIO) else os.fsencode(source)) as sound:
            rate_hz = sound.samplerate
            if rate_hz * SAMPLE_RATE_HZ // math.gcd(rate_hz, SAMPLE_RATE_HZ) ** 2 > _MOST_TAPS:
                reason = f"a sample rate of {rate_hz} Hz is none that audio is recorded at; convert the file"
                raise UserError(f"{name}: {reason}")
            yield sound
    except (soundfile.LibsndfileError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error).rsplit(": ", 1)[-1]
        raise UserError(f"{name}: the audio cannot be read: {_foreign(file, name) or reason}") from None


def _foreign(file: Path | str | io.BytesIO, name: str) -> str | None:
    """For a file that another program must convert first: its format, and how to convert it; else None."""
    head = b""
    in_memory = isinstance(file, io.BytesIO)
    with suppress(OSError), io.BytesIO(file.getvalue()) if in_memory else Path(file).open("rb") as stream:
        head = stream.read(16)
    kind = next((kind for begins, kind in _FOREIGN.items() if begins.match(head)), None)
    return kind and f"it is {kind}; {_conversion(name)}"


def _conversion(name: str) -> str:
    path = Path(name)
    into = f"{path.stem}{'-converted' * (path.suffix == '.wav')}.wav"
    return f"convert it: ffmpeg -i {shlex.quote(path.name)} {shlex.quote(into)}"


@functools.lru_cache(maxsize=1)  # utterances of one long recording open it one after the other
def _rewritten_file(path: Path, _changed_ns: int) -> bytes | None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _rewritten(data, str(path))


def _rewritten(data: bytes | mmap.mmap, name: str) -> bytes | None:
    """The sound as a WAV file of known length, None where the header of `data` can be trusted."""
    head = bytes(data[:12])
    if head[:4] == b"fLaC" and not int.from_bytes(data[21:26], "big") % 2**36:
        patched = bytearray(data[:])
        patched[21:26] = (int.from_bytes(data[21:26], "big") | 2**36 - 1).to_bytes(5, "big")  # the most that fits
        return _decoded([io.BytesIO(patched)], name)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        place = data.find(b"data", 12, 4096)
        rest = len(data) - place - 8
        if place > 0 and rest > 0 and data[place + 4 : place + 8] == bytes(4):
            return bytes(data[: place + 4]) + struct.pack("<I", min(rest, 2**32 - 1)) + bytes(data[place + 8 :])
    if head[:4] == b"OggS":
        begins = [found.start() for found in _FIRST_OGG_PAGE.finditer(data)]
        if len(begins) > 1:
            return _decoded([io.BytesIO(data[a:b]) for a, b in pairwise([*begins, len(data)])], name)
    if head[:3] == b"ID3" or _MP3_FRAME.match(head):
        return _rewritten_mp3(data, name)
    return None


class _Endless(io.BytesIO):
    """Bytes that seem to have no end, so that libsndfile does not stop at the length that it guesses for an mp3."""

    _asked_for_end = False

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._asked_for_end = whence == io.SEEK_END
        return 0 if self._asked_for_end else super().seek(offset, whence)

    def tell(self) -> int:
        return 2**40 if self._asked_for_end else super().tell()


def _rewritten_mp3(data: bytes | mmap.mmap, name: str) -> bytes | None:
    """Decode an mp3 that has no index and is longer than libsndfile guesses by its first frame's bitrate; else None."""
    begin = 0
    if data[:3] == b"ID3":
        begin = 10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    if _MP3_INDEX.search(data, begin, begin + 256):
        return None
    with soundfile.SoundFile(_Endless(data)) as whole, soundfile.SoundFile(io.BytesIO(data)) as guessed:
        missing_s = (sum(map(len, _blocks(whole))) - guessed.frames) / guessed.samplerate
    return _decoded([_Endless(data)], name) if missing_s > DURATION_TOLERANCE_S else None


def _decoded(streams: list[io.BytesIO], name: str) -> bytes:
    """Concatenate the streams as a WAV file."""
    blocks: list[np.ndarray] = []
    formats = set()
    for stream in streams:
        with soundfile.SoundFile(stream) as sound:
            formats.add((sound.samplerate, sound.channels))
            for block in _blocks(sound):
                blocks.append(block)
                if sum(block.size for block in blocks) > MOST_SAMPLES:
                    raise UserError(f"{name}: its header does not say how long it is; {_conversion(name)}")
    if len(formats) != 1:
        raise UserError(f"{name}: {len(streams)} streams of differing sample rates or channels; {_conversion(name)}")
    written = io.BytesIO()
    ((rate_hz, _),) = formats
    soundfile.write(written, np.concatenate(blocks), rate_hz, format="WAV", subtype="FLOAT")
    return written.getvalue()


def _blocks(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Yield the frames (T, channels) that a stream holds."""
    is_whole = True
    while is_whole:
        block = np.full((_BLOCK, sound.channels), np.nan, dtype=np.float32)
        try:
            block = sound.read(out=block)
        except soundfile.LibsndfileError:  # at the end of a FLAC stream of unknown length, but the frames are read
            block = block[: int(np.isfinite(block[:, 0]).sum())]
        yield block
        is_whole = len(block) == _BLOCK
