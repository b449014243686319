"""The scale of the report's small plots, which `page/report.html` draws as inline SVG in per cent of their width."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0)
_CEILING = 1.5  # rates above are drawn at the edge, with an arrow


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
        """Return the position of a value, e.g. `37.50%`."""
        return f"{100 * min(max(value / self.end, 0), 1):.2f}%"

    def width(self, begin: float, end: float) -> str:
        """Return the distance of two values' rounded positions, so that neighbouring bars leave no gap."""
        return f"{float(self.at(end)[:-1]) - float(self.at(begin)[:-1]):.2f}%"

    @property
    def ticks(self) -> list[float]:
        """The tick values, 0 and the end included."""
        return [self.step * n for n in range(round(self.end / self.step) + 1)]
