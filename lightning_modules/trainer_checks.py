"""Checks of strategy, precision and number of pairs, before the first step."""

import os
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy, StrategyRegistry

from common.constants import MOST_PROCESSES, ON_THIS_MACHINE
from common.errors import UserError, in_range
from lightning_modules import algorithms
from lightning_modules.algorithms.algorithm import Algorithm

_PRECISIONS = ("32-true", "64-true", "bf16-mixed")
_LAUNCHED = {"TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "NODE_RANK", "GROUP_RANK"}  # set by what starts processes
_STRATEGIES = (SingleDeviceStrategy, DDPStrategy, ModelParallelStrategy)


def check_devices(options: Any) -> None:
    """Check, before Lightning starts processes, that this machine has enough devices and that other nodes are started.

    Args:
        options: of the trainer.

    Raises:
        UserError: where a CPU would be divided into too many devices, or nothing starts the other machines.
    """
    is_cpu = options.accelerator == "cpu" or not torch.cuda.is_available()
    if is_cpu and str(options.devices).isdecimal():
        in_range("trainer.devices", int(options.devices), 1, MOST_PROCESSES, ON_THIS_MACHINE)
    if options.num_nodes > 1 and not _LAUNCHED & os.environ.keys():
        raise UserError(
            f"trainer.num_nodes is {options.num_nodes}, but nothing starts the others: start every process by srun or "
            "torchrun (python -m torch.distributed.run), see docs/reliability.md"
        )


def check_pairs(algorithm: Algorithm, pairs: int) -> None:
    """Check that there are enough pairs.

    Raises:
        UserError: where the algorithm compares more pairs than there are.
    """
    needed = algorithm.needs(pairs).min_pairs
    if pairs < needed:
        raise UserError(
            f"{type(algorithm).__name__} compares language pairs and needs at least {needed}, "
            f"data.train names {pairs}; add a pair or choose --config erm.yaml"
        )


def check_strategy(kind: type[Algorithm], name: str) -> None:
    """Check a strategy by its name, before Lightning builds it from packages that may be missing.

    Raises:
        UserError: naming the strategy, and what to choose.
    """
    made_for = {"auto", "single_device", "fsdp", *(strategy.__name__ for strategy in _STRATEGIES)}
    made_for |= {known for known in StrategyRegistry.available_strategies() if known.startswith("ddp")}
    if (bare := name.rpartition(".")[2]) not in made_for:
        raise _not_made_for(bare, kind)


def check_trainer(algorithm: Algorithm, trainer: L.Trainer) -> None:
    """Check that weights and gradients are float32, and whole on each device where the algorithm needs that.

    Raises:
        UserError: naming the strategy or precision, and what to choose.
    """
    name, strategy = type(algorithm).__name__, trainer.strategy
    # Not isinstance: strategies derived from these, such as DeepSpeed's, shard as well.
    if type(strategy) is ModelParallelStrategy and not algorithm.supports_sharding:
        able = ", ".join(name for name, kind in algorithms.named() if kind.supports_sharding)
        raise UserError(
            f"trainer.strategy fsdp: {name} needs whole weights and gradients on each device, {able} do not; choose "
            "ddp, and model.gradient_checkpointing or model.accumulate where memory is short"
        )
    if type(strategy) not in _STRATEGIES:
        raise _not_made_for(type(strategy).__name__, type(algorithm))
    if isinstance(strategy, DDPStrategy) and strategy._ddp_kwargs.get("gradient_as_bucket_view"):
        raise UserError(f"trainer.strategy: gradient_as_bucket_view lets DDP overwrite gradients that {name} holds")
    if str(trainer.precision) not in _PRECISIONS:
        raise UserError(
            f"trainer.precision is {trainer.precision}: updates of a learning rate near 1e-5 vanish in 16-bit weights, "
            f"and 16-bit gradients underflow; choose {' or '.join(_PRECISIONS)}"
        )
    if algorithm.needs_float32 and "16" in str(trainer.precision):
        raise UserError(
            f"trainer.precision is {trainer.precision}: {name} works with differences between weights that bfloat16 "
            "rounds away; choose 32-true, or auto, which leaves it in float32"
        )


def _not_made_for(strategy: str, kind: type[Algorithm]) -> UserError:
    sharded = ", or fsdp to divide weights and gradients over the devices" if kind.supports_sharding else ""
    return UserError(f"trainer.strategy is {strategy}, which {kind.__name__} is not made for; choose ddp{sharded}")
