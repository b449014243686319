"""What the benchmarks run on: Whispers of random weights in OpenAI's shapes, and audio files of 3 to 8 s."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from backbone.loss import IGNORED_LABEL, WhisperLoss
from backbone.miniature import generation_config, train_tokenizer
from backbone.model_folder.read import read_model_folder
from backbone.model_folder.write import write_model_folder
from common.manifest import Utterance, write_manifest
from datamodules.batch import SpeechBatch
from lightning_modules.whisper import WhisperModule

# Layers on each side, width, attention heads; nano only shows that a benchmark runs.
SHAPES = {
    "nano": (1, 32, 2),
    "tiny": (4, 384, 6),
    "base": (6, 512, 8),
    "small": (12, 768, 12),
    "medium": (24, 1024, 16),
}
VOCABULARY = 51_865
_SPECIAL = 1607  # tags, tasks and timestamps, after the text
_SYLLABLES = "가나다라마바사아자차카타파하고노도로모보소오조초코토포호"


@functools.cache
def tokenizer() -> WhisperTokenizer:
    """As many tokens as Whisper's, in their order; all but the bytes and a few merges have no text."""
    small = train_tokenizer([_SYLLABLES], vocabulary=300)
    vocabulary = json.loads(small.backend_tokenizer.to_str())["model"]
    text = {token: i for token, i in vocabulary["vocab"].items() if i < len(small) - _SPECIAL}
    filled = text | {f"Ġw{i}": i for i in range(len(text), VOCABULARY - _SPECIAL - (len(small) - _SPECIAL - len(text)))}
    made = WhisperTokenizer(vocab=filled, merges=[tuple(merge) for merge in vocabulary["merges"]])
    made.pad_token = made.eos_token  # as in Whisper's own; transformers' pipeline asks for it
    known = made.get_vocab()
    made.add_tokens([token for _, token in sorted(small.added_tokens_decoder.items()) if str(token) not in known])
    return made


def sizes(shape: str) -> dict[str, int]:
    """A shape as WhisperConfig takes it."""
    layers, width, heads = SHAPES[shape]
    sides = {
        f"{side}_{what}": value
        for side in ("encoder", "decoder")
        for what, value in {"layers": layers, "attention_heads": heads, "ffn_dim": 4 * width}.items()
    }
    return {"d_model": width, **sides}


def bare_module(shape: str, window_s: int = 30, device: str = "cpu") -> WhisperModule:
    """The training module around a Whisper of random weights, without tokenizer or files."""
    torch.manual_seed(0)
    module = WhisperModule()
    config = WhisperConfig(max_source_positions=50 * window_s, use_cache=False, **sizes(shape))
    module.model, module.ctc = WhisperForConditionalGeneration(config).to(device).train(), None
    module._loss = (WhisperLoss(module.model),)
    return module


def noise_batch(config: WhisperConfig, pairs: int, utterances: int, tokens: int) -> SpeechBatch:
    """Noise in, random tokens out, after a prompt of four; so many utterances of each pair."""
    rows = pairs * utterances
    tokens_BU = torch.randint(config.vocab_size, (rows, tokens + 4))
    labels_BU = tokens_BU.clone()
    labels_BU[:, :3] = IGNORED_LABEL
    mel_BFT = torch.randn(rows, config.num_mel_bins, 2 * config.max_source_positions)
    names = [f"pair-{row // utterances}" for row in range(rows)]
    return SpeechBatch(names, names, torch.zeros(rows, 1), torch.ones(rows), tokens_BU, labels_BU, mel_BFT)


def model_folder(
    folder: Path, shape: str, *, text_tokens: int = 444, window_s: int = 30, listens: bool = False
) -> Path:
    """A model folder of random weights, whose decoder holds a prompt of four and so many tokens.

    With `listens` its attention is sharp, so that other sound gives other text; rounding, too, weighs more then.
    """
    names = tokenizer()
    assert len(names) == VOCABULARY
    end, start = (names.convert_tokens_to_ids(f"<|{name}|>") for name in ("endoftext", "startoftranscript"))
    config = WhisperConfig(
        vocab_size=VOCABULARY,
        max_source_positions=50 * window_s,
        max_target_positions=4 + text_tokens,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        init_std=0.05,  # larger than Whisper's own, so that the audio decides the text
        **sizes(shape),
    )
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config)
    for convolution in (model.model.encoder.conv1, model.model.encoder.conv2):
        nn.init.kaiming_normal_(convolution.weight)
    with torch.no_grad():
        for layer in model.model.decoder.layers if listens else ():
            for projection in ("q_proj", "k_proj", "out_proj"):
                getattr(layer.encoder_attn, projection).weight.mul_(8.0)
        # Tags are never the most probable: some would be written into the pipeline's text, and into no other's.
        model.model.decoder.embed_tokens.weight[VOCABULARY - _SPECIAL :] = 0.0
    model.generation_config = generation_config(names, config)
    # None ends early: what is compared are as many tokens of each utterance.
    model.generation_config.suppress_tokens = sorted({*model.generation_config.suppress_tokens, end})
    write_model_folder(folder, model, WhisperProcessor(WhisperFeatureExtractor(chunk_length=window_s), names))
    return folder


def prepared(model: str, root: Path, **options: Any) -> Path | str:
    """A model to measure: `base` is one of random weights in that shape, `openai/whisper-base` the published one.

    Raises:
        SystemExit: for a published one that the Hub's cache lacks; nothing is downloaded in a benchmark.
    """
    if model in SHAPES:
        return model_folder(root / model, model, **options)
    if not isinstance(try_to_load_from_cache(model, "config.json"), str):
        sys.exit(f"{model}: is none of {', '.join(SHAPES)}, and not in the Hub's cache: hf download {model}")
    return model


def corpus(folder: Path, count: int, pair: str = "ko-en", tokens: int = 24, seed: int = 0) -> Path:
    """A manifest of WAV files of 3 to 8 s: noise in bursts, like syllables, with transcripts of so many tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    utterances = []
    for index in range(count):
        duration_s = float(np.round(3 + 5 * ((index * 0.618 + 0.1 * seed) % 1), 2))
        samples = round(16_000 * duration_s)
        bursts = np.repeat(draw.random(samples // 1600 + 1), 1600)[:samples]
        path = folder / f"{pair}-{index}.wav"
        soundfile.write(path, 0.2 * bursts * draw.standard_normal(samples), 16_000)
        text = "".join(draw.choice(list(_SYLLABLES), size=tokens))
        utterances.append(Utterance(f"{pair}-{index}", path, duration_s, text, pair, "ko", licence="CC0-1.0"))
    write_manifest(folder / f"{pair}.jsonl", utterances)
    return folder / f"{pair}.jsonl"


def cut(folder: Path | str, to: Path, seconds: int) -> Path:
    """A copy of a model whose window is shorter, by means of transformers alone."""
    model, processor = read_model_folder(folder)
    table = model.model.encoder.embed_positions.weight.detach()
    model.model.encoder.embed_positions = nn.Embedding.from_pretrained(table[: 50 * seconds].clone(), freeze=False)
    model.config.max_source_positions = 50 * seconds
    extractor = WhisperFeatureExtractor(chunk_length=seconds)
    write_model_folder(to, model, WhisperProcessor(extractor, processor.tokenizer))
    return to
