"""Figures over several seeds, against numbers worked out by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from scoring.table import Row
from workflow.collect import Collected, SeedRates, collect
from workflow.plan import Study
from workflow.results_page import Job, busy_s, jobs, write_results
from workflow.study_page import write_summary
from workflow.study_table import StudyTable, beside, study_table

# By model, by seed: ko-en (seen), ja-en (seen), ko-ja (unseen).
RATES = {
    "base": [(0.60, 0.80, 0.50), (0.60, 0.80, 0.50)],
    "ko-en": [(0.30, 0.70, 0.45), (0.34, 0.78, 0.55)],
    "ja-en": [(0.62, 0.40, 0.48), (0.58, 0.40, 0.49)],
    "erm": [(0.30, 0.40, 0.40), (0.30, 0.44, 0.42)],
    "fish": [(0.31, 0.41, 0.39), (0.29, 0.43, 0.43)],
    "task arithmetic ko-en + ja-en": [(0.90, 0.90, 0.90), (0.92, 0.94, 0.96)],
    "ko-ja": [(0.70, 0.80, 0.10), (0.70, 0.82, 0.12)],
}


def small(root: Path, **changes: Any) -> Study:
    trained, oracle = "Trained on the three pairs", "Oracle (trained on the unseen pair)"
    settings = {
        "root": str(root),
        "seeds": [0, 1],
        "backbone": "b",
        "corpora": {},
        "runs": {
            "ko-en": {"name": "ko-en", "group": "Fine-tuned on a pair"},
            "ja-en": {"name": "ja-en", "group": "Fine-tuned on a pair"},
            "erm": {"name": "erm", "group": trained},
            "fish": {"name": "fish", "group": trained},
            "ko-ja": {"name": "ko-ja", "group": oracle},
        },
        "merge": {
            "of": ["ko-en", "ja-en"],
            "rows": [{"name": "task arithmetic", "group": "Merged", "method": "task_arithmetic"}],
        },
        "evaluate": {
            "test": {"ko-en": "a", "ja-en": "b", "ko-ja": "c"},
            "seen": ["ko-en", "ja-en"],
            "unseen": ["ko-ja"],
        },
        "analyze": {"of": ["ko-en", "ja-en"]},
        "printed": {"source": "A paper.", "rows": {"erm": {"seen": 0.30, "ko-ja": 0.45}, "best": {"unseen": 0.32}}},
    }
    return Study(settings | changes)


def scored(study: Study) -> Study:
    """Writes what evaluation, analysis and training would have left."""
    for seed, folder in enumerate(map(Path, study.folders)):
        scores = Path(study.scored(str(folder)))
        scores.mkdir(parents=True, exist_ok=True)
        models = {
            name: {
                "sets": {
                    of: {"micro": rate, "macro": rate / 2}
                    for of, rate in zip(study.evaluation["test"], rates[seed], strict=True)
                }
            }
            for name, rates in RATES.items()
        }
        head = {"profile": "cjk", "decoding": {"beams": 1}, "seen": ["ko-en", "ja-en"], "unseen": ["ko-ja"]}
        (folder / "analysis").mkdir(parents=True)
        (scores / "scores.json").write_text(json.dumps(head | {"versions": {"python": "3"}, "models": models}))
        for name in ("rows_changed", "cosines", "sign_conflicts"):
            (folder / f"analysis/{name}.png").write_bytes(b"a picture")
        for run in study.runs:
            (folder / run).mkdir()
            (folder / run / "run.json").write_text(json.dumps({"versions": {"torch": "2"}, "commit": "c0ffee"}))
        (folder / "benchmarks").mkdir()
        (folder / "benchmarks/train_erm.tsv").write_text(f"s\tmax_rss\n{30 + seed}.0\t512.5\n")
    return study


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    return collect(scored(small(tmp_path / "out")))


def test_a_figure_has_the_mean_and_sample_deviation_of_its_seeds():
    figure = SeedRates((0.2, 0.4, 0.6))
    assert figure.mean == pytest.approx(0.4)
    assert figure.deviation == pytest.approx(0.2)  # sqrt((0.04 + 0 + 0.04) / 2)
    assert SeedRates((0.5,)).deviation is None
    assert SeedRates((0.5, 0.5)).deviation is None


def test_averages_are_taken_within_a_seed(collected: Collected):
    # erm: (0.30 + 0.40) / 2 and (0.30 + 0.44) / 2; their deviation is 0.02 / sqrt(2)
    figure = collected.figure("erm", "seen")
    assert figure.by_seed == pytest.approx((0.35, 0.37))
    assert figure.deviation == pytest.approx(0.0141421, abs=1e-6)
    assert collected.figure("erm", "seen", "macro").mean == pytest.approx(0.18)
    assert collected.columns == ["ko-en", "ja-en", "seen", "ko-ja", "unseen"]
    assert (collected.best("ko-ja"), collected.best("seen")) == ("erm", "erm")  # the oracle is out of the contest


def test_the_table_shows_means_and_deviations_and_what_is_best(collected: Collected):
    table = study_table(collected)
    rows = {row.model: row for row in table.rows}
    assert table.cell(rows["erm"], "seen") == ("36.0 ± 1.4", False)  # fish has 36.0, too
    assert table.cell(rows["fish"], "ko-ja") == ("41.0 ± 2.8", False)  # erm has 41.0 ± 1.4
    assert table.cell(rows["base"], "ko-en") == ("60.0", False)
    assert table.cell(rows["ko-ja"], "unseen") == ("11.0 ± 1.4", False)
    assert "mean ± standard deviation over 2 seeds" in table.caption("micro")


def test_the_caption_names_the_tags_that_a_rows_name_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(RATES, "base, tag auto", RATES["base"])
    runs = {"erm": {"name": "erm", "group": "Joint", "language": "two_tag"}}
    tags = {"rows": ["base"], "policies": ["auto"]}
    alone = small(tmp_path / "out", runs=runs, merge={}, analyze={"of": []}, printed={}, tags=tags)
    table = study_table(collect(scored(alone)))
    assert [row.model for row in table.rows] == ["base", "erm", "base, tag auto"]
    assert "; tag two_tag for erm; best" in table.caption("micro") and "tag auto" not in table.caption("micro")


@pytest.mark.parametrize(("deviation", "best"), [(0.021, False), (0.019, True)])
def test_a_best_is_bold_where_its_spread_overlaps_no_others(deviation: float, best: bool):
    means = {"a": 0.10, "b": 0.13, "c": 0.20, "o": 0.02}
    rows = [Row(name, "oracle" if name == "o" else "g", {"ko-en": mean}) for name, mean in means.items()]
    deviations = {"micro": {"a": {"ko-en": 0.01}, "b": {"ko-en": deviation}, "c": {"ko-en": None}, "o": {}}}
    table = StudyTable("cjk", ["ko-en"], [], rows, deviations=deviations, seeds=5)
    assert [table.cell(row, "ko-en")[1] for row in rows] == [best, False, False, False]
    assert "best in bold where its spread overlaps no other's" in table.caption("micro")
    one = StudyTable("cjk", ["ko-en"], [], rows, deviations={"micro": {key: {} for key in means}})
    assert [one.cell(row, "ko-en")[1] for row in rows] == [True, False, False, False]


def test_the_papers_figures_stand_beside_ours(collected: Collected):
    grid = beside(collected)
    assert grid.head == ["Model", "", "Seen avg", "KO-JA", "Unseen avg"]
    assert grid.rows == [
        ["erm", "paper", "30.0", "45.0", "–"],
        ["", "ours", "36.0", "41.0", "–"],
        ["", "difference", "+6.0", "-4.0", "–"],
        ["best", "paper", "–", "–", "32.0"],
        ["", "ours", "–", "–", "41.0"],
        ["", "difference", "–", "–", "+9.0"],
    ]


def test_the_summary_leaves_tables_figure_and_page(collected: Collected):
    write_summary(collected)
    folder = Path(collected.study.summary)
    files = {path.name for path in folder.iterdir()}
    assert files == {"table.md", "table.csv", "table.tex", "table.json", "rates.png", "rates.svg", "report.html"}
    with (folder / "table.csv").open(encoding="utf-8") as stream:
        rows = {(row["model"], row["column"], row["averaging"]): row for row in csv.DictReader(stream)}
    row = rows["erm", "seen", "micro"]
    assert [float(row[name]) for name in ("mean", "paper", "difference")] == pytest.approx([0.36, 0.30, 0.06])
    assert (row["seeds"], rows["erm", "seen", "macro"]["paper"], rows["base", "ko-en", "micro"]["deviation"]) == (
        "2",
        "",
        "",
    )
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "36.0 ± 1.4" in page
    assert 'href="../report.html"' in page
    assert 'href="../seed-1/report.html"' in page
    assert "| erm | paper | 30.0 | 45.0 | – |" in (folder / "table.md").read_text(encoding="utf-8")


def test_names_are_shown_as_text(tmp_path: Path):
    RATES["<b>|"] = RATES["erm"]
    try:
        runs = small(tmp_path).settings["runs"] | {"x": {"name": "<b>|", "group": "g"}}
        collected = collect(scored(small(tmp_path / "out", runs=runs)))
        write_summary(collected)
    finally:
        del RATES["<b>|"]
    folder = Path(collected.study.summary)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<td>&lt;b&gt;|</td>" in page
    assert "<b>|" not in page
    assert r"\<b\>\|" in (folder / "table.md").read_text(encoding="utf-8")


def test_results_carry_figures_commands_and_times(collected: Collected, tmp_path: Path):
    write_summary(collected)
    write_results([collected], tmp_path / "RESULTS.md")
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "|  | fish | 30.0 ± 1.4 |" in text
    assert "| fine-tunes | 2 | 30–31 | 1.0 | 512 |" in text
    assert "python 3, torch 2" in text
    assert "`c0ffee`" in text
    assert "python -m workflow run configs/study/out.yaml --cores 2 --config 'seeds=[0,1]'" in text
    for link in ("rates", "rows_changed", "cosines", "sign_conflicts"):
        assert f"docs/figures/out_{link}.png" in text
        assert (tmp_path / f"docs/figures/out_{link}.png").is_file()


def test_a_named_study_that_looks_into_no_weights_sums_up_beside_another(tmp_path: Path):
    settings = {name: value for name, value in small(tmp_path / "out", name="mine").settings.items()}
    del settings["analyze"]
    study = scored(Study(settings))
    (tmp_path / "out/benchmarks/mine_evaluate.tsv").write_text("s\tmax_rss\n7.0\t1.0\n")
    (tmp_path / "out/benchmarks/evaluate.tsv").write_text("s\tmax_rss\n9.0\t1.0\n")
    collected = collect(study)
    write_summary(collected)
    page = (tmp_path / "out/mine-2-seeds/report.html").read_text(encoding="utf-8")
    assert 'href="../mine/report.html"' in page and 'href="../seed-1/mine/report.html"' in page
    assert "What fine-tuning changed" not in page
    assert [(job.name, job.seconds) for job in jobs(study)] == [("train_erm", 30), ("evaluate", 7), ("train_erm", 31)]


def test_busy_time_leaves_out_what_lay_still():
    # 0-10 and 5-15 overlap: 15 s; then nothing; 100-103.
    jobs = [Job("a", 10, 10, 0), Job("b", 10, 15, 0), Job("c", 3, 103, 0), Job("d", 1, 102, 0)]
    assert busy_s(jobs) == pytest.approx(18)


def test_what_is_missing_is_named(tmp_path: Path):
    study = scored(small(tmp_path / "out"))
    scores = Path(study.root) / "seed-1/scores.json"
    content = json.loads(scores.read_text())
    del content["models"]["fish"]
    scores.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"seed-1/scores.json: has no fish; run the study's evaluation again"):
        collect(study)
    content["profile"] = "hike"
    scores.write_text(json.dumps(content))
    with pytest.raises(UserError, match="seed-1: profile is 'hike', another seed's 'cjk'"):
        collect(study)
    scores.unlink()
    with pytest.raises(UserError, match="seed-1/scores.json: is missing; the study is not complete"):
        collect(study)
