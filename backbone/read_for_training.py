"""Read a Whisper and set it up for training: adapters, frozen parts, checkpointing, window."""

from collections.abc import Sequence
from pathlib import Path

from transformers import WhisperForConditionalGeneration, WhisperProcessor

from backbone.freezing import freeze
from backbone.lora import LoRA
from backbone.model_folder.locate import check_generation_config
from backbone.model_folder.read import read, read_model_folder
from backbone.window import record_window, take_short_windows


def read_for_training(
    backbone: str,
    *,
    lora: LoRA | None,
    seed: int,
    frozen: Sequence[str],
    gradient_checkpointing: bool,
    window: str | float,
) -> tuple[WhisperForConditionalGeneration, WhisperProcessor]:
    """Return a model in training mode, and its processor.

    Args:
        backbone: model folder or Hub id.
        lora: adapters to train instead of the weights.
        seed: of the adapters.
        frozen: parts not to train; see `freezing`.
        gradient_checkpointing: recompute activations in the backward pass.
        window: see `window_of`; recorded in the model's configuration.

    Raises:
        UserError: where the model cannot be read or decoded with, or an option names no part or window of it.
    """
    folder = read(backbone)  # first: it says what a folder is that is no model folder
    if Path(backbone).is_dir():
        check_generation_config(folder.path)  # what training leaves could not be decoded without it
    model, processor = read_model_folder(folder)
    # Whisper's sinusoids are no weights; transformers builds them so, and forgets it in from_pretrained.
    model.model.encoder.embed_positions.requires_grad_(False)
    if lora:
        lora.add_to(model, seed)
    freeze(model, frozen)
    model.train()
    if gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    model.config.use_cache = False
    take_short_windows(model)
    record_window(window, model.config)
    return model, processor
