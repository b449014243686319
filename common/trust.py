"""Where audio of a manifest is expected: beside it, below the working folder, and in corpora that the user prepared.

A manifest may point elsewhere, as NeMo's do. Commands that read audio from there say so, because a manifest from a
stranger could put the user's private recordings into a report that is passed on.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from common.files import write_text
from common.input_files import read_text

RECORD = ".audio_roots"  # in the working folder, a folder a line: the sources of the corpora prepared there


def audio_outside(manifest: Path | str, folders: Iterable[Path]) -> str:
    """Return the audio folders of a manifest that are elsewhere, as text for a message; "" if there are none."""
    roots = (absolute(Path(manifest).parent), *_trusted())
    outside = nearest_folders({folder for folder in folders if not _is_below(str(folder), roots)})
    more = f" and {len(outside) - 3:,} more folders" if len(outside) > 3 else ""
    return ", ".join(map(str, outside[:3])) + more


def nearest_folders(folders: set[Path]) -> list[Path]:
    """Return the common parent of the folders, unless it holds far more than a corpus, such as home; else each one."""
    if not folders:
        return []
    common = Path(os.path.commonpath(folders))
    is_narrow = common not in (Path.home(), *Path.home().parents) and len(common.parts) > 2
    return [common] if is_narrow else sorted(folders)


def absolute(path: str | Path) -> str:
    """The path from the root, without `..`, not following links."""
    return os.path.normpath(Path(path).absolute())


def trust(source: Path | str) -> bool:
    """Record that audio of manifests read in this working folder is expected in a corpus's source, too.

    Returns:
        Whether that is new.
    """
    root = absolute(source)
    if _is_below(root, _trusted()):
        return False
    write_text(Path(RECORD), "".join(f"{line}\n" for line in (*_recorded(), root)))
    return True


def _trusted() -> tuple[str, ...]:
    here = Path.cwd()
    working = [] if here in (Path.home(), Path(here.anchor)) else [str(here)]
    return tuple(absolute(root) for root in (*working, *_recorded()) if root)


def _is_below(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _recorded() -> list[str]:
    file = Path(RECORD)
    return read_text(file).splitlines() if file.is_file() else []
