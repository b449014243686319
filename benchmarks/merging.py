"""What merging costs beside mergekit and beside reading and writing the bytes: `python benchmarks/merging.py`.

A base and three fine-tunes are made: of random weights at the size asked for (whisper-medium: 12.2 GB, in --folder, and
removed at the end), or of published ones that the Hub's cache has, each fine-tune a random step away. Then all take
turns, round after round, each in a process of its own: the floor (the bytes of all four files read and of one written
and fsynced, nothing else), `merge.py`, and `mergekit-pytorch`, mergekit's command that can read Whisper's files.
Measured are seconds from start to end of each command, seconds of processor time, and the peak of anonymous memory,
which leaves out the files that the system keeps in memory.

Most of a round is mergekit's TIES, so that one is the default; `--rounds 3` gives medians.
`--cold` drops the files from the system's memory before each run. `--mergekit 2` adds runs of mergekit with the options
that made it fastest. `--sweep` adds a sweep of ten step lengths, without scoring, and the floor in one thread.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml
from measuring import ROOT, ratio, shown, spread, write
from workload import prepared

from backbone.model_folder.read import read_model_folder
from backbone.model_folder.write import write_model_folder

PARAMETERS = {
    "task_arithmetic": {"weight": 1.0},
    "ties": {"weight": 1.0, "density": 0.2},
    "dare_linear": {"weight": 1.0, "density": 0.5},
    "dare_ties": {"weight": 1.0, "density": 0.5},
}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
MERGEKIT = {
    "mergekit": [],
    "mergekit, best flags": ["--clone-tensors", "--async-write", "--write-threads", "2", "--lazy-unpickle"],
}
SWEEP = """
import sys, time
from pathlib import Path
from merging import recipe, sweep
settings = {"base": sys.argv[1], "models": sys.argv[2:5]}
start = time.perf_counter()
with sweep.merged_step(recipe.recipe_of("ties", settings), Path(sys.argv[5])) as (folder, weights_at):
    for place in range(10):
        weights_at(0.2 + 0.1 * place)
"""
FLOOR = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
*inputs, out, threads = sys.argv[1:]
size, step = os.path.getsize(inputs[0]), 1 << 21
handles = [os.open(file, os.O_RDONLY) for file in inputs]
target = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
os.truncate(target, size)
def copy(part):
    first, last = part
    views = [memoryview(bytearray(step)) for _ in handles]
    for place in range(first, last, step):
        count = min(step, last - place)
        for handle, view in zip(handles, views):
            os.preadv(handle, [view[:count]], place)
        os.pwrite(target, views[0][:count], place)
share = -(-size // int(threads) // step) * step
with ThreadPoolExecutor(int(threads)) as pool:
    list(pool.map(copy, [(first, min(size, first + share)) for first in range(0, size, share)]))
os.fsync(target)
"""


@dataclass
class Figures:
    """What runs of one command took: seconds from start to end, processor seconds, peak anonymous memory in GB."""

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def make_models(folder: Path, model: str, dtype: str) -> list[Path]:
    """Write a base and three fine-tunes that share half of their change; return their folders."""
    whisper, processor = read_model_folder(prepared(model, folder / "made"))
    torch.manual_seed(0)
    shared = {name: torch.randn_like(parameter) for name, parameter in whisper.named_parameters()}
    base = {name: parameter.detach().clone() for name, parameter in whisper.named_parameters()}
    folders = [folder / name for name in ("base", "one", "two", "three")]
    for each in folders:
        for name, parameter in whisper.named_parameters():
            if each.name != "base":
                parameter.data = base[name] + 2e-4 * (shared[name] + torch.randn_like(parameter))
        write_model_folder(each, whisper.to(DTYPES[dtype]), processor)
        whisper.float()
    return folders


def measure(command: list[str], figures: Figures) -> None:
    """Runs a command and adds what it took."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    job = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0.0
    while job.poll() is None:
        peak = max(peak, anonymous_gb(job.pid))
        time.sleep(0.01)
    assert job.stderr is not None
    if job.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{job.stderr.read().decode()[-2000:]}")
    figures.seconds.append(time.perf_counter() - start)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures.processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    figures.memory.append(peak)


def anonymous_gb(pid: int) -> float:
    """A process's anonymous memory now."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("RssAnon")), 0.0)


def drop_from_memory(folders: list[Path]) -> None:
    """Lets the system forget the models' files."""
    for folder in folders:
        handle = os.open(folder / "model.safetensors", os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def commands(
    folders: list[Path], work: Path, chosen: list[str], flags: dict[str, list[str]], with_sweep: bool
) -> dict[str, list[str]]:
    """Each contestant's command by its name."""
    files = [str(folder / "model.safetensors") for folder in folders]
    base, *models = map(str, folders)
    found = {
        "floor, two threads": [sys.executable, "-c", FLOOR, *files, str(work / "floor"), "2"],
    }
    for name in chosen:
        values = [part for key, value in PARAMETERS[name].items() for part in (f"--{key}", str(value))]
        ours = [sys.executable, "merge.py", name, "--base", base, "--models", *models, "--out", str(work / "ours")]
        found[f"{name}, merge.py"] = [*ours, *values]
        config = work / f"{name}.yaml"
        config.write_text(yaml.safe_dump({
            "merge_method": name, "base_model": files[0], "dtype": "float32",
            "models": [{"model": files[0]}, *({"model": file, "parameters": PARAMETERS[name]} for file in files[1:])],
        }))  # fmt: skip
        tool = [str(Path(sys.executable).parent / "mergekit-pytorch"), str(config), str(work / "theirs")]
        found |= {f"{name}, {kind}": [*tool, *extra] for kind, extra in flags.items()}
    if with_sweep:
        found["floor, one thread"] = [sys.executable, "-c", FLOOR, *files, str(work / "floor"), "1"]
        found["ties, a sweep of ten step lengths"] = [sys.executable, "-c", SWEEP, base, *models, str(work / "sweep")]
    return found


def rows_of(figures: dict[str, Figures]) -> list[dict[str, Any]]:
    """What each contestant took, beside the floor and beside mergekit."""
    floor = figures["floor, two threads"].seconds
    rows = []
    for name, each in figures.items():
        row: dict[str, Any] = {"what": name, "seconds": spread(each.seconds), "peak_gb": max(each.memory)}
        row |= {"processor_s": spread(each.processor), "over_floor": ratio(each.seconds, floor)}
        method, _, kind = name.partition(", ")
        if kind == "merge.py" and (theirs := figures.get(f"{method}, mergekit")):
            row["faster_than_mergekit"] = ratio(theirs.seconds, each.seconds)
        rows.append(row)
        print(f"{name}: {shown(row['seconds'], 1)} s, {row['peak_gb']:.2f} GB")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["medium"], help="shapes, of random weights, and ids on the Hub")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where 5 models have room")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32"], help="of the models' files")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--methods", nargs="+", choices=PARAMETERS, default=["task_arithmetic", "ties", "dare_linear"])
    parser.add_argument("--mergekit", type=int, choices=[0, 1, 2], default=1, help="not, as it is, with best flags too")
    parser.add_argument("--cold", action="store_true", help="read from the disk, not from the system's memory")
    parser.add_argument("--sweep", action="store_true", help="time a sweep, too")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for model in options.models:
        for dtype in options.dtypes:
            with tempfile.TemporaryDirectory(dir=options.folder, prefix="merging-benchmark-") as name:
                figures = take_turns(Path(name), model, dtype, options)
            results[f"{model}, {dtype}"] = rows_of(figures)
            write(results)


def take_turns(work: Path, model: str, dtype: str, options: argparse.Namespace) -> dict[str, Figures]:
    """Run every contestant in each round."""
    folders = make_models(work, model, dtype)
    flags = dict(list(MERGEKIT.items())[: options.mergekit if find_spec("mergekit") else 0])
    contestants = commands(folders, work, options.methods, flags, options.sweep)
    figures = {name: Figures() for name in contestants}
    for _ in range(options.rounds):
        for name, command in contestants.items():
            if options.cold:
                drop_from_memory(folders)
            measure(command, figures[name])
            shutil.rmtree(work / "theirs", ignore_errors=True)
    return figures


if __name__ == "__main__":
    main()
