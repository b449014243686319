"""Ranks, the processes of one training run: how many there are, equal weights, and readable errors."""

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

from common.errors import UserError, first_line

_LOST_PEER = re.compile(r"closed by peer|reset by peer|[Tt]imed out|timeout|NCCL|Broken pipe|gloo")


def launched_ranks() -> tuple[int, int] | None:
    """Return processes per machine and machines, if torchrun started this process; else None."""
    if not TorchElasticEnvironment.detect():
        return None
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return here, int(os.environ["WORLD_SIZE"]) // here


def fsdp() -> ModelParallelStrategy:
    """Return the strategy that divides weights, gradients and optimizer over all ranks (FSDP2)."""
    return ModelParallelStrategy(data_parallel_size="auto", tensor_parallel_size=1, save_distributed_checkpoint=False)


def complete(strategy: Strategy, timeout_s: int) -> None:
    """Set how long a rank may wait for another one, and how many ranks share the weights."""
    if isinstance(strategy, DDPStrategy | ModelParallelStrategy):
        strategy._timeout = timedelta(seconds=timeout_s)
    if isinstance(strategy, ModelParallelStrategy):
        strategy._data_parallel_size = strategy.num_processes * strategy.num_nodes


def check_replicas(module: nn.Module) -> None:
    """Compare the ranks' weights by sums of their bits; every rank must call this.

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
        raise on_first_rank(UserError(f"the ranks end with different weights, first in {name}; nothing was exported"))


@contextlib.contextmanager
def readable_rank_errors() -> Iterator[None]:
    """Turn an error that ends a rank into a message of one line that names the rank.

    Raises:
        UserError: on the rank that failed, and on those that lost it.
        SystemExit: on all but the first rank, where every rank finds the same mistake.
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
            f"that says why. A checkpoint goes on with --resume ({first_line(error)[:150]})"
        ) from None


def on_first_rank(error: UserError) -> BaseException:
    """Return the error on the first rank and a silent exit on the others, for what all ranks find at the same point."""
    return SystemExit(2) if rank_zero_only.rank else error


def _name() -> str:
    """`rank 1: ` in a process group of several."""
    together = distributed.is_initialized() and distributed.get_world_size() > 1
    return f"rank {distributed.get_rank()}: " if together else ""
