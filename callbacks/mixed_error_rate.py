"""The mixed error rate as a metric to log during training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from scoring.edit_alignment import Counts
from scoring.metrics import score

_COUNTS = ("hits", "substitutions", "deletions", "insertions")


class MixedErrorRate(Metric):
    """Pooled mixed error rate over all utterances seen, on all ranks.

    The states are int64 counts summed over ranks, so the value does not depend on how the utterances were divided.
    A fraction; NaN before the first update.

    Example:
        >>> metric = MixedErrorRate()
        >>> metric.update(hypotheses=["이번 projekt는"], references=["이번 project는"])
        >>> metric.compute()
        tensor(0.2500, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    hits: Tensor
    substitutions: Tensor
    deletions: Tensor
    insertions: Tensor

    def __init__(self, profile: str = "cjk", **options: Any) -> None:
        super().__init__(**options)
        self.profile = profile
        for name in _COUNTS:
            self.add_state(name, default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, hypotheses: Sequence[str], references: Sequence[str]) -> None:
        """Adds utterances.

        Raises:
            UserError: where the profile is unknown, the lists' lengths differ, or a reference holds no token.
        """
        counts = score(references, hypotheses, self.profile).counts
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(counts, name))

    def compute(self) -> Tensor:
        """Returns errors over reference tokens, a float64 scalar."""
        counts = self.counts
        return torch.tensor(float("nan") if counts.rate is None else counts.rate, dtype=torch.float64)

    @property
    def counts(self) -> Counts:
        """The integers behind the rate; of this rank alone until the metric is synchronised."""
        return Counts(*(int(getattr(self, name)) for name in _COUNTS))
