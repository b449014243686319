"""Every benchmark in the size that two cores take in under half an hour, then docs/performance.md: `make bench`.

    python benchmarks/run_all.py [--only training decoding] [--tiny]

Each runs in a process of its own; what it prints goes to outputs/benchmarks/<name>.txt, its figures as JSON beside
it. A broken equality ends this with an error, a slow machine does not. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from measuring import RESULTS, ROOT

PLAN: dict[str, list[str]] = {
    "startup": ["startup.py"],
    "features": ["features.py"],
    "decoding-tiny": ["decoding.py", "--shape", "tiny", "--rounds", "3"],
    "decoding-small": ["decoding.py", "--shape", "small", "--utterances", "4", "--batch", "4", "--rounds", "2"],
    "training": ["training.py", "--shapes", "tiny", "base"],
    "memory-tiny": ["memory.py", "--shape", "tiny"],
    "breakdown-small": ["breakdown.py", "--shape", "small", "--batch", "1"],
    "growth": ["growth.py"],
    "algorithms": [
        "algorithms.py", "--shape", "tiny", "--window", "8", "--tokens", "24", "--only", "Fish", "Fishr", "GGAL",
    ],
    "scoring": ["scoring.py"],
    "prepare": ["preparing.py", "--utterances", "3000", "--lines", "200000"],
    "merging": ["merging.py", "--size", "tiny", "--rounds", "1"],
}  # fmt: skip
# For a look at whether they run: seconds each, figures that mean nothing.
_TINY: dict[str, list[str]] = {
    "startup": ["startup.py", "--rounds", "1"],
    "features": ["features.py", "--batch", "2", "--rounds", "1"],
    "decoding-nano": ["decoding.py", "--shape", "nano", "--utterances", "4", "--batch", "2", "--rounds", "1"],
    "training-nano": ["training.py", "--shapes", "nano", "--batch", "2", "--steps", "3", "--rounds", "1"],
    "memory-nano": ["memory.py", "--shape", "nano", "--batch", "2"],
    "breakdown-nano": ["breakdown.py", "--shape", "nano", "--batch", "1", "--rounds", "1"],
    "growth": ["growth.py", "--window", "2", "--rounds", "1", "--shapes", "nano"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"of {', '.join(PLAN)}; a beginning is enough")
    parser.add_argument("--tiny", action="store_true", help="only see that they run; the page is left as it is")
    args = parser.parse_args()
    plan = _TINY if args.tiny else PLAN
    chosen = {name: command for name, command in plan.items() if name.startswith(tuple(args.only or [""]))}
    RESULTS.mkdir(parents=True, exist_ok=True)
    failed = []
    for name, (script, *options) in chosen.items():
        command = [sys.executable, str(ROOT / "benchmarks" / script), *options]
        print(f"$ python benchmarks/{' '.join([script, *options])}", flush=True)
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        (RESULTS / f"{name}.txt").write_text(done.stdout, encoding="utf-8")
        print(done.stdout.rstrip(), f"  {time.perf_counter() - start:.0f} s", sep="\n", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stderr[-2000:], file=sys.stderr)
    if not args.tiny:
        subprocess.run([sys.executable, str(ROOT / "benchmarks" / "performance.py")], cwd=ROOT, check=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
