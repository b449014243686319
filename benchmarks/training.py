"""End-to-end training beside the usual recipe: `python benchmarks/training.py --shapes tiny base`.

Both read the same WAV files of 3 to 8 s with the same number of workers and train a Whisper of the same random weights
with the same batches, optimizer and schedule, in float32 and in bfloat16 autocast, ours at the window of 30 s and at
one of 8 s. In float32 they must show the same losses, at the short window those of the usual recipe with a model that
is cut to the window by hand. A run's time begins before its first batch is asked for: a first step left out would hide
what the workers make ahead meanwhile.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
from measuring import equal, ratio, shown, spread, write
from usual_recipe import train as train_recipe
from workload import SHAPES, corpus, cut, model_folder

from backbone.model_folder.read import read_model_folder
from callbacks.throughput import Throughput
from common.manifest import Utterance, read_manifest
from datamodules.pairs import PairDataModule
from lightning_modules.whisper import WhisperModule

LEARNING_RATE = 1e-4
SHORT_S = 8
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


class Stamps(L.Callback):
    """Losses, and the times at which the loader was made and the steps ended."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.ends: list[float] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before the first batch is asked for."""
        self.ends.append(time.perf_counter())

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Notes both."""
        self.losses.append(float(outputs["loss/ko-en"]))
        self.ends.append(time.perf_counter())


def ours(
    folder: Path,
    manifest: Path,
    out: Path,
    *,
    steps: int,
    batch: int,
    workers: int,
    precision: str = "float32",
    **options: Any,
) -> tuple[list[float], float, float]:
    """Losses, seconds from the first batch's asking on, and the share of the steps but the first spent waiting."""
    module = WhisperModule(str(folder), learning_rate=LEARNING_RATE, **options)
    data = PairDataModule({"ko-en": str(manifest)}, utterances_per_pair=batch, workers=workers)
    stamps = Stamps()
    out.mkdir(exist_ok=True)
    trainer = L.Trainer(
        max_steps=steps,
        accelerator="auto",
        devices=1,
        precision=PRECISIONS[precision],
        default_root_dir=out,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[stamps, Throughput()],
    )
    trainer.fit(module, datamodule=data)
    with (out / "throughput.csv").open() as file:
        waits = [float(row["data_wait"]) for row in csv.DictReader(file)]
    return stamps.losses, stamps.ends[-1] - stamps.ends[0], statistics.mean(waits)


def in_order(folder: Path, manifest: Path, batch: int, steps: int) -> list[Utterance]:
    """The utterances as our sampler draws them."""
    data = PairDataModule({"ko-en": str(manifest)}, utterances_per_pair=batch, workers=0)
    _, processor = read_model_folder(folder)
    data.read(processor.tokenizer, 30.0, 448)
    data.trainer = L.Trainer(max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False)
    by_id = {utterance.id: utterance for utterance in read_manifest(manifest)}
    return [by_id[name] for part in data.train_dataloader() for name in part.ids]


def check_curves(root: Path, folder: Path, manifest: Path, args: argparse.Namespace) -> dict[str, float]:
    """Equal losses, at the whole window and at a short one; returns by how much they differ."""
    utterances = in_order(folder, manifest, args.batch, args.curve_steps)
    same = {"batch": args.batch, "workers": args.workers}
    worst = {}
    for window, source in (("30s", folder), (float(SHORT_S), cut(folder, root / "cut", SHORT_S))):
        out = root / f"curve-{window}"
        losses, _, _ = ours(folder, manifest, out, steps=args.curve_steps, window=window, **same)
        expected, _ = train_recipe(source, utterances, root / "hf", learning_rate=LEARNING_RATE, **same)
        worst[str(window)] = equal(f"losses with window {window}", losses, expected, rtol=2e-4, atol=2e-4)
    return worst


def measure(shape: str, args: argparse.Namespace, root: Path) -> dict[str, Any]:
    """All ways of a shape, turn by turn."""
    folder = model_folder(root / "model", shape, text_tokens=60)
    manifest = corpus(root / "audio", args.batch * max(args.steps, args.curve_steps))
    worst = check_curves(root, folder, manifest, args)
    utterances = in_order(folder, manifest, args.batch, args.steps)
    same = {"batch": args.batch, "workers": args.workers}
    ways = [("recipe", kind) for kind in PRECISIONS] + [(w, kind) for kind in PRECISIONS for w in ("30s", SHORT_S)]
    seconds: dict[tuple[Any, str], list[float]] = {way: [] for way in ways}
    waits: dict[tuple[Any, str], list[float]] = {way: [] for way in ways[2:]}
    for round_ in range(args.rounds):
        for window, kind in ways[:: -1 if round_ % 2 else 1]:
            if window == "recipe":
                _, taken_s = train_recipe(
                    folder, utterances, root / "hf", learning_rate=LEARNING_RATE, bf16=kind == "bfloat16", **same
                )
            else:
                out = root / f"{window}-{kind}-{round_}"
                _, taken_s, wait = ours(folder, manifest, out, steps=args.steps, window=window, precision=kind, **same)
                waits[window, kind].append(wait)
            seconds[window, kind].append(taken_s / args.steps)
            print(f"{shape}, round {round_}: {window}, {kind}: {seconds[window, kind][-1]:.3g} s a step", flush=True)
    comparisons = (("float32", "float32"), ("bfloat16", "float32"), ("bfloat16", "bfloat16"))
    return {
        "utterances_per_step": args.batch,
        "largest_difference_of_losses": worst,
        "seconds_a_step": {f"{window}, {kind}": spread(own) for (window, kind), own in seconds.items()},
        "faster": {
            f"{window}, ours in {own}, the recipe in {theirs}": ratio(seconds["recipe", theirs], seconds[window, own])
            for own, theirs in comparisons
            for window in ("30s", SHORT_S)
        },
        "data_wait": {f"{window}, {kind}": spread(own) for (window, kind), own in waits.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["tiny", "base"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4, help="of a run")
    parser.add_argument("--curve-steps", type=int, default=2, help="whose losses are compared beforehand")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    for shape in args.shapes:
        with tempfile.TemporaryDirectory() as name:
            results = measure(shape, args, Path(name))
        for way, figure in results["faster"].items():
            print(f"whisper-{shape}, window {way}: {shown(figure)} times the recipe's utterances/s")
        for way, wait in results["data_wait"].items():
            print(f"whisper-{shape}, window {way}: {100 * wait['median']:.1f} % of a step is waiting for data")
        write(f"training-{shape}", results)


if __name__ == "__main__":
    main()
