"""Writes `config.yaml` and `run.json`, which record how a run was made."""

import hashlib
import json
import platform
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning as L

from backbone.model_folder.stored import ModelFolder
from callbacks.checkpoint_files import checkpoints, digest_of
from callbacks.development import Development
from common.configs import read_yaml
from common.errors import UserError
from common.files import write_text
from common.input_files import check_file
from common.printing import warn
from common.versions import versions
from datamodules.pairs import PairDataModule

_PACKAGES = ("torch", "torchaudio", "lightning", "transformers", "mergekit", "jiwer")


@dataclass(eq=False)
class RunRecord(L.Callback):
    """Writes versions, commit, seed, corpora, licences, broken audio and times to `<run>/run.json`.

    Args:
        name: the run's.
        seed: the run's.
        development: what may end training early.
        config: the resolved configuration, as YAML that `train.py --config` runs again.
    """

    name: str
    seed: int
    development: Development
    config: str

    def __post_init__(self) -> None:
        self._started = self._resumed = time.time()
        self._seconds_before = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock, and writes `<run>/config.yaml`.

        By then the manifests are read: a mistake in them leaves no folder behind.
        """
        self._resumed = time.time()
        if trainer.is_global_zero:
            write_text(Path(trainer.default_root_dir) / "config.yaml", self.config)

    def state_dict(self) -> dict[str, float]:
        """When the run began and how long it has taken, without interruptions."""
        return {"started": self._started, "seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Continues an interrupted run's clock."""
        self._started, self._seconds_before = state_dict["started"], state_dict["seconds"]

    def _seconds(self) -> float:
        return self._seconds_before + time.time() - self._resumed

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the record, on the first rank alone."""
        skips = trainer.datamodule.skips.gathered()
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            last = checkpoints(folder) if self.development.is_over(trainer) else []
            record = {
                "name": self.name,
                "seed": self.seed,
                "steps": trainer.global_step,
                "devices": trainer.world_size,
                "precision": str(trainer.precision),
                "started": datetime.fromtimestamp(self._started, UTC).isoformat(timespec="seconds"),
                "seconds": round(self._seconds(), 1),
                "machine": platform.platform(),
                "python": platform.python_version(),
                "versions": versions(_PACKAGES),
                "commit": _commit(),
                "weights": _weights(folder / "model"),
                "corpora": corpora_of(trainer.datamodule),
                "spliced": trainer.datamodule.splicer and trainer.datamodule.splicer.summary(),
                "transcripts_also_held_out": trainer.datamodule.leaks,
                "unusable_steps": pl_module.unusable_steps,
                # What tells a finished run from one that stopped in the same folder: see `starting_point`.
                "last_checkpoint": digest_of(last[0][1]) if last else None,
                "skipped": [{"pair": skip.pair, "id": skip.id, "reason": skip.reason} for skip in skips.skipped],
            }
            write_text(folder / "run.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
            if skips.skipped:
                warn(f"warning: {skips.summary()} (all in run.json)")


def check_run_folder(run: Path) -> None:
    """Check that a folder is new or that of a run: training would overwrite other files in it.

    Raises:
        UserError: naming the folder and a file in it.
    """
    for name in ("config.yaml", "run.json", "metrics.csv"):
        if (run / name).exists():
            check_file(run / name)  # else the error would only come when the run is over
    for name in ("checkpoints", "model"):
        if (run / name).exists() and not (run / name).is_dir():
            raise UserError(f"{run / name}: is no folder, as it is in a run's; choose another --name, or move it")
    there = [name for name in ("config.yaml", "run.json", "metrics.csv") if (run / name).exists()]
    there += ["model"] * any((run / "model").glob("*"))  # a workflow makes the empty folder before the run
    if there and not checkpoints(run):
        with suppress(UserError):
            if {"model", "trainer"} <= read_yaml(run / "config.yaml").keys():
                return
        raise UserError(f"{run}: holds a {there[0]} that is no run's; choose another --name, or move it")


def corpora_of(datamodule: PairDataModule) -> dict[str, dict[str, Any]]:
    """What a run trains on for each pair: manifests with weights, sizes, sources and licences."""
    return {
        pair: {
            "manifests": {entry.manifest: entry.weight for entry in datamodule.train[pair]},
            "utterances_a_step": datamodule.utterances_per_pair[pair],
            "utterances": len(utterances),
            "utterance_ids_sha256": hashlib.sha256("\n".join(u.id for u in utterances).encode()).hexdigest(),
            "sources": sorted({u.source for u in utterances if u.source}),
            "licences": sorted({u.licence for u in utterances if u.licence}),
        }
        for pair, utterances in datamodule.utterances.items()
    }


def _weights(model: Path) -> str | None:
    """The hash of the weights that the run left; None where it left none, or weights that are not finite."""
    try:
        return ModelFolder(model, str(model)).weights_hash
    except UserError:
        return None


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    found = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    return found.stdout.strip() or None
