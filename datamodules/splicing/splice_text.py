"""The rules of splicing for text: where a transcript divides into spans, and how texts of two languages are joined."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from common.languages import UNSPACED, scripts_of

_FULL_WIDTH = {".": "。", "?": "？", "!": "！", ",": "、"}
_CHINESE = _FULL_WIDTH | {",": "，"}  # where 、 only stands between the items of a list
_HALF_WIDTH = {full: half for forms in (_FULL_WIDTH, _CHINESE) for half, full in forms.items()}
_MARKS = "".join((*_FULL_WIDTH, *_HALF_WIDTH)) + ";:… "


class Text(NamedTuple):
    """A text in one language; no space stands before it where it is `bound_before`, or after it if `bound_after`.

    A Korean particle is bound to the word before it, whatever language that word is in.
    """

    language: str
    text: str
    bound_before: bool = False
    bound_after: bool = False


def unspaced(language: str) -> bool:
    """Whether a language is written without spaces between words."""
    return bool(scripts_of(language) & UNSPACED)


def divided(transcript: str, texts: Iterable[str]) -> list[tuple[str, str]] | None:
    """The white space before each span's text in a transcript, and the text with the punctuation that follows it.

    None where the texts do not make up the transcript.
    """
    found: list[tuple[str, str]] = []
    position = 0
    for text in (text.strip() for text in texts):
        begin = transcript.find(text, position)
        between = transcript[position : max(position, begin)]
        mark = between.rstrip()
        if not text or begin < 0 or any(map(str.isalnum, mark)):
            return None
        if mark and found:
            found[-1] = (found[-1][0], found[-1][1] + mark)
        found.append((between[len(mark) :], text if found else mark + text))
        position = begin + len(text)
    rest = transcript[position:].rstrip()
    if any(map(str.isalnum, rest)):
        return None
    found[-1] = (found[-1][0], found[-1][1] + rest)
    return found


def is_bound(language: str, space: str, matrix: str) -> bool:
    """Whether a text of the matrix language is bound to its neighbour of another language, as a particle is.

    In a language without spaces, a missing space between two languages means nothing.

    Args:
        language: of the text.
        space: the white space between the two.
        matrix: the matrix language.
    """
    return not space and language == matrix and not unspaced(matrix)


def joined(texts: Sequence[Text], matrix: str) -> str:
    """The texts as one transcript.

    A matrix language without spaces takes other words in without any (`新しいprojectです`); elsewhere there is a space
    between two texts unless one is bound to the other or both are of one language without spaces.
    """
    whole = "".join(text.text for text in texts[:1])
    for before, after in pairwise(texts):
        inside = before.language == after.language and unspaced(before.language)
        glued = unspaced(matrix) or inside or before.bound_after or after.bound_before
        whole += after.text if glued else f" {after.text}"
    return whole


def bare(text: str) -> str:
    """The text without the punctuation at its end."""
    return text.rstrip(_MARKS)


def ending_like(replaced: str, text: str, language: str) -> str:
    """The text with the punctuation at the end of what it replaces, in the form that its language uses.

    Args:
        replaced: the text that gives way.
        text: the text in its place; its own punctuation at the end is removed.
        language: of `text`.
    """
    forms = {"ja": _FULL_WIDTH, "zh": _CHINESE, "yue": _CHINESE}.get(language, _HALF_WIDTH)
    return bare(text) + "".join(forms.get(mark, mark) for mark in replaced[len(bare(replaced)) :].strip())
