"""Input files: the one way to open what a user names, or what lies in a folder that a user names.

A name may lead to a pipe, at which a reader waits forever, to a device, which can be read forever, or to a file far
larger than its kind ever is. All are refused before anything is read.
"""

import hashlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import UserError

SETTINGS = 2**20
"""Most bytes of YAML that people write: a parser in Python takes a second for each 100 kB of it."""
TEXT = 2**26
"""Most bytes of a text that is read whole: JSON, tokenizers, model cards."""
RECORDS = 2**29
"""Most bytes of a text that is read whole and has an entry for each utterance."""
CONTENT = 2**40
"""Most bytes of a file that is read in parts: manifests and tables by lines; audio, weights and checkpoints."""
_LINE = 2**24  # characters
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def check_file(path: Path | str, most: int = CONTENT) -> Path:
    """Return a path after checking that it leads to a regular file that is not too large.

    Raises:
        UserError: naming the file, and what it is instead.
    """
    try:
        found = Path(path).stat()
    except ValueError as error:  # a name that no file can have
        raise UserError(f"{path!r}: cannot be read ({error})") from None
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        raise UserError(f"{path}: {'no such file' if is_missing else f'cannot be read ({error.strerror})'}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no regular file")
        raise UserError(f"{path}: is {kind}, expected a file")
    if found.st_size > most:
        raise UserError(f"{path}: has {found.st_size:,} bytes, expected no more than {most:,} of a file of its kind")
    return Path(path)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Name the file `path` in errors that occur while it is read.

    Raises:
        UserError: where the file cannot be read or is not UTF-8.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def read_bytes(path: Path | str, most: int = TEXT) -> bytes:
    """Read a file whole.

    Raises:
        UserError: as `check_file`, or where it cannot be read.
    """
    with naming(path):
        return check_file(path, most).read_bytes()


def read_text(path: Path | str, most: int = TEXT, errors: str = "strict") -> str:
    """Read a UTF-8 text whole, without a byte-order mark, line ends as `\\n`.

    Args:
        path: the file.
        most: the bytes that it may have.
        errors: how to handle bytes that are not UTF-8, as in `bytes.decode`.

    Raises:
        UserError: as `read_bytes`, or where it is not UTF-8.
    """
    with naming(path):
        return check_file(path, most).read_text(encoding="utf-8-sig", errors=errors)


def read_lines(path: Path | str) -> Iterator[str]:
    """Yield the lines of a UTF-8 text, one at a time.

    Raises:
        UserError: as `read_text`, or where a line is too long.
    """
    with naming(path), check_file(path).open(encoding="utf-8-sig") as file:
        number = 0
        while line := file.readline(_LINE):
            number += 1
            if len(line) == _LINE:
                raise UserError(f"{path}:{number}: the line is longer than {_LINE:,} characters")
            yield line


def digest_of_file(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits.

    Raises:
        UserError: as `read_bytes`.
    """
    with naming(path), check_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
