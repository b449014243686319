"""Read a Whisper and set it up for training: adapters, parts frozen by name, checkpointing, window."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from torch import nn
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from backbone.lora import LoRA
from backbone.model_folder.locate import check_generation_config
from backbone.model_folder.read import read, read_model_folder
from backbone.window import record_window, take_short_windows
from common.errors import UserError, nearest


def freeze(model: nn.Module, parts: Sequence[str]) -> None:
    """Make the parameters of parts untrainable.

    A part is a name as in `named_parameters()`, without the leading `model.`, and includes everything below it:
    `encoder`, `encoder.layers.0`, `decoder.embed_tokens`, `*.layer_norm`; `*` is any text.

    Raises:
        UserError: where a name fits nothing, or nothing is left to train.
    """
    names = {name.removeprefix("model."): parameter for name, parameter in model.named_parameters()}
    for part in parts:
        found = [name for name in names if fnmatchcase(name, part) or fnmatchcase(name, f"{part}.*")]
        if not found:
            known = {".".join(name.split(".")[:depth]) for name in names for depth in range(1, 5)}
            top = sorted({".".join(name.split(".")[:2]) for name in names})
            raise UserError(
                f"model.frozen names {part!r}, which is no part of the model{nearest(part, known)}; its parts are: "
                f"{', '.join(top)}"
            )
        for name in found:
            names[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in names.values()):
        raise UserError(f"model.frozen ({', '.join(parts)}) leaves nothing to train")


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
        frozen: parts not to train; see `freeze`.
        gradient_checkpointing: recompute activations in the backward pass.
        window: see `window_of`; recorded in the model's configuration.

    Raises:
        UserError: where the model cannot be read or decoded with, or an option names no part or window of it.
    """
    folder = read(backbone)  # first, as it explains what is wrong with a folder
    if Path(backbone).is_dir():
        check_generation_config(folder.path)  # without it, the trained model could not be decoded
    model, processor = read_model_folder(folder)
    # Whisper's sinusoids are not trained; transformers freezes them at first, but from_pretrained loses that.
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
