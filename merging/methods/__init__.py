"""The merge methods, a file each: whole tensors in, one tensor out.

A file `<name>.py` defines the function `<name>(base, models, *, ...)`, called once for each tensor of the model:
theta_0 (`base`) and the fine-tunes theta_i (`models`, a list that it may change) are float32; tau_i = theta_i - theta_0
are the task vectors, w_i their weights. Its keyword arguments are the parameters of the method, explained in `Args:`,
from which the command line, its help, checks, recipe and card are made. A method with a `lambda_` depends on the
fine-tunes only through their task vectors, and its step is proportional to lambda: a sweep computes it once.

Beside its parameters a method may ask for `draw` (random numbers, see `merging.vectors.Draw`), `depth` (the tensor's
place over encoder and decoder in [0, 1]), `layer` (its layer's number over both, None outside the layers) and `layers`
(how many there are).
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

from merging.parameters import CONTEXT, MergeParameter, declared

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MergeMethod:
    """A merge method as its file declares it.

    Attributes:
        merge: the function.
        summary, formula, source: from its docstring.
        models: the fewest and most fine-tunes, from the file's `MODELS`; any number where it has none.
        context: what it asks for beside its parameters.
        parameters: its parameters by name (`lambda_` is called `lambda`).
    """

    name: str
    merge: Callable[..., Tensor]
    summary: str
    formula: str
    source: str
    models: tuple[int, float]
    context: frozenset[str]
    parameters: dict[str, MergeParameter]

    @property
    def has_step(self) -> bool:
        """Whether the merged model is the base plus lambda times a step."""
        return "lambda" in self.parameters


def method_in(module: ModuleType) -> MergeMethod:
    """Return the method that a file of this folder defines."""
    name = module.__name__.rpartition(".")[2]
    function = getattr(module, name)
    text = inspect.getdoc(function) or ""
    summary, formula, source = (
        " ".join(found[1].split()) if (found := re.search(pattern, text, re.DOTALL | re.MULTILINE)) else ""
        for pattern in (r"\A(.+?)(?:\n\n|\Z)", *(rf"^{head}: (.+?)(?=^\w+:|\Z)" for head in ("Formula", "Source")))
    )
    asked = frozenset(inspect.signature(function).parameters) & set(CONTEXT)
    models = getattr(module, "MODELS", (1, math.inf))
    return MergeMethod(name, function, summary, formula, source, models, asked, declared(function))


@cache
def methods() -> dict[str, MergeMethod]:
    """Return every method by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: method_in(importlib.import_module(f"{__name__}.{name}")) for name in names}
