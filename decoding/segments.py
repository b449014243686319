"""Find the speech of a recording of any length, and cut it at pauses into segments that the model's window holds.

Voice activity is detected by silero-vad (https://github.com/snakers4/silero-vad), whose package brings its weights.

Shape suffixes: F frames of 32 ms, S samples at 16 kHz.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from common.audio import SAMPLE_RATE_HZ, mono, resample
from common.errors import UserError
from common.sound_files import opened

_FRAME = 512  # samples: what silero-vad judges at once
_FRAME_S = _FRAME / SAMPLE_RATE_HZ
_BLOCK_S = 32  # a whole number of frames
_PAUSE_FRAMES = 6  # the shortest pause, 0.2 s
_SPEECH = 0.5  # the least probability of a frame of speech, silero-vad's default
_FAINTEST = 1e-6  # -120 dB: anything weaker is rounding error
_LOUDEST = 0.5  # the peak that a block is scaled to before it is judged
_SHORTEST_S = 2.0  # of a segment cut at a short rest: the language of a shorter one is hard to detect
_REST = {"min_speech_duration_ms": 0, "min_silence_duration_ms": 2000, "speech_pad_ms": 400}  # as in faster-whisper


@dataclass(frozen=True)
class Segment:
    """A part of a recording, in seconds."""

    start: float
    end: float
    has_speech: bool = True


@dataclass(frozen=True)
class Sound:
    """A recording, frame by frame: the levels (F,) and the probabilities of speech (F,); and its duration."""

    levels_F: Tensor
    speech_F: Tensor
    duration_s: float


def segments_of(path: Path, longest_s: float, rest_s: float = 2.0, everything: bool = False) -> list[Segment]:
    """Cut a recording into segments, which together cover all of it; those with speech last at most `longest_s`.

    Args:
        path: the recording.
        longest_s: of a segment with speech.
        rest_s: speech is also cut at rests of at least this length, into segments of at least two seconds.
        everything: treat the whole recording as speech.

    Raises:
        UserError: where it cannot be read, or holds no audio.
    """
    sound = sound_of(path)
    segments: list[Segment] = []
    before_s = 0.0
    for start_s, end_s in [(0.0, sound.duration_s)] if everything else _speech(sound):
        if start_s > before_s:
            segments.append(Segment(before_s, start_s, has_speech=False))
        cuts = [start_s]
        for until_s in [*_rests(sound, start_s, end_s, rest_s), end_s]:
            while until_s - cuts[-1] > longest_s:
                cuts.append(_pause(sound, cuts[-1], longest_s))
            cuts.append(until_s)
        segments += [Segment(*borders) for borders in pairwise(cuts)]
        before_s = end_s
    if before_s < sound.duration_s:
        segments.append(Segment(before_s, sound.duration_s, has_speech=False))
    return segments


def sound_of(path: Path) -> Sound:
    """Measure a recording block by block; each block is judged with its mean removed and its peak normalised.

    Raises:
        UserError: where it cannot be read, or holds no audio.
    """
    detector = _detector()
    detector.reset_states()
    levels, speech, count = [], [], 0
    with opened(path) as file:
        for block in file.blocks(blocksize=_BLOCK_S * file.samplerate, dtype="float32", always_2d=True):
            count += len(block)
            waveform_S = resample(torch.from_numpy(mono(block, path)), file.samplerate)
            waveform_S = waveform_S - waveform_S.mean()
            peak = float(waveform_S.abs().max())
            frames_FS = pad(waveform_S, (0, -len(waveform_S) % _FRAME)).view(-1, _FRAME)
            levels.append(frames_FS.square().mean(1).sqrt())
            speech.append(_probabilities(frames_FS * (_LOUDEST / peak)) if peak > _FAINTEST else 0 * levels[-1])
        duration_s = count / file.samplerate
    if not count:
        raise UserError(f"{path}: the file holds no audio")
    return Sound(torch.cat(levels), torch.cat(speech), duration_s)


@cache
def _detector() -> torch.jit.ScriptModule:
    threads = torch.get_num_threads()
    from silero_vad import load_silero_vad

    torch.set_num_threads(threads)  # importing the package sets it to 1
    return load_silero_vad()


@torch.inference_mode()
def _probabilities(frames_FS: Tensor) -> Tensor:
    return torch.cat([_detector()(frame_S[None], SAMPLE_RATE_HZ)[0] for frame_S in frames_FS])


def _speech(sound: Sound) -> Iterator[tuple[float, float]]:
    """Yield where speech begins and ends, in seconds; rests of up to two seconds count as speech."""
    from silero_vad import get_speech_timestamps_from_probs

    samples = round(sound.duration_s * SAMPLE_RATE_HZ)
    for found in get_speech_timestamps_from_probs(sound.speech_F.tolist(), audio_length_samples=samples, **_REST):
        yield found["start"] / SAMPLE_RATE_HZ, min(found["end"] / SAMPLE_RATE_HZ, sound.duration_s)


def _rests(sound: Sound, start_s: float, end_s: float, rest_s: float) -> Iterator[float]:
    """Yield the middles of rests of at least `rest_s`, at least two seconds from the last cut and from the end."""
    first, cut_s = int(start_s / _FRAME_S), start_s
    is_speech = (sound.speech_F[first : int(end_s / _FRAME_S)] >= _SPEECH).nonzero().flatten().tolist()
    for before, after in pairwise(first + frame for frame in is_speech):
        middle_s = (before + 1 + after) / 2 * _FRAME_S
        if (after - before - 1) * _FRAME_S >= rest_s and min(middle_s - cut_s, end_s - middle_s) >= _SHORTEST_S:
            yield middle_s
            cut_s = middle_s


def _pause(sound: Sound, start_s: float, longest_s: float) -> float:
    """Find the end of the segment that begins at `start_s`, in its second half.

    It is the middle of the longest rest, where sentences meet; without one, the quietest place, the last of equals.
    """
    first = int((start_s + longest_s / 2) / _FRAME_S)
    last = int((start_s + longest_s) / _FRAME_S)
    if last - first < _PAUSE_FRAMES:
        return start_s + longest_s
    lengths, length = [], 0
    for is_rest in (sound.speech_F[first:last] < _SPEECH).tolist():
        length = (length + 1) * is_rest
        lengths.append(length)
    longest = max(lengths)
    if _PAUSE_FRAMES <= longest < last - first:  # if nothing here is speech, the quietest place is better
        return (first + lengths.index(longest) + 1 - longest / 2) * _FRAME_S
    around_F = sound.levels_F[first:last].unfold(0, _PAUSE_FRAMES, 1).mean(1)
    quietest = len(around_F) - 1 - int(around_F.flip(0).argmin())
    return (first + quietest + _PAUSE_FRAMES / 2) * _FRAME_S
