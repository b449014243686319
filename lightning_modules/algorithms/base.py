"""The contract of a training algorithm: it decides what gradient reaches the optimizer.

Three levels, so that a new method is a few lines: an objective over the pairs' losses (`ObjectiveAlgorithm`), weights
over the pairs' gradients plus noise, or a step of its own (`Algorithm`). Pure torch: no Lightning, no Whisper.

Shape suffixes: P pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lightning_modules.algorithms.context import StepContext


@dataclass(frozen=True)
class Needs:
    """What an algorithm asks of a step, declared before the first one.

    `forward_backward` is the cost of a step in forward and backward passes over the batch (ERM is 1).
    """

    min_pairs: int = 1
    forward_backward: float = 1.0
    optimizer_steps_per_batch: int = 1
    head_inputs: bool = False
    supports_sharding: bool = True


class Algorithm(nn.Module, ABC):
    """A training algorithm; what it must remember between steps is a buffer, so that checkpoints hold it."""

    needs = Needs()

    @abstractmethod
    def step(self, context: StepContext, batch: Any) -> dict[str, float | Tensor]:
        """Takes one training step on a mixed-pair batch and returns figures to log."""


class ObjectiveAlgorithm(Algorithm):
    """An algorithm that is an objective over the pairs' losses."""

    @abstractmethod
    def objective(self, losses_P: Tensor) -> Tensor:
        """The scalar to minimise, from the pairs' losses (P,)."""

    def step(self, context: StepContext, batch: Any) -> dict[str, float | Tensor]:
        """One forward pass over all pairs, one backward pass, one optimizer step."""
        losses_P = context.losses(batch)
        context.backward(self.objective(losses_P))
        context.optimizer_step()
        return {f"loss/{pair}": loss for pair, loss in zip(batch.by_pair(), losses_P.detach(), strict=True)}
