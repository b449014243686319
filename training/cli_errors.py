"""The messages of jsonargparse, reworded for the person who mistyped: what, where, and the nearest right name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from backbone.lora import LoRA
from common.configs import read_yaml
from common.errors import UserError, nearest
from datamodules.augment import SpecAugment
from datamodules.splicing.splice_options import Splicing
from lightning_modules import algorithms


def check_keys(path: Path, options: Iterable[str]) -> None:
    """Refuses a recipe with a key that is no option; jsonargparse would not say in which file it stands.

    Raises:
        UserError: naming the file, the key and the nearest right one.
    """
    content = read_yaml(path)
    options = list(options)
    groups = {name.split(".")[0] for name in options}
    for key, value in content.items():
        if key not in groups:
            raise UserError(f"{path}: no option {key!r}{nearest(str(key), groups)}")
        inside = [name.split(".")[1] for name in options if name.startswith(f"{key}.")]
        for name in value if isinstance(value, dict) and inside else ():
            if name not in inside:
                raise UserError(f"{path}: {key} has no option {name!r}{nearest(str(name), inside)}")


def readable(message: str, options: Iterable[str]) -> str:
    """One message with the nearest of the parser's `options` (dotted names) where a name is wrong."""
    options = list(options)
    message = re.sub(r"<class '([\w.]+)'>|typing\.Literal\[([^]]*)\]", r"\1\2", message).replace("NoneType", "null")
    if found := re.search(r"unrecognized arguments: (.*)", message):
        unknown = next((word for word in found[1].split() if word.startswith("-")), found[1])
        return f"no option {unknown}{nearest(unknown.split('=')[0].lstrip('-'), options)} See python train.py --help"
    for group, kind in {"model.spec_augment": SpecAugment, "data.splice": Splicing, "model.lora": LoRA}.items():
        if f'"{group}":' in message:
            if found := re.search(r"no option '(\w+)'", message):
                names = [field.name for field in fields(kind)]
                return f"{group} has no option {found[1]!r}{nearest(found[1], names)}"
            return f"{group}: {found[1]}" if (found := re.search(r"Errors:\s+- (.*)", message)) else message
    if found := re.search(r'"model.algorithm":.*Errors:\s+- (the algorithm has .*?|\w+ is .*?)\n', message, re.S):
        return found[1] if found[1].startswith("the ") else f"model.algorithm.{found[1]}"  # what the parser within said
    if found := re.search(r"Option '([\w.]+)' is not accepted|NestedArg\(key='([\w.]+)'", message):
        option = found[1] or found[2]
        return f"the algorithm has no option {option!r}{nearest(option, _algorithm_options())}"
    if found := re.search(r"""Given value: (?:\{'class_path': ')?([\w.]+)""", message):
        names = [name for name, _ in algorithms.named()]
        if '"model.algorithm"' in message:
            return f"no algorithm is called {found[1]!r}{nearest(found[1], names)} There are: {', '.join(names)}"
    if found := re.search(r'Parser key "([\w.]+)":.*Subtypes: \[(.*)\]\s+Errors:.*Given value: (.*)', message, re.S):
        key, kinds, value = found.groups()
        return f"{key} is {value}, expected one of: {kinds}"
    if found := re.search(r'Parser key "([\w.]+)":\s*Expected an? (.*)\. Got value: (.*)', message):
        key, expected, value = found.groups()
        return f"{key} is {value!r}, expected {expected}"
    return message


def _algorithm_options() -> list[str]:
    return sorted({name for _, kind in algorithms.named() for name in inspect.signature(kind).parameters})
