"""The usual recipe to fine-tune Whisper, to measure against: Seq2SeqTrainer, WhisperFeatureExtractor, HF's collator.

As in Hugging Face's own tutorial, with the log-mel made in the loader's workers and 30 s of it for every utterance. It
is given our order of utterances, our prompts and our schedule, and leaves prompts out of its loss, so that its curve of
losses can be ours.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch.utils.data import Dataset, SequentialSampler
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from common.manifest import Utterance
from datamodules.dataset import LabelMaker
from lightning_modules.warmup_cosine import warmup_cosine


@dataclass
class Trained:
    """What a run of training left: each step's loss, and when the first batch was asked for and the steps ended."""

    losses: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    data_wait: float = 0.0
    peak_gb: float | None = None

    def seconds_a_step(self, warm_up: int = 0) -> float:
        """The mean over the steps after the first `warm_up`."""
        return (self.ends[-1] - self.ends[warm_up]) / (len(self.ends) - 1 - warm_up)


class Utterances(Dataset):
    """Audio and transcript as the tutorial prepares them: log-mel and label ids."""

    def __init__(self, utterances: Sequence[Utterance], processor: WhisperProcessor) -> None:
        self.utterances, self.processor = utterances, processor
        self.labels = LabelMaker(processor.tokenizer)

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> dict[str, Any]:
        utterance = self.utterances[index]
        wave, rate_hz = soundfile.read(utterance.audio, dtype="float32")
        features = self.processor.feature_extractor(wave, sampling_rate=rate_hz).input_features[0]
        inputs, labels = self.labels(utterance)
        return {"input_features": features, "decoder_input_ids": inputs.tolist(), "labels": labels.tolist()}


class Collator:
    """The tutorial's: features padded by the extractor, labels by the tokenizer and then masked."""

    def __init__(self, processor: WhisperProcessor) -> None:
        self.processor = processor

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Pads both sides."""
        batch = dict(
            self.processor.feature_extractor.pad(
                [{"input_features": row["input_features"]} for row in rows], return_tensors="pt"
            )
        )
        tokenizer = self.processor.tokenizer
        inputs = tokenizer.pad([{"input_ids": row["decoder_input_ids"]} for row in rows], return_tensors="pt")
        labels = tokenizer.pad([{"input_ids": row["labels"]} for row in rows], return_tensors="pt")
        batch["decoder_input_ids"] = inputs["input_ids"]
        batch["labels"] = labels["input_ids"].masked_fill(labels["attention_mask"].ne(1), -100)
        return batch


class _InOrder(Seq2SeqTrainer):
    """Takes the utterances in our order."""

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


class _Stamps(TrainerCallback):
    def __init__(self, trained: Trained) -> None:
        self.ends = trained.ends

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Before the first batch is asked for."""
        self.ends.append(time.perf_counter())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Notes the time."""
        self.ends.append(time.perf_counter())


def train(
    folder: Path | str,
    utterances: Sequence[Utterance],
    out: Path,
    *,
    batch: int,
    learning_rate: float,
    workers: int,
    checkpointing: bool = False,
    bf16: bool = False,
) -> Trained:
    """One pass over the utterances."""
    steps = len(utterances) // batch
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    model.config.use_cache = False
    processor = WhisperProcessor.from_pretrained(folder)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, betas=(0.9, 0.999), weight_decay=0.0, fused=True
    )  # the Trainer's default, adamw_torch_fused
    warm_up = round(0.1 * steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, steps, warm_up))
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=batch,
        max_steps=steps,
        max_grad_norm=1.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        dataloader_num_workers=workers,
        remove_unused_columns=False,
        gradient_checkpointing=checkpointing,
        seed=0,
    )
    trained = Trained()
    trainer = _InOrder(
        model=model,
        args=arguments,
        train_dataset=Utterances(utterances, processor),
        data_collator=Collator(processor),
        optimizers=(optimizer, schedule),
        callbacks=[_Stamps(trained)],
    )
    trainer.train()
    trained.losses += [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return trained
