"""espeak-ng through ctypes: a sentence of several languages in one call, with the exact time of each switch.

One SSML call speaks the whole sentence: `<voice xml:lang>` changes the language and keeps the speaker (the voice
variant, rate and pitch), `<mark>` events give the sample at which each span ends. Nothing has to be joined, and the
intonation continues across the switch. The library keeps state between calls that its random seed does not reset, so
the same audio needs a new process that speaks the same sentences in the same order; `speak_all` runs in such a process.
"""

import ctypes
import importlib.metadata
import importlib.util
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
import soundfile
import torch

from common.audio import SAMPLE_RATE_HZ, resample
from common.errors import UserError
from common.languages import script, scripts_of
from corpora.speak.engine import Spans, Speaker, Speech

KEPT_SILENCE_S = 0.08
SPOKEN_LANGUAGES = {"en": "en-us", "de": "de", "ko": "ko", "ja": "ja"}

_SYNCHRONOUS, _UTF8, _SSML = 2, 1, 0x10
_RATE, _PITCH = 1, 3
_BUFFER_MS = 5000  # few callbacks a sentence: each costs more than the speech in it
_LAST_EVENT, _MARK_EVENT = 0, 3
_ENGINE_SEED, _WORDS_A_MINUTE, _ENGINE_PITCH = 1, 165, 50  # of `EspeakEngine`


class _Event(ctypes.Structure):
    _numbers = ("type", "unique_identifier", "text_position", "length", "audio_position", "sample")
    # The last is a union; of a mark's event it is the mark's name.
    _fields_ = [*((name, ctypes.c_int) for name in _numbers), ("user_data", ctypes.c_void_p), ("name", ctypes.c_char_p)]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Voice(NamedTuple):
    """A speaker: an espeak-ng voice variant, a rate in words a minute and a pitch from 0 to 99."""

    variant: str
    rate: int
    pitch: int


class Line(NamedTuple):
    """What a speaker is to say: `(language, spoken text)` for each span, at most `longest_s` seconds."""

    name: str
    voice: Voice
    spans: tuple[tuple[str, str], ...]
    longest_s: float


class Spoken(NamedTuple):
    """A spoken line: its length, and the borders of its spans, one more than there are spans, all in seconds."""

    duration_s: float
    borders_s: tuple[float, ...]


def require() -> None:
    """Checks that the wheel with the espeak-ng library is installed.

    Raises:
        UserError: saying how to install it.
    """
    if importlib.util.find_spec("espeakng_loader") is None:
        raise UserError("the demo's speech needs espeak-ng, which is not installed: pip install -e '.[demo]'")


class Espeak:
    """The espeak-ng library, initialised; one a process, since its state is global."""

    def __init__(self, seed: int) -> None:
        import espeakng_loader  # GPL-3, an optional extra: loaded only where speech is made

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._chunks: list[np.ndarray] = []
        self._marks: dict[int, int] = {}
        self._callback = _Callback(self._receive)  # the library holds no reference of its own
        data_path = espeakng_loader.get_data_path().encode()
        self.rate_hz = self._library.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, data_path, 0)
        if self.rate_hz <= 0:
            raise UserError("espeak-ng could not be initialised: reinstall it with pip install -e '.[demo]'")
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))

    def say(self, spans: Spans, voice: Voice) -> Speech:
        """Speaks the spans as one utterance, with 80 ms of silence around them."""
        matrix = spans[0][0]
        name = f"{SPOKEN_LANGUAGES[matrix]}+{voice.variant}"
        if self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise RuntimeError(f"espeak-ng has no voice {name!r}")
        self._library.espeak_SetParameter(_RATE, voice.rate, 0)
        self._library.espeak_SetParameter(_PITCH, voice.pitch, 0)
        parts = []
        for i, (language, text) in enumerate(spans):
            # At the end of a span: espeak-ng drops a mark before some words, such as the particle `는`.
            part = f'{escape(text)}<mark name="{i}"/>'
            switches = language != matrix
            parts.append(f'<voice xml:lang="{SPOKEN_LANGUAGES[language]}">{part}</voice>' if switches else part)
        self._chunks, self._marks = [], {}
        ssml = f"<speak>{''.join(parts)}</speak>".encode()
        self._library.espeak_Synth(ssml, len(ssml) + 1, 0, 1, 0, _UTF8 | _SSML, None, None)
        self._library.espeak_Synchronize()
        if not set(range(len(spans) - 1)) <= set(self._marks):  # the last mark may come after the end
            raise RuntimeError(f"espeak-ng reported marks {sorted(self._marks)} of {len(spans)} spans: {ssml.decode()}")
        audio, borders_s = self._trimmed(np.concatenate(self._chunks), [self._marks[i] for i in range(len(spans) - 1)])
        samples_S = resample(torch.from_numpy(audio.astype(np.float32) / 32768), self.rate_hz).clamp(-1, 1)
        return Speech(samples_S, tuple(min(border_s, len(samples_S) / SAMPLE_RATE_HZ) for border_s in borders_s))

    def _trimmed(self, audio: np.ndarray, marks: list[int]) -> tuple[np.ndarray, list[float]]:
        """Int16 samples without the silence around them, and the seconds where spans begin and end."""
        loudness = np.abs(audio.astype(np.int32))
        loud = np.flatnonzero(loudness > 0.01 * loudness.max())
        silence = round(KEPT_SILENCE_S * self.rate_hz)
        padded = np.pad(audio, silence)  # espeak-ng begins at once
        borders_s = [(place - loud[0] + silence) / self.rate_hz for place in (loud[0], *marks, loud[-1] + 1)]
        return padded[loud[0] : loud[-1] + 1 + 2 * silence], [round(float(border_s), 4) for border_s in borders_s]

    def _receive(self, samples: ctypes.Array, count: int, events: ctypes.Array) -> int:
        if samples and count > 0:
            self._chunks.append(np.frombuffer(ctypes.string_at(samples, 2 * count), dtype="<i2"))
        i = 0
        while events[i].type != _LAST_EVENT:
            if events[i].type == _MARK_EVENT:
                self._marks[int(events[i].name)] = events[i].sample
            i += 1
        return 0


def speak_all(lines: list[Line], folder: Path, seed: int) -> list[Spoken]:
    """Speaks lines in order into `<folder>/<name>.wav`, 16 kHz mono int16; for a process that has spoken nothing yet.

    A line that comes out too long is spoken again, faster.

    Args:
        lines: what to speak.
        folder: where the audio goes.
        seed: of the library's random numbers.
    """
    torch.set_num_threads(1)
    engine = Espeak(seed)
    spoken = []
    for line in lines:
        speech = _fitting(engine, line)
        soundfile.write(folder / f"{line.name}.wav", speech.samples_S.numpy(), SAMPLE_RATE_HZ, subtype="PCM_16")
        spoken.append(Spoken(len(speech.samples_S) / SAMPLE_RATE_HZ, speech.borders_s))
    return spoken


def _fitting(engine: Espeak, line: Line) -> Speech:
    voice = line.voice
    for _ in range(5):
        speech = engine.say(line.spans, voice)
        if len(speech.samples_S) <= line.longest_s * SAMPLE_RATE_HZ:
            return speech
        voice = Voice(voice.variant, round(voice.rate * 1.12), voice.pitch)
    raise RuntimeError(f"{line.name}: longer than {line.longest_s} s even at {voice.rate} words a minute")


class EspeakEngine:
    """espeak-ng's voice variants, each a speaker.

    Raises:
        UserError: where espeak-ng is not installed.
    """

    voices = ("f1", "f2", "f4", "f5", "m1", "m2", "m4", "m5", "m7", "Alex", "anika", "adam", "shelby", "Reed")
    held_out_voices = ("f3", "m3", "Annie", "Michael", "linda", "max", "aunty", "m6")
    mixes = False
    stateless = False  # the library's state outlives its random seed

    def __init__(self) -> None:
        require()

    def sounds(self, spans: Spans) -> str:
        """The spans as they are written: espeak-ng reads them itself.

        Raises:
            ValueError: where a language has no voice, or a letter is not of its script.
        """
        for language, text in spans:
            if language not in SPOKEN_LANGUAGES:
                known = ", ".join(sorted(SPOKEN_LANGUAGES))
                raise ValueError(f"no voice for the language {language!r}; expected one of {known}")
            for char in text:
                if char.isalpha() and script(char) not in scripts_of(language):
                    raise ValueError(f"{char!r} is {script(char)}, not a letter of the language {language!r}")
        return repr(tuple(spans))

    def say(self, spans: Spans, speaker: Speaker, speed: float) -> Speech:
        """Speak the spans as one utterance; see `engine`."""
        ((variant, _),) = speaker.voices
        return self._library.say(spans, Voice(variant, round(_WORDS_A_MINUTE * speed), _ENGINE_PITCH))

    def about(self) -> dict[str, Any]:
        """What determines the audio."""
        return {
            "engine": "espeak",
            "versions": {"espeakng-loader": importlib.metadata.version("espeakng-loader")},
            "licence": "audio generated with espeak-ng",
        }

    @cached_property
    def _library(self) -> Espeak:
        return Espeak(_ENGINE_SEED)
