"""Guards against loops and invented text: what a hypothesis may be, where it is cut, and when it is decoded again.

Whisper sometimes writes one phrase again and again until its decoder is full: 448 tokens for four seconds of audio.
One such hypothesis takes as long as ten others, and decides the error rate of a small test set. Imports nothing heavy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

from common.constants import MAX_TOKENS
from common.errors import UserError
from common.option_types import Range
from common.options import option
from common.text_compression import MAX_COMPRESSION, compression_ratio

LENGTH, REPETITION, SILENCE = "length", "repetition", "no speech"  # why a hypothesis was cut; SILENCE leaves it empty
MIN_LOG_PROBABILITY = -1.0  # OpenAI's threshold for the mean over a hypothesis's tokens and its end

_LOOP_TOKENS = 12  # least length of a loop: people do say a short word four times


@dataclass(frozen=True)
class Guards:
    """Guards against loops and invented text."""

    tokens_per_second: Annotated[float, Range(0)] = option(40.0, metavar="N")
    """Most tokens for each second of audio, and for one second more; 0 sets no bound."""
    repeats: Annotated[int, Range(0)] = 4
    """End a hypothesis where a phrase stands so many times in a row, and keep it once; 0 never does."""
    temperatures: list[Annotated[float, Range(0)]] = option([0.0], metavar="T")
    """0 takes the most probable tokens, others sample; a hypothesis that fails is made anew at the next one."""
    no_speech: Annotated[float, Range(0, 1)] = option(1.0, metavar="P")
    """Leave an improbable hypothesis empty where the probability of no speech is above this; 1 never does."""

    def __post_init__(self) -> None:
        if self.repeats == 1:
            raise UserError("--repeats 1: expected how often a phrase must stand in a row, 2 or more; 0 never ends one")

    def most_tokens(self, duration_s: float) -> int:
        """Return how many tokens an utterance may have, without prompt and end."""
        if not self.tokens_per_second:
            return MAX_TOKENS
        return min(MAX_TOKENS, int(self.tokens_per_second * (duration_s + 1)))

    @property
    def in_words(self) -> str:
        """What the guards do, for a reader of results."""
        parts = [
            f"at most {self.tokens_per_second:g} tokens a second" if self.tokens_per_second else "no bound on tokens",
            f"{self.repeats} repeats end a hypothesis" if self.repeats else "repeats end none",
        ]
        if self.temperatures != [0]:
            parts.append(f"temperature {', '.join(f'{one:g}' for one in self.temperatures)}")
        if self.no_speech < 1:
            parts.append(f"empty where improbable and no speech above {self.no_speech:g}")
        return "; ".join(parts)

    @property
    def judges(self) -> bool:
        """Whether hypotheses are judged by their probability."""
        return len(self.temperatures) > 1 or self.no_speech < 1

    @property
    def settings(self) -> dict[str, Any]:
        """The guards' own options by name, as they are recorded."""
        return {field.name: getattr(self, field.name) for field in fields(Guards)}


def fails(text: str, cut_by: str | None, mean_log_probability: float) -> bool:
    """Whether a hypothesis is to be decoded again: OpenAI's two criteria, and whatever a guard had to cut.

    Args:
        text: the hypothesis.
        cut_by: the guard that cut it; the rest is too short for the compression ratio.
        mean_log_probability: of its tokens and its end.
    """
    improbable = mean_log_probability < MIN_LOG_PROBABILITY
    return cut_by is not None or improbable or compression_ratio(text) > MAX_COMPRESSION


def ends_in_loop(tokens: Sequence[int], repeats: int) -> int:
    """Return the size of the shortest phrase that ends the tokens as a loop; 0 where there is none.

    A loop is a phrase repeated at least `repeats` times in a row, and often enough to make at least 12 tokens.
    """
    for size in range(1, len(tokens) // repeats + 1):
        if tokens[-1] != tokens[-1 - size]:  # most phrases end here
            continue
        length = _loop_length(size, repeats)
        if length <= len(tokens) and tokens[-length:-size] == tokens[size - length :]:
            return size
    return 0


def cut(tokens: list[int], end: int, most: int, repeats: int) -> tuple[list[int], str | None]:
    """Return a hypothesis without its end token, after the guards, and what they cut: LENGTH, REPETITION or None.

    Args:
        tokens: the hypothesis, which may go on after its end.
        end: the token that ends it.
        most: tokens that it may have.
        repeats: as in `Guards`.
    """
    text = tokens[: tokens.index(end)] if end in tokens else tokens
    for length in range(1, min(len(text), most) + 1) if repeats else ():
        if size := ends_in_loop(text[:length], repeats):
            return text[: length - _loop_length(size, repeats) + size], REPETITION
    return text[:most], LENGTH if len(text) > most else None


def _loop_length(size: int, repeats: int) -> int:
    return size * max(repeats, math.ceil(_LOOP_TOKENS / size))
