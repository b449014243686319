"""Spans joined into one utterance: their texts by the languages' orthographies, their sound by cross-fades.

Shape suffixes: S samples at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

UNSPACED = frozenset({"ja", "zh", "yue", "th", "lo", "km", "my"})  # languages that write no spaces between words
_FULL_WIDTH = {".": "。", "?": "？", "!": "！", ",": "、"}
_HALF_WIDTH = {full: half for half, full in _FULL_WIDTH.items()}
_MARKS = "".join((*_FULL_WIDTH, *_HALF_WIDTH)) + ";:… "


def space(matrix: str, before: tuple[str, bool], after: tuple[str, bool]) -> str:
    """What stands between two texts, each given by its language and whether it is glued to its neighbour.

    A matrix language that writes no spaces takes other words in without any (`新しいprojectです`), and none stands
    inside such a language; elsewhere a particle stays glued to what is before it.
    """
    inside = before[0] == after[0] and before[0] in UNSPACED
    return "" if matrix in UNSPACED or inside or before[1] or after[1] else " "


def bare(text: str) -> str:
    """The text without the punctuation at its end."""
    return text.rstrip(_MARKS)


def closing(text: str, language: str) -> str:
    """The punctuation at a text's end, in the form that it has in a language."""
    forms = _FULL_WIDTH if language in ("ja", "zh", "yue") else _HALF_WIDTH
    return "".join(forms.get(mark, mark) for mark in text[len(bare(text)) :].strip())


def overlap_add(pieces_S: Sequence[Tensor], fade: int, gap: int = 0) -> Tensor:
    """Joins waveforms that carry `fade` samples more than they shall sound on both sides.

    At a joint the one falls linearly over 2 `fade` samples while the next rises; with `gap` samples of silence the next
    comes so much later. All other samples are those of the waveforms, and the outer ends' extra samples are cut off.
    """
    whole = sum(len(piece_S) - 2 * fade for piece_S in pieces_S) + gap * (len(pieces_S) - 1)
    joined_S = torch.zeros(whole + 2 * fade)
    rise_S = (torch.arange(2 * fade) + 0.5) / max(1, 2 * fade)
    begin = 0
    for index, piece_S in enumerate(pieces_S):
        piece_S = piece_S.clone()
        if index > 0:
            piece_S[: 2 * fade] *= rise_S
        if index < len(pieces_S) - 1:
            piece_S[len(piece_S) - 2 * fade :] *= rise_S.flip(0)
        joined_S[begin : begin + len(piece_S)] += piece_S
        begin += len(piece_S) - 2 * fade + gap
    return joined_S[fade : fade + whole]
