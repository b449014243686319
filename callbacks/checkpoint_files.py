"""Checkpoint files: written whole or not at all, found again, checked before they are trusted, read as data alone.

A `.ckpt` is a zip archive in which torch keeps a CRC-32 of every part; a SHA-256 of the archive's directory follows it,
so that the checksums and the places of the parts are checked, too.
"""

import hashlib
import os
import pickle
import re
import traceback
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from common.errors import UserError, first_line
from common.files import atomic_file
from common.json_lines import read_object
from common.printing import warn

_DIGEST_BYTES = 64
_NAME = re.compile(r"step-(\d+)\.ckpt")


class CheckpointFiles(TorchCheckpointIO):
    """Writes and reads checkpoints for Lightning."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any = None) -> None:
        """Writes a checkpoint: beside `path`, then renamed.

        Args:
            checkpoint: tensors and plain values.
            path: the file.
            storage_options: ignored.

        Raises:
            UserError: where it cannot be written; an older file of that name stays.
        """
        try:
            with atomic_file(path) as partial, partial.open("w+b") as file:
                torch.save(checkpoint, file)
                file.write(_directory_digest(file))
        except (OSError, RuntimeError) as error:  # torch's writer wraps the file's error
            causes = [getattr(cause, "strerror", None) for cause in (error, error.__context__)]
            reason = causes[0] or causes[1] or first_line(error)
            stay = "the earlier ones stay. Make room, then go on with --resume"
            raise UserError(f"{path}: the checkpoint cannot be written ({reason}); {stay}") from None

    def load_checkpoint(self, path: Path | str, map_location: Any = "cpu", weights_only: Any = True) -> dict[str, Any]:
        """Reads a checkpoint of tensors and plain values, to the CPU.

        Args:
            path: the file.
            map_location: ignored.
            weights_only: ignored: nothing but tensors and plain values is ever read.

        Raises:
            UserError: where the file is missing, damaged, or holds anything else.
        """
        path = Path(path)
        if damage := damage_of(path):
            raise UserError(f"{path}: {damage}; name another checkpoint, or let --resume look for one")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError) as error:
            refused = "refused, it is no checkpoint of tensors and plain values"
            raise UserError(f"{path}: {refused} ({first_line(error)})") from None


def checkpoint_path(run: Path | str, step: int) -> Path:
    """The path of a run's checkpoint of a step."""
    return Path(run) / "checkpoints" / f"step-{step}.ckpt"


def checkpoints(run: Path | str) -> list[tuple[int, Path]]:
    """A run's checkpoints with their steps, newest first."""
    names = ((_NAME.fullmatch(path.name), path) for path in (Path(run) / "checkpoints").glob("*"))
    return sorted(((int(name[1]), path) for name, path in names if name), reverse=True)


def damage_of(path: Path) -> str | None:
    """What is wrong with a checkpoint file, by the checksum of each of its parts; None for a whole one."""
    if not path.is_file():
        return "no such checkpoint"
    try:
        with path.open("rb") as file:
            file.seek(-_DIGEST_BYTES, os.SEEK_END)
            if _directory_digest(file, file.tell()) != file.read():
                return "the checkpoint is damaged, or not one that train.py wrote (wrong checksum of its directory)"
            bad = zipfile.ZipFile(file).testzip()
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        return f"the checkpoint is damaged ({error})"
    return f"the checkpoint is damaged (wrong checksum of {bad})" if bad else None


def starting_point(run: Path, resume: bool, named: str | None) -> Path | None:
    """The checkpoint that training starts from, None for the beginning; the same on every rank.

    Args:
        run: the run's folder.
        resume: look for the newest whole checkpoint in it.
        named: a checkpoint that the user gave.

    Raises:
        UserError: where starting would discard an unfinished run, or the given checkpoint is damaged.
    """
    if resume and named:
        raise UserError("--resume looks for a checkpoint and --ckpt_path names one; give one of them")
    if resume:
        return newest_good(run)
    if named and (damage := damage_of(Path(named))):
        raise UserError(f"--ckpt_path {named}: {damage}")
    if (found := checkpoints(run)) and not _is_finished(run, found[0][1]):
        step, newest = found[0]
        if not named or Path(named).resolve() != newest.resolve():
            raise UserError(
                f"{run}: holds a run that stopped at step {step}; go on with --resume, choose another --name, or "
                "remove the folder"
            )
    return Path(named) if named else None


def _directory_digest(file: BinaryIO, end: int | None = None) -> bytes:
    """The SHA-256, in hexadecimal digits, of a zip archive's directory, which ends it; leaves the file at `end`."""
    begin = file.seek(zipfile.ZipFile(file).start_dir)
    return hashlib.sha256(file.read(-1 if end is None else end - begin)).hexdigest().encode()


def newest_good(run: Path) -> Path | None:
    """A run's newest whole checkpoint; each newer one is named in a warning."""
    for _, path in checkpoints(run):
        damage = damage_of(path)
        if damage is None:
            return path
        rank_zero_only(warn)(f"warning: {path}: {damage}; going back to the one before")
    return None


@contextmanager
def readable_restoring(checkpoint: Path | None) -> Iterator[None]:
    """Say in one line that a checkpoint does not fit the run; Lightning and torch assume that it does.

    Args:
        checkpoint: the one that the run resumes from, if any.

    Raises:
        UserError: naming the checkpoint.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        steps = traceback.extract_tb(error.__traceback__)
        in_lightning = [step.name for step in steps if step.filename.endswith("checkpoint_connector.py")]
        if checkpoint is None or not any(re.match("_?(restore|resume)", name) for name in in_lightning):
            raise
        reason = " ".join(str(error).split())[:200]
        advice = "go on with the recipe that it was made with, or name another --name to begin anew"
        raise UserError(f"{checkpoint}: does not fit this run ({type(error).__name__}: {reason}); {advice}") from None


def digest_of(checkpoint: Path) -> str:
    """The digest at the end of a checkpoint file, which stands for its content; "" for a file that has none."""
    with checkpoint.open("rb") as file:
        file.seek(max(0, checkpoint.stat().st_size - _DIGEST_BYTES))
        return file.read().decode("ascii", "replace")


def _is_finished(run: Path, newest: Path) -> bool:
    """Whether `run.json` names the newest checkpoint's content as that of the finished run.

    File times prove nothing: clocks are set back, and copying a folder keeps only some of the times.
    """
    try:
        record = read_object(run / "run.json")
    except UserError:
        return False
    is_there = (run / "model" / "config.json").is_file() and newest.is_file()
    return is_there and record.get("last_checkpoint") == digest_of(newest)
