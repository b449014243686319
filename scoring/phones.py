"""How a spelling sounds, in phones that all scripts share: Hangul and kana by rule, Latin letters by espeak-ng.

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
from common.korean import pronounced
from common.languages import LATIN, script

VOWEL_PHONES = frozenset("aeiouæəɨʉɵ")

_ONSET = {
    "ㄱ": "k", "ㄲ": "k", "ㅋ": "k", "ㄷ": "t", "ㄸ": "t", "ㅌ": "t", "ㅂ": "p", "ㅃ": "p", "ㅍ": "p", "ㅅ": "s",
    "ㅆ": "s", "ㅈ": "c", "ㅉ": "c", "ㅊ": "c", "ㄴ": "n", "ㄹ": "l", "ㅁ": "m", "ㅎ": "h", "ㅇ": "",
}  # fmt: skip
_VOWEL = {
    "ㅏ": "a", "ㅐ": "æ", "ㅑ": "ja", "ㅒ": "jæ", "ㅓ": "ə", "ㅔ": "e", "ㅕ": "jə", "ㅖ": "je", "ㅗ": "o", "ㅘ": "wa",
    "ㅙ": "we", "ㅚ": "we", "ㅛ": "jo", "ㅜ": "u", "ㅝ": "wə", "ㅞ": "we", "ㅟ": "wi", "ㅠ": "ju", "ㅡ": "", "ㅢ": "i",
    "ㅣ": "i",
}  # fmt: skip
_CODA = {"": "", "ㄱ": "k", "ㄴ": "n", "ㄷ": "t", "ㄹ": "l", "ㅁ": "m", "ㅂ": "p", "ㅇ": "ŋ"}
# A sibilant before a consonant is written 슈, 시, 치, 지; 션 is 선; 휘 is how w is written.
_KOREAN_HABITS = (("hw", "w"), ("(?<=[sc])j?u$", "ʉ"), ("(?<=[sc])i$", "ɨ"), ("(?<=[sc])j", ""))

_KANA = dict(zip("KGSZTDNHBPMRWYV", "kkssttnhppmlwjp", strict=True))
_KANA_IRREGULAR = {"TI": "c", "DI": "c", "TU": "c", "DU": "c", "ZI": "c", "HU": "f"}
_WEAK = {"U": "ʉ", "O": "ɵ", "I": "ɨ"}
_WEAK_KANA = {
    "KU", "GU", "SU", "ZU", "TU", "DU", "HU", "BU", "PU", "MU", "NU", "RU", "VU", "TO", "DO", "SI", "ZI", "TI",
}  # fmt: skip
# A stop that ends a syllable stands for っ, which has no phone; 쿠 and 토 are as weak as ク and ト.
_KANA_IN_HANGUL = (("(?<=[aeiouæə])[ptk]$", ""), ("(?<=[ptscknmlh])u$", "ʉ"), ("to$", "tɵ"))
_SMALL_KANA = frozenset("ァィゥェォャュョヮ")

# Rewriting rules from espeak-ng's IPA or, for Korean and Japanese in Latin letters, from however they are romanised.
_IPA = (("aɪ", "ai"), ("aʊ", "au"), ("ɔ[øɪ]", "oi"), ("[td][ʃʒsz]", "c"), (r"ɹ(?![aeiouɪʊɔɑɛɜʌɐəyøœʏæ])", "r"))
_REWRITTEN = {
    "en": (("eɪ", "eɨ"), ("[oə]ʊ", "oʉ"), ("ɚ", "əɹ"), ("ɾ", "t"), *_IPA),
    "de": (("ɾ|r", "ɹ"), ("ts(?=ç)", "t"), *_IPA),
}
_ROMANISED = (
    ("sch(?![aeiou])", "s"), ("dsch|tsch|ch|j|ts", "C"), ("sch|sh|z", "s"), ("[cqx]", "k"), ("C", "c"), ("ng", "ŋ"),
    ("ph", "p"), ("eo", "ə"), ("eu", ""), ("ae|ä", "æ"), ("oe|ö", "we"), ("oo|ou|ü", "u"), ("ee|ie", "i"), ("y", "j"),
    ("r", "l"), (r"(.)\1", r"\1"),
)  # fmt: skip
_CLASSES = {
    "p": "bv", "t": "d", "θ": "ð", "s": "zʃʒ", "k": "ɡg", "h": "xç", "l": "ɹɬ",
    "i": "ɪyʏ", "e": "ɛøœ", "ə": "ɐʌɜ", "a": "ɑ", "o": "ɔɒ", "u": "ʊ",
}  # fmt: skip
_CLASS = str.maketrans({sign: phone for phone, signs in _CLASSES.items() for sign in signs})
_NO_PHONE = re.compile("[^pfθtsckhmnŋlrwjaeiouæəɨʉ]")


@lru_cache(maxsize=1 << 17)
def phones(text: str, language: str) -> str:
    """Return the phones of a word of a language, in whatever script it is written; none where it holds kanji.

    Latin letters are read by the language's own rules in English and German; in Korean and Japanese they are romanised.
    """
    written = script(text)
    if written == LATIN and language in _REWRITTEN:
        return _rewritten(re.sub("[ˈˌː ʔ]", "", espeak_ipa(language, text)), _REWRITTEN[language])
    if written == LATIN:
        return _rewritten(text, _ROMANISED)
    if language == "ko" and re.fullmatch("[가-힣]+", text):
        return _hangul(text)
    letters = letter_phones(text)
    return "" if None in letters else "".join(filter(None, letters))


@lru_cache(maxsize=1 << 17)
def readings(text: str, language: str) -> frozenset[str]:
    """Return the phones that a labelled spelling may stand for; Japanese in Hangul is also read as its kana."""
    found = {phones(text, language)}
    if language == "ja" and re.fullmatch("[가-힣]+", text):
        sounds = [_hangul(letter) for letter in text]
        for pattern, written in _KANA_IN_HANGUL:
            sounds = [re.sub(pattern, written, sound) for sound in sounds]
        found.add("".join(sounds))
    return frozenset(found - {""})


def letter_phones(text: str) -> list[str | None]:
    """Return the phones of each letter of Hangul and kana; None for every other letter.

    They are read letter by letter, so that a run may begin and end anywhere; a small kana takes the place of the vowel
    before it (シ and ョ are `s` and `o`), and two `l` are one.
    """
    found: list[str | None] = []
    for letter in text:
        sounds, before = _letter(letter), found[-1] if found else None
        if before and sounds:
            if letter in _SMALL_KANA:
                found[-1] = before[:-1] or "w"
                sounds = sounds[-1] if before[0] in "sc" else sounds
            elif before[-1] == sounds[0] == "l" or (before == "N" and letter == "グ"):  # ング is how -ng is written
                sounds = sounds[1:] if letter != "グ" else ""
        found.append(sounds)
    return found


def letters_needed(sounds: str) -> int:
    """Return how many letters of Hangul or kana phones may need: one a vowel, and one a consonant without a vowel."""
    follows = VOWEL_PHONES | {"j", "w"}
    return sum(phone in VOWEL_PHONES or sounds[i + 1 : i + 2] not in follows for i, phone in enumerate(sounds))


def _rewritten(text: str, rules: Sequence[tuple[str, str]]) -> str:
    text = unicodedata.normalize("NFC", text)
    for pattern, sounds in rules:
        text = re.sub(pattern, sounds, text)
    return _NO_PHONE.sub("", text.translate(_CLASS))


@lru_cache(maxsize=1 << 14)
def _hangul(text: str) -> str:
    sounds = "".join(_ONSET[onset] + _VOWEL[vowel] + _CODA[coda] for onset, vowel, coda in pronounced(text))
    for pattern, written in _KOREAN_HABITS:
        sounds = re.sub(pattern, written, sounds)
    return sounds


@lru_cache(maxsize=1 << 14)
def _letter(letter: str) -> str | None:
    written = script(letter)
    if written == "Hangul":
        return _hangul(letter) if "가" <= letter <= "힣" else None
    if written != "Kana":
        return None
    name = unicodedata.name(letter, "").rsplit(maxsplit=1)[-1]
    if letter in "ーッ" or name == "N":
        return "N" if name == "N" else ""
    vowel, consonant = name[-1:], _KANA_IRREGULAR.get(name, _KANA.get(name[:-1], ""))
    return consonant + (_WEAK[vowel] if name in _WEAK_KANA else vowel.lower())
