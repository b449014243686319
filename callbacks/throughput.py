"""How fast a run is: utterances per second, the share of a step spent waiting for data, and the progress bar."""

import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

from callbacks.metrics_file import append_row
from datamodules.batch import SpeechBatch


class Throughput(L.Callback):
    """Logs `utterances_per_s` (all ranks, a moving mean over about ten steps) and `data_wait` (share of the step).

    Both are also in `<run>/throughput.csv`, apart from the figures that are the same in every run. Neither includes
    what other callbacks do between two steps, such as an evaluation or a checkpoint: see `Interlude`.
    """

    def __init__(self) -> None:
        self._ended: float | None = None
        self._began = 0.0
        self._rate: float | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Removes the file of an earlier run in the same folder."""
        if trainer.is_global_zero and trainer.ckpt_path is None:
            (Path(trainer.default_root_dir) / "throughput.csv").unlink(missing_ok=True)

    def on_train_batch_start(self, *_: Any) -> None:
        """Marks the end of the wait for data."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: SpeechBatch, *_: Any
    ) -> None:
        """Logs both figures, from the second step on.

        Args:
            trainer: gives step, ranks and folder.
            pl_module: logs.
            outputs: unused.
            batch: the step's.
        """
        if self._ended is not None:
            duration = time.perf_counter() - self._ended
            rate = len(batch) * trainer.world_size / duration
            self._rate = rate if self._rate is None else 0.9 * self._rate + 0.1 * rate
            wait = (self._began - self._ended) / duration
            figures = {"utterances_per_s": self._rate, "data_wait": wait}
            for name, figure in figures.items():
                pl_module.log(name, figure, prog_bar=name == "utterances_per_s", batch_size=len(batch))
            if trainer.is_global_zero:
                row = {"step": trainer.global_step - 1} | {name: f"{value:.4g}" for name, value in figures.items()}
                append_row(Path(trainer.default_root_dir) / "throughput.csv", list(row), row)
        self.go_on()

    def go_on(self) -> None:
        """Starts the wait for the next batch."""
        self._ended = time.perf_counter()


class Interlude(L.Callback):
    """The last of all callbacks: the wait for data begins after it."""

    def __init__(self, throughput: Throughput) -> None:
        self._throughput = throughput

    def on_train_batch_end(self, *_: Any) -> None:
        """Starts the wait for the next batch."""
        self._throughput.go_on()


class TrainingProgress(RichProgressBar):
    """Lightning's bar with the run's name, the loss of each pair and utterances per second."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def _get_train_description(self, current_epoch: int) -> str:
        return self.name

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, int | str | float | dict]:
        """The figures after the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in metrics.items()}
