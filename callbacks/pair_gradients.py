"""Log the norm of each pair's gradient and the cosines between the pairs' gradients, whatever algorithm trains."""

from itertools import combinations

import lightning as L
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, distributed

from backbone.loss import IGNORED_LABEL
from common.errors import UserError, in_range
from datamodules.batch import SpeechBatch
from lightning_modules.whisper import WhisperModule


class PairGradients(L.Callback):
    """Logs `pair_gradient_norm/<pair>` and `pair_gradient_cosine/<pair>,<pair>` every few steps.

    A measurement runs one more forward and backward pass of each pair, before the step, and holds the gradients of all
    pairs in memory; training is not changed by it.

    Args:
        every_n_steps: steps between two measurements; null makes none.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None:
            in_range("pair_gradients.every_n_steps", every_n_steps, 1)
        self.every_n_steps = every_n_steps

    def on_train_start(self, trainer: L.Trainer, pl_module: WhisperModule) -> None:
        """Refuse a model without whole gradients."""
        if self.every_n_steps and isinstance(trainer.strategy, ModelParallelStrategy):
            raise UserError("pair_gradients: a model divided by fsdp has no whole gradients to compare; choose ddp")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: WhisperModule, batch: SpeechBatch, batch_idx: int
    ) -> None:
        """Measure every `every_n_steps` steps."""
        if not self.every_n_steps or trainer.global_step % self.every_n_steps:
            return
        parts = batch.by_pair().items()
        gradients = {pair: pair_gradient(pl_module, part, trainer.world_size) for pair, part in parts}
        figures = {f"pair_gradient_norm/{pair}": gradient.norm() for pair, gradient in gradients.items()}
        for one, two in combinations(gradients, 2):
            cosine = torch.nn.functional.cosine_similarity(gradients[one], gradients[two], dim=0)
            figures[f"pair_gradient_cosine/{one},{two}"] = cosine
        for logger in trainer.loggers:  # Lightning's own `log` would repeat them at the steps between
            logger.log_metrics({name: float(figure) for name, figure in figures.items()}, trainer.global_step)


def pair_gradient(module: WhisperModule, part: SpeechBatch, world_size: int = 1) -> Tensor:
    """Return the gradient of a pair's loss, the mean over its tokens on all ranks, as one vector.

    Args:
        module: the model; all its trainable parameters count.
        part: the pair's utterances.
        world_size: ranks to average over.
    """
    parameters = [parameter for parameter in module.model.parameters() if parameter.requires_grad]
    total = module.token_losses(part).losses_BU.sum()
    # By `grad`, not `backward`, which would change the parameters' own gradients and start DDP's exchange of them.
    parts = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    gradient = torch.cat([gradient.flatten() for gradient in parts])
    tokens = (part.labels_BU != IGNORED_LABEL).sum().to(gradient.dtype)
    if world_size > 1:
        distributed.all_reduce(gradient)
        distributed.all_reduce(tokens)
    return gradient / tokens.clamp(min=1)
