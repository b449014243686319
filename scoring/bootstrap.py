"""Intervals and differences by the bootstrap: whole utterances, or whole speakers, drawn again with replacement.

Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation" (ICASSP 2004). All figures
of all models on a test set share each draw, so that differences are paired.
"""

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.errors import UserError

FOLDS = 1000
SEED = 0
LEVEL = 0.95
# A bootstrap over a handful of speakers is unreliable, over one impossible; then utterances are drawn, and it is said.
MIN_SPEAKERS = 10
_CHUNK = 1 << 22  # counts held at a time


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its values in every draw (NaN where a draw leaves its denominator empty).

    `sample` identifies the units drawn, so that only estimates of one test set are subtracted from each other.
    """

    value: float
    draws: np.ndarray
    sample: str
    numerator: float = math.nan
    denominator: float = math.nan

    @property
    def low(self) -> float | None:
        """The lower end of the 95 % percentile interval, None where the figure is undefined in every draw."""
        return self._quantile((1 - LEVEL) / 2)

    @property
    def high(self) -> float | None:
        """The upper end of the 95 % percentile interval."""
        return self._quantile((1 + LEVEL) / 2)

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0; meant for differences."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def _quantile(self, share: float) -> float | None:
        return None if np.isnan(self.draws).all() else float(np.nanquantile(self.draws, share))


@dataclass(frozen=True, slots=True)
class Tallies:
    """A test set's figures: numerators and denominators by figure and unit; a unit is an utterance or a speaker."""

    names: tuple[str, ...]
    numerators: np.ndarray
    denominators: np.ndarray
    unit: str
    sample: str


def tally(
    utterances: Iterable[Mapping[str, tuple[float, float]]], ids: Sequence[str], speakers: Sequence[str | None]
) -> Tallies:
    """Sum the utterances' contributions by figure and unit.

    Units are speakers where every utterance has one and there are at least ten, else utterances.

    Args:
        utterances: each one's (numerator, denominator) by figure.
        ids: the utterances' ids.
        speakers: the utterances' speakers, None where unknown.
    """
    by_speaker = None not in speakers and len(set(speakers)) >= MIN_SPEAKERS
    units = {name: row for row, name in enumerate(dict.fromkeys(speakers))} if by_speaker else {}
    n_units = len(units) or len(ids)
    columns: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((2, n_units)))
    for index, contributed in enumerate(utterances):
        row = units[speakers[index]] if by_speaker else index
        for name, sums in contributed.items():
            columns[name][:, row] += sums
    names = tuple(sorted(columns))
    numerators, denominators = np.stack([columns[name] for name in names], axis=2)
    key = zlib.crc32("\n".join(f"{name}\t{speaker}" for name, speaker in zip(ids, speakers, strict=True)).encode())
    unit = "speaker" if by_speaker else "utterance"
    return Tallies(names, numerators, denominators, unit, sample=f"{n_units} {key:08x}")


def resample(tallies: Tallies, seed: int = SEED) -> dict[str, Estimate]:
    """Estimate every figure of a test set; the same units and seed give the same draws, whatever the model."""
    generator = np.random.default_rng([seed, zlib.crc32(tallies.sample.encode())])
    units = len(tallies.numerators)
    both = np.concatenate([tallies.numerators, tallies.denominators], axis=1)
    chunk = max(1, _CHUNK // units)
    sums = []
    for start in range(0, FOLDS, chunk):
        drawn = [generator.integers(units, size=units) for _ in range(min(chunk, FOLDS - start))]
        sums.append(np.stack([np.bincount(rows, minlength=units) for rows in drawn]).astype(np.float64) @ both)
    numerators, denominators = np.split(np.concatenate(sums), 2, axis=1)
    totals = tallies.numerators.sum(0), tallies.denominators.sum(0)
    draws = _ratio(numerators, denominators) if units > 1 else np.full_like(numerators, np.nan)
    values = _ratio(*totals)
    return {
        name: Estimate(float(values[i]), draws[:, i], tallies.sample, float(totals[0][i]), float(totals[1][i]))
        for i, name in enumerate(tallies.names)
    }


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return first minus second, draw by draw.

    Raises:
        UserError: where they are not of the same utterances.
    """
    if first.sample != second.sample:
        raise UserError("a paired difference needs both models' scores on the same utterances in the same order")
    return Estimate(first.value - second.value, first.draws - second.draws, first.sample)


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Return the plain mean over test sets, which are drawn independently of each other."""
    return Estimate(
        float(np.mean([estimate.value for estimate in estimates])),
        np.mean([estimate.draws for estimate in estimates], axis=0),
        " + ".join(estimate.sample for estimate in estimates),
    )


def _ratio(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    return np.divide(numerators, denominators, out=np.full_like(numerators, np.nan), where=denominators > 0)
