"""Where the output is no terminal, progress is a line a minute."""

from __future__ import annotations

import time

import pytest

from common.progress_meter import progress


def test_a_line_a_minute_with_the_time_that_remains(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    clock = iter(range(0, 10_000, 20))  # each item takes 20 s
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    assert list(progress(range(10), "aligning", 10)) == list(range(10))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("aligning:  20%") and "2/10" in lines[0] and "<04:00" in lines[0]


def test_items_may_be_of_several_sizes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    clock = iter(range(0, 10_000, 30))  # each item takes 30 s
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    assert list(progress(["aaaa", "bbbb", "cc"], "letters", 10, len)) == ["aaaa", "bbbb", "cc"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("letters:  40%") and "4/10" in line
