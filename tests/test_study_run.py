"""A second call waits for what a first one left at work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from study import run as running
from study.plan import Study
from study.settings import merged, read_yaml

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
    def become(program: str, words: list[str]) -> None:
        raise Started(words)

    monkeypatch.setattr(running.os, "execv", become)
    return Study(merged(read_yaml(DEMO), {"root": str(tmp_path / "out")}))


def test_snakemake_is_given_the_study_and_its_own_options(study: Study):
    with pytest.raises(Started) as started:
        running.run(study, DEMO, ["--cores", "2", "--dry-run"])
    expected = [sys.executable, "-m", "snakemake", "--configfile", str(DEMO), "--cores", "2", "--dry-run"]
    assert started.value.args[0] == expected


@pytest.mark.parametrize(
    ("code", "held", "message"),
    [
        (HOLD_STUDY, ".study.lock", "another call is at work on this study; waiting for it"),
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

    monkeypatch.setattr(running, "print", said, raising=False)
    with pytest.raises(Started):
        running.run(study, DEMO, [])
    assert message in capsys.readouterr().out
    assert ended.exists()
    assert holder.wait(timeout=10) == 0
