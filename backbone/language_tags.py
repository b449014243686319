"""Whisper's prompt for mixed speech: the language tags before the transcript.

Policies: `matrix` (the utterance's matrix language), `embedded` (the other one), `two_tag` (both in a row, Peng et al.
2023), or a fixed language code. Three leave the choice to the model and exist only in decoding: `auto`; `among-pair`,
one of the utterance's own languages; and `likeliest`, the tags under which the hypothesis is the most probable.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from common.constants import MAX_TOKENS
from common.errors import UserError, nearest

TRAINED = ("matrix", "embedded", "two_tag")  # policies that fix the tags of an utterance
AUTO, AMONG_PAIR = DETECTED = ("auto", "among-pair")
LIKELIEST = "likeliest"
POLICIES = (*TRAINED, *DETECTED, LIKELIEST)
_CONTEXT_TOKENS = MAX_TOKENS // 2 - 1  # as in openai/whisper


class Tokenizer(Protocol):
    """The part of a Whisper tokenizer that prompts and labels need."""

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of a token, or that of the unknown token."""

    def convert_ids_to_tokens(self, index: int) -> str:
        """The token of an id."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        """The ids of a text."""


def prompt_languages(policy: str, matrix_language: str, languages: tuple[str, ...]) -> tuple[str, ...]:
    """Return the language codes that a policy puts into the prompt of an utterance, e.g. `("ko",)`.

    Args:
        policy: one of `TRAINED`, or a language code.
        matrix_language: of the utterance.
        languages: all of the utterance's; where there is only one, it is also taken for the embedded one.
    """
    others = tuple(language for language in languages if language != matrix_language)
    match policy:
        case "matrix":
            return (matrix_language,)
        case "embedded":
            return others[:1] or (matrix_language,)
        case "two_tag":
            return (matrix_language, *others[:1])
        case _:
            return (policy,)


def tags_to_try(policy: str, matrix_language: str, languages: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return the language codes of each prompt to decode an utterance with: one, or for `LIKELIEST` up to four.

    Args:
        policy, matrix_language, languages: as in `prompt_languages`; in one language, `LIKELIEST` has one prompt, too.
    """
    if policy != LIKELIEST:
        return (prompt_languages(policy, matrix_language, languages),)
    both = prompt_languages("two_tag", matrix_language, languages)
    return tuple(dict.fromkeys((both[:1], both[-1:], both, both[::-1])))


def most_probable(chances: Mapping[str, float], among: Sequence[str] = ()) -> tuple[str, float]:
    """Return the most probable language and its probability among the choices.

    Args:
        chances: each language's probability.
        among: the choices; all by default.

    Raises:
        UserError: where the model does not tell a choice from the others.
    """
    if unknown := [code for code in among if code not in chances]:
        known = f"its generation_config.json lists {', '.join(list(chances)[:10])}{' ...' * (len(chances) > 10)}"
        raise UserError(f"the model does not detect the language {unknown[0]!r}: {known}")
    chosen = {code: chances[code] for code in among or chances}
    best = max(chosen, key=chosen.__getitem__)
    return best, chosen[best] / (sum(chosen.values()) or 1.0)


def prompt_ids(tokenizer: Tokenizer, languages: tuple[str, ...]) -> list[int]:
    """Token ids of `<|startoftranscript|><|lang|>...<|transcribe|><|notimestamps|>`.

    Raises:
        UserError: where the tokenizer lacks a language.
    """
    return [
        special_id(tokenizer, "startoftranscript"),
        *(language_id(tokenizer, language) for language in languages),
        special_id(tokenizer, "transcribe"),
        special_id(tokenizer, "notimestamps"),
    ]


def context_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of `<|startofprev|>` and the last tokens of a text, which Whisper takes as the preceding transcript.

    Raises:
        UserError: where the tokenizer lacks the token.
    """
    if not text.strip():
        return []
    tokens = tokenizer.encode(f" {text.strip()}", add_special_tokens=False)
    return [special_id(tokenizer, "startofprev"), *tokens[-_CONTEXT_TOKENS:]]


def language_id(tokenizer: Tokenizer, language: str) -> int:
    """The id of a language's tag.

    Raises:
        UserError: where the tokenizer lacks it.
    """
    try:
        return special_id(tokenizer, language)
    except UserError:
        raise UserError(
            f"language {language!r} has no tag <|{language}|> in the model's tokenizer: expected one of the policies "
            f"{', '.join(POLICIES)} or a code that the model knows, such as ko, ja, de, en{nearest(language, POLICIES)}"
        ) from None


def special_id(tokenizer: Tokenizer, name: str) -> int:
    """The id of the special token `<|name|>`.

    Raises:
        UserError: where the tokenizer lacks it.
    """
    token = f"<|{name}|>"
    found = tokenizer.convert_tokens_to_ids(token)
    if found is None or tokenizer.convert_ids_to_tokens(found) != token:
        raise UserError(f"the model's tokenizer has no token {token}: is it a multilingual Whisper tokenizer?")
    return found
