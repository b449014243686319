"""The script-tolerant error count, which ignores in which script a word is written.

A run of the embedded language that the hypothesis has in another script costs nothing where it is the same word: by a
label of the utterance, by the lexicon of loanwords, or by its sound. German compounds written apart or together
cost nothing either. A word that was misheard in another script costs one error, as it does in its own. All else costs
what it costs in the strict count, so that the tolerant count never exceeds it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from common.espeak_phonemes import has_espeak
from scoring.edit_alignment import Alignment
from scoring.folded_tokens import FoldedTokens, embedded_runs
from scoring.loanwords import RULES, SOUND, Spellings
from scoring.variants import (
    VariantMatch,
    by_sound,
    compounds,
    labelled,
    misheard,
    partly_heard,
    spelt,
)

_ERROR = 1 << 20  # the cost of an edit; a match costs its rule's rank besides, so that none is used without need
_MOST_TOKENS = 1_000  # some five minutes of speech: the search is quadratic
_RANK = {rule: rank for rank, rule in enumerate(RULES, start=1)}


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The script-tolerant errors of an utterance, and the matches that were needed for them."""

    errors: int
    matches: tuple[VariantMatch, ...] = ()


@cache
def rules_on() -> tuple[str, ...]:
    """Return the rules that can be applied: the one by sound needs espeak-ng."""
    return tuple(rule for rule in RULES if rule != SOUND or has_espeak())


def tolerate(
    alignment: Alignment,
    languages: Sequence[str | None],
    matrix_language: str | None,
    *,
    transliterations: Spellings | None = None,
    loanwords: Spellings | None = None,
    words: tuple[Sequence[str], Sequence[str]] | None = None,
    rules: Collection[str] | None = None,
) -> Tolerance:
    """Return the least number of errors that is left when variants in another script cost nothing.

    Where either side has more than 1,000 tokens it is the strict number.

    Args:
        alignment: the strict alignment.
        languages: the language of each reference token, None where not known.
        matrix_language: the language whose tokens are not matched across scripts, labelled loanwords aside.
        transliterations: labelled variants of what the reference has in the embedded language.
        loanwords: labelled variants of loanwords; a labelled loanword counts as embedded in whatever script it stands.
        words: reference and hypothesis by word, for a profile whose tokens are letters.
        rules: the rules to apply, by default all that can be.
    """
    rules = rules_on() if rules is None else rules
    errors = alignment.counts.errors
    if not errors or not alignment.hypothesis:
        return Tolerance(errors)
    if max(len(alignment.reference), len(alignment.hypothesis)) > _MOST_TOKENS:
        return Tolerance(errors)
    embedded = [language not in (None, matrix_language) for language in languages]
    if matrix_language is None:
        embedded = [False] * len(languages)
    if not any(embedded) and not loanwords and "de" not in languages:
        return Tolerance(errors)
    reference = FoldedTokens.of(alignment.reference, words and words[0])
    hypothesis = FoldedTokens.of(alignment.hypothesis, words and words[1])
    codes = [code if yes else None for code, yes in zip(languages, embedded, strict=True)]
    runs, labels = list(embedded_runs(reference, codes)), transliterations or {}
    matches = [*labelled(reference, hypothesis, loanwords or {}), *spelt(runs, hypothesis, labels)]
    if SOUND in rules:
        matches += by_sound(runs, hypothesis, labels)
    if words is None:
        matches += misheard(runs, hypothesis, labels, sounds=SOUND in rules)
        matches += partly_heard(runs, hypothesis, labels) if SOUND in rules else ()
    if "de" in languages and words is None:
        matches += compounds(alignment, reference, hypothesis, languages)
    matches = [match for match in matches if match.rule in rules]
    return _align(alignment, matches) if matches else Tolerance(errors)


def _align(alignment: Alignment, matches: Iterable[VariantMatch]) -> Tolerance:
    """Find the cheapest alignment in which each match may be used at no cost: Levenshtein's recurrence with jumps."""
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
                    cost = min(cost, (rows[match.start] if match.start < end else row)[match.at] + _cost(match))
            row.append(cost)
            left = cost
        rows.append(row)
    return Tolerance(rows[-1][-1] // _ERROR, _used(alignment, rows, ending))


def _used(
    alignment: Alignment, rows: Sequence[Sequence[int]], ending: Mapping[int, Mapping[int, list[VariantMatch]]]
) -> tuple[VariantMatch, ...]:
    """Return the matches on the cheapest path, in order."""
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
            match = next(match for match in ending[end][until] if rows[match.start][match.at] + _cost(match) == cost)
            used.append(match)
            end, until = match.start, match.at
    return tuple(reversed(used))


def _cost(match: VariantMatch) -> int:
    return match.errors * _ERROR + _RANK[match.rule]
