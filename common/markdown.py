"""Model cards: templates, the YAML head that the Hub reads, and Markdown tables."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from common.configs import load_yaml
from common.errors import UserError
from common.escape import template
from common.input_files import read_text

_HEAD = re.compile(r"\A---\n(.*?)\n---(?:\n|\Z)", re.DOTALL)


def render(path: Path, **values: Any) -> str:
    """Fill a card's template with values, which are escaped: see `common.escape.template`."""
    return template(path).render(values)


def split(card: str) -> tuple[dict[str, Any], str]:
    """Return a card's head as a mapping, and the text after it.

    Raises:
        UserError: if it has no head, or its head is no YAML mapping.
    """
    found = _HEAD.match(card)
    try:
        head = load_yaml(found[1]) if found else None
    except yaml.YAMLError:
        head = None
    if not found or not isinstance(head, dict):
        raise UserError("the model card has no head of YAML between two lines of ---; was it written by hand?")
    return head, card[found.end() :]


def licence_of(folder: Path) -> str | None:
    """Return the licence that a model folder's card states, or None."""
    try:
        head, _ = split(read_text(folder / "README.md", errors="replace"))
    except UserError:
        return None
    return str(head["license"]) if head.get("license") else None


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int | None = None) -> str:
    """Return a Markdown table.

    Args:
        head: the columns' titles.
        rows: the cells, as text.
        numbers_from: the first column, counted from 0, that is set flush right with all after it.
    """
    left = len(head) if numbers_from is None else numbers_from
    rule = "|" + "---|" * left + "---:|" * (len(head) - left)
    first, *others = (f"| {' | '.join(cells)} |" for cells in (head, *rows))
    return "\n".join((first, rule, *others))
