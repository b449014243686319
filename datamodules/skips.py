"""Utterances whose audio cannot be read: skipped within a budget, and recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from backbone.devices import of_all_ranks
from common.errors import UserError

_NAMED = 5


class SkippedUtterance(NamedTuple):
    """An utterance that was skipped, which is the `index`-th of its pair; the reason names the file."""

    pair: str
    index: int
    id: str
    reason: str


@dataclass(eq=False)
class SkipBudget:
    """Counts skipped utterances, each once however often it was drawn.

    Args:
        most: how many a run may skip.
        sizes: utterances of each pair, of which one must be left; known once the manifests are read.
    """

    most: int
    sizes: dict[str, int] = field(default_factory=dict)
    skipped: dict[SkippedUtterance, None] = field(default_factory=dict)  # in the order in which they were drawn

    def add(self, skipped: Iterable[SkippedUtterance]) -> None:
        """Counts what was skipped for a batch.

        Raises:
            UserError: where that is more than allowed, naming files.
        """
        new = [skip for skip in skipped if skip not in self.skipped]
        if not new:
            return
        self.skipped |= dict.fromkeys(new)
        empty = [pair for pair, size in self.sizes.items() if sum(s.pair == pair for s in self.skipped) == size]
        if empty or len(self.skipped) > self.most:
            limit = f"not one of {empty[0]} can" if empty else f"data.max_broken allows {self.most or 'none'}"
            raise UserError(
                f"{self.count()} cannot be read, {limit}:",
                *(f"  {skip.pair} {skip.id}: {skip.reason}" for skip in list(self.skipped)[-_NAMED:]),
                "Repair or drop them (python prepare.py check MANIFEST finds them all), or raise data.max_broken",
            )

    def count(self) -> str:
        """The number of skipped utterances with its noun."""
        return f"{len(self.skipped)} training utterance{'s' * (len(self.skipped) != 1)}"

    def summary(self) -> str:
        """One line for the end of a run."""
        named = "; ".join(f"{skip.pair} {skip.id} ({skip.reason})" for skip in list(self.skipped)[:3])
        more = " ..." * (len(self.skipped) > 3)
        return f"{self.count()} could not be read and others took their place: {named}{more}"

    def gathered(self) -> SkipBudget:
        """The count over all ranks; every rank must call it."""
        everybodys = chain(*of_all_ranks(self.skipped))
        return SkipBudget(self.most, self.sizes, dict.fromkeys(everybodys))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, in plain types: each rank's count. Every rank must call it."""
        return {"skipped": [[list(skip) for skip in part] for part in of_all_ranks(self.skipped)]}

    def load_state_dict(self, state: dict[str, Any], rank: int = 0, world_size: int = 1) -> None:
        """Takes up an interrupted run's count.

        Args:
            state: what `state_dict` returned.
            rank: this process.
            world_size: where it is another than before, every rank takes the count of all.
        """
        parts = [[SkippedUtterance(*fields) for fields in part] for part in state["skipped"]]
        mine = [parts[rank]] if len(parts) == world_size else parts
        self.skipped = dict.fromkeys(chain(*mine))
