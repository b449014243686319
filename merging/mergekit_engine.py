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
from merging.statistics import Moments, Statistics
from merging.stream import ANGLES, Parameter
from merging.tensors import Floats, Writer, word_sum

METHODS = (
    "task_arithmetic", "ties", "dare_linear", "dare_ties", "linear", "slerp", "breadcrumbs", "della", "model_stock",
)  # fmt: skip


def check(method: str, parameters: Mapping[str, Any]) -> None:
    """Raises a `UserError` where mergekit has no such method, or no such value of a parameter."""
    if method not in METHODS:
        raise UserError(f"mergekit has no method {method}; leave out --engine mergekit (it has {', '.join(METHODS)})")
    for name, value, instead in (("rescale", "1/p", "l1 or none"), ("trim", "global", "tensor"),
                                 ("majority", "unweighted", "weighted")):  # fmt: skip
        if parameters.get(name) == value:
            raise UserError(f"mergekit has no {name} {value}; take {instead}, or leave out --engine mergekit")


def merge(inputs: Inputs, writer: Writer) -> Statistics:
    """Merges every parameter in float32 and writes it; returns what the merge did.

    Raises:
        UserError: where a weight is not finite, naming the model and the tensor.
    """
    statistics = Statistics(len(inputs.models))
    for name in writer.entries:
        merged = merge_parameter(inputs, name)
        writer.write(name, merged)
        statistics.add(name, *_observe(inputs, name, merged.reshape(-1)))
        inputs.progress(merged.size, inputs.numel)
    return statistics


def merge_parameter(inputs: Inputs, name: str) -> Floats:
    """Merges one parameter of all models."""
    from mergekit.merge_methods.api import merge_state_dicts

    models = range(len(inputs.models))
    states = {model: {name: torch.from_numpy(inputs.whole(model, name))} for model in models}
    base = 0 if inputs.method.name == "slerp" else "base"  # SLERP's base is the first of its two models
    if inputs.method.name not in ("slerp", "linear"):
        states = {base: {name: torch.from_numpy(inputs.whole(-1, name))}} | states
    values = inputs.values(name)
    seed = values.get("seed")
    parameters = {
        key: dict(zip(models, value, strict=True)) if inputs.method.parameters[key].per_model else value
        for key, value in values.items()
        if key not in ("seed", "trim", "majority", "rescale")
    }
    if "rescale" in values:
        parameters["rescale"] = values["rescale"] == "l1"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        if seed is not None:
            torch.manual_seed(inputs.seed(seed, name))
        merged = merge_state_dicts(
            states, inputs.method.name, parameters=parameters, base=base if base in states else None
        )
    return merged[name].numpy()


def _observe(inputs: Inputs, name: str, merged: Floats) -> tuple[Moments, list[int]]:
    rows = Parameter(inputs, name)
    moments, sums = Moments(len(inputs.models)), [0] * len(rows.entries)
    for first, last in rows.chunks():
        arrays = rows.read(first, last)
        sums = [total + word_sum(array) for total, array in zip(sums, arrays, strict=True)]
        for number, block in enumerate(rows.blocks(arrays, first)):
            place = block.start - rows.offset
            step = merged[place : place + block.base.size].reshape(block.base.shape) - block.base
            moments.add(block, step, angles=number % ANGLES == 0)
    return moments, sums
