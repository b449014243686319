"""Checkpoints every few steps and when the process is asked to end; only the newest stay."""

from dataclasses import dataclass
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from callbacks.checkpoint_files import checkpoint_path, checkpoints
from callbacks.preemption import Preemption
from common.errors import in_range


@dataclass(eq=False)
class Checkpoints(Checkpoint):
    """Writes `<run>/checkpoints/step-N.ckpt`; an old one is removed once a new one is on the disk.

    Args:
        every_n_steps: steps between two checkpoints; there is one after the last step, too.
        keep: how many checkpoints stay.
    """

    every_n_steps: int = 200
    keep: int = 2

    def __post_init__(self) -> None:
        in_range("checkpoint.every_n_steps", self.every_n_steps, 1)
        in_range("checkpoint.keep", self.keep, 1)
        self._preemption: Preemption | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begins to catch signals; removes checkpoints of an earlier run, and damaged ones that were skipped."""
        self._preemption = Preemption(trainer)
        if trainer.is_global_zero:
            for step, path in checkpoints(trainer.default_root_dir):
                if step > trainer.global_step or trainer.ckpt_path is None:
                    path.unlink()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Saves when it is due, or when the process is to end."""
        is_last = trainer.global_step >= trainer.max_steps
        if not is_last:
            self.leave_if_asked(trainer)
        if is_last or trainer.global_step % self.every_n_steps == 0:
            trainer.save_checkpoint(checkpoint_path(trainer.default_root_dir, trainer.global_step))
            self._prune(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Saves when the process is to end."""
        if not trainer.sanity_checking:
            self.leave_if_asked(trainer)

    def leave_if_asked(self, trainer: L.Trainer) -> None:
        """Saves and ends this process where any rank was asked to end; every rank must call this at the same point."""
        if self._preemption and self._preemption.asked():
            self._preemption.leave(checkpoint_path(trainer.default_root_dir, trainer.global_step))

    def _prune(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero:
            for _, path in checkpoints(trainer.default_root_dir)[self.keep :]:
                path.unlink()
