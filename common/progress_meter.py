"""Progress of long work: on a terminal a bar with the time remaining, elsewhere a line per minute."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from common.printing import visible, warn

Item = TypeVar("Item")
_EVERY_S = 60.0


def progress(
    items: Iterable[Item], title: str, total: int, size: Callable[[Item], int] = lambda item: 1
) -> Iterator[Item]:
    """Yield the items, and show on stderr how much is done and how long the rest may take.

    Args:
        items: what is worked on.
        title: of the work.
        total: how much there is to do, in the measure of `size`.
        size: how much an item is.
    """
    if sys.stderr.isatty():
        with tqdm(desc=visible(title), total=total) as bar:
            for item in items:
                yield item
                bar.update(size(item))
        return
    done, start = 0, time.monotonic()
    shown = start
    for item in items:
        now = time.monotonic()
        if now - shown >= _EVERY_S:
            shown = now
            warn(tqdm.format_meter(done, total, now - start, prefix=title, ncols=0))
        yield item
        done += size(item)
