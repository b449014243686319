"""The options of an evaluation, from configurations and the command line, each of its kind; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from backbone.model_folder.locate import named_models
from common.configs import CONFIGS, read_configs
from common.errors import UserError


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _window(value: Any) -> bool:
    return _text(value) or (isinstance(value, int | float) and not isinstance(value, bool) and value > 0)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _manifests(value: Any) -> bool:
    return isinstance(value, dict) and all(_text(name) and _text(path) for name, path in value.items())


_TEXT = (_text, "text (in quotes where YAML reads it as something else)")
_COUNT = (_count, "a whole number of 1 or more")
_WINDOW = (_window, "30s, longest, or seconds")
_TEXTS = (_texts, "a list of test sets' names")
KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "models": (lambda value: isinstance(value, list), "a list of models"),
    "test": (_manifests, "a mapping of names to manifests, {ko-en: data/ko-en/test.jsonl}"),
    "seen": _TEXTS,
    "unseen": _TEXTS,
    "baseline": _TEXT,
    "profile": _TEXT,
    "language": _TEXT,
    "backend": _TEXT,
    "window": _WINDOW,
    "compile": (lambda value: isinstance(value, bool), "true or false"),
    "device": _TEXT,
    "out": _TEXT,
    "beams": _COUNT,
    "batch_size": _COUNT,
    "devices": _COUNT,
}


def read_options(configs: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that configurations make together, with what the command line gave in their place.

    Raises:
        UserError: where a configuration or a test manifest is missing, or an option has a value of another kind.
    """
    options = {"out": "outputs/evaluation"} | read_configs(configs, CONFIGS / "evaluate", KINDS)
    if "models" in given and options.get("baseline") not in {one["name"] for one in named_models(given["models"])}:
        options.pop("baseline", None)  # it names one of the configuration's models
    options |= given
    for name, value in options.items():
        is_kind, expected = KINDS[name]
        if not is_kind(value):
            raise UserError(f"{name} is {value!r}, expected {expected}")
    if not options.get("models"):
        raise UserError("no model named: give model folders, or a --config that lists models")
    if not options.get("test"):
        raise UserError("no test set named: give a --config with test manifests, e.g. --config demo.yaml")
    missing = [path for path in options["test"].values() if not Path(path).is_file()]
    if missing:
        raise UserError(f"these test manifests are missing: {', '.join(missing)}; see python prepare.py --help")
    return options
