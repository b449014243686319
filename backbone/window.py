"""How much audio the encoder is given: Whisper's 30 s, or less where utterances are shorter.

Whisper pads every utterance to 30 s. Its convolutions and its table of positions work at any length up to that, so a
shorter window is exactly Whisper with the table cut off after the window. But a model that was trained with silence
after every utterance must first be trained without it. So the model folder records the window of training, and
decoding uses it.
"""

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PretrainedConfig, WhisperForConditionalGeneration

from backbone.model_folder.locate import WINDOW
from common.audio import SAMPLE_RATE_HZ
from common.errors import UserError
from common.manifest import Utterance

WHOLE, LONGEST = "30s", "longest"
FRAMES_PER_SECOND = 100  # of the log-mel; the encoder's two convolutions halve them


@dataclass(frozen=True)
class Window:
    """A window of the encoder.

    Args:
        frames: most frames of 10 ms.
        longest: a batch gets no more than its longest waveform needs, in whole seconds, so that there are few shapes.
    """

    frames: int
    longest: bool = False

    @property
    def seconds(self) -> float:
        """The longest utterance that the window holds."""
        return self.frames / FRAMES_PER_SECOND

    def frames_for(self, seconds: float) -> int:
        """Frames of a batch whose longest waveform lasts `seconds`."""
        if not self.longest:
            return self.frames
        return min(max(1, math.ceil(round(seconds, 3))) * FRAMES_PER_SECOND, self.frames)


def window_of(value: str | float | None, config: PretrainedConfig) -> Window:
    """The window that an option names: `30s` (the model's whole one), `longest`, or seconds; None is the recorded one.

    Raises:
        UserError: where it names none, or more than the model has.
    """
    value = recorded_window(config) if value is None else value
    whole = 2 * config.max_source_positions
    if value in (WHOLE, LONGEST):
        return Window(whole, longest=value == LONGEST)
    try:
        seconds = float(str(value).removesuffix("s"))
        frames = 2 * math.ceil(round(seconds * FRAMES_PER_SECOND / 2, 6))
    except (ValueError, OverflowError):
        frames = 0
    if not 0 < frames <= whole:
        raise UserError(
            f"window is {value!r}, expected {WHOLE} (the model's whole window), {LONGEST} (of each batch), or seconds, "
            f"such as 10, up to the {whole / FRAMES_PER_SECOND:g} of the model"
        )
    return Window(frames)


def record_window(value: str | float, config: PretrainedConfig) -> None:
    """Record in a model's configuration which window it is trained with.

    Raises:
        UserError: where the option names no window of the model.
    """
    window = window_of(value, config)
    vars(config).pop(WINDOW, None)
    if window.longest:
        setattr(config, WINDOW, LONGEST)
    elif window != window_of(WHOLE, config):
        setattr(config, WINDOW, window.seconds)


def recorded_window(config: PretrainedConfig) -> str | float:
    """The window that a model was trained with."""
    return getattr(config, WINDOW, WHOLE)


def take_short_windows(model: WhisperForConditionalGeneration) -> None:
    """Let the encoder take any even number of frames up to its window; weights and configuration stay as they are.

    transformers refuses all but the whole window, and adds its whole table of positions.
    """
    encoder = model.model.encoder
    if not any(hook is _fit_positions for hook in encoder._forward_pre_hooks.values()):
        encoder.config = copy(encoder.config)  # the model's own, which is exported, keeps the whole window
        encoder.register_forward_pre_hook(_fit_positions, with_kwargs=True)


def _fit_positions(encoder: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
    mel_BFT = given[0] if given else named["input_features"]
    positions = (mel_BFT.shape[-1] + 1) // 2
    if positions <= encoder.max_source_positions:  # beyond, transformers' own message
        encoder.config.max_source_positions = positions
        encoder.embed_positions.num_embeddings = positions


def check_lengths(utterances: Sequence[Utterance], window_s: float, where: str) -> None:
    """Refuse utterances that the model's window cannot hold, all at once.

    Args:
        utterances: with their durations.
        window_s: seconds that the window holds.
        where: the manifest or the command, for the message.

    Raises:
        UserError: naming the first few and their durations.
    """
    longest_s = window_s + 1 / SAMPLE_RATE_HZ
    if long := [f"{u.id} ({u.duration:.2f} s)" for u in utterances if u.duration > longest_s]:
        raise UserError(
            f"{where}: {len(long)} of {len(utterances)} utterances are longer than the model's window of {window_s:g} "
            f"s: {', '.join(long[:5])}{' ...' * (len(long) > 5)}; cut them at pauses or drop their lines"
        )
