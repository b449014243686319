"""What a study leaves over all its seeds: tables, figures, and one page that needs no other file."""

import base64
import os
from dataclasses import replace
from pathlib import Path

from common.escape import template
from common.figures import save
from common.files import write_text
from common.printing import console, show
from scoring.table import AVERAGES, MICRO, column_head, to_latex, to_markdown
from scoring.terminal import to_terminal
from workflow.collect import Collected, differences
from workflow.study_figures import draw_curve, draw_rates
from workflow.study_table import grids, study_table, to_csv, to_json

_PAGE = Path(__file__).parent / "page/report.html"


def write_summary(collected: Collected) -> None:
    """Write tables, figures and the page into the study's summary folder, each file atomically."""
    study, table, found = collected.study, study_table(collected), differences(collected)
    folder, beside = Path(study.summary), grids(collected, found)
    write_text(folder / "table.md", "\n".join([to_markdown(table), *(grid.to_markdown() for grid in beside)]))
    write_text(folder / "table.tex", to_latex(table))
    write_text(folder / "table.csv", to_csv(collected))
    write_text(folder / "table.json", to_json(collected, found))
    figures = {"rates": draw_rates(collected)}
    figures |= {f"curve_{name}": draw_curve(collected, curve) for name, curve in study.curves.items()}
    for name, figure in figures.items():
        save(figure, folder / name, dpi=150)
    analysis = Path(study.folder(study.seeds[0]), "analysis")
    page = template(_PAGE).render(
        study=study,
        title=f"Study: {study.scored(study.root)}",
        pages={
            seed: os.path.relpath(f"{study.scored(written)}/report.html", folder)
            for written, seed in study.folders.items()
        },
        table=table,
        caption=table.caption(MICRO),
        head=lambda column: column_head(column, str),
        averages=AVERAGES,
        rates=_base64(folder / "rates.svg"),
        curves=[
            (f"{curve.of} against {curve.axis}", _base64(folder / f"curve_{name}.svg"))
            for name, curve in study.curves.items()
        ],
        grids=beside,
        analysis=str(analysis),
        heat_maps=_base64(analysis / "rows_changed.png") if study.analyze.of else None,
    )
    write_text(folder / "report.html", page)


def show_study(collected: Collected) -> None:
    """Print the table, pooled over utterances, and the files to open."""
    study, table = collected.study, study_table(collected)
    first = study.folder(study.seeds[0])
    places = {
        "transcripts": f"{study.scored(first)}/report.html",
        "all seeds" if len(study.seeds) > 1 else "study": f"{study.summary}/report.html",
        **({"heat maps": f"{first}/analysis/rows_changed.png"} if study.analyze.of else {}),
        "table": f"{study.summary}/table.md (.csv, .tex, .json)",
    }
    console().print(to_terminal(replace(table, rows=[replace(row, macro={}) for row in table.rows])))
    for name, place in places.items():
        show(f"{name + ':':<13} {place}")


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
