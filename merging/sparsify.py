"""How task vectors are thinned: what must be measured of a whole parameter before its rows are merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merging.blocks import Block, Rows
from merging.selection import Cut, Map, cuts
from merging.tensors import Floats


def largest(*rows: Rows, density: Sequence[float], run: Map = map, **_: Any) -> list[Cut]:
    """Measures where each model's |tau| is cut to keep its max(1, int(density n)) largest entries.

    With the rows of several parameters one cut over all of them is found (a global trim).
    """
    n = sum(each.numel for each in rows)
    ranks = [[n if share >= 1 else max(1, int(share * n))] for share in density]
    return [cut for (cut,) in cuts(rows, ranks, run)]


def band(rows: Rows, *, density: Sequence[float], gamma: Sequence[float], **_: Any) -> list[tuple[Cut, Cut]]:
    """Measures the cuts above and below the band that Breadcrumbs keeps: int(density n) entries.

    int(gamma n) larger ones are dropped, or as many as there are besides those that are kept.
    """
    n = rows.numel
    ranks = []
    for share, outliers in zip(density, gamma, strict=True):
        kept = n if share >= 1 else int(share * n)
        above = min(int(outliers * n), n - kept)
        ranks.append([above, above + kept])
    return [(above, below) for above, below in cuts([rows], ranks)]


@dataclass
class Mask:
    """A random mask of one parameter of one model, packed eight to a byte, and what the kept entries are scaled by."""

    scale: float
    bits: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def apply(self, tau: Floats, start: int) -> Floats:
        """Returns the block's entries, those dropped zero, those kept rescaled."""
        if not self.bits:
            return tau
        kept = np.unpackbits(self.bits[start], count=tau.size).view(np.bool_).reshape(tau.shape)
        return tau * kept if self.scale == 1 else (tau * kept) * np.float32(self.scale)


def dropped(rows: Rows, *, density: Sequence[float], rescale: str, **_: Any) -> list[Mask]:
    """Draws each model's mask: every entry is kept with probability density."""
    limits = [min(round(share * 2**32), 2**32 - 1) for share in density]

    def keep(block: Block, model: int) -> NDArray[np.bool_]:
        tau = block.deltas[model]
        return (rows.random(model, tau.size) < np.uint32(limits[model])).reshape(tau.shape)

    return _masks(rows, density, rescale, keep)


def ranked(rows: Rows, *, density: Sequence[float], epsilon: Sequence[float], rescale: str, **_: Any) -> list[Mask]:
    """Draws each model's mask: entries are kept the likelier the larger they are among their row's."""

    def keep(block: Block, model: int) -> NDArray[np.bool_]:
        tau = block.deltas[model]
        order = np.argsort(np.abs(tau), axis=1, kind="stable")
        steps = np.arange(tau.shape[1], dtype=np.float32) / np.float32(max(1, tau.shape[1] - 1))
        chances = np.float32(density[model] - epsilon[model]) + steps * np.float32(2 * epsilon[model])
        chance = np.empty_like(tau)
        np.put_along_axis(chance, order, chances.reshape(-1, *[1] * (tau.ndim - 2)), axis=1)
        drawn = rows.random(model, tau.size).reshape(tau.shape)
        return drawn * np.float32(2**-32) < chance

    return _masks(rows, density, rescale, keep)


def _masks(
    rows: Rows, density: Sequence[float], rescale: str, keep: Callable[[Block, int], NDArray[np.bool_]]
) -> list[Mask]:
    masks = [Mask(1 / share if rescale == "1/p" else 1.0) for share in density]
    before, after = np.zeros(len(masks)), np.zeros(len(masks))
    thinned = [model for model, share in enumerate(density) if share < 1]
    for block in rows if thinned else ():
        for model in thinned:
            kept = keep(block, model)
            masks[model].bits[block.start] = np.packbits(kept)
            if rescale == "l1":
                magnitudes = np.abs(block.deltas[model])
                before[model] += magnitudes.sum(dtype=np.float64)
                after[model] += (magnitudes * kept).sum(dtype=np.float64)
    if rescale == "l1":
        for mask, whole, part in zip(masks, before, after, strict=True):
            mask.scale = float(whole / part) if whole >= 1e-7 and part >= 1e-7 else 1.0
    return masks
