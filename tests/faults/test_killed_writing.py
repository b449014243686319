"""Merging and evaluating, killed at ten random moments each: nothing half-written stays, and the next call ends it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import WhisperForConditionalGeneration

from backbone.model_folder.read import read_model_folder
from backbone.model_folder.write import write_model_folder
from tests.faults.children import end_of, start
from tests.faults.conftest import Tally

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base and two fine-tunes of it, widened so that merging takes long enough to be interrupted."""
    root = tmp_path_factory.mktemp("models")
    model, processor = read_model_folder(tiny_model)
    model.config.encoder_ffn_dim = model.config.decoder_ffn_dim = 100_000
    generation = model.generation_config
    torch.manual_seed(0)
    wide = WhisperForConditionalGeneration(model.config)
    wide.generation_config = generation
    for name in ("base", "one", "two"):
        with torch.no_grad():
            for parameter in wide.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        write_model_folder(root / name, wide, processor)
    return root


def test_merging(models: Path, tmp_path: Path, tally: Tally):
    def merge(out: Path) -> list[str]:
        return ["ties", "--models", str(models / "one"), str(models / "two"), "--base", str(models / "base"),
                "--out", str(out)]  # fmt: skip

    whole, out = tmp_path / "whole" / "m", tmp_path / "out" / "m"
    assert end_of(start("merge", merge(whole), tmp_path / "log")) == 0, (tmp_path / "log").read_text()
    expected = load_file(whole / "model.safetensors")
    draw = random.Random(0)
    began = time.monotonic()
    for fault in range(10):
        process = start("merge", merge(out), tmp_path / "log")
        writes = fault % 5  # two at some moment of the start, eight while it writes
        end = time.monotonic() + draw.uniform(0, 1)
        while process.is_alive() and not (list(out.parent.glob(".m.*.partial")) if writes else time.monotonic() > end):
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.3) if writes else 0)
        process.kill()
        process.join()
        whole_or_absent = not out.exists() or same_weights(load_file(out / "model.safetensors"), expected)
        tally.judge("half-written", None if whole_or_absent else f"after {time.monotonic() - began:.1f} s")
    assert end_of(start("merge", merge(out), tmp_path / "log")) == 0, (tmp_path / "log").read_text()
    tally.judge("lost work", None if same_weights(load_file(out / "model.safetensors"), expected) else "other weights")
    tally.judge("half-written", [path.name for path in out.parent.iterdir() if path.name != "m"])


def same_weights(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_evaluating(tiny_model: Path, manifests: dict[str, str], tmp_path: Path, tally: Tally):
    sets = {pair: manifests[pair] for pair in ("ko-en", "ja-en", "de-en", "ko", "en")}
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump({"test": sets, "batch_size": 1}))

    def evaluate(out: Path) -> list[str]:
        return [f"a={tiny_model}", f"b={tiny_model}", "--config", str(tmp_path / "sets.yaml"), "--out", str(out)]

    whole, out = tmp_path / "whole", tmp_path / "out"
    assert end_of(start("evaluate", evaluate(whole), tmp_path / "log")) == 0, (tmp_path / "log").read_text()
    total = decoded(whole)
    draw, kept = random.Random(1), 0
    moments = [lambda: True, *(at_least(out, count) for count in sorted(draw.sample(range(1, total), 7)))]
    moments += [lambda: decoded(out) >= total, lambda: (out / "scores.json").exists()]
    for has_come in moments:
        process = start("evaluate", evaluate(out), tmp_path / "log")
        while process.is_alive() and not has_come():
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.05))
        process.kill()
        process.join()
        now = decoded(out)
        tally.judge("lost work", None if now >= kept else f"{kept} transcripts were kept, {now} are")
        for file in out.glob("*.json"):
            json.loads(file.read_text(encoding="utf-8"))
        kept = now
    assert end_of(start("evaluate", evaluate(out), tmp_path / "log")) == 0, (tmp_path / "log").read_text()
    one, two = (json.loads((run / "scores.json").read_text(encoding="utf-8")) for run in (whole, out))
    tally.judge("lost work", None if one == two else "other scores")
    names = [sorted(path.name for path in run.iterdir()) for run in (whole, out)]
    tally.judge("half-written", None if names[0] == names[1] else names)


def decoded(out: Path) -> int:
    """Transcripts on the disk."""
    return sum(file.read_text(encoding="utf-8").count('"hypothesis"') for file in out.glob("decoded/*.jsonl"))


def at_least(out: Path, count: int) -> Callable[[], bool]:
    return lambda: decoded(out) >= count
