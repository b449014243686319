"""The sound of a spliced utterance: excerpts read from their files, brought to one level, cross-faded.

Shape suffixes: S samples at 16 kHz.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.audio import load_cut
from common.errors import UserError
from datamodules.splicing.inserts import Insert
from datamodules.splicing.splice_options import Splicing
from datamodules.splicing.splice_plan import Excerpt

_MOST_GAIN = 4.0  # 12 dB


class UnreadableInsert(Exception):
    """An insert whose audio cannot be read."""

    def __init__(self, insert: Insert, reason: str) -> None:
        super().__init__(reason)
        self.insert = insert


def spliced_audio(excerpts: Sequence[Excerpt], options: Splicing) -> Tensor:
    """Reads and joins excerpts, at least one of the host; returns the waveform (S,).

    Raises:
        UserError: where the host's audio cannot be read.
        UnreadableInsert: where an insert's cannot.
    """
    fade = options.fade_samples
    waveforms_S = _read(excerpts, fade)
    if options.loudness:
        pairs = list(zip(excerpts, waveforms_S, strict=True))
        level = _level(
            torch.cat([waveform_S for excerpt, waveform_S in pairs if excerpt.stretch and not excerpt.insert])
        )
        waveforms_S = [waveform_S * _gain(waveform_S, level) if e.insert else waveform_S for e, waveform_S in pairs]
    return overlap_add(waveforms_S, fade, options.gap_samples)


def overlap_add(waveforms_S: Sequence[Tensor], fade: int, gap: int = 0) -> Tensor:
    """Joins waveforms that have `fade` extra samples on both sides, for cross-fades.

    At a joint one waveform fades out linearly over 2 `fade` samples while the next fades in; `gap` samples of silence
    delay the next one. All other samples stay as they are, and the extra samples at the outer ends are cut off.

    Args:
        waveforms_S: the waveforms in their order.
        fade: half the length of a cross-fade, in samples.
        gap: samples of silence at a joint.
    """
    whole = sum(len(waveform_S) - 2 * fade for waveform_S in waveforms_S) + gap * (len(waveforms_S) - 1)
    joined_S = torch.zeros(whole + 2 * fade)
    rise_S = (torch.arange(2 * fade) + 0.5) / max(1, 2 * fade)
    begin = 0
    for index, waveform_S in enumerate(waveforms_S):
        waveform_S = waveform_S.clone()
        if index > 0:
            waveform_S[: 2 * fade] *= rise_S
        if index < len(waveforms_S) - 1:
            waveform_S[len(waveform_S) - 2 * fade :] *= rise_S.flip(0)
        joined_S[begin : begin + len(waveform_S)] += waveform_S
        begin += len(waveform_S) - 2 * fade + gap
    return joined_S[fade : fade + whole]


def _read(excerpts: Sequence[Excerpt], fade: int) -> list[Tensor]:
    """Each excerpt's waveform with `fade` samples more on both sides; the host's file is opened once."""
    own = [excerpt for excerpt in excerpts if not excerpt.insert]
    first = min(excerpt.begin for excerpt in own) - fade
    host_S = load_cut(own[0].utterance, first, max(excerpt.end for excerpt in own) + fade)
    found = []
    for _, begin, end, *_, insert in excerpts:
        if not insert:
            found.append(host_S[begin - fade - first : end + fade - first])
            continue
        try:
            found.append(load_cut(insert.utterance, begin - fade, end + fade))
        except UserError as error:
            raise UnreadableInsert(insert, str(error)) from None
    return found


def _level(waveform_S: Tensor) -> float:
    return float(waveform_S.square().mean().sqrt())


def _gain(waveform_S: Tensor, level: float) -> float:
    own = _level(waveform_S)
    return min(max(level / own, 1 / _MOST_GAIN), _MOST_GAIN) if own else 1.0
