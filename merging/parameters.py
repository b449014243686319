"""What a merge method's parameters mean and may be, and their values for one tensor of one model.

A method declares its parameters in its signature: `density: Annotated[float, Parameter(...)] = 0.2`. From there come
the command line, its help, the check of a recipe and the values that each tensor gets.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from common.errors import UserError, nearest


@dataclass(frozen=True)
class Parameter:
    """One parameter: its meaning and range.

    `per_model`: each fine-tune may have its own value. `by_module`: each module and layer may have its own, too.
    """

    help: str
    low: float = -math.inf
    high: float = math.inf
    excludes: tuple[float, ...] = ()
    per_model: bool = False
    by_module: bool = True
    name: str = ""
    kind: type | tuple[str, ...] = float
    default: Any = None

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


def declared(function: Callable[..., Any]) -> dict[str, Parameter]:
    """Returns the parameters in a function's signature by name (`lambda_` is called `lambda`)."""
    found = {}
    for argument in inspect.signature(function).parameters.values():
        marks = getattr(argument.annotation, "__metadata__", ())
        mark = next((mark for mark in marks if isinstance(mark, Parameter)), None)
        if mark is not None:
            kind = argument.annotation.__origin__
            kind = get_args(kind) if get_origin(kind) is Literal else kind
            name = argument.name.removesuffix("_")
            found[name] = Parameter(**{**vars(mark), "name": name, "kind": kind, "default": argument.default})
    return found


def parse(parameter: Parameter, words: list[str]) -> Any:
    """Reads a command line's words: `1`, `1 0.5 1` (a model each), `1,0.5` (over depth), `encoder=0.8 decoder=1`."""
    if not (parameter.kind is float and parameter.by_module):
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


def _depth(parameter: Parameter, word: str) -> Any:
    return [_scalar(parameter, part) for part in word.split(",")] if "," in word else _scalar(parameter, word)


def _scalar(parameter: Parameter, word: str) -> Any:
    if isinstance(parameter.kind, tuple) or word == "1/n":
        return word
    if parameter.kind is bool and word.lower() in ("true", "false", "yes", "no", "1", "0"):
        return word.lower() in ("true", "yes", "1")
    try:
        return parameter.kind(word) if parameter.kind is not bool else word
    except ValueError:
        return word  # `check` says what is wrong with it


def check(parameter: Parameter, value: Any, models: int) -> Any:
    """Returns the value as it is used (`1/n` becomes a number).

    Raises:
        UserError: naming the parameter, the value found and the range expected.
    """
    if isinstance(value, Mapping):
        if not (parameter.kind is float and parameter.by_module):
            raise UserError(f"{parameter.name} is one value for the whole merge, found values by module: {dict(value)}")
        return {str(module): check_leaf(parameter, part, models) for module, part in value.items()}
    if parameter.per_model and isinstance(value, list | tuple):
        if len(value) != models:
            raise UserError(
                f"{parameter.name} has {len(value)} values for {models} models; give one for all or one for each"
            )
        return [check(Parameter(**{**vars(parameter), "per_model": False}), part, models) for part in value]
    return check_leaf(parameter, value, models)


def check_leaf(parameter: Parameter, value: Any, models: int) -> Any:
    """Checks a number, a word, or numbers over depth; see `check`."""
    if isinstance(value, list | tuple):
        if not (parameter.kind is float and parameter.by_module and value):
            raise UserError(f"{parameter.name} is {list(value)!r}, expected one value, {parameter.range}")
        return [check_leaf(parameter, part, models) for part in value]
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


EMBEDDINGS = re.compile(r"(encoder|decoder)\.embed_(tokens|positions)\.")
NORMS = re.compile(r"(encoder|decoder)\.layer_norm\.")
_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.")
_STACK = re.compile(r"(?:^|\.)(encoder|decoder)\.")


class Layout:
    """Where each tensor of an encoder-decoder stands: its stack and its depth, from the tensors' names alone."""

    def __init__(self, names: Iterable[str]) -> None:
        """Takes all tensor names of the model, in any order."""
        self.names = sorted(names)
        self.layers = {"encoder": 0, "decoder": 0}
        for name in self.names:
            if match := _LAYER.search(name):
                self.layers[match[1]] = max(self.layers[match[1]], int(match[2]) + 1)

    @property
    def total(self) -> int:
        """Layers of encoder and decoder together."""
        return sum(self.layers.values())

    def stack(self, name: str) -> str | None:
        """`encoder`, `decoder`, or None for a tensor of neither."""
        match = _STACK.search(name)
        return match[1] if match else None

    def layer(self, name: str) -> int | None:
        """The layer's number over both stacks, the encoder's first; None outside the layers."""
        match = _LAYER.search(name)
        return None if match is None else int(match[2]) + (self.layers["encoder"] if match[1] == "decoder" else 0)

    def depth(self, name: str, stack: str | None = None) -> float:
        """The place in [0, 1] within a stack, or over both; stems and embeddings stand at 0, final norms at 1."""
        own = self.stack(name)
        first = self.layers["encoder"] if own == "decoder" and stack is None else 0
        count = self.layers.get(own, 0) if own else 0
        number = self.layer(name)
        if number is None:
            place = first + (count - 1 if NORMS.search(name) else 0)
        else:
            place = number - (self.layers["encoder"] if own == "decoder" and stack is not None else 0)
        span = (self.layers[stack] if stack else self.total) - 1
        return min(1.0, max(0.0, place / span)) if span > 0 else 0.0

    def check_modules(self, parameter: str, value: Any) -> None:
        """Raises a `UserError` for a module's name in `value` that no tensor answers to."""
        for module in _modules(value):
            if module != "default" and not any(_matches(module, name) for name in self.names):
                known = {"encoder", "decoder", "embeddings", "norms", "default"}
                known |= {name.removeprefix("model.").rpartition(".")[0] for name in self.names}
                raise UserError(
                    f"{parameter}: no tensor belongs to the module {module!r}{nearest(module, known)} (encoder, "
                    "decoder, embeddings, norms, default, or the beginning of a tensor's name such as decoder.layers.3)"
                )


def value_at(value: Any, name: str, layout: Layout, default: Any) -> Any:
    """Returns a checked value's number for one tensor: of the most specific module, at the tensor's depth."""
    stack = None
    if isinstance(value, Mapping):
        modules = [module for module in value if _matches(module, name)]
        module = max(modules, key=_specificity, default=None)
        stack = module if module in ("encoder", "decoder") else None
        value = default if module is None and "default" not in value else value[module or "default"]
    if isinstance(value, list):
        place = layout.depth(name, stack) * (len(value) - 1)
        low = math.floor(place)
        high = min(low + 1, len(value) - 1)
        return value[low] + (value[high] - value[low]) * (place - low)
    return value


def _matches(module: str, name: str) -> bool:
    if module in ("embeddings", "norms"):
        return bool((EMBEDDINGS if module == "embeddings" else NORMS).search(name))
    bare = name.removeprefix("model.")
    return f"{bare}.".startswith(f"{module.removeprefix('model.')}.")


def _specificity(module: str) -> tuple[bool, bool, int]:
    return "." in module, module in ("embeddings", "norms"), len(module)


def _modules(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from value
    elif isinstance(value, list):
        for part in value:
            yield from _modules(part)
