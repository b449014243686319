"""What the workflow leaves of all seeds together."""

from __future__ import annotations

from pathlib import Path

from common.files import atomic_file
from study.collect import Collected
from study.figures import rates, to_bytes
from study.page import write_page
from study.table import write_study_table


def write_summary(collected: Collected) -> None:
    """Writes tables, the figure and the page into the study's summary folder."""
    folder = Path(collected.study.summary)
    write_study_table(collected, folder)
    figure = rates(collected)
    for kind in ("png", "svg"):
        with atomic_file(folder / f"rates.{kind}") as partial:
            partial.write_bytes(to_bytes(figure, kind))
    write_page(collected, folder / "report.html")
