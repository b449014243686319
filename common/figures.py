"""Figures as files: whole or absent, the same bytes for the same data."""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from common.files import atomic_file


def save(figure: Figure, stem: Path | str, dpi: int = 200) -> None:
    """Write `stem`.png and `stem`.svg.

    Args:
        figure: what to write.
        stem: their path without its ending.
        dpi: pixels an inch, of the PNG.
    """
    for kind, undated in (("png", {"Software": None}), ("svg", {"Date": None})):
        with rc_context({"svg.hashsalt": "crosspair"}), atomic_file(f"{stem}.{kind}") as partial:
            figure.savefig(partial, format=kind, dpi=dpi, metadata=undated)
