"""Folders of safetensors with a Whisper's tensor names, small enough to count by hand."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor


def tensors(encoder: int = 1, decoder: int = 1, width: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the names of transformers' Whisper; a layer's feed-forward is twice as wide."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.encoder.conv1.weight": (width, 3, 3),
        "model.decoder.embed_tokens.weight": (11, width),
    }
    for side, layers in (("encoder", encoder), ("decoder", decoder)):
        for layer in range(layers):
            prefix = f"model.{side}.layers.{layer}"
            for attention in ("self_attn", "encoder_attn")[: 1 + (side == "decoder")]:
                for name in ("q", "k", "v", "out"):
                    shapes[f"{prefix}.{attention}.{name}_proj.weight"] = (width, width)
                shapes[f"{prefix}.{attention}.q_proj.bias"] = (width,)
            shapes[f"{prefix}.fc1.weight"] = (2 * width, width)
            shapes[f"{prefix}.fc2.weight"] = (width, 2 * width)
            shapes[f"{prefix}.final_layer_norm.weight"] = (width,)
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write(folder: Path, weights: dict[str, Tensor], shards: int = 1) -> Path:
    """Writes one file, or so many and their index."""
    folder.mkdir(parents=True)
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
