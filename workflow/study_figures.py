"""A study's figures: the error rates of all models at a glance, and curves over one choice that the study varies."""

from typing import Any

from matplotlib.figure import Figure

from common.escape import figure as text_of
from scoring.table import AVERAGES, SEEN, UNSEEN, column_head
from workflow.collect import Collected
from workflow.study_file import Curve

# Colours of Okabe and Ito, distinct for colour-blind readers; shapes and dashes differ, too.
_BLUE, _ORANGE = "#0072B2", "#D55E00"
_KINDS = ((SEEN, "seen pairs", _BLUE, "o"), (UNSEEN, "unseen pairs", _ORANGE, "D"))
_BESIDE = ((_ORANGE, "--"), ("#009E73", ":"), ("#CC79A7", "-."))
_SEED = {"alpha": 0.35, "markersize": 3.5, "markeredgewidth": 0}
_ROW_IN = 0.26


def draw_rates(collected: Collected) -> Figure:
    """Draw one line for each model: the mean over the seeds as a large mark, each seed as a small one."""
    places, groups = _places(collected)
    figure = Figure(figsize=(9, _ROW_IN * (max(places.values()) + 1) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    for column, label, colour, shape in _KINDS:
        for model, place in places.items():
            cell = collected.figure(model, column)
            shares = [100 * rate for rate in cell.by_seed]
            axes.plot(shares, [place] * len(shares), shape, color=colour, **_SEED)
            axes.plot(100 * cell.mean, place, shape, color=colour, markersize=7, label=label)
            label = "_"
    for place, group in groups.items():
        axes.text(0, place, f" {text_of(group)}", fontsize=9, color="#555555", style="italic", va="center")
    axes.set_yticks(list(places.values()), [text_of(model) for model in places], fontsize=9)
    axes.set_ylim(max(places.values()) + 0.7, -0.7)
    axes.set_xlim(left=0)
    axes.set_xlabel("mixed error rate (%), micro, average over pairs")
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"Seen and unseen pairs by model ({_seeds(collected)})", loc="left", fontsize=11)
    _clear(axes, "x", "top", "right", "left")
    figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    return figure


def draw_curve(collected: Collected, curve: Curve) -> Figure:
    """Draw the means over the seeds as a line, each seed as a small mark, and rows `beside` as horizontal lines."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes = figure.add_subplot()
    points = sorted((place, collected.figure(row, curve.of)) for row, place in curve.rows.items())
    for place, cell in points:
        shares = [100 * rate for rate in cell.by_seed]
        axes.plot([place] * len(shares), shares, "o", color=_BLUE, **_SEED)
    axes.plot([place for place, _ in points], [100 * cell.mean for _, cell in points], "o-", color=_BLUE, markersize=6)
    for row, (colour, dashes) in zip(curve.beside, _BESIDE, strict=False):
        level = 100 * collected.figure(row, curve.of).mean
        axes.axhline(level, color=colour, linestyle=dashes, linewidth=1.5)
        axes.annotate(
            f"{text_of(row)} {level:.1f}", (1, level), xycoords=("axes fraction", "data"), xytext=(4, 0),
            textcoords="offset points", color=colour, fontsize=9, va="center",
        )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xticks([place for place, _ in points])
    axes.set_xlabel(text_of(curve.axis))
    name = f"{curve.of} average" if curve.of in AVERAGES else column_head(curve.of, str)
    axes.set_ylabel(f"mixed error rate (%), {name}")
    axes.set_title(_seeds(collected), loc="left", fontsize=10)
    _clear(axes, "y", "top", "right")
    return figure


def _clear(axes: Any, grid: str, *spines: str) -> None:
    axes.grid(axis=grid, color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[list(spines)].set_visible(False)


def _seeds(collected: Collected) -> str:
    seeds = len(collected.study.seeds)
    return f"mean over {seeds} seeds; small marks: each seed" if seeds > 1 else "one seed"


def _places(collected: Collected) -> tuple[dict[str, int], dict[int, str]]:
    """The line of each model, and of each group's heading above its models."""
    places, groups, line = {}, {}, 0
    for model, group in collected.groups.items():
        if group not in groups.values():
            groups[line] = group
            line += 1
        places[model] = line
        line += 1
    return places, groups
