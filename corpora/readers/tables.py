"""The tables of a corpus: text, JSON lines and CSV, each row with its place for messages, and the fields of a row."""

import contextlib
import csv
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError, nearest
from common.json_lines import parse_rows, wrong_field
from corpora.readers.reader import Notice
from corpora.readers.source import SourceFiles

FIELDS: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_name("fields.yaml").read_text(encoding="utf-8"))


def read_jsonl(source: SourceFiles, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("file:line", row) for each line of a JSON-lines file.

    Raises:
        UserError: where a line is not a JSON object.
    """
    yield from parse_rows(source.lines(name), source.where(name))


def read_table(source: SourceFiles, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("file:line", row) for each row of a table of any kind.

    Raises:
        UserError: as `read_jsonl` and `read_csv`.
    """
    return (read_jsonl if name.endswith((".json", ".jsonl")) else read_csv)(source, name)


def read_csv(source: SourceFiles, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("file:line", row) for each row of a file with a header.

    Cells are separated by commas, or by tabs or semicolons where the header has no comma. A `.tsv` has no quotes.

    Raises:
        UserError: where the header has a name twice, a row has more or fewer cells, or a quote is not closed.
    """
    lines = source.lines(name)
    first = next(lines, "")
    mark = next((mark for mark in ",\t;" if mark in first), ",")  # German spreadsheets save a CSV with semicolons
    is_tsv = name.lower().endswith(".tsv")
    kind = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if is_tsv else {"delimiter": mark}
    rows = csv.reader((line + "\n" for line in chain([first], lines)), strict=True, **kind)
    header: list[str] = []
    begin = 1
    try:
        for cells in rows:
            where, begin = f"{source.where(name)}:{rows.line_num}", rows.line_num + 1
            if not header:
                header = cells
                if twice := sorted(cell for cell, number in Counter(header).items() if number > 1):
                    raise UserError(f"{where}: the header holds {twice[0]!r} twice")
            elif cells and len(cells) != len(header):
                raise UserError(f"{where}: the row does not have the header's {len(header)} cells, but {len(cells)}")
            elif cells:
                yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        reason = f"from here on not CSV ({error}); a quote inside of a cell is written twice"
        raise UserError(f"{source.where(name)}:{begin}: {reason}") from None


def require_names(required: Collection[str], names: Collection[str], where: str, kind: str = "field") -> None:
    """Check that a row or table has the fields that it must have.

    Args:
        required: the fields' names.
        names: what is there.
        where: the row's or table's place, for messages.
        kind: what the names are called.

    Raises:
        UserError: naming the first that is missing, the nearest name and all names.
    """
    for name in required:
        if name not in names:
            raise UserError(f"{where}: the {kind} {name!r} is missing{nearest(name, names)} ({_listed(names, kind)})")


def _listed(names: Collection[str], kind: str) -> str:
    """The names that a table has; not quoted if it may be no table, such as a link to a system file."""
    if len(names) > 1 and all(re.fullmatch(r"[\w .()-]{1,40}", name) for name in names):
        return f"the {kind}s are {', '.join(map(repr, names))}"
    return f"found {len(names)} of other names"


def text_field(row: dict[str, Any], name: str, where: str) -> str:
    """A field that must be there and be text (or a number, given as text).

    Args:
        row: the row.
        name: of the field.
        where: the row's place, for messages.

    Raises:
        UserError: naming file, line and field.
    """
    require_names([name], row, where)
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(f"{where}: the field {name!r} is {'null' if value is None else repr(value)}, expected text")
    return str(value)


def optional_text(row: dict[str, Any], name: str, where: str) -> str | None:
    """A field that may be missing or empty and otherwise is text (or a number, given as text).

    Args:
        row: the row.
        name: of the field.
        where: the row's place, for messages.

    Raises:
        UserError: naming file, line and field.
    """
    return None if row.get(name) in (None, "") else text_field(row, name, where)


def number_field(row: dict[str, Any], name: str, where: str) -> float | None:
    """A field that may be missing and otherwise is a finite number (or one written as text).

    Args:
        row: the row.
        name: of the field.
        where: the row's place, for messages.

    Raises:
        UserError: naming file, line and field.
    """
    value = row.get(name)
    if value in (None, ""):
        return None
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if math.isfinite(float(value)) and not isinstance(value, bool):
            return float(value)
    raise wrong_field(where, name, value, "a number")


def unknown_fields(row: dict[str, Any], known: Collection[str], where: str, noticed: set[str]) -> Iterator[Notice]:
    """Yield a notice for each field that is not in `known`, once; it is then added to `noticed`.

    Args:
        row: the row.
        known: the fields that the reader knows.
        where: the row's place, for messages.
        noticed: the fields already noticed.
    """
    for name in sorted(set(row) - set(known) - noticed):
        noticed.add(name)
        yield Notice("unknown field", f"{where}: the field {name!r} is not one this reader knows; ignored")
