"""Heat maps of layer x module, encoder and decoder side by side, several models on one scale; all sizes in inches."""

from __future__ import annotations

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

Values = Mapping[Place, float]
# Both keep their order for colour-blind readers; viridis also in grey.
SEQUENTIAL, DIVERGING = "viridis", "PuOr_r"
_NOTE = "#9a3d00"

_NARROWEST = 4.6  # room for title and caption
_WIDEST = 10.5  # a figure's columns are as many as fit; wider ones shrink below legibility on a page
_LABELS, _BAR, _GAP, _SIDE_GAP, _MARGIN = 0.85, 1.05, 0.35, 0.14, 0.15
_HEAD, _FOOT, _LINE = 0.5, 0.45, 0.19  # above and below a panel; a line of small text
_GROUPS = {"self": range(0, 4), "cross": range(4, 8), "fc": range(8, 10)}  # rows that stand together
_SPACE = 0.2  # between groups, in rows
_ROWS = len(MODULES) + _SPACE * (len(_GROUPS) - 1)
_ANNOTATED = 6  # up to so many layers a side, cells are wide and carry their figure
_FONTS = {"font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "font.family": "sans-serif"}


@dataclass(frozen=True)
class ColourScale:
    """One colour scale for all panels: its label, range, colour map, how a cell's figure is written."""

    label: str
    low: float
    high: float
    colours: str = SEQUENTIAL
    form: str = "{:.0f}"

    @property
    def norm(self) -> Normalize:
        """Maps values to [0, 1]."""
        return Normalize(self.low, self.high)

    def ink(self, value: float) -> str:
        """Black or white, whichever is read on the value's colour."""
        red, green, blue, _ = colormaps[self.colours](self.norm(value))
        return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


@dataclass(frozen=True)
class _Grid:
    """Where the panels of a figure lie."""

    layers: tuple[int, int]  # of encoder and decoder
    panels: int

    @property
    def is_annotated(self) -> bool:
        return max(self.layers) <= _ANNOTATED

    @property
    def cell_height(self) -> float:
        return 0.26 if self.is_annotated else 0.2

    @property
    def widths(self) -> list[float]:
        """Of encoder and decoder; at least as wide as their titles."""
        cell = 0.48 if self.is_annotated else min(0.19, (_WIDEST - _LABELS - _BAR) / sum(self.layers))
        return [max(0.75, cell * layers) for layers in self.layers]

    @property
    def block(self) -> tuple[float, float]:
        """Width and height of a model's panel."""
        return sum(self.widths) + _SIDE_GAP, _ROWS * self.cell_height

    @property
    def columns(self) -> int:
        fit = int((_WIDEST - _LABELS - _BAR + _GAP) / (self.block[0] + _GAP))
        return max(1, min(fit, self.panels))

    @property
    def rows(self) -> int:
        return math.ceil(self.panels / self.columns)

    @property
    def size(self) -> tuple[float, float]:
        width, height = self.block
        return (
            _LABELS + self.columns * (width + _GAP) - _GAP + _BAR,
            self.rows * (_HEAD + height + _FOOT),
        )


def heat_maps(title: str, caption: str, panels: Mapping[str, Values], scale: ColourScale, note: str = "") -> Figure:
    """Draws a panel a model: modules over layers, encoder and decoder side by side, one colour bar for all.

    Args:
        caption: what is shown, in a sentence or two below the title.
        note: what the reader must know before trusting the figure; set apart below the caption.
        panels: by title, the value of each projection matrix; NaN (undefined) is drawn grey.
    """
    places = [place for values in panels.values() for place in values]
    grid = _Grid(
        tuple(1 + max((p.layer or 0 for p in places if p.side == side), default=0) for side in SIDES),  # type: ignore[arg-type]
        len(panels),
    )
    figure, top = _page(title, caption, max(grid.size[0], _NARROWEST), grid.size[1], note)
    width, height = grid.block
    for index, (name, values) in enumerate(panels.items()):
        row, column = divmod(index, grid.columns)
        left = _LABELS + column * (width + _GAP)
        bottom = top - row * (_HEAD + height + _FOOT) - _HEAD - height
        _text(figure, left, bottom + height + 0.27, _cut(name, int(width / 0.095)), weight="bold", fontsize=10)
        for side, layers, wide in zip(SIDES, grid.layers, grid.widths, strict=True):
            axes = _axes(figure, left, bottom, wide, height)
            _panel(axes, side, layers, values, scale, grid.is_annotated)
            if left > _LABELS:
                axes.set_yticklabels([])
            left += wide + _SIDE_GAP
    bar_height = min(grid.size[1] - _HEAD - _FOOT, 4.0)
    left = _LABELS + grid.columns * (width + _GAP) - _GAP + 0.2
    _colour_bar(figure, _axes(figure, left, top - _HEAD - bar_height, 0.15, bar_height), scale)
    return figure


def matrix(title: str, caption: str, names: Sequence[str], values: np.ndarray, scale: ColourScale) -> Figure:
    """Draws a symmetric matrix of figures between models, below its diagonal."""
    names = [_cut(name, 40) for name in names]
    size = max(0.62, 1.6 / len(names)) * (len(names) - 1)
    label = max(len(name) for name in names) * 0.075 + 0.3
    figure, top = _page(title, caption, max(label + size + _BAR + 0.4, _NARROWEST), size + label * 0.75 + 0.4)
    axes = _axes(figure, label, top - 0.2 - size, size, size)
    shown = np.ma.masked_array(values[1:, :-1], ~np.tri(len(names) - 1, dtype=bool))
    axes.pcolormesh(shown, norm=scale.norm, cmap=scale.colours, edgecolors="white", linewidth=1.5)
    axes.invert_yaxis()
    _bare(axes)
    axes.set_yticks(np.arange(len(names) - 1) + 0.5, names[1:])
    axes.set_xticks(np.arange(len(names) - 1) + 0.5, names[:-1], rotation=40, ha="right", rotation_mode="anchor")
    for row in range(1, len(names)):
        for column in range(row):
            _write(axes, column + 0.5, row - 0.5, values[row, column], scale, fontsize=10)
    bar_height = max(size, 1.2)
    _colour_bar(figure, _axes(figure, label + size + 0.3, top - 0.2 - bar_height, 0.15, bar_height), scale)
    return figure


def save(figure: Figure, stem: str) -> None:
    """Writes `stem`.png and `stem`.svg, the same bytes for the same data."""
    with rc_context({"svg.hashsalt": "crosspair"}):
        figure.savefig(f"{stem}.png", dpi=200)
        figure.savefig(f"{stem}.svg", metadata={"Date": None})


def _page(title: str, caption: str, width: float, height: float, note: str = "") -> tuple[Figure, float]:
    """A figure with title, caption and note above `height` inches of room, and where that room ends."""
    characters = int((width - 2 * _MARGIN) / 0.0725)
    lines = [(line, "0.25") for line in textwrap.wrap(caption, characters)]
    lines += [(line, _NOTE) for line in textwrap.wrap(note, characters)]
    head = 0.42 + _LINE * len(lines)
    with rc_context(_FONTS):
        figure = Figure(figsize=(width, height + head))
    _text(figure, _MARGIN, height + head - 0.3, title, fontsize=12, weight="bold")
    for number, (line, colour) in enumerate(lines):
        _text(figure, _MARGIN, height + head - 0.55 - _LINE * number, line, color=colour)
    return figure, height


def _text(figure: Figure, left: float, bottom: float, text: str, **style: object) -> None:
    width, height = figure.get_size_inches()
    style = {"fontsize": 9} | style
    figure.text(left / width, bottom / height, text, **style)


def _cut(name: str, characters: int) -> str:
    return name if len(name) <= characters else name[: characters - 1] + "…"


def _axes(figure: Figure, left: float, bottom: float, wide: float, high: float) -> Axes:
    width, height = figure.get_size_inches()
    with rc_context(_FONTS):
        return figure.add_axes((left / width, bottom / height, wide / width, high / height))


def _panel(axes: Axes, side: str, layers: int, values: Values, scale: ColourScale, is_annotated: bool) -> None:
    """One side of one model."""
    cells = np.full((len(MODULES), layers), np.nan)
    undefined = np.ma.masked_all(cells.shape)
    for place, value in values.items():
        if place.side == side and place.layer is not None:
            row = MODULES.index(place.module)
            cells[row, place.layer] = value
            if math.isnan(value):
                undefined[row, place.layer] = 1
            if is_annotated:
                _write(axes, place.layer + 0.5, _middle(row), value, scale, fontsize=8)
    line = {"edgecolors": "white", "linewidth": 1.2 if is_annotated else 0.7}
    for group in _GROUPS.values():
        part, edges = slice(group.start, group.stop), [_middle(row) - 0.5 for row in group]
        across, down = np.arange(layers + 1), [*edges, edges[-1] + 1]
        axes.pcolormesh(across, down, undefined[part], cmap=ListedColormap(["0.85"]), **line)
        axes.pcolormesh(across, down, np.ma.masked_invalid(cells[part]), norm=scale.norm, cmap=scale.colours, **line)
    axes.set_ylim(_ROWS, 0)
    axes.set_xlim(0, layers)
    _bare(axes)
    if side == "encoder":
        style = {"ha": "center", "va": "center", "color": "0.5", "fontsize": 8, "style": "italic"}
        axes.text(layers / 2, _middle(5) + 0.5, "no cross-" + "\n" * is_annotated + "attention", **style)
        axes.set_yticks([_middle(row) for row in range(len(MODULES))], MODULES)
    else:
        axes.set_yticks([])
    axes.set_title(side, pad=4, loc="left", color="0.25", fontsize=9)
    step = next(step for step in (1, 2, 4, 8, 16) if layers / step <= 8)
    ticks = np.arange(0, layers, step)
    axes.set_xticks(ticks + 0.5, [str(tick) for tick in ticks])
    axes.set_xlabel("layer", labelpad=1)


def _middle(row: int) -> float:
    """Where the middle of a module's row lies, in rows from the top."""
    group = next(number for number, rows in enumerate(_GROUPS.values()) if row in rows)
    return row + 0.5 + _SPACE * group


def _write(axes: Axes, x: float, y: float, value: float, scale: ColourScale, **style: object) -> None:
    text, ink = ("–", "0.4") if math.isnan(value) else (scale.form.format(value), scale.ink(value))
    axes.text(x, y, text, ha="center", va="center", color=ink, **style)


def _bare(axes: Axes) -> None:
    axes.tick_params(length=0, pad=3)
    axes.spines[:].set_visible(False)


def _colour_bar(figure: Figure, axes: Axes, scale: ColourScale) -> None:
    bar = figure.colorbar(ScalarMappable(scale.norm, scale.colours), cax=axes)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label(scale.label)
