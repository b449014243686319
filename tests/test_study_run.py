"""A second call waits for what a first one left at work."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from common.configs import read_yaml
from workflow import run_study as running
from workflow.plan import Study
from workflow.settings import merged

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "configs/study/demo.yaml"

HOLD_STUDY = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
open(sys.argv[2], "w").close()
"""
HOLD_RUN = """
import sys
from pathlib import Path
from common.files import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
    open(sys.argv[2], "w").close()
"""


class Started(Exception):
    """Stands for the process that `run` becomes."""


@pytest.fixture
def study(tmp_path: Path, monkeypatch) -> Study:
    def become(program: str, words: list[str], environment: dict[str, str]) -> None:
        raise Started(words)

    monkeypatch.setattr(running.os, "execve", become)
    return Study(merged(read_yaml(DEMO), {"root": str(tmp_path / "out")}))


def test_snakemake_is_given_the_study_and_its_own_options(study: Study):
    with pytest.raises(Started) as started:
        running.run(study, DEMO, ["--cores", "2", "--dry-run"])
    words = started.value.args[0]
    assert words[:3] == [sys.executable, "-m", "snakemake"]
    assert words[3:5] == ["--configfile", str(DEMO)]
    assert words[-3:] == ["--cores", "2", "--dry-run"]


def test_it_has_the_default_profiles_options_without_a_word_of_snakemakes(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    from snakemake.cli import parse_args

    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / "workflow" / "plugins")
    with pytest.raises(Started) as started:
        running.run(study, DEMO, ["--cores", "2"])
    _, given = parse_args(started.value.args[0][3:])
    assert not capsys.readouterr().err
    _, by_profile = parse_args(["--configfile", str(DEMO), "--logger", "study", "--cores", "2"])
    assert "Using workflow specific profile" in capsys.readouterr().err
    for name in ("workflow_profile", "max_jobs_per_timespan"):  # the latter's objects are never equal
        del vars(given)[name], vars(by_profile)[name]
    assert given == by_profile
    assert given.nolock and given.rerun_incomplete


@pytest.mark.parametrize(
    ("code", "held", "message"),
    [
        (HOLD_STUDY, ".study.lock", "another call is running this study; waiting for it"),
        (HOLD_RUN, ".", "is writing to it; wait, or choose another folder; waiting"),
        (HOLD_RUN, "erm", "is writing to it; wait, or choose another folder; waiting"),
    ],
)
def test_it_waits_for_who_is_at_work(
    code: str, held: str, message: str, study: Study, tmp_path: Path, capsys, monkeypatch
):
    (tmp_path / "out/erm").mkdir(parents=True)
    ended = tmp_path / "ended"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out" / held), str(ended)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert holder.stdout.readline() == b"held\n"

    def said(text: str, **_: object) -> None:
        sys.stdout.write(text)
        holder.stdin.close()  # lets the holder end, now that it was noticed

    monkeypatch.setattr(running, "warn", said)
    with pytest.raises(Started):
        running.run(study, DEMO, [])
    assert message in capsys.readouterr().out
    assert ended.exists()
    assert holder.wait(timeout=10) == 0


def test_progress_is_a_line_a_job(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "workflow/plugins"))
    import snakemake_logger_plugin_study as plugin
    from snakemake_interface_logger_plugins.common import LogEvent

    log = tmp_path / "b.log"
    log.write_text("".join(f"line {number}\n" for number in range(30)) + "error: no such pair\n")
    handler = plugin.LogHandler(None, None)
    clock = iter([10.0, 20.0, 35.0])
    monkeypatch.setattr(plugin, "monotonic", lambda: next(clock))

    def emit(event: LogEvent | None, level: int = 20, message: str = "", **fields: object) -> None:
        record = logging.LogRecord("snakemake", level, "", 0, message, None, None)
        record.__dict__ |= fields | ({"event": event} if event else {})
        handler.emit(record)

    emit(LogEvent.RUN_INFO, stats={"train": 2, "all": 1, "total": 3})
    emit(None, message="Select jobs to execute...")
    emit(LogEvent.JOB_INFO, jobid=7, rule_msg="fine-tuning a", rule_name="train")
    emit(LogEvent.JOB_INFO, jobid=8, rule_msg="fine-tuning b", rule_name="train")
    emit(LogEvent.JOB_FINISHED, job_id=7)
    emit(LogEvent.PROGRESS, done=1, total=3)
    emit(LogEvent.ERROR, level=40, message="RuleException: ...", exception="RuleException")
    emit(LogEvent.JOB_ERROR, level=40, jobid=8, rule_name="train", log=[str(log)])
    emit(None, level=40, message="At least one job did not complete successfully.")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split() for line in lines[:6]] == [
        ["2", "jobs:", "train", "2"],
        ["begins", "fine-tuning", "a"],
        ["begins", "fine-tuning", "b"],
        ["1", "of", "2", "done", "fine-tuning", "a,", "25", "s"],
        ["failed", "fine-tuning", "b"],
        [f"{log}:"],
    ]
    assert lines[6:] == [f"  line {number}" for number in range(11, 30)] + ["  error: no such pair"]
