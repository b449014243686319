"""How a spelling sounds, in phones that all scripts share: Hangul and kana by rule, Latin by espeak-ng's letter to sound.

A phone is a class of sounds that a borrowing language writes alike (b and v, g and k, z and s, l and r). Consonants are
`p f t θ s c k h m n ŋ N l r w j` (`c` any affricate, `θ` both th sounds, `N` the nasal of ん, `r` one that ends a
syllable), vowels `a e i o u æ ə`, and weak ones `ɨ ʉ ɵ`, which end a diphthong or carry a consonant that the script
cannot write alone (the u of ス). Length, stress, doubled consonants and the vowel ㅡ are left out.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from common.espeak_phonemes import espeak_ipa
from common.korean import CODAS, ONSETS, VOWELS, pronounced
from common.languages import script

_ONSET = dict(zip(ONSETS, "k k n t t l m p p s s  c c c k t p h".split(" "), strict=True))
_VOWEL = dict(zip(VOWELS, "a æ ja jæ ə e jə je o wa we we jo u wə we wi ju  i i".split(" "), strict=True))
_CODA = dict(zip(CODAS, " k k k n n n t l k m l l l l l m p p t t ŋ t t k t p ".split(" "), strict=True))

_KANA = dict(zip("KGSZTDNHBPMRWYV", "kkssttnhppmlwjp", strict=True))
_KANA_IRREGULAR = {"TI": "c", "DI": "c", "TU": "c", "DU": "c", "ZI": "c", "HU": "f"}
_WEAK = {"U": "ʉ", "O": "ɵ", "I": "ɨ"}
_WEAK_KANA = {"KU", "GU", "SU", "ZU", "TU", "DU", "HU", "BU", "PU", "MU", "RU", "VU", "TO", "DO", "SI", "ZI", "TI"}

# Rewriting rules from espeak-ng's IPA or, for Korean and Japanese in Latin letters, from however they are romanised.
_REWRITTEN = {
    "en": (("eɪ", "eɨ"), ("[oə]ʊ", "oʉ"), ("ɚ", "əɹ"), ("ɾ", "t")),
    "de": (("ɾ|r", "ɹ"), ("ts(?=ç)", "t")),
    "romanised": (
        ("sch(?![aeiou])", "s"), ("dsch|tsch|ch|j|ts", "C"), ("sch|sh|z", "s"), ("[cqx]", "k"), ("C", "c"),
        ("ng", "ŋ"), ("ph", "p"), ("eo", "ə"), ("eu", ""), ("ae|ä", "æ"), ("oe|ö", "we"), ("oo|ou|ü", "u"),
        ("ee|ie", "i"), ("y", "j"), ("r", "l"), (r"(.)\1", r"\1"),
    ),
}  # fmt: skip
_IPA = (("aɪ", "ai"), ("aʊ", "au"), ("ɔ[øɪ]", "oi"), ("[td][ʃʒsz]", "c"), (r"ɹ(?![aeiouɪʊɔɑɛɜʌɐəyøœʏæ])", "r"))
_CLASSES = {
    "p": "bv", "t": "d", "θ": "ð", "s": "zʃʒ", "k": "ɡg", "h": "xç", "l": "ɹɬ",
    "i": "ɪyʏ", "e": "ɛøœ", "ə": "ɐʌɜ", "a": "ɑ", "o": "ɔɒ", "u": "ʊ",
}  # fmt: skip
_CLASS = str.maketrans({sign: phone for phone, signs in _CLASSES.items() for sign in signs})
_SMALL = frozenset("ァィゥェォャュョヮ")
_NO_PHONE = re.compile("[^pfθtscskhmnŋlrwjaeiouæəɨʉ]")


@lru_cache(maxsize=1 << 17)
def latin_phones(text: str, language: str) -> str:
    """Return the phones of a text in Latin letters; of Korean and Japanese it is the romanised form."""
    romanised = language not in ("en", "de")
    sounds = text if romanised else espeak_ipa(language, text)
    sounds = re.sub("[ˈˌː' ʔ]", "", unicodedata.normalize("NFC", sounds))
    for pattern, phones in _REWRITTEN["romanised"] if romanised else _REWRITTEN[language] + _IPA:
        sounds = re.sub(pattern, phones, sounds)
    return _NO_PHONE.sub("", sounds.translate(_CLASS))


@lru_cache(maxsize=1 << 16)
def korean_phones(text: str) -> str:
    """Return the phones of Korean in Hangul, by the rules of its pronunciation."""
    return "".join(_ONSET[onset] + _VOWEL[vowel] + _CODA[coda or " "] for onset, vowel, coda in pronounced(text))


def native_phones(tokens: Sequence[str]) -> list[str | None]:
    """Return the phones of each token in Hangul or kana, letter by letter; None of a token in another script.

    A small kana takes the place of the vowel before it: シ and ョ are `s` and `o`.
    """
    found: list[str | None] = []
    for token in tokens:
        phones = _letter_phones(token)
        if token in _SMALL and found and found[-1]:
            stem = found[-1][:-1]
            found[-1] = stem or "w"
            phones = phones[-1] if phones and stem in ("s", "c") else phones
        found.append(phones)
    return found


@lru_cache(maxsize=1 << 13)
def _letter_phones(token: str) -> str | None:
    written = script(token)
    if written == "Hangul":
        return korean_phones(token) if re.fullmatch("[가-힣]+", token) else None
    return "".join(map(_kana, token)) if written == "Kana" else None


def _kana(letter: str) -> str:
    if letter in "ーッ":
        return ""
    name = unicodedata.name(letter, "").rsplit(maxsplit=1)[-1]
    if name == "N":
        return "N"
    vowel, consonant = name[-1:], _KANA_IRREGULAR.get(name, _KANA.get(name[:-1], ""))
    return consonant + (_WEAK[vowel] if name in _WEAK_KANA else vowel.lower())
