"""A record's audio: measured by its header, then given a file that a manifest can point to."""

import functools
import hashlib
import io
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import soundfile

from common.errors import UserError
from common.files import naming_disk
from common.input_files import check_file
from common.sound_files import opened
from corpora.readers.reader import Clip
from corpora.readers.source import SourceFiles

SUFFIX = {"WAV": ".wav", "WAVEX": ".wav", "FLAC": ".flac", "OGG": ".ogg", "MPEG": ".mp3", "MP3": ".mp3"}


class BrokenRecord(Exception):
    """A record that cannot be used; the message says why, and names the file if its audio is at fault."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of an audio file says; `duration_s` is that of the clip."""

    duration_s: float
    sample_rate_hz: int
    channels: int
    suffix: str


def measure(source: SourceFiles, clip: Clip) -> Header:
    """Read a clip's header, not its samples.

    Raises:
        BrokenRecord: where the file is missing, empty, cut short or no audio, or the clip does not lie within it.
    """
    where = source.where(clip.name) if clip.data is None else "the stored audio"
    if clip.data is None and clip.name not in source:
        raise BrokenRecord(f"{where}: the audio file does not exist")
    if clip.raw_rate_hz:
        size = source.size(clip.name)
        if size % 2 or not size:
            raise BrokenRecord(f"{where}: {size} bytes; raw 16-bit audio has an even number of bytes above 0")
        whole = Header(size / 2 / clip.raw_rate_hz, clip.raw_rate_hz, 1, ".wav")
    else:
        whole = _header_of(source, clip.name) if clip.data is None else _header(io.BytesIO(clip.data), where)
    if clip.duration_s is None and not clip.start_s:
        return whole
    duration_s = whole.duration_s - clip.start_s if clip.duration_s is None else clip.duration_s
    if clip.start_s < 0 or duration_s <= 0 or clip.start_s + duration_s > whole.duration_s + 0.1:
        part = f"{clip.start_s:g} to {clip.start_s + duration_s:g} s"
        raise BrokenRecord(f"{where}: {part} was asked of {whole.duration_s:g} s of audio")
    return replace(whole, duration_s=min(duration_s, whole.duration_s - clip.start_s))


class ClipStore:
    """Give every clip a file: its own if it is on disk, else one under `folder`/audio.

    A file with other audio from an earlier preparation is not overwritten, because its manifests are valid until the
    new ones replace them: the new audio gets a different name.
    """

    def __init__(self, source: SourceFiles, folder: Path) -> None:
        self._source, self._folder = source, folder / "audio"
        self._stored: dict[tuple[str, str], Path] = {}
        for partial in self._folder.rglob(".*.partial"):  # of a preparation that was killed
            partial.unlink()

    def store(self, clip: Clip, header: Header) -> Path:
        """Return the file that holds the clip's audio, written on the first call for it; raw audio becomes wav."""
        path = None if clip.data is not None or clip.raw_rate_hz else self._source.path(clip.name)
        if path is not None:
            return path.absolute()
        key = (clip.name, header.suffix)
        if key not in self._stored:
            target = (self._folder / PurePosixPath(clip.name)).absolute()
            data = self._source.read(clip.name) if clip.data is None else clip.data
            if clip.raw_rate_hz:
                wav = io.BytesIO()
                soundfile.write(wav, np.frombuffer(data, "<i2"), clip.raw_rate_hz, format="WAV")
                data = wav.getvalue()
            target = target.with_name(target.stem + header.suffix)
            if target.is_file() and target.read_bytes() != data:
                target = target.with_name(f"{target.stem}.{hashlib.sha256(data).hexdigest()[:12]}{header.suffix}")
            if not target.is_file():
                partial = target.with_name(f".{target.name}.partial")
                with naming_disk(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    try:
                        partial.write_bytes(data)
                        partial.replace(target)
                    finally:
                        partial.unlink(missing_ok=True)
            self._stored[key] = target
        return self._stored[key]


@functools.lru_cache(maxsize=1)
def _header_of(source: SourceFiles, name: str) -> Header:
    """The header of a file; cached, because utterances of one dialogue ask for the same file in a row."""
    return _header(source.path(name) or io.BytesIO(source.read(name)), source.where(name))


def _header(file: Path | io.BytesIO, where: str) -> Header:
    try:
        stored = check_file(file).open("rb") if isinstance(file, Path) else file
    except UserError as error:
        raise BrokenRecord(str(error)) from None
    with stored:
        head, size = stored.read(12), stored.seek(0, io.SEEK_END)
        if not size:
            raise BrokenRecord(f"{where}: the audio file holds 0 bytes")
        try:
            stored.seek(0)
            suffix = SUFFIX.get(soundfile.info(stored).format, ".wav")
            stored.seek(0)
            with opened(file, where) as sound:
                header = Header(sound.frames / sound.samplerate, sound.samplerate, sound.channels, suffix)
        except (soundfile.LibsndfileError, UserError) as error:
            raise BrokenRecord(f"{where}: not readable as audio ({str(error).rsplit(': ', 1)[-1]})") from None
    if header.duration_s <= 0:
        raise BrokenRecord(f"{where}: the audio file holds no samples")
    # libsndfile reads a truncated RIFF file without an error.
    missing = int.from_bytes(head[4:8], "little") + 8 - size if head[:4] == b"RIFF" else 0
    is_streamed = missing + size >= 0xFFFFFF00 or abs(missing + size - 2**31) < 256  # written to a pipe
    if missing > 0 and not is_streamed:
        raise BrokenRecord(f"{where}: the wav file is cut short: by its header {missing} bytes are missing")
    return header
