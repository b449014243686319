"""A training run: makes a trainer with our callbacks from the options, and trains or resumes in the run's folder."""

import logging
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks.checkpoint_files import CheckpointFiles, readable_restoring, starting_point
from callbacks.final_model import FinalModel
from callbacks.metrics_file import MetricsFile
from callbacks.run_record import RunRecord, check_run_folder
from callbacks.throughput import Interlude, Throughput, TrainingProgress
from common.errors import UserError
from common.files import sole_writer
from common.options import parse
from datamodules.mixture import check_manifests
from datamodules.pairs import PairDataModule, readable_worker_errors
from lightning_modules import algorithms
from lightning_modules.algorithms.algorithm import Algorithm
from lightning_modules.algorithms.erm import ERM
from lightning_modules.ranks import complete, fsdp, launched_ranks
from lightning_modules.trainer_checks import check_devices, check_strategy
from lightning_modules.whisper import WhisperModule
from training.loggers import keep_identity, loggers, run_folder, study_of
from training.train_options import command
from training.trainer import FineTuningTrainer, resolve_precision

_MOST_STEPS = 100_000_000


class TrainingRun:
    """A run as its command line and recipes describe it: its configuration, model, data and trainer.

    Args:
        words: the command line's; those of this process where none are given.

    Raises:
        UserError: naming the option or the recipe's key that is wrong.
    """

    def __init__(self, words: Sequence[str] | None = None) -> None:
        _quiet_libraries()
        parsed = parse(command(), words)
        self.parser, self.config = parsed.parser, parsed.options
        self._resume, self._ckpt_path = self.config.resume, self.config.ckpt_path
        self._settle()
        L.seed_everything(self.config.seed_everything, workers=True, verbose=False)
        self._made = self.parser.instantiate_classes(self.config)
        self.model: WhisperModule = self._made.model
        self.datamodule: PairDataModule = self._made.data
        check_manifests(self.datamodule.train)
        self.trainer = self._trainer()

    def fit(self) -> None:
        """Train, from the beginning or from a checkpoint.

        Raises:
            UserError: where that would lose an unfinished run, or another process writes to the same folder.
        """
        folder = Path(self.trainer.default_root_dir)
        with sole_writer(folder) if self.trainer.is_global_zero else nullcontext():
            if self.trainer.is_global_zero:
                check_run_folder(folder)
            start = starting_point(folder, self._resume, self._ckpt_path)
            keep_identity(self.trainer.loggers, folder, resumes=start is not None)
            with readable_restoring(start), readable_worker_errors():
                self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=start, weights_only=True)

    def _settle(self) -> None:
        """Complete the configuration with what follows from it, and refuse options that manual optimisation ignores."""
        config, trainer = self.config, self.config.trainer
        if trainer.gradient_clip_val is not None:
            raise UserError("trainer.gradient_clip_val has no effect on the algorithms' own steps; use model.clip_norm")
        if trainer.accumulate_grad_batches not in (None, 1):
            raise UserError("trainer.accumulate_grad_batches has no effect on the algorithms' own steps; leave it at 1")
        if trainer.max_steps is None or trainer.max_steps < 1:
            raise UserError(f"trainer.max_steps is {trainer.max_steps}, expected the number of steps, 1 or more")
        if not 1 <= config.budget * trainer.max_steps <= _MOST_STEPS:
            expected = f"a factor that leaves 1 to {_MOST_STEPS:,} steps of trainer.max_steps {trainer.max_steps}"
            raise UserError(f"budget is {config.budget}, expected {expected}")
        trainer.max_steps, config.budget = round(config.budget * trainer.max_steps), 1.0
        if trainer.default_root_dir is None:
            trainer.default_root_dir = str(run_folder(config.output_root, config.name))
        algorithm = _algorithm(config.model.algorithm)
        check_strategy(algorithm, _class_path(trainer.strategy))
        trainer.precision = resolve_precision(
            trainer.precision, _class_path(trainer.accelerator), needs_float32=algorithm.needs_float32
        )
        if ranks := launched_ranks():
            trainer.devices, trainer.num_nodes = ranks
        check_devices(trainer)
        # The saved configuration starts the run from its beginning, however this one was started.
        config.resume, config.ckpt_path = False, None

    def _trainer(self) -> L.Trainer:
        """The trainer with our loggers and callbacks beside those of the configuration."""
        config, made = self.config, self._made
        folder, name = Path(config.trainer.default_root_dir), config.name
        text = self.parser.dump(config, skip_unset=False)
        given, throughput = vars(made.trainer), Throughput()
        own = [
            throughput,
            MetricsFile(),
            made.pair_gradients,
            made.development,
            FinalModel(made.development, name),
            RunRecord(name, config.seed_everything, made.development, text),
            made.dashboard.of_run(name, yaml.safe_load(text), made.development),
            made.checkpoint,
        ]
        if config.trainer.enable_progress_bar is not False:
            own.append(TrainingProgress(name))
        given["callbacks"] = [*_several(given["callbacks"]), *own]
        given["plugins"] = [*_several(given["plugins"]), CheckpointFiles()]
        if given["logger"] in (None, True):
            method, pairs = _algorithm(config.model.algorithm).__name__, list(self.datamodule.train)
            given["logger"] = loggers(config.loggers or [], folder, name, study_of(config.output_root), method, pairs)
        if config.trainer.strategy == "fsdp":
            given["strategy"] = fsdp()
        try:
            trainer = FineTuningTrainer(**given)
        except (MisconfigurationException, ImportError, TypeError, ValueError) as error:  # of Lightning's options
            raise UserError(f"trainer: {error}") from error
        trainer.callbacks.append(Interlude(throughput))  # behind the checkpoints, which Lightning puts last
        complete(trainer.strategy, config.rank_timeout_s)
        return trainer


def _several(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _class_path(value: Any) -> str:
    """Return the name of a class in a configuration."""
    return str(getattr(value, "class_path", value))


def _algorithm(value: Any) -> type[Algorithm]:
    return ERM if value is None else dict(algorithms.named())[_class_path(value).rpartition(".")[2]]


def _quiet_libraries() -> None:
    """Silence advertisements and notes that users cannot act on."""
    for name in (
        "pytorch.utilities.rank_zero",
        "pytorch.trainer.connectors.checkpoint_connector",
        "fabric.utilities.distributed",  # "Initializing distributed: GLOBAL_RANK: 0, MEMBER: 1/2", a line a rank
        "fabric.utilities.rank_zero",  # and its banner
    ):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    for message in (
        "Experiment logs directory .* exists and is not empty",
        ".*LeafSpec.* is deprecated",
        "You have overridden `on_after_batch_transfer`",
        "Using ModelCheckpoint with manual optimization",
        ".*does not have many workers.*",
    ):
        warnings.filterwarnings("ignore", message=message)
