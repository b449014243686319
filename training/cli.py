"""The command line of training: recipes by name, composed from left to right, any value overridden."""

from __future__ import annotations

import logging
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import yaml
from jsonargparse import ActionConfigFile, get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from backbone.precision import resolve_precision
from callbacks.checkpoint_files import CheckpointFiles, starting_point
from callbacks.checkpoints import Checkpoints
from callbacks.dashboard import Dashboard
from callbacks.development import Development
from callbacks.final_model import FinalModel
from callbacks.metrics_file import MetricsFile
from callbacks.pair_gradients import PairGradients
from callbacks.progress import TrainingProgress
from callbacks.run_record import RunRecord
from callbacks.throughput import Interlude, Throughput
from common.configs import CONFIGS, find_config, load_yaml
from common.errors import UserError
from common.files import sole_writer, write_text
from datamodules.pairs import PairDataModule
from lightning_modules import algorithms
from lightning_modules.algorithms.algorithm import Algorithm
from lightning_modules.algorithms.erm import ERM
from lightning_modules.ranks import complete, fsdp, launched_ranks
from lightning_modules.trainer_checks import check_strategy
from lightning_modules.whisper import WhisperModule
from training.cli_errors import check_keys, readable
from training.loggers import Kind, keep_identity, loggers, run_folder, study_of
from training.trainer import FineTuningTrainer

_THEIR_LOADER = get_loader("yaml")


class TrainCLI(LightningCLI):
    """`LightningCLI` without subcommands that knows a run's folder, its loggers and its callbacks."""

    def __init__(self, args: list[str] | None = None) -> None:
        _quiet_libraries()
        _guard_yaml()
        algorithms.import_all()  # so that a bare class name such as `Fishr` is found
        super().__init__(
            WhisperModule,
            PairDataModule,
            trainer_class=FineTuningTrainer,
            run=False,
            parser_class=RecipeParser,
            parser_kwargs={"default_config_files": [str(CONFIGS / "base.yaml")]},
            save_config_kwargs={"overwrite": True},
            save_config_callback=SaveConfig,
            seed_everything_default=0,
            load_from_checkpoint_support=False,
            args=args,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """The parser, with `--config` looking for bare names in `configs/`."""
        parser = self.parser_class(**kwargs)
        parser.add_argument(
            "-c", "--config", action=RecipeFile, help="recipe: a name in configs/ or a path; repeatable"
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run's own arguments."""
        parser.add_argument("--name", default="run", help="the run's name; recipes set it")
        parser.add_argument("--output_root", default="outputs", help="a run's folder is OUTPUT_ROOT/NAME")
        parser.add_argument("--budget", type=float, default=1.0, help="trainer.max_steps is multiplied by this")
        parser.add_argument(
            "--resume",
            action="store_true",
            help="go on from the run's newest whole checkpoint; begin where there is none",
        )
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="go on from this checkpoint")
        parser.add_argument("--rank_timeout_s", type=int, default=600, help="how long a rank waits for a silent one")
        parser.add_lightning_class_args(Checkpoints, "checkpoint")
        parser.add_argument("--loggers", type=list[Kind], default=["wandb"], help="where curves go; null: nowhere else")
        parser.add_class_arguments(Development, "development")
        parser.add_class_arguments(Dashboard, "dashboard")
        parser.add_class_arguments(PairGradients, "pair_gradients")
        parser.link_arguments("seed_everything", "model.seed")
        parser.link_arguments("seed_everything", "data.seed")

    def before_instantiate_classes(self) -> None:
        """Settles the run's folder and refuses what manual optimisation cannot do."""
        trainer = self.config.trainer
        if trainer.gradient_clip_val is not None:
            raise UserError("trainer.gradient_clip_val does not see the algorithms' own steps; use model.clip_norm")
        if trainer.accumulate_grad_batches not in (None, 1):
            raise UserError("trainer.accumulate_grad_batches does not see the algorithms' own steps; leave it at 1")
        if trainer.max_steps is None or trainer.max_steps < 1:
            raise UserError(f"trainer.max_steps is {trainer.max_steps}, expected the number of steps, 1 or more")
        if not self.config.budget * trainer.max_steps >= 1:
            raise UserError(f"budget is {self.config.budget}, expected a factor that leaves 1 step or more")
        trainer.max_steps, self.config.budget = round(self.config.budget * trainer.max_steps), 1.0
        if trainer.default_root_dir is None:
            trainer.default_root_dir = str(run_folder(self.config.output_root, self.config.name))
        algorithm = _algorithm(self.config.model.algorithm)
        check_strategy(algorithm, _class_path(trainer.strategy))
        trainer.precision = resolve_precision(
            trainer.precision, _class_path(trainer.accelerator), needs_float32=algorithm.needs_float32
        )
        if ranks := launched_ranks():
            trainer.devices, trainer.num_nodes = ranks
        # How a run was started is no part of what it is: the saved configuration starts it from its beginning.
        self._resume, self.config.resume = self.config.resume, False
        self._ckpt_path, self.config.ckpt_path = self.config.ckpt_path, None

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """The trainer with our loggers and callbacks beside those of the configuration."""
        self.datamodule.check_manifests()
        folder = Path(self.config.trainer.default_root_dir)
        if self.config.trainer.get("logger") in (None, True):
            kwargs["logger"] = self._loggers(folder)
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        development = self.config_init.development
        dashboard = self.config_init.dashboard.of_run(self.config.name, config, development)
        throughput = Throughput()
        own = [throughput, MetricsFile(), self.config_init.pair_gradients, development]
        own += [FinalModel(development, self.config.name)]
        own += [RunRecord(self.config.name, self.config.seed_everything, development), dashboard]
        if self.config.trainer.enable_progress_bar is not False:
            own.append(TrainingProgress(self.config.name))
        kwargs["callbacks"] = [*(self.config_init.trainer.callbacks or []), *own]
        kwargs["plugins"] = [*(self.config_init.trainer.plugins or []), CheckpointFiles()]
        if self.config.trainer.strategy == "fsdp":
            kwargs["strategy"] = fsdp()
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ImportError, TypeError, ValueError) as error:  # by Lightning, of its options
            raise UserError(f"trainer: {error}") from error
        trainer.callbacks.append(Interlude(throughput))  # behind the checkpoints, which Lightning puts last
        complete(trainer.strategy, self.config.rank_timeout_s)
        return trainer

    def fit(self) -> None:
        """Trains, from the beginning or from a checkpoint.

        Raises:
            UserError: where that would lose an unfinished run, or another process writes to the same folder.
        """
        folder = Path(self.trainer.default_root_dir)
        with sole_writer(folder) if self.trainer.is_global_zero else nullcontext():
            start = starting_point(folder, self._resume, self._ckpt_path)
            keep_identity(self.trainer.loggers, folder, resumes=start is not None)
            self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=start, weights_only=True)

    def _loggers(self, folder: Path) -> list[Logger]:
        name, study = self.config.name, study_of(self.config.output_root)
        method = _algorithm(self.config.model.algorithm).__name__
        return loggers(self.config.loggers or [], folder, name, study, method, list(self.datamodule.train))


class RecipeFile(ActionConfigFile):
    """`--config` that takes a path, or the name of a file in `configs/` with or without its ending."""

    @staticmethod
    def apply_config(parser: LightningArgumentParser, cfg: Any, dest: str, value: str) -> None:
        """Applies one recipe on top of those before it."""
        path = find_config(value)
        check_keys(path, parser.options)
        try:
            ActionConfigFile.apply_config(parser, cfg, dest, str(path))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


class RecipeParser(LightningArgumentParser):
    """A parser whose errors are one message with the nearest right names."""

    @property
    def options(self) -> list[str]:
        """Every option by its dotted name."""
        return [action.dest for action in self._actions if not action.dest.endswith((".help", "help"))]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises instead of printing the usage.

        Raises:
            UserError: always.
        """
        raise UserError(readable(message, self.options)) from None

    def instantiate_classes(self, cfg: Any, **kwargs: Any) -> Any:
        """Lets out what a class says of its own options, which jsonargparse would wrap into a message on types.

        Raises:
            UserError: from a constructor.
        """
        try:
            return super().instantiate_classes(cfg, **kwargs)
        except ValueError as error:
            cause: BaseException | None = error
            while cause and not isinstance(cause, UserError):
                cause = cause.__cause__ or cause.__context__
            raise cause or error from None


class SaveConfig(SaveConfigCallback):
    """Writes the resolved configuration to `<run>/config.yaml`, which runs again as it stands."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Writes nothing yet: the manifests are still to be read, and a mistake in them leaves no folder behind."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes it before the first step."""
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            write_text(folder / "config.yaml", self.parser.dump(self.config, skip_none=False))


def _class_path(value: Any) -> str:
    """What a class, or a name of one, is called in a configuration."""
    return str(getattr(value, "class_path", value))


def _algorithm(value: Any) -> type[Algorithm]:
    return ERM if value is None else dict(algorithms.named())[_class_path(value).rpartition(".")[2]]


def _quiet_libraries() -> None:
    """Silences what tells a user nothing: advertisements and notes on accelerators."""
    for name in ("utilities.rank_zero", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
    warnings.filterwarnings("ignore", message="You have overridden `on_after_batch_transfer`")
    warnings.filterwarnings("ignore", message="Using ModelCheckpoint with manual optimization")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")


def _guard_yaml() -> None:
    """Looks at aliases before jsonargparse does, also in the files that a recipe names."""
    set_loader("yaml", _load_yaml, (yaml.YAMLError,))


def _load_yaml(text: str) -> Any:
    if "*" in text:
        load_yaml(text)
    return _THEIR_LOADER(text)
