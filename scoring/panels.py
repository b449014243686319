"""The report's figures, laid out as panels: a box a test set, a row a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from common.code_mixing import MAX_DISTANCE
from scoring.bootstrap import Estimate
from scoring.contributions import EDITS
from scoring.failures import FAILURES
from scoring.plots import PlotScale, interval_strip, stacked_strip
from scoring.results import Results, error_rates, having
from scoring.summary import per_cent
from scoring.table import AVERAGES, DASH, SINGLE, Table

Figures = Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Panel:
    """A test set's box in a section of the page: its columns, and a row a model of cells ready to show."""

    name: str
    title: str
    about: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Any]]]


def rate_panels(results: Results, table: Table, sets: Sequence[str]) -> tuple[PlotScale, list[Panel]]:
    """Return MER with its interval by test set and average; a cell is (plot, per cent, interval, whether best).

    Args:
        results: scores by model, then by test set.
        table: the results table of the same models.
        sets: the test sets to show.
    """
    found = {model: error_rates(by_set, table.seen, table.unseen) for model, by_set in results.items()}
    columns = {name: {model: rates[name] for model, rates in found.items() if name in rates} for name in table.columns}
    columns = {name: column for name, column in columns.items() if column}
    oracles = {row.model for row in table.rows if row.is_oracle}
    scale = PlotScale.over(
        estimate.high or estimate.value for column in columns.values() for estimate in column.values()
    )
    panels = []
    for name, column in columns.items():
        lowest = min((estimate.value for model, estimate in column.items() if model not in oracles), default=None)
        rows = []
        for model, estimate in column.items():
            best = model not in oracles and estimate.value == lowest
            rows.append((model, (interval_strip(estimate, scale), per_cent(estimate.value), _span(estimate), best)))
        panels.append(Panel(name, *_rate_title(name, table), (), rows))
    return scale, panels


def _rate_title(name: str, table: Table) -> tuple[str, str]:
    if name in AVERAGES:
        return f"Average of {name} {'languages' if name == SINGLE else 'pairs'}", ""
    return name.upper(), "seen in training" if name in table.seen else "unseen" if name in table.unseen else ""


def language_panels(results: Results, sets: Sequence[str]) -> tuple[PlotScale, list[Panel]]:
    """Return errors by kind for each language of each test set; a cell is (plot, per cent)."""
    by_set = {name: _figures(results, name) for name in sets}
    keys = {name: _language_keys(next(iter(by_model.values()))) for name, by_model in by_set.items()}
    rates = (f[key].value for name, by_model in by_set.items() for f in by_model.values() for key in keys[name])
    scale = PlotScale.over(rates, steps=3)

    def cell(figures: Figures, key: str) -> tuple[Markup, str]:
        bar = [(kind, figures[f"{key}.{kind}"].value) for kind in EDITS.values()]
        return stacked_strip(bar, scale), per_cent(figures[key].value)

    return scale, [
        Panel(
            name,
            name.upper(),
            "",
            [key.removeprefix("language.") for key in keys[name]],
            [(model, [cell(figures, key) for key in keys[name]]) for model, figures in by_model.items()],
        )
        for name, by_model in by_set.items()
    ]


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


def _heat(name: str, by_model: Mapping[str, Figures], heads: Mapping[str, str]) -> Panel:
    """A panel of numbers on a ground that is the darker the worse; a cell is (text, darkness, interval)."""
    rows = [(model, [_heat_cell(key, figures.get(key)) for key in heads]) for model, figures in by_model.items()]
    return Panel(name, name.upper(), "", list(heads.values()), rows)


def _heat_cell(key: str, estimate: Estimate | None) -> tuple[str, float, str]:
    if estimate is None or math.isnan(estimate.value):
        return DASH, 0.0, ""
    if key == "length_ratio":
        return f"{estimate.value:.2f}", min(abs(estimate.value - 1), 1.0), ""
    return per_cent(estimate.value), min(estimate.value, 1.0), _span(estimate)


def _figures(results: Results, name: str) -> dict[str, Figures]:
    return {model: result.estimates for model, result in having(results, name).items()}


def _language_keys(figures: Figures) -> list[str]:
    return sorted(key for key in figures if f"{key}.deletions" in figures and figures[key].denominator > 0)


def _span(estimate: Estimate) -> str:
    return "" if estimate.low is None else f"{per_cent(estimate.low)}–{per_cent(estimate.high)}"
