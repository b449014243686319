"""Decide which split a row belongs to, by the names of its table and folders."""

import os
import re
from pathlib import PurePosixPath

from common.errors import UserError
from common.files import check_name
from corpora.readers.source import SourceFiles

AUTO = "auto"
# The names that Hugging Face's AudioFolder knows, and compounds of them.
_SPLITS = dict.fromkeys(("train", "training", "trainset"), "train")
_SPLITS |= dict.fromkeys(("dev", "val", "valid", "validation", "development", "devset", "valset"), "dev")
_SPLITS |= dict.fromkeys(("test", "testing", "eval", "evaluation", "testset", "evalset"), "test")


def splits_in(name: str) -> set[str]:
    """Return the splits that a name contains as separate words: {"test"} for `test-clean`, `1.Testing`, `my_eval`."""
    return {_SPLITS[word] for word in re.split(r"[\W\d_]+", name.lower()) if word in _SPLITS}


def split_named(name: str) -> str | None:
    """Return the split that a name stands for (`1.Training`, `dev_other`, ...), None for no or several splits."""
    found = splits_in(name)
    return found.pop() if len(found) == 1 else None


class SplitFinder:
    """Find the splits of a source's rows.

    The names of the table and of its folders decide; if they name no split, the folders of the row's file; then
    `--split`; then the name of the source folder. A row is training only if no name in the whole source names a split.

    Args:
        source: the corpus.
        wanted: `--split`: the split of rows that no name decides, or `auto`.
    """

    def __init__(self, source: SourceFiles, wanted: str) -> None:
        self.wanted = None if wanted == AUTO else check_name(wanted, "--split")
        self.root = source.root.absolute()
        self.of_root = split_named(self.root.name)
        self.in_sight = next((name for name in source.names if any(map(splits_in, PurePosixPath(name).parts))), None)
        self.guessed: str | None = None

    def find(self, table: str, file: str, where: str) -> tuple[str, str]:
        """Find a row's split, and what decided it, for the summary.

        Args:
            table: the table's name within the source.
            file: the row's audio file within the source, or its absolute path.
            where: the row's place, for messages.

        Raises:
            UserError: where names contradict each other, or the source names splits, but none for this row.
        """
        table_path, folder = PurePosixPath(table), PurePosixPath(file).parent
        # Folders that the source and the file have in common say nothing about splits.
        above = os.path.commonpath([self.root, folder]) if folder.is_absolute() else table_path.parent
        if folder.is_relative_to(above):
            folder = folder.relative_to(above)
        by_table, by_folder = _named(table_path), _named(folder)
        if set(by_folder) - {"train"} and set(by_table) <= {"train"}:  # a training table may not list test speech
            by_table |= by_folder
        decided = by_table or by_folder
        if len(decided) == 1:
            self.in_sight = self.in_sight or f"{where}: {file}"
            if not self.guessed:
                return next(iter(decided.items()))
            where = self.guessed  # an earlier row was taken for training, before a split was named
        if self.wanted:
            return self.wanted, "--split"
        if self.of_root and not decided:
            return self.of_root, "the source's own folder"
        if len(decided) > 1:
            named = f"name {len(decided)} splits ({', '.join(decided.values())})"
            raise UserError(f"{where}: its table and folders {named}; rename one, or give --split")
        if self.in_sight:
            found = f"neither a folder nor the table names its split, but {self.in_sight} names one"
            raise UserError(f"{where}: {found}; say where such rows belong: --split train, dev or test")
        self.guessed = where
        return "train", "no split is named, all is training"


def _named(path: PurePosixPath) -> dict[str, str]:
    """The splits that a path names, each with the shortest leading part of the path that names it."""
    found: dict[str, str] = {}
    for depth, part in enumerate(path.parts, start=1):
        for split in sorted(splits_in(part)):
            found.setdefault(split, "/".join(path.parts[:depth]).replace("//", "/"))
    return found
