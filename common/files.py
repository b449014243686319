"""Files and folders that are either whole or absent: written beside their target, fsynced, renamed."""

import contextlib
import ctypes
import errno
import fcntl
import glob
import math
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError

_LONGEST_NAME = 200  # bytes; file systems allow 255, of which endings and partial files take some
_FULL = 2**16  # bytes; a disk with less free space counts as full
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's renameat2


@contextlib.contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it replaces `path`, on any exception it is removed.

    Raises:
        OSError: whatever the writing raised; `path` is then untouched.
    """
    path = Path(path)
    with scratch_folder(path) as scratch:
        partial = scratch / path.name
        partial.touch()
        yield partial
        _fsync(partial)
        partial.replace(path)
        _fsync(path.parent)


def check_name(name: str, what: str) -> str:
    """Return a name for a new file or folder, if it is a valid one and cannot lead to another folder.

    Raises:
        UserError: naming `what` it is, where it holds more than letters, digits, `-`, `_`, `+` and inner dots.
    """
    if not re.fullmatch(r"[\w+-][\w.+-]*", name) or len(name.encode()) > _LONGEST_NAME:
        expected = f"letters, digits, '-', '_' and '.', at most {_LONGEST_NAME} bytes"
        raise UserError(f"{what}: {name[:_LONGEST_NAME]!r} cannot name a file or folder; expected {expected}")
    return name


def check_replaceable(folder: Path, record: str, what: str) -> None:
    """Check that a folder may be overwritten: it is new, empty, or one that was written before.

    Args:
        folder: the folder to write.
        record: the file that marks a folder written before.
        what: such a folder, in words.

    Raises:
        UserError: naming the folder and the file that it lacks.
    """
    if folder.exists() and not (folder / record).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is no {what} (it has no {record}); name another with --out")


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def naming_disk(path: Path | str) -> Iterator[None]:
    """Name the file and the disk where writing to `path` fails because the disk is full, whatever the library raises.

    Raises:
        OSError: saying so, in place of the library's own error.
    """
    path = Path(path)
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if code := _no_room(error, path):
            reason = os.strerror(code) + (f": {room(path)}" if code == errno.ENOSPC else "")
            raise OSError(code, reason, str(path)) from error
        raise


def room(path: Path | str) -> str:
    """Return the free space on the disk of a path, which need not exist yet, in words."""
    folder = _existing(path)
    mount = next(parent for parent in (folder, *folder.parents) if os.path.ismount(parent))
    usage = shutil.disk_usage(folder)
    return f"{size_text(usage.free)} of {size_text(usage.total)} are free on the disk of {mount}"


def size_text(size: float) -> str:
    """Return a number of bytes as people read it, such as `40 kB` or `3.1 GB`."""
    power = min(4, int(math.log10(max(1, size)) // 3))
    return f"{size / 1000**power:.{0 if power < 2 else 1}f} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"


def _existing(path: Path | str) -> Path:
    path = Path(path).absolute()
    return next(one for one in (path, *path.parents) if one.exists())


def _no_room(error: BaseException | None, path: Path) -> int:
    """The `errno` if a full disk, a quota or a limit on file size was the cause; else 0."""
    while error is not None:
        for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if getattr(error, "errno", None) == code or os.strerror(code) in str(error):
                return code
        if isinstance(error, RuntimeError) and shutil.disk_usage(_existing(path)).free < _FULL:
            return errno.ENOSPC  # libsndfile and torch do not say why they could not write
        error = error.__cause__ or error.__context__
    return 0


@contextlib.contextmanager
def scratch_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path`, removed afterwards; those that killed processes left are removed first."""
    path = Path(path)
    with naming_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial"))
        handle = os.open(partial, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # where the file system has no such lock, `_sweep` removes nothing
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(handle)


@contextlib.contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path` to fill; on success it replaces `path`, else it is removed."""
    path = Path(path)
    with scratch_folder(path) as partial:
        yield partial
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o777 & ~mask)
        for file in (*partial.rglob("*"), partial):
            _fsync(file)
        _replace_folder(partial, path)
        _fsync(path.parent)


@contextlib.contextmanager
def sole_writer(path: Path | str) -> Iterator[None]:
    """Hold a lock for `path`, and refuse if another process has it, on any machine that shares this file system.

    It is a lock of the kernel: a process that is killed leaves none behind.

    Raises:
        UserError: naming the other process, or the lock file where it is no regular file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.absolute().with_name(f".{path.absolute().name}.lock")
    with contextlib.ExitStack() as stack:
        while True:
            if lock.is_symlink() or (lock.exists() and not lock.is_file()):  # which may lead to a file of the user's
                raise UserError(f"{lock}: is no regular file, as the lock of {path} is; remove it")
            file = stack.enter_context(lock.open("a+", encoding="utf-8"))
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, forked workers do not hold it too
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    break  # a file system without locks
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise UserError(f"{path}: {holder} is writing to it; wait, or choose another folder") from None
            if lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                break  # else its last holder removed it in between
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Remove folders that killed writers of the same target left: those whose lock nobody holds."""
    for debris in path.parent.glob(f".{glob.escape(path.name)}.????????.partial"):
        with contextlib.suppress(OSError):
            handle = os.open(debris, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(debris)
            finally:
                os.close(handle)


def _replace_folder(new: Path, path: Path) -> None:
    """Rename `new` to `path`; if `path` exists, exchange the two atomically, so that `new` is then the old folder.

    Where the system cannot do that, there are two renames, and `path` is absent for a moment between them.
    """
    if not path.exists():
        new.rename(path)
        return
    libc = ctypes.CDLL(None)
    exchange = getattr(libc, "renameat2", None)
    if exchange and exchange(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE) == 0:
        return
    old = new.with_suffix(".replaced")
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
