"""The report's small plots: inline SVG strips whose positions are per cent of their width, so they fit any column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from scoring.bootstrap import Estimate

_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0)
_CEILING = 1.5  # rates above are drawn at the edge, with an arrow
_BEYOND = '<text class="beyond" x="100%" y="50%" dy=".35em" text-anchor="end">▸</text>'


@dataclass(frozen=True, slots=True)
class PlotScale:
    """A linear axis from 0 to `end` (a fraction), with a tick every `step`."""

    end: float
    step: float

    @classmethod
    def over(cls, values: Iterable[float | None], steps: int = 5) -> PlotScale:
        """Return the smallest round scale of so many steps that holds all values (NaN and None aside), up to 150 %."""
        largest = max((value for value in values if value is not None and not math.isnan(value)), default=0.0)
        largest = min(max(largest, 0.01), _CEILING)
        step = next((step for step in _STEPS if largest / step <= steps), _STEPS[-1])
        return cls(end=step * math.ceil(largest / step - 1e-9), step=step)

    def at(self, value: float) -> str:
        """Return the position of a value, e.g. `37.5%`."""
        return f"{100 * min(max(value / self.end, 0), 1):.2f}%"

    @property
    def ticks(self) -> list[float]:
        """The tick values, 0 and the end included."""
        return [self.step * n for n in range(round(self.end / self.step) + 1)]


def interval_strip(estimate: Estimate, scale: PlotScale) -> Markup:
    """Draw a figure as a dot on its 95 % interval."""
    parts = [_grid(scale)]
    if estimate.low is not None and estimate.high is not None:
        parts.append(
            f'<line class="whisker" x1="{scale.at(estimate.low)}" x2="{scale.at(estimate.high)}" y1="50%" y2="50%"/>'
        )
    if estimate.value > scale.end:
        parts.append(_BEYOND)
    else:
        parts.append(f'<circle class="dot" cx="{scale.at(estimate.value)}" cy="50%" r="4.5"/>')
    return _svg(parts)


def stacked_strip(shares: Sequence[tuple[str, float]], scale: PlotScale) -> Markup:
    """Draw (class, share) after one another as a bar."""
    parts = [_grid(scale)]
    begin = 0.0
    for name, share in shares:
        # Width from rounded ends, so that neighbours leave no gap.
        start, end = (float(scale.at(value).rstrip("%")) for value in (begin, begin + share))
        if end > start:
            parts.append(f'<rect class="{name}" x="{start:.2f}%" width="{end - start:.2f}%" y="20%" height="60%"/>')
        begin += share
    return _svg([*parts, _BEYOND] if begin > scale.end else parts)


def axis(scale: PlotScale) -> Markup:
    """Draw the ticks' labels in per cent."""
    labels = []
    for tick in scale.ticks:
        anchor = "start" if tick == 0 else "end" if math.isclose(tick, scale.end) else "middle"
        labels.append(f'<text x="{scale.at(tick)}" y="12" text-anchor="{anchor}">{100 * tick:g}</text>')
    return _svg(labels, kind="axis")


def _grid(scale: PlotScale) -> str:
    return "".join(
        f'<line class="tick" x1="{scale.at(tick)}" x2="{scale.at(tick)}" y1="0" y2="100%"/>' for tick in scale.ticks
    )


def _svg(parts: Iterable[str], kind: str = "strip") -> Markup:
    return Markup(f'<svg class="{kind}" aria-hidden="true">{"".join(parts)}</svg>')
