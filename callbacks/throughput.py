"""Utterances per second and the share of a step spent waiting for data."""

from __future__ import annotations

import time
from typing import Any

import lightning as L

from datamodules.batch import SpeechBatch


class Throughput(L.Callback):
    """Logs `utterances_per_s` (all ranks, a moving mean over about ten steps) and `data_wait` (share of the step)."""

    def __init__(self) -> None:
        self._ended: float | None = None
        self._began = 0.0
        self._rate: float | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Marks the end of the wait for data."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SpeechBatch, batch_idx: int
    ) -> None:
        """Logs both figures, from the second step on."""
        now = time.perf_counter()
        if self._ended is not None:
            duration = now - self._ended
            rate = len(batch) * trainer.world_size / duration
            self._rate = rate if self._rate is None else 0.9 * self._rate + 0.1 * rate
            pl_module.log("utterances_per_s", self._rate, prog_bar=True, batch_size=len(batch))
            pl_module.log("data_wait", (self._began - self._ended) / duration, batch_size=len(batch))
        self._ended = now
