"""What can be chosen about splicing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.errors import UserError


@dataclass(frozen=True)
class Splicing:
    """How utterances become utterances of other pairs while they are read.

    Args:
        share: of a pair's hearings that are spliced; one number, or one for each pair.
        pairs: to make; where none are named, all pairs of the languages at hand that nobody recorded.
        sources: manifests to take spans from; where none are named, those trained on.
        pattern: `frame` replaces an utterance's spans in one of its languages; `chain` joins one of its spans and
            others, the two languages in turn.
        spans: how many spans a chain has, least and most.
        matrix: which language of a pair the frame keeps: the `first`, the `second`, or `both` at random.
        same_speaker: take spans of the frame's speaker where one fits.
        loudness: bring inserted spans to the frame's loudness.
        crossfade_s: seconds over which spans fade into each other.
        gap_s: seconds of silence between spans.
        shortest_s: a span under so many seconds is not cut.
        jitter_s: seconds by which borders of spans are moved at most, to see what bad alignment costs.

    Raises:
        UserError: for a value out of its range.
    """

    share: float | dict[str, float] = 0.5
    pairs: list[str] | None = None
    sources: list[str] | None = None
    pattern: Literal["frame", "chain"] = "frame"
    spans: tuple[int, int] = (2, 4)
    matrix: Literal["first", "second", "both"] = "both"
    same_speaker: bool = False
    loudness: bool = True
    crossfade_s: float = 0.01
    gap_s: float = 0.0
    shortest_s: float = 0.1
    jitter_s: float = 0.0

    def __post_init__(self) -> None:
        for share in self.share.values() if isinstance(self.share, dict) else (self.share,):
            if not 0 <= share <= 1:
                raise UserError(f"data.splice.share is {share}, expected a share from 0 to 1")
        if not 2 <= self.spans[0] <= self.spans[1]:
            raise UserError(f"data.splice.spans is {list(self.spans)}, expected the least and the most, 2 or more")
        if not 0 <= self.crossfade_s <= self.shortest_s / 2:
            raise UserError(
                f"data.splice.crossfade_s is {self.crossfade_s:g}, expected 0 to {self.shortest_s / 2:g}, half of "
                "data.splice.shortest_s, so that every span has a middle of its own"
            )
        if not 0 <= self.gap_s <= 1:
            raise UserError(f"data.splice.gap_s is {self.gap_s:g}, expected seconds from 0 to 1")
        if not 0 <= self.jitter_s <= 1:
            raise UserError(f"data.splice.jitter_s is {self.jitter_s:g}, expected seconds from 0 to 1")
        for pair in self.pairs or ():
            if len(languages := pair.split("-")) != 2 or languages[0] == languages[1] or "" in languages:
                raise UserError(f"data.splice.pairs names {pair!r}, expected two languages, such as ko-ja")

    def share_of(self, pair: str) -> float:
        """The share of a pair's hearings that are spliced."""
        return self.share.get(pair, 0.0) if isinstance(self.share, dict) else self.share
