"""Which utterances make up step s: a pure function of (seed, step, rank), so resuming needs no saved state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

_STRETCH_STEPS = 16


class Draw(NamedTuple):
    """The `index`-th utterance of a pair, and the seed of whatever is drawn for it this time."""

    pair: str
    index: int
    seed: int = 0


class PairBatchSampler(Sampler[list[Draw]]):
    """Batches of some utterances of every pair for steps `start` to `steps`, those of a pair next to each other.

    Each pair is drawn in seeded permutations: every utterance once before any comes again. The ranks of a step take
    neighbouring parts of that order, so they never overlap within a cycle. Where a pair's corpora have weights, each
    utterance is in a cycle as many times as its corpus weighs.

    Args:
        corpora: the size and weight of each of a pair's corpora, whose utterances are numbered in this order.
        utterances_per_pair: utterances of each pair a step on each rank.
        steps, seed, rank, world_size, start: of the run; `start` is the step to resume from.
        durations: of each pair's utterances; given, the utterances of every 16 steps are dealt out anew among them, so
            that those of one step, of all pairs and ranks, last about as long.
    """

    def __init__(
        self,
        corpora: dict[str, Sequence[tuple[int, float]]],
        utterances_per_pair: dict[str, int],
        steps: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        durations: dict[str, Sequence[float]] | None = None,
    ) -> None:
        self.corpora = corpora
        self.utterances_per_pair = utterances_per_pair
        self.steps = steps
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = start
        self.durations = durations
        self._dealt: dict[tuple[str, int], list[list[int]]] = {}  # of the present stretch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Draw]]:
        walks = {pair: _PairWalk(corpora, f"{self.seed}:{pair}") for pair, corpora in self.corpora.items()}
        for step in range(self.start, self.steps):
            batch = []
            for pair, walk in walks.items():
                k = self.utterances_per_pair[pair]
                batch += [
                    Draw(pair, walk[place], _seed_of(f"{self.seed}:{pair}:draw {place}"))
                    for place in self._places(pair, walk, step)[self.rank * k : (self.rank + 1) * k]
                ]
            yield batch

    def _places(self, pair: str, walk: _PairWalk, step: int) -> Sequence[int]:
        """The places in a pair's walk that a step takes, on all ranks."""
        size = self.utterances_per_pair[pair] * self.world_size
        if self.durations is None:
            return range(step * size, (step + 1) * size)
        stretch, turn = divmod(step, _STRETCH_STEPS)
        if (pair, stretch) not in self._dealt:
            places = range(stretch * _STRETCH_STEPS * size, (stretch + 1) * _STRETCH_STEPS * size)
            by_duration = sorted(places, key=lambda place: self.durations[pair][walk[place]])
            hands = [by_duration[i * size : (i + 1) * size] for i in range(_STRETCH_STEPS)]
            self._dealt = {key: value for key, value in self._dealt.items() if key[1] == stretch}
            # The same order for all pairs, so that their short utterances meet.
            order = _permutation(_STRETCH_STEPS, f"{self.seed}:stretch {stretch}")
            self._dealt[pair, stretch] = [hands[i] for i in order]
        return self._dealt[pair, stretch][turn]


class _PairWalk:
    """An endless sequence of cycles through a pair's corpora; caches the cycle used last.

    A corpus of n utterances and weight w gives its own walk's places from c n w to (c + 1) n w, rounded down, to cycle
    c: at weight 1 a whole pass, at 2 two, at 0.5 half a pass and the other half in the next cycle.
    """

    def __init__(self, corpora: Sequence[tuple[int, float]], name: str) -> None:
        self.name = name
        self.sizes = [size for size, _ in corpora]
        self.shares = [size * Fraction(str(weight)) for size, weight in corpora]  # exact, whatever the cycle
        self.walks = [_Walk(size, f"{name}:corpus {i}") for i, size in enumerate(self.sizes)]
        self.begin = 0
        self.order: list[int] = []

    def __getitem__(self, place: int) -> int:
        if not self.begin <= place < self.begin + len(self.order):
            cycle = int(place / sum(self.shares))  # or, where shares were rounded down, one after it
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
        for size, walk, begin, end in zip(
            self.sizes, self.walks, self._ends(cycle), self._ends(cycle + 1), strict=True
        ):
            indices += sorted(offset + walk[place] for place in range(begin, end))
            offset += size
        return [indices[i] for i in _permutation(len(indices), f"{self.name}:{cycle}")]


class _Walk:
    """An endless sequence of permutations of `range(size)`; caches the one used last."""

    def __init__(self, size: int, name: str) -> None:
        self.size, self.name, self.cycle = size, name, -1
        self.order: list[int] = []

    def __getitem__(self, place: int) -> int:
        cycle, index = divmod(place, self.size)
        if cycle != self.cycle:
            self.order, self.cycle = _permutation(self.size, f"{self.name}:{cycle}"), cycle
        return self.order[index]


def _permutation(size: int, name: str) -> list[int]:
    return torch.randperm(size, generator=torch.Generator().manual_seed(_seed_of(name))).tolist()


def _seed_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
