"""Code-mixing of an utterance: the language of each token, where the language switches, and how mixed it is."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import itemgetter

from common.languages import UNSPACED, language_by_script, script

MAX_DISTANCE = 3  # tokens; what is further from a switch is counted together
SPANS, SCRIPT, UNKNOWN = LANGUAGE_SOURCES = ("spans", "script", "unknown")

Languages = Sequence[str | None]  # by token; None for a token of no language, or of an unknown one
Split = Callable[[str], list[str]]


def token_languages(
    tokens: Sequence[str], languages: tuple[str, ...] | None, spans: Sequence[tuple[str, str]] | None, split: Split
) -> tuple[tuple[str | None, ...], str]:
    """Find each token's language by the spans, where they fit the tokens, and by script for the other tokens.

    Args:
        tokens: the utterance's tokens.
        languages: the languages spoken, by ISO 639-1 code; None gives the names of scripts instead.
        spans: (language, text) in the order spoken, None where not known.
        split: what cut the utterance into `tokens`.

    Returns:
        The languages, and where they are from: `spans`, `script`, or `unknown` where no token's language is known.
    """
    by_script = tuple(language_by_script(token, languages) for token in tokens)
    by_spans = languages_by_spans(tokens, spans, split) if spans else None
    if by_spans is not None:
        return tuple(known or guess for known, guess in zip(by_spans, by_script, strict=True)), SPANS
    return by_script, SCRIPT if any(by_script) else UNKNOWN


def languages_by_spans(
    tokens: Sequence[str], spans: Sequence[tuple[str, str]], split: Split
) -> list[str | None] | None:
    """Find each token's language by the spans alone.

    The spans' texts are looked for one after the other, letter by letter, so a word across two spans (`bug는`) has the
    language it begins in.

    Args:
        tokens: the utterance's tokens.
        spans: (language, text) in the order spoken.
        split: what cut the utterance into `tokens`.

    Returns:
        A language a token, None for a token outside of all spans; None as a whole where a span's text does not follow
        in the reference.
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

    Distances count the tokens between: 0 is right beside the switch, 3 means three or more. A token between two
    switches belongs to the nearer, in a tie to the one before it. Both are None in an utterance without a switch.
    """

    count: int
    distances: tuple[int | None, ...]
    directions: tuple[str | None, ...]


def find_switches(languages: Languages) -> Switches:
    """Find the switch points of an utterance; a token of no language (a number) goes with what is before it."""
    filled = _filled(languages)
    points = [(i, f"{a}>{b}") for i, (a, b) in enumerate(pairwise(filled), start=1) if a != b]
    if not points:
        return Switches(0, (None,) * len(filled), (None,) * len(filled))
    distances, directions = [], []
    for i in range(len(filled)):
        after = bisect_right(points, i, key=itemgetter(0))  # index of the first switch point behind the token
        around = points[max(after - 1, 0) : after + 1]
        distance, _, direction = min((i - at if at <= i else at - 1 - i, at > i, to) for at, to in around)
        distances.append(min(distance, MAX_DISTANCE))
        directions.append(direction)
    return Switches(len(points), tuple(distances), tuple(directions))


def _filled(languages: Languages) -> list[str | None]:
    first = next(filter(None, languages), None)
    return list(accumulate([first, *languages], lambda last, language: language or last))[1:]


def code_mixing_index(text: str, languages: Languages, split: Split) -> float | None:
    """Compute the CMI of an utterance: 100 (1 - words of the most frequent language / words of any language).

    Das and Gambäck, "Identifying Languages at the Word Level in Code-Mixed Indian Social Media Text" (2014), eq. 1. A
    word is what spaces delimit, and has the language of its first token that has one (`project는` is English).
    In a script written without spaces every token counts as a word.

    Args:
        text: the utterance.
        languages: the language of each of its tokens.
        split: what cuts the utterance, or one word of it, into tokens.

    Returns:
        0 (one language) to just under 100; None where no word has a language.
    """
    remaining = iter(languages)
    counts: Counter[str | None] = Counter()
    for word in text.split():
        tagged = list(zip(split(word), remaining, strict=False))
        counts.update(language for token, language in tagged if script(token) in UNSPACED)
        counts[next((language for token, language in tagged if language and script(token) not in UNSPACED), None)] += 1
    del counts[None]
    return 100 * (1 - max(counts.values()) / counts.total()) if counts else None
