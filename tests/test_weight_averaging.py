"""Lightning's averaging of weights along a run: the model folder holds the average."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from backbone.model_folder.read import read_model_folder
from callbacks.final_model import FinalModel
from lightning_modules.algorithms.erm import ERM
from tests.algorithm_runs import fit, weights


class EveryStep(L.Callback):
    """Keeps the weights after each step."""

    def __init__(self) -> None:
        self.kept: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        self.kept.append(weights(pl_module))


def test_the_model_folder_holds_the_running_mean(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    steps = EveryStep()
    callbacks = [steps, EMAWeightAveraging(decay=0.5), FinalModel()]
    fit(tiny_model, manifests, tmp_path, ERM(), steps=4, learning_rate=1e-2, trainer={"callbacks": callbacks})
    exported, _ = read_model_folder(tmp_path / "model")
    last = steps.kept[-1]
    for name, weight in exported.named_parameters():
        mean = steps.kept[0][name]
        for kept in steps.kept[1:]:
            mean = 0.5 * mean + 0.5 * kept[name]
        torch.testing.assert_close(weight, mean, rtol=1e-5, atol=1e-6)
    assert max((weight - last[name]).abs().max() for name, weight in exported.named_parameters()) > 1e-3
