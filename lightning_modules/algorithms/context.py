"""What an algorithm may do in one step: losses, gradients, optimizer; Lightning stands behind it, unseen.

Shape suffixes: P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class StepContext:
    """One training step's view of model and optimizer.

    Args:
        parameters: the trainable parameters, each storage once (`named_parameters()` order).
        losses: maps a batch to the pairs' losses, shape (P,): the mean over tokens inside each pair.
        optimizer: the raw optimizer.
        backward: how to back-propagate; Lightning's `manual_backward` or `Tensor.backward`.
        commit: the step that ends the batch; Lightning's wrapped step, or the raw optimizer's.
        clip_norm: total gradient norm above which gradients are scaled down; None leaves them.
        seed, step: name the random draws of this step.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        losses: Callable[[Any], Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        backward: Callable[[Tensor], None] = Tensor.backward,
        commit: Callable[[], None] | None = None,
        clip_norm: float | None = None,
        seed: int = 0,
        step: int = 0,
    ) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.losses = losses
        self.optimizer = optimizer
        self.backward = backward
        self.commit = commit or optimizer.step
        self.clip_norm = clip_norm
        self.seed, self.step = seed, step
        self.grad_norm: Tensor | None = None

    def optimizer_step(self) -> None:
        """Clips, steps, clears the gradients."""
        self.clip()
        self.commit()
        self.optimizer.zero_grad(set_to_none=True)

    def clip(self) -> None:
        """Scales the gradients down to `clip_norm` and keeps their norm before it in `grad_norm`."""
        limit = float("inf") if self.clip_norm is None else self.clip_norm
        self.grad_norm = nn.utils.clip_grad_norm_(self.parameters, limit)
