"""Refuse updates from losses or gradients that are not finite, and say which utterances they came from.

Shape suffixes: B utterances, U label tokens.
"""

import copy
from dataclasses import fields
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from backbone.devices import of_all_ranks
from common.files import atomic_file
from datamodules.batch import SpeechBatch
from lightning_modules.algorithms.context import StepContext


class UnusableStepError(Exception):
    """A step that must not reach the weights; raised on every rank, with the reason as its message."""


class StepGuard:
    """Remember what went through the model in one step, and refuse updates from it that are not finite.

    Args:
        step: counted from 0.
        divergence_threshold: a pair's loss above this is refused, too; None sets no limit.
    """

    def __init__(self, step: int, divergence_threshold: float | None = None) -> None:
        self.step = step
        self.divergence_threshold = divergence_threshold
        self.seen: list[tuple[SpeechBatch, Tensor]] = []

    def note(self, batch: SpeechBatch, losses_BU: Tensor) -> None:
        """Remember a forward pass."""
        self.seen.append((batch, losses_BU.detach()))

    def check(self, losses: Tensor, gradient_norm: Tensor) -> None:
        """Check all losses of the step so far and the gradient's norm; both are the same on every rank.

        Raises:
            UnusableStepError: naming step, pairs and utterances of all ranks.
        """
        if bool(torch.isfinite(torch.cat([losses, gradient_norm.reshape(1)])).all()):
            if self.divergence_threshold is not None and float(losses.max()) > self.divergence_threshold:
                raise UnusableStepError(
                    f"step {self.step}: the loss of a pair is {float(losses.max()):.4g}, above "
                    f"model.divergence_threshold {self.divergence_threshold:g}"
                )
            return
        what = "gradient" if bool(torch.isfinite(losses).all()) else "loss"
        named = "; ".join(chain(*of_all_ranks(self._culprits())))
        raise UnusableStepError(f"step {self.step}: the {what} is not finite ({named})")

    def _culprits(self) -> list[str]:
        """Return the utterances whose own loss is not finite, or all where each is finite by itself."""
        rows = {
            (pair, utterance): loss
            for batch, losses_BU in self.seen
            for pair, utterance, loss in zip(batch.pairs, batch.ids, losses_BU.sum(1).tolist(), strict=True)
        }
        bad = {key: loss for key, loss in rows.items() if loss - loss != 0}
        return [f"{pair}: {loss:.4g} on {utterance}" for (pair, utterance), loss in (bad or rows).items()]

    def save(self, batch: SpeechBatch, run: Path, rank: int) -> Path:
        """Write the whole batch as tensors and plain values, for `torch.load(..., weights_only=True)`.

        Args:
            batch: of the refused step.
            run: the run's folder.
            rank: of this process.
        """
        path = run / "unusable" / f"step-{self.step}-rank-{rank}.pt"
        with atomic_file(path) as partial:
            torch.save(
                {item.name: getattr(batch, item.name) for item in fields(batch) if item.name != "skipped"}, partial
            )
        return path


class Undo:
    """A copy of all that a step may change, which a call puts back.

    Args:
        context: the step's, with the trainable weights and the optimizer.
        algorithm: whose buffers are copied.
    """

    def __init__(self, context: StepContext, algorithm: nn.Module) -> None:
        self.context, self.stateful = context, (context.optimizer, algorithm)
        self._weights = context.snapshot()
        self._states = [copy.deepcopy(part.state_dict()) for part in self.stateful]

    def __call__(self) -> None:
        """Put everything back and clear the gradients."""
        self.context.restore(self._weights)
        for part, state in zip(self.stateful, self._states, strict=True):
            part.load_state_dict(state)
        self.context.optimizer.zero_grad(set_to_none=True)
