"""What the benchmarks rest on: ratios by hand, a broken equality that ends them, and a page that says what was met."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

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
    machine = {"processor": "P", "cores": 2, "threads": 2, "memory_gb": 8, "python": "3.11", "versions": {"torch": "2"},
               "commit": "abc", "day": "2026-01-01", "load": 0.1, "peak_gb": 1.0}  # fmt: skip
    for name, found in by_name.items():
        path = folder / f"{name.replace('_', '-')}.json"
        path.write_text(json.dumps({"command": "c", "machine": machine, "results": found}))
    return folder


def figure(value: float) -> dict[str, float]:
    return {"median": value, "low": value, "high": value, "rounds": 1}


def page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    out = folder / "page.md"
    monkeypatch.setattr(sys, "argv", ["performance.py", "--results", str(folder), "--page", str(out)])
    performance.main()
    return out.read_text()


def test_the_page_says_what_is_met_and_what_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results(
        tmp_path,
        training_tiny={
            "faster": {
                "30s, ours in float32, the recipe in float32": figure(0.9),
                "8, ours in bfloat16, the recipe in float32": figure(5.2),
                "8, ours in bfloat16, the recipe in bfloat16": figure(3.0),
            },
            "data_wait": {"30s, float32": figure(0.031)},
        },
        features={"80": {"faster": figure(3.0)}},
        startup={"merge": {"seconds": figure(0.5)}, "train": {"of_importing_lightning": figure(1.2)}},
        decoding_nano={"faster": {"30s": figure(99.0)}},
    )
    (tmp_path / "algorithms.txt").write_text(
        "whisper-tiny\n| algorithm | seconds a step | beside ERM | GB | over |\n|---|---|---|---|---|\n"
        "| ERM | 1 | 1.00 | 1 | 0 |\n| Fish | 1.1 | 1.10 | 1 | 0 |\n| Fishr | 1.3 | 1.30 | 1 | 0 |\n"
    )
    text = page(tmp_path, monkeypatch)
    rows = {line.split("|")[1].strip(): line.split("|")[4:6] for line in text.splitlines()
            if line.startswith("|") and line.count("|") == 6}  # fmt: skip
    verdicts = {work: cells[1].strip() for work, cells in rows.items()}
    assert verdicts["training, whisper-tiny, window 30 s, float32"] == "**not met**"
    assert "| training, whisper-tiny, window 8 s, bfloat16 | Seq2SeqTrainer at 30 s, float32 | 5x | 5.20" in text
    assert "| training, whisper-tiny, window 8 s, bfloat16 | Seq2SeqTrainer at 30 s, bfloat16 | - | 3.00" in text
    assert verdicts["waiting for data, whisper-tiny, window 30 s, 2 workers"] == "**not met**"
    assert verdicts["log-mel of 30 s, 80 bins"] == "met"
    assert verdicts["training step of Fish, whisper-tiny, 8 s"] == "met"
    assert verdicts["training step of Fishr, whisper-tiny, 8 s"] == "**not met**"
    assert verdicts["`merge.py --help`"] == "met" and verdicts["`train.py --help`"] == "**not met**"
    assert rows["greedy decoding, whisper-tiny, window 30 s"][0].strip() == "not measured"


def test_a_page_without_results_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = page(tmp_path, monkeypatch)
    assert "No benchmark has run yet." in text and "{{" not in text and "\n\n\n" not in text
    assert "| GGAL |" in text  # of what the algorithms declare
