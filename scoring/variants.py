"""The candidate matches of each tolerant rule: what in a hypothesis may stand for words of the reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from common.languages import LATIN, script
from scoring.edit_alignment import Alignment
from scoring.folded_tokens import EmbeddedRun, FoldedTokens
from scoring.loanwords import (
    COMPOUND,
    LABEL,
    LEXICON,
    SOUND,
    TOKEN,
    Spellings,
    is_latin,
    lexicon,
)
from scoring.phones import letter_phones, letters_needed, phones, readings
from scoring.sound import MAX_COST, VOWEL, sound_alike, sound_cost, weight

MAX_WORDS = 4  # of the longest run that is looked for as a compound
MAX_LETTERS = 8  # of the longest run that is looked for with some letters misheard


@dataclass(frozen=True, slots=True)
class VariantMatch:
    """Tokens `start` to `end` of the reference, found in the hypothesis as tokens `at` to `until` by a rule.

    `errors` is how many errors it counts: none, unless the words were misheard.
    """

    start: int
    end: int
    at: int
    until: int
    rule: str
    errors: int = 0


def labelled(reference: FoldedTokens, hypothesis: FoldedTokens, loanwords: Spellings) -> Iterator[VariantMatch]:
    """Yield the matches of labelled loanwords, which may stand in the reference in either script."""
    for spelling, variants in loanwords.items():
        for start, end in reference.find(spelling):
            for variant in variants:
                yield from (VariantMatch(start, end, at, until, LABEL) for at, until in hypothesis.find(variant))


def spelt(runs: Iterable[EmbeddedRun], hypothesis: FoldedTokens, labels: Spellings) -> Iterator[VariantMatch]:
    """Yield the matches by labelled variant, else by the lexicon."""
    for run in runs:
        for rule, spellings in ((LABEL, labels), (LEXICON, lexicon(run.language if is_latin(run.key) else None))):
            for variant in spellings.get(run.key, ()):
                for at, until in hypothesis.find(variant + run.particle):
                    yield VariantMatch(run.start, run.end, at, until, rule)


def by_sound(runs: Iterable[EmbeddedRun], hypothesis: FoldedTokens, labels: Spellings) -> Iterator[VariantMatch]:
    """Yield what sounds like embedded words and is written in another script.

    Words in Latin letters are looked for one by one, so that a long run does not hide a word that was misheard. Words
    that the hypothesis has in their own script are not looked for.
    """
    written = _written(hypothesis.joined)
    for run in runs:
        latin = is_latin(run.key)
        if (latin and run.words > 1) or hypothesis.has(run.key):
            continue
        sought = _readings(run, labels)
        others = lexicon(run.language) if latin else {}
        most = max(map(weight, sought), default=0) + MAX_COST
        for begin, end, sounds in _in_another_script(run, hypothesis, written, most):
            if any(sound_alike(reading, sounds) for reading in sought):
                words = others.get(hypothesis.joined[begin:end])
                if not words or run.key in words:  # 볼링 is bowling, and not boring
                    until = hypothesis.ends[end + len(run.particle)]
                    yield VariantMatch(run.start, run.end, hypothesis.begins[begin], until, SOUND)


def partly_heard(runs: Iterable[EmbeddedRun], hypothesis: FoldedTokens, labels: Spellings) -> Iterator[VariantMatch]:
    """Yield misheard words of several kanji, kana or syllables: one error for each vowel's weight of distance.

    Args:
        runs: of the reference.
        hypothesis: where to look.
        labels: the utterance's spellings.
    """
    written = _written(hypothesis.joined)
    for run in runs:
        tokens, sought = run.end - run.start, _readings(run, labels)
        if not 1 < tokens <= MAX_LETTERS or is_latin(run.key) or not sought or hypothesis.has(run.key):
            continue
        most = (tokens - 1) * VOWEL
        lightest, heaviest = min(map(weight, sought)) - most, max(map(weight, sought)) + most
        for begin, end, sounds in _in_another_script(run, hypothesis, written, heaviest):
            if weight(sounds) >= lightest:
                cost = min(sound_cost(reading, sounds, most) for reading in sought)
                if cost <= most:
                    at, until = hypothesis.begins[begin], hypothesis.ends[end]
                    yield VariantMatch(run.start, run.end, at, until, TOKEN, max(1, ceil(cost / VOWEL)))


def _readings(run: EmbeddedRun, labels: Spellings) -> set[str]:
    """Return the phones of a run and of its labelled spellings."""
    return {sounds for text in (run.key, *labels.get(run.key, ())) for sounds in readings(text, run.language)}


@lru_cache(maxsize=16)  # two rules look at the same hypothesis
def _written(letters: str) -> Sequence[tuple[str | None, str | None]]:
    """Return the script of each letter of a hypothesis, and the phones of those in Hangul and kana."""
    return tuple(zip(map(script, letters), letter_phones(letters), strict=True))


def _in_another_script(
    run: EmbeddedRun, hypothesis: FoldedTokens, written: Sequence[tuple[str | None, str | None]], most: float
) -> Iterator[tuple[int, int, str]]:
    """Yield letters (from, to) in one script other than the run's, with their phones, as long as these may match.

    Args:
        run: of the reference.
        hypothesis: where to look; its particle must be the run's.
        written: script and phones of each letter of the hypothesis.
        most: the greatest weight of phones to yield.
    """
    own = script(run.key)
    for begin in hypothesis.begins:
        first = written[begin][0] if begin < len(written) else None
        sounds = ""
        for end in range(begin + 1, len(written) + 1):
            other, letter = written[end - 1]
            if other != first or other in (own, None) or (letter is None and other != LATIN):
                break
            sounds += letter or ""
            if end + len(run.particle) not in hypothesis.ends or not hypothesis.joined.startswith(run.particle, end):
                continue
            if other == LATIN:
                sounds = phones(hypothesis.joined[begin:end], run.language)
            if weight(sounds) > most:
                break
            yield begin, end, sounds


def misheard(
    runs: Iterable[EmbeddedRun], hypothesis: FoldedTokens, labels: Spellings, *, sounds: bool
) -> Iterator[VariantMatch]:
    """Yield what may be misheard words: letters of another script, no more than the words need in it.

    That is one word in Latin letters, or a run (of kanji) whose label has more letters. Each token counts one error.

    Args:
        runs: of the reference.
        hypothesis: where to look.
        labels: the utterance's spellings.
        sounds: whether a word's phones, too, decide how many letters it needs.
    """
    for run in runs:
        latin, tokens = is_latin(run.key), run.end - run.start
        spellings = labels.get(run.key) or (lexicon(run.language).get(run.key, ()) if latin else ())
        if (latin and run.words > 1) or not (latin or spellings) or run.particle or hypothesis.has(run.key):
            continue
        by_sound = letters_needed(phones(run.key, run.language)) if latin and sounds else 0
        needed = dict.fromkeys({"Hangul", "Kana"} - {script(run.key)}, by_sound)
        for spelling in spellings:
            if script(spelling) in needed:
                needed[script(spelling)] = max(needed[script(spelling)], len(spelling))
        for at, first in enumerate(hypothesis.keys):
            letters = 0
            for until in range(at + 1, len(hypothesis.keys) + 1):
                letters += len(hypothesis.keys[until - 1])
                if letters > needed.get(script(first), 0) or script(hypothesis.keys[until - 1]) != script(first):
                    break
                if until - at > tokens:
                    yield VariantMatch(run.start, run.end, at, until, TOKEN, errors=tokens)


def compounds(
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
