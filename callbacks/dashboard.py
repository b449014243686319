"""What a dashboard shows besides curves: the resolved configuration, predictions, and the model itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import wandb
from lightning.pytorch.loggers import WandbLogger

from callbacks.development import Development
from common.audio import SAMPLE_RATE_HZ, load_waveform
from common.errors import in_range
from common.escape import html
from common.printing import warn
from common.trust import audio_outside
from scoring.edit_alignment import HIT, align
from scoring.tokens import get_profile

COLUMNS = ["step", "pair", "id", "audio", "reference", "hypothesis", "errors", "error rate, %"]
_COLOURS = {"S": "#b45309", "D": "#6d4fc4", "I": "#0b7570"}  # legible on white and on black


@dataclass(eq=False)
class Dashboard(L.Callback):
    """Logs the configuration, a table of predictions after each evaluation on development sets, and the model folder.

    Only wandb shows tables and keeps models; any logger keeps the configuration.

    Args:
        predictions: utterances of each development set that the table shows, with their sound; 0 logs no table.
        model: keep the model folder with the run, as an artifact.
    """

    predictions: int = 8
    model: bool = True

    def __post_init__(self) -> None:
        in_range("dashboard.predictions", self.predictions, 0)
        self.name, self.config = "run", dict[str, Any]()
        self.development = Development()
        self._logged = 0

    def of_run(self, name: str, config: Mapping[str, Any], development: Development) -> Dashboard:
        """Sets what this callback logs.

        Args:
            name: the run's.
            config: its resolved configuration.
            development: what transcribes its development sets.
        """
        self.name, self.config, self.development = name, dict(config), development
        return self

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the configuration, and the predictions of an evaluation that was due when the run was stopped.

        Prints why there will be no predictions without development sets.
        """
        for logger in trainer.loggers:
            logger.log_hyperparams(self.config)
        if self.predictions and not self.development.manifests and _wandb_run(trainer):
            pl_module.print("wandb: no predictions: they are of development sets, and development.manifests names none")
        self._log_predictions(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Logs new predictions."""
        self._log_predictions(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the model folder."""
        folder = Path(trainer.default_root_dir) / "model"
        run = _wandb_run(trainer)
        if run and self.model and (folder / "config.json").is_file():
            artifact = wandb.Artifact(f"{self.name}-model", type="model", metadata={"step": trainer.global_step})
            artifact.add_dir(str(folder), policy="immutable", skip_cache=True)  # no copy of gigabytes
            run.log_artifact(artifact)

    def _log_predictions(self, trainer: L.Trainer) -> None:
        rows = self.development.rows
        run = _wandb_run(trainer)
        if not (run and self.predictions and rows and self.development.texts) or rows[-1]["step"] == self._logged:
            return
        if not self._logged:
            self._say_outside()
        self._logged = rows[-1]["step"]
        table = wandb.Table(columns=COLUMNS)
        shown: Counter[str] = Counter()
        for utterance, text in zip(self.development.chosen, self.development.texts, strict=True):
            shown[utterance.pair] += 1
            if shown[utterance.pair] <= self.predictions:
                waveform_S = load_waveform(utterance.audio, utterance.offset, utterance.duration)
                audio = wandb.Audio(waveform_S.numpy(), sample_rate=SAMPLE_RATE_HZ)
                errors, rate = coloured(utterance.text, text)
                cells = (utterance.pair, utterance.id, audio, utterance.text, text)
                table.add_data(self._logged, *cells, wandb.Html(errors, inject=False), round(rate, 1))
        run.log({"predictions": table, "trainer/global_step": trainer.global_step - 1})

    def _say_outside(self) -> None:
        for pair, manifest in self.development.manifests.items():
            folders = {utterance.audio.parent for utterance in self.development.chosen if utterance.pair == pair}
            if outside := audio_outside(manifest, folders):
                warn(f"wandb: predictions of {pair} hold sound from {outside}; dashboard.predictions 0 leaves them out")


def coloured(reference: str, hypothesis: str) -> tuple[str, float]:
    """The alignment as HTML, and the error rate in per cent.

    Reference tokens that are missing are struck through; substitutions, deletions and insertions have a colour each.
    """
    profile = get_profile("cjk")
    alignment = align(profile.reference(reference), profile.hypothesis(hypothesis))
    words = []
    for operation, i, j in alignment.steps():
        missing = "" if i is None else html(alignment.reference[i])
        found = "" if j is None else html(alignment.hypothesis[j])
        if operation == HIT:
            words.append(found)
            continue
        errors = " ".join(filter(None, [missing and f"<s>{missing}</s>", found]))
        style = f"color:{_COLOURS[operation]};background:{_COLOURS[operation]}1f;border-radius:4px;padding:0 3px"
        words.append(f'<b style="{style}">{errors}</b>')
    style = "font:15px/1.6 system-ui,sans-serif;background:#fff;color:#1b1f27;padding:4px"
    return f'<div style="{style}">{" ".join(words)}</div>', 100 * (alignment.counts.rate or 0.0)


def _wandb_run(trainer: L.Trainer) -> Any:
    """The wandb run, on the first rank alone; None without one."""
    if not trainer.is_global_zero:
        return None
    return next((logger.experiment for logger in trainer.loggers if isinstance(logger, WandbLogger)), None)
