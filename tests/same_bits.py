"""Train a Whisper, by default of the demo's size, on noise, over and over, and print the hashes of what it became.

As a script: `python tests/same_bits.py THREADS REPEATS '{"algorithm": "Fishr", "precision": "bf16", ...}' ...` prints
one JSON list of hashes a setting.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
DEMO = str(ROOT / "models" / "demo-backbone")


def noise(module: Any, utterances: int, tokens: int) -> Any:
    """A batch of three pairs: noise in, random tokens out, of unequal length, after a prompt of four."""
    from backbone.loss import IGNORED_LABEL
    from datamodules.batch import SpeechBatch

    draw = torch.Generator().manual_seed(1)
    rows = 3 * utterances
    tokens_BU = torch.randint(300, (rows, tokens), generator=draw)
    labels_BU = tokens_BU.clone()
    labels_BU[:, :3] = IGNORED_LABEL
    for row in range(rows):
        labels_BU[row, tokens - row % 9 :] = IGNORED_LABEL
    waveforms_BS = 0.1 * torch.randn(rows, 4 * 16_000, generator=draw)
    names = [f"pair-{row // utterances}" for row in range(rows)]
    lengths_B = torch.full((rows,), waveforms_BS.shape[1])
    batch = SpeechBatch(names, names, waveforms_BS, lengths_B, tokens_BU, labels_BU)
    batch.mel_BFT = module.log_mel(waveforms_BS)
    return batch


def trained(
    algorithm: str, *, model: str = DEMO, precision: str = "32", steps: int = 2, utterances: int = 2, **options: Any
) -> str:
    """The hash of a model's weights after some steps."""
    from functools import partial

    from backbone.lora import LoRA
    from lightning_modules.algorithms.context import StepContext
    from lightning_modules.whisper import WhisperModule
    from tests.algorithm_runs import make

    torch.manual_seed(0)
    if options.pop("lora", False):
        options["lora"] = LoRA(rank=4, dropout=0.1)
    module = WhisperModule(model, make(algorithm), **options)
    module._load()
    if precision == "bf16":
        module._forward_context = partial(torch.autocast, "cpu", torch.bfloat16, cache_enabled=False)
    batch = noise(module, utterances, 64)
    parameters = module._trainable()
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    for step in range(steps):
        torch.manual_seed(step)
        head = module.model.proj_out.weight
        context = StepContext(parameters, module.token_losses, optimizer, head_weight=head, clip_norm=1.0, step=step)
        module.algorithm.step(context, batch)
    digest = hashlib.sha256()
    for parameter in parameters:
        digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    threads, repeats, *settings = sys.argv[1:]
    torch.set_num_threads(int(threads))
    for setting in settings:
        print(json.dumps([trained(**json.loads(setting)) for _ in range(int(repeats))]), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
