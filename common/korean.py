"""How Korean is pronounced: the rules of standard pronunciation, from Hangul to phonemes.

espeak-ng reads Korean nearly letter by letter. Here a word is taken apart into letters, the rules of liaison,
aspiration, palatalisation, tensing, nasalisation and lateralisation are applied at each border of syllables
(Standard Pronunciation, National Institute of Korean Language, articles 8 to 28), and what results is written in
IPA. Words whose sound no rule gives, such as the tensing in 손가락, are in `korean_words.tsv`.
"""

import re
import unicodedata
from itertools import pairwise
from pathlib import Path

ONSETS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
CODAS = " ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"

_FIRST_SYLLABLE = 0xAC00
_CLUSTERS = {
    "ㄳ": "ㄱㅅ", "ㄵ": "ㄴㅈ", "ㄶ": "ㄴㅎ", "ㄺ": "ㄹㄱ", "ㄻ": "ㄹㅁ", "ㄼ": "ㄹㅂ", "ㄽ": "ㄹㅅ", "ㄾ": "ㄹㅌ",
    "ㄿ": "ㄹㅍ", "ㅀ": "ㄹㅎ", "ㅄ": "ㅂㅅ",
}  # fmt: skip
_ENDING = dict(zip("ㄲㅋㄳㄺㅅㅆㅈㅊㅌㅎㅍㅄㄿㄵㄶㄻㄼㄽㄾㅀ", "ㄱㄱㄱㄱㄷㄷㄷㄷㄷㄷㅂㅂㅂㄴㄴㅁㄹㄹㄹㄹ", strict=True))
_ASPIRATED = dict(zip("ㄱㄷㅂㅈ", "ㅋㅌㅍㅊ", strict=True))
_TENSE = dict(zip("ㄱㄷㅂㅅㅈ", "ㄲㄸㅃㅆㅉ", strict=True))
_NASAL = dict(zip("ㄱㄷㅂ", "ㅇㄴㅁ", strict=True))
_TENSING_CLUSTERS = "ㄵㄼㄾㄻㄳㄺㅄㄿ"

# Words whose sound no rule gives, and how they would be written if one did.
_WORDS = [
    line.split("\t") for line in Path(__file__).with_name("korean_words.tsv").read_text(encoding="utf-8").splitlines()
]
# After a verb's ending ㄹ these begin tense: the next word in 할 수, 갈 거야, 먹을 줄; the ending in 할게요, 갈수록.
_TENSE_WORD = re.compile("[거것걸게건겁수줄데듯]")
_TENSE_ENDING = re.compile("(게|게요|걸|걸요|수록|지|지도|까|까요)")

# How the voice is asked for each sound.
_VOWEL_SOUNDS = {
    "ㅏ": "a", "ㅐ": "ɛ", "ㅑ": "ja", "ㅒ": "jɛ", "ㅓ": "ʌ", "ㅔ": "ɛ", "ㅕ": "jʌ", "ㅖ": "jɛ", "ㅗ": "o", "ㅘ": "wa",
    "ㅙ": "wɛ", "ㅚ": "wɛ", "ㅛ": "jo", "ㅜ": "u", "ㅝ": "wʌ", "ㅞ": "wɛ", "ㅟ": "wi", "ㅠ": "ju", "ㅡ": "ɯ",
    "ㅢ": "ɯi", "ㅣ": "i",
}  # fmt: skip
_ONSET_SOUNDS = {
    "ㄱ": "k", "ㄲ": "ʔk", "ㄴ": "n", "ㄷ": "t", "ㄸ": "ʔt", "ㄹ": "ɾ", "ㅁ": "m", "ㅂ": "p", "ㅃ": "ʔp", "ㅅ": "s",
    "ㅆ": "ʔs", "ㅇ": "", "ㅈ": "ʨ", "ㅉ": "ʔʨ", "ㅊ": "ʨʰ", "ㅋ": "kʰ", "ㅌ": "tʰ", "ㅍ": "pʰ", "ㅎ": "h",
}  # fmt: skip
_VOICED = dict(zip("ㄱㄷㅂㅈ", "ɡdbʥ", strict=True))
_CODA_SOUNDS = dict(zip("ㄱㄴㄷㄹㅁㅂㅇ", "kntlmpŋ", strict=True))


def korean_phonemes(text: str) -> str:
    """Return the IPA of Korean text; spaces and punctuation stay.

    Raises:
        ValueError: naming the character that is neither Hangul nor punctuation.
    """
    text = unicodedata.normalize("NFC", text)
    for written, spoken in _WORDS:
        text = text.replace(written, spoken)
    text = re.sub(r"못 (?=[가-힣])", "못", text)
    words = text.split(" ")
    sounds = []
    for i, word in enumerate(words):
        before = words[i - 1] if i else ""
        tensed = bool(before) and _coda(before[-1]) == "ㄹ" and bool(_TENSE_WORD.match(word))
        sounds.append(
            "".join(
                _word(part, tensed and not at) if re.match("[가-힣]", part) else _mark(part)
                for at, part in enumerate(re.findall(r"[가-힣]+|[^가-힣]", word))
            )
        )
    return " ".join(sounds)


def _mark(char: str) -> str:
    if char.isalnum():
        raise ValueError(f"{char!r} is not Hangul")
    return char


def _coda(char: str) -> str:
    return CODAS[(ord(char) - _FIRST_SYLLABLE) % 28].strip() if "가" <= char <= "힣" else ""


def _letters(word: str) -> list[list[str]]:
    """The word's syllables as [onset, vowel, coda]; the coda may be empty."""
    syllables = []
    for char in word:
        code = ord(char) - _FIRST_SYLLABLE
        syllables.append([ONSETS[code // 588], VOWELS[code // 28 % 21], CODAS[code % 28].strip()])
    return syllables


def pronounced(word: str, tensed: bool = False) -> list[list[str]]:
    """Return the syllables of a word as they are said: `[onset, vowel, coda]`, in letters.

    Args:
        word: of Hangul alone.
        tensed: whether its first consonant is tense because of the word before it.
    """
    syllables = _letters(word)
    if tensed:
        syllables[0][0] = _TENSE.get(syllables[0][0], syllables[0][0])
    for i in range(1, len(word)):  # 할게요, 갈수록
        if syllables[i - 1][2] == "ㄹ" and _TENSE_ENDING.fullmatch(word[i:]):
            syllables[i][0] = _TENSE.get(syllables[i][0], syllables[i][0])
    for left, right in pairwise(syllables):
        _join(left, right)
    if syllables:
        syllables[-1][2] = _ENDING.get(syllables[-1][2], syllables[-1][2])
    return syllables


def _join(left: list[str], right: list[str]) -> None:
    """Apply the rules at the border of two syllables, in place."""
    coda, onset = left[2], right[0]
    if not coda:
        return
    if onset == "ㅇ":
        _link(left, right)
        return
    last = _CLUSTERS.get(coda, coda)[-1]
    stays = _CLUSTERS[coda][0] if coda in _CLUSTERS else ""
    if last == "ㅎ" and onset in "ㄱㄷㅈ":  # 좋다, 많고
        left[2], right[0] = stays, _ASPIRATED[onset]
        return
    if last == "ㅎ" and onset == "ㅅ":  # 좋습니다
        left[2], right[0] = stays, "ㅆ"
        return
    if onset == "ㅎ" and (ended := _ENDING.get(last, last)) in "ㄱㄷㅂ":  # 입학, 못하다, 앉히다
        if last == "ㅈ" or (last in "ㄷㅌ" and right[1] in "ㅣㅕ"):
            left[2], right[0] = stays, "ㅊ"
        else:
            left[2], right[0] = stays, _ASPIRATED[ended]
        return
    if coda == "ㄺ" and onset == "ㄱ":  # 읽고
        left[2], right[0] = "ㄹ", "ㄲ"
        return
    ended = _ENDING.get(coda, coda)
    if ended in "ㄱㄷㅂ" or coda in _TENSING_CLUSTERS:
        onset = _TENSE.get(onset, onset)
    if ended in "ㄱㄷㅂ" and onset in "ㄴㅁㄹ":  # 합니다, 독립
        ended, onset = _NASAL[ended], "ㄴ" if onset == "ㄹ" else onset
    elif ended in "ㅁㅇ" and onset == "ㄹ":  # 정류장
        onset = "ㄴ"
    elif (ended, onset) in (("ㄴ", "ㄹ"), ("ㄹ", "ㄴ")):  # 설날
        ended, onset = "ㄹ", "ㄹ"
    left[2], right[0] = ended, onset


def _link(left: list[str], right: list[str]) -> None:
    """Carry a coda over to a syllable that begins with a vowel: 먹어, 없어, 같이."""
    coda = left[2]
    stays, goes = _CLUSTERS.get(coda, " " + coda)
    stays = stays.strip()
    if coda == "ㅇ":
        return
    if goes == "ㅎ":  # 좋아, 많아: silent, and what stays goes over
        stays, goes = "", stays or "ㅇ"
    elif goes in "ㄷㅌ" and right[1] == "ㅣ" and right[2] in ("", "ㄴ"):  # 굳이, 같이
        goes = "ㅈ" if goes == "ㄷ" else "ㅊ"
    elif goes == "ㅅ" and stays:
        goes = "ㅆ"
    left[2], right[0] = _ENDING.get(stays, stays), goes


def _word(word: str, tensed: bool) -> str:
    syllables = pronounced(word, tensed)
    out, before = [], ""  # the sound before, as the coda or the vowel
    for i, (onset, vowel, coda) in enumerate(syllables):
        sound = _ONSET_SOUNDS[onset]
        voiced = i > 0 and before not in ("ㄱ", "ㄷ", "ㅂ")
        if onset in _VOICED and voiced:
            sound = _VOICED[onset]
        if onset == "ㄹ" and before == "ㄹ":
            sound = "l"
        vowel_sound = _VOWEL_SOUNDS[vowel]
        if vowel == "ㅢ" and (onset != "ㅇ" or i > 0):  # 희망, 주의; the genitive 의 is said as 에
            vowel_sound = "ɛ" if onset == "ㅇ" and i == len(syllables) - 1 and not coda else "i"
        if onset in "ㅈㅉㅊ" and vowel_sound[0] == "j":
            vowel_sound = vowel_sound[1:]
        if vowel == "ㅖ" and onset not in "ㅇㄹ":
            vowel_sound = "ɛ"
        if onset in "ㅅㅆ" and vowel_sound[0] in "ij":
            sound = sound.replace("s", "ɕ")
            vowel_sound = vowel_sound.removeprefix("j")
        out.append(sound + vowel_sound + (_CODA_SOUNDS[coda] if coda else ""))
        before = coda or "vowel"
    return "".join(out)
