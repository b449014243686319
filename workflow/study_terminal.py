"""A study's end on the terminal: its table, and where everything is."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from scoring.terminal import to_terminal
from workflow.collect import Collected
from workflow.study_table import study_table


def show(collected: Collected) -> None:
    """Prints the table, pooled over utterances, and the files to open."""
    study, console, table = collected.study, Console(), study_table(collected)
    first = study.folder(study.seeds[0])
    places = {
        "transcripts": f"{study.scored(first)}/report.html",
        "all seeds" if len(study.seeds) > 1 else "study": f"{study.summary}/report.html",
        **({"heat maps": f"{first}/analysis/rows_changed.png"} if study.analyzes else {}),
        "table": f"{study.summary}/table.md (.csv, .tex, .json)",
    }
    console.print(to_terminal(replace(table, rows=[replace(row, macro={}) for row in table.rows])))
    for name, place in places.items():
        console.print(f"{name + ':':<13} {place}", soft_wrap=True, highlight=False, markup=False)
