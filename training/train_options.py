"""Fine-tunes Whisper on language pairs.

Recipes, pairs and overlays compose from left to right; any value can be given on the command line.
An algorithm's own options are --model.algorithm.NAME, explained in docs/algorithms/.
NAMES

python train.py --config fishr.yaml
python train.py --config erm.yaml --config demo.yaml --trainer.max_steps 50
python train.py --config fishr.yaml --config lora.yaml --model.lora.rank 8
python train.py --config fishr.yaml --resume
python -m torch.distributed.run --nproc-per-node 2 train.py --config fishr.yaml
"""

import sys
import textwrap
from dataclasses import dataclass
from typing import Annotated

from callbacks.checkpoints import Checkpoints
from callbacks.dashboard import Dashboard
from callbacks.development import Development
from callbacks.pair_gradients import PairGradients
from common.configs import CONFIGS, RECIPES, read_yaml
from common.option_types import Range, Seed
from common.options import Command, Parser, option
from datamodules.pairs import PairDataModule
from lightning_modules import algorithms
from lightning_modules.whisper import WhisperModule
from training.loggers import Kind
from training.trainer import FineTuningTrainer

CLASSES = {
    "model": WhisperModule,
    "data": PairDataModule,
    "development": Development,
    "checkpoint": Checkpoints,
    "dashboard": Dashboard,
    "pair_gradients": PairGradients,
}
SHOWN_OF_TRAINER = ("max_steps", "accelerator", "devices", "strategy", "precision", "enable_progress_bar")


@dataclass(frozen=True)
class RunOptions:
    """The run."""

    name: str = option("run", join="-", shown_default="the configurations' names, joined by -")
    """The run's name."""
    output_root: str = option("outputs", metavar="DIR")
    """A run's folder is OUTPUT_ROOT/NAME."""
    resume: bool = False
    """Go on from the run's newest whole checkpoint, or begin."""
    ckpt_path: str | None = option(None, metavar="FILE")
    """Go on from this checkpoint."""
    seed_everything: Seed = 0
    """Seed of all draws."""
    budget: Annotated[float, Range(0, above=True)] = 1.0
    """Factor for trainer.max_steps."""
    loggers: list[Kind] | None = option(["wandb"])
    """Where curves go besides metrics.csv; null for nowhere."""
    rank_timeout_s: Annotated[int, Range(1, 1_000_000)] = 600
    """Seconds that a rank waits for a silent one."""


def command() -> Command:
    """The command line of `train.py`."""
    algorithms.import_all()  # so that a bare class name such as `Fishr` is found
    names = ", ".join(sorted(path.stem for folder in RECIPES for path in (CONFIGS / folder).glob("*.yaml")))
    text = (__doc__ or "").replace("NAMES", textwrap.fill(f"There are: {names}.", 79))
    return Command("train.py", text, RunOptions, config=RECIPES, extend=_add_classes)


def _add_classes(parser: Parser) -> None:
    """Add the options that are arguments of classes, with the values of `configs/base.yaml` as their defaults."""
    for name, kind in CLASSES.items():
        parser.add_class_arguments(kind, name, fail_untyped=False)
    parser.add_class_arguments(FineTuningTrainer, "trainer", instantiate=False, fail_untyped=False)
    for target in ("model.seed", "data.seed"):
        parser.link_arguments("seed_everything", target)
    for section, values in read_yaml(CONFIGS / "base.yaml").items():
        if isinstance(values, dict):
            parser.set_defaults({f"{section}.{name}": value for name, value in values.items()})
    others = parser.add_argument_group("others of the trainer")
    others.add_argument("--help_all", action="help", help="show this help with every option of the trainer")
    shown = {f"trainer.{name}" for name in SHOWN_OF_TRAINER}
    rare = {name for name in parser.names() if name.startswith("trainer.")} - shown
    is_all = {"--help_all", "--print-completion"} & set(sys.argv)
    parser.hide({"model.seed", "data.seed", *parser.groups} | (set() if is_all else rare))
