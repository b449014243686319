"""The contract of a training algorithm: it decides what gradient reaches the optimizer.

Three levels, so that a new method is a few lines: an objective over the pairs' losses (`ObjectiveAlgorithm`), weights
over the pairs' gradients plus noise (`gradients.GradientAlgorithm`), or a step of its own (`Algorithm`). Pure torch: no
Lightning, no Whisper.

Shape suffixes: P pairs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.algorithms.context import StepContext
from lightning_modules.algorithms.forward import PairBatch

Figures = dict[str, float | Tensor]


class Needs(NamedTuple):
    """What a step of an algorithm costs, declared before the first one; the defaults are ERM's.

    `passes` counts forward and backward passes over the step's batch. Memory beyond ERM's is `parameter_copies` of the
    trainable parameters and `head_copies` of the output projection. `note` says what the numbers cannot.
    """

    min_pairs: int = 1
    passes: float = 1.0
    optimizer_steps: int = 1
    parameter_copies: int = 0
    head_copies: int = 0
    note: str = ""

    def describe(self, name: str, parameters: int, head_elements: int) -> str:
        """Return one line on what a step costs.

        Args:
            name: of the algorithm.
            parameters: number of trainable float32 weights.
            head_elements: number of them in the output projection.
        """
        extra_gb = 4e-9 * (self.parameter_copies * parameters + self.head_copies * head_elements)
        steps = "1 optimizer step" if self.optimizer_steps == 1 else f"{self.optimizer_steps} optimizer steps"
        return (
            f"{name}: each training step takes {self.passes:g} x ERM's forward and backward passes, {steps}, "
            f"{extra_gb:.2g} GB beyond ERM's memory{'; ' if self.note else ''}{self.note}"
        )


class Algorithm(nn.Module, ABC):
    """A training algorithm; what it must remember between steps is a buffer, so that checkpoints hold it.

    `strength` names the option whose zero makes the algorithm ERM, bit for bit; None where there is none.
    `supports_sharding` says that it works where each rank holds a part of the weights and gradients (FSDP).
    `needs_float32` says that it works with differences between weights that bfloat16 rounds away.
    """

    strength: ClassVar[str | None] = None
    supports_sharding: ClassVar[bool] = False
    needs_float32: ClassVar[bool] = False

    def needs(self, pairs: int) -> Needs:
        """Return what a step costs with this number of pairs."""
        return Needs()

    @abstractmethod
    def step(self, context: StepContext, batch: PairBatch) -> Figures:
        """Take one training step on a batch of several pairs and return figures to log."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Accept the checkpoint's shape for buffers whose shape is known only at the first step."""
        for name, buffer in self.named_buffers(recurse=False):
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape != buffer.shape:
                setattr(self, name, torch.empty_like(saved, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


class ObjectiveAlgorithm(Algorithm):
    """An algorithm that is an objective over the pairs' losses."""

    @abstractmethod
    def objective(self, context: StepContext, losses_P: Tensor) -> Tensor:
        """Return the scalar to minimise from the pairs' losses (P,) over all ranks; called once a step."""

    def step(self, context: StepContext, batch: PairBatch) -> Figures:
        """One forward pass over all pairs, one backward pass, one optimizer step."""
        return erm_step(context, batch, lambda losses_P: self.objective(context, losses_P))


def erm_step(context: StepContext, batch: PairBatch, objective: Callable[[Tensor], Tensor] | None = None) -> Figures:
    """Take a step on the mean of the pairs' losses.

    Args:
        context: of the step.
        batch: utterances of several pairs.
        objective: what to minimise instead of the mean; see `StepContext.backward`.
    """
    losses_P = context.backward(batch, objective)
    context.optimizer_step()
    return loss_figures(batch, losses_P)


def loss_figures(batch: PairBatch, losses_P: Tensor) -> Figures:
    """Name the pairs' losses (P,) for the log."""
    return {f"loss/{pair}": loss for pair, loss in zip(batch.pair_slices(), losses_P, strict=True)}
