"""How a training step grows: with pairs, utterances, model and ranks: `python benchmarks/growth.py`.

One thread a rank, a short window, random weights and noise in memory: the model's step alone. Time and memory are set
against the first of each series. Two ranks take turns with one, each with as many utterances.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

import torch
from measuring import ROOT, peak, reset_peak, write
from torch.nn.parallel import DistributedDataParallel
from workload import SHAPES, bare_module, noise_batch

from lightning_modules import algorithms
from lightning_modules.algorithms.context import StepContext
from lightning_modules.whisper import WhisperModule

ALGORITHMS = ("ERM", "Fishr", "GGAL", "Fish")
PAIRS = (2, 3, 4, 6, 10)
UTTERANCES = (1, 2, 4)
MODELS = ("tiny", "base", "small")


def step_cost(
    module: WhisperModule, name: str, pairs: int, utterances: int, args: argparse.Namespace
) -> dict[str, float]:
    """Processor seconds and bytes of a step, the median of some after the first."""
    algorithm = dict(algorithms.named())[name]()
    optimizer = torch.optim.AdamW(module.model.parameters(), lr=1e-6)
    batch = noise_batch(module.model.config, pairs, utterances, args.tokens)
    found: list[tuple[float, float]] = []
    for step in range(args.rounds + 1):
        context = StepContext(
            module.model.parameters(), module.token_losses, optimizer, head_weight=module.model.proj_out.weight,
            clip_norm=1.0, step=100 + step,
        )  # fmt: skip
        gc.collect()
        before, start = reset_peak(), time.process_time()
        algorithm.step(context, batch)
        found.append((time.process_time() - start, peak() - before))
    own = sum(buffer.nbytes for buffer in algorithm.buffers())
    return {
        "seconds": statistics.median(s for s, _ in found[1:]),
        "gigabytes": (statistics.median(size for _, size in found[1:]) + own) / 1e9,
    }


def rank_main(args: argparse.Namespace) -> None:
    """One rank's steps; the first prints the seconds of a step by the clock."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    world = torch.distributed.get_world_size()
    module = bare_module("tiny", args.window)
    batch = noise_batch(module.model.config, 2, 2, args.tokens)
    model = DistributedDataParallel(module.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    ends = []
    for _ in range(args.rounds + 2):
        out = model(input_features=batch.mel_BFT, decoder_input_ids=batch.decoder_inputs_BU, labels=batch.labels_BU)
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.distributed.barrier()
        ends.append(time.perf_counter())
    if torch.distributed.get_rank() == 0:
        steps = [end - begin for begin, end in pairwise(ends[1:])]
        print(json.dumps({"ranks": world, "seconds": statistics.median(steps)}))
    torch.distributed.destroy_process_group()


def ranks(count: int, args: argparse.Namespace) -> float:
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={count}", "--master_port=29731"]
    command = [*launch, __file__, "--rank", "--rounds", str(args.rounds), "--window", str(args.window)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--window", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=MODELS, help="the first takes the other series")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank:
        return rank_main(args)
    torch.set_num_threads(1)
    module = bare_module(args.shapes[0], args.window)
    results: dict[str, Any] = {"window_s": args.window, "shape": args.shapes[0]}
    results["pairs"] = {
        name: {pairs: step_cost(module, name, pairs, 1, args) for pairs in PAIRS} for name in ALGORITHMS
    }
    print("pairs", results["pairs"])
    results["utterances"] = {
        name: {count: step_cost(module, name, 2, count, args) for count in UTTERANCES} for name in ALGORITHMS
    }
    print("utterances", results["utterances"])
    results["models"] = {}
    for shape in args.shapes:
        module = bare_module(shape, args.window)
        size = sum(parameter.numel() for parameter in module.model.parameters())
        results["models"][shape] = {"parameters": size} | {
            name: step_cost(module, name, 2, 1, args) for name in ("ERM", "Fishr", "GGAL")
        }
        del module
    print("models", results["models"])
    turns = [(ranks(1, args), ranks(2, args)) for _ in range(max(1, args.rounds - 1))]
    results["ranks"] = {
        "utterances_of_a_rank": 4,
        "seconds": [statistics.median(column) for column in zip(*turns, strict=True)],
        "speedup": statistics.median(2 * one / two for one, two in turns),
    }
    print("ranks", results["ranks"])
    write(results)


if __name__ == "__main__":
    main()
