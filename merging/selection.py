"""Exact k-th magnitudes of arrays too large to sort or hold: a bracket from a sample, then one pass of counting.

The k-th largest |x| of n is sought as follows. A sample gives a bracket that very probably holds it. One pass counts
what lies above and at the bracket's ends and gathers what lies strictly inside, a few percent; a partial sort of those
gives the value. Where the bracket missed, it is widened and the pass made again. Equal magnitudes at the cut are kept
in the order of their flat index, so that exactly k are kept and the choice never depends on threads or chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merging.blocks import Rows
from merging.tensors import Floats

_SAMPLE = 2**16
_SPREAD = 6.0  # neighbouring weights are alike: a sample is worth less than its size


@dataclass(frozen=True)
class Cut:
    """What is kept: magnitudes above `magnitude`, and those equal to it up to the flat index `last` (None: all)."""

    magnitude: float
    last: int | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether nothing at all is cut."""
        return self.magnitude <= 0 and self.last is None

    def mask(self, magnitudes: Floats, start: int) -> NDArray[np.bool_]:
        """Which of some magnitudes are kept, the first of them at the flat index `start`."""
        if self.last is None or self.last >= start + magnitudes.size - 1:
            return magnitudes >= self.magnitude
        kept = magnitudes > self.magnitude
        if self.last >= start:
            room = self.last - start + 1
            flat, equal = kept.reshape(-1), magnitudes.reshape(-1)[:room] == self.magnitude
            flat[:room] |= equal
        return kept


EVERYTHING, NOTHING = Cut(0.0), Cut(math.inf)


Map = Callable[[Callable[[Rows], Any], Iterable[Rows]], Iterable[Any]]
"""`map`, or the like of a pool of threads."""


@dataclass
class _Bracket:
    """An interval of magnitudes, and what one pass found about it."""

    low: float
    high: float


@dataclass
class _Tally:
    """Counts of magnitudes above and at a bracket's ends, and those strictly inside."""

    above_high: int = 0
    from_high: int = 0
    above_low: int = 0
    from_low: int = 0
    inside: list[Floats] = field(default_factory=list)

    def add(self, magnitudes: Floats, bracket: _Bracket) -> None:
        """Counts one piece."""
        from_high = magnitudes >= bracket.high
        above_low = magnitudes > bracket.low
        self.above_high += int(np.count_nonzero(magnitudes > bracket.high))
        self.from_high += int(np.count_nonzero(from_high))
        self.above_low += int(np.count_nonzero(above_low))
        self.from_low += int(np.count_nonzero(magnitudes >= bracket.low))
        self.inside.append(magnitudes[above_low & ~from_high])

    def merge(self, other: _Tally) -> None:
        """Adds what another pass over other pieces found."""
        self.above_high += other.above_high
        self.from_high += other.from_high
        self.above_low += other.above_low
        self.from_low += other.from_low
        self.inside += other.inside


def cuts(parameters: Sequence[Rows], ranks: Sequence[Sequence[int]], run: Map = map) -> list[list[Cut]]:
    """Finds where each model's magnitudes are cut to keep exactly so many of the largest.

    Args:
        parameters: The parameters that are cut together.
        ranks: For each model the numbers of entries to keep.
        run: What runs through them.

    Returns:
        For each model a cut for each of its ranks.

    Raises:
        FloatingPointError: where too many entries are NaN to keep so many.
    """
    total = sum(rows.numel for rows in parameters)
    found: dict[tuple[int, int], Cut] = {}
    for model, wanted in enumerate(ranks):
        for rank in wanted:
            if rank >= total or rank <= 0:
                found[model, rank] = EVERYTHING if rank >= total else NOTHING
    open_ = [(model, rank) for model, wanted in enumerate(ranks) for rank in wanted if (model, rank) not in found]
    samples = _samples(parameters, {model for model, _ in open_})
    spread = _SPREAD
    while open_:
        brackets = [_bracket(samples[model], rank / total, spread) for model, rank in open_]
        tallies = _count(parameters, [model for model, _ in open_], brackets, run)
        missed = []
        for key, bracket, tally in zip(open_, brackets, tallies, strict=True):
            cut = _cut(parameters, key, bracket, tally)
            if cut is None:
                missed.append(key)
            else:
                found[key] = cut
        open_, spread = missed, spread * 8
    return [[found[model, rank] for rank in wanted] for model, wanted in enumerate(ranks)]


def _samples(parameters: Sequence[Rows], models: set[int]) -> dict[int, Floats]:
    """The magnitudes of each model's sample, largest first; large parameters have a larger part in it."""
    parts: dict[int, list[Floats]] = {model: [] for model in models}
    total = sum(rows.numel for rows in parameters)
    size = max(_SAMPLE, total // 2**10)
    for rows in parameters if models else ():
        share = math.ceil(size * rows.numel / total)
        blocks = list(rows.sample(share))
        step = max(1, sum(block.base.size for block in blocks) // share)
        for model in models:
            whole = np.concatenate([block.deltas[model].ravel() for block in blocks])
            parts[model].append(np.abs(whole[::step]))
    return {model: np.sort(np.concatenate(part))[::-1] for model, part in parts.items()}


def _bracket(sample: Floats, share: float, spread: float) -> _Bracket:
    size = sample.size
    margin = spread * math.sqrt(size * share * (1 - share)) + spread
    first, last = math.floor(share * size - margin), math.ceil(share * size + margin)
    return _Bracket(
        low=float(sample[last]) if last < size else 0.0, high=float(sample[first]) if first >= 0 else math.inf
    )


def _count(parameters: Sequence[Rows], models: Sequence[int], brackets: Sequence[_Bracket], run: Map) -> list[_Tally]:
    def tally(rows: Rows) -> list[_Tally]:
        counted = [_Tally() for _ in brackets]
        for block in rows:
            deltas = block.deltas
            magnitudes = {model: np.abs(deltas[model]) for model in set(models)}
            for model, bracket, each in zip(models, brackets, counted, strict=True):
                each.add(magnitudes[model], bracket)
        return counted

    totals = [_Tally() for _ in brackets]
    for counted in run(tally, parameters):
        for whole, part in zip(totals, counted, strict=True):
            whole.merge(part)
    return totals


def _cut(parameters: Sequence[Rows], key: tuple[int, int], bracket: _Bracket, tally: _Tally) -> Cut | None:
    """The cut that keeps `rank` entries, or None where it lies outside the bracket."""
    model, rank = key
    if not tally.above_high < rank <= tally.from_low:
        if bracket.low <= 0 and bracket.high == math.inf:
            raise FloatingPointError("magnitudes that are not numbers have no order")
        return None
    if rank <= tally.from_high:
        magnitude, above, equal = bracket.high, tally.above_high, tally.from_high - tally.above_high
    elif rank > tally.above_low:
        magnitude, above, equal = bracket.low, tally.above_low, tally.from_low - tally.above_low
    else:
        inside = np.concatenate(tally.inside)
        place = inside.size - (rank - tally.from_high)
        inside.partition(place)
        magnitude = float(inside[place])
        above = tally.from_high + int(np.count_nonzero(inside > magnitude))
        equal = int(np.count_nonzero(inside == magnitude))
    if magnitude == 0 or above + equal == rank:  # zeros may all be kept: they are zeros
        return Cut(magnitude)
    return Cut(magnitude, _index_of(parameters, model, magnitude, rank - above))


def _index_of(parameters: Sequence[Rows], model: int, magnitude: float, count: int) -> int:
    """The flat index of the count-th entry of a magnitude."""
    for rows in parameters:
        for block in rows:
            places = np.flatnonzero(np.abs(block.deltas[model]) == magnitude)
            if count <= places.size:
                return block.start + int(places[count - 1])
            count -= places.size
    raise RuntimeError("the arrays changed between two passes")


def keep_largest(delta: Floats, cut: Cut, start: int) -> Floats:
    """Returns the piece with the entries that are cut set to zero; the piece itself where none is."""
    return delta if cut.keeps_all else delta * cut.mask(np.abs(delta), start)
