"""Signals that ask a run to leave the machine: recorded at once, obeyed at the end of the step.

A handler runs between any two lines of Python, in the middle of an optimizer step or of an exchange between ranks, so
it may do no more than record the signal.
"""

import signal
from pathlib import Path
from types import FrameType

import lightning as L
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException

EXIT_CODE = 143  # 128 + SIGTERM, as a shell reports it
NOTHING, LEAVE, REQUEUE = range(3)  # what a signal asks for; of two the greater counts


class Preemption:
    """Records SIGTERM, SIGUSR1 and the signal by which SLURM announces a requeue."""

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
            signal.signal(signum, self._record)  # Lightning puts back what was before, at the end

    def _record(self, signum: int, frame: FrameType | None) -> None:
        if not self.request and self.trainer.strategy.launcher is not None:
            self.trainer.strategy.launcher.kill(signum)  # passes it on to the ranks that this process started
        # Where SLURM's time is up in mid-step, SIGTERM follows its warning: the job is to be requeued all the same.
        self.request = max(self.request, REQUEUE if signum == self.requeue_signal else LEAVE)

    def asked(self) -> bool:
        """Whether any rank was asked to leave; every rank must call this, at the same point."""
        request = torch.tensor(float(self.request), device=self.trainer.strategy.root_device)
        # A signal that reaches a rank after that counts at the next step.
        self._agreed = int(self.trainer.strategy.reduce(request, reduce_op="max"))
        return self._agreed != NOTHING

    def leave(self, path: Path) -> None:
        """Saves to `path`, lets Lightning requeue the job where SLURM asked for that, and ends this process.

        Raises:
            SIGTERMException: always; it ends the process with code 143.
        """
        if self._agreed == REQUEUE:
            # Lightning's own name for it would not be found again by --resume, nor ever removed.
            self.trainer._checkpoint_connector.hpc_save_path = lambda folder: str(path)
            self._requeue(self.requeue_signal, None)
        else:
            self.trainer.save_checkpoint(path)
        # Were a rank that Lightning started to end with an error, Lightning would kill the first one.
        ours = self.trainer.is_global_zero or self.environment.creates_processes_externally
        raise SIGTERMException(EXIT_CODE if ours else 0)
