"""Writing systems (scripts) and the languages written in them: the one place that knows which is which."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

LATIN = "Latin"
# The languages of each script by ISO 639-1 code; every language not named here is written in Latin.
_LANGUAGES = {
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
UNSPACED = frozenset({"Han", "Kana", "Thai", "Lao", "Myanmar", "Khmer"})  # written without spaces between words
# Unicode names a character by its script first, but for these.
_NAMED_OTHERWISE = {
    "CJK": "Han",
    "IDEOGRAPHIC": "Han",
    "HIRAGANA": "Kana",
    "KATAKANA": "Kana",
    "KATAKANA-HIRAGANA": "Kana",
    "HALFWIDTH": "Kana",
    "FULLWIDTH": LATIN,
    "FEMININE": LATIN,
    "MASCULINE": LATIN,
}
ENGLISH_NAMES = {"German": "de", "English": "en", "Korean": "ko", "Japanese": "ja"}
ISO_639_3 = {
    "de": "deu", "en": "eng", "es": "spa", "fr": "fra", "hi": "hin", "it": "ita", "ja": "jpn", "ko": "kor",
    "nl": "nld", "pt": "por", "ru": "rus", "ar": "ara", "zh": "cmn",
}  # fmt: skip
# What is typed for an apostrophe: right quote and letter apostrophe wherever they stand, the rest between letters only,
# where they cannot be quotation marks, accents or primes. NFKC turns the acute accent into a space and its mark.
APOSTROPHES = "[\u2019\u02bc\uff07]"
APOSTROPHES_BETWEEN_LETTERS = "(?:[\u2018\u201b\u2032\u02bb\u00b4`]| \u0301)"


@lru_cache(maxsize=1 << 16)
def script(token: str) -> str | None:
    """Return the script of a token's first letter (`Hangul`, `Han`, `Kana`, `Latin`, ...), None without letters."""
    for character in token:
        if character.isalpha():
            name = unicodedata.name(character, "UNKNOWN").split()[0]
            if name != "MODIFIER":  # letters of no script, the apostrophe ʼ among them
                return _NAMED_OTHERWISE.get(name, name.capitalize())
    return None


@lru_cache(maxsize=1 << 10)
def scripts_of(language: str) -> frozenset[str]:
    """Return the scripts that a language is written in."""
    return frozenset(name for name, codes in _LANGUAGES.items() if language in codes.split()) or frozenset({LATIN})


@lru_cache(maxsize=1 << 16)
def language_by_script(token: str, languages: tuple[str, ...] | None) -> str | None:
    """Return the one language of `languages` written in the token's script, None where there is not exactly one.

    Without `languages` it is the script's own name.
    """
    written = script(token)
    if written is None or languages is None:
        return written
    matching = [language for language in languages if written in scripts_of(language)]
    return matching[0] if len(matching) == 1 else None
