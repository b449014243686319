"""Dashboards: an offline wandb run read back record by record, TensorBoard and CSV, and one curve across resumes."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pandas
import pytest
import torch
import wandb
import yaml

from callbacks.checkpoint_files import CheckpointFiles, checkpoint_path
from callbacks.checkpoints import Checkpoints
from callbacks.dashboard import COLUMNS, Dashboard, coloured
from callbacks.development import Development
from callbacks.pair_gradients import pair_gradient
from common.errors import UserError
from common.manifest import read_manifest
from datamodules.dataset import LabelMaker, PairDataset, collate
from lightning_modules.whisper import WhisperModule
from tests.algorithm_runs import PAIRS
from tests.conftest import write_corpus
from tests.wandb_records import records
from training.loggers import run_folder, study_of
from training.training_run import TrainingRun

STEPS = 4


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("development")
    return {pair: str(write_corpus(root / pair, pair, 100 + seed, count=3)) for seed, pair in enumerate(PAIRS)}


def arguments(tiny_model: Path, manifests: dict[str, str], root: Path, recipe: str = "fishr") -> list[str]:
    found = ["--config", f"{recipe}.yaml", "--model.backbone", str(tiny_model), "--data.workers", "0"]
    found += [f"--data.train.{pair}={manifests[pair]}" for pair in PAIRS]
    found += ["--output_root", str(root), "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    return [*found, "--trainer.max_steps", str(STEPS)]


@pytest.fixture(scope="module")
def run(
    tiny_model: Path, manifests: dict[str, str], dev: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that nobody was logged in for, with all that a dashboard shows."""
    root = tmp_path_factory.mktemp("study")
    more = [f"--development.manifests.{pair}={dev[pair]}" for pair in PAIRS]
    more += ["--development.every_n_steps", "2", "--pair_gradients.every_n_steps", "3", "--dashboard.predictions", "2"]
    more += ["--model.algorithm.anneal_steps", "1"]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "WANDB_RUN_GROUP", "WANDB_SILENT"):
            patch.delenv(name, raising=False)
        patch.setenv("WANDB_MODE", "online")
        patch.setattr(wandb, "login", lambda prompt: False)
        TrainingRun([*arguments(tiny_model, manifests, root), *more]).fit()
        wandb.finish()
    return root / "fishr"


def of(run: Path, kind: str) -> list[Any]:
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    return [getattr(r, kind) for r in records(file) if r.WhichOneof("record_type") == kind]


def history(rows: list[Any]) -> list[dict[str, Any]]:
    return [{"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in row.item} for row in rows]


def test_each_panel_is_in_the_offline_run(run: Path):
    rows = history(of(run, "history"))
    panels = {name: [row["trainer/global_step"] for row in rows if name in row] for row in rows for name in row}
    every = list(range(STEPS))
    for pair in PAIRS:
        assert panels[f"loss/{pair}"] == every
        assert panels[f"development/{pair}"] == [1, 3]
        assert panels[f"pair_gradient_norm/{pair}"] == [0, 3]
    assert panels["pair_gradient_cosine/ko-en,ja-en"] == [0, 3]
    assert panels["gradient_norm"] == panels["learning_rate"] == panels["fishr/penalty"] == every
    assert panels["fishr/penalty_to_loss_gradient"] == [1, 2, 3]
    rates = [row["learning_rate"] for row in rows if "learning_rate" in row]
    cosine = [0.5e-5 * (1 + math.cos(math.pi * step / STEPS)) for step in every]  # so few steps have no warm-up
    assert rates == pytest.approx(cosine, rel=1e-6)  # of the step itself: the last does not learn at 0
    assert panels["utterances_per_s"] == panels["data_wait"] == [1, 2, 3]
    assert panels["development/mean"] == panels["predictions/path"] == [1, 3]
    metrics = pandas.read_csv(run / "metrics.csv")
    for row in rows:
        if "loss/ko-en" in row:
            assert row["loss/ko-en"] == pytest.approx(metrics["loss/ko-en"][row["trainer/global_step"]], rel=1e-6)


def test_the_resolved_configuration_group_and_method_are_kept(run: Path):
    (first,) = of(run, "run")
    assert (first.run_group, first.job_type, list(first.tags)) == (run.parent.name, "Fishr", list(PAIRS))
    assert (first.display_name, first.project) == ("fishr", "crosspair")
    kept: dict[str, Any] = {}
    for record in of(run, "config"):
        kept |= {item.key: json.loads(item.value_json) for item in record.update}
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert kept["model"] == saved["model"] and kept["data"] == saved["data"] and kept["name"] == "fishr"


def test_predictions_have_sound_and_coloured_errors(run: Path):
    table_of = [artifact for artifact in of(run, "artifact") if artifact.type == "run_table"][-1]
    files = {entry.path: Path(entry.local_path) for entry in table_of.manifest.contents}
    table = json.loads(files["predictions.table.json"].read_text())
    assert table["columns"] == COLUMNS and len(table["data"]) == 2 * len(PAIRS)
    for row in table["data"]:
        cells = dict(zip(COLUMNS, row, strict=True))
        assert cells["step"] == STEPS and cells["reference"]
        assert files[cells["audio"]["path"]].read_bytes().startswith(b"RIFF")
        assert "<s>" in files[cells["errors"]["path"]].read_text()


def test_the_model_and_the_table_are_artifacts(run: Path):
    kinds = {artifact.type: artifact for artifact in of(run, "artifact")}
    assert {"model", "run_table"} <= set(kinds)
    assert kinds["model"].name == "fishr-model"
    entries = {entry.path: Path(entry.local_path) for entry in kinds["model"].manifest.contents}
    assert set(entries) == {path.name for path in (run / "model").iterdir()}
    assert entries["model.safetensors"] == (run / "model/model.safetensors").absolute()  # not copied, and still there


class _Stop(L.Callback):
    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            raise KeyboardInterrupt


@pytest.mark.slow  # three runs of wandb, each a process of its own
def test_a_resumed_run_is_one_run_and_a_new_one_another(
    tiny_model: Path, manifests: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    given = [*arguments(tiny_model, manifests, tmp_path, "erm"), "--checkpoint.every_n_steps", "1"]
    stopped = TrainingRun(given)
    stopped.trainer.callbacks.insert(0, _Stop())  # before the step is saved
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        stopped.fit()
    wandb.finish()
    TrainingRun([*given, "--resume"]).fit()
    wandb.finish()
    files = sorted((tmp_path / "erm").glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime)
    assert len(files) == 2 and len({file.stem for file in files}) == 1  # wandb sync joins runs of one id
    rows = [row for file in files for row in history([r.history for r in records(file) if r.HasField("history")])]
    losses: dict[int, set[float]] = {}
    for row in rows:
        if "loss/ko-en" in row:
            losses.setdefault(row["trainer/global_step"], set()).add(row["loss/ko-en"])
    assert sorted(losses) == list(range(STEPS)) and all(len(values) == 1 for values in losses.values())
    TrainingRun(given).fit()
    wandb.finish()
    assert len({file.stem for file in (tmp_path / "erm").glob("wandb/offline-run-*/*.wandb")}) == 2


def test_the_overlays_log_to_tensorboard_and_csv(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    TrainingRun([*arguments(tiny_model, manifests, tmp_path, "erm"), "--config", "csv.yaml"]).fit()
    curves = pandas.read_csv(tmp_path / "erm/csv/metrics.csv")
    assert {"loss/ko-en", "data_wait", "step"} <= set(curves)
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shutil.rmtree(tmp_path / "erm")
    TrainingRun([*arguments(tiny_model, manifests, tmp_path, "erm"), "--config", "tensorboard.yaml"]).fit()
    events = EventAccumulator(str(tmp_path / "erm/tensorboard"))
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("loss/ko-en")] == list(range(STEPS))


def test_an_evaluation_is_no_wait_for_data(
    tiny_model: Path, manifests: dict[str, str], dev: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clock = [0.0]

    def takes(owner: Any, name: str, seconds: float) -> None:
        whole = getattr(owner, name)

        def slow(*args: Any, **kwargs: Any) -> Any:
            clock[0] += seconds
            return whole(*args, **kwargs)

        monkeypatch.setattr(owner, name, slow)

    monkeypatch.setattr("callbacks.throughput.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    takes(WhisperModule, "training_step", 3)
    takes(PairDataset, "__getitem__", 0.25)
    takes(Development, "_evaluate", 100)
    takes(Checkpoints, "_prune", 50)
    given = [*arguments(tiny_model, manifests, tmp_path, "erm"), "--loggers", "[]"]
    given += [f"--development.manifests.ko-en={dev['ko-en']}", "--development.every_n_steps", "1"]
    TrainingRun([*given, "--checkpoint.every_n_steps", "1", "--data.utterances_per_pair", "2"]).fit()
    kept = pandas.read_csv(tmp_path / "erm/throughput.csv")
    assert list(kept["step"]) == [1, 2, 3]
    seconds = 3 + 6 * 0.25  # a step of six utterances
    assert list(kept["data_wait"]) == pytest.approx([1.5 / seconds] * 3, rel=1e-3)
    assert list(kept["utterances_per_s"]) == pytest.approx([6 / seconds] * 3, rel=1e-3)


def test_errors_are_coloured_and_nothing_in_a_transcript_acts():
    page, rate = coloured("이번 project 좋아", "이번 produkt <b>")
    assert rate == pytest.approx(100 * 3 / 5)  # project by produkt, 좋 by b, 아 gone; of 이 번 project 좋 아
    assert re.findall(r"<s>(.*?)</s>", page) == ["project", "좋", "아"] or "<s>project</s> produkt" in page
    assert "<b>" not in page and page.count("<b style=") == 3
    assert coloured("a b", "a b")[1] == 0


def test_a_pairs_gradient_is_that_of_its_mean_loss(tiny_model: Path, manifests: dict[str, str]):
    module = WhisperModule(str(tiny_model))
    module._load()
    dataset = PairDataset({"ko-en": read_manifest(manifests["ko-en"])}, LabelMaker(module.processor.tokenizer))
    batch = module.on_after_batch_transfer(collate([dataset["ko-en", i] for i in range(2)]), 0)
    found = pair_gradient(module, batch)
    module.model(
        input_features=batch.mel_BFT, decoder_input_ids=batch.decoder_inputs_BU, labels=batch.labels_BU
    ).loss.backward()
    parameters = [p for p in module.model.parameters() if p.requires_grad]
    expected = torch.cat([p.grad.flatten() for p in parameters])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_run_without_development_sets_says_that_it_shows_no_predictions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("callbacks.dashboard._wandb_run", lambda trainer: object())
    said: list[str] = []
    trainer, module = SimpleNamespace(loggers=[]), SimpleNamespace(print=said.append)
    Dashboard(predictions=0).on_train_start(trainer, module)
    Dashboard().of_run("mine", {}, Development({"ko-en": "dev.jsonl"})).on_train_start(trainer, module)
    assert not said
    Dashboard().on_train_start(trainer, module)
    assert len(said) == 1 and "development.manifests names none" in said[0]


def test_a_run_from_a_named_checkpoint_keeps_its_name_in_wandb(
    tiny_model: Path, manifests: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """So does one that looks for a checkpoint and finds one; where none is found, the run is a new one."""
    found: list[bool] = []
    monkeypatch.setattr("training.training_run.keep_identity", lambda *_, resumes: found.append(resumes))
    monkeypatch.setattr(L.Trainer, "fit", lambda *_, **options: None)
    given = arguments(tiny_model, manifests, tmp_path, "erm")
    TrainingRun([*given, "--resume"]).fit()
    path = checkpoint_path(tmp_path / "erm", 2)
    CheckpointFiles().save_checkpoint({"global_step": 2}, path)
    TrainingRun([*given, "--ckpt_path", str(path)]).fit()
    TrainingRun([*given, "--resume"]).fit()
    assert found == [False, True, True]


def test_a_trial_lies_in_its_sweep_and_any_other_run_in_its_own_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    monkeypatch.setenv("WANDB_RUN_ID", "trial1")  # as a user may set it
    assert run_folder("outputs", "erm") == Path("outputs/erm")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    assert run_folder("outputs", "erm") == Path("outputs/sweeps/sweep1/trial1")
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID"):
        with monkeypatch.context() as patch, pytest.raises(UserError, match=f"{name}: '../up' cannot name a file"):
            patch.setenv(name, "../up")
            run_folder("outputs", "erm")


def test_studies_are_named_by_their_folder():
    assert study_of("outputs/demo") == study_of("outputs/demo/seed-3") == "demo"
    assert study_of("/runs/outputs") == "outputs"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--dashboard.predictions", "-1"], "dashboard.predictions is -1, expected 0 or more"),
        (["--pair_gradients.every_n_steps", "0"], "pair_gradients.every_n_steps is 0, expected 1 or more"),
        (["--loggers", "[wandbb]"], "loggers"),
    ],
)
def test_mistakes_are_answered(
    extra: list[str], message: str, tiny_model: Path, manifests: dict[str, str], tmp_path: Path
):
    with pytest.raises(UserError, match=message):
        TrainingRun([*arguments(tiny_model, manifests, tmp_path, "erm"), *extra])
