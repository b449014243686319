"""How long the scripts take to say how they are used: `python benchmarks/startup.py`.

Each in a process of its own, in turns with importing Lightning, which training needs in any case.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial

from measuring import ROOT, ratio, shown, spread, take_turns, write

SCRIPTS = ("prepare", "merge", "evaluate", "analyze", "train")


def run(*command: str) -> None:
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    ways = {name: partial(run, f"{name}.py", "--help") for name in SCRIPTS}
    ways["import lightning"] = partial(run, "-c", "import lightning")
    seconds = take_turns(ways, args.rounds)
    results = {
        name: {"seconds": spread(own), "of_importing_lightning": ratio(own, seconds["import lightning"])}
        for name, own in seconds.items()
    }
    for name, figures in results.items():
        print(f"{name:18} {shown(figures['seconds'])} s")
    write(results)


if __name__ == "__main__":
    main()
