"""The only way to open a model: the files of a folder or Hub id are checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backbone.model_folder.architecture import EMBEDDING, PROJECTION, check_architecture, expected_shapes
from backbone.model_folder.locate import check_kind, find_model, short_name
from backbone.model_folder.plausible import check_entries, check_numbers, check_tokenizer_parts
from backbone.model_folder.stored import DTYPES, PROCESSORS, ModelFolder, check_finite
from common.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

_ENGLISH_ONLY = 51864  # tokens of the English-only Whispers, one fewer than the multilingual ones have
_EXTRACTOR = {"chunk_length": 3600, "n_fft": 100_000, "hop_length": 100_000, "sampling_rate": 1_000_000}
_PREFIXES = ("module.", "_orig_mod.", "base_model.model.", "model.model.")


def read(source: Path | str, label: str | None = None) -> ModelFolder:
    """Find a model by folder or Hub id and check that it is one multilingual Whisper, from headers and JSON files.

    Args:
        source: a model folder, or an id on the Hugging Face Hub, which is downloaded where it is not in the cache.
        label: a short name for tables; by default the folder's.

    Returns:
        The folder; its weights are read on demand, and only then checked to be finite.

    Raises:
        UserError: where there is no such model, or its configuration, tokenizer and weights do not belong together.
    """
    folder = ModelFolder(find_model(source), str(source), label or short_name(source))
    check_kind(folder.path)
    check_entries(folder.path)
    check_architecture(folder.config, str(folder.path / "config.json"))
    check_numbers(folder)
    _check_weights(folder)
    _check_tokenizer(folder)
    _check_processor(folder)
    return folder


def read_model_folder(
    source: ModelFolder | Path | str,
) -> tuple[WhisperForConditionalGeneration, WhisperProcessor]:
    """Load a model in float32 and its processor; `source` is what `read` takes or returned.

    Raises:
        UserError: as `read`, or where a weight is not finite or transformers cannot load the folder.
    """
    from transformers import WhisperForConditionalGeneration, WhisperProcessor
    from transformers.utils.logging import disable_progress_bar

    folder = source if isinstance(source, ModelFolder) else read(source)
    disable_progress_bar()  # a bar for each model read would bury the run's own
    try:
        # A folder is data: no code in it is imported, and no pickle in it is opened.
        model = WhisperForConditionalGeneration.from_pretrained(folder.path, dtype="float32", use_safetensors=True)
        processor = WhisperProcessor.from_pretrained(folder.path)
    except Exception as error:  # transformers has no error class of its own: a damaged file can raise any
        raise UserError(
            f"{folder.name}: the model cannot be loaded: {first_line(error)}. "
            "Expected a model folder or the id of a Whisper model on the Hugging Face Hub"
        ) from None
    if (tokens := len(processor.tokenizer)) > model.config.vocab_size:  # other files may add tokens
        raise UserError(
            f"{folder.path}: the tokenizer has {tokens} tokens, but config.json says vocab_size "
            f"{model.config.vocab_size}; copy the tokenizer's files from the base"
        )
    for name, weight in model.state_dict().items():
        check_finite(folder, name, weight)
    return model, processor


def _check_weights(folder: ModelFolder) -> None:
    expected, found = expected_shapes(folder.config), folder.tensors
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    if missing or unknown:
        raise UserError(f"{folder.path}: {_difference(missing, unknown)}")
    for name, tensor in found.items():
        if tensor.shape != expected[name]:
            raise UserError(
                f"{folder.name}: the tensor {name} has shape {list(tensor.shape)}, config.json says "
                f"{list(expected[name])}; the two files belong to different models"
            )
        if tensor.dtype not in DTYPES:
            raise UserError(f"{tensor.file}: the tensor {name} is {tensor.dtype}, expected {', '.join(DTYPES)}")
    if folder.config["tie_word_embeddings"] and {EMBEDDING, PROJECTION} <= folder.stored.keys():
        one, other = folder.stored[EMBEDDING], folder.stored[PROJECTION]
        same = one.shape == other.shape and bool((folder.contents(one) == folder.contents(other)).all())
        if not same:
            raise UserError(
                f"{folder.path}: {PROJECTION} is not {EMBEDDING}, though config.json ties the two; write "
                '"tie_word_embeddings": false into config.json if the model was trained so'
            )


def _difference(missing: Sequence[str], unknown: Sequence[str]) -> str:
    """Which tensors are missing or unknown, and what to do."""
    parts = [
        f"{len(names)} {'is' if len(names) == 1 else 'are'} {what}, such as {names[0]}"
        for names, what in ((missing, "missing"), (unknown, "unknown"))
        if names
    ]
    prefix = next((p for p in _PREFIXES if any(name.startswith(p) for name in unknown)), None)
    remedy = "give the folder whose files belong together"
    if prefix:
        remedy = f"strip the prefix {prefix!r}: save the model inside the wrapper again (save_pretrained)"
    return f"the weights are not those that config.json describes: {', '.join(parts)}; {remedy}"


def _check_tokenizer(folder: ModelFolder) -> None:
    if not folder.vocabulary:
        raise UserError(
            f"{folder.path}: has no tokenizer (tokenizer.json, or vocab.json and merges.txt); copy tokenizer.json, "
            "tokenizer_config.json and preprocessor_config.json from the model that this one was fine-tuned from"
        )
    check_tokenizer_parts(folder)
    generation = folder.json_or_nothing("generation_config.json")
    if (
        folder.config["vocab_size"] == _ENGLISH_ONLY
        or generation.get("is_multilingual") is False
        or "<|transcribe|>" not in folder.vocabulary
    ):
        raise UserError(
            f"{folder.name}: this is an English-only Whisper; take a multilingual one, such as openai/whisper-small"
        )
    token, number = max(folder.vocabulary.items(), key=lambda item: item[1])
    if number >= folder.config["vocab_size"]:
        raise UserError(
            f"{folder.path}: the tokenizer gives {token!r} the id {number}, but config.json says vocab_size "
            f"{folder.config['vocab_size']}; copy the tokenizer from the model that this one was fine-tuned from"
        )


def _check_processor(folder: ModelFolder) -> None:
    if not folder.extractors:
        raise UserError(
            f"{folder.path}: has neither {' nor '.join(PROCESSORS)}; copy it from the model that this one was "
            "fine-tuned from"
        )
    expected = folder.config["num_mel_bins"]
    for file, extractor in folder.extractors.items():
        found = extractor.get("feature_size", 80)
        if found != expected:
            raise UserError(f"{folder.path / file}: {found} mel bins, but config.json says {expected}")
        for key, most in _EXTRACTOR.items():
            if key in extractor and not (type(extractor[key]) is int and 1 <= extractor[key] <= most):
                raise UserError(
                    f"{folder.path / file}: {key} is {extractor[key]!r}, expected 1 to {most:,}; copy the file from "
                    "the base"
                )
