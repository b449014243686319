"""Where manifests may point: beside themselves, below the working folder, and to corpora that their user prepared.

A manifest from elsewhere could make one's own recordings part of a report, so it may not point to just any file.
"""

import os
from pathlib import Path

from common.files import write_text
from common.input_files import read_text

AUDIO_ROOTS = "CROSSPAIR_AUDIO_ROOTS"  # environment variable: further folders, separated by `:`
RECORD = ".audio_roots"  # in the working folder, a folder a line: the sources of the corpora prepared there


def trusted_roots() -> tuple[str, ...]:
    """The folders that every manifest may point into."""
    here = Path.cwd()
    named = os.environ.get(AUDIO_ROOTS, "").split(os.pathsep)
    if here not in (Path.home(), Path(here.anchor)):
        named.append(str(here))
    return tuple(absolute(root) for root in (*named, *_recorded()) if root)


def absolute(path: str | Path) -> str:
    """The path from the root, without `..`, not following links."""
    return os.path.normpath(Path(path).absolute())


def is_below(path: str, roots: tuple[str, ...]) -> bool:
    """Whether an absolute path lies in one of the folders; a link on the way is its owner's will."""
    return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def trust(source: Path | str) -> bool:
    """Let manifests read from this working folder point to a corpus, which stays where it is, from now on.

    Returns:
        Whether that is new.
    """
    root = absolute(source)
    if is_below(root, trusted_roots()):
        return False
    write_text(Path(RECORD), "".join(f"{line}\n" for line in (*_recorded(), root)))
    return True


def _recorded() -> list[str]:
    file = Path(RECORD)
    return read_text(file).splitlines() if file.is_file() else []
