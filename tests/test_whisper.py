"""The module on a real, tiny Whisper: features, losses, schedule, a whole run by Lightning, and its model folder."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer, seed_everything
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperProcessor

from backbone.log_mel import LogMel
from backbone.model_folder.read import read_model_folder
from backbone.model_folder.write import write_model_folder
from backbone.window import Window
from callbacks.final_model import FinalModel
from common.errors import UserError
from common.manifest import read_manifest
from datamodules.batch import SpeechBatch
from datamodules.dataset import LabelMaker, PairDataset, collate
from datamodules.pairs import PairDataModule
from lightning_modules.algorithms.context import StepContext
from lightning_modules.step_guard import StepGuard, UnusableStepError
from lightning_modules.warmup_cosine import warmup_cosine
from lightning_modules.whisper import WhisperModule


@pytest.mark.parametrize("mel_bins", [80, 128])
@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.99, 2.0, 2.7])
def test_log_mel_equals_the_feature_extractor(mel_bins: int, seconds: float):
    extractor = WhisperFeatureExtractor(feature_size=mel_bins, chunk_length=2)
    wave = (0.3 * np.random.default_rng(0).standard_normal(round(16_000 * seconds))).astype(np.float32)
    wave[: len(wave) // 2] *= 1e-3  # a quiet half, so that the floor of 8 below the maximum matters
    expected = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features
    padded = torch.nn.functional.pad(torch.from_numpy(wave)[None], (0, 5_000))
    for waveform_BS in (torch.from_numpy(wave)[None], padded):
        torch.testing.assert_close(LogMel(extractor, Window(200))(waveform_BS), expected, atol=1e-4, rtol=0)


def loaded(tiny_model: Path) -> WhisperModule:
    module = WhisperModule(str(tiny_model))
    module._load()
    return module


def pair_losses(module: WhisperModule, batch: SpeechBatch) -> torch.Tensor:
    parameters = list(module.model.parameters())
    return StepContext(parameters, module.token_losses, torch.optim.SGD(parameters)).backward(batch)


def test_pair_losses_are_the_token_means_inside_each_pair(tiny_model: Path, manifests: dict[str, str]):
    module = loaded(tiny_model)
    labels = LabelMaker(module.processor.tokenizer)
    dataset = PairDataset({pair: read_manifest(manifests[pair]) for pair in ("ko-en", "de-en")}, labels)
    batch = collate([dataset[key] for key in [("ko-en", 0), ("ko-en", 1), ("de-en", 2)]])
    batch = module.on_after_batch_transfer(batch, 0)
    losses_P = pair_losses(module, batch)
    # The oracle: transformers' own loss, a pair at a time.
    for pair, loss in zip(["ko-en", "de-en"], losses_P, strict=True):
        rows = batch.pair_slices()[pair]
        part = batch[rows]
        inputs = {"input_features": part.mel_BFT, "decoder_input_ids": part.decoder_inputs_BU}
        output = module.model(**inputs, labels=part.labels_BU)
        torch.testing.assert_close(loss, output.loss)


def test_schedule_by_hand():
    shares = [warmup_cosine(step, 10, 2) for step in range(10)]
    expected = [0.5, 1.0] + [0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)]
    np.testing.assert_allclose(shares, expected)
    assert warmup_cosine(0, 10, 0) == 1.0


def fit(tiny_model: Path, manifests: dict[str, str], folder: Path, steps: int = 3, **changes) -> WhisperModule:
    seed_everything(0, verbose=False)
    module = WhisperModule(str(tiny_model), **({"learning_rate": 1e-3} | changes))
    data = PairDataModule(
        train={pair: manifests[pair] for pair in ("ko-en", "ja-en", "de-en")}, utterances_per_pair=2, workers=0
    )
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[FinalModel()],
    )
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == steps
    return module


def test_a_run_learns_and_leaves_a_whole_model_folder(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    module = fit(tiny_model, manifests, tmp_path, steps=60, learning_rate=1e-2)
    dataset = PairDataset({"ko-en": read_manifest(manifests["ko-en"])}, LabelMaker(module.processor.tokenizer))
    batch = module.on_after_batch_transfer(collate([dataset["ko-en", i] for i in range(4)]), 0)
    before = pair_losses(loaded(tiny_model), batch)
    assert pair_losses(module, batch) < 0.6 * before  # six sentences are learnt by heart
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    again = WhisperForConditionalGeneration.from_pretrained(tmp_path / "model")
    for (name, ours), theirs in zip(module.model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    sinusoids = "model.encoder.embed_positions.weight"
    assert torch.equal(again.get_parameter(sinusoids), loaded(tiny_model).model.get_parameter(sinusoids))
    assert again.generation_config.lang_to_id == module.model.generation_config.lang_to_id
    old, new = (WhisperProcessor.from_pretrained(folder) for folder in (tiny_model, tmp_path / "model"))
    assert old.tokenizer.get_vocab() == new.tokenizer.get_vocab()
    assert json.loads((tmp_path / "model" / "preprocessor_config.json").read_text())["feature_size"] == 80


def test_the_same_seed_gives_the_same_weights(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    first, second = (fit(tiny_model, manifests, tmp_path / name) for name in "ab")
    for ours, theirs in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_clipping_bounds_the_update(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    """Under the first Adam step every coordinate moves by the learning rate, whatever the clipping: compare norms."""
    moved = fit(tiny_model, manifests, tmp_path, steps=1, learning_rate=1e-3, warmup_fraction=0.0)
    start = loaded(tiny_model)
    largest = max(
        (ours - theirs).abs().max()
        for ours, theirs in zip(moved.model.parameters(), start.model.parameters(), strict=True)
    )
    torch.testing.assert_close(largest.detach(), torch.tensor(1e-3), rtol=1e-3, atol=0)


def test_a_loss_that_is_not_finite_is_refused_before_the_update(tiny_model: Path, manifests: dict[str, str]):
    module = loaded(tiny_model)
    dataset = PairDataset({"ko-en": read_manifest(manifests["ko-en"])}, LabelMaker(module.processor.tokenizer))
    batch = module.on_after_batch_transfer(collate([dataset["ko-en", 0]]), 0)
    batch.mel_BFT[:] = torch.nan
    guard = module._guard = StepGuard(7)
    losses_P = pair_losses(module, batch)
    with pytest.raises(UnusableStepError, match=r"step 7: the loss is not finite \(ko-en: nan on ko-en-0\)"):
        guard.check(losses_P, losses_P.sum())


def test_gradient_checkpointing_changes_nothing(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    plain = fit(tiny_model, manifests, tmp_path / "a", steps=1)
    checkpointed = fit(tiny_model, manifests, tmp_path / "b", steps=1, gradient_checkpointing=True)
    for ours, theirs in zip(plain.model.parameters(), checkpointed.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_missing_and_half_models_are_named(tmp_path: Path, tiny_model: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: not a model folder"):
        read_model_folder(tmp_path / "empty")
    model, processor = read_model_folder(tiny_model)
    write_model_folder(tmp_path / "half", model, processor)
    (tmp_path / "half" / "model.safetensors").write_bytes(b"123")
    with pytest.raises(UserError, match=r"half/model\.safetensors: not a safetensors file, or cut short"):
        read_model_folder(tmp_path / "half")


def test_a_failed_export_leaves_nothing(tmp_path: Path, tiny_model: Path):
    model, processor = read_model_folder(tiny_model)
    with pytest.raises(TypeError):
        write_model_folder(tmp_path / "model", model, processor, extra={"README.md": 3})
    assert list(tmp_path.iterdir()) == []
