"""The project's scripts as processes to be killed, forked with everything imported, so that a start takes no time."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import runpy
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
HANG_S = 900.0  # many times what any command here takes, also where twenty others want the same core

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.faults.imports"])


def start(
    script: str,
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    file_bytes: int | None = None,
) -> BaseProcess:
    """Runs `python <script>.py <arguments>`, its output going to `log`.

    No file can grow beyond `file_bytes`; root's leave to write to everything is given up.
    """
    given = (script, [str(argument) for argument in arguments], log, dict(environment or {}), file_bytes)
    process = _context.Process(target=_run, args=given)
    process.start()
    return process


def start_ranks(
    count: int, arguments: Sequence[str], log: Path, slurm: Mapping[str, str] | None = None
) -> list[BaseProcess]:
    """`train.py` in as many processes as torchrun would start, or srun in the job `slurm`, under its variables."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    world = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "none"}
    common = dict(slurm or world) | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    names = ("SLURM_PROCID", "SLURM_LOCALID") if slurm else ("RANK", "LOCAL_RANK")
    return [
        start("train", arguments, log.with_suffix(f".{rank}.log"), common | dict.fromkeys(names, str(rank)))
        for rank in range(count)
    ]


def end_of(process: BaseProcess, timeout_s: float = HANG_S) -> int | None:
    """The exit code, negative for a signal; None where it had to be killed because it hung."""
    process.join(timeout_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def _run(script: str, arguments: list[str], log: Path, environment: dict[str, str], file_bytes: int | None) -> None:
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(ROOT)
    os.environ.update(environment)
    if file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    _give_up_capabilities()
    sys.argv = [f"{script}.py", *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _give_up_capabilities() -> None:
    """Linux's capset with nothing in it, so that a read-only folder is read-only for root, too."""
    header = struct.pack("Ii", 0x20080522, 0)
    ctypes.CDLL(None).capset(header, bytes(24))
