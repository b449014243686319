"""Several processes that train as one: how many there are, and one readable error where one of them fails."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import timedelta

import torch
from lightning.fabric.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed, nn
from torch.distributed.tensor import DTensor

from common.errors import UserError

_LOST_PEER = re.compile(r"closed by peer|reset by peer|[Tt]imed out|timeout|NCCL|Broken pipe|gloo")


def launched_ranks() -> tuple[int, int] | None:
    """Processes a machine, and machines, where torchrun started this process; None where Lightning may start some."""
    if not TorchElasticEnvironment.detect():
        return None
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return here, int(os.environ["WORLD_SIZE"]) // here


def fsdp() -> ModelParallelStrategy:
    """Weights, gradients and optimizer divided over all ranks (FSDP2), checkpoints in one file."""
    return ModelParallelStrategy(data_parallel_size="auto", tensor_parallel_size=1, save_distributed_checkpoint=False)


def complete(strategy: Strategy, timeout_s: int) -> None:
    """Tells a strategy how long a rank may wait for another one, and how many ranks share the weights."""
    if isinstance(strategy, DDPStrategy | ModelParallelStrategy):
        strategy._timeout = timedelta(seconds=timeout_s)
    if isinstance(strategy, ModelParallelStrategy):
        strategy._data_parallel_size = strategy.num_processes * strategy.num_nodes


def check_replicas(module: nn.Module) -> None:
    """Compares the ranks' weights, bit by bit in sums; every rank must call this.

    Raises:
        UserError: naming the first parameter that differs.
    """
    if not distributed.is_initialized():
        return
    if any(isinstance(weight, DTensor) for weight in module.parameters()):
        return  # each rank has a part
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    named = dict(module.named_parameters())
    sums = torch.stack([weight.detach().view(integers[weight.element_size()]).sum() for weight in named.values()])
    first = sums.clone()
    distributed.broadcast(first, 0)
    differ = (sums != first).to(torch.int64)
    distributed.all_reduce(differ)
    if differ.any():
        name = list(named)[int(differ.argmax())]
        raise as_one(UserError(f"the ranks end with different weights, first in {name}; nothing was exported"))


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
