"""Hypotheses that went wrong as a whole: empty, translated, in a foreign script, or looping."""

import re
from collections.abc import Sequence

from common.languages import LATIN, script, scripts_of
from common.text_compression import MAX_COMPRESSION, compression_ratio

EMPTY, TRANSLATION, WRONG_SCRIPT, LOOP = FAILURES = ("empty", "translation", "wrong_script", "loop")

MAX_PHRASE_TOKENS = 8
MIN_REPEATS = 4
_LOOP = re.compile(rf"(?<!\S)((?:\S+ ){{1,{MAX_PHRASE_TOKENS}}}?)\1{{{MIN_REPEATS - 1}}}")


def find_failures(
    reference: Sequence[str], hypothesis: Sequence[str], text: str, languages: Sequence[str] | None
) -> tuple[str, ...]:
    """Name what is wrong with a hypothesis as a whole, given both sides' tokens and the hypothesis's own text.

    - empty: it holds no token;
    - translation: the reference has a script other than Latin, the hypothesis Latin only;
    - wrong_script: it holds a script that neither the languages nor the reference are written in;
    - loop: its text is compressed by more than 2.4, or a phrase of up to 8 tokens stands four times in a row, and the
      reference has no such repetition.

    Args:
        reference: its tokens.
        hypothesis: its tokens.
        text: the hypothesis as it was written.
        languages: the languages spoken, None where unknown.
    """
    if not hypothesis:
        return (EMPTY,)
    said, written = ({script(letter) for letter in set("".join(tokens))} - {None} for tokens in (reference, hypothesis))
    allowed = said.union(*map(scripts_of, languages or ()))
    found = (
        (TRANSLATION, bool(said - {LATIN}) and written == {LATIN}),
        (WRONG_SCRIPT, not written <= allowed),
        (LOOP, compression_ratio(text) > MAX_COMPRESSION or (_repeats(hypothesis) and not _repeats(reference))),
    )
    return tuple(name for name, holds in found if holds)


def _repeats(tokens: Sequence[str]) -> bool:
    few = len(set(tokens)) <= len(tokens) - MIN_REPEATS + 1  # most utterances end here
    return few and bool(_LOOP.search(" ".join([*tokens, ""])))
