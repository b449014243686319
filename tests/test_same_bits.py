"""The same training twice gives the same bits, in fresh processes and on several threads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightning_modules import algorithms

SCRIPT = Path(__file__).parent / "same_bits.py"


def assert_same(threads: int, repeats: int, *settings: dict[str, Any]) -> None:
    """Each setting's model becomes the same in every repeat, in two fresh processes side by side."""
    command = [sys.executable, str(SCRIPT), str(threads), str(repeats), *map(json.dumps, settings)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=SCRIPT.parents[1])
        for _ in range(2)
    ]
    hashes = []
    for process in processes:
        printed, errors = process.communicate()
        assert process.returncode == 0, errors[-2000:]
        hashes.append([set(json.loads(line)) for line in printed.splitlines()])
    for setting, one, other in zip(settings, *hashes, strict=True):
        assert len(one) == 1 and one == other, setting


def test_two_threads_train_to_the_same_bits(tiny_model: Path):
    quick = {"algorithm": "ERM", "steps": 1, "model": str(tiny_model)}
    assert_same(2, 1, quick, quick | {"precision": "bf16"})


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_any_number_of_threads_trains_to_the_same_bits(threads: int):
    kinds = [("ERM", "32"), ("ERM", "bf16"), ("Fishr", "32"), ("Fishr", "bf16")]
    assert_same(threads, 3, *({"algorithm": name, "precision": precision} for name, precision in kinds))


@pytest.mark.slow
def test_every_algorithm_and_option_trains_to_the_same_bits():
    every = [{"algorithm": name, "steps": 1} for name, _ in algorithms.named()]
    options = [{"lora": True}, {"ctc_weight": 0.3}, {"gradient_checkpointing": True}, {"label_smoothing": 0.1}]
    assert_same(2, 2, *every, *({"algorithm": "ERM", "steps": 1, **option} for option in options))
