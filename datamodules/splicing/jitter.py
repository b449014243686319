"""Span borders moved at random, as by a bad alignment, to measure what splicing loses by it."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

from common.manifest import Span, Utterance

_LEAST_SHARE = 0.01  # of the distance between two borders, which stays however far they would move


def jittered(utterance: Utterance, jitter_s: float) -> Utterance:
    """The utterance with every border of its spans moved by up to `jitter_s` seconds, drawn by its id.

    Spans that meet still meet afterwards. No border passes its neighbours or the utterance's ends: it stops short of
    them. An utterance without times, or whose times are out of order, is returned unchanged.
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
        least, most = least + _LEAST_SHARE * (border - least), most - _LEAST_SHARE * (most - border)
        moved[border] = min(max(border + rng.uniform(-jitter_s, jitter_s), least), most)
    return replace(utterance, spans=tuple(replace(s, start=moved[s.start], end=moved[s.end]) for s in spans))


def _in_order(spans: tuple[Span, ...]) -> list[float]:
    """The borders in the spans' order; where two spans meet there is one."""
    times = [time for span in spans for time in (span.start, span.end)]
    return [*(before for before, after in pairwise(times) if before != after), times[-1]]
