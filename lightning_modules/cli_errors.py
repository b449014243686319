"""The messages of jsonargparse, reworded for the person who mistyped: what, where, and the nearest right name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable

from common.errors import nearest
from lightning_modules import algorithms


def readable(message: str, options: Iterable[str]) -> str:
    """One message with the nearest of the parser's `options` (dotted names) where a name is wrong."""
    options = list(options)
    if found := re.search(r"unrecognized arguments: (.*)", message):
        unknown = next((word for word in found[1].split() if word.startswith("-")), found[1])
        return f"no option {unknown}{nearest(unknown.split('=')[0].lstrip('-'), options)} See python train.py --help"
    if found := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message):
        group, option = found.groups()
        inside = [name.removeprefix(f"{group}.") for name in options if name.startswith(f"{group}.")]
        return f"{group} has no option {option!r}{nearest(option, inside)}"
    if found := re.search(r"Option '([\w.]+)' is not accepted|NestedArg\(key='([\w.]+)'", message):
        option = found[1] or found[2]
        return f"the algorithm has no option {option!r}{nearest(option, _algorithm_options())}"
    if found := re.search(r"""Given value: (?:\{'class_path': ')?([\w.]+)""", message):
        names = [name for name, _ in algorithms.named()]
        if '"model.algorithm"' in message:
            return f"no algorithm is called {found[1]!r}{nearest(found[1], names)} There are: {', '.join(names)}"
    if found := re.search(
        r'Parser key "([\w.]+)":\s*Expected an? (?:<class \')?([\w.]+).*?Got value: (.*)', message, re.S
    ):
        key, expected, value = found.groups()
        return f"{key} is {value.strip()!r}, expected {expected}"
    if found := re.search(r'Key "([\w.]+)".*(?:not expected|not exist)|No action for key "([\w.]+)"', message):
        unknown = found[1] or found[2]
        return f"no option {unknown!r}{nearest(unknown, options)}"
    return message


def _algorithm_options() -> list[str]:
    return sorted({name for _, kind in algorithms.named() for name in inspect.signature(kind).parameters})
