"""Checkpoints every few steps and when the process is asked to end; only the newest stay."""

import signal
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from callbacks.checkpoint_files import checkpoint_path, checkpoints
from common.errors import in_range

EXIT_CODE = 143  # 128 + SIGTERM, as a shell reports it
NOTHING, LEAVE, REQUEUE = range(3)  # what a signal asks for; of several the largest counts


class Preemption:
    """Records SIGTERM, SIGUSR1 and the signal by which SLURM announces a requeue; they are obeyed at the step's end.

    A handler runs between any two lines of Python, in the middle of an optimizer step or of an exchange between ranks,
    so it may do no more than record the signal.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        self.trainer = trainer
        self.environment = trainer._accelerator_connector.cluster_environment
        self.request = NOTHING
        signals = {signal.SIGTERM, signal.SIGUSR1}
        self.requeue_signal: int | None = None
        if isinstance(self.environment, SLURMEnvironment) and self.environment.auto_requeue:
            self.requeue_signal = self.environment.requeue_signal
            signals.add(self.requeue_signal)
            self._requeue = signal.getsignal(self.requeue_signal)  # what Lightning would do, in the middle of the step
        for signum in signals:
            signal.signal(signum, self._record)  # Lightning restores the earlier handlers at the end

    def _record(self, signum: int, frame: FrameType | None) -> None:
        if not self.request and self.trainer.strategy.launcher is not None:
            self.trainer.strategy.launcher.kill(signum)  # passes it on to the ranks that this process started
        # If SLURM's time ends within a step, SIGTERM follows the requeue signal; the job must be requeued all the same.
        self.request = max(self.request, REQUEUE if signum == self.requeue_signal else LEAVE)

    def asked(self) -> bool:
        """Whether any rank was asked to leave; every rank must call this, at the same point."""
        request = torch.tensor(float(self.request), device=self.trainer.strategy.root_device)
        # A signal that reaches a rank after this line counts at the next step.
        self._agreed = int(self.trainer.strategy.reduce(request, reduce_op="max"))
        return self._agreed != NOTHING

    def leave(self, path: Path) -> None:
        """Saves to `path`, lets Lightning requeue the job where SLURM asked for that, and ends this process.

        Raises:
            SIGTERMException: always; it ends the process with code 143.
        """
        if self._agreed == REQUEUE:
            # A file with Lightning's own name would not be found by --resume, and never be removed.
            self.trainer._checkpoint_connector.hpc_save_path = lambda folder: str(path)
            self._requeue(self.requeue_signal, None)
        else:
            self.trainer.save_checkpoint(path)
        # If a rank that Lightning started ends with an error, Lightning kills the first rank.
        ours = self.trainer.is_global_zero or self.environment.creates_processes_externally
        raise SIGTERMException(EXIT_CODE if ours else 0)


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
