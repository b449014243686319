"""analyze.py from the command line to its folder, and what it says to mistakes."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from analysis import analyze_models as run
from analysis import pictures
from analysis.analysis_options import AnalysisOptions
from analysis.analyze_models import analyze
from analysis.measures_csv import chance_conflict, groups
from analyze import ANALYZE
from common.errors import UserError
from common.options import parse
from tests.analysis_models import shifted, tensors, write

ROOT = Path(__file__).parent.parent
FIGURES = {f"{stem}.{end}" for stem in ("rows_changed", "norms") for end in ("png", "svg")}
PAIR_FIGURES = {f"{stem}.{end}" for stem in ("cosines_by_layer", "sign_conflicts") for end in ("png", "svg")}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base` and fine-tunes `ko_en/model`, `ja_en/model` (sharded), `de_en/model` (half precision)."""
    root = tmp_path_factory.mktemp("models")
    base = tensors(encoder=2, decoder=2)
    write(root / "base", base)
    write(root / "ko_en/model", shifted(base, 1e-3, 1))
    write(root / "ja_en/model", shifted(base, 1e-3, 2), shards=3)
    write(root / "de_en/model", {name: tensor.half() for name, tensor in shifted(base, 1e-3, 3).items()})
    return root


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of an analysis's time."""
    monkeypatch.setattr(run, "draw", lambda folder, *_: (folder / "figures").touch())


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_script_writes_figures_and_csv(models: Path, tmp_path: Path):
    command = [sys.executable, "analyze.py", f"한국어={models / 'ko_en/model'}", str(models / "ja_en/model")]
    command += ["--base", str(models / "base"), "--threshold", "auto", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tables = {"rows_changed.csv", "norms.csv", "cosines.csv", "sign_conflicts.csv", "analysis.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == FIGURES | PAIR_FIGURES | tables
    record = json.loads((tmp_path / "out/analysis.json").read_text())
    assert record["models"] == {"한국어": str(models / "ko_en/model"), "ja_en": str(models / "ja_en/model")}
    assert record["threshold_given"] == "auto"
    assert record["threshold"] == pytest.approx(1e-3 * math.sqrt(2 / math.pi), rel=0.2)  # the mean of a half normal


def test_one_model_has_no_comparisons(models: Path, tmp_path: Path):
    analyze([str(models / "ko_en/model")], str(models / "base"), 5e-5, tmp_path / "out")
    expected = FIGURES | {"rows_changed.csv", "norms.csv", "analysis.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected


@pytest.mark.usefixtures("without_figures")
def test_csv_figures(models: Path, tmp_path: Path):
    entries = [str(models / name / "model") for name in ("ko_en", "ja_en", "de_en")]
    analyze(entries, str(models / "base"), 8e-4, tmp_path)
    changed = read(tmp_path / "rows_changed.csv")
    places = 2 * 6 + 2 * 10
    assert len(changed) == 3 * (1 + places)
    every, rest = changed[0], changed[1 : 1 + places]
    assert (every["model"], every["side"], every["layer"], every["module"]) == ("ko_en", "all", "", "all")
    assert int(every["rows_above"]) == sum(int(line["rows_above"]) for line in rest) > 0
    modules = [line["module"] for line in rest if (line["side"], line["layer"]) == ("encoder", "1")]
    assert modules == ["self q", "self k", "self v", "self out", "fc1", "fc2"]
    for line in changed:
        assert float(line["percent_above"]) == pytest.approx(
            100 * int(line["rows_above"]) / int(line["rows"]), rel=1e-5
        )
    norms = read(tmp_path / "norms.csv")
    ko = [float(line["delta_norm"]) ** 2 for line in norms if line["model"] == "ko_en"]
    assert ko[0] == pytest.approx(sum(ko[1:]), rel=1e-4)
    conflicts = read(tmp_path / "sign_conflicts.csv")
    titles = ["ko_en + ja_en", "ko_en + de_en", "ja_en + de_en", "ko_en + ja_en + de_en"]
    assert list(dict.fromkeys(line["models"] for line in conflicts)) == titles
    whole = {line["models"]: float(line["percent_conflicting"]) for line in conflicts if line["side"] == "all"}
    # The fine-tunes' noise is independent: signs by chance.
    assert [whole[title] for title in titles] == pytest.approx([50, 50, 50, 75], abs=5)


def test_many_pairs_of_models_share_a_panel_of_their_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Five models are ten pairs: the first four are one direction, the fifth its opposite, 6 cosines of 1, 4 of -1."""
    base = tensors()
    step = {name: 0.01 * torch.sign(weights) for name, weights in base.items()}
    write(tmp_path / "base", base)
    for model in range(5):
        sign = -1 if model == 4 else 1
        write(tmp_path / f"m{model}", {name: weights + sign * step[name] for name, weights in base.items()})
    shown = {}
    monkeypatch.setattr(pictures, "heat_maps", lambda title, caption, panels, *_: shown.setdefault(title, panels))
    monkeypatch.setattr(pictures, "save", lambda *_: None)
    analyze([str(tmp_path / f"m{model}") for model in range(5)], str(tmp_path / "base"), 5e-5, tmp_path / "out")
    [(title, means)] = shown["Cosine between task vectors by layer"].items()
    assert title == "mean of 10 pairs"
    assert list(means.values()) == pytest.approx([0.2] * len(means), abs=1e-4)


def test_chance_counts_the_ways_to_differ():
    assert [chance_conflict(n) for n in (2, 3, 4)] == [50.0, 75.0, 87.5]  # of 4, 8, 16 patterns all but two


def test_groups_are_the_pairs_and_all():
    assert groups(["a", "b"]) == {"a + b": (0, 1)}
    assert list(groups(["a", "b", "c"])) == ["a + b", "a + c", "b + c", "a + b + c"]


@pytest.mark.parametrize(
    ("threshold", "said"),
    [(1e-9, "above this threshold"), (1.0, "below this threshold"), (8e-4, "")],
)
@pytest.mark.usefixtures("without_figures")
def test_a_saturated_threshold_is_said(models: Path, tmp_path: Path, threshold: float, said: str, capsys: Any):
    measures = analyze([str(models / "ko_en/model")], str(models / "base"), threshold, tmp_path)
    suggested = run.suggested_threshold(measures)
    note = pictures.saturation(["ko_en"], measures, threshold, suggested)
    assert said in note
    assert bool(note) == bool(said)
    assert ("try --threshold" in capsys.readouterr().out) == bool(said)
    if said:
        assert f"--threshold {suggested:g}" in note


@pytest.mark.usefixtures("without_figures")
def test_identical_models_are_said_to_be(models: Path, tmp_path: Path, capsys: Any):
    base = str(models / "base")
    analyze([f"a={base}", f"b={base}"], base, "auto", tmp_path)
    assert "these models equal the base" in capsys.readouterr().out
    assert {line["cosine"] for line in read(tmp_path / "cosines.csv")} == {""}


def test_thresholds_are_shown_as_typed():
    assert [pictures.brief(value) for value in (5e-5, 2.1e-3, 1e-10, 0.0)] == ["5e-5", "0.0021", "1e-10", "0"]


@pytest.mark.usefixtures("without_figures")
def test_an_earlier_analysis_is_replaced_and_nothing_else(models: Path, tmp_path: Path):
    entries, base = [str(models / "ko_en/model")], str(models / "base")
    analyze([*entries, str(models / "ja_en/model")], base, 5e-5, tmp_path / "out")
    analyze(entries, base, 5e-5, tmp_path / "out")
    assert not (tmp_path / "out/cosines.csv").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    with pytest.raises(UserError, match=r"mine: exists and is no earlier analysis"):
        analyze(entries, base, 5e-5, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_an_analysis_that_fails_leaves_nothing(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(run, "draw", fail)
    with pytest.raises(OSError, match="disk full"):
        analyze([str(models / "ko_en/model")], str(models / "base"), 5e-5, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def reshaped(root: Path, base: dict) -> str:
    return str(write(root / "m", base | {"model.decoder.embed_tokens.weight": torch.zeros(13, 4)}, vocab_size=13))


def lacking(root: Path, base: dict) -> str:
    weights = {name: tensor for name, tensor in base.items() if "layers.1" not in name}
    return str(write(root / "m", weights, encoder_layers=2, decoder_layers=2))


def foreign(root: Path, base: dict) -> str:
    return str(write(root / "m", base | {"adapter.weight": torch.zeros(2, 2)}))


def cut_short(root: Path, base: dict) -> str:
    file = write(root / "m", base) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    return str(root / "m")


def without_a_shard(root: Path, base: dict) -> str:
    (write(root / "m", base, shards=2) / "model-00002-of-00002.safetensors").unlink()
    return str(root / "m")


def run_folder(root: Path, base: dict) -> str:
    write(root / "m/model", base)
    return str(root / "m")


def broken_index(root: Path, base: dict) -> str:
    write(root / "m", base, shards=2)
    (root / "m/model.safetensors.index.json").write_text("[]")
    return str(root / "m")


def a_file(root: Path, base: dict) -> str:
    return str(write(root / "m", base) / "model.safetensors")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            reshaped,
            r"/m: its config.json has vocab_size 13, the base .*/base has 11; name the base",
        ),
        (lacking, r"/m: the weights are not those .*: 39 are missing, such as model.encoder.layers.1"),
        (foreign, r"/m: the weights are not those that config.json describes: 1 is unknown, such as adapter.weight"),
        (cut_short, r"m/model.safetensors: not a safetensors file"),
        (without_a_shard, r"index.json: names model-00002-of-00002.safetensors, which does not exist"),
        (run_folder, r"m: not a model folder \(no config.json\), did you mean .*/m/model\?"),
        (broken_index, r"index.json: no index of safetensors files"),
        (a_file, r"model.safetensors: no such model folder"),
        (lambda root, base: str(root / "nowhere"), r"nowhere: no such model folder; expected what train.py leaves"),
        (
            lambda root, base: "openai/whisper-nano",
            r"openai/whisper-nano: no such folder, and the Hugging Face Hub does not provide it",
        ),
        (lambda root, base: {"folder": "m"}, r"a model must be a path, NAME=PATH, or \{name, path\}; found"),
    ],
)
def test_mistakes_in_models(make: Callable[[Path, dict], Any], message: str, models: Path, tmp_path: Path):
    entry = make(tmp_path, tensors(encoder=2, decoder=2))
    out = tmp_path / "out"
    with pytest.raises(UserError, match=message):
        analyze([entry], str(models / "base"), 5e-5, out)
    assert not out.exists()


def test_two_models_of_one_name(models: Path, tmp_path: Path):
    with pytest.raises(UserError, match="two models are called 'base'; write NAME=PATH"):
        analyze([str(models / "base"), f"base={models / 'ko_en/model'}"], str(models / "base"), 5e-5, tmp_path)


@pytest.mark.parametrize("threshold", ["low", "-1", -5e-5, "nan", "inf", None, [1]])
def test_thresholds_out_of_range(threshold: object, tmp_path: Path):
    config = tmp_path / "mine.yaml"
    config.write_text(json.dumps({"threshold": threshold}))
    with pytest.raises(UserError, match="threshold is .*, expected a number of 0 or more or one of auto"):
        parse(ANALYZE, ["m", "--base", "b", "--config", str(config)])


@pytest.mark.usefixtures("without_figures")
def test_a_hub_id_is_downloaded(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, list[str]]] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(models / "base")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    analyze([str(models / "ko_en/model")], "openai/whisper-medium", 5e-5, tmp_path)
    assert [name for name, _ in asked] == ["openai/whisper-medium"]
    assert "pytorch_model.bin" not in asked[0][1]
    assert json.loads((tmp_path / "analysis.json").read_text())["base"] == "openai/whisper-medium"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """What the script's command line asks for."""
    asked: dict[str, Any] = {}
    names = ("entries", "base", "threshold", "out")
    monkeypatch.setattr("analysis.analyze_models.analyze", lambda *given: asked.update(zip(names, given, strict=True)))
    parsed = parse(ANALYZE, arguments)
    ANALYZE.run(parsed.options)
    return asked


def test_options_overrule_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = tmp_path / "mine.yaml"
    config.write_text("base: b\nmodels: [{name: x, path: p}]\nthreshold: 1e-4\nout: o\n")
    asked = call(monkeypatch, "--config", str(config), "--threshold", "auto")
    assert asked == {"entries": [{"name": "x", "path": "p"}], "base": "b", "threshold": "auto", "out": Path("o")}
    assert call(monkeypatch, "m", "--base", "b") == {
        "entries": ["m"], "base": "b", "threshold": 5e-5, "out": Path("outputs/analysis"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "no model named"), (["m"], "no base named"), (["--config", "dmo"], "did you mean 'demo.yaml'")],
)
def test_what_is_missing_is_asked_for(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=message):
        call(monkeypatch, *arguments)


@pytest.mark.parametrize("path", sorted((ROOT / "configs/analyze").glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_are_whole(path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = call(monkeypatch, "--config", path.name)
    assert len(asked["entries"]) == 3
    assert asked["threshold"] == (5e-5 if path.stem == "paper" else "auto")
    assert set(yaml.safe_load(path.read_text())) <= set(AnalysisOptions.__dataclass_fields__)
