"""Signals that ask a run to leave the machine: noticed at once, obeyed at the end of the step.

A handler runs between any two lines of Python, in the middle of an optimizer step or of an exchange between ranks, so
it may only take note.
"""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException

EXIT_CODE = 143  # 128 + SIGTERM, as a shell reports it


class Preemption:
    """Takes note of SIGTERM, SIGUSR1 and the signal by which SLURM announces a requeue."""

    def __init__(self, trainer: L.Trainer) -> None:
        self.trainer = trainer
        self.received = 0
        self.environment = trainer._accelerator_connector.cluster_environment
        signals = {signal.SIGTERM, signal.SIGUSR1}
        self.requeue: dict[int, Any] = {}  # by signal, what Lightning would do about it in the middle of the step
        if isinstance(self.environment, SLURMEnvironment) and self.environment.auto_requeue:
            warning = self.environment.requeue_signal
            signals.add(warning)
            self.requeue[warning] = signal.getsignal(warning)
        for signum in signals:
            signal.signal(signum, self._notice)  # Lightning puts back what was before, at the end

    def _notice(self, signum: int, frame: FrameType | None) -> None:
        if not self.received and self.trainer.strategy.launcher is not None:
            self.trainer.strategy.launcher.kill(signum)  # passes it on to the ranks that this process started
        self.received = signum

    def asked(self) -> bool:
        """Whether any rank was asked to leave; every rank must call this, at the same point."""
        received = torch.tensor(float(self.received), device=self.trainer.strategy.root_device)
        agreed = int(self.trainer.strategy.reduce(received, reduce_op="max"))
        if agreed:  # else what this rank noticed in the meantime would be forgotten
            self.received = agreed
        return agreed > 0

    def leave(self, path: Path) -> None:
        """Saves to `path`, lets Lightning requeue the job where SLURM asked for that, and ends this process.

        Raises:
            SIGTERMException: always; it ends the process with code 143.
        """
        if self.received in self.requeue:
            # Lightning's own name for it would not be found again by --resume, nor ever removed.
            self.trainer._checkpoint_connector.hpc_save_path = lambda folder: str(path)
            self.requeue[self.received](self.received, None)
        else:
            self.trainer.save_checkpoint(path)
        # Were a rank that Lightning started to end with an error, Lightning would kill the first one.
        ours = self.trainer.is_global_zero or self.environment.creates_processes_externally
        raise SIGTERMException(EXIT_CODE if ours else 0)
