"""What the files of a model folder may hold: regular files, numbers that a Whisper can have, Whisper's own tokenizer.

transformers takes such files at their word: it makes a label for each of `num_labels`, room for `max_new_tokens`, and
runs whatever regular expression a tokenizer asks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError

if TYPE_CHECKING:
    from backbone.model_folder.stored import ModelFolder

_LARGEST = 10_000_000  # no number in a Whisper's configuration comes near it
_FRACTIONS = (
    "dropout", "attention_dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop", "mask_time_prob",
    "mask_feature_prob", "label_smoothing",
)  # fmt: skip
_TOKENS = (
    "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "suppress_tokens",
    "begin_suppress_tokens", "no_timestamps_token_id", "prev_sot_token_id",
)  # fmt: skip
_LENGTHS = ("max_length", "max_new_tokens", "min_length", "min_new_tokens", "num_labels")
_MOST = 100_000  # of a length
_ALIASES = {
    "hidden_size": "d_model", "num_hidden_layers": "encoder_layers", "num_attention_heads": "encoder_attention_heads",
    "num_key_value_heads": "encoder_attention_heads",
}  # fmt: skip
"""Second names that transformers reads after the first."""
_PARTS = {
    "pre_tokenizer": ("ByteLevel",), "decoder": ("ByteLevel",), "normalizer": ("NFC",), "model": ("BPE",),
    "post_processor": ("TemplateProcessing", "ByteLevel"),
}  # fmt: skip
"""Types allowed in tokenizer.json; others run regular expressions, or replacements that double the text."""


def check_entries(folder: Path) -> None:
    """Check that a folder holds nothing but regular files and folders: whatever lies in it may be opened.

    Raises:
        UserError: naming the first entry that is a pipe, a socket or a device.
    """
    for entry in sorted([*folder.iterdir(), *folder.glob("*/*.jinja")]):  # transformers reads such files, too
        if entry.exists() and not (entry.is_file() or entry.is_dir()):
            raise UserError(f"{entry}: is no regular file; a model folder may hold no pipes and devices")


def check_numbers(folder: ModelFolder) -> None:
    """Check the numbers in config.json and, where there is one, generation_config.json.

    Raises:
        UserError: naming the file, the key, what was found and what was expected.
    """
    config, generation = folder.config, folder.json_or_nothing("generation_config.json")
    for alias, key in _ALIASES.items():
        if alias in config and config[alias] != config[key]:
            raise UserError(
                f"{folder.path / 'config.json'}: {alias} is {config[alias]!r:.100}, but {key}, which means the same, "
                f"is {config[key]!r}; copy the file from the base"
            )
    # The suppressed tokens in config.json are not used, and often belong to a larger vocabulary.
    used = {key: value for key, value in config.items() if not key.endswith("suppress_tokens")}
    for name, content in (("config.json", used), ("generation_config.json", generation)):
        for key, value, expected in _wrong(content, config["vocab_size"]):
            raise UserError(
                f"{folder.path / name}: {key} is {value!r:.100}, expected {expected}; copy the file from the base"
            )


def _wrong(content: Mapping[str, Any], vocabulary: int) -> Iterator[tuple[str, Any, str]]:
    """Yield each key whose value is wrong, with the value and what was expected."""
    for key, value in content.items():
        if value is None:
            continue
        if key in _FRACTIONS and not _is_number(value, 0, 1):
            yield key, value, "a share from 0 to 1"
        elif key in _LENGTHS and not (type(value) is int and 0 <= value <= _MOST):
            yield key, value, f"a whole number from 0 to {_MOST:,}"
        elif key in _TOKENS and not all(_is_token(one, vocabulary) for one in _several(value)):
            yield key, value, f"token ids below vocab_size, {vocabulary}"
        elif key in ("lang_to_id", "task_to_id") and not (
            isinstance(value, dict) and all(_is_token(one, vocabulary) for one in value.values())
        ):
            yield key, value, f"a mapping to token ids below vocab_size, {vocabulary}"
        elif not all(_is_number(one, -_LARGEST, _LARGEST) for one in _numbers(value)):
            yield key, value, f"no number beyond {_LARGEST:,}"


def check_tokenizer_parts(folder: ModelFolder) -> None:
    """Check that tokenizer.json, where there is one, cuts text as Whisper does.

    Raises:
        UserError: naming the part, what was found and what was expected.
    """
    tokenizer = folder.json_or_nothing("tokenizer.json")
    for part, kinds in _PARTS.items():
        value = tokenizer.get(part)
        found = value.get("type", kinds[0] if part == "model" else None) if isinstance(value, dict) else value
        if value is not None and found not in kinds:
            raise UserError(
                f"{folder.path / 'tokenizer.json'}: its {part} is {found!r:.100}, expected {' or '.join(kinds)} as "
                "Whisper has; copy the file from the base"
            )


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_token(value: Any, vocabulary: int) -> bool:
    return type(value) is int and -1 <= value < vocabulary  # -1 stands for none


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _numbers(value: Any) -> Iterator[float]:
    """Yield every number in a value."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
