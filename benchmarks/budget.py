"""Benchmarks one after the other in a budget of time, each in a process of its own.

What no longer fits is left out and says so, what fails or takes too long ends alone. What became of each is in
`parts.json` after every part, so that the time may end at any moment.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from measuring import FOLDER_VARIABLE, NAME_VARIABLE, ROOT, gpu

MEASURED, FAILED, LEFT_OUT = "measured", "failed", "left out"


@dataclass(frozen=True)
class Part:
    """A script of this folder with its options, and about how many seconds it takes."""

    command: str
    about_s: float


@dataclass(frozen=True)
class Outcome:
    """What became of a part, and why."""

    state: str
    seconds: float = 0.0
    why: str = ""


Run = Callable[[str, Part, float, Path], Outcome]


def main(
    doc: str,
    parts: Mapping[str, Part],
    tiny: Mapping[str, Part],
    *,
    budget_s: float,
    folder: Path,
    on_gpu: bool = False,
) -> None:
    """The command line of a list of parts: run them, then write docs/performance.md.

    Args:
        doc: its help.
        parts, tiny: what it runs, and what it runs with `--tiny`.
        budget_s: seconds for all.
        folder: of the results; `tiny` in it where they mean nothing.
        on_gpu: whether the parts need a GPU.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"of {', '.join(parts)}; a beginning is enough")
    parser.add_argument("--budget", type=float, default=budget_s, metavar="SECONDS", help="for all parts")
    parser.add_argument("--tiny", action="store_true", help="only see that they run; the page is left as it is")
    args = parser.parse_args()
    if on_gpu and not args.tiny and gpu() is None:
        sys.exit("error: PyTorch sees no GPU; --tiny runs every part small on a CPU, and `make bench` measures one")
    chosen = {n: part for n, part in (tiny if args.tiny else parts).items() if n.startswith(tuple(args.only or [""]))}
    try:
        report(run_parts(chosen, args.budget, folder / "tiny" if args.tiny else folder))
    finally:
        if not args.tiny:
            subprocess.run([sys.executable, str(ROOT / "benchmarks" / "performance.py")], cwd=ROOT, check=True)


def run_parts(
    parts: Mapping[str, Part],
    budget_s: float,
    folder: Path,
    run: Run | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[str, Outcome]]:
    """Run the parts in their order; `<folder>/parts.json` is written after each.

    Args:
        parts: by name; a part's figures are in `<folder>/<name>.json`.
        budget_s: seconds for all.
        folder: of the results.
        run: runs a part in so many seconds at most.
        clock: in seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start, record = clock(), folder / "parts.json"
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    for name, part in parts.items():
        left_s = budget_s - (clock() - start)
        if left_s < part.about_s:
            why = f"takes about {part.about_s:.0f} s, {max(0.0, left_s):.0f} of {budget_s:.0f} s are left"
            outcome = Outcome(LEFT_OUT, why=why)
        else:
            outcome = (run or run_alone)(name, part, left_s, folder)
        known[name] = asdict(outcome)
        record.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        yield name, outcome


def run_alone(name: str, part: Part, limit_s: float, folder: Path) -> Outcome:
    """Run a part in a process of its own, with all that it starts ended after `limit_s` seconds."""
    script, *options = part.command.split()
    print(f"$ python benchmarks/{part.command}", flush=True)
    (folder / f"{name}.json").unlink(missing_ok=True)
    environment = os.environ | {FOLDER_VARIABLE: str(folder), NAME_VARIABLE: name}
    command = [sys.executable, str(ROOT / "benchmarks" / script), *options]
    start = time.monotonic()
    job = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, errors = job.communicate(timeout=limit_s)
        why = "" if job.returncode == 0 else (errors.strip().splitlines() or [f"exit code {job.returncode}"])[-1]
        if job.returncode:
            print(errors[-3000:], file=sys.stderr, flush=True)
    except subprocess.TimeoutExpired:
        why = f"ended after {limit_s:.0f} s: the time for all was over"
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
    return Outcome(FAILED if why else MEASURED, round(time.monotonic() - start, 1), why)


def report(outcomes: Iterator[tuple[str, Outcome]]) -> None:
    """Print what becomes of each part, and exit with an error where one failed."""
    failed = []
    for name, outcome in outcomes:
        why = f": {outcome.why}" if outcome.why else ""
        print(f"  {name} {outcome.state}{why}, {outcome.seconds:.0f} s\n", flush=True)
        failed += [name] * (outcome.state == FAILED)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
