"""A text's tokens as folded letters, and its runs of whole words of one embedded language."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from scoring.loanwords import fold, split_particle

_LONGEST_RUN = 50  # words


@dataclass(frozen=True, slots=True)
class FoldedTokens:
    """A reference or hypothesis as folded tokens, and where in their joined letters a run may begin or end."""

    keys: Sequence[str]
    joined: str
    begins: Mapping[int, int]
    ends: Mapping[int, int]

    @classmethod
    def of(cls, tokens: Sequence[str], words: Sequence[str] | None = None) -> FoldedTokens:
        """Return the folded tokens of a text; `words` are its words, needed where a token may be only part of one."""
        keys = [fold(token) for token in tokens]
        joined = "".join(keys)
        offsets = [0, *accumulate(map(len, keys))]
        borders = set(offsets)
        if words is not None:
            by_word = {0, *accumulate(len(fold(word)) for word in words)}
            borders = by_word if max(by_word) == len(joined) else borders
        # A token without letters has the offset of the next one, and belongs to no run that ends or begins there.
        begins = {offset: token for token, offset in enumerate(offsets) if offset in borders}
        ends = {offset: token for token, offset in reversed(list(enumerate(offsets))) if offset in borders}
        return cls(keys, joined, begins, ends)

    def find(self, spelling: str) -> Iterator[tuple[int, int]]:
        """Yield the runs (from, to) of tokens that have exactly these letters."""
        at = self.joined.find(spelling)
        while at >= 0:
            begin, end = self.begins.get(at), self.ends.get(at + len(spelling))
            if begin is not None and end is not None:
                yield begin, end
            at = self.joined.find(spelling, at + 1)

    def has(self, spelling: str) -> bool:
        """Whether a run of tokens has exactly these letters."""
        return next(self.find(spelling), None) is not None


@dataclass(frozen=True, slots=True)
class EmbeddedRun:
    """Tokens `start` to `end` of the reference: `words` words of one embedded language, `key` their folded letters."""

    start: int
    end: int
    language: str
    words: int
    key: str
    particle: str


def embedded_runs(reference: FoldedTokens, languages: Sequence[str | None]) -> Iterator[EmbeddedRun]:
    """Yield all runs of at most `_LONGEST_RUN` whole words that are of one embedded language."""
    ends = sorted(reference.ends.values())
    for start in reference.begins.values():
        language = languages[start] if start < len(languages) else None
        if language is None:
            continue
        first, checked = bisect_right(ends, start), start
        for words, end in enumerate(ends[first : first + _LONGEST_RUN], start=1):
            if any(code != language for code in languages[checked:end]):
                break
            checked = end
            last, particle = split_particle(reference.keys[end - 1])
            yield EmbeddedRun(start, end, language, words, "".join(reference.keys[start : end - 1]) + last, particle)
            if particle:
                break
