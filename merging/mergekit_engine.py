"""The paper's own engine: mergekit's public `merge_state_dicts`, one tensor at a time.

mergekit's command line cannot merge Whisper (its definition of the decoder is broken, and it leaves out files that
Whisper needs), so only its methods are called, on tensors; the folder is written by our code.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from common.errors import UserError
from merging.inputs import MergeInputs

METHODS = (
    "task_arithmetic", "ties", "dare_linear", "dare_ties", "linear", "slerp", "breadcrumbs", "della", "model_stock",
)  # fmt: skip


def check(method: str, parameters: Mapping[str, Any]) -> None:
    """Check that mergekit is installed and has a method with such parameters.

    Raises:
        UserError: naming what mergekit lacks, and what to use instead.
    """
    if find_spec("mergekit") is None:
        raise UserError(
            "--engine mergekit: mergekit is not installed, as on Python 3.14, for which it cannot be had; leave out "
            "--engine mergekit (the default engine makes the same model), or take Python 3.11 to 3.13"
        )
    if method not in METHODS:
        raise UserError(f"mergekit has no method {method}; leave out --engine mergekit (it has {', '.join(METHODS)})")
    for name, value, instead in (("rescale", "1/p", "l1 or none"), ("rescale", "1/density", "l1 or none"),
                                 ("majority", "unweighted", "weighted")):  # fmt: skip
        if parameters.get(name) == value:
            raise UserError(f"mergekit has no {name} {value}; take {instead}, or leave out --engine mergekit")


def merge_tensor(inputs: MergeInputs, name: str) -> Tensor:
    """Return one tensor merged by mergekit in float32."""
    from mergekit.merge_methods.api import merge_state_dicts

    models = range(len(inputs.models))
    states = {model: {name: inputs.models[model].tensor(name).float()} for model in models}
    base: Any = 0 if inputs.method.name == "slerp" else "base"  # SLERP's base is the first of its two models
    if inputs.method.name not in ("slerp", "linear"):
        states = {base: {name: inputs.base.tensor(name).float()}} | states  # type: ignore[assignment]
    values = inputs.values(name)
    seed = values.get("seed")
    parameters = {
        key: dict(zip(models, value, strict=True)) if inputs.method.parameters[key].per_model else value
        for key, value in values.items()
        if key not in ("seed", "majority", "rescale")
    }
    if "rescale" in values:
        parameters["rescale"] = values["rescale"] == "l1"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        if seed is not None:
            torch.manual_seed(inputs.seed(seed, name))
        base = base if base in states else None
        return merge_state_dicts(states, inputs.method.name, parameters=parameters, base=base)[name]
