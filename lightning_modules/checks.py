"""What training refuses before its first step."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from common.errors import UserError
from lightning_modules.algorithms.base import Algorithm

_PRECISIONS = ("32-true", "64-true", "bf16-mixed")


def check_pairs(algorithm: Algorithm, pairs: int) -> None:
    """Checks that there are pairs enough.

    Raises:
        UserError: where the algorithm compares more pairs than there are.
    """
    needed = algorithm.needs(pairs).min_pairs
    if pairs < needed:
        raise UserError(
            f"{type(algorithm).__name__} compares language pairs and needs at least {needed}, "
            f"data.train names {pairs}; add a pair or choose --config erm.yaml"
        )


def check_trainer(algorithm: Algorithm, trainer: L.Trainer) -> None:
    """Checks that the trainer leaves whole float32 weights and gradients on every rank, which the algorithms work on.

    Raises:
        UserError: naming the strategy or precision, and what to choose.
    """
    name, strategy = type(algorithm).__name__, trainer.strategy
    # Not isinstance: FSDP and DeepSpeed strategies are related to these, and shard.
    if type(strategy) not in (SingleDeviceStrategy, DDPStrategy):
        raise UserError(
            f"trainer.strategy is {type(strategy).__name__}: {name} needs whole weights and gradients on each device; "
            "choose ddp, and model.gradient_checkpointing or model.accumulate where memory is short"
        )
    if isinstance(strategy, DDPStrategy) and strategy._ddp_kwargs.get("gradient_as_bucket_view"):
        raise UserError(f"trainer.strategy: gradient_as_bucket_view lets DDP overwrite gradients that {name} holds")
    if str(trainer.precision) not in _PRECISIONS:
        raise UserError(
            f"trainer.precision is {trainer.precision}: updates of a learning rate near 1e-5 vanish in 16-bit weights, "
            f"and 16-bit gradients underflow; choose {' or '.join(_PRECISIONS)}"
        )
