"""Models of a few parameters in float64, with batches and contexts as in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbone.loss import IGNORED_LABEL, Losses
from datamodules.batch import SpeechBatch
from lightning_modules.algorithms.context import StepContext


def speech_batch(pairs: list[str], decoder_inputs_BU: Tensor, labels_BU: Tensor) -> SpeechBatch:
    rows = len(pairs)
    ids = [f"{pair}-{row}" for row, pair in enumerate(pairs)]
    return SpeechBatch(ids, pairs, torch.zeros(rows, 1), torch.ones(rows).long(), decoder_inputs_BU, labels_BU)


class Quadratics(nn.Module):
    """The loss of pair p is 1/2 (theta - centre_p)^T curvature_p (theta - centre_p): gradients can be had by hand."""

    def __init__(self, theta: list[float], centres: dict[str, list[float]], curvatures: dict[str, Any] | None = None):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))
        self.centres = {pair: torch.tensor(centre, dtype=torch.float64) for pair, centre in centres.items()}
        identity = torch.eye(len(theta), dtype=torch.float64)
        given = {pair: torch.tensor(c, dtype=torch.float64) for pair, c in (curvatures or {}).items()}
        self.curvatures = {pair: given.get(pair, identity) for pair in centres}

    def loss(self, pair: str) -> Tensor:
        away = self.theta - self.centres[pair]
        return away @ self.curvatures[pair] @ away / 2

    def gradient(self, pair: str, theta: Tensor) -> Tensor:
        return self.curvatures[pair] @ (theta - self.centres[pair])

    def forward(self, batch: SpeechBatch, *, with_logits: bool = False) -> Losses:
        return Losses(torch.stack([self.loss(pair) for pair in batch.pairs])[:, None])

    def batch(self) -> SpeechBatch:
        zeros = torch.zeros(len(self.centres), 1, dtype=torch.long)
        return speech_batch(list(self.centres), zeros, zeros)


class TinyDecoder(nn.Module):
    """Embedding, one tanh layer, and the output projection tied to the embedding."""

    def __init__(self, vocabulary: int = 11, width: int = 4, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight_VD = nn.Parameter(torch.randn(vocabulary, width, generator=generator, dtype=torch.float64))
        self.mixer_DD = nn.Parameter(torch.randn(width, width, generator=generator, dtype=torch.float64))

    def forward(self, batch: SpeechBatch, *, with_logits: bool = False) -> Losses:
        hidden_BUD = torch.tanh(self.weight_VD[batch.decoder_inputs_BU] @ self.mixer_DD)
        logits_BUV = hidden_BUD @ self.weight_VD.T
        losses = functional.cross_entropy(logits_BUV.transpose(1, 2), batch.labels_BU, reduction="none")
        return Losses(losses, logits_BUV, hidden_BUD)


def token_batch(
    sizes: dict[str, int] | None = None, vocabulary: int = 11, length: int = 6, seed: int = 1
) -> SpeechBatch:
    """Random tokens: a prompt of one, and utterances of unequal length."""
    sizes = sizes or {"ko-en": 3, "ja-en": 2, "de-en": 4}
    generator = torch.Generator().manual_seed(seed)
    rows = sum(sizes.values())
    tokens_BU = torch.randint(vocabulary, (rows, length + 1), generator=generator)
    labels_BU = tokens_BU[:, 1:].clone()
    labels_BU[:, 0] = IGNORED_LABEL
    for row in range(rows):
        labels_BU[row, 2 + row % (length - 1) :] = IGNORED_LABEL
    return speech_batch([pair for pair, size in sizes.items() for _ in range(size)], tokens_BU[:, :-1], labels_BU)


def context(model: nn.Module, optimizer: torch.optim.Optimizer | None = None, **options: Any) -> StepContext:
    """A step's context; SGD with a rate of 1 where no optimizer is given."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=1.0)
    head_weight = getattr(model, "weight_VD", None)
    return StepContext(model.parameters(), model, optimizer, **({"head_weight": head_weight} | options))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.5),
    "adam": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
}
