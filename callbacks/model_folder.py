"""Leaves the model folder when training ends."""

from __future__ import annotations

from pathlib import Path

import lightning as L

from lightning_modules.export import write_model_folder
from lightning_modules.whisper import WhisperModule


class ModelFolder(L.Callback):
    """Writes `<run>/model` after the last step: what everything downstream reads.

    Lightning calls `on_fit_end` also where a run resumes from its last step's checkpoint, `on_train_end` does not come.
    """

    def on_fit_end(self, trainer: L.Trainer, pl_module: WhisperModule) -> None:
        """Exports, on the first rank alone."""
        if trainer.global_step >= trainer.max_steps and trainer.is_global_zero:
            write_model_folder(Path(trainer.default_root_dir) / "model", pl_module.model, pl_module.processor)
