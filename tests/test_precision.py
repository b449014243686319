"""The number format: what `auto` is on which machine, and what of a training step stays in float32."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from common.errors import UserError
from lightning_modules import algorithms
from lightning_modules.trainer_checks import check_trainer
from training.trainer import FineTuningTrainer, resolve_precision


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """A machine with these CPU capabilities and, where `gpu` is not None, a GPU that has bfloat16 or not."""

    def make(*capabilities: str, gpu: bool | None = None) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(capabilities, True))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bool(gpu))

    return make


@pytest.mark.parametrize(
    ("capabilities", "gpu", "accelerator", "expected"),
    [
        (["avx512_bf16"], None, "auto", "bf16-mixed"),
        (["amx_bf16"], None, "cpu", "bf16-mixed"),
        (["avx512_f", "avx2"], None, "auto", "32-true"),
        ([], None, "cpu", "32-true"),
        ([], True, "auto", "bf16-mixed"),
        ([], True, "gpu", "bf16-mixed"),
        ([], True, "cpu", "32-true"),
        (["avx512_bf16"], False, "auto", "32-true"),  # an old GPU is where training runs
        (["avx512_bf16"], False, "cpu", "bf16-mixed"),
        (["avx512_bf16"], None, "mps", "32-true"),
    ],
)
def test_auto_follows_the_hardware(machine, capabilities, gpu, accelerator: str, expected: str):
    machine(*capabilities, gpu=gpu)
    assert resolve_precision("auto", accelerator) == expected
    assert resolve_precision("auto", accelerator, needs_float32=True) == "32-true"


@pytest.mark.parametrize("given", ["32-true", "64-true", "bf16-mixed"])
def test_what_was_asked_for_is_taken(machine, given: str):
    machine()
    assert resolve_precision(given) == given
    assert resolve_precision(None) == "32-true"  # what Lightning makes of it


@pytest.mark.parametrize(("capability", "expected"), [("avx512_bf16", "bf16-mixed"), ("avx2", "32-true")])
def test_the_trainer_is_made_with_it(machine, capability: str, expected: str):
    machine(capability)
    trainer = FineTuningTrainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    assert str(trainer.precision) == expected


def test_an_algorithm_of_fine_differences_refuses_bfloat16():
    kind = dict(algorithms.named())["GGA"]
    strategy = FineTuningTrainer(accelerator="cpu", devices=1, logger=False, precision="32-true").strategy
    check_trainer(kind(), SimpleNamespace(strategy=strategy, precision="32-true"))
    with pytest.raises(UserError, match="trainer.precision is bf16-mixed: GGA works with .* choose 32-true, or auto"):
        check_trainer(kind(), SimpleNamespace(strategy=strategy, precision="bf16-mixed"))
