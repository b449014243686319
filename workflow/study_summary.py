"""What the workflow leaves of all seeds together."""

from __future__ import annotations

from pathlib import Path

from common.files import atomic_file
from workflow.collect import Collected
from workflow.curves import draw
from workflow.differences import differences
from workflow.study_figures import rates, to_bytes
from workflow.study_page import write_page
from workflow.study_table import write_study_table


def write_summary(collected: Collected) -> None:
    """Writes tables, figures and the page into the study's summary folder."""
    folder, found = Path(collected.study.summary), differences(collected)
    write_study_table(collected, folder, found)
    figures = {"rates": rates(collected)}
    figures |= {f"curve_{name}": draw(collected, curve) for name, curve in collected.study.curves.items()}
    for name, figure in figures.items():
        for kind in ("png", "svg"):
            with atomic_file(folder / f"{name}.{kind}") as partial:
                partial.write_bytes(to_bytes(figure, kind))
    write_page(collected, folder / "report.html", found)
