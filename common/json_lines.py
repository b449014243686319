"""Read JSON files, and JSON with one object per line; errors name the file and the line."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.input_files import TEXT, read_lines, read_text

_DEEPEST = 100  # nested lists and objects: what is read is also copied, printed and written again


def parse_json(text: str, where: str) -> Any:
    """Parse a JSON text.

    Raises:
        UserError: beginning with `where`, if it is not JSON, nested too deep, or holds half a surrogate pair.
    """
    try:
        content = json.loads(text)
        if text.count("[") + text.count("{") > _DEEPEST:
            _check_depth(content)
        if "\\ud" in text.lower():  # a character beyond U+FFFF is two escapes; either alone cannot be written again
            json.dumps(content, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} " if "\n" in text.rstrip() else ""
        raise UserError(f"{where}: not JSON ({error.msg} at {line}column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        reason = "half a character, a \\u escape without its other" if isinstance(error, UnicodeError) else error
        reason = "nested too deep" if isinstance(error, RecursionError) else reason
        raise UserError(f"{where}: JSON that cannot be used ({reason})") from None
    return content


def _check_depth(content: Any) -> None:
    level = [content]
    for _ in range(_DEEPEST):
        inside = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [part for parts in inside for part in parts if isinstance(part, dict | list)]
        if not level:
            return
    raise RecursionError


def read_json(path: Path | str, most: int = TEXT) -> Any:
    """Read a JSON file.

    Raises:
        UserError: naming the file, where it cannot be read, has more than `most` bytes, or as `parse_json`.
    """
    return parse_json(read_text(path, most), str(path))


def read_object(path: Path | str, what: str = "a mapping", most: int = TEXT) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: the file.
        what: the object, in words.
        most: the bytes that it may have.

    Raises:
        UserError: as `read_json`, or where it holds something else.
    """
    content = read_json(path, most)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected {what}, found {type(content).__name__}")
    return content


def wrong_field(where: str, name: str, value: Any, expected: str, kind: str = "field") -> UserError:
    """The error for a field with a wrong value.

    Args:
        where: the row's place.
        name: the field's name.
        value: what it holds.
        expected: what it must hold.
        kind: what such fields are called.
    """
    return UserError(f"{where}: the {kind} {name!r} is {value!r:.200}, expected {expected}")


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
    yield from parse_rows(read_lines(path), path)
