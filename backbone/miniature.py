"""The demo's backbone before training: a small random Whisper with a real Whisper tokenizer.

    python -m backbone.miniature --out outputs/backbone/init data/backbone/*/train.jsonl

`python train.py --config backbone.yaml` then trains it on single languages; in the
miniature study it takes the place of a pretrained multilingual Whisper.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer
from torch import nn
from transformers import (
    AddedToken,
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from backbone.model_folder.write import write_model_folder
from common.manifest import read_manifest
from common.option_types import Range, Seed
from common.options import Command, main, option
from common.printing import show

# The 99 languages of Whisper's multilingual checkpoints before large-v3, in their order.
WHISPER_LANGUAGES = [code for code in LANGUAGES if code != "yue"]
_TASKS = ["translate", "transcribe", "startoflm", "startofprev", "nocaptions", "notimestamps"]
_TIMESTAMPS = [f"{0.02 * i:.2f}" for i in range(1501)]


def train_tokenizer(texts: Iterable[str], vocabulary: int = 2000) -> WhisperTokenizer:
    """Learns a byte-level BPE of at most `vocabulary` tokens and adds all of Whisper's special tokens in their order.

    Merges stay within a character: of a few thousand different words, whole words as tokens would be memorised.
    """
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = Sequence([Split(Regex("."), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])
    alphabet = sorted(ByteLevel.alphabet())
    bpe.train_from_iterator(texts, BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False))
    learnt = json.loads(bpe.to_str())["model"]
    tokenizer = WhisperTokenizer(vocab=learnt["vocab"], merges=[tuple(merge) for merge in learnt["merges"]])
    special = ["startoftranscript", *WHISPER_LANGUAGES, *_TASKS]  # the tokenizer itself began with <|endoftext|>
    for names, is_special in ((special, True), (_TIMESTAMPS, False)):
        added = [AddedToken(f"<|{name}|>", special=is_special, normalized=False) for name in names]
        tokenizer.add_tokens(added, special_tokens=is_special)
    return tokenizer


def random_model(tokenizer: WhisperTokenizer, window_s: int = 5, width: int = 128) -> WhisperForConditionalGeneration:
    """Return a two-layer Whisper with random weights.

    Args:
        tokenizer: whose vocabulary it predicts.
        window_s: of the encoder, in whole seconds.
        width: of all states.
    """
    end, start = (tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("endoftext", "startoftranscript"))
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=width,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        max_source_positions=50 * window_s,
        max_target_positions=128,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        init_std=0.05,  # Whisper's 0.02 is for larger widths: here the audio would vanish beside the positions
    )
    model = WhisperForConditionalGeneration(config)
    for convolution in (model.model.encoder.conv1, model.model.encoder.conv2):
        nn.init.kaiming_normal_(convolution.weight)
    model.generation_config = generation_config(tokenizer, config)
    return model


def generation_config(tokenizer: WhisperTokenizer, config: WhisperConfig) -> GenerationConfig:
    """What `generate` must know of a Whisper: its prompt tokens, and those that it may not emit."""

    def token(name: str) -> int:
        return tokenizer.convert_tokens_to_ids(f"<|{name}|>")

    heads = [[layer, head] for layer in range(config.decoder_layers) for head in range(config.decoder_attention_heads)]
    return GenerationConfig(
        decoder_start_token_id=config.decoder_start_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        max_length=config.max_target_positions,
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": token(code) for code in WHISPER_LANGUAGES},
        task_to_id={task: token(task) for task in ("transcribe", "translate")},
        no_timestamps_token_id=token("notimestamps"),
        prev_sot_token_id=token("startofprev"),
        begin_suppress_tokens=[*tokenizer.encode(" ", add_special_tokens=False), config.eos_token_id],
        suppress_tokens=sorted(map(token, ["startoftranscript", *_TASKS[:-1]])),
        alignment_heads=heads,
        return_timestamps=False,
    )


@dataclass(frozen=True)
class MiniatureOptions:
    """The backbone."""

    manifests: list[Path] = option(positional=True, metavar="MANIFEST")
    """Manifests of single languages."""
    out: Path = option(metavar="DIR")
    """Model folder to write."""
    window: Annotated[int, Range(1, 30)] = option(5, metavar="SECONDS")
    """Encoder's window."""
    vocabulary: Annotated[int, Range(1, 100_000)] = 2000
    """Most tokens of the BPE."""
    seed: Seed = 0
    """Seed of the weights."""


def run(options: MiniatureOptions) -> None:
    """Learn the tokenizer on the manifests' texts and write the untrained model folder."""
    torch.manual_seed(options.seed)
    texts = [utterance.text for manifest in options.manifests for utterance in read_manifest(manifest)]
    tokenizer = train_tokenizer(texts, options.vocabulary)
    model = random_model(tokenizer, options.window)
    extractor = WhisperFeatureExtractor(chunk_length=options.window)
    write_model_folder(options.out, model, WhisperProcessor(extractor, tokenizer))
    show(f"{options.out}: {model.num_parameters():,} parameters, {len(tokenizer):,} tokens")


MINIATURE = Command("python -m backbone.miniature", __doc__ or "", MiniatureOptions, run)

if __name__ == "__main__":
    main(MINIATURE)
