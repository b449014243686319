"""Run the same work in one process per device."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from common.constants import MOST_PROCESSES, ON_THIS_MACHINE
from common.errors import UserError, in_range


def of_all_ranks(value: Any) -> list[Any]:
    """Return every rank's value, in the order of ranks; all ranks must call it."""
    values = [value]
    if torch.distributed.is_initialized():
        values *= torch.distributed.get_world_size()
        torch.distributed.all_gather_object(values, value)
    return values


def default_device() -> str:
    """Return `cuda` where there is a GPU, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def chosen_device(named: str | None) -> str:
    """Return the named device, or where none is named `default_device`.

    Raises:
        UserError: where there is no such device.
    """
    if named:
        _check(named, 1)
    return named or default_device()


def check_decoding_precision(precision: str, device: str) -> None:
    """Raise a `UserError` where the device cannot decode in a number format."""
    if precision == "float16" and device == "cpu":
        raise UserError("--precision float16 is for GPUs; on the device cpu take bfloat16, or float32, the default")


def on_devices(work: Callable[..., None], device: str, devices: int, *arguments: Any) -> None:
    """Call `work(device, rank, world, *arguments)` in one process per device, and wait for all.

    With one device it is called in this process.

    Args:
        work: what to run; must be importable.
        device: `cpu`, `cuda`, or one GPU such as `cuda:1`.
        devices: how many, each with a process.
        arguments: passed on.

    Raises:
        UserError: where there are fewer devices, or the first error, by rank, that a process raised.
    """
    _check(device, devices)
    if devices == 1:
        return work(device, 0, 1, *arguments)
    names = [device if device == "cpu" else f"{device}:{rank}" for rank in range(devices)]
    context, prepared = multiprocessing.get_context("spawn"), (device, devices, os.getpid())
    with ProcessPoolExecutor(devices, context, _prepare, prepared) as pool:
        jobs = [pool.submit(work, name, rank, devices, *arguments) for rank, name in enumerate(names)]
    try:
        for job in jobs:
            job.result()
    except BrokenProcessPool:
        raise UserError(
            f"one of the {devices} processes was ended from outside, such as for want of memory; what they finished is "
            "kept: run again, with fewer --devices or a smaller --batch-size"
        ) from None


def _prepare(device: str, devices: int, parent: int) -> None:
    """Set a process up before its work."""
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    if device == "cpu":  # also where the environment gives MKL more threads than OpenMP
        torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // devices)))


def end_with(parent: int) -> None:
    """End this process soon after its parent: a parent that is killed cannot end it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _check(device: str, devices: int) -> None:
    kind, colon, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not index.isdecimal()):
        raise UserError(f"no device is called {device!r}; expected cpu, cuda, or one GPU such as cuda:1")
    if devices < 1 or (devices > 1 and colon):
        raise UserError(f"--device {device} --devices {devices}: expected one named GPU, or so many of cpu or cuda")
    if kind == "cpu":
        in_range("--devices", devices, 1, MOST_PROCESSES, what=ON_THIS_MACHINE)
    here = torch.cuda.device_count()
    if kind == "cuda" and here < (int(index) + 1 if colon else devices):
        several = f" --devices {devices}" if devices > 1 else ""
        raise UserError(f"--device {device}{several}: PyTorch finds {here} GPUs on this machine")
