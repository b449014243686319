"""What must hold before gigabytes are read: one architecture, one vocabulary, the same tensors, room on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from backbone.model_folder.locate import WINDOW
from common.errors import UserError
from merging.folders import ModelFolder
from merging.tensors import DTYPES, ITEM_BYTES

_ARCHITECTURE = (
    "model_type", "d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads",
    "encoder_ffn_dim", "decoder_ffn_dim", "num_mel_bins", "vocab_size", "max_source_positions", "max_target_positions",
    "tie_word_embeddings", "activation_function",
)  # fmt: skip


def check_alike(base: ModelFolder, models: list[ModelFolder]) -> None:
    """Checks that each model can be merged with the base, from configs and headers alone.

    Raises:
        UserError: naming the model, the config's key or the tensor, and both values or shapes.
    """
    _check_mel_bins(base)
    for model in models:
        _check_tensors(base, model)
        for key in _ARCHITECTURE:
            if model.config.get(key) != base.config.get(key):
                raise UserError(
                    f"{model.name}: its config has {key} {model.config.get(key)!r}, the base {base.name} has "
                    f"{base.config.get(key)!r}; models that are merged must be fine-tunes of one base (--base)"
                )
        _check_vocabulary(base, model)
        _check_mel_bins(model)
    _check_windows(models)


def _check_tensors(base: ModelFolder, model: ModelFolder) -> None:
    for one, other in ((base, model), (model, base)):
        missing = [name for name in one.tensors if name not in other.tensors]
        if missing:
            more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
            raise UserError(f"{other.name}: lacks the tensor {missing[0]}{more}, which {one.name} has")
    for name, entry in base.tensors.items():
        found = model.tensors[name].shape
        if found != entry.shape:
            raise UserError(
                f"{model.name}: the tensor {name} has shape {list(found)}, in the base {base.name} {list(entry.shape)}"
            )


def _check_vocabulary(base: ModelFolder, model: ModelFolder) -> None:
    expected, found = _vocabulary(base), _vocabulary(model)
    if expected is None or found is None or expected == found:
        return
    token = next(
        token for token in sorted(expected | found, key=str) if expected.get(token) != found.get(token)
    )  # fmt: skip
    raise UserError(
        f"{model.name}: its tokenizer gives {token!r} the id {found.get(token)}, that of {base.name} the id "
        f"{expected.get(token)}; rows of the embedding would be mixed up"
    )


def _vocabulary(model: ModelFolder) -> dict[str, Any] | None:
    if (model.path / "tokenizer.json").is_file():
        tokenizer = model.json("tokenizer.json")
        added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
        return dict(tokenizer.get("model", {}).get("vocab", {})) | added
    if (model.path / "vocab.json").is_file():
        extra = model.json("added_tokens.json") if (model.path / "added_tokens.json").is_file() else {}
        return model.json("vocab.json") | extra
    return None


def _check_mel_bins(model: ModelFolder) -> None:
    expected = model.config.get("num_mel_bins")
    for file in ("processor_config.json", "preprocessor_config.json"):
        if expected is not None and (model.path / file).is_file():
            content = model.json(file)
            found = content.get("feature_extractor", content).get("feature_size")
            if found is not None and found != expected:
                raise UserError(f"{model.path / file}: {found} mel bins, but config.json says {expected}")


def _check_windows(models: list[ModelFolder]) -> None:
    for model in models[1:]:
        expected, found = (one.config.get(WINDOW, "30s") for one in (models[0], model))
        if found != expected:
            raise UserError(
                f"{model.name}: was trained with the window {found}, {models[0].name} with {expected}; a merge is "
                "decoded with one window, so train what is to be merged with the same (model.window)"
            )


def check_disk(base: ModelFolder, dtype: str, out: Path, copies: int = 1) -> None:
    """Checks that the merged models will fit on the disk of `out`.

    Raises:
        UserError: naming the folder, the room found and needed.
    """
    needed = copies * sum(entry.numel * ITEM_BYTES[DTYPES.get(dtype, entry.dtype)] for entry in base.tensors.values())
    existing = next(parent for parent in (out, *out.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed * 1.02 + 2**26:
        raise UserError(f"{out}: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free on that disk")
