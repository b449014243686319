"""The mixed error rate on development sets while training; early stopping and the choice of weights by it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from backbone.devices import of_all_ranks
from callbacks.checkpoints import Checkpoints
from callbacks.metrics_file import write_csv
from common.errors import UserError, in_range, nearest
from common.manifest import Utterance, read_manifest
from common.printing import visible
from datamodules.leaks import HeldOut, check_leaks
from decoding.torch_whisper import TorchWhisper
from decoding.transcriber import Transcriber
from lightning_modules.whisper import WhisperModule
from scoring.metrics import rates_by_pair

MEAN = "mean"


@dataclass(eq=False)
class Development(L.Callback):
    """Transcribes development sets of the trained pairs every few steps, into `<run>/development.csv`.

    The figures change nothing unless `patience` or `best` is set. Pairs that are not trained on are refused: what
    carries over to them is measured once, at the end.

    Args:
        manifests: a development manifest of each pair to follow, `{ko-en: PATH}`; without any there is no evaluation.
        every_n_steps: training steps between two evaluations; there is one after the last step, too.
        utterances: how many of each pair, spread over its manifest; null takes all.
        patience: evaluations in a row without a lower mean over the pairs, after which training ends; null trains to
            the last step.
        best: the model gets the weights of the evaluation with the lowest mean, instead of the last step's.
        batch_size: utterances decoded together.
    """

    manifests: dict[str, str] | None = None
    every_n_steps: int = 50
    utterances: int | None = 64
    patience: int | None = None
    best: bool = False
    batch_size: int = 32

    def __post_init__(self) -> None:
        for name in ("every_n_steps", "utterances", "patience", "batch_size"):
            value = getattr(self, name)
            in_range(f"development.{name}", 1 if value is None else value, 1)
        if not self.manifests and (self.patience or self.best):
            raise UserError("development.patience and development.best choose by development.manifests; name some")
        self.manifests = self.manifests or {}
        self.chosen: list[Utterance] = []
        self.texts: list[str] = []  # of the last evaluation, in the order of `chosen`
        self.rows: list[dict[str, float]] = []
        self.weights: dict[str, Tensor] = {}  # of the best evaluation, if `best`

    @property
    def best_row(self) -> dict[str, float] | None:
        """The evaluation with the lowest mean, the first of equals; None before the first."""
        return min(self.rows, key=lambda row: row[MEAN], default=None)

    @property
    def has_stopped(self) -> bool:
        """Whether the patience is used up."""
        since = len(self.rows) - 1 - self.rows.index(self.best_row) if self.rows else 0
        return self.patience is not None and since >= self.patience

    def is_over(self, trainer: L.Trainer) -> bool:
        """Whether training has reached its last step or was ended early, not just interrupted."""
        return trainer.global_step >= trainer.max_steps or self.has_stopped

    def on_fit_start(self, trainer: L.Trainer, pl_module: WhisperModule) -> None:
        """Reads the manifests.

        Raises:
            UserError: where a set is of a pair that is not trained on, or holds an utterance of training.
        """
        if not self.manifests:
            return
        if isinstance(trainer.strategy, ModelParallelStrategy):
            raise UserError("development: a model divided by fsdp does not decode while it is trained; choose ddp")
        pairs = trainer.datamodule.train
        self.chosen = [u for pair in self.manifests for u in self._read(pair, pairs)]
        held_out = HeldOut(self.manifests.values())
        for pair, utterances in trainer.datamodule.utterances.items():
            check_leaks(utterances, held_out, f"data.train of {pair}")

    def _read(self, pair: str, trained: Mapping[str, Any]) -> list[Utterance]:
        manifest = self.manifests[pair]
        if pair not in trained:
            raise UserError(
                f"development.manifests names {pair}, which is not trained on{nearest(pair, trained)}; unseen pairs "
                "must not steer training, they are scored once, by evaluate.py"
            )
        utterances = read_manifest(manifest)
        if strange := [u for u in utterances if u.pair != pair]:
            raise UserError(f"{manifest}: {strange[0].id} is of the pair {strange[0].pair}, expected {pair} alone")
        number = min(self.utterances or len(utterances), len(utterances))
        return [utterances[place * len(utterances) // number] for place in range(number)]

    def on_train_start(self, trainer: L.Trainer, pl_module: WhisperModule) -> None:
        """Does an evaluation that was due when the run was stopped."""
        if self.chosen:
            self._write(trainer)
            due = trainer.global_step > 0 and trainer.global_step % self.every_n_steps == 0
            if due and trainer.global_step not in (row["step"] for row in self.rows):
                self._evaluate(trainer, pl_module)
            trainer.should_stop |= self.has_stopped

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: WhisperModule, *_: Any) -> None:
        """Evaluates when it is due.

        Args:
            trainer: gives the step.
            pl_module: what transcribes.
            _: unused.
        """
        due = trainer.global_step % self.every_n_steps == 0 or trainer.global_step >= trainer.max_steps
        if self.chosen and due:
            self._evaluate(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: WhisperModule) -> None:
        """Puts the best weights into the model, for the export that follows."""
        if self.weights:
            pl_module.model.load_state_dict(self.weights, strict=False)

    def state_dict(self) -> dict[str, Any]:
        """All figures so far, and the best weights."""
        return {"rows": self.rows, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up an interrupted run's figures and weights."""
        self.rows, self.weights = state_dict["rows"], state_dict["weights"]

    def _evaluate(self, trainer: L.Trainer, module: WhisperModule) -> None:
        self.texts = self._transcribe(trainer, module)
        rates = rates_by_pair(self.chosen, self.texts)
        rates[MEAN] = math.fsum(rates.values()) / len(rates)
        self.rows.append({"step": trainer.global_step} | rates)
        if self.best and self.best_row is self.rows[-1]:
            trainable = [(name, p) for name, p in module.model.named_parameters() if p.requires_grad]
            self.weights = {name: parameter.detach().cpu().clone() for name, parameter in trainable}
        for logger in trainer.loggers:
            logger.log_metrics({f"development/{name}": rate for name, rate in rates.items()}, trainer.global_step - 1)
        self._write(trainer)
        shown = "  ".join(f"{name} {100 * rate:.1f}" for name, rate in rates.items())
        trainer.should_stop |= self.has_stopped
        module.print(f"step {trainer.global_step}: mixed error rate on development sets, %: {visible(shown)}")

    def _transcribe(self, trainer: L.Trainer, module: WhisperModule) -> list[str]:
        """The hypotheses of the current weights; each rank transcribes its share of the batches."""
        engine = TorchWhisper(module.model, module.processor, device=module.device)
        transcriber = Transcriber(engine, language=trainer.datamodule.language, batch_size=self.batch_size)
        batches = transcriber.batches(self.chosen, "development")
        hypotheses: dict[int, str] = {}
        for first in range(0, len(batches), trainer.world_size):
            self._leave_if_asked(trainer)
            for rows in batches[first + trainer.global_rank : first + trainer.global_rank + 1]:
                found = transcriber.transcribe_batch([self.chosen[row] for row in rows])
                hypotheses |= dict(zip(rows, (one.text for one in found), strict=True))
        module.model.train()
        everything = {row: text for share in of_all_ranks(hypotheses) for row, text in share.items()}
        return [everything[row] for row in range(len(self.chosen))]

    def _leave_if_asked(self, trainer: L.Trainer) -> None:
        """Saves and ends here if the process is asked to end; after the last step training goes on to its end."""
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, Checkpoints) and trainer.global_step < trainer.max_steps:
                callback.leave_if_asked(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / "development.csv"
            write_csv(path, ["step", *self.manifests, MEAN], self.rows)
