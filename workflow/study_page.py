"""What a study leaves over all its seeds: tables, figures, one page that needs no other file, and a word at the end."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.console import Console

from common.files import atomic_file, write_text
from scoring.escape import visible
from scoring.table import AVERAGES, column_head, to_latex, to_markdown
from scoring.terminal import to_terminal
from workflow.collect import MICRO, Collected
from workflow.differences import Difference, differences
from workflow.study_figures import draw_curve, draw_rates, to_bytes
from workflow.study_table import (
    DIFFERENCES,
    StudyTable,
    beside,
    beside_the_paper,
    differing,
    study_table,
    to_csv,
    to_differences,
    to_json,
)

_PAGE = Path(__file__).parent / "page"


def write_summary(collected: Collected) -> None:
    """Write tables, figures and the page into the study's summary folder, each file atomically."""
    folder, found, table = Path(collected.study.summary), differences(collected), study_table(collected)
    markdown = [to_markdown(table), beside_the_paper(collected), to_differences(found)]
    write_text(folder / "table.md", "\n".join(filter(None, markdown)))
    write_text(folder / "table.tex", to_latex(table))
    write_text(folder / "table.csv", to_csv(collected))
    write_text(folder / "table.json", to_json(collected, found))
    figures = {"rates": draw_rates(collected)}
    figures |= {f"curve_{name}": draw_curve(collected, curve) for name, curve in collected.study.curves.items()}
    for name, figure in figures.items():
        for kind in ("png", "svg"):
            with atomic_file(folder / f"{name}.{kind}") as partial:
                partial.write_bytes(to_bytes(figure, kind))
    write_page(collected, folder / "report.html", found)


def show(collected: Collected) -> None:
    """Print the table, pooled over utterances, and the files to open."""
    study, console, table = collected.study, Console(), study_table(collected)
    first = study.folder(study.seeds[0])
    places = {
        "transcripts": f"{study.scored(first)}/report.html",
        "all seeds" if len(study.seeds) > 1 else "study": f"{study.summary}/report.html",
        **({"heat maps": f"{first}/analysis/rows_changed.png"} if study.analyzed_runs else {}),
        "table": f"{study.summary}/table.md (.csv, .tex, .json)",
    }
    console.print(to_terminal(replace(table, rows=[replace(row, macro={}) for row in table.rows])))
    for name, place in places.items():
        console.print(f"{name + ':':<13} {place}", soft_wrap=True, highlight=False, markup=False)


def write_page(collected: Collected, path: Path, found: Sequence[Difference] = ()) -> None:
    """Write the page, atomically.

    Args:
        collected: the study's figures.
        path: the file.
        found: the differences that the study asks for.
    """
    study, table = collected.study, study_table(collected)
    columns, lines = beside(collected)
    columns_apart, lines_apart = differing(found)
    first = Path(study.folder(study.seeds[0]))
    environment = Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    page = environment.get_template("report.html").render(
        title=f"Study: {study.scored(study.root)}",
        notes={"Seeds": ", ".join(map(str, study.seeds)), "Backbone": study.backbone},
        pages={
            seed: os.path.relpath(f"{study.scored(folder)}/report.html", path.parent)
            for folder, seed in study.folders.items()
        },
        caption=table.caption(MICRO),
        columns=[column_head(column, str) for column in table.columns],
        groups=_groups(table),
        rates=_base64(to_bytes(draw_rates(collected), "svg")),
        beside=lines,
        beside_columns=[column_head(column, str) for column in columns],
        source=study.printed.source,
        differing=lines_apart,
        differing_columns=[column_head(column, str) for column in columns_apart],
        differences=DIFFERENCES,
        curves={
            f"{curve.of} against {curve.axis}": _base64(to_bytes(draw_curve(collected, curve), "svg"))
            for curve in study.curves.values()
        },
        first_seed=study.seeds[0],
        analysis=f"{first}/analysis",
        heat_maps=_base64((first / "analysis/rows_changed.png").read_bytes()) if study.analyzed_runs else None,
    )
    write_text(path, page)


def _groups(table: StudyTable) -> list[tuple[str, list[tuple[str, list[tuple[str, bool, bool]]]]]]:
    """The rows by group; a cell is (text, whether the column's best, whether an average)."""
    return [
        (
            group,
            [(row.model, [(*table.cell(row, name), name in AVERAGES) for name in table.columns]) for row in rows],
        )
        for group, rows in table.groups
    ]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
