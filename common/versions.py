"""The versions of installed packages, for the records of what was made."""

from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):  # an extra, or the project itself, which may run from a checkout
            found[name] = metadata.version(name)
    return found
