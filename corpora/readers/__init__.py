"""Readers: one module for each corpus, discovered automatically: a new file is a new command of `prepare.py`."""

import importlib
import pkgutil

from corpora.readers.reader import Reader


def discover() -> dict[str, type[Reader]]:
    """Return the reader classes of this package's modules by corpus name, in alphabetical order."""
    found: dict[str, type[Reader]] = {}
    for module in pkgutil.iter_modules(__path__):
        for item in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(item, type) and issubclass(item, Reader) and item.__module__.endswith(f".{module.name}"):
                found[module.name] = item
    found.pop("reader")  # the base class
    return dict(sorted(found.items()))
