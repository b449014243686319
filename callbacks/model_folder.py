"""Leaves the model folder when training ends."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from callbacks.development import Development
from lightning_modules.export import write_model_folder
from lightning_modules.lora import merged
from lightning_modules.ranks import check_replicas
from lightning_modules.whisper import WhisperModule


class ModelFolder(L.Callback):
    """Writes `<run>/model` after the last step, or where development ended training: what everything downstream reads.

    Lightning calls `on_fit_end` also where a run resumes from its last step's checkpoint, `on_train_end` does not come.

    Args:
        development: what may end training early.
    """

    def __init__(self, development: Development | None = None) -> None:
        self.development = development or Development()

    def on_train_end(self, trainer: L.Trainer, pl_module: WhisperModule) -> None:
        """Makes sure that all ranks have trained the same model."""
        check_replicas(pl_module.model)

    def on_fit_end(self, trainer: L.Trainer, pl_module: WhisperModule) -> None:
        """Exports, on the first rank alone."""
        if trainer.global_step >= trainer.max_steps or self.development.has_stopped:
            # Every rank takes part where each has a part of the weights.
            whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
            weights = get_model_state_dict(pl_module.model, options=whole)
            if trainer.is_global_zero:
                folder = Path(trainer.default_root_dir) / "model"
                weights = merged(weights, pl_module.model)
                pl_module.model.config.use_cache = True  # which training has no use for
                write_model_folder(folder, pl_module.model, pl_module.processor, weights=weights)
