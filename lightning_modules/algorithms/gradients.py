"""Algorithms that are weights over the pairs' gradients, from their Gram matrix, plus noise.

Shape suffixes: P pairs.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from lightning_modules.algorithms.algorithm import Algorithm, Figures, Needs, loss_figures
from lightning_modules.algorithms.context import Gradients, StepContext
from lightning_modules.algorithms.forward import PairBatch
from lightning_modules.algorithms.sharded import drawn_normal, own_part, sum_of_parts


class GradientAlgorithm(Algorithm):
    """An algorithm that combines the pairs' gradients; each pair is back-propagated by itself.

    `skip_zero_gradients` restricts the noise to elements whose gradient is not 0.
    """

    skip_zero_gradients = False

    def needs(self, pairs: int) -> Needs:
        """Keeps every pair's gradient until the last is there."""
        return Needs(min_pairs=2, parameter_copies=pairs - 1)

    @abstractmethod
    def weights(self, context: StepContext, gram_PP: Tensor) -> Tensor:
        """What each pair's gradient counts (P,), from their inner products (P, P); both float64 on the CPU."""

    def noise_std(self, gram_PP: Tensor, gradient_rms: float) -> float:
        """Standard deviation of the noise to add to the clipped gradient.

        Args:
            gram_PP: inner products of the pairs' gradients.
            gradient_rms: root mean square of the clipped gradient's elements that get noise.
        """
        return 0.0

    def step(self, context: StepContext, batch: PairBatch) -> Figures:
        """One backward pass a pair; the weighted sum is clipped, then noise is added."""
        losses_P, gradients = pair_gradients(context, batch)
        gram_PP = gram_matrix(gradients)
        context.put_gradients(weighted_sum(gradients, self.weights(context, gram_PP)))
        context.clip()
        size = self._noisy_elements(context)
        norm = float(context.clipped_norm)
        std = self.noise_std(gram_PP, norm / max(1, size) ** 0.5)
        add_noise(context, std, skip_zero_gradients=self.skip_zero_gradients)
        context.commit()
        return loss_figures(batch, losses_P) | {
            "cosine": mean_cosine(gram_PP),
            "noise_to_gradient": std * size**0.5 / norm if norm else 0.0,
        }

    def _noisy_elements(self, context: StepContext) -> int:
        if not self.skip_zero_gradients:
            return sum(parameter.numel() for parameter in context.parameters)
        gradients = [parameter.grad for parameter in context.parameters]
        counts = torch.stack([own_part(gradient).count_nonzero() for gradient in gradients])
        return int(sum_of_parts(counts.sum(), like=gradients[0]))


def pair_gradients(context: StepContext, batch: PairBatch) -> tuple[Tensor, list[Gradients]]:
    """The pairs' losses (P,) and, one after the other, their whole gradients."""
    losses, gradients = [], []
    for part in batch.by_pair().values():
        losses.append(context.backward(part))
        gradients.append(context.take_gradients())
    return torch.cat(losses), gradients


@torch.no_grad()
def gram_matrix(gradients: list[Gradients]) -> Tensor:
    """Inner products of the pairs' gradients (P, P) over all parameters: float64 on the CPU, summed there."""
    pairs = len(gradients)
    rows, columns = torch.triu_indices(pairs, pairs)
    products = [
        torch.stack([torch.dot(tensors[i].flatten(), tensors[j].flatten()) for i, j in zip(rows, columns, strict=True)])
        for tensors in zip(*([own_part(tensor) for tensor in pair] for pair in gradients), strict=True)
    ]
    gram_PP = torch.zeros(pairs, pairs, dtype=torch.float64)
    total = sum_of_parts(torch.stack(products).cpu().double().sum(0), like=gradients[0][0])
    gram_PP[rows, columns] = gram_PP[columns, rows] = total
    return gram_PP


def cosines(gram_PP: Tensor) -> Tensor:
    """Cosines between each two different pairs' gradients; 0 beside a gradient that is 0."""
    rows, columns = torch.triu_indices(*gram_PP.shape, offset=1)
    squares_P = gram_PP.diagonal()
    norms = (squares_P[rows] * squares_P[columns]).sqrt()
    return torch.where(norms > 0, gram_PP[rows, columns] / norms, 0.0)


def mean_cosine(gram_PP: Tensor) -> float:
    """The mean cosine over all combinations of two pairs."""
    return float(cosines(gram_PP).mean())


@torch.no_grad()
def weighted_sum(gradients: list[Gradients], weights_P: Tensor) -> Gradients:
    """The combined gradient, which overwrites the last pair's."""
    *others, total = gradients
    for gradient in total:
        gradient.mul_(float(weights_P[-1]))
    for pair, weight in zip(others, weights_P.tolist(), strict=False):
        for gradient, other in zip(total, pair, strict=True):
            gradient.add_(other, alpha=weight)
    return total


@torch.no_grad()
def add_noise(context: StepContext, std: float, *, skip_zero_gradients: bool = False) -> None:
    """Add N(0, std²) to the gradients, the same on every rank and after resuming.

    Args:
        context: of the step.
        std: standard deviation of the noise.
        skip_zero_gradients: leave out elements whose gradient is 0.
    """
    if std == 0:
        return
    generator = context.generator(context.parameters[0].device)
    for parameter in context.parameters:
        noise = drawn_normal(parameter, generator)
        if skip_zero_gradients:
            noise *= parameter.grad != 0
        parameter.grad.add_(noise, alpha=std)
