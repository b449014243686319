"""Runs of the real module by Lightning on a tiny Whisper; as a script, one rank of a distributed one."""

from __future__ import annotations

import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from datamodules.pairs import PairDataModule
from lightning_modules import algorithms
from lightning_modules.algorithms.algorithm import Algorithm
from lightning_modules.ranks import fsdp
from lightning_modules.whisper import WhisperModule

PAIRS = ("ko-en", "ja-en", "de-en")
SHARDED = [name for name, kind in algorithms.named() if kind.supports_sharding]
# Brought forward, so that a few steps see all of an algorithm.
EARLY = {"anneal_steps": 1, "first_step": 1, "last_step": 2, "trials": 2}


def make(name: str, **options: float) -> Algorithm:
    kind = dict(algorithms.named())[name]
    accepted = inspect.signature(kind).parameters
    return kind(**{key: value for key, value in EARLY.items() if key in accepted} | options)


class SGDModule(WhisperModule):
    """Adam would hide a gradient of the wrong scale."""

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.5)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)}


def fit(
    model: Path,
    manifests: dict[str, str],
    folder: Path,
    algorithm: Algorithm,
    *,
    kind: type[WhisperModule] = WhisperModule,
    steps: int = 4,
    utterances: int = 2,
    workers: int = 0,
    save_at: int | None = None,
    resume: Path | None = None,
    trainer: dict[str, Any] | None = None,
    **options: Any,
) -> WhisperModule:
    """Trains and returns the module; a checkpoint of step `save_at` is left as `<folder>/saved.ckpt`."""
    seed_everything(0, verbose=False)
    module = kind(str(model), algorithm, **({"learning_rate": 1e-3} | options))
    data = PairDataModule({pair: manifests[pair] for pair in PAIRS}, utterances_per_pair=utterances, workers=workers)
    saver = ModelCheckpoint(folder, filename="saved", every_n_train_steps=save_at or steps + 1, save_top_k=-1)
    settings = {
        "max_steps": steps,
        "accelerator": "cpu",
        "devices": 1,
        "default_root_dir": folder,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "callbacks": [saver],
    }
    Trainer(**(settings | (trainer or {}))).fit(module, datamodule=data, ckpt_path=resume)
    return module


def weights(module: WhisperModule) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.model.named_parameters()}


def distributed(model: Path, manifests: dict[str, str], folder: Path, rank: int) -> None:
    """One of two ranks: trains with every algorithm in turn and saves the whole weights."""
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)
    for name, accumulate in [(name, 1) for name, _ in algorithms.named()] + [("ERM", 2), ("Fishr", 2)]:
        settings = {"devices": 2, "strategy": "ddp", "precision": "64-true"}
        trained = fit(
            model, manifests, folder, make(name), kind=SGDModule, steps=3, trainer=settings, accumulate=accumulate
        )
        torch.save(weights(trained), folder / f"{name}-{accumulate}-{rank}.pt")
    for name, accumulate in [(name, 1) for name in SHARDED] + [("ERM", 2), ("Fishr", 2)]:
        strategy = fsdp()
        settings = {"devices": 2, "strategy": strategy}
        strategy._data_parallel_size = 2
        trained = fit(
            model, manifests, folder, make(name), kind=SGDModule, steps=3, trainer=settings, accumulate=accumulate
        )
        whole = get_model_state_dict(trained.model, options=StateDictOptions(full_state_dict=True))
        torch.save(whole, folder / f"{name}-{accumulate}-fsdp-{rank}.pt")


if __name__ == "__main__":
    distributed(Path(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
