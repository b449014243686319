"""How far a long job is: a bar with the time that remains, or a line a minute where nobody looks at a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

_LINE_EVERY_S = 60.0


class Progress:
    """Counts what is done of a job, on standard error.

    Args:
        total: what there is to do.
        unit: what is counted, in the plural.
    """

    def __init__(self, total: int, unit: str) -> None:
        self._total, self._unit, self._done = total, unit, 0
        self._begun_s = self._shown_s = time.monotonic()
        self._bar = tqdm(total=total, unit=f" {unit}", smoothing=0.02) if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.close()

    def add(self, count: int) -> None:
        """Note that `count` more are done."""
        self._done += count
        if self._bar:
            self._bar.update(count)
            return
        now_s = time.monotonic()
        if now_s - self._shown_s >= _LINE_EVERY_S or self._done >= self._total:
            self._shown_s = now_s
            left_min = (now_s - self._begun_s) / self._done * (self._total - self._done) / 60
            print(f"{self._done} of {self._total} {self._unit}, {left_min:.0f} min left", file=sys.stderr, flush=True)
