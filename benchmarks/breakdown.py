"""Where the time of a step goes, beside the machine's ceilings: `python benchmarks/breakdown.py --shape small`.

One training step and one decoding step of a Whisper of random weights at a 30 s window, profiled; what their matrix
products reach of the rate that the same threads reach in one large product, and a decoding step's bytes (weights, keys
and values, each read once) of the rate of copying memory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from measuring import shown, spread, write
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from workload import SHAPES, bare_module, noise_batch

from backbone.greedy import StepDecoder
from lightning_modules.algorithms.context import StepContext
from lightning_modules.algorithms.erm import ERM
from lightning_modules.whisper import WhisperModule

GROUPS = {
    "attention": ("scaled_dot_product", "flash_attention", "efficient_attention", "aten::softmax", "aten::_softmax"),
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::matmul", "aten::linear"),
    "convolutions": ("convolution",),
    "optimizer": ("Adam", "adam", "Optimizer", "foreach_norm", "linalg_vector_norm", "aten::norm"),
    "softmax of the vocabulary": ("log_softmax", "nll_loss", "cross_entropy"),
    "activations and norms": ("gelu", "layer_norm"),
    "additions and products": ("aten::add", "aten::mul", "aten::sub", "aten::div", "aten::sum"),
    "copies and fills": ("copy", "fill", "zero", "cat", "clone", "index", "contiguous", "embedding"),
}
# The CPU's kernels, which the counter does not know; backwards attention takes five products, forwards two.
_FLOP = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda _, q, k, v, *__, **___: sdpa_flop_count(q, k, v) * 5 // 2
    ),
}


def seconds(way: Callable[[], object], rounds: int) -> list[float]:
    way()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        way()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return found


def shares(way: Callable[[], object]) -> dict[str, float]:
    """Shares of the time inside operators, by group."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        way()
    by_group: dict[str, float] = {}
    for event in found.key_averages():
        group = next((name for name, parts in GROUPS.items() if any(part in event.key for part in parts)), "other")
        by_group[group] = by_group.get(group, 0.0) + event.self_cpu_time_total
    total = sum(by_group.values())
    return {name: part / total for name, part in sorted(by_group.items(), key=lambda item: -item[1])}


def ceilings(device: str) -> dict[str, float]:
    """Multiply-adds times two of a large float32 product, and bytes read and written of a copy, a second."""
    a, b = torch.randn(2048, 2048, device=device), torch.randn(2048, 2048, device=device)
    source = torch.randn(2**26, device=device)
    target = torch.empty_like(source)
    product_s = min(seconds(lambda: a @ b, 5))
    copy_s = min(seconds(lambda: target.copy_(source), 5))
    return {"flops": 2 * 2048**3 / product_s, "bytes_a_s": 2 * source.nbytes / copy_s}


def training(module: WhisperModule, batch: int, tokens: int, device: str) -> Callable[[], None]:
    """A step of ERM."""
    model, config = module.model.train(), module.model.config
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    inputs = noise_batch(config, 1, batch, tokens).to(device)

    def step() -> None:
        context = StepContext(
            model.parameters(), module.token_losses, optimizer, head_weight=model.proj_out.weight, clip_norm=1.0
        )
        ERM().step(context, inputs)

    return step


def decoding(module: WhisperModule, batch: int, tokens: int, device: str) -> tuple[Callable[[], object], int]:
    """A decoder's step after so many tokens, and the bytes that it must read."""
    model = module.model.eval()
    config = model.config
    encoded_BTD = torch.randn(batch, config.max_source_positions, config.d_model, device=device)
    decoder = StepDecoder(model, encoded_BTD)
    token = torch.zeros(batch, 1, dtype=torch.long, device=device)
    with torch.inference_mode():
        decoder(torch.zeros(batch, tokens, dtype=torch.long, device=device))
    weights = sum(p.nbytes for name, p in model.model.decoder.named_parameters() if "encoder_attn.k" not in name
                  and "encoder_attn.v" not in name and "positions" not in name)  # fmt: skip
    read = weights + sum(keys.nbytes + values.nbytes for keys, values in decoder.audio)

    @torch.inference_mode()
    def step() -> torch.Tensor:
        decoder.length = tokens
        return decoder(token).argmax(-1)

    return step, read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--batch", type=int, default=2, help="utterances of the training step")
    parser.add_argument("--decoded", type=int, default=8, help="utterances decoded side by side")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ceiling = ceilings(device)
    module = bare_module(args.shape, device=device)
    train_step = training(module, args.batch, args.tokens, device)
    with FlopCounterMode(display=False, custom_mapping=_FLOP) as counter:
        train_step()
    train_s = seconds(train_step, args.rounds)
    train_shares = shares(train_step)
    decode_step, read = decoding(module, args.decoded, args.tokens, device)
    decode_s = seconds(decode_step, 10 * args.rounds)
    results = {
        "ceilings": {"gigaflops": ceiling["flops"] / 1e9, "gigabytes_a_s": ceiling["bytes_a_s"] / 1e9},
        "training": {
            "utterances": args.batch,
            "seconds": spread(train_s),
            "gigaflop": counter.get_total_flops() / 1e9,
            "of_matrix_ceiling": spread([counter.get_total_flops() / s / ceiling["flops"] for s in train_s]),
            "shares": train_shares,
        },
        "decoding": {
            "utterances": args.decoded,
            "seconds": spread(decode_s),
            "gigabytes": read / 1e9,
            # a copy's bytes are read and written: reading alone may come to the same rate
            "of_copy_ceiling": spread([read / s / ceiling["bytes_a_s"] for s in decode_s]),
            "shares": shares(decode_step),
        },
    }
    for name, ceiling_name in (("training", "of_matrix_ceiling"), ("decoding", "of_copy_ceiling")):
        own = results[name]
        print(f"{name}: {shown(own['seconds'], 3)} s, {shown(own[ceiling_name])} {ceiling_name}")
        print("   ", {group: round(share, 3) for group, share in own["shares"].items()})
    write(f"breakdown-{args.shape}", results)


if __name__ == "__main__":
    main()
