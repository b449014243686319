"""Which utterances make up step s: a pure function of (seed, step, rank), so resuming needs no saved state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

_STRETCH_STEPS = 16


class Draw(NamedTuple):
    """The `index`-th utterance of a pair, and the seed of whatever is drawn for it this time."""

    pair: str
    index: int
    seed: int = 0


@dataclass(eq=False)
class PairBatchSampler(Sampler[list[Draw]]):
    """Batches of some utterances of every pair for steps `start` to `steps`, those of a pair next to each other.

    Each pair is drawn in seeded permutations: every utterance once before any comes again. The ranks of a step take
    neighbouring parts of that order, so they never overlap within a cycle. Where a pair's corpora have weights, each
    utterance is in a cycle as many times as its corpus weighs.

    Args:
        corpora: the size and weight of each of a pair's corpora, whose utterances are numbered in this order.
        utterances_per_pair: utterances of each pair a step on each rank.
        steps, seed, rank, world_size, start: of the run; `start` is the step to resume from.
        durations: of each pair's utterances; if given, the utterances of every 16 steps are redistributed among these
            steps, so that those of one step, of all pairs and ranks, have similar durations.
    """

    corpora: dict[str, Sequence[tuple[int, float]]]
    utterances_per_pair: dict[str, int]
    steps: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    start: int = 0
    durations: dict[str, Sequence[float]] | None = None

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Draw]]:
        for draws in zip(*map(self._draws, self.corpora), strict=True):
            yield list(chain(*draws))

    def _draws(self, pair: str) -> Iterator[list[Draw]]:
        """What each step takes of a pair."""
        name, k = f"{self.seed}:{pair}", self.utterances_per_pair[pair]
        walk, size = _PairWalk(self.corpora[pair], name), k * self.world_size
        for step in range(self.start, self.steps):
            stretch, turn = divmod(step, _STRETCH_STEPS)
            if self.durations is None:
                places: Sequence[int] = range(step * size, (step + 1) * size)
            else:
                if turn == 0 or step == self.start:
                    hands = self._dealt(pair, walk, stretch)
                places = hands[turn]
            for_rank = places[self.rank * k : (self.rank + 1) * k]
            yield [Draw(pair, walk[place], _seed_of(f"{name}:draw {place}")) for place in for_rank]

    def _dealt(self, pair: str, walk: _PairWalk, stretch: int) -> list[list[int]]:
        """The places in a pair's walk that each step of a stretch takes, on all ranks."""
        size = self.utterances_per_pair[pair] * self.world_size
        places = range(stretch * _STRETCH_STEPS * size, (stretch + 1) * _STRETCH_STEPS * size)
        by_duration = sorted(places, key=lambda place: self.durations[pair][walk[place]])
        # The same order for all pairs, so that their short utterances meet.
        order = _permutation(_STRETCH_STEPS, f"{self.seed}:stretch {stretch}")
        return [by_duration[i * size : (i + 1) * size] for i in order]


class _PairWalk:
    """An endless sequence of cycles through a pair's corpora; caches the cycle used last.

    Each corpus of n utterances is walked in one permutation after another. At weight w, cycle c takes its places from
    c n w to (c + 1) n w, rounded down: at weight 1 a whole pass, at 2 two, at 0.5 half a pass and the other half in the
    next cycle.
    """

    def __init__(self, corpora: Sequence[tuple[int, float]], name: str) -> None:
        self.name = name
        self.sizes = [size for size, _ in corpora]
        self.shares = [size * Fraction(str(weight)) for size, weight in corpora]  # exact, whatever the cycle
        self.begin = 0
        self.order: list[int] = []

    def __getitem__(self, place: int) -> int:
        if not self.begin <= place < self.begin + len(self.order):
            cycle = int(place / sum(self.shares))  # or the cycle after it, as shares are rounded down
            while sum(self._ends(cycle + 1)) <= place:
                cycle += 1
            self.begin = sum(self._ends(cycle))
            self.order = self._cycle(cycle)
        return self.order[place - self.begin]

    def _ends(self, cycle: int) -> list[int]:
        """How far each corpus has been walked when a cycle begins."""
        return [int(cycle * share) for share in self.shares]

    def _cycle(self, cycle: int) -> list[int]:
        indices: list[int] = []
        offset = 0
        bounds = zip(self.sizes, self._ends(cycle), self._ends(cycle + 1), strict=True)
        for corpus, (size, begin, end) in enumerate(bounds):
            first, last = begin // size, -(-end // size)
            passes = (_permutation(size, f"{self.name}:corpus {corpus}:{number}") for number in range(first, last))
            walked = list(chain(*passes))[begin - first * size : end - first * size]
            indices += sorted(offset + index for index in walked)
            offset += size
        return [indices[i] for i in _permutation(len(indices), f"{self.name}:{cycle}")]


def _permutation(size: int, name: str) -> list[int]:
    return torch.randperm(size, generator=torch.Generator().manual_seed(_seed_of(name))).tolist()


def _seed_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
