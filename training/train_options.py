"""What `train.py` takes: the run's own options, and those of the classes that a run is made of."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import yaml

from callbacks.checkpoints import Checkpoints
from callbacks.dashboard import Dashboard
from callbacks.development import Development
from callbacks.pair_gradients import PairGradients
from common.configs import CONFIGS, RECIPES
from common.errors import UserError, nearest
from common.options import Command, Count, Range, option
from datamodules.pairs import PairDataModule
from lightning_modules import algorithms
from lightning_modules.whisper import WhisperModule
from training.loggers import Kind
from training.trainer import FineTuningTrainer

_SHOWN_OF_TRAINER = ("max_steps", "accelerator", "devices", "strategy", "precision", "enable_progress_bar")


def _list(words: list[str]) -> Any:
    """`csv tensorboard`, or as in a recipe: `[csv, tensorboard]`."""
    return yaml.safe_load(words[0]) if len(words) == 1 and words[0][:1] in "[n" else words


def _kinds(kinds: Any) -> Any:
    """The loggers, each of which must be known."""
    known = get_args(Kind)
    for kind in kinds or []:
        if kind not in known:
            raise UserError(f"loggers: no logger {kind!r}{nearest(str(kind), known)}; there are {', '.join(known)}")
    return kinds


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
    seed_everything: Annotated[int, Range(0, 2**32 - 1)] = 0
    """Seed of all draws."""
    budget: Annotated[float, Range(0, without=(0,))] = 1.0
    """Factor for trainer.max_steps."""
    loggers: list[Kind] | None = option(["wandb"], read=_list, check=_kinds, metavar="KIND")
    """Where curves go besides metrics.csv, of wandb, tensorboard and csv; null for nowhere."""
    rank_timeout_s: Count = 600
    """Seconds that a rank waits for a silent one."""


def command() -> Command:
    """The command line of `train.py`."""
    algorithms.import_all()  # so that a bare class name such as `Fishr` is found
    names = ", ".join(sorted(path.stem for folder in RECIPES for path in (CONFIGS / folder).glob("*.yaml")))
    return Command(
        "train.py",
        "Fine-tunes Whisper on language pairs.\n\n"
        "Recipes, pairs and overlays compose from left to right; any value can be given on the command line.\n"
        "An algorithm's own options are --model.algorithm.NAME, explained in docs/algorithms/.\n"
        + textwrap.fill(f"There are: {names}.", 79),
        RunOptions,
        examples="""
            python train.py --config fishr.yaml
            python train.py --config erm.yaml --config demo.yaml --trainer.max_steps 50
            python train.py --config fishr.yaml --config lora.yaml --model.lora.rank 8
            python train.py --config fishr.yaml --resume
            python -m torch.distributed.run --nproc-per-node 2 train.py --config fishr.yaml""",
        config=RECIPES,
        classes={
            "model": WhisperModule,
            "data": PairDataModule,
            "trainer": FineTuningTrainer,
            "development": Development,
            "checkpoint": Checkpoints,
            "dashboard": Dashboard,
            "pair_gradients": PairGradients,
        },
        plain=("trainer",),
        linked={"seed_everything": ("model.seed", "data.seed")},
        shown_of={"trainer": _SHOWN_OF_TRAINER},
        first=(str(CONFIGS / "base.yaml"),),
    )
