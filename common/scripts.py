"""Languages told apart by their writing: enough to count what a corpus holds, where the pair's scripts differ."""

from __future__ import annotations

import functools
import unicodedata

import regex

from common.manifest import Utterance

_SCRIPTS = {
    "ko": r"\p{Hangul}",
    "ja": r"\p{Hiragana}\p{Katakana}\p{Han}ー",
    "zh": r"\p{Han}",
    "yue": r"\p{Han}",
    "ru": r"\p{Cyrillic}",
    "uk": r"\p{Cyrillic}",
    "el": r"\p{Greek}",
    "ar": r"\p{Arabic}",
    "fa": r"\p{Arabic}",
    "he": r"\p{Hebrew}",
    "hi": r"\p{Devanagari}",
    "th": r"\p{Thai}",
}
_LATIN = r"\p{Latin}"  # of every language not in the table
_BY_CHARACTER = r"\p{Hangul}\p{Han}\p{Hiragana}\p{Katakana}ー"
_TOKEN = regex.compile(rf"[{_BY_CHARACTER}]|[[\p{{L}}\p{{M}}\p{{N}}']--[{_BY_CHARACTER}]]+", regex.VERSION1)
_PLAIN = regex.compile(r"[\p{Z}\p{N}\p{P}\p{Sc}%+&=°′″]", regex.VERSION1)
_NOTATION = set("*/\\{}[]<>|_#@^~()\N{REPLACEMENT CHARACTER}")  # marks of annotators more often than of writers

UNKNOWN = "unknown"
OTHER = "other"


def tokens(text: str) -> list[str]:
    """Mixed tokens: a character each of Hangul, kana and Han, a word of anything else; punctuation separates."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text))


def tagged_tokens(utterance: Utterance) -> list[tuple[str, str]]:
    """The utterance's mixed tokens with their languages, by its spans' texts, else by script.

    A token is `unknown` where the pair's languages share a script and no span tells them apart, and `other` where it
    belongs to none of them (numbers, a third script).
    """
    if utterance.spans and all(span.text is not None for span in utterance.spans):
        return [
            (token, span.language if any(map(str.isalpha, token)) else OTHER)
            for span in utterance.spans
            for token in tokens(span.text or "")
        ]
    return [(token, _language(token, utterance.languages)) for token in tokens(utterance.text)]


def surprises(text: str, languages: tuple[str, ...]) -> set[str]:
    """The characters no transcript in these languages should hold: other scripts, control characters, notation."""
    return {char for char in set(text) if _is_surprise(char, languages)}


@functools.cache
def script_pattern(language: str) -> regex.Pattern[str]:
    """A pattern of one letter in the language's script."""
    return regex.compile(f"[{_SCRIPTS.get(language, _LATIN)}]")


@functools.lru_cache(maxsize=2**16)
def _language(token: str, languages: tuple[str, ...]) -> str:
    fitting = [language for language in languages if script_pattern(language).search(token)]
    if not fitting:
        return OTHER
    return fitting[0] if len(fitting) == 1 else UNKNOWN


@functools.cache
def _is_surprise(char: str, languages: tuple[str, ...]) -> bool:
    if char in _NOTATION:
        return True
    if unicodedata.category(char).startswith("M") or _PLAIN.match(char):
        return False
    return not any(script_pattern(language).match(char) for language in languages)
