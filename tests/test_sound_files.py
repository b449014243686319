"""Files whose header does not know how long they are: what they hold is found by decoding, everywhere alike."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from common.audio import load_waveform, resample
from common.errors import UserError
from common.manifest import read_manifest
from common.sound_files import opened
from corpora.check import check
from corpora.corpus import prepare
from corpora.readers.folder import Folder
from corpora.readers.source import SourceFiles
from decoding.segments import sound_of
from tests.corpus_trees import put

HZ = 16_000
SPEECH = 0.1 * np.random.default_rng(0).standard_normal(3 * HZ)


def encoded(kind: str, subtype: str, waveform: np.ndarray = SPEECH) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, waveform, HZ, format=kind, subtype=subtype)
    return data.getvalue()


def _unknown(flac: bytes) -> bytes:
    """A FLAC file that says that it holds 0 samples, as those written to a pipe do."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


def streamed_wav(riff: int, size: int) -> bytes:
    data = encoded("WAV", "PCM_16")
    return data[:4] + struct.pack("<I", riff) + data[8:40] + struct.pack("<I", size) + data[44:]


LONG = np.tile(SPEECH, 40)  # of several blocks
FILES = {
    "long.flac": (_unknown(encoded("FLAC", "PCM_16", LONG)), 120.0),
    "stream.flac": (_unknown(encoded("FLAC", "PCM_16")), 3.0),
    "zero.wav": (streamed_wav(0, 0), 3.0),
    "pipe.wav": (streamed_wav(2**32 - 1, 2**32 - 1), 3.0),
    "sox.wav": (streamed_wav(2**31 + 35, 2**31 - 1), 3.0),
    "twice.ogg": (encoded("OGG", "VORBIS") * 2, 6.0),
    "twice.opus": (encoded("OGG", "OPUS") + encoded("OGG", "OPUS", SPEECH[:HZ]), 4.0),
    "plain.flac": (encoded("FLAC", "PCM_16"), 3.0),
    "plain.ogg": (encoded("OGG", "VORBIS"), 3.0),
    "plain.mp3": (encoded("MP3", "MPEG_LAYER_III"), 3.0),
}


@pytest.mark.parametrize("name", FILES)
def test_the_length_is_what_the_file_holds(name: str, tmp_path: Path):
    data, duration_s = FILES[name]
    path = tmp_path / name
    path.write_bytes(data)
    with opened(path) as file:
        assert file.frames / file.samplerate == pytest.approx(duration_s, abs=1e-3)
    waveform_S = load_waveform(path)
    assert len(waveform_S) == pytest.approx(duration_s * HZ, abs=16)
    assert sound_of(path).duration_s == pytest.approx(duration_s, abs=1e-3)
    end = load_waveform(path, duration_s - 0.5, 0.5)
    assert np.array_equal(end, waveform_S[round((duration_s - 0.5) * HZ) :])
    if "plain" not in name and "opus" not in name and "ogg" not in name:
        assert np.abs(waveform_S.numpy() - np.tile(SPEECH, round(duration_s / 3))).max() < 1e-4
    elif duration_s > 3:  # lossy, but every second is as loud as it was
        assert (waveform_S.unfold(0, HZ, HZ).square().mean(1).sqrt().numpy() > 0.05).all()


def test_prepare_and_check_agree_with_reading(tmp_path: Path, capsys: pytest.CaptureFixture):
    rows = ["file_name,text,id", *(f"{name},이 bug {number},{name}" for number, name in enumerate(FILES))]
    put(tmp_path / "in/metadata.csv", "\n".join(rows).encode())
    for name, (data, _) in FILES.items():
        put(tmp_path / "in" / name, data)
    found = prepare(Folder(pair="ko-en", split="test"), SourceFiles(tmp_path / "in"), tmp_path / "out")
    assert not found.skipped
    durations = {row.audio.name: row.duration for row in read_manifest(tmp_path / "out/test.jsonl")}
    assert durations == {name: pytest.approx(duration_s, abs=1e-3) for name, (_, duration_s) in FILES.items()}
    check([tmp_path / "out/test.jsonl"])
    assert "unreadable" not in (said := capsys.readouterr().out) and "duration" not in said, said


def varying_mp3() -> bytes:
    """Noise, then silence, of varying bitrate; the first frame, which holds the index, taken away."""
    data = io.BytesIO()
    waveform = np.concatenate([SPEECH, np.zeros(20 * HZ)])
    with soundfile.SoundFile(data, "w", HZ, 1, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5) as file:
        file.write(waveform)
    frame = data.getvalue()
    return frame[frame.find(frame[:2], 4) :]


@pytest.mark.parametrize("tag", [b"", b"ID3\x03\x00\x00" + bytes([0, 0, 8, 0]) + bytes(1024)])
def test_an_mp3_without_an_index_is_read_to_its_end(tag: bytes, tmp_path: Path):
    path = tmp_path / "a.mp3"
    path.write_bytes(tag + varying_mp3())
    assert soundfile.info(path).duration < 20
    waveform_S = load_waveform(path)
    assert len(waveform_S) == pytest.approx(23 * HZ, abs=0.1 * HZ)
    assert waveform_S[:HZ].square().mean().sqrt() > 0.05 and waveform_S[-HZ:].abs().max() < 1e-3
    assert np.array_equal(load_waveform(path, 2.5, 0.5), waveform_S[round(2.5 * HZ) : 3 * HZ])


def test_streams_of_differing_rates_are_refused(tmp_path: Path):
    other = io.BytesIO()
    soundfile.write(other, SPEECH, 24_000, format="OGG", subtype="VORBIS")
    (tmp_path / "a.ogg").write_bytes(encoded("OGG", "VORBIS") + other.getvalue())
    with pytest.raises(UserError, match=r"a.ogg: 2 streams of differing sample rates .* convert it: ffmpeg"):
        load_waveform(tmp_path / "a.ogg")


def test_resampling_gives_the_same_bits_on_any_number_of_threads():
    waveform_S = torch.from_numpy(SPEECH[:HZ]).float()
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            found.append(resample(waveform_S, 14_400))
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
