"""How a transcript becomes the tokens that are counted: one profile for each convention.

Published mixed error rates differ first of all in this step, so every figure names its profile.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import jiwer
import regex

from common.errors import UserError, nearest
from common.languages import APOSTROPHES, APOSTROPHES_BETWEEN_LETTERS

# Cut to characters: Hangul, kana and Han, and the other scripts written without spaces between words.
_CJK = r"[[\p{Hangul}\p{Han}\p{Hiragana}\p{Katakana}ー][\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}&&[\p{L}\p{N}]]]"
_WORD_START = rf"[[\p{{L}}\p{{N}}]--{_CJK}]"
_WORD_PART = rf"[[\p{{L}}\p{{M}}\p{{N}}']--{_CJK}]"
# A combining mark belongs to the letter before it (か゚, ก็): alone it would be a token that shows nothing.
_MIXED = regex.compile(rf"{_CJK}\p{{M}}*|{_WORD_START}{_WORD_PART}*", regex.V1)
_WORDS = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}']*", regex.V1)
_CHARACTERS = regex.compile(r"[\p{L}\p{N}]\p{M}*", regex.V1)
# Soft hyphens, joiners and direction marks separate nothing; the zero-width space does.
_APOSTROPHE = regex.compile(rf"{APOSTROPHES}|(?<=[\p{{L}}\p{{M}}]){APOSTROPHES_BETWEEN_LETTERS}(?=\p{{L}})", regex.V1)
_INVISIBLE = regex.compile(r"[\p{Default_Ignorable_Code_Point}--\u200b]", regex.V1)


@dataclass(frozen=True, slots=True)
class Profile:
    """A convention of splitting: `reference` and `hypothesis` each turn a transcript into tokens.

    `takes_labels` says whether a corpus's own normalised references and loanwords are used where there are any.
    """

    name: str
    reference: Callable[[str], list[str]]
    hypothesis: Callable[[str], list[str]]
    takes_labels: bool = False


def get_profile(name: str) -> Profile:
    """Return the profile called `name`.

    Raises:
        UserError: where there is none, naming those there are.
    """
    if name not in PROFILES:
        raise UserError(
            f"no scoring profile is called {name!r}{nearest(name, PROFILES)}; there are: {', '.join(PROFILES)}"
        )
    return PROFILES[name]


def replace_loanwords(text: str, loanwords: Iterable[tuple[str, str]]) -> str:
    """Replace each native spelling by the borrowed one, in order, also inside longer words, as HiKE does."""
    for native, borrowed in loanwords:
        text = text.replace(native, borrowed)
    return text


def _fold(text: str) -> str:
    """Return NFKC in lower case (ß stays), without invisible characters, with one kind of apostrophe."""
    if text.isascii() and "`" not in text:
        return text.lower()
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).lower()
    # Lower-casing can undo a normal form ("İ"), so it is taken once more.
    return _APOSTROPHE.sub("'", unicodedata.normalize("NFKC", text))


def _split(pattern: regex.Pattern[str], text: str) -> list[str]:
    # A closing quotation mark is no part of the word it follows: 'so' is the token so.
    return [token.rstrip("'") for token in pattern.findall(_fold(text))]


# HiKE (Paik et al., 2026): its list of jiwer transforms, in its order, quirks and all. The hypothesis alone passes
# through it; its "—" is only found between two letters, and every other mark is deleted, not turned into a space.
_hike_normalize = jiwer.Compose(
    [
        jiwer.ToLowerCase(),
        jiwer.ExpandCommonEnglishContractions(),
        jiwer.RemoveKaldiNonWords(),
        jiwer.SubstituteWords({"—": " "}),
        jiwer.RemovePunctuation(),
        jiwer.RemoveWhiteSpace(replace_by_space=True),
        jiwer.RemoveMultipleSpaces(),
        jiwer.Strip(),
    ]
)


def _hike_split(text: str) -> list[str]:
    return re.sub(r"([\uAC00-\uD7A3])", r" \1 ", text).split()


def _hike_hypothesis(text: str) -> list[str]:
    return _hike_split(_hike_normalize(text))


_cjk, _wer, _cer = (partial(_split, pattern) for pattern in (_MIXED, _WORDS, _CHARACTERS))
PROFILES = {
    # Hangul, kanji, kana and unspaced scripts by character, all else by word, punctuation dropped.
    "cjk": Profile("cjk", _cjk, _cjk),
    # Hangul by syllable, the hypothesis normalised alone, the corpus's loanwords replaced in both.
    "hike": Profile("hike", _hike_split, _hike_hypothesis, takes_labels=True),
    # Words, punctuation dropped.
    "wer": Profile("wer", _wer, _wer),
    # Characters, spaces and punctuation dropped.
    "cer": Profile("cer", _cer, _cer),
}
