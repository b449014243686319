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


def hashes(threads: int, repeats: int, *settings: dict[str, Any]) -> list[set[str]]:
    """What each setting's model became, in one fresh process."""
    command = [sys.executable, str(SCRIPT), str(threads), str(repeats), *map(json.dumps, settings)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parents[1], check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [set(json.loads(line)) for line in done.stdout.splitlines()]


def assert_same(threads: int, repeats: int, *settings: dict[str, Any]) -> None:
    first, second = (hashes(threads, repeats, *settings) for _ in range(2))
    for setting, one, other in zip(settings, first, second, strict=True):
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
