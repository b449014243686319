"""Which utterances make up step s: a pure function of (seed, step, rank), so resuming needs no saved state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class PairBatchSampler(Sampler[list[tuple[str, int]]]):
    """Batches of `utterances_per_pair` utterances of every pair, as `(pair, index)`, for steps `start` to `steps`.

    Each pair is walked in seeded permutations: every utterance once before any comes again. The ranks of one step take
    neighbouring stretches of that walk, so they never overlap within a pass.
    """

    def __init__(
        self,
        sizes: dict[str, int],
        utterances_per_pair: int,
        steps: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
    ) -> None:
        self.sizes = sizes
        self.utterances_per_pair = utterances_per_pair
        self.steps = steps
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = start

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[str, int]]]:
        walks = {pair: _Walk(size, f"{self.seed}:{pair}") for pair, size in self.sizes.items()}
        k = self.utterances_per_pair
        for step in range(self.start, self.steps):
            first = (step * self.world_size + self.rank) * k
            yield [(pair, walk[first + i]) for pair, walk in walks.items() for i in range(k)]


class _Walk:
    """An endless sequence of permutations of `range(size)`; holds the one that was asked for last."""

    def __init__(self, size: int, name: str) -> None:
        self.size, self.name, self.cycle = size, name, -1
        self.order: list[int] = []

    def __getitem__(self, position: int) -> int:
        cycle, index = divmod(position, self.size)
        if cycle != self.cycle:
            generator = torch.Generator().manual_seed(_seed_of(f"{self.name}:{cycle}"))
            self.order, self.cycle = torch.randperm(self.size, generator=generator).tolist(), cycle
        return self.order[index]


def _seed_of(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
