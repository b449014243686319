"""A corpus as it was delivered: a folder, with any zip archives in it read in place, or a snapshot of a hub repository.

Nothing is unpacked: a member of an archive is read when it is asked for, under the name `folder/archive.zip/member`.
An unsafe archive (absolute paths, '..', links, encrypted members, zip bombs) is refused before anything is read.
"""

import fnmatch
import io
import lzma
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from common.errors import UserError, first_line
from common.input_files import RECORDS, check_file, read_bytes, read_lines
from common.json_lines import wrong_field

MAX_MEMBER_BYTES = 2**30  # an hour of 16 kHz speech is a tenth of this
MAX_RATIO = 100  # speech deflates by 1.1 to 2, JSON by 10 to 30; a bomb by 1000
RATIO_MATTERS_FROM_BYTES = 2**28
_SURROGATE = re.compile("[\ud800-\udfff]")  # what Python makes of bytes that are not UTF-8
TABLES = (".csv", ".tsv", ".json", ".jsonl")
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError, struct.error)


class SourceFiles:
    """The files of a corpus, on disk or in archives, by their names relative to its root, in NFC.

    Args:
        root: a folder, an archive or a table.
        hub_id: the Hub's repository that the folder is a snapshot of.
        revision: of the snapshot.

    Raises:
        UserError: where the root does not exist or an archive in it is broken or unsafe.
    """

    def __init__(self, root: Path | str, hub_id: str | None = None, revision: str | None = None) -> None:
        self.root = Path(root)
        self.hub_id, self.revision = hub_id, revision
        self._files: dict[str, Path | tuple[zipfile.ZipFile, zipfile.ZipInfo]] = {}
        self._is_table = False  # the source is one table; files beside it belong to the source if it names them
        if self.root.is_file() and zipfile.is_zipfile(self.root):
            self._add_archive(self.root, "")
        elif self.root.is_file() and self.root.suffix in TABLES:
            self.root, name = self.root.parent, self.root.name
            self._files[name] = self.root / name
            self._is_table = True
        elif self.root.is_dir():
            self._add_folder()
        else:
            found = "a file of another kind" if self.root.exists() else "nothing there"
            raise UserError(f"{self.root}: expected a folder, a .zip archive or a table, found {found}")
        self.names = sorted(self._files)
        for name in map(self.where, self.names):
            if _SURROGATE.search(name):
                raise UserError(f"{name!r}: the name is not UTF-8, so no manifest can hold it; rename it")

    def glob(self, pattern: str) -> list[str]:
        """The names matching `pattern`, where `*` also crosses folders, sorted."""
        return [name for name in self.names if fnmatch.fnmatchcase(name, pattern)]

    def require(self, pattern: str, what: str) -> list[str]:
        """Like `glob`, but finding nothing is an error that says what was looked for."""
        found = self.glob(pattern)
        if not found:
            held = ", ".join(self.names[:5]) or "nothing"
            raise UserError(f"{self.root}: no {pattern} in it ({what}); it holds {held}{', …' * (len(self.names) > 5)}")
        return found

    def __contains__(self, name: str) -> bool:
        return name in self._files or self.path(name) is not None

    def path(self, name: str) -> Path | None:
        """The file itself, or None where it lies in an archive; an absolute name is a file outside of the source."""
        if name.startswith("/") or (self._is_table and name not in self._files):
            # Some file systems store an accent as a separate character.
            paths = (self.root / unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
            return next((path for path in paths if path.is_file()), None)
        file = self._files.get(name)
        return file if isinstance(file, Path) else None

    def size(self, name: str) -> int:
        """The file's size in bytes, unpacked."""
        return path.stat().st_size if (path := self.path(name)) else self._files[name][1].file_size

    def read(self, name: str) -> bytes:
        """The whole file."""
        if path := self.path(name):
            return read_bytes(path, RECORDS)
        archive, member = self._files[name]
        try:
            return archive.read(member)
        except _BROKEN as error:
            raise UserError(f"{self.where(name)}: the archive is damaged ({error}); fetch it again") from None

    def lines(self, name: str) -> Iterator[str]:
        """Yield a text's lines in NFC, one at a time where it lies on the disk.

        Raises:
            UserError: where it is not UTF-8.
        """
        if path := self.path(name):
            lines = read_lines(path)
        else:
            try:
                lines = io.StringIO(self.read(name).decode("utf-8-sig"), newline=None)
            except UnicodeDecodeError as error:
                reason = f"not UTF-8 text ({error.reason} at byte {error.start})"
                raise UserError(f"{self.where(name)}: {reason}") from None
        for line in lines:
            yield unicodedata.normalize("NFC", line.removesuffix("\n"))

    def where(self, name: str) -> str:
        """The name for messages, with the root before it."""
        return (self.root / name).as_posix()

    def beside(self, name: str, relative: str, where: str, field: str) -> str:
        """Return the name of the file that a table refers to by a relative path.

        Args:
            name: the table.
            relative: the path that it holds, with slashes of either kind.
            where: the row's place, for messages.
            field: the field that holds the path.

        Raises:
            UserError: where the path is absolute or contains '..'.
        """
        relative = unicodedata.normalize("NFC", relative)
        steps = [step for step in re.split(r"[/\\]", relative) if step not in ("", ".")]
        if relative.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", relative) or ".." in steps or not steps:
            expected = f"a path relative to the folder of {PurePosixPath(name).name}, without '..'"
            raise wrong_field(where, field, relative, expected)
        return str(PurePosixPath(name).parent.joinpath(*steps))

    def _add_folder(self) -> None:
        visited: set[str] = set()
        for folder, folders, files in os.walk(self.root, followlinks=True):  # large corpora are often symbolic links
            if os.path.realpath(folder) in visited:
                folders.clear()
                continue
            visited.add(os.path.realpath(folder))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for file in (file for file in files if not file.startswith(".")):
                name = (Path(folder) / file).relative_to(self.root).as_posix()
                if file.lower().endswith(".zip"):
                    self._add_archive(self.root / name, name + "/")
                else:
                    self._files[unicodedata.normalize("NFC", name)] = self.root / name

    def _add_archive(self, path: Path, prefix: str) -> None:
        try:
            archive = zipfile.ZipFile(check_file(path))
        except _BROKEN as error:
            raise UserError(f"{path}: not a readable zip archive ({error}); fetch it again") from None
        members = [member for member in archive.infolist() if not member.is_dir()]
        for member in members:
            _refuse_unsafe(member, path)
            self._files[unicodedata.normalize("NFC", prefix + member.filename)] = (archive, member)
        unpacked, packed = sum(member.file_size for member in members), path.stat().st_size
        if unpacked > max(RATIO_MATTERS_FROM_BYTES, MAX_RATIO * packed):
            raise UserError(f"{path}: {packed} bytes that unpack to {unpacked}; that is a zip bomb, not speech")


def _refuse_unsafe(member: zipfile.ZipInfo, archive: Path) -> None:
    name = member.filename.replace("\\", "/")
    is_unsafe = {
        "an absolute path": name.startswith("/") or re.match(r"[A-Za-z]:", name),
        "a path with '..'": ".." in name.split("/"),
        "a link": stat.S_ISLNK(member.external_attr >> 16),
        "encrypted": member.flag_bits & 1,
        f"{member.file_size} bytes unpacked (the most is {MAX_MEMBER_BYTES})": member.file_size > MAX_MEMBER_BYTES,
    }
    if trouble := next((trouble for trouble, found in is_unsafe.items() if found), None):
        raise UserError(f"{archive}: the member {member.filename!r} is {trouble}; the archive is refused")


def open_source(source: str | None, hub_id: str | None, patterns: list[str] | None) -> SourceFiles:
    """Open a folder, an archive or, where `source` is no file and looks like `owner/name`, a dataset on the Hub.

    Args:
        source: a folder, an archive or a Hub id; None takes `hub_id`.
        hub_id: the corpus's own repository, None where it has none.
        patterns: the files wanted of a repository, None for all.

    Raises:
        UserError: where it is none of these, or the hub cannot be reached or refuses.
    """
    source = source or hub_id
    if source is None:
        raise UserError("--source is missing: this corpus has to be fetched by hand; see docs/corpora.md")
    if Path(source).exists():
        return SourceFiles(source)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source) or (hub_id is None):
        raise UserError(f"{source}: no such folder or archive")
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(source, repo_type="dataset", allow_patterns=patterns)
    except (OSError, ValueError) as error:
        include = "".join(f" --include '{pattern}'" for pattern in patterns or ())
        command = f"hf download --repo-type dataset {source}{include} --local-dir FOLDER"
        found = f"{source}: no such folder, and not to be had from the hub as a dataset ({first_line(error)})"
        advice = f"where there is a network, after `hf auth login` if it is gated, `{command}`, then --source FOLDER"
        raise UserError(f"{found}; {advice}") from None
    return SourceFiles(folder, hub_id=source, revision=Path(folder).name)
