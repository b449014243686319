"""Folders of tiny Whispers, small enough to count by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from backbone.model_folder.architecture import DEFAULTS, EMBEDDING, expected_shapes

MEL_BINS, TOKENS = 3, 11


def config(encoder: int, decoder: int, width: int) -> dict[str, object]:
    """A Whisper's sizes; a layer's feed-forward is twice as wide as the model."""
    return DEFAULTS | {
        "d_model": width, "num_mel_bins": MEL_BINS, "vocab_size": TOKENS, "encoder_layers": encoder,
        "decoder_layers": decoder, "encoder_ffn_dim": 2 * width, "decoder_ffn_dim": 2 * width,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_source_positions": 6,
        "max_target_positions": 5,
    }  # fmt: skip


def tensors(encoder: int = 1, decoder: int = 1, width: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a Whisper."""
    generator = torch.Generator().manual_seed(seed)
    shapes = expected_shapes(config(encoder, decoder, width))
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write(folder: Path, weights: dict[str, Tensor], shards: int = 1, **changed: object) -> Path:
    """Writes a model folder of these weights: one file, or so many and their index; `changed` goes into its config."""
    folder.mkdir(parents=True)
    layers = {side: 0 for side in ("encoder", "decoder")}
    for match in (re.search(r"(encoder|decoder)\.layers\.(\d+)\.", name) for name in weights):
        if match:
            layers[match[1]] = max(layers[match[1]], int(match[2]) + 1)
    width = weights[EMBEDDING].shape[1] if EMBEDDING in weights else 4
    sizes = config(layers["encoder"], layers["decoder"], width) | changed
    (folder / "config.json").write_text(json.dumps(sizes))
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": sizes["num_mel_bins"]}))
    tokenizer = {"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": "<|transcribe|>", "id": 1}]}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    if shards == 1:
        save_file(weights, folder / "model.safetensors")
        return folder
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: weights[name] for name in list(weights)[shard::shards]}
        save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def shifted(weights: dict[str, Tensor], scale: float, seed: int) -> dict[str, Tensor]:
    """A fine-tune: every weight moved by normal noise."""
    generator = torch.Generator().manual_seed(seed)
    return {name: tensor + scale * torch.randn(tensor.shape, generator=generator) for name, tensor in weights.items()}
