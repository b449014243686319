"""GGA: in a few early steps, a random search around the weights for a point where the pairs' gradients agree.

Aristotelis Ballas and Christos Diou, "Gradient-Guided Annealing for Domain Generalization", CVPR 2025, and its released
code; see docs/algorithms/gga.md for where the two differ.
"""

from typing import Literal

import torch

from common.errors import in_range
from lightning_modules.algorithms.algorithm import Algorithm, Figures, Needs, erm_step
from lightning_modules.algorithms.context import StepContext
from lightning_modules.algorithms.forward import PairBatch
from lightning_modules.algorithms.gradients import cosines, gram_matrix, pair_gradients


class GGA(Algorithm):
    """ERM; before the steps of a window the weights move to the best of `trials` random neighbours.

    A neighbour is better where the least cosine between two pairs' gradients is larger and the loss is at most
    `tolerance` above the best one's.

    Args:
        rho: neighbours lie within theta + U(-rho, rho), in units of each tensor's root mean square where `relative`.
        first_step, last_step: the window, both ends in it, counted from 0.
        trials: neighbours a step.
        tolerance: how much loss a better agreement may cost.
        relative: scale rho by each tensor's root mean square; published is False.
        reset: where a trial begins; `best`: the best point so far (the paper's text); `code`: the last trial, and
            after a success the point of departure (the released code).
    """

    strength = "rho"
    needs_float32 = True  # neighbours at the default rho are nearer than bfloat16 can tell apart

    def __init__(
        self,
        rho: float = 1e-3,
        first_step: int = 4,
        last_step: int = 7,
        trials: int = 250,
        tolerance: float = 0.1,
        relative: bool = True,
        reset: Literal["best", "code"] = "best",
    ) -> None:
        super().__init__()
        self.rho = in_range("GGA: rho", rho, 0)
        self.first_step = in_range("GGA: first_step", first_step, 0)
        self.last_step = in_range("GGA: last_step", last_step, first_step)
        self.trials = in_range("GGA: trials", trials, 1, 100_000)
        self.tolerance = in_range("GGA: tolerance", tolerance, 0)
        self.relative, self.reset = relative, reset

    def needs(self, pairs: int) -> Needs:
        """Outside the window ERM's cost; memory is that of the window."""
        note = f"steps {self.first_step} to {self.last_step} take {self.trials + 2} x"
        return Needs(min_pairs=2, parameter_copies=pairs + 2, note=note)

    def step(self, context: StepContext, batch: PairBatch) -> Figures:
        """Searches if this step lies in the window; then ERM's step from the best point, on the same batch."""
        figures: Figures = {}
        if self.rho and self.first_step <= context.step <= self.last_step:
            figures = self._search(context, batch)
        return erm_step(context, batch) | figures

    def _search(self, context: StepContext, batch: PairBatch) -> Figures:
        start = context.snapshot()
        radii = [self.rho * (float(p.square().mean().sqrt()) if self.relative else 1.0) for p in start]
        generator = context.generator(context.parameters[0].device)
        first = best = _score(context, batch)
        best_point = start
        for _ in range(self.trials):
            self._perturb(context, radii, generator)
            agreement, loss = _score(context, batch)
            is_better = agreement > best[0] and loss - best[1] < self.tolerance
            if is_better:
                best, best_point = (agreement, loss), context.snapshot()
            if self.reset == "best" and not is_better:
                context.restore(best_point)
            if self.reset == "code" and is_better:
                context.restore(start)
        context.restore(best_point)
        return {"gga/agreement_before": first[0], "gga/agreement_after": best[0]}

    @torch.no_grad()
    def _perturb(self, context: StepContext, radii: list[float], generator: torch.Generator) -> None:
        for parameter, radius in zip(context.parameters, radii, strict=True):
            if parameter is not context.head_weight:  # the published search leaves the classifier alone
                uniform = torch.empty_like(parameter).uniform_(-1, 1, generator=generator)
                parameter.add_(uniform, alpha=radius)


def _score(context: StepContext, batch: PairBatch) -> tuple[float, float]:
    """The least cosine between two pairs' gradients, and the mean of the pairs' losses."""
    losses_P, gradients = pair_gradients(context, batch)
    return float(cosines(gram_matrix(gradients)).min()), float(losses_P.mean())
