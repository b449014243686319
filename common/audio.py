"""From an audio file to a waveform: any format that libsndfile reads, 16 kHz mono float32."""

import io
import math
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor
from torch.nn import functional

from common.constants import DURATION_TOLERANCE_S, SAMPLE_RATE_HZ
from common.errors import UserError
from common.manifest import Utterance
from common.sound_files import MOST_SAMPLES, opened

_FILTER_SAMPLES = 64  # more than the resampling filter sees on either side
_FRAME = SAMPLE_RATE_HZ // 100
_SILENCE = 10 ** (-40 / 20)  # of the loudest frame
_KEPT_S = 0.05  # of silence at an utterance's ends
_CANCELLED = 0.01  # of the power that the mean would have if only one channel had sound


def load_waveform(path: Path, offset_s: float = 0.0, duration_s: float | None = None) -> Tensor:
    """Read `duration_s` seconds from `offset_s` on, mixed to one channel and resampled to 16 kHz.

    Args:
        path: the audio file.
        offset_s: where to begin.
        duration_s: how much to read; None reads to the end.

    Returns:
        float32 samples, shape (S,).

    Raises:
        UserError: where the file is missing, unreadable, empty, shorter than asked for or not of finite samples.
    """
    with opened(path) as file:
        rate_hz = file.samplerate
        samples = _read(file, round(offset_s * rate_hz), -1 if duration_s is None else round(duration_s * rate_hz))
    if not len(samples):
        raise UserError(f"{path}: no audio at {offset_s:g} s; the file is empty or shorter than the manifest says")
    if duration_s is not None and duration_s - len(samples) / rate_hz > DURATION_TOLERANCE_S:
        held = f"{len(samples) / rate_hz:.2f} s of audio" + (f" from {offset_s:g} s on" if offset_s else "")
        raise UserError(f"{path}: {held}, {duration_s:.2f} s by the manifest; the file is cut short")
    return resample(torch.from_numpy(mono(samples, path)), rate_hz)


def load_cut(utterance: Utterance, begin: int, end: int) -> Tensor:
    """Read only the samples from `begin` to `end` of an utterance, counted at 16 kHz from its start.

    The result equals that part of the whole waveform, with silence before the utterance's start and after its end.

    Args:
        utterance: where the audio lies.
        begin: the first sample, below 0 for silence before.
        end: the sample after the last.

    Raises:
        UserError: as `load_waveform`.
    """
    with opened(utterance.audio) as file:
        rate_hz, common = file.samplerate, math.gcd(file.samplerate, SAMPLE_RATE_HZ)
        # Blocks of this many frames last exactly this many samples at 16 kHz, so that a resampled part keeps its phase.
        frames, samples = rate_hz // common, SAMPLE_RATE_HZ // common
        around = 0 if rate_hz == SAMPLE_RATE_HZ else _FILTER_SAMPLES
        first = max(0, (begin - around) // samples)
        last = min(-(-(end + around) // samples) * frames, round(utterance.duration * rate_hz))
        read = _read(file, round(utterance.offset * rate_hz) + first * frames, max(0, last - first * frames))
    if first * frames + len(read) < last:  # raises the same error as the whole utterance
        load_waveform(utterance.audio, utterance.offset, utterance.duration)
    waveform_S = resample(torch.from_numpy(mono(read, utterance.audio)), rate_hz) if len(read) else torch.zeros(0)
    begin, end = begin - first * samples, end - first * samples
    part_S = waveform_S[max(0, begin) : end]
    before = max(0, -begin)
    return functional.pad(part_S, (before, end - begin - before - len(part_S)))


def _read(file: soundfile.SoundFile, first: int, count: int) -> np.ndarray:
    file.seek(min(first, file.frames))
    frames = file.frames - first if count < 0 else min(count, file.frames - first)
    if frames * file.channels > MOST_SAMPLES:  # a header may state any length, and memory is allocated before reading
        raise UserError(
            f"{os.fsdecode(file.name)}: {frames} samples in {file.channels} channels at once; more than is read at once"
        )
    return file.read(count, dtype="float32", always_2d=True)


def mono(samples: np.ndarray, path: Path) -> np.ndarray:
    """The mean of the channels, or the loudest where inverted channels cancel each other: (S, channels) -> (S,).

    Raises:
        UserError: naming the file, where a sample is no finite number.
    """
    channels = samples.shape[1]
    with np.errstate(invalid="ignore"):  # opposite infinities, refused below
        mean_S = samples[:, 0] if channels == 1 else samples.mean(axis=1)
    if not np.isfinite(mean_S).all():
        raise UserError(f"{path}: the audio holds samples that are not finite numbers")
    if channels > 1 and len(samples):
        powers = np.square(samples, dtype=np.float64).mean(axis=0)
        if np.square(mean_S, dtype=np.float64).mean() < _CANCELLED * powers.max() / channels**2:
            mean_S = samples[:, powers.argmax()]
    return np.ascontiguousarray(mean_S)


def resample(waveform_S: Tensor, rate_hz: int) -> Tensor:
    """Resample to 16 kHz, with bit-identical results in a training process and in its workers."""
    if rate_hz == SAMPLE_RATE_HZ:
        return waveform_S
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers have: the last bit depends on it
    try:
        return _resampler(rate_hz)(waveform_S)
    finally:
        torch.set_num_threads(threads)


def write_sound(path: Path, waveform_S: np.ndarray, kind: str = "WAV") -> None:
    """Write 16 kHz mono as a file of 16-bit samples.

    Args:
        path: the file.
        waveform_S: samples in [-1, 1].
        kind: WAV or FLAC.

    Raises:
        UserError: where the file cannot be written, such as on a full disk, which libsndfile does not report.
    """
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform_S, SAMPLE_RATE_HZ, format=kind, subtype="PCM_16")
    try:
        path.write_bytes(buffer.getvalue())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def load_clip(utterance: Utterance) -> bytes:
    """The utterance as the bytes of a 16 kHz WAV file, for pages that play it."""
    waveform_S = load_waveform(utterance.audio, utterance.offset, utterance.duration)
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform_S.numpy(), SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def speech_edges(waveform_S: Tensor) -> tuple[float, float]:
    """Start and end of the speech in seconds, plus 50 ms on each side: all within 40 dB of the loudest 10 ms."""
    whole_s = len(waveform_S) / SAMPLE_RATE_HZ
    levels = [frame.square().mean().sqrt() for frame in waveform_S.split(_FRAME)]
    loud = (torch.stack(levels) > _SILENCE * max(levels)).nonzero().flatten().tolist() or [0, len(levels)]
    return max(0.0, loud[0] / 100 - _KEPT_S), min(whole_s, (loud[-1] + 1) / 100 + _KEPT_S)


@lru_cache(maxsize=8)
def _resampler(rate_hz: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(rate_hz, SAMPLE_RATE_HZ)
