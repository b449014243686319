"""A run's folder and the loggers in it: wandb, TensorBoard or CSV; a resumed run continues the same curve."""

import os
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import wandb
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from common.errors import UserError
from common.files import check_name, write_text
from common.input_files import read_text
from common.printing import show
from common.wandb_mode import wandb_mode

Kind = Literal["wandb", "tensorboard", "csv"]


def run_folder(output_root: str, name: str) -> Path:
    """Return a run's folder; the trials of a wandb sweep are next to each other."""
    sweep, trial = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    if sweep and trial:
        return Path(output_root) / "sweeps" / check_name(sweep, "WANDB_SWEEP_ID") / check_name(trial, "WANDB_RUN_ID")
    return Path(output_root) / check_name(name, "name")


def loggers(
    kinds: Sequence[Kind], folder: Path, name: str, study: str, method: str, pairs: Sequence[str]
) -> list[Logger]:
    """Make a run's loggers.

    Args:
        kinds: which; wandb is left out if `WANDB_MODE=disabled`.
        folder: the run's folder.
        name: the run's name.
        study: what wandb groups runs by.
        method: the algorithm, wandb's job type.
        pairs: the language pairs, wandb's tags.

    Raises:
        UserError: if TensorBoard is asked for but not installed.
    """
    found: list[Logger] = []
    for kind in kinds:
        if kind == "wandb" and (mode := wandb_mode()) != "disabled":
            found.append(_wandb(mode, folder, name, study, method, pairs))
        elif kind == "tensorboard":
            try:
                found.append(TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False))
            except ModuleNotFoundError as error:
                raise UserError(f"loggers: tensorboard ({error}): pip install -e '.[tensorboard]'") from None
        elif kind == "csv":
            found.append(CSVLogger(folder, name="csv", version=""))
    return found


def study_of(output_root: str) -> str:
    """Return the study that a folder of runs belongs to: `demo` for outputs/demo and its seeds' outputs/demo/seed-1."""
    path = Path(output_root).absolute()
    return path.parent.name if re.fullmatch(r"seed-\d+", path.name) else path.name


def keep_identity(found: Sequence[Logger], folder: Path, resumes: bool) -> None:
    """Give a resumed run the same id in wandb, and a new run in the same folder a new id.

    A sweep's agent sets its runs' ids itself.

    Args:
        found: the run's loggers.
        folder: the run's folder.
        resumes: whether the run goes on from a checkpoint.
    """
    for logger in found:
        if isinstance(logger, WandbLogger) and rank_zero_only.rank == 0 and "WANDB_RUN_ID" not in os.environ:
            file = folder / "wandb" / "run-id"
            if not (resumes and file.is_file()):
                write_text(file, uuid.uuid4().hex[:8])
            logger._wandb_init["id"] = logger._id = read_text(file).strip()


def _wandb(mode: str, folder: Path, name: str, study: str, method: str, pairs: Sequence[str]) -> WandbLogger:
    if mode == "offline":
        os.environ.setdefault("WANDB_SILENT", "true")  # read before the settings below are
        offline = f"{folder}/wandb/offline-run-*"
        rank_zero_only(show)(f"wandb: not logged in, so the run is logged offline; later: wandb sync {offline}")
    logger = WandbLogger(
        name=name,
        project=os.environ.get("WANDB_PROJECT", "crosspair"),
        save_dir=folder,
        mode=mode,
        settings=wandb.Settings(silent=mode == "offline", console="off", disable_git=True),
        tags=list(pairs),
        group=os.environ.get("WANDB_RUN_GROUP", study),
        job_type=os.environ.get("WANDB_JOB_TYPE", method),
    )
    logger._wandb_init.pop("anonymous", None)  # Lightning always sets it, and wandb warns that it has no effect
    return logger
