"""A merge ends in a complete, loadable model folder, or in one message and nothing."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, WhisperForConditionalGeneration

from common.errors import UserError
from decoding.faster_whisper import convert
from merging.command import main
from merging.methods import methods
from tests.merging_models import fine_tune, tiny_whisper, whispers  # noqa: F401

PAIRS = ("ko_en", "ja_en", "de_en")


def _merge(root: Path, method: str, *options: str, pairs: tuple[str, ...] = PAIRS) -> None:
    models = [str(root / pair / "model") for pair in pairs]
    main([method, "--base", str(root / "base"), "--models", *models, *map(str, options)])


def test_the_folder_is_complete_and_loads(whispers: Path, tmp_path: Path):  # noqa: F811
    _merge(whispers, "ties", "--out", tmp_path / "merged")
    assert sorted(path.name for path in (tmp_path / "merged").iterdir()) == [
        "README.md", "config.json", "generation_config.json", "merge_recipe.yaml", "model.safetensors",
        "preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    model, info = WhisperForConditionalGeneration.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert model.proj_out.weight.data_ptr() == model.model.decoder.embed_tokens.weight.data_ptr()
    processor = AutoProcessor.from_pretrained(tmp_path / "merged")
    assert len(processor.tokenizer) == model.config.vocab_size
    features = processor(torch.zeros(16000).numpy(), sampling_rate=16000, return_tensors="pt").input_features
    assert model.generate(features, max_new_tokens=3).shape[0] == 1
    old = json.loads((tmp_path / "merged" / "preprocessor_config.json").read_text())
    assert old["feature_size"] == 80 and old["processor_class"] == "WhisperProcessor"


@pytest.mark.parametrize("method", methods())
def test_every_method_s_folder_loads_and_converts(whispers: Path, tmp_path: Path, method: str):  # noqa: F811
    """CTranslate2 gives each token the logits that transformers does, from the folder alone."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    _merge(whispers, method, "--out", tmp_path / "merged", pairs=PAIRS[: int(min(3, methods()[method].models[1]))])
    model, info = WhisperForConditionalGeneration.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(info.values())
    processor = AutoProcessor.from_pretrained(tmp_path / "merged")
    sound = torch.randn(16000, generator=torch.Generator().manual_seed(0)).numpy()
    features = processor(sound, sampling_rate=16000, return_tensors="pt").input_features
    prompt = processor.tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|en|>", "<|notimestamps|>"])
    converted = ctranslate2.models.Whisper(str(convert(tmp_path / "merged", "identity", tmp_path / "cache")))
    written = converted.generate(
        ctranslate2.StorageView.from_array(features.numpy()), [prompt], beam_size=1, max_length=20,
        suppress_blank=False, suppress_tokens=[], return_logits_vocab=True,
    )[0]  # fmt: skip
    tokens = torch.tensor([prompt + written.sequences_ids[0]])
    expected = model(features, decoder_input_ids=tokens).logits[0, len(prompt) - 1 : -1].detach()
    found = torch.from_numpy(np.stack([np.array(logits) for logits in written.logits[0]])).reshape_as(expected)
    assert len(expected) > 3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("window", [1.5, "longest", None])
def test_the_merge_is_decoded_with_the_fine_tunes_window(whispers: Path, tmp_path: Path, window):  # noqa: F811
    root = tmp_path / "models"
    shutil.copytree(whispers, root)
    for folder in [root / "base"] if window is None else [root / pair / "model" for pair in PAIRS]:
        _record_window(folder, window or 1.0)  # the base's own is another
    _merge(root, "ties", "--out", tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "config.json").read_text()).get("encoder_window") == window


def test_all_subsets_are_the_three_pairs_and_the_three(whispers: Path, tmp_path: Path):  # noqa: F811
    _merge(whispers, "ties", "--subsets", "all", "--out", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ties-ja_en+de_en", "ties-ko_en+de_en", "ties-ko_en+ja_en", "ties-ko_en+ja_en+de_en",
    ]  # fmt: skip
    whole = load_file(tmp_path / "ties-ko_en+ja_en+de_en" / "model.safetensors")
    pair = load_file(tmp_path / "ties-ko_en+ja_en" / "model.safetensors")
    assert not torch.equal(whole["model.encoder.conv1.weight"], pair["model.encoder.conv1.weight"])


def test_the_recipe_makes_the_merge_again(whispers: Path, tmp_path: Path):  # noqa: F811
    _merge(whispers, "ties", "--density", "0.3", "--weight", "1", "0.5", "2", "--out", tmp_path / "first")
    recipe = tmp_path / "first" / "merge_recipe.yaml"
    assert yaml.safe_load(recipe.read_text())["weight"] == [1.0, 0.5, 2.0]
    main(["ties", "--config", str(recipe), "--out", str(tmp_path / "second")])
    for name in ("model.safetensors", "config.json", "merge_recipe.yaml"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_finished_merges_are_skipped_only_while_they_are_up_to_date(
    whispers: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    root = tmp_path / "models"
    shutil.copytree(whispers, root)
    again = ("--skip-existing", "--out", str(tmp_path / "merged"))
    _merge(root, "ties", *again)
    _merge(root, "ties", *again)
    _merge(root, "ties", "--lambda", "0.5", *again)
    weights = root / "ko_en" / "model" / "model.safetensors"
    weights.touch()  # what counts is what it holds
    _merge(root, "ties", "--lambda", "0.5", *again)
    _move_one_weight(weights)
    _merge(root, "ties", "--lambda", "0.5", *again)
    reported = ["up to date" in line for line in capsys.readouterr().out.splitlines()]
    assert reported == [False, True, False, True, False]


def _move_one_weight(file: Path) -> None:
    weights = load_file(file)
    weights["model.decoder.layers.1.fc1.bias"][7] += 0.25
    save_file(weights, file, metadata={"format": "pt"})


def _other_shape(root: Path) -> str:
    shutil.rmtree(root / "ja_en")
    tiny_whisper(root / "ja_en" / "model", encoder_ffn_dim=48)
    return r"ja_en/model: its config.json has encoder_ffn_dim 48, the base .* has 32"


def _other_tensor_shape(root: Path) -> str:
    other = tiny_whisper(root / "other", encoder_ffn_dim=48)
    shutil.copyfile(other / "model.safetensors", root / "ja_en" / "model" / "model.safetensors")
    return r"ja_en/model: the tensor model.encoder.layers.0.fc1.\w+ has shape \[48.*, config.json says \[32"


def _missing_tensor(root: Path) -> str:
    other = tiny_whisper(root / "other", encoder_layers=1)
    shutil.copyfile(other / "model.safetensors", root / "ja_en" / "model" / "model.safetensors")
    return "ja_en/model: the weights are not those that .*: 15 are missing, such as model.encoder.layers.1"


def _other_vocabulary(root: Path) -> str:
    path = root / "ja_en" / "model" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(tokenizer))
    return "ja_en.*its tokenizer gives 'a' the id"


def _cut_short(root: Path) -> str:
    path = root / "ja_en" / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    return r"ja_en.*cut short"


def _not_finite(root: Path) -> str:
    shutil.rmtree(root / "ja_en")
    fine_tune(root / "base", root / "ja_en" / "model", 1, scale=float("nan"))
    return "ja_en.*holds NaN"


def _no_weights(root: Path) -> str:
    (root / "ja_en" / "model" / "model.safetensors").unlink()
    return "ja_en.*holds neither model.safetensors"


def _missing(root: Path) -> str:
    shutil.rmtree(root / "ja_en")
    return "ja_en/model: no such model folder"


def _other_mel_bins(root: Path) -> str:
    shutil.rmtree(root / "ja_en")
    tiny_whisper(root / "ja_en" / "model", mel_bins=128)
    return "ja_en/model: its config.json has num_mel_bins 128, the base .* has 80"


def _other_window(root: Path) -> str:
    _record_window(root / "ja_en" / "model", 1.5)
    return "ja_en/model: was trained with the window 1.5, .*/ko_en/model with 30s"


def _record_window(folder: Path, window: float | str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"encoder_window": window}))


FAULTS = (
    _other_shape, _other_tensor_shape, _missing_tensor, _other_vocabulary, _cut_short, _not_finite, _no_weights,
    _missing, _other_mel_bins, _other_window,
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_merged_is_refused_and_leaves_nothing(whispers: Path, tmp_path: Path, fault):  # noqa: F811
    root = tmp_path / "models"
    shutil.copytree(whispers, root)
    message = fault(root)
    with pytest.raises(UserError, match=message):
        _merge(root, "ties", "--out", tmp_path / "out" / "merged")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--density", "1.5"], r"density is 1.5, expected a number in \(0, 1\]"),
        (["--density", "zero"], "density is 'zero', expected"),
        (["--weight", "1", "2"], "weight has 2 values for 3 models"),
        (["--lambda", "-1"], "lambda is -1"),
        (["--lambda", "encodr=1"], "no tensor belongs to the module 'encodr', did you mean 'encoder'"),
        (["--normalize", "maybe"], "normalize is 'maybe', expected true or false"),
        (["--config", "dmo"], r"--config dmo: no such file.*did you mean 'demo.yaml'"),
    ],
)
def test_a_wrong_option_is_answered_with_what_is_expected(
    whispers: Path,  # noqa: F811
    tmp_path: Path,
    options: list[str],
    message: str,
):
    with pytest.raises(UserError, match=message):
        _merge(whispers, "ties", *options, "--out", tmp_path / "merged")
    assert not list(tmp_path.iterdir())


def test_subsets_are_those_that_the_method_merges(whispers: Path, tmp_path: Path):  # noqa: F811
    _merge(whispers, "slerp", "--subsets", "all", "--out", tmp_path / "slerp")
    assert [len(path.name.split("+")) for path in (tmp_path / "slerp").iterdir()] == [2, 2, 2]
    _merge(whispers, "wise_ft", "--subsets", "all", "--out", tmp_path / "wise")
    assert {path.name for path in (tmp_path / "wise").iterdir()} == {f"wise_ft-{pair}" for pair in PAIRS}
    with pytest.raises(UserError, match="slerp merges exactly 2 fine-tunes, found 3"):
        _merge(whispers, "slerp", "--out", tmp_path / "out")


def test_a_subset_keeps_each_model_s_own_weight(whispers: Path, tmp_path: Path):  # noqa: F811
    _merge(whispers, "task_arithmetic", "--weight", "1", "0.5", "2", "--subsets", "all", "--out", tmp_path)
    for subset, weight in (("ko_en+ja_en", [1, 0.5]), ("ko_en+de_en", [1, 2]), ("ja_en+de_en", [0.5, 2])):
        recipe = yaml.safe_load((tmp_path / f"task_arithmetic-{subset}" / "merge_recipe.yaml").read_text())
        assert recipe["weight"] == weight


def test_a_full_disk_is_said_and_leaves_nothing(
    whispers: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    needed = r"No space left on device: needs 67\.\d MB, 1 kB of 2 kB are free on the disk of /"
    with pytest.raises(UserError, match=needed), monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000, total=2000))
        _merge(whispers, "ties", "--out", tmp_path / "merged")
    monkeypatch.setattr("backbone.model_folder.write.os.pwrite", full)
    with pytest.raises(UserError, match=r"No space left on device: .* on the disk of /.*; nothing was written"):
        _merge(whispers, "ties", "--out", tmp_path / "merged")
    assert not list(tmp_path.iterdir())


def test_della_needs_keep_probabilities_within_0_and_1(whispers: Path, tmp_path: Path):  # noqa: F811
    with pytest.raises(UserError, match=r"density 0.1 \+- epsilon 0.15 leaves \(0, 1\)"):
        _merge(whispers, "della", "--density", "0.5", "0.5", "0.1", "--out", tmp_path / "merged")


def test_the_command_line_waits_for_nothing_heavy():
    code = "import sys, merge; print({'torch', 'transformers', 'mergekit', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_a_folder_that_is_no_merge_is_never_replaced(whispers: Path, tmp_path: Path):  # noqa: F811
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is no merged model"):
        _merge(whispers, "ties", "--out", tmp_path)
    with pytest.raises(UserError, match=r"holds .*ko_en/model, which is being merged"):
        _merge(whispers, "ties", "--out", whispers / "ko_en")
    assert (tmp_path / "notes.txt").read_text() == "mine"
