"""The meaning and the range of a merge method's parameters.

A method declares its parameters in its signature, `density: Annotated[PerModel, Range(0, 1)] = 0.2`, and says what they
are in its docstring's `Args:`. The command line, its help, the check of a recipe and the values for each tensor
(`merging.layout`) are made from these.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import docstring_parser
import yaml

from common.configs import load_yaml
from common.errors import UserError
from common.option_types import Range, bare, expected, fits_range, mistake

PerModel = Sequence[float]
"""A number for each fine-tune; given as one number, it holds for all."""
Weight = PerModel
Lambda = Annotated[float, Range(0)]
Density = Annotated[PerModel, Range(0, 1, above=True)]
Rescale = Literal["l1", "1/p", "none"]
Majority = Literal["weighted", "unweighted"]
Seed = Annotated[int, Range(0)]
CONTEXT = ("draw", "depth", "layer", "layers")
"""What a method may ask for beside its parameters."""


@dataclass(frozen=True)
class MergeParameter:
    """One parameter of a merge method.

    Attributes:
        name: `lambda` for the argument `lambda_`.
        hint: the type of one value (float, int, bool, or a `Literal` of words), with its range.
        default: as the signature has it.
        help: its meaning.
        per_model: whether each fine-tune may have its own value: the type is `PerModel`.
    """

    name: str
    hint: Any
    default: Any
    help: str
    per_model: bool

    @property
    def by_module(self) -> bool:
        """Whether each module and layer may have its own value."""
        return bare(self.hint) is float

    @property
    def range(self) -> str:
        """What a value may be, in words, e.g. `a number in (0, 1]`."""
        return expected(self.hint)


def declared(function: Callable[..., Any]) -> dict[str, MergeParameter]:
    """Return the parameters in a function's signature by name (`lambda_` is called `lambda`)."""
    hints = get_type_hints(function, include_extras=True)
    texts = {one.arg_name: one.description for one in docstring_parser.parse(function.__doc__ or "").params}
    found = {}
    for name, argument in inspect.signature(function).parameters.items():
        if argument.kind is argument.KEYWORD_ONLY and name not in CONTEXT:
            kind, marks = bare(hints[name]), getattr(hints[name], "__metadata__", (Range(),))
            hint = Annotated[float if kind == PerModel else kind, *marks]
            text = " ".join(texts.get(name, "").split()).rstrip(".")
            public = name.removesuffix("_")
            found[public] = MergeParameter(public, hint, argument.default, text, kind == PerModel)
    return found


def parse_words(parameter: MergeParameter, words: list[str]) -> Any:
    """Parse a command line's words: `1`, `1 0.5 1` (one per model), `1,0.5` (over depth), `encoder=0.8 decoder=1`."""
    given = " ".join(words)
    if len(words) > 1 and not parameter.by_module:
        raise UserError(f"--{parameter.name} takes one value, {parameter.range}; found {given!r}")
    if parameter.by_module and "=" in given:
        if not all("=" in word for word in words):
            raise UserError(f"--{parameter.name}: either numbers or MODULE=NUMBER throughout, found {given!r}")
        return {module: _read(value) for module, value in (word.split("=", 1) for word in words)}
    if len(words) > 1 and not parameter.per_model:
        raise UserError(
            f"--{parameter.name} is one value for all models, found {len(words)}; "
            "over the layers' depth write 1,0.5 and for modules encoder=1 decoder=0.5"
        )
    values = [_read(word) for word in words]
    return values if len(values) > 1 else values[0]


def _read(word: str) -> Any:
    """Parse one value, or several over depth; finding mistakes is left to `check`."""
    if "," in word:
        return [_read(part) for part in word.split(",")]
    try:
        return load_yaml(word)
    except yaml.YAMLError:
        return word


def check(parameter: MergeParameter, value: Any, models: int) -> Any:
    """Return a value as it is used (`1/n` becomes a number).

    Args:
        parameter: whose value it is.
        value: from a command line or a configuration.
        models: how many are merged.

    Raises:
        UserError: naming the parameter, the value found and the range expected.
    """
    if parameter.per_model and isinstance(value, list):
        if len(value) != models:
            raise UserError(
                f"{parameter.name} has {len(value)} values for {models} models; give one for all or one for each"
            )
        return [check(replace(parameter, per_model=False), part, models) for part in value]
    if parameter.by_module and isinstance(value, dict):
        return {str(module): _check_depths(parameter, part, models) for module, part in value.items()}
    return _check_depths(parameter, value, models)


def _check_depths(parameter: MergeParameter, value: Any, models: int) -> Any:
    """Check one value, or several over depth; see `check`."""
    if parameter.by_module and isinstance(value, list) and value:
        return [_check_depths(parameter, part, models) for part in value]
    if value == "1/n" and parameter.name == "weight":
        return 1.0 / models
    kind = bare(parameter.hint)
    if get_origin(kind) is Literal:
        right = value in get_args(kind)
    elif kind is bool:
        right = isinstance(value, bool)
    else:
        value, right = _number(kind, value)
        right = right and fits_range(parameter.hint, value)
    if not right:
        raise UserError(f"{mistake(parameter.name, value, parameter.hint)} ({parameter.help})")
    return value


def _number(kind: type, value: Any) -> tuple[Any, bool]:
    """Return a value as a number of the kind, and whether it is one."""
    try:
        number = kind(value)  # YAML reads 1e-5, without a point, as text
        return number, not isinstance(value, bool) and number in (value, float(value))
    except (TypeError, ValueError, OverflowError):
        return value, False
