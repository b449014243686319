"""Progress of long work: a bar with the time remaining on a terminal, a line a minute where the output is none."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
_EVERY_S = 60.0


def progress(items: Iterable[Item], title: str, total: int) -> Iterator[Item]:
    """Yield the items, and show on stderr how many are done and how long the rest may take.

    Args:
        items: what is worked on.
        title: of the work.
        total: how many items there are.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, title, total)
        return
    start = shown = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - shown >= _EVERY_S:
            shown = now
            print(tqdm.format_meter(done, total, now - start, prefix=title, ncols=0), file=sys.stderr, flush=True)
        yield item
