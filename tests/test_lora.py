"""LoRA and freezing: what they train, what they leave alone, and that the model folder needs none of it."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from backbone.lora import LoRA, merged
from backbone.model_folder.read import read_model_folder
from backbone.read_for_training import freeze
from callbacks.checkpoint_files import CheckpointFiles, newest_good
from callbacks.checkpoints import Checkpoints
from callbacks.final_model import FinalModel
from callbacks.metrics_file import MetricsFile
from common.configs import CONFIGS
from common.errors import UserError
from lightning_modules import algorithms
from lightning_modules.algorithms.erm import ERM
from lightning_modules.whisper import WhisperModule
from merging.command import main as merge
from tests.algorithm_runs import PAIRS, fit, make, weights
from tests.test_reliability_resume import STEPS, Interrupted, assert_same, what_is_left
from training.training_run import TrainingRun

peft = pytest.importorskip("peft")
ALL = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
SMALL = LoRA(rank=2, targets=ALL)


def adapted(tiny_model: Path, lora: LoRA = SMALL) -> WhisperForConditionalGeneration:
    """With adapters that are not 0."""
    model, _ = read_model_folder(tiny_model)
    lora.add_to(model, seed=0)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def logits(model: WhisperForConditionalGeneration) -> torch.Tensor:
    torch.manual_seed(2)
    frames = 2 * model.config.max_source_positions
    tokens = torch.arange(12).view(2, 6)
    with torch.no_grad():
        return model(input_features=torch.randn(2, 80, frames), decoder_input_ids=tokens).logits


def test_merged_weights_compute_what_the_adapters_do(tiny_model: Path):
    model = adapted(tiny_model)
    plain, _ = read_model_folder(tiny_model)
    before = logits(plain)
    plain.load_state_dict(merged(model.state_dict(), model))
    torch.testing.assert_close(logits(plain.eval()), logits(model), rtol=1e-4, atol=1e-5)
    assert (logits(plain) - before).abs().max() > 1e-2
    # peft's own merge is the oracle for the weights.
    theirs = peft.get_peft_model(
        read_model_folder(tiny_model)[0], peft.LoraConfig(r=2, lora_alpha=4, target_modules=ALL)
    )
    named = dict(theirs.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            named[f"base_model.model.{name}"].copy_(parameter)
    for name, weight in theirs.merge_and_unload().named_parameters():
        torch.testing.assert_close(plain.get_parameter(name), weight, rtol=1e-5, atol=1e-6)


def test_adapters_begin_as_the_model_itself_and_alone_are_trained(tiny_model: Path):
    plain, _ = read_model_folder(tiny_model)
    model, _ = read_model_folder(tiny_model)
    state = torch.get_rng_state()
    LoRA(targets=["encoder_attn.v_proj"]).add_to(model, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(model.eval()), logits(plain.eval()))
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trainable == [
        f"model.decoder.layers.{i}.encoder_attn.v_proj.lora_{part}.default.weight" for i in (0, 1) for part in "AB"
    ]


def run(
    model: Path, manifests: dict[str, str], folder: Path, name: str, *, stop: bool = False, resume: Path | None = None
) -> WhisperModule:
    own = [MetricsFile(), FinalModel(), Checkpoints(100)]
    kind = type("Run", (Interrupted,), {"signal_at": (2, signal.SIGTERM) if stop else None})
    settings = {"callbacks": own, "plugins": [CheckpointFiles()]}
    lora = LoRA(rank=2, dropout=0.2)
    return fit(model, manifests, folder, make(name), kind=kind, steps=STEPS, resume=resume, trainer=settings, lora=lora)


QUICK = ("Fish", "Fishr")
NAMES = [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n, _ in algorithms.named()]


@pytest.mark.parametrize("name", NAMES)
def test_every_algorithm_trains_adapters_and_resumes_exactly(
    name: str, tiny_model: Path, manifests: dict[str, str], tmp_path: Path
):
    module = run(tiny_model, manifests, tmp_path / "whole", name)
    with pytest.raises(SystemExit):
        run(tiny_model, manifests, tmp_path / "parts", name, stop=True)
    run(tiny_model, manifests, tmp_path / "parts", name, resume=newest_good(tmp_path / "parts"))
    assert_same(what_is_left(tmp_path / "whole"), what_is_left(tmp_path / "parts"))
    old, new = (dict(read_model_folder(path)[0].named_parameters()) for path in (tiny_model, tmp_path / "whole/model"))
    changed = {key for key in old if not torch.equal(old[key], new[key])}
    assert changed == {key for key in old if key.endswith(("q_proj.weight", "v_proj.weight"))}
    kept, _ = read_model_folder(tmp_path / "parts/model")
    torch.testing.assert_close(logits(kept.eval()), logits(module.model.eval()), rtol=1e-4, atol=1e-5)


def test_the_folder_is_a_plain_whisper_that_merges(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    for name in ("a", "b"):
        run(tiny_model, manifests, tmp_path / name, "ERM" if name == "a" else "Fish")
    names = {path.name for path in (tmp_path / "a" / "model").iterdir()}
    assert "adapter_config.json" not in names and "model.safetensors" in names
    assert json.loads((tmp_path / "a/model/config.json").read_text()) == json.loads(
        (tiny_model / "config.json").read_text()
    )
    models = [str(tmp_path / name / "model") for name in ("a", "b")]
    merge(
        [
            "linear",
            "--weight",
            "0.5",
            "--normalize",
            "false",
            "--models",
            *models,
            "--base",
            str(tiny_model),
            "--out",
            str(tmp_path / "merged"),
        ]
    )
    a, b, mean = (dict(read_model_folder(path)[0].named_parameters()) for path in (*models, tmp_path / "merged"))
    for key, weight in mean.items():
        torch.testing.assert_close(weight, (a[key] + b[key]) / 2, msg=key)


def test_a_checkpoint_with_adapters_is_not_resumed_without(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    with pytest.raises(SystemExit):
        run(tiny_model, manifests, tmp_path, "ERM", stop=True)
    with pytest.raises(UserError, match=r"of a run with model\.lora, this one is without"):
        fit(tiny_model, manifests, tmp_path, ERM(), steps=STEPS, resume=newest_good(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank is 0, expected 1 or more"),
        ({"dropout": 1.0}, "dropout is 1.0, expected 0 or more and less than 1"),
        ({"targets": []}, "targets is empty"),
        ({"targets": ["q_porj"]}, "names 'q_porj', which is no projection.* did you mean 'q_proj'"),
        ({"targets": ["proj_out"]}, "names 'proj_out', which is no projection"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str, tiny_model: Path):
    with pytest.raises(UserError, match=message):
        LoRA(**options).add_to(read_model_folder(tiny_model)[0], seed=0)


def test_without_peft_it_is_said(tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"needs peft .*pip install -e '\.\[lora\]'"):
        SMALL.add_to(read_model_folder(tiny_model)[0], seed=0)


def test_frozen_parts_stay_and_all_else_moves(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    start = dict(read_model_folder(tiny_model)[0].named_parameters())
    parts = ["encoder", "decoder.layers.0.fc1", "*.layer_norm"]
    end = weights(fit(tiny_model, manifests, tmp_path, ERM(), frozen=parts))
    for name, weight in end.items():
        # Encoder positions are frozen in every Whisper, and lie in the encoder.
        frozen = name.startswith(("model.encoder.", "model.decoder.layers.0.fc1")) or ".layer_norm." in name
        assert frozen == torch.equal(weight, start[name]), name


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["encodr"], "names 'encodr', which is no part of the model, did you mean 'encoder'"),
        (["*"], "leaves nothing to train"),
    ],
)
def test_parts_that_are_none_are_refused(parts: list[str], message: str, tiny_model: Path):
    with pytest.raises(UserError, match=message):
        freeze(read_model_folder(tiny_model)[0], parts)


def test_the_overlay_lies_over_a_recipe(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    arguments = ["--config", "fishr.yaml", "--config", "lora.yaml", "--model.backbone", str(tiny_model)]
    arguments += [f"--data.train.{pair}={manifests[pair]}" for pair in PAIRS] + ["--data.workers", "0"]
    arguments += ["--trainer.accelerator", "cpu", "--output_root", str(tmp_path), "--trainer.enable_progress_bar=false"]
    cli = TrainingRun([*arguments, "--trainer.max_steps", "2", "--model.lora.rank", "3", "--model.frozen", "[encoder]"])
    cli.fit()
    trainable = {name for name, parameter in cli.model.model.named_parameters() if parameter.requires_grad}
    assert all(".decoder." in name and ".lora_" in name for name in trainable) and trainable
    assert cli.model.lora == LoRA(rank=3, alpha=32)
    assert (CONFIGS / "overlay/lora.yaml").is_file() and (tmp_path / "fishr-lora" / "model" / "config.json").is_file()
    with pytest.raises(UserError, match="model.lora: LoRA has no option 'rnak', did you mean 'rank'"):
        TrainingRun([*arguments, "--model.lora.rnak", "3"])
