"""Checkpoint files: whole or absent, checked before they are trusted, found newest first, kept within a number."""

from __future__ import annotations

import json
import os
import pickle
import resource
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from callbacks.checkpoint_files import (
    CheckpointFiles,
    checkpoint_path,
    checkpoints,
    damage_of,
    digest_of,
    newest_good,
    starting_point,
)
from callbacks.checkpoints import Checkpoints
from callbacks.development import Development
from callbacks.run_record import RunRecord, check_run_folder
from common.errors import UserError
from tests.test_reliability_resume import assert_same, run

STATE = {
    "weights": {"a": torch.arange(600.0), "b": torch.randn(3, 5)},
    "steps": [1, 2],
    "name": "ERM",
    "rate": 0.5,
    "none": None,
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = checkpoint_path(tmp_path, 3)
    CheckpointFiles().save_checkpoint(STATE, path)
    return path


def test_what_was_written_is_read(written: Path):
    assert_same(CheckpointFiles().load_checkpoint(written), STATE)
    assert [file.name for file in written.parent.iterdir()] == ["step-3.ckpt"]


def test_every_truncation_is_recognised(written: Path):
    whole = written.read_bytes()
    for length in [0, 1, *range(50, len(whole), 97), len(whole) - 1]:
        written.write_bytes(whole[:length])
        assert "damaged" in damage_of(written), length


def test_no_flipped_bit_changes_what_is_read(written: Path):
    """In any byte: it is recognised, or lies where nothing is kept (torch pads tensors to 64 bytes)."""
    whole = written.read_bytes()
    unnoticed = 0
    for place in range(len(whole)):
        written.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        if damage_of(written) is None:
            assert_same(CheckpointFiles().load_checkpoint(written), STATE)
            unnoticed += 1
    assert unnoticed < 700  # of 4389


def test_a_tensor_s_flipped_bit_is_recognised_always(written: Path):
    whole = written.read_bytes()
    begin = whole.index(STATE["weights"]["a"].numpy().tobytes())
    for place in range(begin, begin + 2400, 7):
        written.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        assert "checksum" in damage_of(written)


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for step in (9, 10, 100):  # by number, not by name
        CheckpointFiles().save_checkpoint(STATE | {"step": step}, checkpoint_path(tmp_path, step))
    assert newest_good(tmp_path) == checkpoint_path(tmp_path, 100)
    whole = checkpoint_path(tmp_path, 100).read_bytes()
    checkpoint_path(tmp_path, 100).write_bytes(whole[: len(whole) // 2])
    checkpoint_path(tmp_path, 10).write_bytes(b"")
    assert newest_good(tmp_path) == checkpoint_path(tmp_path, 9)
    warnings = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1].split("/")[-1] for line in warnings] == ["step-100.ckpt", "step-10.ckpt"]
    assert all("damaged" in line and "going back" in line for line in warnings)
    checkpoint_path(tmp_path, 9).unlink()
    assert newest_good(tmp_path) is None


class _Runs:
    def __reduce__(self) -> Any:
        return os.mkdir, ("code-has-run",)


def test_a_checkpoint_is_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing in it is run or built, though its checksums are right."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "theirs.ckpt"
    for content in (_Runs(), {"state_dict": {}, "hook": _Runs()}, {"path": Path("a")}):
        CheckpointFiles().save_checkpoint(content, path)
        assert damage_of(path) is None
        with pytest.raises(UserError, match="theirs.ckpt: refused, it is no checkpoint of tensors and plain values"):
            CheckpointFiles().load_checkpoint(path, weights_only=False)
    assert not Path("code-has-run").exists()
    path.write_bytes(pickle.dumps(_Runs()))
    with pytest.raises(UserError, match="damaged"):
        CheckpointFiles().load_checkpoint(path)


def test_a_full_disk_leaves_the_old_checkpoint(written: Path, monkeypatch: pytest.MonkeyPatch):
    whole = written.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) - 100, hard))
    try:
        with pytest.raises(
            UserError, match=r"step-3.ckpt: the checkpoint cannot be written \(File too large\); the ear"
        ):
            CheckpointFiles().save_checkpoint(STATE, written)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert written.read_bytes() == whole
    assert [file.name for file in written.parent.iterdir()] == ["step-3.ckpt"]


def test_the_newest_are_kept(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    run(tiny_model, manifests, tmp_path, "ERM", every_n_steps=1)
    assert [step for step, _ in checkpoints(tmp_path)] == [5, 4]
    for option in ({"keep": 0}, {"every_n_steps": 0}):
        with pytest.raises(UserError, match=f"checkpoint.{next(iter(option))} is 0, expected 1 or more"):
            Checkpoints(**option)


def test_going_on_leaves_what_is_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A newer checkpoint was damaged and passed over; where a run begins, all are of an earlier one."""
    monkeypatch.setattr("callbacks.checkpoints.Preemption", lambda trainer: None)
    for ckpt_path, left in ((checkpoint_path(tmp_path, 4), [4, 2]), (None, [])):
        for step in (2, 4, 6):
            CheckpointFiles().save_checkpoint(STATE, checkpoint_path(tmp_path, step))
        step = 4 if ckpt_path else 0
        trainer = SimpleNamespace(is_global_zero=True, default_root_dir=tmp_path, global_step=step, ckpt_path=ckpt_path)
        Checkpoints().on_train_start(trainer, None)
        assert [step for step, _ in checkpoints(tmp_path)] == left


def test_a_start_loses_no_unfinished_run(tmp_path: Path):
    assert starting_point(tmp_path, resume=True, named=None) is None  # nothing there: from the beginning
    assert starting_point(tmp_path, resume=False, named=None) is None
    for step in (2, 4):
        CheckpointFiles().save_checkpoint(STATE, checkpoint_path(tmp_path, step))
    newest = checkpoint_path(tmp_path, 4)
    assert starting_point(tmp_path, resume=True, named=None) == newest
    assert starting_point(tmp_path, resume=False, named=str(newest)) == newest
    for named in (None, str(checkpoint_path(tmp_path, 2))):
        with pytest.raises(UserError, match="holds a run that stopped at step 4; go on with --resume, choose another"):
            starting_point(tmp_path, resume=False, named=named)
    with pytest.raises(UserError, match="give one of them"):
        starting_point(tmp_path, resume=True, named=str(newest))
    with pytest.raises(UserError, match="--ckpt_path nowhere.ckpt: no such checkpoint"):
        starting_point(tmp_path, resume=False, named="nowhere.ckpt")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "run.json").write_text(json.dumps({"last_checkpoint": digest_of(newest)}))  # it is finished: begin anew
    assert starting_point(tmp_path, resume=False, named=None) is None
    (tmp_path / "model" / "config.json").unlink()  # what it was finished with is gone
    with pytest.raises(UserError, match="holds a run that stopped at step 4"):
        starting_point(tmp_path, resume=False, named=None)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "run.json", "model/mine.txt"])
def test_a_start_writes_over_no_folder_that_is_no_run_s(name: str, tmp_path: Path):
    check_run_folder(tmp_path / "new")
    (tmp_path / "notes.txt").write_text("mine")
    check_run_folder(tmp_path)  # a run writes nothing of this name
    (tmp_path / "model").mkdir()
    check_run_folder(tmp_path)  # an empty folder, as Snakemake makes it for a job's output, holds nothing
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"holds a {name.split('/')[0]} that is no run's; choose another --name"):
        check_run_folder(tmp_path)
    (tmp_path / "config.yaml").write_text("model: {}\ntrainer: {}\n")  # a run's that was killed before its first step
    check_run_folder(tmp_path)
    (tmp_path / "config.yaml").write_text("mine")
    CheckpointFiles().save_checkpoint(STATE, checkpoint_path(tmp_path, 2))
    check_run_folder(tmp_path)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "run.json", "checkpoints", "model"])
def test_what_a_run_could_not_write_in_the_end_is_told_before_it_begins(name: str, tmp_path: Path):
    if "." in name:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=rf"{name}: is (a folder, expected a file|no folder, as it is in a run's)"):
        check_run_folder(tmp_path)


def test_the_clock_goes_on_where_an_interrupted_run_stopped(monkeypatch: pytest.MonkeyPatch):
    clock = [1000.0]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    record = RunRecord("erm", 0, Development(), "")
    record.load_state_dict({"started": 100.0, "seconds": 50.0})
    record.on_fit_start(SimpleNamespace(is_global_zero=False), None)
    clock[0] += 7
    assert record.state_dict() == {"started": 100.0, "seconds": 57.0}


@pytest.mark.parametrize("hours", [-1000, 1000])
def test_a_run_is_finished_by_content_whatever_the_clock_says(hours: int, tmp_path: Path):
    """A model and a record of an earlier run in the folder say nothing of the checkpoint of a run that stopped."""
    newest = checkpoint_path(tmp_path, 4)
    CheckpointFiles().save_checkpoint(STATE, newest)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    record = tmp_path / "run.json"
    record.write_text(json.dumps({"last_checkpoint": digest_of(newest)}))
    for file in (newest, record, tmp_path / "model" / "config.json"):
        now = file.stat().st_mtime
        os.utime(file, (now, now + 3600 * hours))
        assert starting_point(tmp_path, resume=False, named=None) is None
        os.utime(file, (now, now))
    CheckpointFiles().save_checkpoint({**STATE, "global_step": 5}, newest)
    for file in (newest, record, tmp_path / "model" / "config.json"):
        os.utime(file, (now, now + 3600 * hours))
        with pytest.raises(UserError, match="holds a run that stopped at step 4"):
            starting_point(tmp_path, resume=False, named=None)
    for damaged in ('{"last_checkpoint": null}', "{", ""):
        record.write_text(damaged)
        with pytest.raises(UserError, match="holds a run that stopped"):
            starting_point(tmp_path, resume=False, named=None)
