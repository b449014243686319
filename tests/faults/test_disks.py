"""A disk that is full, a folder that may not be written to, and two commands that want the same one."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from callbacks.checkpoint_files import checkpoint_path, checkpoints
from common.files import sole_writer
from tests.faults.children import end_of, start
from tests.faults.conftest import Tally
from tests.faults.test_killed_training import arguments, difference, half_written
from tests.faults.test_ranks import wait_for_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    run = tmp_path_factory.mktemp("disks") / "whole"
    assert end_of(start("train", arguments(recipe, run, "erm"), run.parent / "log")) == 0
    return run


def commands(recipe: Path, model: Path, manifest: str, out: Path) -> dict[str, Sequence[str]]:
    """Training, merging and evaluating into one folder."""
    (out.parent / "set.yaml").write_text(yaml.safe_dump({"test": {"ko-en": manifest}}))
    merged = ["linear", "--models", str(model), str(model.parent / "model"), "--base", "none", "--out", str(out)]
    return {
        "train": arguments(recipe, out, "erm"),
        "merge": merged,
        "evaluate": [str(model), "--config", str(out.parent / "set.yaml"), "--out", str(out)],
    }


def problem(code: int | None, log: Path, says: str) -> str | None:
    """What is wrong with how a command ended."""
    words = log.read_text()
    if code == 2 and words.count("error: ") == 1 and says in words and "Traceback" not in words:
        return None
    return f"exit code {code}: {words[-800:]}"


def test_a_full_disk_in_training(whole: Path, recipe: Path, tmp_path: Path, tally: Tally):
    run, log = tmp_path / "run", tmp_path / "log"
    room = checkpoint_path(whole, 20).stat().st_size - 1000  # the rows of the metrics make each a little larger
    for _ in range(2):
        before = checkpoints(run)
        code = end_of(start("train", arguments(recipe, run, "erm"), log, file_bytes=room))
        tally.judge("unreadable error", problem(code, log, "cannot be written (File too large); the earlier ones stay"))
        tally.judge("half-written", half_written(run) or list(run.rglob("*.partial")))
        tally.judge("lost work", None if before in ([], checkpoints(run)) else f"{before} became {checkpoints(run)}")
    assert checkpoints(run)
    assert end_of(start("train", arguments(recipe, run, "erm"), log)) == 0
    tally.judge("lost work", difference(whole, run))


@pytest.mark.parametrize("script", ["merge", "evaluate"])
def test_a_full_disk_in(script: str, recipe: Path, tiny_model: Path, whole: Path, manifests, tmp_path, tally: Tally):
    out, log = tmp_path / "out", tmp_path / "log"
    (tmp_path / "model").symlink_to(whole / "model")
    (tmp_path / "tiny").symlink_to(tiny_model)
    given = commands(recipe, tmp_path / "tiny", manifests["ko-en"], out)[script]
    for room in (2_000, 4_000, 40_000):
        code = end_of(start(script, given, log, file_bytes=room))
        tally.judge("unreadable error", problem(code, log, "File too large"))
        tally.judge("half-written", [str(path) for path in tmp_path.rglob("*.partial")])
        if script == "merge":
            tally.judge("half-written", out.exists())
    assert end_of(start(script, given, log)) == 0, log.read_text()
    tally.survived()


@pytest.mark.parametrize("script", ["train", "merge", "evaluate"])
def test_a_read_only_folder(
    script: str, recipe: Path, tiny_model: Path, whole: Path, manifests, tmp_path, tally: Tally
):
    (tmp_path / "model").symlink_to(whole / "model")
    (tmp_path / "tiny").symlink_to(tiny_model)
    (tmp_path / "closed").mkdir()
    given = commands(recipe, tmp_path / "tiny", manifests["ko-en"], tmp_path / "out")[script]
    given = [argument.replace(str(tmp_path / "out"), str(tmp_path / "closed" / "out")) for argument in given]
    if script == "train":
        given[given.index("--output_root") + 1] = str(tmp_path / "closed")
    (tmp_path / "closed").chmod(0o555)
    code = end_of(start(script, given, tmp_path / "log"))
    tally.judge("unreadable error", problem(code, tmp_path / "log", "closed"))
    tally.judge("unreadable error", problem(code, tmp_path / "log", "Permission denied"))
    tally.judge("half-written", list((tmp_path / "closed").iterdir()))


def test_two_trainings_into_one_folder(recipe: Path, tmp_path: Path, tally: Tally):
    run = tmp_path / "run"
    long = [*arguments(recipe, run, "erm", workers=2), "--trainer.max_steps", "3000"]
    first = start("train", long, tmp_path / "first.log")
    wait_for_rows(run, 3, [first])
    code = end_of(start("train", long, tmp_path / "log"))
    tally.judge("lost work", problem(code, tmp_path / "log", f"process {first.pid} on "))
    tally.judge("lost work", None if first.is_alive() else (tmp_path / "first.log").read_text()[-500:])
    first.kill()
    first.join()
    third = start("train", long, tmp_path / "log")  # at once, though the first one's workers may not be gone yet
    rows = (run / "metrics.csv").read_text().count("\n")
    wait_for_rows(run, rows + 3, [third])
    tally.judge("lost work", None if third.is_alive() else (tmp_path / "log").read_text()[-500:])
    third.kill()


@pytest.mark.parametrize("script", ["train", "merge", "evaluate"])
def test_a_second_command_refuses(script: str, recipe: Path, tiny_model: Path, whole: Path, manifests, tmp_path, tally):
    (tmp_path / "model").symlink_to(whole / "model")
    (tmp_path / "tiny").symlink_to(tiny_model)
    given = commands(recipe, tmp_path / "tiny", manifests["ko-en"], tmp_path / "out")[script]
    with sole_writer(tmp_path / "out"):
        began = time.monotonic()
        code = end_of(start(script, given, tmp_path / "log"))
        tally.judge("lost work", problem(code, tmp_path / "log", f"process {os.getpid()} on "))
        assert not (tmp_path / "out").exists() and time.monotonic() - began < 100
