"""A study's table: means and spread over the seeds, the paper's figures beside ours, differences between rows."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common import escape
from common import markdown as cards
from common.csv_text import csv_text
from scoring.bootstrap import Estimate
from scoring.results import estimate_to_dict
from scoring.table import DASH, MACRO, MICRO, SEEN, TOLERANT, UNSEEN, Row, Table, column_head
from workflow.collect import Collected, Differences


@dataclass(frozen=True)
class StudyTable(Table):
    """A results table of means over seeds, each with its standard deviation.

    With several seeds, a column's best is bold only where its mean ± deviation overlaps no other's, oracles aside.
    `deviations` has fractions, by averaging, model and column.
    """

    deviations: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    seeds: int = 1

    def deviation(self, row: Row, column: str, figure: str = MICRO) -> float | None:
        """Return a cell's standard deviation over the seeds; None where the seeds do not matter.

        Args:
            row: the model.
            column: a test set or an average.
            figure: micro, script-tolerant or macro.
        """
        return self.deviations[figure][row.model].get(column)

    def cell(self, row: Row, column: str, figure: str = MICRO) -> tuple[str, bool]:
        """Return the mean in per cent with its deviation, and whether it is the column's best.

        Args:
            row: the model.
            column: a test set or an average.
            figure: micro, script-tolerant or macro.
        """
        shown, best = super().cell(row, column, figure)
        deviation = self.deviation(row, column, figure)
        if best and self.seeds > 1:
            others = [other for other in self.rows if other is not row and not other.is_oracle]
            upper = (self.value(row, column, figure) or 0) + (deviation or 0)
            best = all(self._lower(other, column, figure) > upper for other in others)
        return (shown if deviation is None else f"{shown} ± {100 * deviation:.1f}"), best

    def caption(self, figure: str) -> str:
        """Return what the figures are, in a line."""
        text = super().caption(figure)
        if self.seeds == 1:
            return f"{text}; one seed"
        text = text.replace("best in bold", "best in bold where its spread overlaps no other's")
        return f"{text}; mean ± standard deviation over {self.seeds} seeds"

    def _lower(self, row: Row, column: str, figure: str) -> float:
        value = self.value(row, column, figure)
        return math.inf if value is None else value - (self.deviation(row, column, figure) or 0)


def study_table(collected: Collected) -> StudyTable:
    """Return the table of a study, in the layout of the paper's Table 1."""
    figures, study = collected.figures, collected.study

    def means(kind: str, model: str) -> dict[str, float]:
        return {name: figures[kind][model][name].mean for name in study.evaluation["test"]} if kind in figures else {}

    rows = [
        Row(model, group, means(MICRO, model), means(MACRO, model), means(TOLERANT, model))
        for model, group in collected.groups.items()
    ]
    deviations = {
        kind: {model: {column: figure.deviation for column, figure in of.items()} for model, of in by_model.items()}
        for kind, by_model in figures.items()
    }
    pairs = study.averages[SEEN], study.averages[UNSEEN]
    return StudyTable(
        collected.profile,
        *pairs,
        rows,
        tags=study.own_tags,
        deviations=deviations,
        seeds=len(study.seeds),
        rules=collected.rules,
    )


@dataclass(frozen=True)
class Grid:
    """A table beside the error rates, of text; the first `names` columns hold no figures."""

    title: str
    caption: str
    names: int
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_markdown(self) -> str:
        """Return the caption and the table in Markdown."""
        shown = ([*map(escape.markdown, row[: self.names]), *row[self.names :]] for row in self.rows)
        return (
            f"{escape.markdown(self.caption)}\n\n{cards.table([*map(escape.markdown, self.head)], shown, self.names)}\n"
        )


def grids(collected: Collected, found: Differences) -> list[Grid]:
    """Return the paper's figures beside ours, and the differences between rows, as far as the study names them."""
    return [grid for grid in (beside(collected), differing(found)) if grid.rows]


def beside(collected: Collected) -> Grid:
    """Return the paper's figures, ours and the difference, in per cent: three lines a model."""
    printed = collected.study.printed
    columns = [column for column in collected.columns if any(column in figures for figures in printed.rows.values())]
    rows = []
    for model, paper in printed.rows.items():
        ours = {column: collected.figure(model, column).mean for column in paper}
        less = {column: ours[column] - paper[column] for column in paper}
        lines = (model, "paper", paper, ""), ("", "ours", ours, ""), ("", "difference", less, "+")
        for first, name, figures, sign in lines:
            cells = [f"{100 * figures[column]:{sign}.1f}" if column in figures else DASH for column in columns]
            rows.append([first, name, *cells])
    caption = f"Beside the paper (%, micro). {printed.source}"
    return Grid("Beside the paper", caption, 2, ["Model", "", *(column_head(column, str) for column in columns)], rows)


def differing(found: Differences) -> Grid:
    """Return differences in points with their intervals: a line for each pair of rows."""
    columns = next(iter(found.values()), {})
    rows = [
        [f"{model} − {other}", *map(_interval, by_average.values())] for (model, other), by_average in found.items()
    ]
    drawn = "the 95 % interval of a paired bootstrap over utterances and seeds"
    return Grid(
        "Differences",
        f"Differences in points, micro; in brackets {drawn}",
        1,
        ["", *(column_head(column, str) for column in columns)],
        rows,
    )


def _interval(estimate: Estimate) -> str:
    value, low, high = (DASH if x is None else f"{100 * x:+.1f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def to_csv(collected: Collected) -> str:
    """Return all figures as CSV, a line a model, column and averaging; rates are fractions."""
    lines = [["model", "group", "column", "averaging", "mean", "deviation", "seeds", "paper", "difference"]]
    for model, group in collected.groups.items():
        printed = collected.study.printed.rows.get(model, {})
        for averaging, column in itertools.product(collected.figures, collected.columns):
            figure = collected.figure(model, column, averaging)
            paper = printed.get(column) if averaging == MICRO else None
            numbers = (figure.mean, figure.deviation, len(figure.by_seed), paper, paper and figure.mean - paper)
            cells = ["" if number is None else repr(number) for number in numbers]
            lines.append([*map(escape.csv, (model, group, column)), averaging, *cells])
    return csv_text(lines)


def to_json(collected: Collected, found: Differences) -> str:
    """Return all figures as JSON: rates are fractions, by seed."""
    rows = [
        {
            "model": model,
            "group": group,
            "figures": {
                averaging: {
                    column: {"mean": figure.mean, "deviation": figure.deviation, "by_seed": list(figure.by_seed)}
                    for column, figure in collected.figures[averaging][model].items()
                }
                for averaging in collected.figures
            },
            "paper": collected.study.printed.rows.get(model, {}),
        }
        for model, group in collected.groups.items()
    ]
    document = {"profile": collected.profile, "seeds": collected.study.seeds, "rows": rows}
    if found:
        document["differences"] = [
            {"model": model, "other": other} | {name: estimate_to_dict(one) for name, one in by_average.items()}
            for (model, other), by_average in found.items()
        ]
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
