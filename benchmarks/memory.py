"""Peak memory of a training step beside the usual recipe's: `python benchmarks/memory.py --shape tiny`.

Each way trains a few steps in a process of its own, without worker processes; counted is what the process holds at most
beyond what it held before the model was loaded: weights, gradients, optimizer, activations, logits.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from measuring import alone, peak, ratio, reset_peak, shown, write
from workload import SHAPES, corpus, model_folder

WAYS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "recipe, checkpointing": {"checkpointing": True},
    "30s": {"window": "30s"},
    "30s, checkpointing": {"window": "30s", "gradient_checkpointing": True},
    "longest": {"window": "longest"},
    "8s": {"window": 8.0},
}


def measure(way: str, folder: Path, manifest: Path, batch: int, steps: int) -> None:
    """Trains, and prints the bytes."""
    from benchmarks import training  # not the package of that name

    options, same = dict(WAYS[way]), {"batch": batch, "workers": 0}
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        if "window" in options:
            before = reset_peak()
            training.ours(folder, manifest, out, steps=steps, **same, **options)
        else:
            utterances = training.in_order(folder, manifest, batch, steps)
            before = reset_peak()
            training.train_recipe(folder, utterances, out, learning_rate=1e-5, **same, **options)
        print(json.dumps({"bytes": peak() - before}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--measure", nargs=3, metavar=("WAY", "MODEL", "MANIFEST"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    # Threads of glibc would each keep what they freed: of noise between runs that is the largest part.
    os.environ["MALLOC_ARENA_MAX"] = "1"
    if args.measure:
        way, folder, manifest = args.measure
        return measure(way, Path(folder), Path(manifest), args.batch, args.steps)
    with tempfile.TemporaryDirectory() as name:
        folder = model_folder(Path(name) / "model", args.shape, text_tokens=60)
        manifest = corpus(Path(name) / "audio", args.batch * args.steps)
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(args.rounds):
            for way, own in found.items():
                sizes = ("--batch", args.batch, "--steps", args.steps, "--shape", args.shape)
                own.append(alone(__file__, *sizes, "--measure", way, folder, manifest)["bytes"])
                print(f"{way}: {own[-1] / 1e9:.3f} GB", flush=True)
    results = {
        "utterances_per_step": args.batch,
        "gigabytes": {way: [size / 1e9 for size in own] for way, own in found.items()},
        "of_recipe": {way: ratio(own, found["recipe"]) for way, own in found.items() if way != "recipe"},
    }
    for way, figure in results["of_recipe"].items():
        print(f"whisper-{args.shape}, {way}: {shown(figure)} of the recipe's peak")
    write({"shape": args.shape} | results)


if __name__ == "__main__":
    main()
