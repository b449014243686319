"""What a merge method's parameters mean and may be.

A method declares its parameters in its signature: `density: Annotated[PerModel, MergeParameter(...)] = 0.2`. From there
come the command line, its help, the check of a recipe and the values that each tensor gets (`merging.layout`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from common.errors import UserError, nearest

PerModel = Sequence[float]
"""A number for each fine-tune; given as one number, it holds for all."""


@dataclass(frozen=True)
class MergeParameter:
    """One parameter of a merge method.

    Attributes:
        help: its meaning.
        low, high: the range of a number.
        excludes: ends of the range that do not belong to it.
        per_model: whether each fine-tune may have its own value: the type is `PerModel`.
        name, kind, default: as the signature has them.
    """

    help: str
    low: float = -math.inf
    high: float = math.inf
    excludes: tuple[float, ...] = ()
    per_model: bool = False
    name: str = ""
    kind: type | tuple[str, ...] = float
    default: Any = None

    @property
    def by_module(self) -> bool:
        """Whether each module and layer may have its own value."""
        return self.kind is float

    @property
    def range(self) -> str:
        """The range in words, e.g. `in (0, 1]`."""
        if isinstance(self.kind, tuple):
            return "one of " + ", ".join(self.kind)
        if self.kind is bool:
            return "true or false"
        if self.low == -math.inf and self.high == math.inf:
            return "any number"
        left = "(" if self.low in self.excludes or self.low == -math.inf else "["
        right = ")" if self.high in self.excludes or self.high == math.inf else "]"
        return f"in {left}{self.low:g}, {self.high:g}{right}"


_P = MergeParameter
Weight = Annotated[PerModel, _P("weight w_i of each fine-tune; 1/n for the mean of n models")]
Lambda = Annotated[float, _P("step length: the merged step is multiplied by it; papers search 0.2 to 1.5", low=0)]
Normalize = Annotated[bool, _P("divide by the sum of the weights")]
Density = Annotated[PerModel, _P("share of each task vector that is kept; 1 keeps all", low=0, high=1, excludes=(0,))]
Rescale = Annotated[
    Literal["l1", "1/p", "none"],
    _P("what makes up for dropping: the L1 norm (as mergekit), 1/density (the paper), nothing"),
]
Majority = Annotated[
    Literal["weighted", "unweighted"], _P("whether the weights count in the election of each entry's sign")
]
Seed = Annotated[int, _P("seed of the random masks, with the model's and the tensor's name", low=0)]


def declared(function: Callable[..., Any]) -> dict[str, MergeParameter]:
    """Return the parameters in a function's signature by name (`lambda_` is called `lambda`)."""
    # Tensor is imported for type checkers alone: the command line does without torch.
    hints = get_type_hints(function, localns={"Tensor": Any}, include_extras=True)
    found = {}
    for argument in inspect.signature(function).parameters.values():
        marks = getattr(hints.get(argument.name), "__metadata__", ())
        mark = next((mark for mark in marks if isinstance(mark, MergeParameter)), None)
        if mark is not None:
            kind = hints[argument.name].__origin__
            per_model = kind == PerModel
            kind = float if per_model else get_args(kind) if get_origin(kind) is Literal else kind
            name = argument.name.removesuffix("_")
            found[name] = replace(mark, name=name, kind=kind, default=argument.default, per_model=per_model)
    return found


def parse_words(parameter: MergeParameter, words: list[str]) -> Any:
    """Read a command line's words: `1`, `1 0.5 1` (a model each), `1,0.5` (over depth), `encoder=0.8 decoder=1`."""
    if not parameter.by_module:
        if len(words) != 1:
            raise UserError(f"--{parameter.name} takes one value, {parameter.range}; found {' '.join(words)!r}")
        return _scalar(parameter, words[0])
    if any("=" in word for word in words):
        if not all("=" in word for word in words):
            raise UserError(
                f"--{parameter.name}: either numbers or MODULE=NUMBER throughout, found {' '.join(words)!r}"
            )
        pairs = [word.split("=", 1) for word in words]
        return {module: _depth(parameter, value) for module, value in pairs}
    values = [_depth(parameter, word) for word in words]
    if len(values) == 1:
        return values[0]
    if not parameter.per_model:
        raise UserError(
            f"--{parameter.name} is one value for all models, found {len(values)}; "
            "over the layers' depth write 1,0.5 and for modules encoder=1 decoder=0.5"
        )
    return values


def _depth(parameter: MergeParameter, word: str) -> Any:
    return [_scalar(parameter, part) for part in word.split(",")] if "," in word else _scalar(parameter, word)


def _scalar(parameter: MergeParameter, word: str) -> Any:
    if isinstance(parameter.kind, tuple) or word == "1/n":
        return word
    if parameter.kind is bool and word.lower() in ("true", "false", "yes", "no", "1", "0"):
        return word.lower() in ("true", "yes", "1")
    try:
        return parameter.kind(word) if parameter.kind is not bool else word
    except ValueError:
        return word  # `check` says what is wrong with it


def check(parameter: MergeParameter, value: Any, models: int) -> Any:
    """Return the value as it is used (`1/n` becomes a number).

    Raises:
        UserError: naming the parameter, the value found and the range expected.
    """
    if isinstance(value, Mapping):
        if not parameter.by_module:
            raise UserError(f"{parameter.name} is one value for the whole merge, found values by module: {dict(value)}")
        return {str(module): _check_leaf(parameter, part, models) for module, part in value.items()}
    if parameter.per_model and isinstance(value, list | tuple):
        if len(value) != models:
            raise UserError(
                f"{parameter.name} has {len(value)} values for {models} models; give one for all or one for each"
            )
        return [check(replace(parameter, per_model=False), part, models) for part in value]
    return _check_leaf(parameter, value, models)


def _check_leaf(parameter: MergeParameter, value: Any, models: int) -> Any:
    """Check a number, a word, or numbers over depth; see `check`."""
    if isinstance(value, list | tuple):
        if not (parameter.by_module and value):
            raise UserError(f"{parameter.name} is {list(value)!r}, expected one value, {parameter.range}")
        return [_check_leaf(parameter, part, models) for part in value]
    if value == "1/n" and parameter.name == "weight":
        return 1.0 / models
    if isinstance(parameter.kind, tuple):
        if str(value) not in parameter.kind:
            raise UserError(
                f"{parameter.name} is {value!r}, expected {parameter.range}" + nearest(str(value), parameter.kind)
            )
        return str(value)
    right = isinstance(value, bool) if parameter.kind is bool else _is_number(value, parameter.kind)
    if right and parameter.kind is not bool:
        right = parameter.low <= value <= parameter.high and value not in parameter.excludes
    if not right:
        raise UserError(f"{parameter.name} is {value!r}, expected {parameter.range}: {parameter.help}")
    return value if parameter.kind is bool else parameter.kind(value)


def _is_number(value: Any, kind: type) -> bool:
    return (
        not isinstance(value, bool) and isinstance(value, int if kind is int else int | float) and math.isfinite(value)
    )
