"""Small helpers around a study's file: mappings laid over each other, values on a command line, manifests' corpora."""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def merged(*mappings: Mapping[str, Any]) -> dict[str, Any]:
    """Return mappings laid over each other: later ones win, also inside nested mappings."""
    result: dict[str, Any] = {}
    for mapping in mappings:
        for key, value in mapping.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result


def flag(name: str, value: Any) -> str:
    """Return an option as a shell takes it: text unchanged, any other value as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"--{name} {shlex.quote(text)}"


def flags(options: Mapping[str, Any]) -> list[str]:
    """Return grouped options as a shell takes them: `{data: {speed: 1}, budget: 2}` is `--data.speed 1 --budget 2`."""
    nested = [(group, of if isinstance(of, Mapping) else {"": of}) for group, of in options.items()]
    return [flag(f"{group}.{name}".rstrip("."), value) for group, of in nested for name, value in of.items()]


def manifests(entry: Any) -> Iterator[str]:
    """Yield the paths in a pair's training data: `path`, `{manifest: path, weight: 2}`, or a list of both."""
    for item in entry if isinstance(entry, list) else [entry]:
        yield item["manifest"] if isinstance(item, Mapping) else item


def record_of(manifest: str, records: Iterable[str]) -> str:
    """Return the record that says a manifest's corpus is complete; the manifest itself where no record does."""
    around = [record for record in records if Path(record).parent in Path(manifest).parents]
    return max(around, key=len, default=manifest)
