"""The learning rate's schedule."""

import math


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """Return the share of the peak learning rate at a step: linear to 1, then half a cosine to 0.

    Neither end wastes a step: the first step's share is 1/warmup, and 0 would be reached one step after the last.

    Args:
        step: counted from 0.
        total: steps of the run.
        warmup: steps of the linear part.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
