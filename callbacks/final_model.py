"""Writes the model folder when training ends."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from backbone.lora import merged
from backbone.model_folder.training_card import Recipe, training_card
from backbone.model_folder.write import write_model_folder
from callbacks.development import MEAN, Development
from callbacks.run_record import corpora_of
from lightning_modules.ranks import check_replicas
from lightning_modules.whisper import WhisperModule


@dataclass(eq=False)
class FinalModel(L.Callback):
    """Writes `<run>/model` after the last step, or where development ended training: what everything downstream reads.

    Lightning also calls `on_fit_end`, but not `on_train_end`, where a run resumes from its last step's checkpoint.

    Args:
        development: what may end training early.
        name: the run's, for the model card.
    """

    development: Development = field(default_factory=Development)
    name: str = "CrossPair"

    def on_train_end(self, trainer: L.Trainer, pl_module: WhisperModule) -> None:
        """Makes sure that all ranks have trained the same model."""
        check_replicas(pl_module.model)

    def on_fit_end(self, trainer: L.Trainer, pl_module: WhisperModule) -> None:
        """Exports, on the first rank alone."""
        if self.development.is_over(trainer):
            # Every rank takes part where each has a part of the weights.
            whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
            weights = get_model_state_dict(pl_module.model, options=whole)
            if trainer.is_global_zero:
                folder = Path(trainer.default_root_dir) / "model"
                weights = merged(weights, pl_module.model)
                pl_module.model.config.use_cache = True  # which training has no use for
                card = {"README.md": training_card(self._recipe(trainer, pl_module))}
                write_model_folder(folder, pl_module.model, pl_module.processor, weights=weights, extra=card)

    def _recipe(self, trainer: L.Trainer, module: WhisperModule) -> Recipe:
        data = trainer.datamodule
        method = type(module.algorithm).__name__
        own = {name: value for name, value in vars(module.algorithm).items() if not name.startswith("_")}
        settings: dict[str, Any] = {
            "algorithm": method,
            **{k: v for k, v in own.items() if isinstance(v, str | int | float) and k != "training"},
            "steps": trainer.global_step,
            "utterances a step": sum(data.utterances_per_pair.values()) * trainer.world_size,
            "learning rate": module.learning_rate,
            "weight decay": module.weight_decay,
            "precision": str(trainer.precision),
            "language tag": data.language,
            "seed": module.seed,
        }
        if module.lora:
            settings["LoRA"] = f"rank {module.lora.rank} at {', '.join(module.lora.targets)}, merged into the weights"
        if module.frozen:
            settings["frozen"] = ", ".join(module.frozen)
        return Recipe(self.name, module.backbone, method, corpora_of(data), settings, self._notes())

    def _notes(self) -> list[str]:
        best = self.development.best_row
        if best is None or not (self.development.best or self.development.has_stopped):
            return []
        chosen = "the weights are those" if self.development.best else "training ended after the lowest, which was"
        return [
            f"Chosen on development sets of {', '.join(self.development.manifests)}: {chosen} of step "
            f"{best['step']:g}, with a mean mixed error rate of {100 * best[MEAN]:.1f} %."
        ]
