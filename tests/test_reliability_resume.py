"""A run that was stopped anywhere and resumed ends as one that never was: every bit of what it leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from callbacks.checkpoint_files import CheckpointFiles, checkpoint_path, checkpoints, newest_good
from callbacks.checkpoints import Checkpoints
from callbacks.metrics_file import MetricsFile
from datamodules.pairs import PairDataModule
from lightning_modules import algorithms
from lightning_modules.whisper import WhisperModule
from tests.algorithm_runs import fit, make

NAMES = [name for name, _ in algorithms.named()]
STEPS = 5


class Interrupted(WhisperModule):
    """Gets signals in the middle of a step, between a forward and a backward pass: the step, and what is sent."""

    signal_at: tuple[int, ...] = ()

    def token_losses(self, batch: Any, **options: Any) -> Any:
        if self.signal_at and self.signal_at[0] == self.global_step:
            for signum in self.signal_at[1:]:
                os.kill(os.getpid(), signum)
        return super().token_losses(batch, **options)


def run(
    model: Path,
    manifests: dict[str, str],
    folder: Path,
    name: str,
    *,
    workers: int = 0,
    signal_at: tuple[int, ...] = (),
    resume: Path | None = None,
    every_n_steps: int = 100,
    callbacks: list[L.Callback] | None = None,
) -> None:
    """Trains for five steps with the callbacks of a run."""
    kind = type("Run", (Interrupted,), {"signal_at": signal_at})
    own = [*(callbacks or []), MetricsFile(), Checkpoints(every_n_steps)]
    settings = {"callbacks": own, "plugins": [CheckpointFiles()]}
    fit(model, manifests, folder, make(name), kind=kind, steps=STEPS, resume=resume, trainer=settings, workers=workers)


def what_is_left(folder: Path) -> dict[str, Any]:
    """The last checkpoint's content and the metrics' bytes."""
    state = torch.load(checkpoint_path(folder, STEPS), weights_only=True)
    metrics = (folder / "metrics.csv").read_bytes()
    assert [line.split(b",")[0] for line in metrics.splitlines()] == [b"step", *(b"%d" % step for step in range(STEPS))]
    return {"state": state, "metrics": metrics}


def assert_same(one: Any, two: Any, where: str = "") -> None:
    assert type(one) is type(two) or {type(one), type(two)} == {list, tuple}, where
    if isinstance(one, torch.Tensor):
        assert one.dtype == two.dtype and torch.equal(one, two), where
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            assert_same(one[key], two[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), where
        for index, pair in enumerate(zip(one, two, strict=True)):
            assert_same(*pair, f"{where}/{index}")
    else:
        assert one == two, where


def resumed_run(model: Path, manifests: dict[str, str], folder: Path, name: str, workers: int, step: int) -> None:
    with pytest.raises(SystemExit) as end:
        run(model, manifests, folder, name, workers=workers, signal_at=(step, signal.SIGTERM))
    assert end.value.code == 143
    assert [saved for saved, _ in checkpoints(folder)] == [step + 1]  # the step was finished, then saved
    run(model, manifests, folder, name, workers=workers, resume=newest_good(folder))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_was_stopped_in_mid_step_ends_as_one_that_was_not(
    name: str, tiny_model: Path, manifests: dict[str, str], tmp_path: Path
):
    run(tiny_model, manifests, tmp_path / "whole", name)
    resumed_run(tiny_model, manifests, tmp_path / "parts", name, workers=0, step=2)
    assert_same(what_is_left(tmp_path / "whole"), what_is_left(tmp_path / "parts"))


class Removes(L.Callback):
    """Removes the figures of a run in its third step, as somebody who tidies up."""

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            (Path(trainer.default_root_dir) / "metrics.csv").unlink()


def test_metrics_that_are_removed_while_training_come_back_whole(
    tiny_model: Path, manifests: dict[str, str], tmp_path: Path
):
    run(tiny_model, manifests, tmp_path / "whole", "ERM")
    run(tiny_model, manifests, tmp_path / "removed", "ERM", callbacks=[Removes()])
    assert (tmp_path / "removed" / "metrics.csv").read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_so_it_does_at_every_step_with_two_workers(
    name: str, step: int, tiny_model: Path, manifests: dict[str, str], tmp_path: Path
):
    run(tiny_model, manifests, tmp_path / "whole", name, workers=2)
    resumed_run(tiny_model, manifests, tmp_path / "parts", name, workers=2, step=step)
    assert_same(what_is_left(tmp_path / "whole"), what_is_left(tmp_path / "parts"))


def test_dropout_goes_on_as_if_nothing_had_happened(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    """Its masks are a function of seed, step and rank; with the same masks at every step they would be none."""
    shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"dropout": 0.3, "encoder_layerdrop": 0.3}))
    run(tmp_path / "model", manifests, tmp_path / "whole", "ERM")
    run(tiny_model, manifests, tmp_path / "without", "ERM")
    resumed_run(tmp_path / "model", manifests, tmp_path / "parts", "ERM", workers=0, step=1)
    assert_same(what_is_left(tmp_path / "whole"), what_is_left(tmp_path / "parts"))
    assert what_is_left(tmp_path / "without")["metrics"] != what_is_left(tmp_path / "whole")["metrics"]


class Validated(Interrupted):
    """Validates after every second step on four batches, and gets the signal in the third of them."""

    stop_at: int | None = None

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch if isinstance(batch, torch.Tensor) else super().on_after_batch_transfer(batch, dataloader_idx)

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        if self.global_step == self.stop_at and batch_idx == 2:
            os.kill(os.getpid(), signal.SIGUSR1)


def test_a_signal_while_validating_saves_at_once(
    tiny_model: Path, manifests: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    loader = torch.utils.data.DataLoader(torch.arange(4.0), batch_size=1)
    monkeypatch.setattr(PairDataModule, "val_dataloader", lambda self: loader, raising=False)
    ours = PairDataModule.on_before_batch_transfer
    passes = lambda self, batch, index: batch if isinstance(batch, torch.Tensor) else ours(self, batch, index)  # noqa: E731
    monkeypatch.setattr(PairDataModule, "on_before_batch_transfer", passes)

    def validated(folder: Path, stop_at: int | None = None, resume: Path | None = None) -> None:
        kind = type("Run", (Validated,), {"stop_at": stop_at})
        settings = {
            "callbacks": [MetricsFile(), Checkpoints()],
            "plugins": [CheckpointFiles()],
            "val_check_interval": 2,
        }
        fit(tiny_model, manifests, folder, make("Fish"), kind=kind, steps=STEPS, resume=resume, trainer=settings)

    validated(tmp_path / "whole")
    with pytest.raises(SystemExit) as end:
        validated(tmp_path / "parts", stop_at=2)
    assert end.value.code == 143
    assert [step for step, _ in checkpoints(tmp_path / "parts")] == [2]
    validated(tmp_path / "parts", resume=newest_good(tmp_path / "parts"))
    one, two = (what_is_left(tmp_path / name) for name in ("whole", "parts"))
    one["state"].pop("loops"), two["state"].pop("loops")  # they count validation batches, of which some came twice
    assert_same(one, two)


def slurm_job(folder: Path, tasks: int = 1) -> dict[str, str]:
    """The environment of a job under srun, whose `scontrol` writes down what it is told."""
    tool = folder / "bin" / "scontrol"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> {folder}/scontrol.log\n')
    tool.chmod(0o755)
    count = {"SLURM_NTASKS": str(tasks), "SLURM_NTASKS_PER_NODE": str(tasks), "SLURM_NNODES": "1"}
    rank = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "localhost"}
    return count | rank | job | {"PATH": f"{tool.parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ([signal.SIGUSR1], "requeue 4711\n"),
        ([signal.SIGUSR1, signal.SIGTERM], "requeue 4711\n"),  # the step outlasts the warning
        ([signal.SIGTERM], None),  # whoever cancels a job wants it to end; SLURM requeues the preempted by itself
    ],
    ids=str,
)
def test_slurm_s_warning_saves_and_requeues_once(
    sent: list[int],
    told: str | None,
    tiny_model: Path,
    manifests: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    run(tiny_model, manifests, tmp_path / "whole", "Fishr")
    for name, value in slurm_job(tmp_path).items():
        monkeypatch.setenv(name, value)
    parts = tmp_path / "parts"
    with pytest.raises(SystemExit) as end:
        run(tiny_model, manifests, parts, "Fishr", signal_at=(2, *sent))
    assert end.value.code == 143
    log = tmp_path / "scontrol.log"
    assert (log.read_text() if log.exists() else None) == told
    assert sorted(path.name for path in parts.iterdir()) == ["checkpoints", "metrics.csv"]
    assert [step for step, _ in checkpoints(parts)] == [3]
    run(tiny_model, manifests, parts, "Fishr", resume=newest_good(parts))
    assert_same(what_is_left(tmp_path / "whole"), what_is_left(parts))
