"""What it does to the error rate when training and decoding agree in their window: `python benchmarks/windows.py`.

Joint fine-tunes of the demo's backbone, one with its whole window of 5 s and one with what each batch needs, decoded
both ways; the mixed error rate is the mean over the five mixed pairs. Takes the demo's corpora (`make demo`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from measuring import RESULTS, ROOT, write

WINDOWS = ("30s", "longest")
PAIRS = ("ko-en", "ja-en", "de-en", "ko-ja", "ko-de")


def run(*command: object) -> None:
    subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, check=True)


def mean_rate(model: Path, window: str, out: Path) -> float:
    run("evaluate.py", model, "--config", "demo.yaml", "--window", window, "--out", out)
    (row,) = json.loads((out / "table.json").read_text())["rows"]
    return sum(row["scores"][pair] for pair in PAIRS) / len(PAIRS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--budget", type=float, default=2.0, help="of configs/overlay/demo.yaml")
    args = parser.parse_args()
    rates: dict[str, dict[str, float]] = {trained: dict.fromkeys(WINDOWS, 0.0) for trained in WINDOWS}
    for seed in range(args.seeds):
        for trained in WINDOWS:
            root = RESULTS / "windows" / f"{trained}-{seed}"
            options = ("--model.window", trained, "--seed_everything", seed, "--budget", args.budget)
            run("train.py", "--config", "erm.yaml", "--config", "demo.yaml", "--output_root", root, *options)
            for decoded in WINDOWS:
                rate = mean_rate(root / "erm" / "model", decoded, root / f"decoded-{decoded}")
                rates[trained][decoded] += rate / args.seeds
    for trained, by_window in rates.items():
        print(trained, {decoded: f"{100 * rate:.1f} %" for decoded, rate in by_window.items()})
    write(rates)


if __name__ == "__main__":
    main()
