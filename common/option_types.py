"""The types of options: ranges of numbers, and every type in words, for help and messages."""

import inspect
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from common.errors import nearest

REQUIRED: Any = MISSING
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
_METAVARS = {int: "N", float: "X", str: "TEXT", bool: "true|false", Path: "PATH", dict: "MAPPING"}


@dataclass(frozen=True)
class Range:
    """The bounds of a number, as in `Annotated[float, Range(0, 1)]`.

    Attributes:
        low: the lowest value.
        high: the highest value, inclusive; never infinity itself.
        above: whether `low` itself is excluded.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return abs(value) < math.inf and self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        if self.low == -math.inf:
            return ""
        if self.high == math.inf:
            return f"above {self.low:.12g}" if self.above else f"of {self.low:.12g} or more"
        return f"in {'(' if self.above else '['}{self.low:.12g}, {self.high:.12g}]"


Count = Annotated[int, Range(1)]
"""A whole number of 1 or more."""
Seed = Annotated[int, Range(0, 2**32 - 1)]
"""A seed that NumPy and PyTorch take, too."""
Beams = Annotated[int, Range(1, 100)]
"""Hypotheses that a beam search keeps; each takes memory."""

NumberFormat = Literal["float32", "bfloat16", "float16"]
"""The number format of decoding."""


def bare(hint: Any) -> Any:
    """Return a type without its annotations, and without `| None`."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    others = [one for one in get_args(hint) if one is not type(None)]
    return bare(others[0]) if is_union(hint) and len(others) == 1 else hint


def is_union(hint: Any) -> bool:
    """Whether a type is one of several."""
    return get_origin(hint) in (Union, types.UnionType)


def items(hint: Any) -> Any:
    """Return the type of a list's or tuple's items; None for any other type."""
    return get_args(bare(hint))[0] if get_origin(bare(hint)) in (list, tuple) else None


def fits_range(hint: Any, value: Any) -> bool:
    """Whether a value is no number, or one that its type's range holds; NaN is in none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return value == value and all(value in one for one in _ranges(hint))


def expected(hint: Any) -> str:
    """Return a type in words, for messages."""
    bounds, hint = _ranges(hint), bare(hint)
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if is_union(hint):
        return " or ".join(map(expected, inside))
    if names := choices(hint):
        return f"one of {', '.join(names)}"
    if kind is tuple and Ellipsis not in inside:
        return f"{len(inside)} values: {', '.join(map(expected, inside))}"
    if kind in (list, tuple, Sequence):
        return f"a list of {expected(inside[0])}" if inside else "a list"
    if kind in (dict, Mapping):
        return f"a mapping of {expected(inside[0])} to {expected(inside[1])}" if inside else "a mapping"
    if hint in (None, type(None), Any):
        return "any value" if hint is Any else "null"
    return f"{_WORDS.get(kind, getattr(kind, '__name__', str(kind)))} {' '.join(map(str, bounds))}".rstrip()


def mistake(name: str, value: Any, hint: Any) -> str:
    """Return the message for a value of the wrong type: what was found, what was expected, the nearest choice.

    Args:
        name: the option's, as the user writes it.
        value: what was found.
        hint: the option's type.
    """
    found = "null" if value is None else repr(value)
    found = found if len(found) < 200 else f"{found[:200]}..."
    known = [word for one in (hint, *get_args(hint)) for word in choices(one)]
    return f"{name} is {found}, expected {expected(hint)}{nearest(str(value), known)}"


def choices(hint: Any) -> list[str]:
    """Return the words that a `Literal` allows, or the names of an abstract class's subclasses; else none."""
    hint = bare(hint)
    if get_origin(hint) is Literal:
        return list(map(str, get_args(hint)))
    return sorted(one.__name__ for one in _concrete(hint)) if inspect.isabstract(hint) else []


def metavar(hint: Any) -> str:
    """Return what stands for a value of this type in the help, such as `N` or `a|b`; of several types, the first's."""
    hint = bare(hint)
    kind = get_origin(hint) or hint
    if kind is Literal:
        return "|".join(choices(hint))
    if kind not in _METAVARS and get_args(hint):
        return metavar(get_args(hint)[0])
    return _METAVARS.get(kind, getattr(kind, "__name__", str(kind)).upper())


def shown(value: Any) -> str:
    """Return a default as the help shows it; empty for none."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " ".join(value)
    if value is None or value is REQUIRED or value == {}:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ranges(hint: Any) -> list[Range]:
    marks = [mark for one in (hint, *get_args(hint)) for mark in getattr(one, "__metadata__", ())]
    return [mark for mark in marks if isinstance(mark, Range)]


def _concrete(kind: type) -> Iterable[type]:
    if not inspect.isabstract(kind):
        yield kind
    for one in kind.__subclasses__():
        yield from _concrete(one)
