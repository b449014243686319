"""Tables as CSV, with the same bytes on every system."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def csv_text(lines: Iterable[Sequence[Any]]) -> str:
    """Return lines of cells as CSV."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()
