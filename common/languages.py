"""Which language a token belongs to, where an utterance switches, and how mixed it is."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

# Scripts by ISO 639-1 code; every language not named here is written in Latin.
_SCRIPTS = {
    "Hangul": "ko",
    "Han": "ja zh yue",
    "Kana": "ja",
    "Cyrillic": "ru uk be bg mk sr kk mn tg tt ba",
    "Arabic": "ar fa ur ps sd",
    "Hebrew": "he yi",
    "Devanagari": "hi mr ne sa",
    "Bengali": "bn as",
    "Gurmukhi": "pa",
    "Gujarati": "gu",
    "Tamil": "ta",
    "Telugu": "te",
    "Kannada": "kn",
    "Malayalam": "ml",
    "Sinhala": "si",
    "Thai": "th",
    "Lao": "lo",
    "Myanmar": "my",
    "Khmer": "km",
    "Tibetan": "bo",
    "Georgian": "ka",
    "Armenian": "hy",
    "Greek": "el",
    "Ethiopic": "am",
}
_NAMED = {
    "CJK": "Han",
    "IDEOGRAPHIC": "Han",
    "HIRAGANA": "Kana",
    "KATAKANA": "Kana",
    "KATAKANA-HIRAGANA": "Kana",
    "HALFWIDTH": "Kana",
}
LATIN = "Latin"
MAX_DISTANCE = 3  # tokens; what is further from a switch is counted together


@lru_cache(maxsize=1 << 16)
def script(token: str) -> str | None:
    """Returns the script of a token's first letter (`Hangul`, `Han`, `Kana`, `Latin`, ...), None without letters."""
    for character in token:
        if character.isalpha():
            name = unicodedata.name(character, "UNKNOWN").split()[0]
            return _NAMED.get(name, name.capitalize())
    return None


@lru_cache(maxsize=1 << 10)
def scripts_of(language: str) -> frozenset[str]:
    """Returns the scripts a language is written in."""
    return frozenset(name for name, codes in _SCRIPTS.items() if language in codes.split()) or frozenset({LATIN})


@lru_cache(maxsize=1 << 16)
def language_by_script(token: str, languages: tuple[str, ...] | None) -> str | None:
    """Returns the one language of `languages` written in the token's script, None where there is not exactly one.

    Without `languages` it is the script's own name.
    """
    written = script(token)
    if written is None or languages is None:
        return written
    matching = [language for language in languages if written in scripts_of(language)]
    return matching[0] if len(matching) == 1 else None


def languages_by_spans(
    tokens: Sequence[str], spans: Sequence[tuple[str, str]], split: Callable[[str], list[str]]
) -> list[str | None] | None:
    """Returns each token's language from the spans' (language, text), None for a token outside of all spans.

    The spans' texts are looked for one after the other, letter by letter, so a word across two spans (`bug는`) has the
    language it begins in. Returns None as a whole where a span's text does not follow in the reference.
    """
    letters = "".join(tokens)
    languages: list[str | None] = [None] * len(letters)
    position = 0
    for language, text in spans:
        piece = "".join(split(text))
        start = letters.find(piece, position)
        if start < 0:
            return None
        position = start + len(piece)
        languages[start:position] = [language] * len(piece)
    by_token, begin = [], 0
    for token in tokens:
        by_token.append(languages[begin])
        begin += len(token)
    return by_token


@dataclass(frozen=True, slots=True)
class Switches:
    """Where the language changes: for each token the distance to its nearest switch point and that switch's direction.

    Distances count the tokens between: 0 stands right beside the switch, 3 means three or more. A token between two
    switches belongs to the nearer, at a draw to the one before it. Both are None in an utterance without a switch.
    """

    count: int
    distances: tuple[int | None, ...]
    directions: tuple[str | None, ...]


def find_switches(languages: Sequence[str | None]) -> Switches:
    """Finds the switch points of an utterance; a token of no language (a number) goes with what is before it."""
    filled = _filled(languages)
    points = [(i, f"{a}>{b}") for i, (a, b) in enumerate(pairwise(filled), start=1) if a != b]
    if not points:
        nothing = (None,) * len(filled)
        return Switches(0, nothing, nothing)
    distances, directions = [], []
    after = 0  # index of the first switch point behind the token
    for i in range(len(filled)):
        while after < len(points) and points[after][0] <= i:
            after += 1
        nearest = min(
            ((i - at if at <= i else at - 1 - i), at > i, direction)
            for at, direction in points[max(after - 1, 0) : after + 1]
        )
        distances.append(min(nearest[0], MAX_DISTANCE))
        directions.append(nearest[2])
    return Switches(len(points), tuple(distances), tuple(directions))


def _filled(languages: Sequence[str | None]) -> list[str | None]:
    last = next((language for language in languages if language is not None), None)
    filled = []
    for language in languages:
        last = language or last
        filled.append(last)
    return filled


def code_mixing_index(languages: Sequence[str | None]) -> float | None:
    """Returns 100 (1 - most frequent language / tokens of any language), None without such tokens.

    Das and Gambäck, "Identifying Languages at the Word Level in Code-Mixed Indian Social Media Text" (2014), eq. 1.
    """
    counts = Counter(language for language in languages if language is not None)
    return 100 * (1 - max(counts.values()) / counts.total()) if counts else None
