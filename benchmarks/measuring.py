"""What the benchmarks share: turns that take place one after the other, ratios of them, peaks of memory, JSON.

The machines that these run on are shared and uneven: what counts is a ratio of neighbouring turns, the median over
rounds with its lowest and highest, and never a time by itself.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "outputs" / "benchmarks"
FOLDER_VARIABLE, NAME_VARIABLE = "BENCHMARK_FOLDER", "BENCHMARK_NAME"  # where `budget` has a part's figures go
sys.path.insert(0, str(ROOT))

from common.versions import versions  # noqa: E402

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")

_PACKAGES = ("torch", "transformers", "lightning", "ctranslate2", "faster-whisper")


def take_turns(ways: Mapping[str, Callable[[], Any]], rounds: int, *, warm_up: bool = True) -> dict[str, list[float]]:
    """Seconds of each way in each round; every other round goes backwards, so that a drift favours none."""
    if warm_up:
        for way in ways.values():
            way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds):
        for name in list(ways)[:: -1 if round_ % 2 else 1]:
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(of: Sequence[float], to: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest over the rounds of `of / to`."""
    by_round = sorted(a / b for a, b in zip(of, to, strict=True))
    return {"median": statistics.median(by_round), "low": by_round[0], "high": by_round[-1], "rounds": len(by_round)}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return ratio(values, [1.0] * len(values))


def shown(figure: Mapping[str, float], digits: int = 2) -> str:
    """`1.23 (1.20 - 1.31)`, or `1.23 (once)` for what was seen once."""
    if figure.get("rounds") == 1:
        return f"{figure['median']:.{digits}f} (once)"
    return f"{figure['median']:.{digits}f} ({figure['low']:.{digits}f} - {figure['high']:.{digits}f})"


def equal(what: str, ours: Any, theirs: Any, *, atol: float = 0.0, rtol: float = 0.0) -> float:
    """Refuses to time two ways whose results differ; returns by how much they do.

    Raises:
        SystemExit: naming what differs.
    """
    if isinstance(ours, list) and ours and isinstance(ours[0], str | list):
        if ours != theirs:
            odd = next(((a, b) for a, b in zip(ours, theirs, strict=False) if a != b), (len(ours), len(theirs)))
            sys.exit(f"{what}: broken equality: {odd[0]!r} and {odd[1]!r}")
        return 0.0
    import torch

    a, b = (torch.as_tensor(values, dtype=torch.float64) for values in (ours, theirs))
    worst = float((a - b).abs().max()) if a.shape == b.shape else float("inf")
    if a.shape != b.shape or not torch.allclose(a, b, atol=atol, rtol=rtol):
        sys.exit(f"{what}: broken equality: the results differ by {worst:.3g}, expected {atol:g} or {rtol:g} of them")
    return worst


def reset_peak() -> int:
    """Forgets this process's peak of memory; returns the bytes in use."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed is the system's again
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """Most bytes in use since `reset_peak`."""
    return _status("VmHWM")


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def alone(*command: object) -> dict[str, Any]:
    """What a script prints last as JSON, run in a process of its own."""
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def write(results: Mapping[str, Any]) -> None:
    """Leave `outputs/benchmarks/<script>.json`: the results, and what they were measured with."""
    out = Path(os.environ.get(FOLDER_VARIABLE, RESULTS))
    name = os.environ.get(NAME_VARIABLE, Path(sys.argv[0]).stem)
    out.mkdir(parents=True, exist_ok=True)
    made = {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "machine": machine(),
        "results": results,
    }
    (out / f"{name}.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(f"{out / name}.json", flush=True)


def gpu() -> str | None:
    """The GPU's name, or None."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def machine() -> dict[str, Any]:
    """The machine, the versions, the commit and the day."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    git = shutil.which("git")
    describe = [git, "describe", "--always", "--dirty"] if git else ["true"]
    commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return {
        "processor": models[0].split(":")[1].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))),
        "gpu": gpu(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "python": platform.python_version(),
        "versions": versions(_PACKAGES),
        "commit": commit.strip(),
        "day": datetime.now(UTC).date().isoformat(),
        "load": round(os.getloadavg()[0], 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }
