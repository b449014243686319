"""The interface of a speech engine, which turns text into speech."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

Spans = Sequence[tuple[str, str]]  # (language, text); the texts joined are the sentence


@dataclass(frozen=True)
class Speech:
    """A spoken sentence.

    `samples_S` is 16 kHz mono float32, `borders_s` the seconds at which its spans begin and end: one more than there
    are spans.
    """

    samples_S: Tensor
    borders_s: tuple[float, ...]


@dataclass(frozen=True)
class Speaker:
    """A speaker: a mixture of an engine's base voices.

    `voices` are base voices with their weights, which add up to 1; an engine that cannot mix gets a single one.
    """

    name: str
    voices: tuple[tuple[str, float], ...]


class SpeechEngine(Protocol):
    """Speak sentences of several languages in one voice; one instance a process.

    Attributes:
        voices: base voices of training speakers.
        held_out_voices: base voices that only test speakers have; no training speaker has a share of one.
        mixes: whether a speaker may be a mixture.
        stateless: whether audio is the same whatever the engine spoke before; else each shard gets a fresh process.
    """

    voices: tuple[str, ...]
    held_out_voices: tuple[str, ...]
    mixes: bool
    stateless: bool

    def sounds(self, spans: Spans) -> str:
        """What will be said, such as phonemes, found in milliseconds; the same sounds and speaker give the same audio.

        Raises:
            ValueError: saying why the engine cannot speak the spans.
        """

    def say(self, spans: Spans, speaker: Speaker, speed: float) -> Speech:
        """Speak the spans as one utterance."""

    def about(self) -> dict[str, Any]:
        """What determines the audio, for `corpus.json`: engine, versions, hash of the weights, licences."""
