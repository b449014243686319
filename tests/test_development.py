"""Development sets while training: the figures, what may be chosen by them, and what may not."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas
import pytest
import torch
from transformers import WhisperForConditionalGeneration

from callbacks.checkpoint_files import CheckpointFiles, checkpoint_path, newest_good
from callbacks.checkpoints import Checkpoints
from callbacks.development import Development
from callbacks.final_model import FinalModel
from common.errors import UserError
from evaluation.score_weights import score_state_dict
from lightning_modules.whisper import WhisperModule
from tests.algorithm_runs import PAIRS, fit, make, weights
from tests.conftest import write_corpus
from training.training_run import TrainingRun

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Development sets of other noise than the training sets."""
    root = tmp_path_factory.mktemp("development")
    return {pair: str(write_corpus(root / pair, pair, 100 + seed, count=4)) for seed, pair in enumerate(PAIRS)}


def run(
    model: Path, manifests: dict[str, str], folder: Path, development: Development, steps: int = 4, **options: Any
) -> WhisperModule:
    own = [development, FinalModel(development), Checkpoints(100)]
    settings = {"callbacks": own, "plugins": [CheckpointFiles()]}
    algorithm = make("ERM")
    return fit(model, manifests, folder, algorithm, steps=steps, trainer=settings, learning_rate=1e-2, **options)


def rows(folder: Path) -> pandas.DataFrame:
    return pandas.read_csv(folder / "development.csv")


def test_the_figures_are_those_of_the_models_at_these_steps(
    tiny_model: Path, manifests: dict[str, str], dev: dict[str, str], tmp_path: Path
):
    run(tiny_model, manifests, tmp_path / "run", Development(dev, every_n_steps=2, utterances=None))
    found = rows(tmp_path / "run")
    assert found.step.tolist() == [2, 4]
    # The oracle for the last step: what the exported folder scores, read anew.
    last = WhisperForConditionalGeneration.from_pretrained(tmp_path / "run" / "model")
    paths = [Path(path) for path in dev.values()]
    expected = score_state_dict(tmp_path / "run" / "model", dict(last.named_parameters()), paths)
    assert found.iloc[-1][list(PAIRS)].to_dict() == pytest.approx(expected)
    assert found["mean"].tolist() == pytest.approx(found[list(PAIRS)].mean(axis=1).tolist())


def test_a_part_of_a_set_is_spread_over_its_manifest(dev: dict[str, str]):
    """Two of four utterances are the first and the third, and of more than there are all."""
    data = SimpleNamespace(train=dict.fromkeys(dev), utterances={})
    for number, places in ((2, (0, 2)), (9, (0, 1, 2, 3))):
        development = Development(dev, utterances=number)
        development.on_fit_start(SimpleNamespace(strategy=None, datamodule=data), None)
        assert [u.id for u in development.chosen] == [f"{pair}-{place}" for pair in dev for place in places]


def test_following_changes_nothing(tiny_model: Path, manifests: dict[str, str], dev: dict[str, str], tmp_path: Path):
    plain = run(tiny_model, manifests, tmp_path / "plain", Development())
    followed = run(tiny_model, manifests, tmp_path / "followed", Development(dev, every_n_steps=1))
    for name, weight in weights(plain).items():
        assert torch.equal(weight, weights(followed)[name]), name
    assert followed.model.training  # dropout goes on
    assert not (tmp_path / "plain" / "development.csv").exists()


def scripted(monkeypatch: pytest.MonkeyPatch, rates: list[float]) -> None:
    """Makes the evaluations' transcripts as wrong as given: of each pair so many utterances are heard, the rest not."""

    def transcribe(self: Development, trainer: Any, module: WhisperModule) -> list[str]:
        rate = rates[len(self.rows)]
        return [u.text if i >= rate * len(self.chosen) else "" for i, u in enumerate(self.chosen)]

    monkeypatch.setattr(Development, "_transcribe", transcribe)


def test_the_best_weights_are_those_of_the_step_with_the_lowest_mean(
    tiny_model: Path, manifests: dict[str, str], dev: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scripted(monkeypatch, [1.0, 0.25, 0.5, 0.25, 0.75])
    kept = {}
    original = Development._evaluate

    def note(self: Development, trainer: Any, module: WhisperModule) -> None:
        original(self, trainer, module)
        kept[trainer.global_step] = weights(module)

    monkeypatch.setattr(Development, "_evaluate", note)
    run(tiny_model, manifests, tmp_path, Development(dev, every_n_steps=1, best=True), steps=5)
    model = WhisperForConditionalGeneration.from_pretrained(tmp_path / "model")
    for name, weight in model.named_parameters():
        assert torch.equal(weight, kept[2][name]), name  # of two that are equally low, the first
    assert not torch.equal(kept[2]["model.decoder.embed_tokens.weight"], kept[5]["model.decoder.embed_tokens.weight"])


def test_training_ends_where_the_patience_does_and_leaves_a_model(
    tiny_model: Path, manifests: dict[str, str], dev: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scripted(monkeypatch, [0.5, 0.25, 0.5, 0.25, 0.0, 0.0])
    run(tiny_model, manifests, tmp_path, Development(dev, every_n_steps=1, patience=2), steps=6)
    assert rows(tmp_path).step.tolist() == [1, 2, 3, 4]  # two in a row are no lower than the second
    assert (tmp_path / "model" / "config.json").is_file()


def test_by_default_the_last_step_is_the_model(
    tiny_model: Path, manifests: dict[str, str], dev: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scripted(monkeypatch, [0.0, 0.25, 0.5, 1.0])
    module = run(tiny_model, manifests, tmp_path, Development(dev, every_n_steps=1))
    model = WhisperForConditionalGeneration.from_pretrained(tmp_path / "model")
    for name, weight in model.named_parameters():
        assert torch.equal(weight, weights(module)[name]), name


class Interrupting(Development):
    """Gets a signal when it has begun to transcribe after step 4."""

    def _leave_if_asked(self, trainer: Any) -> None:
        if trainer.global_step == 4:
            signal.raise_signal(signal.SIGTERM)
        super()._leave_if_asked(trainer)


Interrupting.__qualname__ = "Development"  # a checkpoint names a callback's state by it


def test_a_run_stopped_while_it_transcribes_ends_as_one_that_was_not(
    tiny_model: Path, manifests: dict[str, str], dev: dict[str, str], tmp_path: Path
):
    options: dict[str, Any] = {"every_n_steps": 2, "best": True, "patience": 5}
    run(tiny_model, manifests, tmp_path / "whole", Development(dev, **options), steps=5)
    with pytest.raises(SystemExit) as end:
        run(tiny_model, manifests, tmp_path / "parts", Interrupting(dev, **options), steps=5)
    assert end.value.code == 143
    assert rows(tmp_path / "parts").step.tolist() == [2]  # it left at once, and the evaluation is made up for
    newest = newest_good(tmp_path / "parts")
    assert newest == checkpoint_path(tmp_path / "parts", 4)
    run(tiny_model, manifests, tmp_path / "parts", Development(dev, **options), steps=5, resume=newest)
    for name in ("development.csv", "model/model.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    states = [torch.load(checkpoint_path(tmp_path / n, 5), weights_only=True) for n in ("whole", "parts")]
    one, two = (next(s for k, s in state["callbacks"].items() if "Development" in k) for state in states)
    assert one["rows"] == two["rows"] and math.isfinite(one["rows"][0]["mean"])
    assert all(torch.equal(one["weights"][name], two["weights"][name]) for name in one["weights"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda dev: {"ko-ja": dev["ko-en"]}, "names ko-ja, which is not trained on.* unseen pairs must not steer"),
        (lambda dev: {"ko-en": dev["ja-en"]}, "ja-en-0 is of the pair ja-en, expected ko-en alone"),
        (lambda dev: {"ko-en": "nowhere.jsonl"}, "nowhere.jsonl: no such manifest"),
    ],
)
def test_sets_that_may_not_be_followed_are_refused(
    change: Any, message: str, tiny_model: Path, manifests: dict[str, str], dev: dict[str, str], tmp_path: Path
):
    with pytest.raises(UserError, match=message):
        run(tiny_model, manifests, tmp_path, Development(change(dev), every_n_steps=1))


def test_training_speech_is_no_development_set(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    with pytest.raises(UserError, match="data.train of ko-en: 6 of 6 training utterances are held out"):
        run(tiny_model, manifests, tmp_path, Development({"ko-en": manifests["ko-en"]}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_n_steps": 0}, "development.every_n_steps is 0, expected 1 or more"),
        ({"best": True}, "choose by development.manifests; name some"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        Development(**options)


def test_the_command_line_knows_them(
    tiny_model: Path, manifests: dict[str, str], dev: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    arguments = ["--config", "erm.yaml", "--model.backbone", str(tiny_model), "--data.workers", "0"]
    arguments += [f"--data.train.{pair}={manifests[pair]}" for pair in PAIRS]
    arguments += [f"--development.manifests.{pair}={dev[pair]}" for pair in PAIRS]
    arguments += ["--development.every_n_steps", "1", "--trainer.max_steps", "2", "--trainer.accelerator", "cpu"]
    TrainingRun([*arguments, "--trainer.enable_progress_bar", "false"]).fit()
    assert rows(Path("outputs/erm")).step.tolist() == [1, 2]
    TrainingRun(["--config", "outputs/erm/config.yaml", "--name", "again"])  # what is saved, parses


@pytest.mark.slow
def test_two_ranks_share_an_evaluation(
    tiny_model: Path, manifests: dict[str, str], dev: dict[str, str], tmp_path: Path
):
    """Each transcribes a part; the figures are those of the model that both leave."""
    command = [sys.executable, "train.py", "--config", "erm.yaml", "--config", "csv.yaml", "--data.workers", "0"]
    command += [f"--data.train.{pair}={manifests[pair]}" for pair in PAIRS]
    command += [f"--development.manifests.{pair}={dev[pair]}" for pair in PAIRS]
    command += ["--development.batch_size", "3", "--development.every_n_steps", "2", "--pair_gradients.every_n_steps=1"]
    command += ["--trainer.max_steps", "2", "--trainer.accelerator", "cpu", "--trainer.devices", "2"]
    command += ["--trainer.strategy", "ddp", "--trainer.enable_progress_bar", "false", "--output_root", str(tmp_path)]
    found = subprocess.run([*command, "--model.backbone", str(tiny_model)], capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0, found.stderr
    run = tmp_path / "erm"
    model = WhisperForConditionalGeneration.from_pretrained(run / "model")
    expected = score_state_dict(run / "model", dict(model.named_parameters()), [Path(path) for path in dev.values()])
    assert rows(run).iloc[-1][list(PAIRS)].to_dict() == pytest.approx(expected)
    curves = pandas.read_csv(run / "csv/metrics.csv")
    assert curves["pair_gradient_norm/ko-en"].count() == 2 and (curves["pair_gradient_norm/ko-en"].dropna() > 0).all()
