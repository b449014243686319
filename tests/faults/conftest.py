"""Every fault is counted, with what became of it; the count ends the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

OUTCOMES = ("survived", "lost work", "half-written", "hung", "unreadable error", "injected")


class Tally:
    """What became of the faults of one test."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.details: list[str] = []

    def survived(self, faults: int = 1) -> None:
        """Nothing was lost, and what was to be said was said."""
        self.count["survived"] += faults

    def failed(self, outcome: str, detail: Any) -> None:
        """Something was lost: one of `OUTCOMES`."""
        self.count[outcome] += 1
        self.details.append(f"{outcome}: {detail}")

    def judge(self, outcome: str, problem: Any) -> None:
        """One fault: survived, where there is no problem."""
        self.failed(outcome, problem) if problem else self.survived()


@pytest.fixture
def tally(request: pytest.FixtureRequest, record_property: Callable[[str, Any], None]) -> Iterator[Tally]:
    """Counts faults; a test in which one was not survived fails."""
    tally = Tally()
    yield tally
    for outcome, count in tally.count.items():
        record_property(outcome, count)
    assert not tally.details, "\n".join(tally.details)
    assert tally.count["survived"], "no fault was counted"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Faults, survivals and losses over all tests, by file."""
    by_file: dict[str, Counter[str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "teardown":
                properties = {name: count for name, count in report.user_properties if name in OUTCOMES}
                by_file.setdefault(Path(report.nodeid.split("::")[0]).stem, Counter()).update(properties)
    total = sum(by_file.values(), Counter())
    if total:
        terminalreporter.section("faults")
        for name, count in [*sorted(by_file.items()), ("all", total)]:
            if count:
                told = ", ".join(f"{count[outcome]} {outcome}" for outcome in OUTCOMES)
                terminalreporter.write_line(f"{name}: {sum(count.values())} faults, {told}")


@pytest.fixture(scope="session")
def recipe(tiny_model: Path, manifests: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that lays the tiny model and corpora over any recipe."""
    config = {
        "model": {"backbone": str(tiny_model), "learning_rate": 1e-3},
        "data": {"train": {pair: manifests[pair] for pair in ("ko-en", "ja-en", "de-en")}, "workers": 0},
        "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "max_steps": 20},
        "checkpoint": {"every_n_steps": 1},
    }
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
