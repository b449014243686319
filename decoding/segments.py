"""Cut recordings of any length at their pauses, into segments that the model's window holds.

Shape suffixes: F frames of 20 ms.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from common.audio import mono
from common.errors import UserError
from common.sound_files import opened

_FRAME_S = 0.02
_PAUSE_FRAMES = 10  # a pause is looked for as 0.2 s of little sound
_SILENCE = 1e-3  # root mean square of a frame, -60 dB of the loudest there can be


@dataclass(frozen=True)
class Segment:
    """A part of a recording, in seconds; `is_silent` where no frame of it is loud enough to be speech."""

    start: float
    end: float
    is_silent: bool = False


def segments_of(path: Path, longest_s: float) -> list[Segment]:
    """Cut a recording into segments of at most `longest_s` seconds, which together cover all of it.

    Raises:
        UserError: where it cannot be read, or holds no audio.
    """
    rms_F, duration_s = loudness(path)
    cuts = [0.0]
    while duration_s - cuts[-1] > longest_s:
        cuts.append(_pause(rms_F, cuts[-1], longest_s))
    cuts.append(duration_s)
    return [Segment(start, end, _is_silent(rms_F, start, end)) for start, end in pairwise(cuts)]


def loudness(path: Path) -> tuple[np.ndarray, float]:
    """Return the root mean square of each 20 ms of a recording (F,), and its duration in seconds.

    Raises:
        UserError: where it cannot be read, or holds no audio.
    """
    squares = []
    count = 0
    with opened(path) as file:
        rate_hz, size = file.samplerate, max(1, round(_FRAME_S * file.samplerate))
        for block in file.blocks(blocksize=500 * size, dtype="float32", always_2d=True):
            count += len(block)
            padded = np.pad(mono(block, path).astype(np.float64), (0, -len(block) % size))
            squares.append((padded.reshape(-1, size) ** 2).mean(axis=1))
    if not count:
        raise UserError(f"{path}: the file holds no audio")
    return np.sqrt(np.concatenate(squares)), count / rate_hz


def _pause(rms_F: np.ndarray, start_s: float, longest_s: float) -> float:
    """Find the end of the segment that begins at `start_s`: its second half's quietest place, the last of equals."""
    first = int((start_s + longest_s / 2) / _FRAME_S)
    last = int((start_s + longest_s) / _FRAME_S)
    around = np.convolve(rms_F[first:last], np.ones(_PAUSE_FRAMES) / _PAUSE_FRAMES, mode="valid")
    if not len(around):
        return start_s + longest_s
    quietest = len(around) - 1 - int(np.argmin(around[::-1]))
    return (first + quietest + _PAUSE_FRAMES / 2) * _FRAME_S


def _is_silent(rms_F: np.ndarray, start_s: float, end_s: float) -> bool:
    part_F = rms_F[int(start_s / _FRAME_S) : int(np.ceil(end_s / _FRAME_S))]
    return bool((part_F < _SILENCE).all())
