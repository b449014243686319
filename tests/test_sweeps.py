"""The sweeps of configs/sweep: each parses, and its command runs once as wandb's agent would start it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pandas
import pytest
import wandb
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command

from backbone.model_folder.read import read_model_folder
from backbone.model_folder.write import write_model_folder
from common.configs import CONFIGS
from common.errors import UserError
from evaluation.merge_trial import trial
from tests.algorithm_runs import PAIRS
from tests.conftest import write_corpus
from training.training_run import TrainingRun

SWEEPS = sorted((CONFIGS / "sweep").glob("*.yaml"))


def sweep(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / "sweep" / f"{name}.yaml").read_text(encoding="utf-8"))


def arguments(content: dict[str, Any]) -> list[str]:
    """What stands behind the program, with the first value of each parameter, as wandb fills in `${args}`."""
    first = {key: of["values"][0] if "values" in of else of["min"] for key, of in content["parameters"].items()}
    filled = [
        [f"--{key}={value}" for key, value in first.items()] if w == "${args}" else [w] for w in content["command"]
    ]
    words = list(itertools.chain(*filled))
    begin = words.index("${program}") if "${program}" in words else words.index("-m") + 1
    assert words[:2] == ["${env}", "python"]
    return words[begin + 1 :]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_is_one_that_wandb_takes(path: Path):
    content = sweep(path.stem)
    assert (CONFIGS.parent / content["program"]).is_file()
    assert content["method"] in ("grid", "random", "bayes") and content["metric"]["goal"] == "minimize"
    assert content["metric"]["name"] == "development/mean"
    text = path.read_text(encoding="utf-8")
    assert f"wandb sweep --project crosspair configs/sweep/{path.name}" in text and "wandb agent NAME" in text
    assert create_sweep_command(list(content["command"])) == content["command"]  # no variable is left to fill in
    if content["method"] == "grid":
        assert all(set(of) == {"values"} for of in content["parameters"].values())


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("development")
    return {pair: str(write_corpus(root / pair, pair, 100 + seed, count=3)) for seed, pair in enumerate(PAIRS)}


def test_fishrs_command_runs(
    tiny_model: Path,
    manifests: dict[str, str],
    dev: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "trial1")
    here = {
        "output_root": str(tmp_path),
        "model": {"backbone": str(tiny_model)},
        "data": {"train": {pair: manifests[pair] for pair in PAIRS}},
        "development": {"manifests": dev},
        "budget": 1,
        "trainer": {"max_steps": 2, "enable_progress_bar": False},
    }
    (tmp_path / "here.yaml").write_text(yaml.safe_dump(here))
    words = [word for word in arguments(sweep("fishr")) if not word.startswith("--development.manifests")]
    TrainingRun([*words, "--config", str(tmp_path / "here.yaml")]).fit()
    run = tmp_path / "sweeps/sweep1/trial1"
    assert pandas.read_csv(run / "development.csv")["mean"].notna().all()
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["algorithm"]["init_args"]["penalty_weight"] == 0


def test_mergings_command_runs(tiny_model: Path, dev: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(wandb, "run", None)  # a disabled run would stay
    models = []
    for seed, pair in enumerate(PAIRS[:2]):
        model, processor = read_model_folder(tiny_model)
        for parameter in model.parameters():
            parameter.data += 0.01 * (seed + 1)
        write_model_folder(tmp_path / pair.replace("-", "_") / "model", model, processor)
        models.append(str(tmp_path / pair.replace("-", "_") / "model"))
    given = [word for word in arguments(sweep("merge")) if not word.startswith("--config")]
    given += ["--models", *models, "--base", str(tiny_model), "--score", *(dev[pair] for pair in PAIRS[:2])]
    figures = trial(given)
    assert (figures["lambda"], figures["density"]) == (0.2, 0.05)
    rates = [figures[f"development/{pair}"] for pair in PAIRS[:2]]
    assert figures["development/mean"] == pytest.approx(sum(rates) / 2, abs=1e-6)
    with pytest.raises(UserError, match="a trial has one setting, found 2"):
        trial([*given, "--lambda", "0.2,0.4"])
