"""Figures: every cell where it belongs, one scale, and no text cut off or on top of another."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.deltas import MODULES, Place
from analysis.heat_maps import ColourScale, heat_maps, matrix
from common.figures import save

CAPTION = "Rows of each projection matrix whose mean absolute change exceeds 5e-5, as a caption of some length."
NOTE = "Nearly all rows lie above this threshold. Half of all rows lie above 0.0018: try --threshold 0.0018, or auto."


def values(encoder: int, decoder: int, offset: float = 0.0) -> dict[Place, float]:
    """A different figure for each place: 10 x layer + module, and 0.5 more in the decoder."""
    sides = (("encoder", encoder, [m for m in MODULES if not m.startswith("cross")]), ("decoder", decoder, MODULES))
    return {
        Place(side, layer, module): offset + 10 * layer + MODULES.index(module) + 0.5 * (side == "decoder")
        for side, layers, modules in sides
        for layer in range(layers)
        for module in modules
    }


def texts(figure: Figure) -> list[Text]:
    figure.draw_without_rendering()
    return [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]


def assert_readable(figure: Figure) -> None:
    found = texts(figure)
    boxes = np.array([text.get_window_extent().extents for text in found])
    assert min(text.get_fontsize() for text in found) >= 8
    inside = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2:] <= figure.bbox.extents[2:]).all(1)
    assert inside.all(), [text for text, here in zip(found, inside, strict=True) if not here]
    straight = [not text.get_rotation() % 90 for text in found]  # the boxes of slanted text are larger than it
    low, high = boxes[straight, :2], boxes[straight, 2:]
    overlap = (np.minimum(high[:, None], high) - np.maximum(low[:, None], low) > 1).all(2)
    assert overlap.sum() == len(overlap), [np.array(found)[straight][pair] for pair in np.argwhere(np.triu(overlap, 1))]


SIZES = {"demo": (2, 2), "base": (6, 6), "small": (12, 12), "medium": (24, 24), "large": (32, 32), "turbo": (32, 4)}


@pytest.mark.parametrize(
    ("size", "models"),
    [("demo", 1), ("demo", 4), ("base", 3), ("small", 3), ("medium", 1), ("medium", 7), ("large", 2), ("turbo", 3)],
)
def test_nothing_is_cut_off_or_overlaps(size: str, models: int):
    names = ["a", "ties ko_en + ja_en + de_en, and a name that has no end of words in it", "a_name_without_spaces" * 5]
    panels = {f"{names[number % 3]} {number}": values(*SIZES[size]) for number in range(models)}
    assert_readable(
        heat_maps("Rows changed", CAPTION, panels, ColourScale("rows above the threshold (%)", 0, 400), NOTE)
    )


@pytest.mark.parametrize("models", [3, 4, 7, 12])
def test_no_figure_of_the_matrix_is_cut_off_or_overlaps(models: int):
    names = ["ko_en", "ties ko_en + ja_en + de_en", *(f"model {number}" for number in range(10))][:models]
    between = np.linspace(-1, 1, models * models).reshape(models, models)
    assert_readable(matrix("Cosines", CAPTION, names, between, ColourScale("cosine", -1, 1, "PuOr_r", "{:.2f}")))


def test_each_cell_shows_its_module_and_layer_on_one_scale():
    panels = {"a": values(3, 2), "b": values(3, 2, offset=100)}
    figure = heat_maps("title", CAPTION, panels, ColourScale("label", 0, 200))
    shown = {
        (number, round(4 * float(row)), column): value
        for number, axes in enumerate(figure.axes[:4])
        for mesh in axes.findobj(QuadMesh)
        for (row, column), value in middles(mesh)
        if mesh.norm.vmax == 200
    }
    assert {mesh.norm.vmin for axes in figure.axes[:4] for mesh in axes.findobj(QuadMesh) if mesh.norm.vmax == 200} == {
        0
    }
    labels = {round(4 * tick): label.get_text() for tick, label in zip(*ticks(figure, 0), strict=True)}
    assert list(labels.values()) == list(MODULES)
    found = {}
    for (number, row, column), value in shown.items():
        model, side = divmod(number, 2)
        found["ab"[model], Place(("encoder", "decoder")[side], column, labels[row])] = value
    assert found == {(name, place): value for name, panel in panels.items() for place, value in panel.items()}


def ticks(figure: Figure, number: int) -> tuple[list[float], list[Text]]:
    return list(figure.axes[number].get_yticks()), figure.axes[number].get_yticklabels()


def middles(mesh: QuadMesh) -> list[tuple[tuple[float, int], float]]:
    """(y of the cell's middle, layer) and value of each drawn cell."""
    corners, cells = mesh.get_coordinates(), mesh.get_array()
    return [
        (
            ((corners[row, column, 1] + corners[row + 1, column, 1]) / 2, int(corners[row, column, 0])),
            float(cells[row, column]),
        )
        for row, column in np.ndindex(cells.shape)
        if not np.ma.getmaskarray(cells)[row, column]
    ]


def test_undefined_cells_are_grey_and_dashed():
    panel = values(2, 2) | {Place("encoder", 1, "fc1"): math.nan}
    figure = heat_maps("title", CAPTION, {"a": panel}, ColourScale("label", 0, 30))
    drawn = [text.get_text() for text in texts(figure)]
    assert drawn.count("–") == 1
    assert f"{panel[Place('decoder', 1, 'fc2')]:.0f}" in drawn


def test_figures_are_the_same_bytes_each_time(tmp_path: Path):
    for name in ("one", "two"):
        save(heat_maps("title", CAPTION, {"a": values(2, 2)}, ColourScale("label", 0, 30)), str(tmp_path / name))
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"
