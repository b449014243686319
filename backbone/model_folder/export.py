"""The one writer and reader of a model folder: Hugging Face's layout, whole or absent.

As a command, `python -m backbone.model_folder.export --help`, it completes a folder's card and pushes it to the Hub.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from transformers.utils.logging import disable_progress_bar

from common.errors import UserError
from common.files import atomic_folder


def write_model_folder(
    folder: Path | str,
    model: WhisperForConditionalGeneration,
    processor: WhisperProcessor,
    *,
    weights: dict[str, Tensor] | None = None,
    extra: dict[str, str] | None = None,
) -> None:
    """Writes weights, configs, tokenizer and both processor files, atomically.

    transformers writes `processor_config.json` alone; faster-whisper and others read `preprocessor_config.json`, so
    both are written.

    Args:
        weights: the model's state where it is not the model's own, because that is divided over ranks.
        extra: further text files by name, such as the model card.
    """
    with atomic_folder(folder) as partial:
        model.save_pretrained(partial, state_dict=weights)
        processor.save_pretrained(partial)
        processor.feature_extractor.save_pretrained(partial)
        for name, text in (extra or {}).items():
            (partial / name).write_text(text, encoding="utf-8")


def read_model_folder(
    source: Path | str, *, dtype: torch.dtype = torch.float32
) -> tuple[WhisperForConditionalGeneration, WhisperProcessor]:
    """Loads a model folder, or a model of the Hugging Face Hub by its id, with its processor.

    Raises:
        UserError: where there is no such model, or a file of it is missing or unreadable.
    """
    disable_progress_bar()  # a bar for each model read would bury the run's own
    source = str(source)
    if Path(source).exists() and not (Path(source) / "config.json").is_file():
        raise UserError(f"{source}: not a model folder (no config.json); expected what train.py leaves as <run>/model")
    try:
        # A folder is data: no code in it is imported, and no pickle in it is opened.
        model = WhisperForConditionalGeneration.from_pretrained(source, dtype=dtype, use_safetensors=True)
        processor = WhisperProcessor.from_pretrained(source)
    except Exception as error:  # transformers has no errors of its own: a damaged file ends in any of Python's
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"{source}: the model cannot be loaded: {reason}. "
            "Expected a model folder or the id of a Whisper model on the Hugging Face Hub"
        ) from None
    return model, processor


if __name__ == "__main__":
    from backbone.model_folder.hub import main
    from common.errors import run_script

    run_script(main)
