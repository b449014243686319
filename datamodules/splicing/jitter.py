"""Borders of spans moved at random, as a bad alignment would have them: what splicing loses by it can be measured."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

from common.manifest import Span, Utterance

_KEPT = 0.01  # of what lies between two borders, however far they would move


def jittered(utterance: Utterance, jitter_s: float) -> Utterance:
    """The utterance with every border of its spans moved by up to `jitter_s` seconds; its id decides how.

    Spans that meet go on meeting. No border passes its neighbours or the utterance's ends: it stops short of them. An
    utterance without times, or whose times are out of order, stays as it is.
    """
    spans = utterance.spans
    if not jitter_s or not spans or any(span.start is None or span.end is None for span in spans):
        return utterance
    borders = _in_order(spans)
    if borders != sorted(set(borders)) or borders[0] < 0:
        return utterance
    rng = random.Random(f"jitter {utterance.id}")
    moved: dict[float, float] = {}
    for earlier, border, later in zip([None, *borders[:-1]], borders, [*borders[1:], utterance.duration], strict=True):
        least = 0.0 if earlier is None else moved[earlier]
        most = max(later, border)  # audio may last a little longer than its manifest says
        least, most = least + _KEPT * (border - least), most - _KEPT * (most - border)
        moved[border] = min(max(border + rng.uniform(-jitter_s, jitter_s), least), most)
    return replace(utterance, spans=tuple(replace(s, start=moved[s.start], end=moved[s.end]) for s in spans))


def _in_order(spans: tuple[Span, ...]) -> list[float]:
    """The borders as they follow each other, one where two spans meet."""
    times = [time for span in spans for time in (span.start, span.end)]
    return [*(before for before, after in pairwise(times) if before != after), times[-1]]
