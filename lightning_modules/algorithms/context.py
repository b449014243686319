"""What an algorithm may do in one step: back-propagate, keep gradients, move weights.

Shape suffixes: B utterances, U label tokens, P pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from backbone.loss import IGNORED_LABEL
from lightning_modules.algorithms.forward import (
    Forward,
    ForwardPass,
    Head,
    HeadPenalty,
    PairBatch,
    head_of,
    with_penalty,
)
from lightning_modules.algorithms.sharded import whole

Gradients = list[Tensor]


class StepContext:
    """One training step's view of model, optimizer and other ranks.

    A pair's loss is the mean over its tokens on all ranks, so that ranks and micro-batches of unequal length add up to
    the whole batch exactly.

    Args:
        parameters: the trainable parameters, each storage once (`named_parameters()` order).
        forward: maps a batch to its token losses, and to logits where they are asked for.
        optimizer: the raw optimizer.
        head_weight: the output projection's weight, for algorithms that look at it.
        label_smoothing: of the losses, for algorithms that work with their closed form.
        backward: how to back-propagate a loss; its second argument is False where more micro-batches follow, so that
            ranks need not exchange gradients yet.
        commit: the step that ends the batch; Lightning's wrapped step, or the raw optimizer's.
        check: called before an update with all pairs' losses of the step so far and the gradient's norm; raises to
            prevent the update.
        clip_norm: total gradient norm above which gradients are scaled down; None leaves them.
        micro_batch: most utterances that go through the model at once; None takes a batch whole.
        world_size, all_reduce: number of ranks, and the sum of a tensor over them.
        seed: with `step`, seeds the random draws of this step.
        step: updates made so far; a step that was passed over does not count.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        forward: ForwardPass,
        optimizer: torch.optim.Optimizer,
        *,
        head_weight: nn.Parameter | None = None,
        label_smoothing: float = 0.0,
        backward: Callable[[Tensor, bool], None] | None = None,
        commit: Callable[[], Any] | None = None,
        check: Callable[[Tensor, Tensor], None] | None = None,
        clip_norm: float | None = None,
        micro_batch: int | None = None,
        world_size: int = 1,
        all_reduce: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
        step: int = 0,
    ) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.forward = forward
        self.optimizer = optimizer
        self.head_weight, self.label_smoothing = head_weight, label_smoothing
        self.clip_norm = clip_norm
        self.micro_batch = micro_batch
        self.world_size = world_size
        self.all_reduce = all_reduce if all_reduce and world_size > 1 else (lambda tensor: tensor)
        self.seed, self.step = seed, step
        self.grad_norm: Tensor | None = None
        self.clipped_norm: Tensor | None = None
        self._backward = backward or (lambda loss, last: loss.backward())
        self._commit = commit or optimizer.step
        self._check = check
        self._losses: list[Tensor] = []

    # Gradients ------------------------------------------------------------------------------------------------------

    def backward(
        self,
        batch: PairBatch,
        objective: Callable[[Tensor], Tensor] | None = None,
        head: Callable[[Head], HeadPenalty | None] | None = None,
    ) -> Tensor:
        """Add the gradient of an objective over the pairs' losses to `.grad`, over all micro-batches and ranks.

        In micro-batches, an objective that is not the plain mean takes one more forward pass, without gradients: its
        derivative by each pair's loss must be known before the first of them is back-propagated.

        Args:
            batch: utterances of one or more pairs.
            objective: maps the pairs' losses (P,) to a scalar, called once; None is their mean.
            head: returns a term to add, from the output projection of the whole batch; called once.

        Returns:
            The pairs' losses (P,) over all ranks, without graph.
        """
        slices = _micro_slices(len(batch), self.micro_batch)
        normaliser_P = self._tokens_per_rank(batch)
        if len(slices) == 1:
            out = self._through_model(batch, head)
            losses_P = _pair_losses(out.losses_BU, batch, batch, normaliser_P)
            values_P = self._mean_over_ranks(losses_P.detach())
            loss = (_derivative(objective, values_P) * losses_P).sum()
            penalty = head(self._head([out], batch, normaliser_P)) if head else None
            self._backward(with_penalty(loss, penalty, out, slices[0]), True)
            self._losses.append(values_P)
            return values_P
        survey = self._survey(batch, slices, normaliser_P, head) if objective or head else None
        weights_P = _derivative(objective, survey[1] if survey else torch.zeros_like(normaliser_P))
        penalty = head(self._head(survey[0], batch, normaliser_P)) if survey and head else None
        del survey
        sums_P = torch.zeros_like(normaliser_P)
        for rows in slices:
            part = batch[rows]
            out = self._through_model(part, penalty)
            losses_P = _pair_losses(out.losses_BU, part, batch, normaliser_P)
            sums_P += losses_P.detach()
            loss = with_penalty((weights_P * losses_P).sum(), penalty, out, rows)
            self._backward(loss, rows is slices[-1])
        self._losses.append(self._mean_over_ranks(sums_P))
        return self._losses[-1]

    def take_gradients(self) -> Gradients:
        """Move the gradients out of the parameters; zeros where one has none."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        return gradients

    def put_gradients(self, gradients: Gradients) -> None:
        """Set the gradients for the next optimizer step."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient

    def clip(self) -> None:
        """Check the gradients, scale them down to `clip_norm`, and note their norm before and after."""
        limit = float("inf") if self.clip_norm is None else self.clip_norm
        self.grad_norm = whole(nn.utils.clip_grad_norm_(self.parameters, limit))
        if self._check:
            self._check(torch.cat(self._losses), self.grad_norm)
        self.clipped_norm = self.grad_norm * (limit / (self.grad_norm + 1e-6)).clamp(max=1.0)  # torch's formula

    # Weights --------------------------------------------------------------------------------------------------------

    def inner_step(self) -> None:
        """Clip, step the raw optimizer and clear the gradients: a step that does not end the batch."""
        self.clip()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def optimizer_step(self) -> None:
        """Clip, then `commit`."""
        self.clip()
        self.commit()

    def commit(self) -> None:
        """Take the step that ends the batch with the present gradients, then clear them."""
        self._commit()
        self.optimizer.zero_grad(set_to_none=True)

    def reset_optimizer(self) -> None:
        """Clear the optimizer's moments; schedules and checkpoints keep their reference to it."""
        self.optimizer.state.clear()

    def snapshot(self) -> list[Tensor]:
        """Return a copy of the trainable parameters."""
        return [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def restore(self, snapshot: list[Tensor]) -> None:
        """Copy a snapshot into the parameters."""
        for parameter, saved in zip(self.parameters, snapshot, strict=True):
            parameter.copy_(saved)

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a generator seeded by (seed, step): the same on every rank, and after resuming."""
        digest = hashlib.sha256(f"{self.seed}:{self.step}".encode()).digest()
        return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    # Inside ---------------------------------------------------------------------------------------------------------

    def _tokens_per_rank(self, batch: PairBatch) -> Tensor:
        """Label tokens of each pair (P,), averaged over ranks: DDP averages gradients, so sums over it become means."""
        labelled_BU = batch.labels_BU != IGNORED_LABEL
        tokens_P = torch.stack([labelled_BU[rows].sum() for rows in batch.pair_slices().values()])
        return self._mean_over_ranks(tokens_P.to(self.parameters[0].dtype)).clamp(min=1 / self.world_size)

    def _mean_over_ranks(self, tensor: Tensor) -> Tensor:
        return self.all_reduce(tensor.clone()) / self.world_size

    def _through_model(self, batch: PairBatch, head: object | None) -> Forward:
        return self.forward(batch) if head is None else self.forward(batch, with_logits=True)

    def _head(self, outs: list[Forward], batch: PairBatch, normaliser_P: Tensor) -> Head:
        return head_of(outs, batch, normaliser_P, self.head_weight, self.label_smoothing)

    @torch.no_grad()
    def _survey(
        self, batch: PairBatch, slices: list[slice], normaliser_P: Tensor, head: object | None
    ) -> tuple[list[Forward], Tensor]:
        outs = [self._through_model(batch[rows], head) for rows in slices]
        local = [
            _pair_losses(out.losses_BU, batch[r], batch, normaliser_P) for out, r in zip(outs, slices, strict=True)
        ]
        return outs, self._mean_over_ranks(torch.stack(local).sum(0))


def _pair_losses(losses_BU: Tensor, part: PairBatch, batch: PairBatch, normaliser_P: Tensor) -> Tensor:
    """What `part` adds to each pair's loss (P,), in the order of `batch`."""
    slices = part.pair_slices()
    zero = losses_BU.new_zeros(())
    sums = [losses_BU[slices[pair]].sum() if pair in slices else zero for pair in batch.pair_slices()]
    return torch.stack(sums) / normaliser_P


def _derivative(objective: Callable[[Tensor], Tensor] | None, values_P: Tensor) -> Tensor:
    if objective is None:
        return torch.full_like(values_P, 1 / len(values_P))
    with torch.enable_grad():
        leaf_P = values_P.detach().requires_grad_()
        return torch.autograd.grad(objective(leaf_P), leaf_P)[0]


def _micro_slices(length: int, size: int | None) -> list[slice]:
    size = size or length
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
