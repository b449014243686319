"""Scoring models from the command line: the table's form, work kept and work done again, mistakes answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import lightning_modules.evaluation as evaluation
from common.errors import UserError
from datamodules.manifest import read_manifest
from lightning_modules.decoding import Transcriber
from lightning_modules.evaluation import Candidate, Evaluation, candidates, evaluate
from scoring.compare import compare_folders

ROOT = Path(__file__).parent.parent


class Parrot(Transcriber):
    """Says what was said, but for every other utterance says nothing: the rates can be told beforehand."""

    calls = 0

    def transcribe(self, utterances, done=None):
        Parrot.calls += 1
        return [utterance.text if index % 2 else "" for index, utterance in enumerate(utterances)]


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch) -> type[Parrot]:
    monkeypatch.setattr(evaluation, "Transcriber", Parrot)
    Parrot.calls = 0
    return Parrot


@pytest.fixture
def job(tiny_model: Path, manifests: dict[str, str], tmp_path: Path) -> Evaluation:
    sets = {pair: manifests[pair] for pair in ("ko-en", "de-en", "ja-en", "ko")}
    models = [Candidate("base", str(tiny_model), "Base"), Candidate("same", str(tiny_model), "Fine-tuned")]
    return Evaluation(models, sets, tmp_path / "out", seen=["ko-en", "de-en"], unseen=["ja-en"])


def test_table_json_has_the_promised_form(job: Evaluation, parrot: type[Parrot]):
    evaluate(job)
    table = json.loads((job.out / "table.json").read_text())
    assert table["profile"] == "cjk" and [row["model"] for row in table["rows"]] == ["base", "same"]
    row = table["rows"][0]
    assert set(row) == {"model", "group", "scores", "seen", "unseen"} and set(row["scores"]) == set(job.test)
    # de-en by hand: "Ich habe den report geschickt." 5, "Das meeting war schön." 4, "Für die Übergröße, please." 4
    # tokens, twice each in this order; the parrot is silent on the first, third and fifth: 5 + 4 + 4 of 26 are lost.
    assert row["scores"]["de-en"] == pytest.approx(13 / 26)
    assert row["seen"] == pytest.approx((row["scores"]["ko-en"] + row["scores"]["de-en"]) / 2)
    assert row["unseen"] == row["scores"]["ja-en"]
    assert {path.name for path in job.out.glob("table.*")} == {"table.md", "table.csv", "table.json", "table.tex"}


def test_finished_work_is_kept_until_what_it_was_made_from_changes(job: Evaluation, parrot: type[Parrot]):
    evaluate(job)
    assert parrot.calls == 8
    evaluate(job)
    assert parrot.calls == 8
    manifest = Path(job.test["ko"])
    text = manifest.read_text()
    try:
        manifest.write_text(text.replace("ko-5", "ko-six"))
        evaluate(job)
        assert parrot.calls == 10
    finally:
        manifest.write_text(text)


def test_a_fault_keeps_what_was_decoded(job: Evaluation, parrot: type[Parrot], tmp_path: Path):
    job.models[1] = Candidate("broken", str(tmp_path))
    with pytest.raises(UserError, match="not a model folder"):
        evaluate(job)
    kept = sorted(path.name for path in (job.out / "hypotheses" / "base").glob("*.jsonl"))
    assert kept == ["de-en.jsonl", "ja-en.jsonl", "ko-en.jsonl", "ko.jsonl"]
    first = json.loads((job.out / "hypotheses" / "base" / "ko.jsonl").read_text().splitlines()[0])
    utterance = read_manifest(job.test["ko"])[0]
    assert (first["id"], first["reference"], first["hypothesis"]) == (utterance.id, utterance.text, "")
    assert first["deletions"] == len(first["reference_tokens"])
    assert not (job.out / "table.json").exists()


def test_what_is_left_beside_the_table(job: Evaluation, parrot: type[Parrot]):
    evaluate(replace(job, baseline="base"))
    scores = json.loads((job.out / "scores.json").read_text())
    figures = scores["models"]["same"]["sets"]["de-en"]
    assert figures["micro"] == pytest.approx(13 / 26) and figures["utterances"] == 6
    assert figures["figures"]["mer"]["low"] < 0.5 < figures["figures"]["mer"]["high"]
    assert figures["made_from"]["model"].startswith("sha256:")
    page = (job.out / "report.html").read_text()
    assert "data:audio/wav;base64," in page and "Übergröße" in page and "http-equiv" in page
    with pytest.raises(UserError, match="the baseline 'bse' is none of the models: base, same"):
        evaluate(replace(job, baseline="bse"))


def test_two_runs_are_compared(job: Evaluation, parrot: type[Parrot], capsys: pytest.CaptureFixture[str]):
    evaluate(job)
    compare_folders(job.out / "hypotheses" / "base", job.out / "hypotheses" / "same")
    assert "base minus same" in capsys.readouterr().out
    with pytest.raises(UserError, match="no such folder"):
        compare_folders(job.out / "hypotheses" / "base", job.out / "none")


def test_names_of_models():
    found = candidates(["outputs/erm/model", "mine=some/where", {"path": "openai/whisper-tiny", "group": "Base"}])
    assert [(c.name, c.path, c.group) for c in found] == [
        ("erm", "outputs/erm/model", "models"),
        ("mine", "some/where", "models"),
        ("whisper-tiny", "openai/whisper-tiny", "Base"),
    ]
    with pytest.raises(UserError, match="two models are called 'erm'"):
        candidates(["a/erm/model", "b/erm/model"])
    with pytest.raises(UserError, match="must be a path, NAME=PATH"):
        candidates([3])


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "evaluate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_the_script_from_end_to_end(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    config = {"test": {"ko": manifests["ko"]}, "out": str(tmp_path / "out")}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(config))
    found = run(f"tiny={tiny_model}", "--config", str(tmp_path / "e.yaml"), "--profile", "cer")
    assert found.returncode == 0, found.stderr
    assert "profile cer" in found.stdout.replace("\n", " ") and "tiny" in found.stdout
    assert json.loads((tmp_path / "out" / "table.json").read_text())["rows"][0]["scores"]["ko"] > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no model named"),
        (["m"], "no test set named"),
        (["m", "--config", "dmeo"], "did you mean 'demo.yaml'?"),
        (["m", "--config", "{tmp}/bad.yaml"], "unknown option 'tset', did you mean 'test'?"),
        (["m", "--config", "{tmp}/gone.yaml"], "these test manifests are missing: nowhere.jsonl"),
    ],
)
def test_mistakes_are_answered_in_a_line(arguments: list[str], message: str, tmp_path: Path):
    (tmp_path / "bad.yaml").write_text("tset: {}\n")
    (tmp_path / "gone.yaml").write_text("test: {ko: nowhere.jsonl}\n")
    found = run(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert found.returncode == 2 and message in found.stderr and "Traceback" not in found.stderr
