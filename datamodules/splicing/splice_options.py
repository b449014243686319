"""The options of splicing."""

from dataclasses import dataclass
from typing import Literal

from common.audio import SAMPLE_RATE_HZ
from common.errors import UserError, in_range

PATTERNS = ("host", "parallel", "chain")


@dataclass(frozen=True)
class Splicing:
    """How utterances become utterances of other pairs while they are read.

    Args:
        share: share of a pair's utterances that are spliced each time they are drawn; one number, or one a pair.
        pairs: pairs to make; by default all pairs of the languages at hand for which there is no corpus.
        sources: manifests to take inserts from; by default those trained on.
        pattern: `host` replaces what a host says in one of its languages; `parallel` does so, too, but phrases of a
            sentence of `phrases` by their translations; `chain` joins one stretch of a host and inserts, the two
            languages in turn.
        phrases: for `parallel`, a sentence set whose lines hold one sentence in several languages, by phrases.
        spans: least and most spans of a chain.
        matrix: which language of a pair stays in the host: the `first`, the `second`, or `both` at random.
        same_speaker: take inserts of the host's speaker where one fits.
        loudness: bring inserts to the host's level.
        crossfade_s: seconds over which neighbours fade into each other.
        gap_s: seconds of silence between neighbours.
        shortest_s: a span under this many seconds is not cut.
        jitter_s: seconds by which span borders are moved at most, to measure what bad alignment costs.

    Raises:
        UserError: for a value out of its range.
    """

    share: float | dict[str, float] = 0.5
    pairs: list[str] | None = None
    sources: list[str] | None = None
    pattern: str = "host"
    phrases: str | None = None
    spans: tuple[int, int] = (2, 4)
    matrix: Literal["first", "second", "both"] = "both"
    same_speaker: bool = False
    loudness: bool = True
    crossfade_s: float = 0.01
    gap_s: float = 0.0
    shortest_s: float = 0.1
    jitter_s: float = 0.0

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            renamed = "; frame is called host now" if self.pattern == "frame" else ""
            raise UserError(f"data.splice.pattern is {self.pattern!r}, expected {', '.join(PATTERNS)}{renamed}")
        if (self.pattern == "parallel") != (self.phrases is not None):
            raise UserError(
                "data.splice.pattern parallel and data.splice.phrases need each other: the file holds sentences in "
                'several languages, such as {"ko": [["1", "천 가방을"], ["", " 가져가요."]], "ja": [["1", "布の袋を"], '
                '["", "持っていきます。"]]}'
            )
        for share in self.share.values() if isinstance(self.share, dict) else (self.share,):
            in_range("data.splice.share", share, 0, 1, "a share from ")
        if not 2 <= self.spans[0] <= self.spans[1]:
            raise UserError(f"data.splice.spans is {list(self.spans)}, expected the least and the most, 2 or more")
        if not 0 <= self.crossfade_s <= self.shortest_s / 2:
            raise UserError(
                f"data.splice.crossfade_s is {self.crossfade_s:g}, expected 0 to {self.shortest_s / 2:g}, half of "
                "data.splice.shortest_s, so that every span has a middle of its own"
            )
        in_range("data.splice.gap_s", self.gap_s, 0, 1, "seconds from ")
        in_range("data.splice.jitter_s", self.jitter_s, 0, 1, "seconds from ")
        for pair in self.pairs or ():
            if len(languages := pair.split("-")) != 2 or languages[0] == languages[1] or "" in languages:
                raise UserError(f"data.splice.pairs names {pair!r}, expected two languages, such as ko-ja")

    @property
    def fade_samples(self) -> int:
        """Half the length of a cross-fade, in samples at 16 kHz."""
        return round(self.crossfade_s * SAMPLE_RATE_HZ / 2)

    @property
    def gap_samples(self) -> int:
        """Samples of silence between neighbours, at 16 kHz."""
        return round(self.gap_s * SAMPLE_RATE_HZ)

    def share_of(self, pair: str) -> float:
        """The share of a pair's utterances that are spliced."""
        return self.share.get(pair, 0.0) if isinstance(self.share, dict) else self.share

    def keeps(self, pair: str, language: str) -> bool:
        """Whether a language of a pair to make may stay in the host."""
        return self.matrix == "both" or (self.matrix == "first") == (pair.split("-")[0] == language)
