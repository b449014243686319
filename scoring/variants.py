"""What may stand in a hypothesis for words of the reference: the candidates that each of the tolerant rules gives."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from common.languages import LATIN, script
from scoring.edit_alignment import Alignment
from scoring.loanwords import (
    COMPOUND,
    LABEL,
    LEXICON,
    SOUND,
    TOKEN,
    Spellings,
    fold,
    is_latin,
    lexicon,
    split_particle,
)
from scoring.phones import letter_phones, letters_needed, phones
from scoring.sound import MAX_COST, sound_alike, weight

MAX_WORDS = 4  # the longest run that is looked for as a compound


@dataclass(frozen=True, slots=True)
class VariantMatch:
    """Tokens `start` to `end` of the reference, found in the hypothesis as tokens `at` to `until` by a rule.

    `errors` is what it counts: none, or one where the word was misheard.
    """

    start: int
    end: int
    at: int
    until: int
    rule: str
    errors: int = 0


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

    def has(self, spelling: str) -> bool:
        """Whether a run of tokens has exactly these letters."""
        return next(self.find(spelling), None) is not None


@dataclass(frozen=True, slots=True)
class EmbeddedRun:
    """Tokens `start` to `end` of the reference, `words` words of one embedded language, as folded letters."""

    start: int
    end: int
    language: str
    words: int
    key: str
    particle: str


def embedded_runs(reference: FoldedTokens, languages: Sequence[str | None]) -> Iterator[EmbeddedRun]:
    """Yield all runs of whole words that are of one embedded language."""
    ends = sorted(reference.ends.values())
    for start in reference.begins.values():
        language = languages[start] if start < len(languages) else None
        if language is None:
            continue
        for words, end in enumerate(ends[bisect_right(ends, start) :], start=1):
            if any(code != language for code in languages[start:end]):
                break
            last, particle = split_particle(reference.keys[end - 1])
            yield EmbeddedRun(start, end, language, words, "".join(reference.keys[start : end - 1]) + last, particle)
            if particle:
                break


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

    Words in Latin letters are looked for one by one, so that no long run hides one of them that was misheard. Nothing
    is looked for that the hypothesis has as it is.
    """
    written = _written(hypothesis)
    for run in runs:
        latin = is_latin(run.key)
        if (latin and run.words > 1) or hypothesis.has(run.key):
            continue
        readings = {phones(spelling, run.language) for spelling in (run.key, *labels.get(run.key, ()))} - {""}
        others = lexicon(run.language) if latin else {}
        for begin, end, sounds in _in_another_script(run, hypothesis, written, max(map(weight, readings), default=0)):
            if any(sound_alike(reading, sounds) for reading in readings):
                words = others.get(hypothesis.joined[begin:end])
                if not words or run.key in words:  # 볼링 is bowling, and not boring
                    until = hypothesis.ends[end + len(run.particle)]
                    yield VariantMatch(run.start, run.end, hypothesis.begins[begin], until, SOUND)


def _written(hypothesis: FoldedTokens) -> Sequence[tuple[str | None, str | None]]:
    """Return the script of each letter of a hypothesis, and the phones of those in Hangul and kana."""
    return [*zip(map(script, hypothesis.joined), letter_phones(hypothesis.joined), strict=True)]


def _in_another_script(
    run: EmbeddedRun, hypothesis: FoldedTokens, written: Sequence[tuple[str | None, str | None]], heaviest: float
) -> Iterator[tuple[int, int, str]]:
    """Yield the letters (from, to) in one script that is not the run's, with their phones, while these may be alike.

    Args:
        run: of the reference.
        hypothesis: where to look; its particle must be the run's.
        written: script and phones of each letter of the hypothesis.
        heaviest: the weight of the run's phones.
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
            if weight(sounds) > heaviest + MAX_COST:
                break
            yield begin, end, sounds


def misheard(
    runs: Iterable[EmbeddedRun], hypothesis: FoldedTokens, labels: Spellings, *, sounds: bool
) -> Iterator[VariantMatch]:
    """Yield what may stand for misheard words: no more letters of another script than the words need in it.

    That is one word in Latin letters, or a run (of kanji) whose label has more letters. Each token counts one error.

    Args:
        runs: of the reference.
        hypothesis: where to look.
        labels: the utterance's spellings.
        sounds: whether a word's phones say, too, how many letters it needs.
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
