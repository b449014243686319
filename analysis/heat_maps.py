"""Heat maps of layer x module, encoder and decoder side by side, several models on one scale; all sizes in inches."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from analysis.deltas import MODULES, SIDES, Place
from common.escape import figure as text_of

Values = Mapping[Place, float]
# Colour-blind readers see both in the right order, viridis also in greyscale.
SEQUENTIAL, DIVERGING = "viridis", "PuOr_r"
_NOTE = "#9a3d00"

_NARROWEST = 4.6  # room for title and caption
_WIDEST = 10.5  # a figure has as many columns as fit; wider figures are not legible on a page
_LABELS, _BAR, _GAP, _AROUND = 0.85, 1.05, 0.35, 0.85  # beside the panels, between them, above and below one
_ANNOTATED = 6  # up to so many layers a side, cells are wide and show their value
_FONTS = {"font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "font.family": "sans-serif"}


@dataclass(frozen=True)
class ColourScale:
    """One colour scale for all panels: its label, range, colour map, and how a cell's figure is written."""

    label: str
    low: float
    high: float
    colours: str = SEQUENTIAL
    form: str = "{:.0f}"

    @property
    def norm(self) -> Normalize:
        """Maps values to [0, 1]."""
        return Normalize(self.low, self.high)

    def write(self, axes: Axes, x: float, y: float, value: float) -> None:
        """Write a cell's figure in black or white, whichever is legible on its colour; a dash where it is undefined.

        Args:
            axes: where.
            x: the cell's middle.
            y: likewise.
            value: the figure.
        """
        red, green, blue, _ = colormaps[self.colours](self.norm(value))
        ink = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
        text, ink = ("–", "0.4") if math.isnan(value) else (self.form.format(value), ink)
        axes.text(x, y, text, ha="center", va="center", color=ink, fontsize=8)


@rc_context(_FONTS)
def heat_maps(title: str, caption: str, panels: Mapping[str, Values], scale: ColourScale, note: str = "") -> Figure:
    """Draw one panel for each model: modules over layers, encoder and decoder side by side, one colour bar for all.

    Args:
        title: of the figure.
        caption: what is shown, in a sentence or two below the title.
        panels: by title, the value of each projection matrix; NaN (undefined) is drawn grey.
        scale: from values to colours.
        note: what the reader must know before trusting the figure; set apart below the caption.
    """
    places = [place for values in panels.values() for place in values]
    layers = [1 + max((p.layer or 0 for p in places if p.side == side), default=0) for side in SIDES]
    annotated = max(layers) <= _ANNOTATED
    cell = 0.48 if annotated else min(0.19, (_WIDEST - _LABELS - _BAR) / sum(layers))
    widths = [max(0.85, cell * count) for count in layers]  # at least as wide as the axes' labels
    width, height = sum(widths) + _GAP, len(MODULES) * (0.26 if annotated else 0.2) + _AROUND
    columns = max(1, min(len(panels), int((_WIDEST - _LABELS - _BAR + _GAP) / width)))
    rows = math.ceil(len(panels) / columns)
    figure = _page(title, caption, (_LABELS + columns * width + _BAR, rows * height), note)
    grid = figure.subplots(rows, 2 * columns, width_ratios=widths * columns, squeeze=False)
    for index, axes in enumerate(grid.flat):
        if index >= 2 * len(panels):
            axes.remove()
            continue
        name, values = list(panels.items())[index // 2]
        _panel(axes, SIDES[index % 2], layers[index % 2], values, scale, annotated)
        if index % 2 == 0:
            axes.set_title(_cut(name, int(width / 0.1)), loc="left", weight="bold")
        if index % (2 * columns):
            axes.set_yticks([])
    _colour_bar(figure, scale)
    return figure


@rc_context(_FONTS)
def matrix(title: str, caption: str, names: Sequence[str], values: np.ndarray, scale: ColourScale) -> Figure:
    """Draw a symmetric matrix of figures between models, below its diagonal.

    Args:
        title: of the figure.
        caption: what is shown.
        names: the models'.
        values: one row and one column for each model.
        scale: from values to colours.
    """
    names = [_cut(name, 40) for name in names]
    size = max(0.62, 1.6 / len(names)) * (len(names) - 1)
    label = max(len(name) for name in names) * 0.075 + 0.3
    figure = _page(title, caption, (label + size + _BAR + 0.4, size + label * 0.75 + 0.4))
    axes = figure.subplots()
    shown = np.ma.masked_array(values[1:, :-1], ~np.tri(len(names) - 1, dtype=bool))
    axes.pcolormesh(shown, norm=scale.norm, cmap=scale.colours, edgecolors="white", linewidth=1.5)
    axes.invert_yaxis()
    _bare(axes)
    axes.set_yticks(np.arange(len(names) - 1) + 0.5, names[1:])
    axes.set_xticks(np.arange(len(names) - 1) + 0.5, names[:-1], rotation=40, ha="right", rotation_mode="anchor")
    for row in range(1, len(names)):
        for column in range(row):
            scale.write(axes, column + 0.5, row - 0.5, values[row, column])
    _colour_bar(figure, scale)
    return figure


def _page(title: str, caption: str, size: tuple[float, float], note: str = "") -> Figure:
    """Return a figure with title, caption and note above so much width and height for axes."""
    width = max(size[0], _NARROWEST)
    characters = int((width - 0.3) / 0.0725)
    lines = [(line, {"color": "0.25"}) for line in textwrap.wrap(caption, characters)]
    lines += [(line, {"color": _NOTE}) for line in textwrap.wrap(note, characters)]
    head = 0.5 + 0.19 * len(lines)
    height = size[1] + head
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 1, size[1] / height))  # type: ignore[union-attr]
    figure.text(0.15 / width, 1 - 0.3 / height, title, fontsize=12, weight="bold")
    for number, (line, style) in enumerate(lines):
        figure.text(0.15 / width, 1 - (0.55 + 0.19 * number) / height, line, **style)
    return figure


def _cut(name: str, characters: int) -> str:
    return text_of(name if len(name) <= characters else name[: characters - 1] + "…")


def _panel(axes: Axes, side: str, layers: int, values: Values, scale: ColourScale, annotated: bool) -> None:
    """Draw one side of one model."""
    cells = np.full((len(MODULES), layers), np.nan)
    undefined = np.ma.masked_all(cells.shape)
    for place, value in values.items():
        if place.side == side and place.layer is not None:
            row = MODULES.index(place.module)
            cells[row, place.layer] = value
            if math.isnan(value):
                undefined[row, place.layer] = 1
            if annotated:
                scale.write(axes, place.layer + 0.5, row + 0.5, value)
    line = {"edgecolors": "white", "linewidth": 1.2 if annotated else 0.7}
    axes.pcolormesh(undefined, cmap=ListedColormap(["0.85"]), **line)
    axes.pcolormesh(np.ma.masked_invalid(cells), norm=scale.norm, cmap=scale.colours, **line)
    for row in (4, 8):  # between self-attention, cross-attention and the feed-forward layers
        axes.axhline(row, color="white", linewidth=4)
    axes.set_ylim(len(MODULES), 0)
    _bare(axes)
    axes.set_yticks(np.arange(len(MODULES)) + 0.5, MODULES)
    if side == "encoder":
        style = {"ha": "center", "va": "center", "color": "0.5", "fontsize": 8, "style": "italic"}
        axes.text(layers / 2, 6, "no cross-" + "\n" * annotated + "attention", **style)
    else:
        axes.set_yticks([])
    ticks = np.arange(0, layers, max(1, 2 ** math.ceil(math.log2(layers / 8))))  # at most eight
    axes.set_xticks(ticks + 0.5, [str(tick) for tick in ticks])
    axes.set_xlabel(f"{side} layer", labelpad=1)


def _bare(axes: Axes) -> None:
    axes.tick_params(length=0, pad=3)
    axes.spines[:].set_visible(False)


def _colour_bar(figure: Figure, scale: ColourScale) -> None:
    bar = figure.colorbar(ScalarMappable(scale.norm, scale.colours), ax=figure.axes, label=scale.label, aspect=25)
    bar.outline.set_visible(False)  # type: ignore[operator]
