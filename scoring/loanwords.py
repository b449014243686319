"""How a word is written in another script: by the labels of an utterance, or by the lexicon of common loanwords."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path

import regex

from common.languages import LATIN, script

_LEXICON = Path(__file__).parent / "lexicon"
_DROPPED = regex.compile(r"[^\p{L}\p{M}\p{N}]")
_TO_KATAKANA = {code: code + 0x60 for code in range(0x3041, 0x3097)}
LABEL, LEXICON, COMPOUND, SOUND, TOKEN = RULES = ("label", "lexicon", "compound", "sound", "token")

Spellings = Mapping[str, frozenset[str]]  # from a folded spelling to the folded spellings in other scripts


@lru_cache(maxsize=1 << 17)
def fold(text: str) -> str:
    """Return the letters of a spelling alone: NFKC, lower case, hiragana as katakana, no spaces or marks."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return _DROPPED.sub("", folded).translate(_TO_KATAKANA)


def label_spellings(pairs: Iterable[tuple[str, str]]) -> Spellings:
    """Return the variants that an utterance's labels give, in both directions, whole and word by word.

    Pairs within one script are not variants. A phrase is also split into words where both sides have equally many.
    """
    found: dict[str, set[str]] = {}
    for one, other in pairs:
        words = list(zip(one.split(), other.split(), strict=False))
        apart = words if len(one.split()) == len(other.split()) else []
        for first, second in ((one, other), *apart):
            if script(first) != script(second):
                found.setdefault(fold(first), set()).add(fold(second))
                found.setdefault(fold(second), set()).add(fold(first))
    found.pop("", None)
    return {key: frozenset(variants - {""}) for key, variants in found.items()}


@cache
def lexicon(language: str | None) -> Spellings:
    """Return the variants of the words of a language (`en`, `de`) in Hangul and katakana.

    For German, English words are included. For every other language, and for None, all lists are taken, to go from the
    native script to Latin letters: a Korean word may be the loanword.
    """
    found: dict[str, set[str]] = {}
    for source in {"en": ["en"], "de": ["de", "en"]}.get(language or "", ["en", "de"]):
        for path in sorted(_LEXICON.glob(f"{source}-*.tsv")):
            for word, variants in read_lexicon(path):
                for variant in variants:
                    found.setdefault(fold(word), set()).add(fold(variant))
                    found.setdefault(fold(variant), set()).add(fold(word))
    return {key: frozenset(variants) for key, variants in found.items()}


def read_lexicon(path: Path) -> list[tuple[str, Sequence[str]]]:
    """Return the (word, its spellings) of a list; lines that begin with `#` are comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [(word, variants.split("|")) for word, variants in rows]


_LATIN_THEN_NATIVE = regex.compile(r"(\p{Latin}+)([\p{Hangul}\p{Han}\p{Katakana}ー]+)")


def split_particle(key: str) -> tuple[str, str]:
    """Return a folded token as (Latin word, native letters after it), the second empty in most tokens.

    Profiles that cut at spaces keep a Korean particle with the word before it: `meeting을`.
    """
    match = None if key.isascii() else _LATIN_THEN_NATIVE.fullmatch(key)
    return (match[1], match[2]) if match else (key, "")


def is_latin(token: str) -> bool:
    """Whether a token is written in Latin letters."""
    return script(token) == LATIN
