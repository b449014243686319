"""The script-tolerant error count: hearing without the choice of script.

A run of the embedded language that stands in the hypothesis in another script costs nothing where it is the same word:
by a label of the utterance, or by the lexicon of loanwords. German compounds written apart or together cost nothing
either. A word that was misheard in another script costs one error, as it does in its own. All else costs what it costs
in the strict count, so that the tolerant count never exceeds it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from common.languages import script
from scoring.edit_alignment import Alignment
from scoring.loanwords import (
    COMPOUND,
    LABEL,
    LEXICON,
    RULES,
    TOKEN,
    Spellings,
    fold,
    is_latin,
    lexicon,
    split_particle,
)

MAX_WORDS = 4  # the longest run that is looked for as a compound
_ERROR = 1 << 20  # the cost of an edit; a match costs its rule's rank besides, so that none is used without need
_RANK = {rule: rank for rank, rule in enumerate(RULES, start=1)}


@dataclass(frozen=True, slots=True)
class VariantMatch:
    """Tokens `start` to `end` of the reference, found in the hypothesis as tokens `at` to `until` by a rule."""

    start: int
    end: int
    at: int
    until: int
    rule: str
    errors: int = 0

    @property
    def cost(self) -> int:
        """What the match adds to the alignment."""
        return self.errors * _ERROR + _RANK[self.rule]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The script-tolerant errors of an utterance, and the matches that were needed for them."""

    errors: int
    matches: tuple[VariantMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class FoldedTokens:
    """A reference or hypothesis as folded tokens, and where in their joined letters a run may begin or end."""

    keys: Sequence[str]
    joined: str
    begins: Mapping[int, int]
    ends: Mapping[int, int]

    @classmethod
    def of(cls, tokens: Sequence[str], words: Sequence[str] | None = None) -> FoldedTokens:
        """Return the tokens' side; `words` are the same text's words where a token may be less than one."""
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


def tolerate(
    alignment: Alignment,
    languages: Sequence[str | None],
    matrix_language: str | None,
    *,
    transliterations: Spellings | None = None,
    loanwords: Spellings | None = None,
    words: tuple[Sequence[str], Sequence[str]] | None = None,
    rules: Collection[str] = RULES,
) -> Tolerance:
    """Return the least number of errors that is left when variants in another script cost nothing.

    Args:
        alignment: the strict alignment.
        languages: the language of each reference token, None where not known.
        matrix_language: the language whose tokens no script match covers.
        transliterations: labelled variants of what the reference has in the embedded language.
        loanwords: labelled variants of loanwords; a labelled loanword counts as embedded in whatever script it stands.
        words: reference and hypothesis by word, for a profile whose tokens are letters.
        rules: the rules to apply, all by default.
    """
    errors = alignment.counts.errors
    if not errors or not alignment.hypothesis:
        return Tolerance(errors)
    embedded = [language not in (None, matrix_language) for language in languages]
    if matrix_language is None:
        embedded = [False] * len(languages)
    if not any(embedded) and not loanwords and "de" not in languages:
        return Tolerance(errors)
    reference = FoldedTokens.of(alignment.reference, words and words[0])
    hypothesis = FoldedTokens.of(alignment.hypothesis, words and words[1])
    runs = list(_runs(reference, [code if yes else None for code, yes in zip(languages, embedded, strict=True)]))
    matches = [
        *_labelled(reference, hypothesis, loanwords or {}),
        *_spelt(runs, hypothesis, transliterations or {}),
    ]
    if words is None:
        matches += _misheard(runs, hypothesis, transliterations or {})
    if "de" in languages and words is None:
        matches += _compounds(alignment, reference, hypothesis, languages)
    matches = [match for match in matches if match.rule in rules]
    return _align(alignment, matches) if matches else Tolerance(errors)


@dataclass(frozen=True, slots=True)
class EmbeddedRun:
    """Tokens `start` to `end` of the reference, all of one embedded language, as folded letters."""

    start: int
    end: int
    language: str
    key: str
    particle: str


def _runs(reference: FoldedTokens, languages: Sequence[str | None]) -> Iterator[EmbeddedRun]:
    """Yield all runs of whole words that are of one embedded language."""
    ends = sorted(reference.ends.values())
    for start in reference.begins.values():
        language = languages[start] if start < len(languages) else None
        if language is None:
            continue
        for end in ends[bisect_right(ends, start) :]:
            if any(code != language for code in languages[start:end]):
                break
            last, particle = split_particle(reference.keys[end - 1])
            yield EmbeddedRun(start, end, language, "".join(reference.keys[start : end - 1]) + last, particle)
            if particle:
                break


def _labelled(reference: FoldedTokens, hypothesis: FoldedTokens, loanwords: Spellings) -> Iterator[VariantMatch]:
    """Yield the matches of labelled loanwords, which may stand in the reference in either script."""
    for spelling, variants in loanwords.items():
        for start, end in reference.find(spelling):
            for variant in variants:
                yield from (VariantMatch(start, end, at, until, LABEL) for at, until in hypothesis.find(variant))


def _spelt(runs: Iterable[EmbeddedRun], hypothesis: FoldedTokens, labels: Spellings) -> Iterator[VariantMatch]:
    """Yield the matches by labelled variant, else by the lexicon."""
    for run in runs:
        for rule, spellings in ((LABEL, labels), (LEXICON, lexicon(run.language if is_latin(run.key) else None))):
            for variant in spellings.get(run.key, ()):
                for at, until in hypothesis.find(variant + run.particle):
                    yield VariantMatch(run.start, run.end, at, until, rule)


def _misheard(runs: Iterable[EmbeddedRun], hypothesis: FoldedTokens, labels: Spellings) -> Iterator[VariantMatch]:
    """Yield what may stand for a misheard word in another script: no more letters than the word has in that script."""
    for run in runs:
        if run.end - run.start != 1 or not is_latin(run.key) or run.particle or run.key in hypothesis.keys:
            continue
        spellings = labels.get(run.key) or lexicon(run.language).get(run.key) or ()
        widths: dict[str | None, int] = {}
        for spelling in spellings:
            widths[script(spelling)] = max(widths.get(script(spelling), 0), len(spelling))
        for at, first in enumerate(hypothesis.keys):
            written, letters = script(first), len(first)
            for until in range(at + 2, len(hypothesis.keys) + 1):
                letters += len(hypothesis.keys[until - 1])
                if letters > widths.get(written, 0) or script(hypothesis.keys[until - 1]) != written:
                    break
                yield VariantMatch(run.start, run.end, at, until, TOKEN, errors=1)


def _compounds(
    alignment: Alignment, reference: FoldedTokens, hypothesis: FoldedTokens, languages: Sequence[str | None]
) -> Iterator[VariantMatch]:
    """Yield German words that are only written apart or together, or with a hyphen."""
    for start in range(len(languages)):
        for end in range(start + 1, min(start + MAX_WORDS, len(languages)) + 1):
            if languages[end - 1] != "de":
                break
            hyphen = any("-" in token for token in alignment.reference[start:end])
            for at, until in hypothesis.find("".join(reference.keys[start:end])):
                same = reference.keys[start:end] == hypothesis.keys[at:until]
                if until - at <= MAX_WORDS and (hyphen or not same):
                    yield VariantMatch(start, end, at, until, COMPOUND)


def _align(alignment: Alignment, matches: Iterable[VariantMatch]) -> Tolerance:
    """Find the cheapest alignment in which each match may be used at no cost: Levenshtein's programme with jumps."""
    reference, hypothesis = alignment.reference, alignment.hypothesis
    ending: dict[int, dict[int, list[VariantMatch]]] = {}
    for match in matches:
        ending.setdefault(match.end, {}).setdefault(match.until, []).append(match)
    rows = [[column * _ERROR for column in range(len(hypothesis) + 1)]]
    for end, expected in enumerate(reference, start=1):
        above, jumps = rows[-1], ending.get(end)
        left = above[0] + _ERROR
        row = [left]
        for until, found in enumerate(hypothesis, start=1):
            cost = above[until - 1] if expected == found else above[until - 1] + _ERROR
            if above[until] + _ERROR < cost:
                cost = above[until] + _ERROR
            if left + _ERROR < cost:
                cost = left + _ERROR
            if jumps:
                for match in jumps.get(until, ()):
                    cost = min(cost, (rows[match.start] if match.start < end else row)[match.at] + match.cost)
            row.append(cost)
            left = cost
        rows.append(row)
    return Tolerance(rows[-1][-1] // _ERROR, _used(alignment, rows, ending))


def _used(
    alignment: Alignment, rows: Sequence[Sequence[int]], ending: Mapping[int, Mapping[int, list[VariantMatch]]]
) -> tuple[VariantMatch, ...]:
    """Return the matches on the cheapest way, in order."""
    used = []
    end, until = len(alignment.reference), len(alignment.hypothesis)
    while end and until:
        cost = rows[end][until]
        same = alignment.reference[end - 1] == alignment.hypothesis[until - 1]
        if rows[end - 1][until - 1] + (0 if same else _ERROR) == cost:
            end, until = end - 1, until - 1
        elif rows[end - 1][until] + _ERROR == cost:
            end -= 1
        elif rows[end][until - 1] + _ERROR == cost:
            until -= 1
        else:
            match = next(match for match in ending[end][until] if rows[match.start][match.at] + match.cost == cost)
            used.append(match)
            end, until = match.start, match.at
    return tuple(reversed(used))
