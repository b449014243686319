"""A study's table: means and spread over the seeds, the paper's figures beside ours, differences between rows."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common import markdown as cards
from scoring import escape
from scoring.bootstrap import Estimate
from scoring.table import DASH, MACRO, MICRO, SEEN, TOLERANT, UNSEEN, Row, Table, column_head
from workflow.collect import Collected
from workflow.differences import Difference


@dataclass(frozen=True)
class StudyTable(Table):
    """A results table of means over seeds, each with its standard deviation.

    With several seeds, a column's best is bold only where its mean ± deviation overlaps no other's, oracles aside.
    `deviations` has fractions, by averaging, model and column.
    """

    deviations: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    seeds: int = 1

    def deviation(self, row: Row, column: str, figure: str = MICRO) -> float | None:
        """Return a cell's standard deviation over the seeds; None where the seeds do not matter."""
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
    figures = collected.figures

    def means(kind: str, model: str) -> dict[str, float]:
        return {name: figures[kind][model][name].mean for name in _sets(collected)} if kind in figures else {}

    rows = [
        Row(model, group, means(MICRO, model), means(MACRO, model), means(TOLERANT, model))
        for model, group in collected.groups.items()
    ]
    deviations = {
        kind: {model: {column: figure.deviation for column, figure in of.items()} for model, of in by_model.items()}
        for kind, by_model in figures.items()
    }
    tags = {row["name"]: row["language"] for row in collected.study.rows(0) if "language" in row}
    seeds = len(collected.study.seeds)
    pairs = collected.averages[SEEN], collected.averages[UNSEEN]
    return StudyTable(collected.profile, *pairs, rows, tags=tags, deviations=deviations, seeds=seeds)


DIFFERENCES = (
    "Differences in points, micro; in brackets the 95 % interval of a paired bootstrap over utterances and seeds"
)
Lines = list[tuple[str, list[tuple[str, list[str]]]]]


def beside(collected: Collected) -> tuple[list[str], Lines]:
    """Return the paper's figures, ours and the difference, in per cent: the columns, and three lines a model."""
    printed = collected.study.printed.rows
    columns = [column for column in collected.columns if any(column in figures for figures in printed.values())]
    lines = []
    for model, paper in printed.items():
        ours = {column: collected.figure(model, column).mean for column in paper}
        less = {column: ours[column] - paper[column] for column in paper}
        of_model = (("paper", paper, ""), ("ours", ours, ""), ("difference", less, "+"))
        lines.append((model, [(name, _shown(figures, columns, sign)) for name, figures, sign in of_model]))
    return columns, lines


def beside_the_paper(collected: Collected) -> str:
    """Return `beside` as a Markdown table; empty where none of the paper's figures are known."""
    columns, lines = beside(collected)
    rows = [
        ("" if position else escape.markdown(model), name, *cells)
        for model, of_model in lines
        for position, (name, cells) in enumerate(of_model)
    ]
    head = ("Model", "", *(column_head(column, escape.markdown) for column in columns))
    caption = f"Beside the paper (%, micro). {escape.markdown(collected.study.printed.source)}"
    return f"{caption}\n\n{cards.table(head, rows, 2)}\n" if rows else ""


def _shown(figures: Mapping[str, float], columns: list[str], sign: str) -> list[str]:
    return [f"{100 * figures[column]:{sign}.1f}" if column in figures else DASH for column in columns]


def differing(found: Sequence[Difference]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return differences in points with their intervals: the columns, and a line for each pair of rows."""
    columns = list(found[0].by_average) if found else []
    lines = [(f"{one.model} − {one.other}", [_interval(one.by_average[name]) for name in columns]) for one in found]
    return columns, lines


def _interval(estimate: Estimate) -> str:
    value, low, high = (DASH if x is None else f"{100 * x:+.1f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def to_differences(found: Sequence[Difference]) -> str:
    """Return `differing` as a Markdown table; empty where no differences are asked for."""
    columns, lines = differing(found)
    head = ("", *(column_head(column, escape.markdown) for column in columns))
    rows = [(escape.markdown(name), *cells) for name, cells in lines]
    return f"{DIFFERENCES}\n\n{cards.table(head, rows, 1)}\n" if rows else ""


def to_csv(collected: Collected) -> str:
    """Return all figures as CSV, a line a model, column and averaging; rates are fractions."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["model", "group", "column", "averaging", "mean", "deviation", "seeds", "paper", "difference"])
    for model, group in collected.groups.items():
        printed = collected.study.printed.rows.get(model, {})
        for averaging in collected.figures:
            for column in collected.columns:
                figure = collected.figure(model, column, averaging)
                paper = printed.get(column) if averaging == MICRO else None
                numbers = (figure.mean, figure.deviation, len(figure.by_seed), paper, paper and figure.mean - paper)
                cells = ["" if number is None else repr(number) for number in numbers]
                writer.writerow([escape.csv(model), escape.csv(group), escape.csv(column), averaging, *cells])
    return buffer.getvalue()


def to_json(collected: Collected, found: Sequence[Difference] = ()) -> str:
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
            {
                "model": one.model,
                "other": one.other,
                **{name: {"value": of.value, "low": of.low, "high": of.high} for name, of in one.by_average.items()},
            }
            for one in found
        ]
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _sets(collected: Collected) -> list[str]:
    return list(collected.study.evaluation["test"])
