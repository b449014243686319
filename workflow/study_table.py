"""The study's table: means and spread over the seeds, and the paper's figures beside ours."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common import markdown as cards
from common.files import write_text
from scoring import escape
from scoring.bootstrap import Estimate
from scoring.table import DASH, MACRO, MICRO, TOLERANT, Row, Table, column_head, to_latex, to_markdown
from workflow.collect import Collected
from workflow.differences import Difference


@dataclass(frozen=True)
class StudyTable(Table):
    """A results table whose cells are means over seeds, with their standard deviation behind them.

    `deviations` has them as fractions, by averaging, model and column.
    """

    deviations: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    seeds: int = 1

    def cell(self, row: Row, column: str, figure: str = MICRO) -> tuple[str, bool]:
        """The mean in per cent with its deviation, and whether it is the column's best."""
        shown, best = super().cell(row, column, figure)
        deviation = self.deviations[figure][row.model].get(column)
        return (shown if deviation is None else f"{shown} ± {100 * deviation:.1f}"), best

    def caption(self, figure: str) -> str:
        """What the figures are, in a line."""
        over = f"; mean ± standard deviation over {self.seeds} seeds" if self.seeds > 1 else "; one seed"
        return super().caption(figure) + over


def study_table(collected: Collected) -> StudyTable:
    """The table of a study, in the layout of the paper's Table 1."""
    figures = collected.figures
    seen, unseen = collected.pairs

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
    return StudyTable(collected.profile, seen, unseen, rows, tags=tags, deviations=deviations, seeds=seeds)


def write_study_table(collected: Collected, folder: Path, found: Sequence[Difference] = ()) -> None:
    """Writes `table.md`, `table.tex`, `table.csv` and `table.json`, each atomically."""
    table = study_table(collected)
    write_text(
        folder / "table.md",
        "\n".join(filter(None, [to_markdown(table), beside_the_paper(collected), to_differences(found)])),
    )
    write_text(folder / "table.tex", to_latex(table))
    write_text(folder / "table.csv", to_csv(collected))
    write_text(folder / "table.json", to_json(collected, found))


DIFFERENCES = (
    "Differences in points, micro; in brackets the 95 % interval of a paired bootstrap over utterances and seeds"
)
Lines = list[tuple[str, list[tuple[str, list[str]]]]]


def beside(collected: Collected) -> tuple[list[str], Lines]:
    """The paper's figures, ours and the difference, in per cent: the columns, and three lines for each model."""
    printed = collected.study.printed
    columns = [column for column in collected.columns if any(column in figures for figures in printed.values())]
    lines = []
    for model, paper in printed.items():
        ours = {column: collected.figure(model, column).mean for column in paper}
        less = {column: ours[column] - paper[column] for column in paper}
        of_model = (("paper", paper, ""), ("ours", ours, ""), ("difference", less, "+"))
        lines.append((model, [(name, _shown(figures, columns, sign)) for name, figures, sign in of_model]))
    return columns, lines


def beside_the_paper(collected: Collected) -> str:
    """Returns `beside` as a Markdown table; nothing where none of the paper's figures are known."""
    columns, lines = beside(collected)
    if not lines:
        return ""
    rows = [
        ("" if position else escape.markdown(model), name, *cells)
        for model, of_model in lines
        for position, (name, cells) in enumerate(of_model)
    ]
    head = ("Model", "", *(column_head(column, escape.markdown) for column in columns))
    caption = f"Beside the paper (%, micro). {escape.markdown(collected.study.printed_source)}"
    return f"{caption}\n\n{cards.table(head, rows, 2)}\n"


def _shown(figures: Mapping[str, float], columns: list[str], sign: str) -> list[str]:
    return [f"{100 * figures[column]:{sign}.1f}" if column in figures else DASH for column in columns]


def differing(found: Sequence[Difference]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Differences in points with their intervals: the columns, and a line for each pair of rows."""
    columns = list(found[0].by_average) if found else []
    lines = [(f"{one.model} − {one.other}", [_interval(one.by_average[name]) for name in columns]) for one in found]
    return columns, lines


def _interval(estimate: Estimate) -> str:
    value, low, high = (DASH if x is None else f"{100 * x:+.1f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def to_differences(found: Sequence[Difference]) -> str:
    """Returns `differing` as a Markdown table; nothing where no differences are asked for."""
    columns, lines = differing(found)
    if not lines:
        return ""
    head = ("", *(column_head(column, escape.markdown) for column in columns))
    rows = [(escape.markdown(name), *cells) for name, cells in lines]
    return f"{DIFFERENCES}\n\n{cards.table(head, rows, 1)}\n"


def to_csv(collected: Collected) -> str:
    """Returns all figures as CSV, a line a model, column and averaging; rates are fractions."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["model", "group", "column", "averaging", "mean", "deviation", "seeds", "paper", "difference"])
    for model, group in collected.groups.items():
        printed = collected.study.printed.get(model, {})
        for averaging in collected.figures:
            for column in collected.columns:
                figure = collected.figure(model, column, averaging)
                paper = printed.get(column) if averaging == MICRO else None
                numbers = (figure.mean, figure.deviation, len(figure.by_seed), paper, paper and figure.mean - paper)
                cells = ["" if number is None else repr(number) for number in numbers]
                writer.writerow([escape.csv(model), escape.csv(group), escape.csv(column), averaging, *cells])
    return buffer.getvalue()


def to_json(collected: Collected, found: Sequence[Difference] = ()) -> str:
    """Returns all figures as JSON: rates are fractions, by seed."""
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
            "paper": collected.study.printed.get(model, {}),
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
