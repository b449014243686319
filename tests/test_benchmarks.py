"""What the benchmarks rest on: ratios by hand, a broken equality that ends them, and a page that says what was met."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import budget
import measuring
import performance


def test_ratios_are_taken_round_by_round():
    """The machine was three times as slow in the second round, for both."""
    found = measuring.ratio([2.0, 9.0, 2.4], [1.0, 3.0, 1.0])
    assert found == {"median": 2.4, "low": 2.0, "high": 3.0, "rounds": 3}
    assert measuring.shown(found) == "2.40 (2.00 - 3.00)"


def test_turns_change_their_order():
    taken: list[str] = []
    ways = {name: (lambda name=name: taken.append(name)) for name in "ab"}
    seconds = measuring.take_turns(ways, rounds=2)
    assert "".join(taken) == "ab" + "ab" + "ba" and {name: len(own) for name, own in seconds.items()} == {
        "a": 2,
        "b": 2,
    }


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(["a", "b"], ["a", "c"]), ([1.0, 2.0], [1.0, 2.1]), ([1.0], [1.0, 1.0]), ([float("nan")], [1.0])],
)
def test_a_broken_equality_ends_it(ours: list, theirs: list):
    with pytest.raises(SystemExit, match="it: broken equality"):
        measuring.equal("it", ours, theirs, atol=0.05)


def test_equal_enough():
    assert measuring.equal("it", [1.0, 2.0], [1.0, 2.04], atol=0.05) == pytest.approx(0.04)
    assert measuring.equal("it", ["a"], ["a"]) == 0.0


def results(folder: Path, **by_name: object) -> Path:
    machine = {"processor": "P", "cores": 2, "threads": 2, "memory_gb": 8, "python": "3.11", "gpu": None,
               "versions": {"torch": "2", "transformers": "5"}, "commit": "abc", "day": "2026-01-01"}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in by_name.items():
        made = {"command": f"python benchmarks/{name}.py", "machine": machine, "results": found}
        (folder / f"{name}.json").write_text(json.dumps(made))
    return folder


def figure(value: float, rounds: int = 3) -> dict[str, float]:
    return {"median": value, "low": value - 0.1, "high": value + 0.1, "rounds": rounds}


def page(found: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "argv", ["performance.py", "--results", str(found), "--page", str(out)])
    performance.main()
    return out.read_text()


def test_the_page_has_a_row_for_each_way_and_marks_what_was_seen_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ours = {"way": "8", "precision": "bfloat16", "seconds_a_step": figure(0.5), "peak_gb": None,
            "faster_than_recipe": {"float32": figure(5.2), "bfloat16": figure(3.0, rounds=1)},
            "data_wait": figure(0.031)}  # fmt: skip
    recipe = {"way": "recipe", "precision": "float32", "seconds_a_step": figure(2.6), "peak_gb": None}
    models = {"base": {"rows": [recipe]}, "openai/whisper-base": {"rows": [ours]}}
    results(tmp_path, training={"models": models}, startup={"merge": {"seconds": figure(0.5)}})
    text = page(tmp_path, tmp_path / "page.md", monkeypatch)
    assert "| whisper-base, random weights | float32 | Seq2SeqTrainer | 2.60 (2.50 - 2.70) |  |  |  |" in text
    row = "| openai/whisper-base | bfloat16 | 8 s | 0.50 (0.40 - 0.60) | 5.20 (5.10 - 5.30) | 3.00 (once) | 3.1 % |"
    assert row in text
    assert "| `merge.py --help` | 0.50 (0.40 - 0.60) |" in text
    made = (
        "`python benchmarks/training.py`, P, 2 threads, Python 3.11, torch 2, transformers 5, commit abc, 2026-01-01."
    )
    assert made in text


def test_a_page_without_results_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = page(tmp_path, tmp_path / "page.md", monkeypatch)
    assert "{{" not in text and "\n\n\n" not in text
    assert text.count("| not measured |") == len(performance.SECTIONS) - 2 + 4  # one is worked out, one a GPU's alone
    assert "| GGAL |" in text  # of what the algorithms declare


def test_figures_stay_until_they_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As those of a GPU do where the machine has none."""
    gpu = results(tmp_path / "gpu", resuming={"rows": {"ERM": {"resumed": 0.0, "repeated": 2e-7}}})
    (gpu / "parts.json").write_text(json.dumps({"decoding": {"state": "left out", "seconds": 0, "why": "no time"}}))
    for found in (tmp_path, tmp_path / "nothing"):
        text = page(found, tmp_path / "page.md", monkeypatch)
        assert "| ERM | every bit | up to 2e-07 |" in text and "`decoding`: left out: no time." in text


class Clock:
    """A clock that stands still but for what parts take."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_no_longer_fits_is_left_out_and_a_failure_ends_nothing_else(tmp_path: Path):
    clock, ran = Clock(), []
    takes = {"one": 30.0, "two": 50.0, "four": 5.0}

    def run(name: str, part: budget.Part, limit_s: float, folder: Path) -> budget.Outcome:
        ran.append((name, limit_s))
        clock.now += takes[name]
        record = json.loads((folder / "parts.json").read_text()) if len(ran) > 1 else {}
        assert list(record) == [name for name in ("one", "two", "three") if name in record]
        return budget.Outcome(budget.FAILED, takes[name], "broke") if name == "two" else budget.Outcome(budget.MEASURED)

    parts = {name: budget.Part(f"{name}.py", about_s) for name, about_s in
             (("one", 20), ("two", 20), ("three", 30), ("four", 10))}  # fmt: skip
    found = dict(budget.run_parts(parts, 100.0, tmp_path, run, clock))
    assert ran == [("one", 100.0), ("two", 70.0), ("four", 20.0)]
    assert [one.state for one in found.values()] == ["measured", "failed", "left out", "measured"]
    assert found["three"].why == "takes about 30 s, 20 of 100 s are left"
    record = json.loads((tmp_path / "parts.json").read_text())
    assert {name: one["state"] for name, one in record.items()} == {name: one.state for name, one in found.items()}
    with pytest.raises(SystemExit, match="failed: two"):
        budget.report(iter(found.items()))


def test_a_part_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "benchmarks").mkdir()
    lines = ("import pathlib, subprocess, time", "job = subprocess.Popen(['sleep', '60'])",
             "pathlib.Path('pid').write_text(str(job.pid))", "time.sleep(60)")  # fmt: skip
    (tmp_path / "benchmarks" / "slow.py").write_text("\n".join(lines))
    (tmp_path / "benchmarks" / "broken.py").write_text("import sys\nsys.exit('no such thing')\n")
    monkeypatch.setattr(budget, "ROOT", tmp_path)
    slow = budget.run_alone("slow", budget.Part("slow.py", 1), 3.0, tmp_path)
    assert (slow.state, slow.why) == ("failed", "ended after 3 s: the time for all was over")
    status, patience = Path("/proc", (tmp_path / "pid").read_text(), "status"), time.monotonic() + 20
    while status.exists() and "Z (zombie)" not in status.read_text():
        assert time.monotonic() < patience
        time.sleep(0.05)
    broken = budget.run_alone("broken", budget.Part("broken.py", 1), 30.0, tmp_path)
    assert (broken.state, broken.why) == ("failed", "no such thing")


def test_figures_go_where_the_budget_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(measuring.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv(measuring.NAME_VARIABLE, "training-base")
    measuring.write({"a": 1})
    made = json.loads((tmp_path / "training-base.json").read_text())
    assert made["results"] == {"a": 1} and {"machine", "command"} <= made.keys()


@pytest.mark.slow
def test_every_benchmark_runs_small():
    done = subprocess.run(
        [sys.executable, "benchmarks/run_all.py", "--tiny"], cwd=measuring.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    parts = json.loads((measuring.RESULTS / "tiny" / "parts.json").read_text())
    assert len(parts) == 10 and {part["state"] for part in parts.values()} == {"measured"}, parts


@pytest.mark.slow
def test_the_gpu_check_runs_small_on_a_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    command = [sys.executable, "benchmarks/gpu_check.py", "--tiny", "--budget", "900"]
    done = subprocess.run(command, cwd=measuring.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    folder = measuring.RESULTS / "gpu" / "tiny"
    assert {one["state"] for one in json.loads((folder / "parts.json").read_text()).values()} == {"measured"}
    rows = json.loads((folder / "resuming.json").read_text())["results"]["rows"]
    assert rows == {name: {"resumed_differs_by": 0.0, "repeated_differs_by": 0.0} for name in ("ERM", "Fishr")}
    rows = json.loads((folder / "decoding.json").read_text())["results"]["models"]["nano"]
    assert [row["same_texts"] for row in rows if row["precision"] == "float32"] == [1.0] * 3
