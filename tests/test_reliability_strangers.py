"""Files from strangers are data: nothing in them runs, points outside, or takes more room than they have themselves."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from backbone.model_folder.locate import weight_files
from backbone.model_folder.read import read_model_folder
from backbone.model_folder.stored import ModelFolder
from common.audio import load_waveform
from common.configs import read_yaml
from common.errors import UserError
from common.manifest import read_manifest
from common.trust import audio_outside, trust
from training.training_run import TrainingRun

ROW = {"duration": 1.0, "text": "책 book", "pair": "ko-en", "matrix_language": "ko"}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that nothing may make."""
    return tmp_path / "code-has-run"


# Manifests ----------------------------------------------------------------------------------------------------------


def manifest(folder: Path, audio: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "m.jsonl").write_text(json.dumps(ROW | {"audio_filepath": audio}) + "\n", encoding="utf-8")
    return folder / "m.jsonl"


def test_sound_from_outside_of_a_manifests_folder_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    private = tmp_path / "private" / "diary.wav"
    private.parent.mkdir()
    soundfile.write(private, np.zeros(16_000), 16_000)
    theirs = tmp_path / "theirs"
    (theirs / "sub").mkdir(parents=True)
    monkeypatch.chdir(theirs)
    for name, audio in enumerate((str(private), "../private/diary.wav", "sub/../../private/diary.wav")):
        named = manifest(theirs / f"{name}", audio if audio[0] == "/" else f"../{audio}")
        for _ in range(2):
            assert read_manifest(named)[0].audio == private
        assert capsys.readouterr().err == (
            f"{named}: takes sound from {private.parent}, outside its own folder and the working folder\n"
        )
    assert audio_outside(theirs / "m.jsonl", [theirs, private.parent]) == str(private.parent)
    (tmp_path / "private-too").mkdir()  # a folder, not the beginning of a name
    trust(tmp_path / "priv")
    assert audio_outside(theirs / "m.jsonl", [private.parent]) == str(private.parent)
    trust(private.parent)
    assert audio_outside(theirs / "m.jsonl", [private.parent]) == ""
    assert audio_outside(theirs / "m.jsonl", [tmp_path / "private-too"]) == str(tmp_path / "private-too")


def test_one_s_own_folders_are_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    audio = tmp_path / "work" / "audio" / "a.wav"
    audio.parent.mkdir(parents=True)
    soundfile.write(audio, np.zeros(16_000), 16_000)
    monkeypatch.chdir(tmp_path / "work")
    assert read_manifest(manifest(tmp_path / "work" / "data", str(audio)))[0].audio == audio
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "linked").symlink_to(audio.parent)  # whoever made the link wanted it
    monkeypatch.chdir(tmp_path / "corpus")
    assert read_manifest(manifest(tmp_path / "corpus", "linked/a.wav"))[0].audio.is_file()
    with pytest.raises(UserError, match="the audio file .*corpus/a.wav does not exist"):
        read_manifest(manifest(tmp_path / "corpus", "linked/../a.wav"))  # not the folder above the link's target


# Model folders ------------------------------------------------------------------------------------------------------


def test_no_code_of_a_model_folder_runs(tiny_model: Path, tmp_path: Path, marker: Path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    (folder / "__init__.py").write_text(f"open({str(marker)!r}, 'w')\n")
    classes = {"AutoConfig", "AutoModel", "AutoModelForSpeechSeq2Seq", "AutoProcessor", "AutoFeatureExtractor"}
    maps = {"auto_map": dict.fromkeys(classes, "evil.Evil") | {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    named = {"tokenizer_class": "Evil", "processor_class": "Evil", "feature_extractor_type": "Evil"}
    read_model_folder(tiny_model)
    for extra in (maps, maps | named):
        for file in folder.glob("*.json"):
            content = json.loads((tiny_model / file.name).read_text(encoding="utf-8"))
            if isinstance(content, dict) and file.name not in ("tokenizer.json", "vocab.json"):
                file.write_text(json.dumps(content | extra), encoding="utf-8")
        try:
            read_model_folder(folder)
        except UserError as error:
            assert "the model cannot be loaded" in str(error)
        assert not marker.exists()


class _Runs:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_no_pickle_of_a_model_folder_is_opened(tiny_model: Path, tmp_path: Path, marker: Path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    torch.save(_Runs(marker), folder / "pytorch_model.bin")
    read_model_folder(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds pytorch_model.bin and no model.safetensors; pickles are not opened"):
        read_model_folder(folder)
    assert not marker.exists()


@pytest.mark.parametrize("shard", ["../other/model.safetensors", "/etc/passwd", "sub/a.safetensors", ".."])
def test_an_index_may_not_point_outside_of_its_folder(shard: str, tmp_path: Path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(UserError, match=r"no index of safetensors files|does not exist"):
        weight_files(tmp_path)


# Safetensors --------------------------------------------------------------------------------------------------------


def safetensors(path: Path, header: Any, data: bytes = bytes(64), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def tensors_in(folder: Path) -> Any:
    (folder / "config.json").write_text("{}")
    return ModelFolder(folder, "x").tensors


def entry(**changed: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | changed


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry(data_offsets=[-16, 0])},  # before the data: the header itself
        {"a": entry(data_offsets=[16, 0])},
        {"a": entry(), "b": entry()},  # one over the other
        {"a": entry(), "b": entry(data_offsets=[8, 24])},
        {"a": entry(shape=[-4], data_offsets=[16, 0])},
        {"a": entry(shape=[2**40, 2**40], data_offsets=[0, 2**82])},
        {"a": entry(shape=[4.0])},
        {"a": entry(shape=[True, 4])},
        {"a": entry(shape="4")},
        {"a": entry(dtype=["F32"])},
        {"a": entry(dtype=None)},
        {"a": entry(data_offsets=[0, 16, 32])},
        {"a": entry(data_offsets=[0, 4096])},
        {"a": 3},
        {"a": None},
        [],
        3,
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"\xff\xfe{}",
        b"",
    ],
    ids=lambda header: str(header)[:60],
)
def test_a_header_that_lies_is_refused(header: Any, tmp_path: Path):
    safetensors(tmp_path / "model.safetensors", header)
    with pytest.raises(UserError, match=r"model\.safetensors: not a safetensors file, or cut short"):
        tensors_in(tmp_path)


def test_a_header_may_not_be_larger_than_the_format_allows(tmp_path: Path):
    file = safetensors(tmp_path / "model.safetensors", {"a": entry()}, length=2**62)
    with pytest.raises(UserError, match=r"model\.safetensors: not a safetensors file"):
        tensors_in(tmp_path)
    with file.open("r+b") as stream:  # a sparse file as large as the header it promises
        stream.write(struct.pack("<Q", 200_000_000))
        stream.truncate(400_000_000)
    with pytest.raises(UserError, match=r"model\.safetensors: not a safetensors file"):
        tensors_in(tmp_path)


# Audio --------------------------------------------------------------------------------------------------------------


def wav(path: Path, rate_hz: int = 16_000, channels: int = 1, frames: int = 1600) -> Path:
    samples = bytes(2 * channels * frames)
    head = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * channels * 2 % 2**32, channels * 2, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(samples)) + samples
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return path


@pytest.mark.parametrize("rate_hz", [44_101, 191_999, 2**31 - 1, 15_999])
def test_a_rate_that_would_make_an_absurd_filter_is_refused(rate_hz: int, tmp_path: Path):
    with pytest.raises(UserError, match=f"a.wav: a sample rate of {rate_hz} Hz is none that audio is recorded at"):
        load_waveform(wav(tmp_path / "a.wav", rate_hz))


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 32_000, 44_056, 44_100, 48_000, 96_000, 192_000])
def test_rates_of_recorders_are_taken(rate_hz: int, tmp_path: Path):
    assert load_waveform(wav(tmp_path / "a.wav", rate_hz, frames=rate_hz // 10)).shape == (1600,)


def test_a_header_that_promises_days_of_audio_takes_no_room(tmp_path: Path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros(16_000), 16_000)
    data = bytearray(path.read_bytes())
    assert data[:4] == b"fLaC" and data[4] & 0x7F == 0  # STREAMINFO: 36 bits of total samples end 18 bytes in
    data[21] |= 0x0F
    data[22:26] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert soundfile.info(path).frames == 2**36 - 1
    with pytest.raises(UserError, match="68719476735 samples in 1 channels at once"):
        load_waveform(path)
    with pytest.raises(UserError, match=r"cut short|cannot be read"):
        load_waveform(path, 0.0, 30.0)


# YAML ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!python/module:os", "!x"]
)
def test_yaml_with_tags_is_refused(tag: str, tmp_path: Path, marker: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {tag} ['touch {marker}']\n")
    with pytest.raises(UserError, match="recipe.yaml: not YAML: could not determine a constructor"):
        read_yaml(path)
    with pytest.raises(UserError, match="recipe.yaml: not YAML: could not determine a constructor"):
        TrainingRun(["--config", str(path)])
    assert not marker.exists()


def doubled(form: str, levels: int = 60) -> str:
    """YAML in which each line holds the one before it twice: 2^60 values."""
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {form.replace('A', f'*a{n - 1}')}" for n in range(1, levels))]
    return "\n".join([*lines, f"model: *a{levels - 1}", ""])


BOMBS = {
    "of lists": doubled("[A, A]"),
    "of merges": doubled("{<<: [A, A]}"),
    "within itself": "model: &a [*a]\n",
    "in a key": "model: &a\n  ? [*a]\n  : 1\n",
    "of brackets": "model: " + "[" * 20_000 + "\n",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_yaml_that_stands_for_more_than_it_says_is_refused(bomb: str, tmp_path: Path):
    """At once: written out, the first two would fill every disk there is."""
    path = tmp_path / "recipe.yaml"
    path.write_text(BOMBS[bomb])
    message = "too deep" if bomb == "of brackets" else "its aliases stand for more than 100,000 values"
    with pytest.raises(UserError, match=f"recipe.yaml: not YAML: .*{message}"):
        read_yaml(path)
    with pytest.raises(UserError, match=f"recipe.yaml: not YAML: .*{message}"):
        TrainingRun(["--config", str(path)])


def test_a_recipe_cannot_bring_such_a_file_along(tmp_path: Path):
    (tmp_path / "data.yaml").write_text(doubled("[A, A]").replace("model:", "train:"))
    (tmp_path / "recipe.yaml").write_text("data: data.yaml\n")
    with pytest.raises(UserError, match="recipe.yaml: data is 'data.yaml', expected a mapping of its options"):
        TrainingRun(["--config", str(tmp_path / "recipe.yaml")])


def test_aliases_that_save_typing_are_read(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("train: &all {ko-en: a.jsonl}\ntest: {<<: *all, ja-en: b.jsonl}\nmodel: *all\n")
    assert read_yaml(path) == {
        "train": {"ko-en": "a.jsonl"},
        "test": {"ko-en": "a.jsonl", "ja-en": "b.jsonl"},
        "model": {"ko-en": "a.jsonl"},
    }
