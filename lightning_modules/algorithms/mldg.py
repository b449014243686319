"""MLDG, first order: the gradient on some pairs, plus that on held-out pairs after a virtual step.

Da Li et al., "Learning to Generalize: Meta-Learning for Domain Generalization", AAAI 2018, algorithm 1, without second
derivatives and with DomainBed's inner optimizer.
"""

import torch

from common.errors import in_range
from lightning_modules.algorithms.algorithm import Algorithm, Figures, Needs, loss_figures
from lightning_modules.algorithms.context import StepContext
from lightning_modules.algorithms.forward import PairBatch


class MLDG(Algorithm):
    """grad F(theta) + beta grad G(theta'), F the mean loss of the training pairs, G of the held-out ones.

    theta' is a fresh Adam's first step on F: lr * g / (|g| + 1e-8) for each weight, at the present learning rate.

    Args:
        beta: weight of the held-out pairs' gradient.
        held_out: how many pairs are held out, others each step.
    """

    def __init__(self, beta: float = 1.0, held_out: int = 1) -> None:
        super().__init__()
        self.beta = in_range("MLDG: beta", beta, 0)
        self.held_out = in_range("MLDG: held_out", held_out, 1)

    def needs(self, pairs: int) -> Needs:
        """Each pair goes through once, the held-out ones after the virtual step."""
        return Needs(min_pairs=self.held_out + 1, parameter_copies=2)

    def step(self, context: StepContext, batch: PairBatch) -> Figures:
        """Gradient, virtual step, held-out gradient, then the real step from where it began."""
        parts = list(batch.by_pair().values())
        order = torch.randperm(len(parts), generator=context.generator()).tolist()
        held_out, training = order[: self.held_out], order[self.held_out :]
        losses = {pair: context.backward(parts[pair]) for pair in training}
        start, gradients = context.snapshot(), context.take_gradients()
        rate = context.optimizer.param_groups[0]["lr"]
        with torch.no_grad():
            for parameter, gradient in zip(context.parameters, gradients, strict=True):
                gradient.div_(len(training))
                parameter.addcdiv_(gradient, gradient.abs().add_(1e-8), value=-rate)
        losses |= {pair: context.backward(parts[pair]) for pair in held_out}
        context.restore(start)
        for total, gradient in zip(context.take_gradients(), gradients, strict=True):
            gradient.add_(total, alpha=self.beta / len(held_out))
        context.put_gradients(gradients)
        context.optimizer_step()
        return loss_figures(batch, torch.cat([losses[pair] for pair in range(len(parts))]))
