"""Two processes train as one: every algorithm, one that dies, one that falls silent, one that is asked to leave."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from callbacks.checkpoint_files import checkpoint_path, checkpoints
from lightning_modules import algorithms
from tests.faults.children import end_of, start_ranks
from tests.faults.conftest import Tally
from tests.faults.test_killed_training import STEPS, arguments, difference
from tests.test_reliability_resume import slurm_job

pytestmark = pytest.mark.slow


def wait_for_rows(run: Path, count: int, ranks: list[BaseProcess]) -> None:
    """Until some steps are done."""
    while all(rank.is_alive() for rank in ranks):
        if (run / "metrics.csv").exists() and (run / "metrics.csv").read_text().count("\n") > count:
            return
        time.sleep(0.002)


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two ranks that nothing happened to."""
    run = tmp_path_factory.mktemp("ranks") / "whole"
    ranks = start_ranks(2, arguments(recipe, run, "fishr"), run.parent / "log")
    assert [end_of(rank) for rank in ranks] == [0, 0]
    return run


@pytest.mark.parametrize("name", [name for name, _ in algorithms.named()])
def test_every_algorithm_ends_with_equal_replicas(name: str, recipe: Path, tmp_path: Path):
    """The run itself compares them, bit by bit, before it writes the model."""
    run = tmp_path / "run"
    few = ["--model.algorithm", name, "--trainer.max_steps", "6"]
    window = ["--model.algorithm.trials", "2"] if name == "GGA" else []
    ranks = start_ranks(2, [*arguments(recipe, run, "erm"), *few, *window], tmp_path / "log")
    assert [end_of(rank) for rank in ranks] == [0, 0], (tmp_path / "log.0.log").read_text()
    assert (run / "model" / "model.safetensors").is_file()


def readable(log: Path) -> str | None:
    """What is wrong with what a rank said when another one ended."""
    words = log.read_text()
    if "Traceback" in words or words.count("error: ") != 1 or "another rank ended" not in words:
        return words[-800:]
    return None


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_dies_ends_the_other(victim: int, whole: Path, recipe: Path, tmp_path: Path, tally: Tally):
    run = tmp_path / "run"
    ranks = start_ranks(2, arguments(recipe, run, "fishr"), tmp_path / "log")
    wait_for_rows(run, 5 + victim, ranks)
    ranks[victim].kill()
    code = end_of(ranks[1 - victim], timeout_s=300)
    if code is None:
        tally.failed("hung", "the other rank")
    tally.judge("unreadable error", readable(tmp_path / f"log.{1 - victim}.log") if code == 2 else f"exit code {code}")
    ranks = start_ranks(2, arguments(recipe, run, "fishr"), tmp_path / "log")
    assert [end_of(rank) for rank in ranks] == [0, 0]
    tally.judge("lost work", difference(whole, run))


def test_a_rank_that_falls_silent_ends_the_other_in_time(recipe: Path, tmp_path: Path, tally: Tally):
    run = tmp_path / "run"
    limit = ["--rank_timeout_s", "20", "--trainer.max_steps", "2000"]
    ranks = start_ranks(2, [*arguments(recipe, run, "erm"), *limit], tmp_path / "log")
    wait_for_rows(run, 3, ranks)
    os.kill(ranks[1].pid, signal.SIGSTOP)
    code = end_of(ranks[0], timeout_s=300)
    ranks[1].kill()
    if code is None:
        tally.failed("hung", "the other rank")
    tally.judge("unreadable error", readable(tmp_path / "log.0.log") if code == 2 else f"exit code {code}")


@pytest.mark.parametrize("name", ["erm", "fishr"])
def test_weights_divided_over_the_ranks_resume_to_the_same_bits(name: str, recipe: Path, tmp_path: Path, tally: Tally):
    sharded = ["--trainer.strategy", "fsdp"]
    for run in (tmp_path / "whole", tmp_path / "run"):
        ranks = start_ranks(2, [*arguments(recipe, run, name), *sharded], tmp_path / "log")
        if run.name == "run":
            wait_for_rows(run, 3, ranks)
            os.kill(ranks[1].pid, signal.SIGUSR1)
            assert [end_of(rank) for rank in ranks] == [143, 143], (tmp_path / "log.0.log").read_text()
            ranks = start_ranks(2, [*arguments(recipe, run, name), *sharded], tmp_path / "log")
        assert [end_of(rank) for rank in ranks] == [0, 0], (tmp_path / "log.0.log").read_text()
    tally.judge("lost work", difference(tmp_path / "whole", tmp_path / "run"))


@pytest.mark.parametrize("asked", [[0], [1], [0, 1]])
def test_a_signal_to_any_rank_saves_the_same_step(
    asked: list[int], whole: Path, recipe: Path, tmp_path: Path, tally: Tally
):
    run = tmp_path / "run"
    ranks = start_ranks(2, arguments(recipe, run, "fishr"), tmp_path / "log")
    wait_for_rows(run, 2, ranks)
    for rank in asked:
        os.kill(ranks[rank].pid, signal.SIGTERM)
    codes = [end_of(rank) for rank in ranks]
    tally.judge("lost work", None if codes == [143, 143] and checkpoints(run)[0][0] < STEPS else f"exit codes {codes}")
    ranks = start_ranks(2, arguments(recipe, run, "fishr"), tmp_path / "log")
    assert [end_of(rank) for rank in ranks] == [0, 0]
    tally.judge("lost work", difference(whole, run))


def test_slurm_s_warning_requeues_the_job_once(whole: Path, recipe: Path, tmp_path: Path, tally: Tally):
    """srun passes the signal to each of its tasks."""
    run, job = tmp_path / "run", slurm_job(tmp_path, tasks=2)
    given = [*arguments(recipe, run, "fishr"), "--trainer.devices", "2"]
    ranks = start_ranks(2, given, tmp_path / "log", job)
    wait_for_rows(run, 4, ranks)
    for rank in ranks:
        os.kill(rank.pid, signal.SIGUSR1)
    codes = [end_of(rank) for rank in ranks]
    assert codes == [143, 143], (tmp_path / "log.0.log").read_text()
    told = (tmp_path / "scontrol.log").read_text()
    tally.judge("lost work", None if told == "requeue 4711\n" else f"scontrol was told {told!r}")
    ranks = start_ranks(2, given, tmp_path / "log", job)  # what SLURM does then
    assert [end_of(rank) for rank in ranks] == [0, 0], (tmp_path / "log.0.log").read_text()
    tally.judge("lost work", difference(whole, run))


def test_each_rank_goes_on_with_its_own_account_of_broken_audio(
    recipe: Path, manifests: dict[str, str], tmp_path: Path, tally: Tally
):
    """Three steps pass over two of each pair's six; of these, the fourth alone would not meet all again."""
    run, train = tmp_path / "run", {}
    for pair in ("ko-en", "ja-en", "de-en"):
        shutil.copytree(Path(manifests[pair]).parent, tmp_path / pair)
        train[pair] = str(tmp_path / pair / "train.jsonl")
        for index in (1, 4):
            (tmp_path / pair / f"{index}.wav").write_bytes(b"RIFF")
    given = ["--data.train", json.dumps(train), "--data.max_broken", "6", "--data.utterances_per_pair", "1"]
    given = [*arguments(recipe, run, "erm"), *given, "--trainer.max_steps", "4"]
    accounts = []
    for _ in range(2):
        ranks = start_ranks(2, given, tmp_path / "log")
        assert [end_of(rank) for rank in ranks] == [0, 0], (tmp_path / "log.0.log").read_text()
        accounts.append(json.loads((run / "run.json").read_text())["skipped"])
        checkpoint_path(run, 4).write_bytes(b"")  # so that the next call goes back to the third step
        shutil.rmtree(run / "model")
    assert len(accounts[0]) == 6
    tally.judge("lost work", None if accounts[0] == accounts[1] else accounts)
