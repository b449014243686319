"""Several processes that train as one: how many there are, and one readable error where one of them fails."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import timedelta

import lightning as L
from lightning.fabric.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

from common.errors import UserError

_LOST_PEER = re.compile(r"closed by peer|reset by peer|[Tt]imed out|timeout|NCCL|Broken pipe|gloo")


def launched_ranks() -> tuple[int, int] | None:
    """Processes a machine, and machines, where torchrun started this process; None where Lightning may start some."""
    if not TorchElasticEnvironment.detect():
        return None
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return here, int(os.environ["WORLD_SIZE"]) // here


def limit_silence(trainer: L.Trainer, seconds: int) -> None:
    """Lets a rank wait so long for another one in an exchange, and no longer."""
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._timeout = timedelta(seconds=seconds)


@contextlib.contextmanager
def one_error() -> Iterator[None]:
    """Makes what ends a rank one line that names it.

    Raises:
        UserError: on the rank that failed; on the others, that one did.
        SystemExit: where every rank finds the same mistake and the first one says so.
    """
    try:
        yield
    except UserError as error:
        if rank_zero_only.rank and not distributed.is_initialized():
            raise SystemExit(2) from None
        raise UserError(f"{_name()}{error}") from None
    except RuntimeError as error:
        if not (_name() and _LOST_PEER.search(str(error))):
            raise
        raise UserError(
            f"{_name()}another rank ended, or said nothing for longer than --rank_timeout_s; if it left a message, "
            f"that says why. A checkpoint goes on with --resume ({str(error).splitlines()[0][:150]})"
        ) from None


def as_one(error: UserError) -> BaseException:
    """The error on the first rank, a silent end on the others; for what all ranks find at the same point."""
    return SystemExit(2) if rank_zero_only.rank else error


def _name() -> str:
    """`rank 1: ` in a process group of several."""
    together = distributed.is_initialized() and distributed.get_world_size() > 1
    return f"rank {distributed.get_rank()}: " if together else ""
