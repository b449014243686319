"""Whisper's prompt for mixed speech: the language tags before the transcript.

Policies: `matrix` (the utterance's matrix language), `embedded` (the other one), `two_tag` (both in a row, Peng et al.
2023), or a fixed language code. `auto` leaves the choice to the model and exists only in decoding.
"""

from typing import Protocol

from common.errors import UserError, nearest

POLICIES = ("matrix", "embedded", "two_tag", "auto")


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
        policy: one of `POLICIES` but `auto`, or a language code.
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
