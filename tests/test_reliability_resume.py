"""A run that was stopped anywhere and resumed ends as one that never was: every bit of what it leaves."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from callbacks.checkpoint_files import CheckpointFiles, checkpoint_path, checkpoints, newest_good
from callbacks.checkpoints import Checkpoints
from callbacks.metrics_file import MetricsFile
from lightning_modules import algorithms
from lightning_modules.whisper import WhisperModule
from tests.algorithm_runs import fit, make

NAMES = [name for name, _ in algorithms.named()]
STEPS = 5


class Interrupted(WhisperModule):
    """Gets a signal in the middle of a step, between a forward and a backward pass."""

    signal_at: tuple[int, int] | None = None

    def token_losses(self, batch: Any) -> Any:
        if self.signal_at and self.signal_at[0] == self.global_step:
            os.kill(os.getpid(), self.signal_at[1])
        return super().token_losses(batch)


def run(
    model: Path,
    manifests: dict[str, str],
    folder: Path,
    name: str,
    *,
    workers: int = 0,
    signal_at: tuple[int, int] | None = None,
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
    return {"state": state, "metrics": (folder / "metrics.csv").read_bytes()}


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


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_so_it_does_at_every_step_with_two_workers(
    name: str, step: int, tiny_model: Path, manifests: dict[str, str], tmp_path: Path
):
    run(tiny_model, manifests, tmp_path / "whole", name, workers=2)
    resumed_run(tiny_model, manifests, tmp_path / "parts", name, workers=2, step=step)
    assert_same(what_is_left(tmp_path / "whole"), what_is_left(tmp_path / "parts"))
