"""Which language each word of a transcript is in: by script, and within a script by its letters and its neighbours.

Words of one script are told apart by naive Bayes over runs of one to four letters (n-grams) and whole words, counted in
the written sentence sets; only the languages of these sets can be told apart.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from common.languages import script, scripts_of

_SENTENCES = Path(__file__).parent.parent / "corpora" / "speak" / "sentence_sets"
_LONGEST_RUN = 4
_KINDS = 5_000  # distinct runs of letters in a language, about
_RARE_RUN, _RARE_WORD = 0.5, 0.1  # added to each count, for smoothing
_SWITCH = 2.0  # nats that a switch costs
_NEVER = 1e9


def word_languages(words: Sequence[str], languages: Sequence[str]) -> list[str]:
    """Return each word's language: the most probable sequence (Viterbi), in which switches are rare.

    Args:
        words: in order; a word without letters takes the language of its neighbours.
        languages: to choose from, the most expected first.
    """
    best = dict.fromkeys(languages, 0.0)
    before: list[dict[str, str]] = []
    for word in words:
        scores, origins = {}, {}
        for language, evidence in _evidence(word, tuple(languages)).items():
            origins[language] = max(best, key=lambda other, to=language: best[other] - _SWITCH * (other != to))
            scores[language] = best[origins[language]] - _SWITCH * (origins[language] != language) + evidence
        best = scores
        before.append(origins)
    found = []
    language = max(best, key=best.__getitem__)
    for origins in reversed(before):
        found.append(language)
        language = origins[language]
    return found[::-1]


def _evidence(word: str, languages: tuple[str, ...]) -> dict[str, float]:
    """Return a word's log-likelihood in each language; 0 in all where nothing distinguishes them."""
    written = script(word)
    possible = [language for language in languages if written in scripts_of(language)]
    if not possible:
        return dict.fromkeys(languages, 0.0)
    if len(possible) == 1 or not all(_counts(language)[1] for language in possible):
        return {language: 0.0 if language in possible else -_NEVER for language in languages}
    word = _letters(word)
    is_known = any(_counts(language)[1][word] for language in possible)
    return {
        language: _likelihood(word, language, is_known) if language in possible else -_NEVER for language in languages
    }


def _likelihood(word: str, language: str, is_known: bool) -> float:
    runs, words = _counts(language)
    total = math.log(runs.total() + _RARE_RUN * _KINDS)
    found = sum(math.log(runs[run] + _RARE_RUN) - total for run in _runs(word)) / _LONGEST_RUN
    return found + (math.log(words[word] + _RARE_WORD) if is_known else 0.0)


def _letters(word: str) -> str:
    return "".join(filter(str.isalnum, word.casefold()))


def _runs(word: str) -> Iterator[str]:
    edged = f"<{word}>"
    for size in range(1, _LONGEST_RUN + 1):
        for begin in range(len(edged) - size + 1):
            yield edged[begin : begin + size]


@cache
def _counts(language: str) -> tuple[Counter[str], Counter[str]]:
    """Count the runs of letters, and the words, in the sentence sets' training split."""
    words = [_letters(word) for word in _sentence_words().get(language, ()) if script(word)]
    return Counter(run for word in words for run in _runs(word)), Counter(words)


@cache
def _sentence_words() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in sorted(_SENTENCES.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            whole = [(name, "".join(text for _, text in row[name])) for name in ("de", "en") if name in row]
            for language, text in row.get("spans", whole) if row["split"] == "train" else ():
                found.setdefault(language, []).extend(text.split())
    return found
