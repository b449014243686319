"""Tiny Whispers with a real tokenizer: a base and three fine-tunes of it, as model folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizerFast,
)

SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|ko|>", "<|transcribe|>", "<|notimestamps|>"]


def tiny_whisper(folder: Path, *, mel_bins: int = 80, vocabulary: int = 280, seed: int = 0, **config: object) -> Path:
    """Writes a random Whisper of width 16 with 2 + 2 layers, a byte-level BPE tokenizer and a 4 s window."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["guten Tag, good day, 안녕하세요"] * 3, trainer)
    fast = WhisperTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[0], unk_token=SPECIAL[0]
    )
    fast.add_special_tokens({"additional_special_tokens": SPECIAL[1:]})
    end = fast.convert_tokens_to_ids(SPECIAL[0])
    extractor = WhisperFeatureExtractor(feature_size=mel_bins, chunk_length=4)
    WhisperProcessor(extractor, fast).save_pretrained(folder)
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            **{
                "vocab_size": len(fast), "num_mel_bins": mel_bins, "d_model": 16,
                "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
                "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_source_positions": 200, "max_target_positions": 32,
                "pad_token_id": end, "bos_token_id": end, "eos_token_id": end,
                "decoder_start_token_id": end + 1, "suppress_tokens": None, "begin_suppress_tokens": None,
            } | config
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    return folder


def fine_tune(base: Path, folder: Path, seed: int, scale: float = 0.01, **save: object) -> Path:
    """Writes a copy of a model with normal noise on every weight."""
    shutil.copytree(base, folder)
    model = WhisperForConditionalGeneration.from_pretrained(base)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=scale)
    (folder / "model.safetensors").unlink()
    model.to(save.pop("dtype", torch.float32)).save_pretrained(folder, **save)
    return folder


@pytest.fixture(scope="session")
def whispers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base` and the fine-tunes `ko_en/model`, `ja_en/model`, `de_en/model`."""
    root = tmp_path_factory.mktemp("whispers")
    base = tiny_whisper(root / "base")
    for seed, name in enumerate(("ko_en", "ja_en", "de_en"), start=1):
        fine_tune(base, root / name / "model", seed)
    return root
