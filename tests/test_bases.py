"""Whispers to begin from: 128 mel bins, fine-tunes stored in half precision, folders that lack something."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from backbone.model_folder.read import read, read_model_folder
from callbacks.final_model import FinalModel
from common.errors import UserError
from lightning_modules.algorithms.erm import ERM
from tests.algorithm_runs import fit


def train(base: Path, manifests: dict[str, str], folder: Path) -> Path:
    fit(base, manifests, folder, ERM(), steps=2, trainer={"callbacks": [FinalModel()]})
    return folder / "model"


def test_a_model_of_128_mel_bins_trains_and_is_written_whole(
    tiny_model: Path, manifests: dict[str, str], tmp_path: Path
):
    """As large-v3's are; faster-whisper reads the bins from preprocessor_config.json."""
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    model, _ = read_model_folder(tiny_model)
    config = copy.deepcopy(model.config)
    config.num_mel_bins = 128
    wide = WhisperForConditionalGeneration(config)
    wide.generation_config = model.generation_config
    wide.save_pretrained(base)
    for name in ("preprocessor_config.json", "processor_config.json"):
        content = json.loads((base / name).read_text())
        content.get("feature_extractor", content)["feature_size"] = 128
        (base / name).write_text(json.dumps(content))
    found = train(base, manifests, tmp_path / "run")
    assert json.loads((found / "preprocessor_config.json").read_text())["feature_size"] == 128
    trained, processor = read_model_folder(found)
    assert trained.model.encoder.conv1.weight.shape[1] == 128 and processor.feature_extractor.feature_size == 128


def test_a_fine_tune_stored_in_half_precision_goes_on_in_whole(
    tiny_model: Path, manifests: dict[str, str], tmp_path: Path
):
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    WhisperForConditionalGeneration.from_pretrained(tiny_model, dtype=torch.float16).save_pretrained(base)
    folder = read(train(base, manifests, tmp_path / "run"))
    assert {tensor.dtype for tensor in folder.tensors.values()} == {"F32"}
    found, _ = read_model_folder(folder)
    start, _ = read_model_folder(base)
    moved = [(a - b).abs().max() for a, b in zip(found.parameters(), start.parameters(), strict=True)]
    assert 0 < max(moved) < 0.01  # from where it was left


def test_a_folder_without_a_generation_config_is_refused_before_training(
    tiny_model: Path, manifests: dict[str, str], tmp_path: Path
):
    """What it leaves could not be decoded."""
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    (base / "generation_config.json").unlink()
    with pytest.raises(UserError, match=r"base: the model folder has no generation_config\.json"):
        train(base, manifests, tmp_path / "run")
