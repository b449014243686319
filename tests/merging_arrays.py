"""One tensor merged in memory by the pure functions, for tests against worked examples and other engines."""

from __future__ import annotations

import numpy as np
import torch

from merging.methods import methods
from merging.parameters import check


def merge_arrays(name, base, models, *, draws=None, layer=None, layers=0, depth=0.0, **values):
    """Merges one tensor; `draws` are the random 32-bit numbers of each model, values the parameters."""
    method, count = methods()[name], len(models)
    settled = {}
    for key, parameter in method.parameters.items():
        value = check(parameter, values.pop(key, parameter.default), count)
        settled[key] = value if not parameter.per_model or isinstance(value, list) else [value] * count
    assert not values, f"{name} has no {values}"
    if "lambda" in settled:
        settled["lambda_"] = settled.pop("lambda")
    places = [0] * count

    def draw(model: int, like: torch.Tensor) -> torch.Tensor:
        first = places[model]
        places[model] += like.numel()
        part = np.asarray(draws[model], np.uint32)[first : places[model]].astype(np.float32) * np.float32(2**-32)
        return torch.from_numpy(part).view(like.shape)

    context = {"draw": draw, "layer": layer, "layers": layers, "depth": depth}
    tensors = [torch.from_numpy(np.array(array, np.float32)) for array in (base, *models)]
    asked = {key: value for key, value in context.items() if key in method.context}
    return method.merge(tensors[0], tensors[1:], **settled, **asked).numpy()
