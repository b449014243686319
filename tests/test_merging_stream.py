"""The streaming engine: whole models against mergekit; nothing depends on chunks, threads or the order of models."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration

from common.errors import UserError
from merging import merge_engine as engine
from merging.command import main
from merging.mergekit_engine import METHODS
from merging.methods import methods
from tests.merging_models import fine_tune, tiny_whisper, whispers  # noqa: F401

PAIRS = ("ko_en", "ja_en", "de_en")


def _merge(
    root: Path, method: str, out: Path, *options: str, pairs: tuple[str, ...] = PAIRS
) -> dict[str, torch.Tensor]:
    most = methods()[method].models[1]
    models = [str(root / pair / "model") for pair in pairs][: int(min(most, len(pairs)))]
    main([method, "--base", str(root / "base"), "--models", *models, "--out", str(out), *map(str, options)])
    return load_file(out / "model.safetensors")


def _assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("method", [name for name in METHODS if "seed" not in methods()[name].parameters])
def test_both_engines_make_the_same_model(whispers: Path, tmp_path: Path, method: str):  # noqa: F811
    pytest.importorskip("mergekit")
    by_module = ["--lambda", "encoder=0.7", "decoder=1,0.5"] if "lambda" in methods()[method].parameters else []
    ours = _merge(whispers, method, tmp_path / "ours", *by_module)
    theirs = _merge(whispers, method, tmp_path / "theirs", *by_module, "--engine", "mergekit")
    _assert_equal(ours, theirs, 1e-6)


def test_without_mergekit_its_engine_says_so(whispers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "mergekit", None)
    with pytest.raises(UserError, match="mergekit is not installed, as on Python 3.14.*leave out --engine mergekit"):
        _merge(whispers, "ties", tmp_path / "out", "--engine", "mergekit")
    assert not (tmp_path / "out").exists()
    _merge(whispers, "ties", tmp_path / "out")


@pytest.mark.parametrize("method", methods())
def test_nothing_depends_on_stretches_or_threads(
    whispers: Path,  # noqa: F811
    tmp_path: Path,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
):
    usual = _merge(whispers, method, tmp_path / "usual")
    monkeypatch.setattr(engine, "_STRETCH", 96)
    monkeypatch.setattr(engine, "cores", lambda: 5)
    _assert_equal(_merge(whispers, method, tmp_path / "small"), usual)


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "della"])
def test_masks_follow_seed_and_model_but_not_the_order(whispers: Path, tmp_path: Path, method: str):  # noqa: F811
    usual = _merge(whispers, method, tmp_path / "usual")
    _assert_equal(_merge(whispers, method, tmp_path / "turned", pairs=PAIRS[::-1]), usual, 1e-6)
    other = _merge(whispers, method, tmp_path / "seed", "--seed", "1")
    assert not torch.equal(other["model.encoder.conv1.weight"], usual["model.encoder.conv1.weight"])


def test_masks_differ_between_models_and_tensors(tmp_path: Path):
    base = load_file(tiny_whisper(tmp_path / "base") / "model.safetensors")
    zero = {name: torch.zeros_like(tensor) for name, tensor in base.items()}
    save_file(zero, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    for pair, value in (("ko_en", 1.0), ("ja_en", 2.0)):
        shutil.copytree(tmp_path / "base", tmp_path / pair / "model")
        path = tmp_path / pair / "model" / "model.safetensors"
        save_file({name: tensor + value for name, tensor in zero.items()}, path, metadata={"format": "pt"})
    merged = _merge(tmp_path, "dare_linear", tmp_path / "out", "--rescale", "none", pairs=PAIRS[:2])
    masks = {name: torch.stack([tensor % 2 == 1, tensor >= 2]).flatten(1).float() for name, tensor in merged.items()}
    one, two = masks["model.decoder.embed_tokens.weight"]
    assert abs(one.mean() - 0.5) < 0.03 and abs(two.mean() - 0.5) < 0.03
    assert abs((one * two).mean() - 0.25) < 0.03, "the models' masks must be independent"
    here, there = (masks[f"model.{side}.layers.0.fc1.weight"][0] for side in ("encoder", "decoder"))
    assert abs((here * there).mean() - 0.25) < 0.1, "the tensors' masks must be independent"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_in_and_out_is_float32_arithmetic_and_one_cast(tmp_path: Path, dtype: str):
    kind = getattr(torch, dtype)
    tiny_whisper(tmp_path / "base")
    for seed, name in enumerate(PAIRS[:2], start=1):
        fine_tune(tmp_path / "base", tmp_path / name / "model", seed, scale=0.1, dtype=kind)
    merged = _merge(tmp_path, "linear", tmp_path / "out", "--dtype", dtype, pairs=PAIRS[:2])
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in PAIRS[:2])
    for name, tensor in merged.items():
        assert tensor.dtype == kind
        assert torch.equal(tensor, ((one[name].float() + two[name].float()) / 2).to(kind)), name
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == dtype
    assert WhisperForConditionalGeneration.from_pretrained(tmp_path / "out").dtype == kind


def test_the_dtype_is_the_bases_unless_said(whispers: Path, tmp_path: Path):  # noqa: F811
    half = {name: tensor.half() for name, tensor in load_file(whispers / "base" / "model.safetensors").items()}
    root = tmp_path / "models"
    root.symlink_to(whispers)
    assert {tensor.dtype for tensor in _merge(root, "ties", tmp_path / "out").values()} == {torch.float32}
    other = tiny_whisper(tmp_path / "half" / "base")
    save_file(half, other / "model.safetensors")
    (tmp_path / "half" / "ko_en").symlink_to(whispers / "ko_en")
    merged = _merge(tmp_path / "half", "ties", tmp_path / "out2", pairs=PAIRS[:1])
    assert {tensor.dtype for tensor in merged.values()} == {torch.float16}


def test_sharded_models_merge_like_whole_ones(whispers: Path, tmp_path: Path):  # noqa: F811
    sharded = tmp_path / "models"
    for seed, name in enumerate(PAIRS, start=1):
        folder = fine_tune(whispers / "base", sharded / name / "model", seed, max_shard_size="40KB")
        assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    (sharded / "base").symlink_to(whispers / "base")
    _assert_equal(_merge(sharded, "ties", tmp_path / "shards"), _merge(whispers, "ties", tmp_path / "whole"))


def test_a_missing_shard_is_named(whispers: Path, tmp_path: Path):  # noqa: F811
    folder = fine_tune(whispers / "base", tmp_path / "ko_en" / "model", 1, max_shard_size="40KB")
    (tmp_path / "base").symlink_to(whispers / "base")
    shard = sorted(folder.glob("model-*"))[0]
    shard.unlink()
    with pytest.raises(UserError, match=f"names {shard.name}, which does not exist"):
        _merge(tmp_path, "ties", tmp_path / "out", pairs=PAIRS[:1])


def test_128_mel_bins(tmp_path: Path):
    tiny_whisper(tmp_path / "base", mel_bins=128)
    fine_tune(tmp_path / "base", tmp_path / "ko_en" / "model", 1)
    merged = _merge(tmp_path, "ties", tmp_path / "out", pairs=PAIRS[:1])
    assert merged["model.encoder.conv1.weight"].shape == (16, 128, 3)
    assert json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())["feature_size"] == 128


@pytest.mark.slow
def test_the_shapes_of_large_v3_in_shards_of_float16(tmp_path: Path):
    """As whisper-large-v3 is published, with two layers a side: 128 mel bins, 51,866 tokens, width 1,280."""
    shapes = {
        "vocab_size": 51_866, "d_model": 1280, "encoder_attention_heads": 20, "decoder_attention_heads": 20,
        "encoder_ffn_dim": 5120, "decoder_ffn_dim": 5120, "max_source_positions": 1500, "max_target_positions": 448,
    }  # fmt: skip
    tiny_whisper(tmp_path / "start", mel_bins=128, **shapes)
    folders = [tmp_path / "base", *(tmp_path / name / "model" for name in PAIRS[:2])]
    for seed, folder in enumerate(folders):
        fine_tune(tmp_path / "start", folder, seed, 0.01 * (seed > 0), dtype=torch.float16, max_shard_size="100MB")
        assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    _merge(tmp_path, "ties", tmp_path / "ties", pairs=PAIRS[:2])
    merged = _merge(tmp_path, "task_arithmetic", tmp_path / "out", "--weight", "0.5", "0.25", pairs=PAIRS[:2])
    loaded = [WhisperForConditionalGeneration.from_pretrained(folder).state_dict() for folder in folders]
    for name in ("model.encoder.conv1.weight", "model.decoder.embed_tokens.weight"):
        base, one, two = (weights[name].float() for weights in loaded)
        assert torch.equal(merged[name], (base + (0.5 * (one - base) + 0.25 * (two - base))).half()), name
    assert merged["model.encoder.conv1.weight"].shape == (1280, 128, 3)
    for name in ("ties", "out"):
        model, info = WhisperForConditionalGeneration.from_pretrained(tmp_path / name, output_loading_info=True)
        assert not any(info.values()) and model.dtype == torch.float16


def test_a_hub_id_is_read_from_the_cache(whispers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    import huggingface_hub.constants as constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "hub" / "models--someone--whisper-base"
    (repo / "snapshots").mkdir(parents=True)
    (repo / "snapshots" / commit).symlink_to(whispers / "base")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = str(whispers / "ko_en" / "model")
    main(["ties", "--base", "someone/whisper-base", "--models", model, "--out", str(tmp_path / "out")])
    assert "someone/whisper-base" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(UserError, match="someone/else: no such folder, and the Hugging Face Hub does not provide it"):
        main(["ties", "--base", "someone/else", "--models", model, "--out", str(tmp_path / "out2")])


@pytest.mark.slow
def test_killed_at_any_moment_no_partial_folder_is_taken_for_a_model(whispers: Path, tmp_path: Path):  # noqa: F811
    models = [str(whispers / pair / "model") for pair in PAIRS]
    out = tmp_path / "merged"
    command = [sys.executable, "merge.py", "ties", "--base", str(whispers / "base"), "--models", *models]
    for place in range(12):
        job = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.08 + 0.04 * place)
        job.send_signal(signal.SIGKILL)
        job.wait()
        if out.exists():
            WhisperForConditionalGeneration.from_pretrained(out)
            assert (out / "merge_recipe.yaml").is_file() and (out / "README.md").is_file()
    subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
    WhisperForConditionalGeneration.from_pretrained(out)
