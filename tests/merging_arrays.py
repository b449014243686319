"""One parameter merged in memory by the pure functions, for tests against worked examples and other engines."""

from __future__ import annotations

import numpy as np

from merging.blocks import Block, Whole
from merging.methods import methods
from merging.parameters import check


def merge_arrays(name, base, models, *, draws=None, layer=None, layers=0, depth=0.0, **values):
    """Merges one parameter given whole; `draws` are the random 32-bit numbers of each model, values the parameters."""
    method, count = methods()[name], len(models)
    settled = {}
    for key, parameter in method.parameters.items():
        value = check(parameter, values.pop(key, parameter.default), count)
        settled[key] = value if not parameter.per_model or isinstance(value, list) else [value] * count
    assert not values, f"{name} has no {values}"
    shape = np.shape(base) if np.ndim(base) > 1 else (1, -1)  # a vector is a single row
    arrays = [np.asarray(array, np.float32).reshape(shape) for array in (base, *models)]
    block = Block(arrays[0], arrays[1:], 0, depth, layer, layers)
    rows = Whole(block, lambda model, count: np.asarray(draws[model], np.uint32)[:count])
    facts = method.measure(rows, **settled) if method.measure else None
    step_length = np.float32(settled.pop("lambda", 1.0))
    merged = method.merge(block, facts, **settled)
    return (block.base + merged * step_length if method.returns_step else merged).reshape(np.shape(base))
