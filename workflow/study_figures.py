"""The study at a glance: error on seen and unseen pairs by model, with every seed."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

from scoring.escape import visible
from scoring.table import SEEN, UNSEEN
from workflow.collect import Collected

# Blue and orange of Okabe and Ito, apart for colour-blind readers; the shapes differ, too.
_KINDS = ((SEEN, "seen pairs", "#0072B2", "o"), (UNSEEN, "unseen pairs", "#D55E00", "D"))
_ROW_IN = 0.26


def rates(collected: Collected) -> Figure:
    """Draws a line a model: the mean over the seeds as a filled mark, each seed as a small one."""
    places, groups = _places(collected)
    height = _ROW_IN * (max(places.values()) + 1) + 1.1
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.add_subplot()
    for column, label, colour, shape in _KINDS:
        for model, place in places.items():
            cell = collected.figure(model, column)
            shares = [100 * rate for rate in cell.by_seed]
            if len(shares) > 1:
                axes.plot(
                    shares, [place] * len(shares), shape, color=colour, alpha=0.35, markersize=3.5, markeredgewidth=0
                )
            axes.plot(100 * cell.mean, place, shape, color=colour, markersize=7, label=label)
            label = "_"
    for place, group in groups.items():
        axes.text(0, place, f" {visible(group)}", fontsize=9, color="#555555", style="italic", va="center")
    axes.set_yticks(list(places.values()), [visible(model) for model in places], fontsize=9)
    axes.set_ylim(max(places.values()) + 0.7, -0.7)
    axes.set_xlim(left=0)
    axes.set_xlabel("mixed error rate (%), micro, average over pairs")
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    seeds = len(collected.study.seeds)
    title = f"mean over {seeds} seeds; small marks: each seed" if seeds > 1 else "one seed"
    axes.set_title(f"Seen and unseen pairs by model ({title})", loc="left", fontsize=11)
    figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    return figure


def to_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as a file's content, the same for the same figure; `kind` is png or svg."""
    stream = io.BytesIO()
    dateless = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(stream, format=kind, dpi=150, metadata=dateless)
    return stream.getvalue()


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
