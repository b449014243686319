"""End-to-end training beside the usual recipe: `python benchmarks/training.py --models base openai/whisper-base`.

Both read the same WAV files of 3 to 8 s with the same number of workers and train the same Whisper (of random weights,
or published ones where the Hub's cache has them) with the same batches, optimizer and schedule, in float32 and in
bfloat16 autocast, ours with a window of 30 s and with shorter ones. In float32 they must show the same losses, with a
short window those of the usual recipe on a model that is cut to the window by hand. A run's time begins before its
first batch is asked for: a first step left out would hide what the workers make ahead meanwhile.
"""

from __future__ import annotations

import argparse
import csv
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from measuring import equal, ratio, shown, spread, write
from usual_recipe import Trained
from usual_recipe import train as train_recipe
from workload import corpus, cut, prepared

from backbone.model_folder.read import read_model_folder
from callbacks.throughput import Throughput
from common.manifest import Utterance, read_manifest
from datamodules.pairs import PairDataModule
from lightning_modules.whisper import WhisperModule

LEARNING_RATE = 1e-4
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


class Stamps(L.Callback):
    """Notes losses, and the times at which the loader was made and the steps ended."""

    def __init__(self, trained: Trained) -> None:
        self.trained = trained

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before the first batch is asked for."""
        self.trained.ends.append(time.perf_counter())

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        """Notes both."""
        self.trained.losses.append(float(outputs["loss/ko-en"]))
        self.trained.ends.append(time.perf_counter())


def ours(
    folder: Path | str,
    manifest: Path,
    out: Path,
    *,
    steps: int,
    batch: int,
    workers: int,
    precision: str = "float32",
    **options: Any,
) -> Trained:
    """Train as `train.py` does."""
    module = WhisperModule(str(folder), learning_rate=LEARNING_RATE, **options)
    data = PairDataModule({"ko-en": str(manifest)}, utterances_per_pair=batch, workers=workers)
    trained = Trained()
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
        callbacks=[Stamps(trained), Throughput()],
    )
    trainer.fit(module, datamodule=data)
    if (rows := out / "throughput.csv").is_file():  # from the second step on
        with rows.open() as file:
            trained.data_wait = statistics.mean(float(row["data_wait"]) for row in csv.DictReader(file))
    return trained


def in_order(folder: Path | str, manifest: Path, batch: int, steps: int) -> list[Utterance]:
    """The utterances as our sampler draws them."""
    data = PairDataModule({"ko-en": str(manifest)}, utterances_per_pair=batch, workers=0)
    _, processor = read_model_folder(folder)
    data.read(processor.tokenizer, 30.0, 448)
    data.trainer = L.Trainer(max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False)
    by_id = {utterance.id: utterance for utterance in read_manifest(manifest)}
    return [by_id[name] for part in data.train_dataloader() for name in part.ids]


def check_curves(root: Path, folder: Path | str, manifest: Path, args: argparse.Namespace) -> dict[str, float]:
    """Equal losses with each window; returns by how much they differ."""
    utterances = in_order(folder, manifest, args.batch, args.curve_steps)
    same = {"batch": args.batch, "workers": args.workers}
    worst = {}
    for window in args.windows:
        source = folder if window == "30s" else cut(folder, root / "cut", int(window))
        out = root / f"curve-{window}"
        found = ours(folder, manifest, out, steps=args.curve_steps, window=window_option(window), **same)
        expected = train_recipe(source, utterances, root / "hf", learning_rate=LEARNING_RATE, **same)
        worst[window] = equal(f"losses with window {window}", found.losses, expected.losses, rtol=2e-4, atol=2e-4)
    return worst


def window_option(window: str) -> str | float:
    return window if window in ("30s", "longest") else float(window)


def weighed(train: Callable[[], Trained]) -> Trained:
    """Train, with the peak of the GPU's memory where there is one."""
    if not torch.cuda.is_available():
        return train()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    trained = train()
    trained.peak_gb = torch.cuda.max_memory_allocated() / 1e9
    return trained


def measure(model: str, args: argparse.Namespace, root: Path) -> dict[str, Any]:
    """All ways to train a model, turn by turn."""
    folder = prepared(model, root, text_tokens=60)
    manifest = corpus(root / "audio", args.batch * max(args.steps, args.curve_steps))
    worst = check_curves(root, folder, manifest, args) if args.curve_steps else {}
    utterances = in_order(folder, manifest, args.batch, args.steps)
    same = {"batch": args.batch, "workers": args.workers}
    ways = [(way, kind) for kind in args.precisions for way in ("recipe", *args.windows)]
    runs: dict[tuple[str, str], list[Trained]] = {way: [] for way in ways}
    for round_ in range(args.rounds):
        for way, kind in ways[:: -1 if round_ % 2 else 1]:
            if way == "recipe":
                options = {"learning_rate": LEARNING_RATE, "bf16": kind == "bfloat16"}
                trained = weighed(lambda o=options: train_recipe(folder, utterances, root / "hf", **o, **same))
            else:
                out, options = root / f"{way}-{kind}-{round_}", {"window": window_option(way), "precision": kind}
                trained = weighed(lambda o=options, out=out: ours(folder, manifest, out, steps=args.steps, **o, **same))
            runs[way, kind].append(trained)
            print(f"{model}, {way}, {kind}: {trained.seconds_a_step(args.warm_up):.3g} s a step", flush=True)
    seconds = {way: [run.seconds_a_step(args.warm_up) for run in own] for way, own in runs.items()}
    rows = []
    for (way, kind), own in runs.items():
        row = {"way": way, "precision": kind, "seconds_a_step": spread(seconds[way, kind]), "peak_gb": own[0].peak_gb}
        if way != "recipe":
            row["faster_than_recipe"] = {of: ratio(seconds["recipe", of], seconds[way, kind]) for of in args.precisions}
            row["data_wait"] = spread([run.data_wait for run in own])
        if way == "30s":
            pairs = zip(own[0].losses, runs["recipe", kind][0].losses, strict=True)
            row["largest_difference_of_losses"] = max(abs(a - b) for a, b in pairs)
        rows.append(row)
    return {"largest_difference_of_losses": worst, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["base"], help="shapes, of random weights, and ids on the Hub")
    parser.add_argument("--windows", nargs="+", default=["30s", "8"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4, help="of a run")
    parser.add_argument("--warm-up", type=int, default=0, help="first steps that do not count")
    parser.add_argument("--curve-steps", type=int, default=2, help="whose losses are compared beforehand; 0: none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    results: dict[str, Any] = {"utterances_a_step": args.batch, "steps": args.steps, "models": {}}
    for model in args.models:
        with tempfile.TemporaryDirectory() as name:
            results["models"][model] = found = measure(model, args, Path(name))
        for row in found["rows"]:
            for kind, figure in row.get("faster_than_recipe", {}).items():
                way = f"{model}, window {row['way']}, {row['precision']}"
                print(f"{way}: {shown(figure)} times the steps/s of the recipe in {kind}")
        write(results)


if __name__ == "__main__":
    main()
