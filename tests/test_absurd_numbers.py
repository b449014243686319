"""Numbers that nobody means are refused before they cost anything, and so is work that is far more than was meant."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backbone.model_folder.read import read, read_model_folder
from backbone.model_folder.write import check_disk
from common.constants import MOST_PROCESSES
from common.errors import UserError
from common.options import parse
from corpora.prepare_commands import commands
from datamodules.augment import SpecAugment
from datamodules.mixture import mixture, utterances_of
from datamodules.pairs import PairDataModule
from decoding.transcribe_options import TRANSCRIBE
from lightning_modules.trainer_checks import check_devices
from lightning_modules.whisper import WhisperModule
from merging.command import command as merge_command
from merging.command import main as merge
from merging.recipe import MergeRecipe, check_count, count_of_subsets, subsets
from merging.sweep import values
from tests.merging_models import whispers  # noqa: F401
from training.training_run import TrainingRun


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_model, tmp_path / "tuned")
    return tmp_path / "tuned"


CONFIG = {
    "encoder_layers": 10**7,
    "decoder_layers": 0,
    "num_hidden_layers": 10**7,  # transformers' second name of encoder_layers
    "hidden_size": 10**9,
    "num_mel_bins": 10**9,
    "max_source_positions": 10**12,
    "vocab_size": 10**30,
    "num_labels": 10**9,
    "dropout": 7,
    "attention_dropout": "0.1",
    "encoder_layerdrop": math.nan,
    "mask_time_prob": [1],
    "pad_token_id": 10**9,
    "eos_token_id": "x",
    "decoder_start_token_id": -5,
    "max_length": 1e9,
    "classifier_proj_size": 10**12,
    "mask_time_length": math.inf,
    "anything": {"of": [{"others": -(10**20)}]},
}
GENERATION = {
    "max_length": 10**9,
    "max_new_tokens": "many",
    "min_length": -1,
    "suppress_tokens": ["a"],
    "begin_suppress_tokens": [10**9],
    "lang_to_id": {"<|ko|>": 10**30},
    "task_to_id": [1],
    "no_timestamps_token_id": 1.5,
    "no_repeat_ngram_size": 10**12,
    "alignment_heads": [[0, 10**12]],
}
EXTRACTOR = {"n_fft": 10**9, "hop_length": 0, "sampling_rate": "16000", "chunk_length": 10**9, "feature_size": 10**9}


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [("config.json", *one) for one in CONFIG.items()]
    + [("generation_config.json", *one) for one in GENERATION.items()]
    + [("preprocessor_config.json", *one) for one in EXTRACTOR.items()],
)
def test_a_model_with_a_number_that_no_whisper_has_is_refused(file: str, key: str, value: Any, folder: Path):
    content = json.loads((folder / file).read_text(encoding="utf-8")) | {key: value}
    (folder / file).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=file) as error:
        read(folder)
    assert key in str(error.value) or key == "feature_size"
    assert len(str(error.value)) < 500


PARTS = {
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
    "normalizer": {"type": "Replace", "pattern": {"Regex": "(a|a)*$"}, "content": "a"},
    "decoder": {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"},
    "post_processor": {"type": "BertProcessing"},
    "model": {"type": "WordPiece"},
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("nested", [False, True])
def test_a_tokenizer_that_is_not_whisper_s_is_refused(part: str, nested: bool, folder: Path):
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content[part] = {"type": "Sequence", f"{part}s": [PARTS[part]]} if nested else PARTS[part] | {"vocab": {"a": 1}}
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=f"its {part} is"):
        read(folder)


def test_tokens_beyond_the_embedding_are_refused_whatever_file_adds_them(folder: Path):
    content = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    content["extra_special_tokens"] = [f"<|more-{n}|>" for n in range(9)]
    (folder / "tokenizer_config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"tokenizer has \d+ tokens, but config.json says vocab_size"):
        read_model_folder(folder)


PREPARE = {command.name: command for command in commands()}
SPLICE = ["m.jsonl", "--out", "o"]


@pytest.mark.parametrize(
    ("command", "words", "option"),
    [
        (TRANSCRIBE, ["m", "a.wav", "--longest", "nan"], "longest"),
        (TRANSCRIBE, ["m", "a.wav", "--longest", "inf"], "longest"),
        (TRANSCRIBE, ["m", "--gradio", "--port", "-5"], "port"),
        (TRANSCRIBE, ["m", "--gradio", "--port", "70000"], "port"),
        (TRANSCRIBE, ["m", "a.wav", "--beams", "1000000"], "beams"),
        (PREPARE["splice"], [*SPLICE, "--utterances", "1000000000"], "utterances"),
        (PREPARE["splice"], [*SPLICE, "--seed", "-1"], "seed"),
        (PREPARE["splice"], [*SPLICE, "--window", "1e400"], "window"),
        (PREPARE["align"], ["m.jsonl", "--model", "x", "--out", "o", "--seed", str(10**30)], "seed"),
        (PREPARE["speak"], ["--processes", "5000"], "processes"),
        (PREPARE["speak"], ["--speakers", str(10**9)], "speakers"),
        (PREPARE["demo"], ["--backbone", str(10**12)], "backbone"),
    ],
)
def test_options_have_ends(command: Any, words: list[str], option: str):
    with pytest.raises(UserError, match=f"^{option} is .*, expected a (whole )?number"):
        parse(command, words)


TRAINER = {"accelerator": "cpu", "devices": 1, "num_nodes": 1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PairDataModule(workers=MOST_PROCESSES + 1), "data.workers is"),
        (lambda: PairDataModule(workers=-1), "data.workers is -1"),
        (lambda: utterances_of(["a"], 10**9), "data.utterances_per_pair is 1000000000"),
        (lambda: utterances_of(["a"], {"a": 10**9}), "data.utterances_per_pair of a is"),
        (lambda: mixture({"a": {"manifest": "m", "weight": 1e300}}, None), r"the weight of m is 1e\+300"),
        (lambda: mixture({"a": {"manifest": "m", "weight": 1e-300}}, None), "the weight of m is 1e-300"),
        (lambda: WhisperModule(max_unusable_steps=-1), "model.max_unusable_steps is -1, expected a number of steps, 0"),
        (lambda: SpecAugment(time_masks=10**9), "model.spec_augment.time_masks is"),
        (
            lambda: check_devices(SimpleNamespace(**TRAINER | {"devices": 50})),
            "trainer.devices is 50, expected on",
        ),
        (lambda: check_devices(SimpleNamespace(**TRAINER | {"devices": "50"})), "trainer.devices is 50"),
        (lambda: check_devices(SimpleNamespace(**TRAINER | {"num_nodes": 3})), "trainer.num_nodes is 3, but nothing"),
        (lambda: TrainingRun(["--budget", "1e30"]), r"budget is 1e\+30, expected a factor that leaves 1 to"),
        (lambda: TrainingRun(["--budget", "inf"]), "budget is 'inf'"),
        (lambda: TrainingRun(["--seed_everything", "-1"]), "seed_everything is -1"),
        (lambda: values("0:1e7:1", "lambda"), "10,000,001 values, expected 10,000"),
        (lambda: values("0:1:1e-320", "lambda"), "--lambda '0:1:1e-320'"),
    ],
)
def test_numbers_have_ends(make: Callable[[], Any], message: str, monkeypatch: pytest.MonkeyPatch):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "NODE_RANK", "GROUP_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=message):
        make()


def test_what_a_machine_can_do_is_let_through(monkeypatch: pytest.MonkeyPatch):
    check_devices(SimpleNamespace(**TRAINER | {"devices": "auto"}))
    check_devices(SimpleNamespace(**TRAINER | {"devices": MOST_PROCESSES}))
    monkeypatch.setenv("SLURM_NTASKS", "6")
    check_devices(SimpleNamespace(**TRAINER | {"num_nodes": 3}))
    assert PairDataModule(workers=2).workers == 2


def test_subsets_are_counted_as_they_are_made():
    for method, count in (("linear", 5), ("linear", 2), ("wise_ft", 4)):
        recipe = MergeRecipe(method, tuple(f"m{n}" for n in range(count)), "none", {})
        made = list(subsets(recipe, list(recipe.models)))
        assert count_of_subsets(recipe) == len(made)
    check_count(64, 64, "merges", yes=False)
    check_count(10**9, 64, "merges", yes=True)


def test_many_merges_are_asked_for(whispers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):  # noqa: F811
    models = [str(whispers / "ko_en" / "model")] * 20  # never read: they are counted first
    given = ["linear", "--models", *models, "--base", str(whispers / "base"), "--subsets", "all"]
    with pytest.raises(UserError, match="^1,048,555 merges, and more than 64 may be a mistake: give --yes to go on$"):
        merge([*given, "--out", str(tmp_path / "o")])
    with pytest.raises(UserError, match="named twice"):  # the next thing that is wrong
        merge([*given, "--yes", "--out", str(tmp_path / "o")])
    assert not (tmp_path / "o").exists()


def test_many_points_are_asked_for(whispers: Path, manifests: dict[str, str], tmp_path: Path):  # noqa: F811
    models = [str(whispers / name / "model") for name in ("ko_en", "de_en")]
    given = ["sweep", "ties", "--models", *models, "--base", str(whispers / "base"), "--out", str(tmp_path / "o")]
    given += ["--score", manifests["ko-en"], "--seen", "ko-en", "--lambda", "0:1:0.01", "--density", "0.2,0.5"]
    with pytest.raises(UserError, match="^202 points to score, and more than 200 may be"):
        merge(given, score=lambda *_: pytest.fail("scored"))
    assert not (tmp_path / "o").exists()


def test_yes_is_given_on_the_command_line_alone(tmp_path: Path):
    (tmp_path / "c.yaml").write_text('"yes": true\n')
    with pytest.raises(UserError, match="yes is given on the command line"):
        parse(merge_command(), ["linear", "--config", str(tmp_path / "c.yaml")])


def test_room_on_the_disk_is_told_in_figures_that_differ(tiny_model: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=40_000, total=41_000))
    with pytest.raises(UserError, match=r"No space left on device: needs 67\.\d MB, 40 kB of 41 kB are free"):
        check_disk(read(tiny_model), None, tmp_path / "o")
