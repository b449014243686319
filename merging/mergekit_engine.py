"""The paper's own engine: mergekit's public `merge_state_dicts`, one tensor at a time.

mergekit's command line cannot merge Whisper (its definition of the decoder is broken, and it leaves out files that
Whisper needs), so its methods are called on tensors and the folder around them is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from common.errors import UserError
from merging.inputs import Inputs
from merging.tensors import Writer

METHODS = (
    "task_arithmetic", "ties", "dare_linear", "dare_ties", "linear", "slerp", "breadcrumbs", "della", "model_stock",
)  # fmt: skip
_PER_MODEL = ("weight", "density", "gamma", "epsilon")


def check(method: str, parameters: Mapping[str, Any]) -> None:
    """Raises a `UserError` where mergekit has no such method, or no such value of a parameter."""
    if method not in METHODS:
        raise UserError(f"mergekit has no method {method}; leave out --engine mergekit (it has {', '.join(METHODS)})")
    for name, value, instead in (("rescale", "1/p", "l1 or none"), ("trim", "global", "tensor"),
                                 ("majority", "unweighted", "weighted")):  # fmt: skip
        if parameters.get(name) == value:
            raise UserError(f"mergekit has no {name} {value}; take {instead}, or leave out --engine mergekit")


def merge_tensor(inputs: Inputs, name: str) -> torch.Tensor:
    """Merges one parameter of all models in float32.

    Raises:
        UserError: where a weight is not finite, naming the model and the tensor.
    """
    from mergekit.merge_methods.api import merge_state_dicts

    tensors = [inputs.whole(place, name) for place in range(-1, len(inputs.models))]
    values = dict(inputs.values(name))
    seed = values.pop("seed", None)
    values = {key: value for key, value in values.items() if key not in ("trim", "majority")}
    if "rescale" in values:
        values["rescale"] = values["rescale"] == "l1"
    base, *ids = "base", *range(len(inputs.models))
    parameters = {
        key: dict(zip(ids, value, strict=True)) if key in _PER_MODEL else value for key, value in values.items()
    }
    states = {key: {name: tensor} for key, tensor in zip([base, *ids], tensors, strict=True)}
    if inputs.method.name == "linear":
        del states[base]
    if inputs.method.name == "slerp":  # its base is the first of the two models
        states, base = {ids[0]: states[ids[0]], ids[1]: states[ids[1]]}, ids[0]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        if seed is not None:
            torch.manual_seed(inputs.seed(seed, name))
        merged = merge_state_dicts(
            states, inputs.method.name, parameters=parameters, base=base if base in states else None
        )
    return merged[name]


def merge(inputs: Inputs, writer: Writer) -> None:
    """Merges every tensor and writes it."""
    for name in writer.entries:
        writer.write(name, merge_tensor(inputs, name))
        inputs.progress(inputs.base.tensors[name].numel, inputs.numel)
