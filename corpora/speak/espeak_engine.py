"""espeak-ng behind the interface of `engine`: a robot's voice, small and fast, with exact times as well."""

import importlib.metadata
from functools import cached_property
from typing import Any

import numpy as np
import torch

from common.audio import resample
from common.languages import script, scripts_of
from corpora.speak import espeak
from corpora.speak.engine import Spans, Speaker, Speech

_SEED = 1
_WORDS_A_MINUTE = 165
_PITCH = 50


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
        espeak.require()

    def sounds(self, spans: Spans) -> str:
        """The spans as they are written: espeak-ng reads them itself.

        Raises:
            ValueError: where a language has no voice, or a letter is not of its script.
        """
        for language, text in spans:
            if language not in espeak.SPOKEN_LANGUAGES:
                known = ", ".join(sorted(espeak.SPOKEN_LANGUAGES))
                raise ValueError(f"no voice for the language {language!r}; expected one of {known}")
            for char in text:
                if char.isalpha() and script(char) not in scripts_of(language):
                    raise ValueError(f"{char!r} is {script(char)}, not a letter of the language {language!r}")
        return repr(tuple(spans))

    def say(self, spans: Spans, speaker: Speaker, speed: float) -> Speech:
        """Speak the spans in one breath; see `engine`."""
        ((variant, _),) = speaker.voices
        voice = espeak.Voice(variant, round(_WORDS_A_MINUTE * speed), _PITCH)
        samples_S, ends = self._library.say(tuple(spans), voice)
        rate_hz = self._library.rate_hz
        cut_S, borders_s = espeak.trimmed(samples_S, ends, rate_hz)
        resampled_S = resample(torch.from_numpy(cut_S.astype(np.float32) / 32768), rate_hz).clamp(-1, 1)
        length_s = len(cut_S) / rate_hz
        return Speech(resampled_S, tuple(min(border_s, length_s) for border_s in borders_s))

    def about(self) -> dict[str, Any]:
        """What the audio follows from."""
        return {
            "engine": "espeak",
            "versions": {"espeakng-loader": importlib.metadata.version("espeakng-loader")},
            "licence": "audio generated with espeak-ng",
        }

    @cached_property
    def _library(self) -> espeak.Espeak:
        return espeak.Espeak(_SEED)
