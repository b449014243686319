"""What comes in by the model door: whole Whispers however they were saved, and one message for everything else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperConfig, WhisperForConditionalGeneration

from backbone.model_folder.alike import check_alike
from backbone.model_folder.architecture import DEFAULTS, EMBEDDING, PROJECTION, expected_shapes
from backbone.model_folder.read import read, read_model_folder
from backbone.read_for_training import read_for_training
from common.errors import UserError
from merging.command import main as merge

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_model, tmp_path / "tuned")
    return tmp_path / "tuned"


def change(file: Path, **changed: Any) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | changed, ensure_ascii=False), encoding="utf-8")


def save(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def test_defaults_and_shapes_are_those_of_transformers(tiny_model: Path):
    config = WhisperConfig()
    assert {key: getattr(config, key) for key in DEFAULTS} == DEFAULTS
    for sizes in ({}, {"encoder_layers": 1, "decoder_layers": 3, "num_mel_bins": 128, "tie_word_embeddings": False}):
        with torch.device("meta"):
            model = WhisperForConditionalGeneration(WhisperConfig(**sizes))
        expected = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
        assert expected_shapes(DEFAULTS | sizes) == expected


# What comes in ------------------------------------------------------------------------------------------------------


def without_tie_key(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    del content["tie_word_embeddings"]
    (folder / "config.json").write_text(json.dumps(content))


def without_timestamps(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["content"][2:3].isdigit()]
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")


def embedding_by_its_other_name(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights[PROJECTION] = weights.pop(EMBEDDING)
    save(folder, weights)


def embedding_by_both_names(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save(folder, weights | {PROJECTION: weights[EMBEDDING].clone()})


@pytest.mark.parametrize(
    "other_way", [without_tie_key, without_timestamps, embedding_by_its_other_name, embedding_by_both_names]
)
def test_one_whisper_saved_another_way_merges_with_its_base(
    other_way: Callable[[Path], None], tiny_model: Path, folder: Path, tmp_path: Path
):
    other_way(folder)
    for base, tuned in ((tiny_model, folder), (folder, tiny_model)):
        merge(["wise_ft", "--base", str(base), "--models", str(tuned), "--out", str(tmp_path / "merged")])
        merged = load_file(tmp_path / "merged" / WEIGHTS)
        expected = load_file(tiny_model / WEIGHTS)
        assert merged.keys() == expected.keys()
        assert all(torch.equal(merged[name], weight) for name, weight in expected.items())
    loaded = read_model_folder(folder)[0].state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in expected.items())
    if other_way is not without_tie_key:
        assert read(folder).weights_hash == read(tiny_model).weights_hash


def test_an_output_projection_of_its_own_is_kept(tiny_model: Path, folder: Path, tmp_path: Path):
    weights = load_file(folder / WEIGHTS)
    weights[PROJECTION] = weights[EMBEDDING] + 1
    save(folder, weights)
    with pytest.raises(UserError, match="proj_out.weight is not model.decoder.embed_tokens.weight, though"):
        read(folder)
    change(folder / "config.json", tie_word_embeddings=False)
    shutil.copytree(folder, tmp_path / "other")
    merge(["linear", "--base", str(folder), "--models", str(tmp_path / "other"), "--out", str(tmp_path / "merged")])
    assert torch.equal(load_file(tmp_path / "merged" / WEIGHTS)[PROJECTION], weights[PROJECTION])
    with pytest.raises(UserError, match="config.json has tie_word_embeddings False, the base .* has True"):
        check_alike(read(tiny_model), read(folder))


def test_the_hash_is_of_names_dtypes_shapes_and_bytes(tiny_model: Path, folder: Path):
    whole = read(tiny_model).weights_hash
    assert whole.startswith("sha256:") and read(folder).weights_hash == whole
    model = read_model_folder(folder)[0]
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1 and read(folder).weights_hash == whole
    for file in folder.glob("model*.safetensors*"):
        file.unlink()
    weights = load_file(tiny_model / WEIGHTS)
    weights[EMBEDDING][0, 0] += 1
    save(folder, weights)
    other = read(folder).weights_hash
    assert other != whole
    weights[EMBEDDING][0, 0] += 1
    save(folder, weights)  # a file of the same name and size
    assert read(folder).weights_hash not in (whole, other)
    save(folder, {name: weight.half() for name, weight in load_file(tiny_model / WEIGHTS).items()})
    assert read(folder).weights_hash != whole


# What is refused ----------------------------------------------------------------------------------------------------


def prefixed(prefix: str) -> Callable[[Path], None]:
    return lambda folder: save(folder, {prefix + name: w for name, w in load_file(folder / WEIGHTS).items()})


def not_finite(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["model.encoder.conv1.weight"][0, 0, 0] = float("nan")
    save(folder, weights)


def other_mel_bins(folder: Path) -> None:
    change(folder / "preprocessor_config.json", feature_size=128)


def no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        (folder / name).unlink()


def adapter(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')


def conversion(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"\0" * 64)
    (folder / "config.json").write_text('{"alignment_heads": [], "lang_ids": []}')


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def english(folder: Path) -> None:
    change(folder / "generation_config.json", is_multilingual=False)


def english_tokens(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").write_text(text.replace("<|transcribe|>", "<|xtranscribe|>"), encoding="utf-8")


def one_more_weight(folder: Path) -> None:
    save(folder, load_file(folder / WEIGHTS) | {"model.adapter.weight": torch.zeros(2)})


def flipped_bit_in_a_name(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    name = b'"model.encoder.conv1.weight"'
    assert content.count(name) == 1
    (folder / WEIGHTS).write_bytes(content.replace(name, name.replace(b"conv1", b"conv0")))


def sized(**sizes: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / "config.json", **sizes)


REFUSED = {
    "module.": (prefixed("module."), r"are missing, .* are unknown, such as module.model.*strip the prefix 'module.'"),
    "_orig_mod.": (prefixed("_orig_mod."), r"strip the prefix '_orig_mod.'"),
    "one more": (one_more_weight, "1 is unknown, such as model.adapter.weight"),
    "a flipped bit": (flipped_bit_in_a_name, "missing.*unknown, such as model.encoder.conv0.weight"),
    "NaN": (not_finite, "tuned: the tensor model.encoder.conv1.weight holds NaN or infinite weights"),
    "mel bins": (other_mel_bins, r"preprocessor_config.json: 128 mel bins, but config.json says 80"),
    "no tokenizer": (no_tokenizer, "has no tokenizer .*copy tokenizer.json"),
    "adapter": (adapter, r"this is a LoRA adapter .*merge_and_unload"),
    "conversion": (conversion, "this is a CTranslate2 conversion .*give the folder that it was converted from"),
    "pickle": (pickled, "holds pytorch_model.bin and no model.safetensors; .*save_pretrained"),
    "English": (english, "this is an English-only Whisper; take a multilingual one"),
    "English tokens": (english_tokens, "this is an English-only Whisper; take a multilingual one"),
    "layers": (sized(encoder_layers=10**7), "encoder_layers is 10000000, expected 1 to 256"),
    "feature size": (sized(num_mel_bins=10**9), "num_mel_bins is 1000000000, expected 1 to"),
    "width": (sized(d_model=2048), r"has shape \[.*, config.json says \[.*2048"),
    "no number": (sized(vocab_size="many"), "vocab_size is 'many', expected a value of type int"),
    "other model": (sized(model_type="wav2vec2"), "model_type is 'wav2vec2', expected 'whisper'"),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_no_whole_multilingual_whisper_is_refused(fault: str, tiny_model: Path, folder: Path, tmp_path: Path):
    damage, message = REFUSED[fault]
    damage(folder)
    with pytest.raises(UserError, match=message):
        read_model_folder(folder)
    with pytest.raises(UserError, match=message):
        read_for_training(str(folder), lora=None, seed=0, frozen=[], gradient_checkpointing=False, window="30s")
    with pytest.raises(UserError, match=message):
        merge(["wise_ft", "--base", str(tiny_model), "--models", str(folder), "--out", str(tmp_path / "merged")])
    assert not (tmp_path / "merged").exists()


def test_an_id_for_two_tokens_is_refused(tiny_model: Path, folder: Path):
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    token = next(token for token in content["added_tokens"] if token["content"] == "<|ko|>")
    token["content"] = "<|other|>"
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"gives '<\|other\|>' the id \d+, that of .* gives '<\|ko\|>' that id"):
        check_alike(read(tiny_model), read(folder))


@pytest.mark.whisper
def test_the_published_whisper_comes_in():
    try:
        found = read("openai/whisper-base")
    except UserError:
        pytest.skip("openai/whisper-base is not in the Hub's cache")
    assert found.config["tie_word_embeddings"] and len(found.tensors) == len(expected_shapes(found.config))
