"""Writing systems (scripts) and the languages written in them: the one place that knows which is which."""

import re
import unicodedata
from functools import lru_cache
from pathlib import Path

import yaml

LATIN = "Latin"
_TABLES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
UNSPACED = frozenset(_TABLES["unspaced"])  # scripts written without spaces between words
ENGLISH_NAMES: dict[str, str] = _TABLES["english_names"]
ISO_639_3: dict[str, str] = _TABLES["iso_639_3"]
# What is typed for an apostrophe: right quote and letter apostrophe anywhere, the rest between letters only,
# where they cannot be quotation marks, accents or primes. NFKC turns the acute accent into a space and its mark.
APOSTROPHES = "[\u2019\u02bc\uff07]"
APOSTROPHES_BETWEEN_LETTERS = "(?:[\u2018\u201b\u2032\u02bb\u00b4`]| \u0301)"

# Japanese has no spaces: a word begins where kanji, katakana or Latin follow hiragana; particles stand in between.
JAPANESE_BORDER = re.compile(
    r"\s+|(?<=[ぁ-ん。、？！])(?=[^ぁ-ん。、？！ー\s])"
    r"|(?<=[^ぁ-ん。、？！\s])(?=(?:から|まで|には|では|とは|での|との|[をはがにでとのへもや])(?![ぁ-ん]))"
)


@lru_cache(maxsize=1 << 16)
def script(token: str) -> str | None:
    """Return the script of a token's first letter (`Hangul`, `Han`, `Kana`, `Latin`, ...), None without letters."""
    for character in token:
        if character.isalpha():
            name = unicodedata.name(character, "UNKNOWN").split()[0]
            if name != "MODIFIER":  # letters of no script, the apostrophe ʼ among them
                return _TABLES["named_otherwise"].get(name, name.capitalize())
    return None


@lru_cache(maxsize=1 << 10)
def scripts_of(language: str) -> frozenset[str]:
    """Return the scripts that a language is written in."""
    return frozenset(name for name, codes in _TABLES["scripts"].items() if language in codes) or frozenset({LATIN})


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
