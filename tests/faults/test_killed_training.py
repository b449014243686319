"""Training that is killed, preempted or left by a rank, at random moments: it goes on, and ends with the same bits."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
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
    for state in states:
        del state["callbacks"]["RunRecord"]  # the clock
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


def moments(seed: str, run: Path) -> list[Callable[[], Callable[[], bool]]]:
    """Ten: two while it starts, six while it trains, two while it writes the model. Each says when it has come."""
    draw = random.Random(seed)

    def after(seconds: float) -> Callable[[], bool]:
        end = time.monotonic() + seconds
        return lambda: time.monotonic() > end

    def rows(count: int) -> Callable[[], bool]:
        return lambda: (run / "metrics.csv").exists() and (run / "metrics.csv").read_text().count("\n") > count

    def model_is_being_written() -> bool:
        return bool(list(run.glob(".model.*.partial")))

    starts = [lambda: after(draw.uniform(0, 3))] * 2
    trains = [lambda count=count: rows(count) for count in sorted(draw.sample(range(1, STEPS - 1), 6))]
    return [*starts, *trains, *[lambda: model_is_being_written] * 2]


@pytest.mark.parametrize(("name", "workers"), [("erm", 0), ("fishr", 2)])
@pytest.mark.parametrize("kind", ["kill", "preempt"])
def test_ten_random_moments(kind: str, name: str, workers: int, recipe: Path, tmp_path: Path, tally: Tally):
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert end_of(start("train", arguments(recipe, whole, name, workers), tmp_path / "whole.log")) == 0
    draw, newest = random.Random(f"{name} {kind}"), 0
    for moment in moments(f"{name} {kind}", run):
        process = start("train", arguments(recipe, run, name, workers), tmp_path / "run.log")
        has_come = moment()
        while process.is_alive() and not has_come():
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.05))
        signum = signal.SIGKILL if kind == "kill" else draw.choice([signal.SIGTERM, signal.SIGUSR1])
        os.kill(process.pid, signum)
        code = end_of(process)
        steps = [step for step, _ in checkpoints(run)]
        # Before training begins, and after it, there is nothing to save: the signal's own end, or the run's.
        if code not in (0, -signum, *([] if kind == "kill" else [143])):
            tally.failed("hung" if code is None else "unreadable error", (tmp_path / "run.log").read_text()[-500:])
        elif steps and steps[0] < newest:
            tally.failed("lost work", f"step {newest} was saved, {steps[0]} is left")
        else:
            tally.judge("half-written", half_written(run))
        newest = max([newest, *steps])
    assert end_of(start("train", arguments(recipe, run, name, workers), tmp_path / "end.log")) == 0
    tally.judge("lost work", difference(whole, run))
    tally.judge("half-written", [path for path in tmp_path.rglob(".*") if path.suffix in (".partial", ".lock")])
