"""One page of a whole study: table over the seeds, the paper beside it, figures. Needs nothing but itself."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.files import write_text
from scoring.escape import visible
from scoring.table import AVERAGES, column_head
from workflow.claims import claims
from workflow.collect import MICRO, Collected
from workflow.curves import draw
from workflow.differences import Difference
from workflow.study_figures import rates, to_bytes
from workflow.study_table import DIFFERENCES, StudyTable, beside, differing, study_table

_PAGE = Path(__file__).parent / "page"


def write_page(collected: Collected, path: Path, found: Sequence[Difference] = ()) -> None:
    """Writes the page, atomically."""
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
        rates=_base64(to_bytes(rates(collected), "svg")),
        beside=lines,
        beside_columns=[column_head(column, str) for column in columns],
        source=study.printed_source,
        claims=claims(collected),
        differing=lines_apart,
        differing_columns=[column_head(column, str) for column in columns_apart],
        differences=DIFFERENCES,
        curves={
            f"{curve.of} against {curve.axis}": _base64(to_bytes(draw(collected, curve), "svg"))
            for curve in study.curves.values()
        },
        seeds=len(study.seeds),
        first_seed=study.seeds[0],
        analysis=f"{first}/analysis",
        heat_maps=_base64((first / "analysis/rows_changed.png").read_bytes()) if study.analyzes else None,
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
