"""JSON from elsewhere, an object a line: each with its place (file and line), which errors name."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import UserError


def parse_json(text: str, where: str) -> Any:
    """Parse a JSON text.

    Raises:
        UserError: beginning with `where`, where it is not JSON, nested beyond reason, or holds half a character.
    """
    try:
        content = json.loads(text)
        if "\\ud" in text.lower():  # a character beyond U+FFFF is two escapes; either alone cannot be written again
            json.dumps(content, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} " if "\n" in text.rstrip() else ""
        raise UserError(f"{where}: not JSON ({error.msg} at {line}column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        reason = "half a character, a \\u escape without its other" if isinstance(error, UnicodeError) else error
        raise UserError(f"{where}: JSON that cannot be used ({reason})") from None
    return content


def wrong_field(where: str, name: str, value: Any, expected: str, kind: str = "field") -> UserError:
    """The error of a field that holds something else than it must.

    Args:
        where: the row's place.
        name: the field's name.
        value: what it holds.
        expected: what it must hold.
        kind: what such fields are called.
    """
    return UserError(f"{where}: the {kind} {name!r} is {value!r}, expected {expected}")


def parse_rows(lines: Iterable[str], name: Path | str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("name:line", object) for each line that is not blank; for the objects of one array "name[position]".

    Raises:
        UserError: where a line, or the array, holds something other than JSON objects.
    """
    numbered = enumerate(lines, start=1)
    for number, line in numbered:
        found: list[tuple[str, Any]] = []
        if line.strip() == "[" or line.lstrip().startswith("[{"):
            text = "\n" * (number - 1) + line + "\n".join(more for _, more in numbered)
            found = [(f"{name}[{position}]", row) for position, row in enumerate(parse_json(text, str(name)))]
        elif line.strip():
            found = [(f"{name}:{number}", parse_json(line, f"{name}:{number}"))]
        for where, row in found:
            if not isinstance(row, dict):
                raise UserError(f"{where}: expected a JSON object, found {type(row).__name__}")
            yield where, row


def read_rows(path: Path | str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("path:line", object) for each line of a file, one at a time.

    Raises:
        UserError: where the file cannot be read or is not UTF-8, or a line is not a JSON object.
    """
    with naming(path), Path(path).open(encoding="utf-8-sig") as file:
        yield from parse_rows(file, path)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Name the file `path` in what goes wrong while it is read.

    Raises:
        UserError: where the file cannot be read or is not UTF-8.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        raise UserError(f"{path}: {'no such file' if is_missing else f'cannot be read ({error.strerror})'}") from None
