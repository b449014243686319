"""The study as a workflow: planned at both scales, linted, run whole on the paper's layouts and killed on the way."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from common.configs import read_yaml
from tests.corpus_trees import TREES, put, wav
from tests.splicing_corpora import SENTENCES, write_pairs
from workflow.plan import Study
from workflow.settings import merged

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs/study"
SCRIPTS = ("prepare.py", "train.py", "merge.py", "evaluate.py", "analyze.py")


def command(*arguments: str) -> list[str]:
    files = {"--snakefile": "workflow/Snakefile", "--workflow-profile": "workflow/profiles/default"}
    options = [word for option, path in files.items() for word in (option, str(ROOT / path))]
    return [sys.executable, "-m", "snakemake", *options, *arguments]


def workflow(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True)


def planned(output: str) -> dict[str, int]:
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", output.split("total")[0], re.MULTILINE)}


@pytest.mark.parametrize(
    ("scale", "extra", "expected"),
    [
        # 3 fine-tunes, 4 joint runs and 2 oracles; 3 methods at weight 1 and 2 at 1/n, of 4 subsets each.
        ("demo", [], {"train": 9, "merge": 20, "evaluate": 1, "analyze": 1}),
        ("demo", ["seeds=[0,1,2,3,4]"], {"train": 45, "merge": 100, "evaluate": 5, "analyze": 5}),
        # Two corpora, one of them aligned.
        ("splicing", ["seeds=[0,1]"], {"train": 22, "merge": 22, "evaluate": 2}),
        ("splicing-ablations", [], {"train": 17, "merge": 1, "evaluate": 1}),
        # Three seeds, no oracles.
        ("paper", [], {"train": 21, "merge": 60, "evaluate": 3, "analyze": 3}),
    ],
)
def test_a_dry_run_plans_every_job(scale: str, extra: list[str], expected: dict[str, int], tmp_path: Path):
    config = ["--config", *extra] if extra else []
    found = workflow(tmp_path, "--dry-run", "--cores", "2", "--configfile", str(CONFIGS / f"{scale}.yaml"), *config)
    assert found.returncode == 0, found.stderr
    jobs = planned(found.stdout)
    assert ("analyze" in jobs) == ("analyze" in expected)
    assert expected.items() <= jobs.items()
    corpora = {rule for rule in jobs if rule.startswith("corpus_")}
    of_paper = {f"corpus_{name}" for name in ("aihub", "jecs", "unicom", "cs_fleurs", "ko_ja", "ko_de")}
    of_splicing = {"corpus_demo", "corpus_demo_aligned"}
    of = {"paper": of_paper, "splicing": of_splicing, "splicing-ablations": of_splicing}
    assert corpora == of.get(scale, {"corpus_demo"})


def test_lint_finds_nothing(tmp_path: Path):
    found = workflow(tmp_path, "--lint", "--configfile", str(CONFIGS / "paper.yaml"))
    assert found.returncode == 0, found.stdout
    assert "good condition" in found.stdout + found.stderr


def test_a_mistake_in_the_study_is_one_message(tmp_path: Path):
    found = workflow(tmp_path, "--dry-run", "--configfile", str(CONFIGS / "demo.yaml"), "--config", "sedes=[1]")
    assert found.returncode != 0
    assert "error: the study: no 'sedes', did you mean 'seeds'?" in found.stderr
    assert "Traceback" not in found.stderr


def write_corpora(folder: Path) -> None:
    """Every corpus of the paper in the layout that it is delivered in, and a script recorded for ko-de."""
    sources = {"aihub": "aihub_71260", "jecs": "jecs_ver1"}
    for name in ("aihub", "jecs", "unicom", "cs_fleurs", "ko_ja"):
        root = folder / name if name == "jecs" else folder / sources.get(name, name)
        TREES[name].write(root, lambda data: data)
    (folder / "jecs/jecs_ver1").rename(folder / "jecs_ver1")
    rows = [
        ("id", "text", "english", "german"),
        ("dev-1", "이번 bug는 session에 있었어.", "bug | session", "Fehler | Sitzung"),
    ]
    put(folder / "ko_de/recordings/dev-1.wav", wav(1.5, 16000, 7))
    with (folder / "ko_de/script.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def write_backbone(folder: Path) -> None:
    """A Whisper of two layers a side with random weights, a real tokenizer and a window of 3 s."""
    import torch
    from transformers import WhisperFeatureExtractor, WhisperProcessor

    from backbone.miniature import random_model, train_tokenizer
    from backbone.model_folder.write import write_model_folder

    torch.manual_seed(0)
    tokenizer = train_tokenizer([row.text for tree in TREES.values() for row in tree.expected], vocabulary=300)
    model = random_model(tokenizer, window_s=3, width=16)
    write_model_folder(folder, model, WhisperProcessor(WhisperFeatureExtractor(chunk_length=3), tokenizer))


@pytest.fixture
def paper_in_small(tmp_path: Path) -> tuple[Path, list[str]]:
    """A folder to run the paper's study in, and the options that make it small: backbone, sources, steps."""
    for script in SCRIPTS:
        (tmp_path / script).symlink_to(ROOT / script)
    write_corpora(tmp_path / "corpora")
    write_backbone(tmp_path / "backbone")
    paper = read_yaml(CONFIGS / "paper.yaml")
    hub = {f"data/{name}": {"command": f"{name} --source corpora/{name}"} for name in ("cs_fleurs", "ko_ja")}
    small = {
        "backbone": "backbone",
        "seeds": [3],
        "corpora": hub,
        "train": {"data": {"workers": 0}, "trainer": {"accelerator": "cpu", "precision": "32-true"}},
        "runs": {run: {"train": {"trainer": {"max_steps": 2}}} for run in paper["runs"]},
        "resources": {"train": {"threads": 1}, "merge": {"threads": 1}, "evaluate": {"threads": 1}},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(merged(paper, small), sort_keys=False))
    files = ["--configfile", str(CONFIGS / "paper.yaml"), "small.yaml"]
    return tmp_path, ["--cores", "2", *files]


def kill_after(folder: Path, arguments: list[str], finished: int) -> None:
    """Starts the workflow, and kills it with all its jobs once it told of so many runs that they are through."""
    with (folder / "killed.log").open("w") as log:
        process = subprocess.Popen(command(*arguments), cwd=folder, start_new_session=True, stdout=log, stderr=log)
    while (told := (folder / "killed.log").read_text()).count("(Rule: train)") < finished:
        assert process.poll() is None, told
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def two_studies(tmp_path: Path) -> Path:
    """A folder with a corpus of noise whose spans are known, and two studies of it in one root."""
    for script in SCRIPTS:
        (tmp_path / script).symlink_to(ROOT / script)
    write_backbone(tmp_path / "backbone")
    write_pairs(tmp_path / "data/noise")
    train = {pair: f"data/noise/{pair}/train.jsonl" for pair in SENTENCES}
    first = {
        "root": "out",
        "seeds": [0],
        "backbone": "backbone",
        "corpora": {},
        "train": {
            "data": {"train": train, "utterances_per_pair": 1, "workers": 0},
            "trainer": {"accelerator": "cpu", "max_steps": 2},
        },
        "runs": {"erm": {"name": "joint", "group": "Joint"}},
        "merge": {"rows": []},
        "evaluate": {"test": train, "seen": ["ko-en"], "unseen": ["ja-en", "de-en"], "device": "cpu"},
    }
    aligned = {pair: f"data/aligned/{pair}/train.jsonl" for pair in SENTENCES}
    how = "--model backbone --method ctc --words --least-score 0"
    align = {"command": f"align {' '.join(train.values())} {how}", "parts": [*train]}
    splice = {"config": ["erm.yaml", "splice.yaml"], "train": {"data": {"train": aligned}}, "language": "two_tag"}
    second = first | {
        "name": "mine",
        "corpora": {"data/aligned": align},
        "runs": first["runs"] | {"splice": {"name": "splice", "group": "Spliced", **splice}},
        "merge": {"rows": [{"name": "wise", "group": "Merged", "method": "wise_ft", "runs": ["erm"]}]},
        "compare": {"to": ["joint"], "rows": ["splice", "wise"]},
        "curves": {"share": {"of": "unseen", "axis": "share", "rows": {"joint": 0, "splice": 0.5}}},
    }
    for name, settings in (("first", first), ("second", second)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


@pytest.mark.slow
def test_a_second_study_of_a_root_makes_what_the_first_has_not(two_studies: Path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = workflow(two_studies, "--cores", "2", "--configfile", "first.yaml")
    assert found.returncode == 0, found.stderr[-4000:]
    plan = workflow(two_studies, "--cores", "2", "--configfile", "second.yaml", "--dry-run")
    expected = {"corpus_aligned": 1, "train": 1, "merge": 1, "evaluate": 1, "plan": 1, "summary": 1, "all": 1}
    assert planned(plan.stdout) == expected, plan.stdout
    found = workflow(two_studies, "--cores", "2", "--configfile", "second.yaml")
    assert found.returncode == 0, found.stderr[-4000:]
    scores = json.loads((two_studies / "out/mine/scores.json").read_text())["models"]
    assert list(scores) == ["base", "joint", "splice", "wise"] and scores["splice"]["language"] == "two_tag"
    assert json.loads((two_studies / "out/splice/run.json").read_text())["spliced"]["hosts"]
    rows = json.loads((two_studies / "out/mine-1-seed/table.json").read_text())
    assert [(row["model"], row["other"]) for row in rows["differences"]] == [("splice", "joint"), ("wise", "joint")]
    for name in ("first", "second"):
        again = workflow(two_studies, "--cores", "2", "--configfile", f"{name}.yaml")
        assert "Nothing to be done" in again.stderr, name
    files = ["out/study/study.yaml", "out/mine-1-seed/study.yaml"]
    subprocess.run([sys.executable, "-m", "workflow", "results", *files], cwd=two_studies, check=True)
    page = (two_studies / "RESULTS.md").read_text()
    assert "## Mine" in page and "splice − joint" in page
    assert (two_studies / "docs/figures/mine_curve_share.png").is_file()


@pytest.mark.slow
def test_the_papers_study_runs_whole_and_goes_on_after_a_kill(paper_in_small: tuple[Path, list[str]], monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytest.importorskip("mergekit")  # the paper's engine
    folder, arguments = paper_in_small
    study, seed_folder = Study(read_yaml(folder / "whole.yaml")), folder / "outputs/paper/seed-3"

    kill_after(folder, arguments, finished=2)
    through = {path: path.stat().st_mtime_ns for path in seed_folder.glob("*/model/model.safetensors")}
    found = workflow(folder, *arguments)
    assert found.returncode == 0, found.stderr[-4000:]
    kept = [path for path, written in through.items() if path.stat().st_mtime_ns == written]
    assert len(kept) >= 2

    expected = [row["name"] for row in study.rows(3)]
    assert len(expected) == 1 + 3 + 4 + 12 + 8
    table = json.loads((seed_folder / "table.json").read_text())
    assert [row["model"] for row in table["rows"]] == expected
    assert all(set(row["scores"]) == {"ko-en", "ja-en", "de-en", "ko-ja", "ko-de"} for row in table["rows"])
    recipe = yaml.safe_load((seed_folder / "merges/dare_linear-ko-en+de-en/merge_recipe.yaml").read_text())
    assert (recipe["engine"], recipe["seed"], recipe["density"]) == ("mergekit", 3, 0.5)
    for run in study.runs:
        record = json.loads((seed_folder / run / "run.json").read_text())
        assert (record["seed"], record["steps"]) == (3, 2)
        a_step = sum(corpus["utterances_a_step"] for corpus in record["corpora"].values())
        assert a_step == (8 if run in ("ko-en", "ja-en", "de-en") else 9)

    summary = folder / "outputs/paper/study"
    assert "Beside the paper" in (summary / "report.html").read_text()
    rows = {row["model"]: row for row in json.loads((summary / "table.json").read_text())["rows"]}
    assert list(rows) == expected
    for name in ("rows_changed.png", "rows_changed.svg", "rows_changed.csv"):
        assert (seed_folder / "analysis" / name).stat().st_size > 0

    again = workflow(folder, *arguments)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stderr
