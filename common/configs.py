"""Configurations in YAML: find them by name, and read them as plain values only."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import yaml

from common.errors import UserError, nearest
from common.input_files import SETTINGS, read_text

CONFIGS = Path(__file__).parent.parent / "configs"
RECIPES = ("recipe", "pair", "overlay")  # the folders of train.py's configurations
_MOST_VALUES = 100_000  # far more than any configuration has
_MOST_DIGITS = 1_000


def find_config(name: str, folders: str | Path | Sequence[str] = RECIPES) -> Path:
    """Return the file that a name means: a path, or else a file of `configs/<folder>/`, with or without `.yaml`.

    Args:
        name: what was given after `--config`.
        folders: one folder or several in order, in `configs/` or as paths of their own.

    Raises:
        UserError: if there is none, with the nearest name.
    """
    places = [CONFIGS / one for one in ([folders] if isinstance(folders, str | Path) else folders)]
    places += [CONFIGS] * (folders == RECIPES)  # base.yaml
    for candidate in (Path(name), *(place / each for place in places for each in (name, f"{name}.yaml"))):
        if candidate.is_file():
            return candidate
    known = sorted({path.name for place in places for path in place.glob("*.yaml") if path.name != "base.yaml"})
    suggestion = nearest(name if name.endswith(".yaml") else f"{name}.yaml", known)
    where = ", ".join(f"configs/{place.name}/" for place in places if place != CONFIGS) or "configs/"
    raise UserError(f"--config {name}: no such file, here or in {where}{suggestion} There are: {', '.join(known)}")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML file's mapping, of plain values.

    Raises:
        UserError: if it is no mapping, or its aliases stand for more values than a configuration can hold.
    """
    try:
        content = load_yaml(read_text(path, SETTINGS))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {_problem(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of options, found {type(content).__name__}")
    return content


def _problem(error: Exception) -> str:
    """What is wrong and where; the line itself is not quoted, because the file may hold anything."""
    mark = getattr(error, "problem_mark", None)
    return f"{error.problem} at line {mark.line + 1}, column {mark.column + 1}" if mark else str(error)


class _PlainLoader(yaml.SafeLoader):
    """Makes lists, mappings, text, numbers, true, false and null; a date stays the text that it is written as."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors: ClassVar[dict[Any, Any]] = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if not str(tag).endswith((":timestamp", ":binary", ":set", ":omap", ":pairs"))
    }


def load_yaml(text: str) -> Any:
    """Return the plain values of a YAML text.

    A few lines of aliases to aliases can stand for billions of values. PyYAML shares them in memory, but merging,
    copying and printing do not, so the values are counted before any is constructed.

    Raises:
        yaml.YAMLError: if it is no YAML, asks for objects, or stands for too many values.
    """
    if len(text) > SETTINGS:
        raise yaml.YAMLError(f"has more than {SETTINGS:,} characters")
    loader = _PlainLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("its values are nested too deep") from None
    except ValueError as error:  # a date or number of the right form but out of range
        raise yaml.YAMLError(str(error)) from None
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for once every alias is written out.

    Raises:
        yaml.YAMLError: if they are too many, or one contains itself.
    """
    if id(node) not in known:
        known[id(node)] = _MOST_VALUES  # until it is counted: a node that contains itself has no end
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
        parts = chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
        if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":int") and len(node.value) > _MOST_DIGITS:
            raise yaml.YAMLError(f"a number of {len(node.value):,} digits, at line {node.start_mark.line + 1}")
        inside = 0 if isinstance(node, yaml.ScalarNode) else sum(_count(part, known) for part in parts)
        known[id(node)] = 1 + inside
    if known[id(node)] > _MOST_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {_MOST_VALUES:,} values")
    return known[id(node)]


def _check_keys(node: yaml.MappingNode) -> None:
    keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<")
    if twice := [key for key, number in keys.items() if number > 1]:
        raise yaml.YAMLError(f"the key {twice[0]!r} stands twice in one mapping, at line {node.start_mark.line + 1}")
