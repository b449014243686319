"""An error rate against one choice that a study varies, such as the share of spliced hearings."""

from __future__ import annotations

from matplotlib.figure import Figure

from scoring.escape import visible
from scoring.table import AVERAGES, column_head
from workflow.collect import Collected
from workflow.plan import Curve

_LINE = "#0072B2"  # of Okabe and Ito, apart for colour-blind readers; rows beside differ in their dashes, too
_BESIDE = (("#D55E00", "--"), ("#009E73", ":"), ("#CC79A7", "-."))


def draw(collected: Collected, curve: Curve) -> Figure:
    """Draws the means over the seeds as a line, each seed as a small mark, and rows beside as level lines."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.add_subplot()
    points = sorted((place, collected.figure(row, curve.of)) for row, place in curve.rows.items())
    for place, cell in points:
        rates = [100 * rate for rate in cell.by_seed]
        if len(rates) > 1:
            axes.plot([place] * len(rates), rates, "o", color=_LINE, alpha=0.35, markersize=3.5, markeredgewidth=0)
    axes.plot([place for place, _ in points], [100 * cell.mean for _, cell in points], "o-", color=_LINE, markersize=6)
    for row, (colour, dashes) in zip(curve.beside, _BESIDE, strict=False):
        level = 100 * collected.figure(row, curve.of).mean
        axes.axhline(level, color=colour, linestyle=dashes, linewidth=1.5)
        axes.annotate(
            f"{visible(row)} {level:.1f}",
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            color=colour,
            fontsize=9,
            va="center",
        )
    axes.set_ylim(bottom=0)
    axes.set_xticks([place for place, _ in points])
    axes.set_xlabel(visible(curve.axis))
    name = f"{curve.of} average" if curve.of in AVERAGES else column_head(curve.of, str)
    axes.set_ylabel(f"mixed error rate (%), {name}")
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    seeds = len(collected.study.seeds)
    axes.set_title(
        f"mean over {seeds} seeds; small marks: each seed" if seeds > 1 else "one seed", loc="left", fontsize=10
    )
    return figure
