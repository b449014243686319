"""The report's figures, laid out as panels: one box for each test set, one row for each model; and their scales.

`page/report.html` draws the plots as inline SVG in per cent of their width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.code_mixing import MAX_DISTANCE
from scoring.bootstrap import Estimate
from scoring.contributions import EDITS
from scoring.failures import FAILURES
from scoring.results import Results, error_rates, having
from scoring.summary import per_cent
from scoring.table import AVERAGES, DASH, SINGLE, Table

Figures = Mapping[str, Estimate]
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0)
_CEILING = 1.5  # rates above are drawn at the edge, with an arrow


@dataclass(frozen=True, slots=True)
class PlotScale:
    """A linear axis from 0 to `end` (a fraction), with a tick every `step`."""

    end: float
    step: float

    @classmethod
    def over(cls, values: Iterable[float | None], steps: int = 5) -> PlotScale:
        """Return the smallest round scale of so many steps that holds all values (NaN and None aside), up to 150 %."""
        largest = max((value for value in values if value is not None and not math.isnan(value)), default=0.0)
        largest = min(max(largest, 0.01), _CEILING)
        step = next((step for step in _STEPS if largest / step <= steps), _STEPS[-1])
        return cls(end=step * math.ceil(largest / step - 1e-9), step=step)

    def at(self, value: float) -> str:
        """Return the position of a value, e.g. `37.50%`."""
        return f"{100 * min(max(value / self.end, 0), 1):.2f}%"

    def width(self, begin: float, end: float) -> str:
        """Return the distance of two values' rounded positions, so that neighbouring bars leave no gap."""
        return f"{float(self.at(end)[:-1]) - float(self.at(begin)[:-1]):.2f}%"

    @property
    def ticks(self) -> list[float]:
        """The tick values, 0 and the end included."""
        return [self.step * n for n in range(round(self.end / self.step) + 1)]


@dataclass(frozen=True, slots=True)
class Panel:
    """A test set's box in a section of the page: its columns, and a row a model of what its cells show."""

    name: str
    title: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Any]]]
    about: str = ""


def rate_panels(results: Results, table: Table) -> tuple[PlotScale, list[Panel]]:
    """Return the error rate by test set and average; a row is (estimate, whether it is the lowest)."""
    found = {model: error_rates(by_set, table.seen, table.unseen) for model, by_set in results.items()}
    oracles = {row.model for row in table.rows if row.is_oracle}
    panels = []
    for name in table.columns:
        column = {model: rates[name] for model, rates in found.items() if name in rates}
        lowest = min((estimate.value for model, estimate in column.items() if model not in oracles), default=None)
        rows = [(model, (one, model not in oracles and one.value == lowest)) for model, one in column.items()]
        average = f"Average of {name} {'languages' if name == SINGLE else 'pairs'}"
        about = "seen in training" if name in table.seen else "unseen" if name in table.unseen else ""
        if rows:
            panels.append(Panel(name, average if name in AVERAGES else name.upper(), (), rows, about))
    return PlotScale.over(one.high or one.value for panel in panels for _, (one, _) in panel.rows), panels


def language_panels(results: Results, sets: Sequence[str]) -> tuple[PlotScale, list[Panel]]:
    """Return errors by kind for each language of each test set; a cell is (share by kind, error rate)."""
    panels = []
    for name in sets:
        by_model = _figures(results, name)
        first = next(iter(by_model.values()))
        keys = sorted(key for key in first if f"{key}.deletions" in first and first[key].denominator > 0)
        rows = [
            (model, [({kind: f[f"{key}.{kind}"].value for kind in EDITS.values()}, f[key].value) for key in keys])
            for model, f in by_model.items()
        ]
        panels.append(Panel(name, name.upper(), [key.removeprefix("language.") for key in keys], rows))
    return PlotScale.over((rate for one in panels for _, cells in one.rows for _, rate in cells), steps=3), panels


def place_panels(results: Results, sets: Sequence[str]) -> list[Panel]:
    """Return errors by distance to the switch, by its direction, and at points of interest, where there are any."""
    distances = {f"distance.{n}": f"{n}{'+' * (n == MAX_DISTANCE)}" for n in range(MAX_DISTANCE + 1)}
    interest = {"pier": "PIER", "pier.rest": "rest", "embedded_deletion": "lost"}
    panels = []
    for name in sets:
        by_model = _figures(results, name)
        known = sorted({key for figures in by_model.values() for key in figures})
        directions = {k: k.removeprefix("direction.").replace(">", "→") for k in known if k.startswith("direction.")}
        heads = {key: head for key, head in (distances | directions | interest).items() if key in known}
        if heads:
            panels.append(_heat(name, by_model, heads))
    return panels


def failure_panels(results: Results, sets: Sequence[str]) -> list[Panel]:
    """Return the rates of failed hypotheses, and the length ratio."""
    heads = {f"failure.{name}": name.replace("_", " ") for name in FAILURES} | {"length_ratio": "length ratio"}
    return [_heat(name, _figures(results, name), heads) for name in sets]


def interval(estimate: Estimate) -> str:
    """Return an estimate's 95 % interval in per cent, nothing where it has none."""
    return "" if estimate.low is None else f"{per_cent(estimate.low)}–{per_cent(estimate.high)}"


def _heat(name: str, by_model: Mapping[str, Figures], heads: Mapping[str, str]) -> Panel:
    """Return a panel of numbers with a darker background for worse ones; a cell is (text, darkness, interval)."""
    rows = [(model, [_heat_cell(key, figures.get(key)) for key in heads]) for model, figures in by_model.items()]
    return Panel(name, name.upper(), list(heads.values()), rows)


def _heat_cell(key: str, estimate: Estimate | None) -> tuple[str, float, str]:
    if estimate is None or math.isnan(estimate.value):
        return DASH, 0.0, ""
    if key == "length_ratio":
        return f"{estimate.value:.2f}", min(abs(estimate.value - 1), 1.0), ""
    return per_cent(estimate.value), min(estimate.value, 1.0), interval(estimate)


def _figures(results: Results, name: str) -> dict[str, Figures]:
    return {model: result.estimates for model, result in having(results, name).items()}
