"""What the tests share: a real but tiny Whisper, and small corpora of noise."""

from __future__ import annotations

import os

os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from common.manifest import Utterance, read_manifest, write_manifest

torch.set_num_threads(1)

TEXTS = {
    "ko-en": ["이번 project는 좋아요.", "내일 meeting이 있어요.", "새 computer를 샀어요."],
    "ja-en": ["データをcheckした。", "新しいprojectです。", "今日はmeetingがある。"],
    "de-en": ["Ich habe den report geschickt.", "Das meeting war schön.", "Für die Übergröße, please."],
    "ko": ["오늘 날씨가 좋아요.", "책을 읽어요.", "커피를 마셔요."],
    "en": ["I read the book.", "We drink coffee.", "The weather is fine."],
}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder: two layers each side, width 16, a 2 s window, random weights."""
    from transformers import WhisperFeatureExtractor, WhisperProcessor

    from backbone.miniature import random_model, train_tokenizer
    from backbone.model_folder.write import write_model_folder

    torch.manual_seed(0)
    tokenizer = train_tokenizer([text for texts in TEXTS.values() for text in texts], vocabulary=300)
    model = random_model(tokenizer, window_s=2, width=16)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_model_folder(folder, model, WhisperProcessor(WhisperFeatureExtractor(chunk_length=2), tokenizer))
    return folder


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A manifest a pair, of six utterances of noise between 0.5 and 1.75 s."""
    root = tmp_path_factory.mktemp("data")
    return {pair: str(write_corpus(root / pair, pair, seed)) for seed, pair in enumerate(TEXTS)}


def write_corpus(folder: Path, pair: str, seed: int = 0, count: int = 6) -> Path:
    """Writes wavs of noise and their manifest."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed)
    utterances = []
    for index in range(count):
        duration = 0.5 + 0.25 * index
        path = folder / f"{index}.wav"
        soundfile.write(path, 0.1 * noise.standard_normal(round(16_000 * duration)), 16_000)
        text = TEXTS[pair][index % len(TEXTS[pair])]
        utterances.append(
            Utterance(f"{pair}-{index}", path, duration, text, pair, pair.split("-")[0], licence="CC0-1.0")
        )
    write_manifest(folder / "train.jsonl", utterances)
    return folder / "train.jsonl"


@pytest.fixture(scope="session")
def utterances(manifests: dict[str, str]) -> list[Utterance]:
    """Eighteen utterances of noise, of three corpora."""
    return [utterance for pair in ("ko-en", "de-en", "ko") for utterance in read_manifest(manifests[pair])]


@pytest.fixture(scope="session")
def model_that_speaks(tiny_model: Path):
    """Random weights made larger, and only text tokens allowed: each utterance gets a text and an end of its own."""
    from backbone.model_folder.read import read_model_folder

    model, processor = read_model_folder(tiny_model)
    torch.manual_seed(1)
    end = model.generation_config.eos_token_id
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.ndim == 2:
                parameter.add_(0.4 * torch.randn_like(parameter))
        embeddings = model.model.decoder.embed_tokens.weight
        embeddings[end] = 1.2 * embeddings[131]  # the end comes where otherwise an ordinary token would
    model.generation_config.suppress_tokens = [i for i in range(300, model.config.vocab_size) if i != end]
    model.generation_config.begin_suppress_tokens = [253, end]  # 253 is what it would begin with most often
    return model, processor
