"""What a training step of each algorithm costs beside ERM's: `python benchmarks/algorithms.py --shape small`.

All algorithms take turns on one Whisper of random weights, in one process, round after round; printed are medians. On a
CPU seconds are of processor time on one thread, which other processes hardly disturb, and memory is the resident set's
peak in the step beyond what was there before it; on a GPU both are the device's. An algorithm's own state counts.

`Fishr by vmap` and `Fishr by BackPACK` hold every utterance's gradient of the output projection; BackPACK takes part
where it is installed: `pip install --no-deps backpack-for-pytorch einops unfoldNd`.

Shape suffixes: B utterances, U label tokens, V vocabulary, D width, P pairs.
"""

from __future__ import annotations

import argparse
import functools
import gc
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import measuring
import torch
from measuring import ratio, spread, write
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional
from workload import SHAPES, bare_module, noise_batch

from backbone.loss import IGNORED_LABEL
from datamodules.batch import SpeechBatch
from lightning_modules import algorithms
from lightning_modules.algorithms.algorithm import Algorithm, Figures
from lightning_modules.algorithms.context import StepContext
from lightning_modules.whisper import WhisperModule

STEP = 100  # past every annealing and search window


class HeldFishr(Algorithm):
    """Fishr without moving average by whole per-utterance gradients (B, V, D), differentiated twice."""

    def __init__(self, gradients: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.gradients = gradients

    def step(self, context: StepContext, batch: SpeechBatch) -> Figures:
        """One pass, with the penalty's graph through every utterance's gradient."""
        out = context.forward(batch)
        mask_BU = (batch.labels_BU != IGNORED_LABEL).float()
        labels_BU = batch.labels_BU.clamp(min=0)
        gradients_BVD = self.gradients(context.head_weight, out.hidden_BUD, labels_BU, mask_BU)
        slices = batch.pair_slices().values()
        variances_PVD = torch.stack([gradients_BVD[rows].var(0, correction=0) for rows in slices])
        penalty = (variances_PVD - variances_PVD.mean(0)).square().sum()
        loss = sum(out.losses_BU[rows].sum() / mask_BU[rows].sum() for rows in slices)
        context._backward(loss + penalty, True)
        context.optimizer_step()
        return {}


def by_vmap(weight_VD: Tensor, hidden_BUD: Tensor, labels_BU: Tensor, mask_BU: Tensor) -> Tensor:
    def loss(weight_VD: Tensor, hidden_UD: Tensor, labels_U: Tensor, mask_U: Tensor) -> Tensor:
        losses_U = functional.cross_entropy((hidden_UD @ weight_VD.T).float(), labels_U, reduction="none")
        return (losses_U * mask_U).sum() / mask_U.sum()

    return vmap(grad(loss), in_dims=(None, 0, 0, 0))(weight_VD, hidden_BUD, labels_BU, mask_BU)


def by_backpack(weight_VD: Tensor, hidden_BUD: Tensor, labels_BU: Tensor, mask_BU: Tensor) -> Tensor:
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    projection = extend(nn.Linear(*weight_VD.shape[::-1], bias=False, device="meta"))
    projection.weight = weight_VD
    logits_BVU = projection(hidden_BUD).float().transpose(1, 2)
    losses_BU = functional.cross_entropy(logits_BVU, labels_BU, reduction="none")
    loss = (losses_BU * mask_BU / mask_BU.sum(1, keepdim=True)).sum()
    with backpack(BatchGrad()):
        torch.autograd.grad(loss, [weight_VD, hidden_BUD], create_graph=True)
    gradients_BVD = weight_VD.grad_batch
    del weight_VD.grad_batch
    return gradients_BVD


HELD = {"Fishr by vmap": by_vmap, "Fishr by BackPACK": by_backpack}


@dataclass
class Turns:
    """An algorithm and what its turns took."""

    algorithm: Algorithm
    seconds: list[float] = field(default_factory=list)
    gigabytes: list[float] = field(default_factory=list)


def main() -> None:
    args = arguments().parse_args()
    torch.set_num_threads(args.threads)
    module = bare_module(args.shape, args.window, args.device)
    if args.checkpointing:
        module.model.activation_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(module.model.parameters(), lr=1e-6)
    # A CPU is warm after less; a GPU chooses its kernels by shape.
    sizes = (args.utterances, args.utterances if args.device == "cuda" else 1)
    batch, warm_up = (
        noise_batch(module.model.config, args.pairs, utterances, args.tokens).to(args.device) for utterances in sizes
    )
    turns = {name: Turns(kind().to(args.device)) for name, kind in algorithms.named()}
    turns |= {name: Turns(HeldFishr(gradients)) for name, gradients in HELD.items()}
    if args.only:
        turns = {name: turn for name, turn in turns.items() if name in ("ERM", *args.only)}
    if args.precision == "bf16":
        module._forward_context = functools.partial(torch.autocast, args.device, torch.bfloat16, cache_enabled=False)
    for round_ in range(args.rounds + 1):  # the first one warms up
        for name, turn in list(turns.items()):
            try:
                take_turn(turn, module, optimizer, batch if round_ else warm_up, args, STEP + round_)
            except (ImportError, torch.OutOfMemoryError) as error:
                print(f"{name}: left out: {error}", flush=True)
                del turns[name]
                continue
            print(f"round {round_}: {name} {turn.seconds[-1]:.3g} s", file=sys.stderr, flush=True)
    report(turns, args)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--window", type=int, default=30, help="seconds of audio that the encoder takes")
    parser.add_argument("--tokens", type=int, default=64, help="label tokens of an utterance")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--utterances", type=int, default=3, help="of each pair")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="32", choices=["32", "bf16"], help="bf16: autocast")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations")
    names = [*dict(algorithms.named()), *HELD]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"beside ERM: {', '.join(names)}")
    return parser


def take_turn(
    turn: Turns,
    module: WhisperModule,
    optimizer: torch.optim.Optimizer,
    batch: SpeechBatch,
    args: argparse.Namespace,
    step: int,
) -> None:
    """One step, timed and weighed."""
    model = module.model
    head = model.proj_out.weight
    context = StepContext(
        model.parameters(), module.token_losses, optimizer, head_weight=head, clip_norm=1.0, step=step
    )
    gc.collect()
    before = reset_peak(args.device)
    own = sum(buffer.nbytes for buffer in turn.algorithm.buffers())
    start = clock(args.device)
    turn.algorithm.step(context, batch)
    turn.seconds.append(clock(args.device) - start)
    turn.gigabytes.append((peak(args.device) - before + own) / 1e9)


def clock(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def reset_peak(device: str) -> int:
    """Forgets the peak; returns the bytes in use."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    return measuring.reset_peak()


def peak(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else measuring.peak()


def report(turns: dict[str, Turns], args: argparse.Namespace) -> None:
    """Print a Markdown table of medians, and write the figures; the first round does not count."""
    erm = turns["ERM"]
    rows: dict[str, dict[str, Any]] = {
        name: {
            "seconds": spread(turn.seconds[1:]),
            "beside_erm": ratio(turn.seconds[1:], erm.seconds[1:]),
            "gigabytes": statistics.median(turn.gigabytes[1:]),
        }
        for name, turn in turns.items()
    }
    print(f"whisper-{args.shape}, {args.pairs} x {args.utterances} utterances, {' '.join(sys.argv[1:])}")
    print("| algorithm | seconds a step | beside ERM | memory of a step, GB | over ERM, GB |")
    print("|---|---|---|---|---|")
    for name, row in rows.items():
        over = row["gigabytes"] - rows["ERM"]["gigabytes"]
        print(
            f"| {name} | {row['seconds']['median']:.3g} | {row['beside_erm']['median']:.2f} "
            f"| {row['gigabytes']:.2f} | {over:+.2f} |"
        )
    about = {key: getattr(args, key) for key in ("shape", "window", "tokens", "pairs", "utterances", "precision")}
    write(about | {"rows": rows})


if __name__ == "__main__":
    main()
