"""Training that is killed, preempted or left by a rank, at random moments: it goes on, and ends with the same bits."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from callbacks.checkpoint_files import checkpoint_path, checkpoints, damage_of
from tests.faults.children import end_of, start
from tests.faults.conftest import Tally
from tests.test_reliability_resume import assert_same

pytestmark = pytest.mark.slow
STEPS = 20


def arguments(recipe: Path, folder: Path, name: str, workers: int = 0) -> list[str]:
    own = ["--output_root", str(folder.parent), "--name", folder.name, "--data.workers", str(workers), "--resume"]
    return ["--config", f"{name}.yaml", "--config", str(recipe), *own]


def difference(one: Path, two: Path) -> str | None:
    """What differs between two finished runs."""
    for file in ("metrics.csv", "model/model.safetensors", "model/config.json"):
        if (one / file).read_bytes() != (two / file).read_bytes():
            return f"{file} differs"
    states = [torch.load(checkpoint_path(run, STEPS), weights_only=True) for run in (one, two)]
    try:
        assert_same(*states)
    except AssertionError as error:
        return f"the last checkpoints differ at {error}"
    return None


def half_written(run: Path) -> str | None:
    """What stands under its name and is not whole."""
    for _, path in checkpoints(run):
        if damage := damage_of(path):
            return f"{path.name}: {damage}"
    if not (run / "model").exists():
        return None
    lacks = {"model.safetensors", "config.json", "tokenizer.json"} - {path.name for path in (run / "model").iterdir()}
    return f"model lacks {lacks}" if lacks else None


@pytest.mark.parametrize(("name", "workers"), [("erm", 0), ("fishr", 2)])
@pytest.mark.parametrize("kind", ["kill", "preempt"])
def test_ten_random_moments(kind: str, name: str, workers: int, recipe: Path, tmp_path: Path, tally: Tally):
    for _ in range(2):  # the first one waits for imports
        began = time.monotonic()
        shutil.rmtree(tmp_path / "whole", ignore_errors=True)
        whole = start("train", arguments(recipe, tmp_path / "whole", name, workers), tmp_path / "whole.log")
        assert end_of(whole) == 0, (tmp_path / "whole.log").read_text()
        took_s = time.monotonic() - began
    moments, faults, turn, newest = random.Random(f"{name} {kind}"), 0, 0, 0
    while faults < 10:
        run = tmp_path / f"run-{turn}"
        process = start("train", arguments(recipe, run, name, workers), tmp_path / "run.log")
        time.sleep(moments.uniform(0, took_s))
        signum = signal.SIGKILL if kind == "kill" else moments.choice([signal.SIGTERM, signal.SIGUSR1])
        if process.is_alive():
            faults += 1
            os.kill(process.pid, signum)
        code = end_of(process)
        # Before training begins, and in the last moments, there is nothing to save: the signal's own end, or the run's.
        expected = (-signal.SIGKILL, 0) if kind == "kill" else (143, -signal.SIGTERM, -signal.SIGUSR1, 0)
        if code not in expected:
            tally.failed("hung" if code is None else "unreadable error", (tmp_path / "run.log").read_text()[-500:])
            return
        steps = [step for step, _ in checkpoints(run)]
        if steps and steps[0] < newest:
            tally.failed("lost work", f"step {newest} was saved, {steps[0]} is left")
        elif broken := half_written(run):
            tally.failed("half-written", broken)
        newest = max([newest, *steps])
        if code == 0:
            tally.judge("lost work", difference(tmp_path / "whole", run))
            turn, newest = turn + 1, 0
        else:
            tally.survived()
    assert end_of(start("train", arguments(recipe, run, name, workers), tmp_path / "end.log")) == 0
    tally.judge("lost work", difference(tmp_path / "whole", run))
    debris = [path.name for path in [*run.iterdir(), *tmp_path.iterdir()] if path.name.endswith((".partial", ".lock"))]
    tally.judge("half-written", debris)
