"""What an algorithm may do in one step: back-propagate, keep gradients, move weights.

Shape suffixes: B utterances, U label tokens, P pairs.
"""

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from backbone.loss import IGNORED_LABEL, Losses
from lightning_modules.algorithms.forward import Head, HeadPenalty, PairBatch, head_of, with_penalty
from lightning_modules.algorithms.sharded import whole

Gradients = list[Tensor]


@dataclass(eq=False)
class StepContext:
    """One training step's view of model, optimizer and other ranks.

    A pair's loss is the mean over its tokens on all ranks, so that ranks and micro-batches of unequal length add up to
    the whole batch exactly.

    Args:
        parameters: the model's, each storage once (`named_parameters()` order); only trainable ones are kept.
        forward: maps a batch to its token losses, and with `with_logits=True` to logits and hidden states as well.
        optimizer: the raw optimizer.
        head_weight: the output projection's weight, for algorithms that look at it.
        label_smoothing: of the losses, for algorithms that work with their closed form.
        back_propagate: how to back-propagate a loss; its second argument is False where more micro-batches follow, so
            that ranks need not exchange gradients yet.
        last_step: the step that ends the batch; Lightning's wrapped step, or the raw optimizer's.
        check: gets all pairs' losses of the step so far and the gradient's norm before an update; raises to prevent it.
        clip_norm: total gradient norm above which gradients are scaled down; None leaves them.
        micro_batch: most utterances that go through the model at once; None takes a batch whole.
        world_size, all_reduce: number of ranks, and the sum of a tensor over them.
        seed: with `step`, seeds the random draws of this step.
        step: updates made so far; skipped steps do not count.
    """

    parameters: Iterable[nn.Parameter]
    forward: Callable[..., Losses]
    optimizer: torch.optim.Optimizer
    head_weight: nn.Parameter | None = None
    label_smoothing: float = 0.0
    back_propagate: Callable[[Tensor, bool], Any] = lambda loss, last: loss.backward()
    last_step: Callable[[], Any] | None = None
    check: Callable[[Tensor, Tensor], Any] | None = None
    clip_norm: float | None = None
    micro_batch: int | None = None
    world_size: int = 1
    all_reduce: Callable[[Tensor], Tensor] = lambda tensor: tensor
    seed: int = 0
    step: int = 0
    grad_norm: Tensor | None = field(default=None, init=False)
    clipped_norm: Tensor | None = field(default=None, init=False)
    _losses: list[Tensor] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.parameters = [parameter for parameter in self.parameters if parameter.requires_grad]

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
        size = self.micro_batch or len(batch)
        slices = [slice(start, min(start + size, len(batch))) for start in range(0, len(batch), size)]
        is_whole, normaliser_P = len(slices) == 1, self._tokens_per_rank(batch)
        passes, values_P, penalty = [], torch.zeros_like(normaliser_P), None
        if is_whole or objective or head:
            with torch.set_grad_enabled(is_whole):
                passes = [self._pass(batch, batch[rows], normaliser_P, head) for rows in slices]
            values_P = self._mean_over_ranks(sum(losses_P.detach() for _, losses_P in passes))
            outs = [out for out, _ in passes]
            penalty = head(head_of(outs, batch, normaliser_P, self.head_weight, self.label_smoothing)) if head else None
            del outs
        passes = passes if is_whole else []
        weights_P = _derivative(objective, values_P)
        sums_P = torch.zeros_like(normaliser_P)
        for rows in slices:
            out, losses_P = passes.pop() if is_whole else self._pass(batch, batch[rows], normaliser_P, penalty)
            sums_P += losses_P.detach()
            loss = with_penalty((weights_P * losses_P).sum(), penalty, out, rows)
            self.back_propagate(loss, rows is slices[-1])
        self._losses.append(values_P if is_whole else self._mean_over_ranks(sums_P))
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
        limit = math.inf if self.clip_norm is None else self.clip_norm
        self.grad_norm = whole(nn.utils.clip_grad_norm_(self.parameters, limit))
        if self.check:
            self.check(torch.cat(self._losses), self.grad_norm)
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
        (self.last_step or self.optimizer.step)()
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

    def _pass(
        self, batch: PairBatch, part: PairBatch, normaliser_P: Tensor, head: object | None
    ) -> tuple[Losses, Tensor]:
        """A forward pass over a part of the batch, and what it adds to each pair's loss (P,)."""
        out = self.forward(part, with_logits=head is not None)
        slices, zero = part.pair_slices(), out.losses_BU.new_zeros(())
        sums = [out.losses_BU[slices[pair]].sum() if pair in slices else zero for pair in batch.pair_slices()]
        return out, torch.stack(sums) / normaliser_P


def _derivative(objective: Callable[[Tensor], Tensor] | None, values_P: Tensor) -> Tensor:
    if objective is None:
        return torch.full_like(values_P, 1 / len(values_P))
    with torch.enable_grad():
        leaf_P = values_P.detach().requires_grad_()
        return torch.autograd.grad(objective(leaf_P), leaf_P)[0]
