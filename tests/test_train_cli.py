"""The training command line: recipes found and composed, mistakes answered, a run's folder complete."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pandas
import pytest
import yaml

from backbone.model_folder.read import read
from callbacks.checkpoint_files import starting_point
from common.configs import CONFIGS
from common.errors import UserError
from training.training_run import TrainingRun

RECIPES = sorted(
    path.name
    for path in CONFIGS.glob("[rpo]*/*.yaml")
    if "data" in (config := yaml.safe_load(path.read_text())) and "name" in config
)


@pytest.fixture
def overlay(tiny_model: Path, manifests: dict[str, str], tmp_path: Path) -> list[str]:
    """Arguments that lay the tiny model and corpora over any recipe."""
    train = {pair: manifests.get(pair, manifests["ko-en"]) for pair in ("ko-en", "ja-en", "de-en", "ko-de", "ko-ja")}
    train |= dict.fromkeys(("ko", "ja", "de", "en"), manifests["ko"])
    config = {
        "output_root": str(tmp_path / "outputs"),
        "model": {"backbone": str(tiny_model)},
        "data": {"train": train, "workers": 0},
        "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    return ["--config", str(tmp_path / "tiny.yaml")]


def test_lightning_is_silent_about_ranks(overlay: list[str]):
    """Its line a rank, and the banner of the first."""
    TrainingRun(["--config", "erm.yaml", *overlay])
    from lightning.fabric.utilities import distributed, rank_zero

    assert not distributed.log.isEnabledFor(logging.INFO)
    assert not rank_zero.rank_zero_module.log.isEnabledFor(logging.INFO)


def test_base_is_the_papers_setting(overlay: list[str]):
    config = TrainingRun(["--config", "erm.yaml", *overlay]).config
    assert (config.trainer.max_steps, config.data.utterances_per_pair, config.data.pairs) == (
        195,
        3,
        ["ko-en", "ja-en", "de-en"],
    )
    assert (config.model.warmup_fraction, config.model.learning_rate) == (0.1, 1e-5)
    assert yaml.safe_load((CONFIGS / "base.yaml").read_text())["model"]["backbone"] == "openai/whisper-medium"
    pair = TrainingRun(["--config", "ko-en", *overlay]).config
    assert (pair.trainer.max_steps, pair.data.utterances_per_pair, pair.data.pairs) == (73, 8, ["ko-en"])


def test_a_budget_multiplies_the_steps_once(overlay: list[str]):
    config = TrainingRun(["--config", "ko-en", *overlay, "--budget", "1.5"]).config
    assert (config.trainer.max_steps, config.budget) == (110, 1.0)  # as it is saved, to run again


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_parses_and_names_its_folder(recipe: str, overlay: list[str], tmp_path: Path):
    cli = TrainingRun(["--config", recipe, *overlay])
    assert cli.trainer.default_root_dir == str(tmp_path / "outputs" / Path(recipe).stem)


def test_configs_compose_from_left_to_right_and_the_command_line_wins(overlay: list[str], tmp_path: Path):
    (tmp_path / "a.yaml").write_text("model: {learning_rate: 0.1, weight_decay: 0.2}\n")
    (tmp_path / "b.yaml").write_text("model: {learning_rate: 0.3, clip_norm: null}\n")
    files = ["--config", str(tmp_path / "a.yaml"), "--config", str(tmp_path / "b.yaml")]
    model = TrainingRun(["--config", "erm", *overlay, *files, "--model.clip_norm=7"]).config.model
    assert (model.learning_rate, model.weight_decay, model.clip_norm) == (0.3, 0.2, 7)
    lora = TrainingRun(["--config", "erm", *overlay, "--config", "lora", "--model.lora.rank=8"]).config.model.lora
    assert (lora.rank, lora.alpha) == (8, 32.0)  # the overlay's scale stays


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "emr"], r"--config emr: no such file.* did you mean 'erm\.yaml'"),
        (["--model.lerning_rate", "3"], r"no option '--model\.lerning_rate', did you mean '--model\.learning_rate'"),
        (["--dta.workers", "1"], r"no option '--dta\.workers', did you mean '--data\.workers'"),
        (["--model.algorithm", "ERN"], r"model\.algorithm is 'ERN', expected one of ERM, Fish, .*, did you mean 'ERM'"),
        (["--model.algorithm.gama", "1"], r"model\.algorithm: ERM has no option 'gama'"),
        (
            ["--model.algorithm", "Fishr", "--model.algorithm.anneal_step", "1"],
            r"model\.algorithm: Fishr has no option 'anneal_step', did you mean 'anneal_steps'",
        ),
        (["--model.algorithm", "Fish", "--model.algorithm.ema", "1"], r"model\.algorithm: Fish has no option 'ema'"),
        (["--model", "3"], r"no option '--model', did you mean '--model\..*See train\.py --help"),
        (["--loggers", "[wandbb]"], r"loggers is .*wandbb.*expected a list of one of wandb, tensorboard, csv"),
        (["--model.learning_rate", "fast"], r"model\.learning_rate is 'fast', expected a number"),
        (["--model.learning_rate", "1e38"], r"model\.learning_rate is 1e\+38, expected a number from 0 to 1"),
        (["--model.weight_decay", "-1"], r"model\.weight_decay is -1, expected a number from 0 to 1"),
        (["--model.betas", "[0.9, 1]"], r"model\.betas are \[0\.9, 1\.0\], expected two numbers from 0 to below 1"),
        (["--model.clip_norm", "0"], r"model\.clip_norm is 0, expected a norm above 0, or null"),
        (["--budget", "0"], "budget is 0.0, expected a number above 0"),
        (["--trainer.max_steps", "-1"], r"trainer\.max_steps is -1, expected the number of steps"),
        (["--trainer.gradient_clip_val", "1"], r"use model\.clip_norm"),
        (["--trainer.accumulate_grad_batches", "2"], r"leave it at 1"),
        (["--data.utterances_per_pair", "0"], r"data\.utterances_per_pair is 0, expected 1 to 10000"),
        (["--data.pairs", "[ko-fr]"], r"names ko-fr"),
    ],
)
def test_mistakes_are_answered(arguments: list[str], message: str, overlay: list[str]):
    with pytest.raises(UserError, match=message):
        TrainingRun(["--config", "erm.yaml", *overlay, *arguments])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model:\n  lerning_rate: 3\n",
            r"c\.yaml: no option 'model\.lerning_rate', did you mean 'model\.learning_rate'",
        ),
        ("model: 3\n", r"c\.yaml: model is 3, expected a mapping of its options"),
        ("model: {lora: {rnak: 3}}\n", r"c\.yaml: model\.lora: LoRA has no option 'rnak', did you mean 'rank'"),
        ("model: [\n", r"c\.yaml: not YAML: .*line 2"),
        ("modle:\n  learning_rate: 3\n", r"c\.yaml: no option 'modle', did you mean 'model'"),
    ],
)
def test_mistakes_in_a_file_name_it(text: str, message: str, overlay: list[str], tmp_path: Path):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=f"(?s){message}"):
        TrainingRun(["--config", "erm.yaml", *overlay, "--config", str(tmp_path / "c.yaml")])


def test_a_run_leaves_all_it_promises_and_its_config_runs_again(overlay: list[str], tmp_path: Path):
    TrainingRun(["--config", "erm.yaml", *overlay, "--trainer.max_steps", "2"]).fit()
    folder = tmp_path / "outputs" / "erm"
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "metrics.csv",
        "model",
        "run.json",
        "throughput.csv",
    ]
    metrics = pandas.read_csv(folder / "metrics.csv")
    assert metrics.step.tolist() == [0, 1]
    assert {"loss/ko-en", "loss/ja-en", "loss/de-en", "learning_rate", "gradient_norm"} <= set(metrics)
    record = json.loads((folder / "run.json").read_text())
    assert record["weights"] == read(folder / "model").weights_hash
    assert (record["steps"], record["corpora"]["ko-en"]["licences"]) == (2, ["CC0-1.0"])
    weights = (folder / "model" / "model.safetensors").read_bytes()
    assert starting_point(folder, resume=False, named=None) is None  # a finished run may be trained anew
    (folder / "run.json").unlink()
    with pytest.raises(UserError, match="holds a run that stopped"):
        starting_point(folder, resume=False, named=None)
    TrainingRun(["--config", str(folder / "config.yaml"), "--trainer.default_root_dir", str(tmp_path / "again")]).fit()
    assert (tmp_path / "again" / "model" / "model.safetensors").read_bytes() == weights


def test_resuming_ends_with_the_same_weights(overlay: list[str], tmp_path: Path):
    arguments = ["--config", "erm.yaml", *overlay]
    whole = TrainingRun([*arguments, "--name", "whole", "--trainer.max_steps", "6"])
    whole.fit()
    half = TrainingRun([*arguments, "--name", "half", "--trainer.max_steps", "6"])
    half.trainer.callbacks.append(_StopAfter(3))
    half.fit()
    assert not (tmp_path / "outputs" / "half" / "model").exists()  # a run that did not end leaves no model
    checkpoint = tmp_path / "outputs" / "half" / "checkpoints" / "last.ckpt"
    resumed = TrainingRun([*arguments, "--name", "half", "--trainer.max_steps", "6", "--ckpt_path", str(checkpoint)])
    assert resumed.config.ckpt_path is None  # as it is saved: run again, it begins at the beginning
    resumed.fit()
    one, two = (
        (tmp_path / "outputs" / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "half")
    )
    assert one == two


class _StopAfter:
    """Stops training after a number of steps, with a checkpoint."""

    def __new__(cls, steps: int):
        import lightning as L

        class Stop(L.Callback):
            def on_train_batch_end(self, trainer, *_):
                if trainer.global_step == steps:
                    trainer.save_checkpoint(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")
                    trainer.should_stop = True

        return Stop()
