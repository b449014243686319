"""Greedy decoding equals transformers' `generate`, token for token, whatever the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.errors import UserError
from datamodules.audio import load_waveform
from datamodules.manifest import Utterance, read_manifest
from lightning_modules.decoding import Transcriber
from lightning_modules.export import read_model_folder


@pytest.fixture(scope="module")
def utterances(manifests: dict[str, str]) -> list[Utterance]:
    return [utterance for pair in ("ko-en", "de-en", "ko") for utterance in read_manifest(manifests[pair])]


@pytest.fixture(scope="module")
def model_that_speaks(tiny_model: Path):
    """Random weights made larger, and only text tokens allowed: each utterance gets a text and an end of its own."""
    model, processor = read_model_folder(tiny_model)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.ndim == 2:
                parameter.add_(0.4 * torch.randn_like(parameter))
    end = model.generation_config.eos_token_id
    model.generation_config.suppress_tokens = [i for i in range(300, model.config.vocab_size) if i != end]
    return model, processor


@pytest.mark.parametrize("beams", [1, 3])
def test_equals_generate(model_that_speaks, utterances: list[Utterance], beams: int):
    model, processor = model_that_speaks
    utterances = utterances[:: 2 * beams]
    ours = Transcriber(model, processor, batch_size=5, beams=beams).transcribe(utterances)
    for utterance, text in zip(utterances, ours, strict=True):
        wave = load_waveform(utterance.audio).numpy()
        features = processor.feature_extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features
        # Suppression from the folder's generation_config, the prompt by transformers' own means.
        language = utterance.matrix_language
        tokens = model.generate(features, language=language, task="transcribe", do_sample=False, num_beams=beams)
        assert text == processor.tokenizer.decode(tokens[0], skip_special_tokens=True).strip(), utterance.id
    assert len(set(ours)) > 1 and len({len(text) for text in ours}) > 1


@pytest.mark.parametrize("batch_size", [1, 32])
@pytest.mark.parametrize("language", ["two_tag", "auto"])
def test_batch_size_and_order_do_not_matter(model_that_speaks, utterances, batch_size: int, language: str):
    transcriber = Transcriber(*model_that_speaks, batch_size=batch_size, language=language)
    forwards = transcriber.transcribe(utterances)
    assert transcriber.transcribe(utterances[::-1])[::-1] == forwards
    assert Transcriber(*model_that_speaks, batch_size=3, language=language).transcribe(utterances) == forwards


def test_auto_takes_the_models_own_most_probable_language(model_that_speaks, utterances):
    model, processor = model_that_speaks
    transcriber = Transcriber(model, processor, language="auto")
    wave = load_waveform(utterances[0].audio)
    features = processor.feature_extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    expected = model.detect_language(features)
    encoded = model.model.encoder(features).last_hidden_state
    assert transcriber._detect(encoded) == [processor.tokenizer.decode(expected).strip("<|>")]


def test_over_the_window_and_unknown_language(tiny_model: Path, utterances: list[Utterance]):
    long = Utterance("long", utterances[0].audio, 2.5, "x", "ko-en", "ko")
    with pytest.raises(UserError, match=r"longer than the model's window of 2 s: long \(2\.50 s\)"):
        Transcriber(*read_model_folder(tiny_model)).transcribe([long])
    with pytest.raises(UserError, match="language 'xx' has no tag"):
        Transcriber(*read_model_folder(tiny_model), language="xx").transcribe(utterances[:1])
