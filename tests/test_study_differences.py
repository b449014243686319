"""Differences of a study's rows with their intervals, against closed forms; curves and sections; mistakes in asking."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import UserError
from scoring.table import single_languages
from tests.test_study_summary import scored, small
from workflow.collect import collect, differences
from workflow.plan import Study
from workflow.results_page import write_results
from workflow.study_figures import draw_curve
from workflow.study_page import write_summary

Errors = Callable[[str, int, int], int]  # of a model, a seed and an utterance's number


def heard(study: Study, errors: Errors, utterances: int = 40, tokens: int = 10) -> Study:
    """Writes the transcripts that evaluation would have left: so many errors in each utterance's tokens."""
    for folder, seed in study.folders.items():
        rows = [
            {"model": model, "set": of, "id": f"{of}-u{i}", "speaker": None, "insertions": 0, "deletions": 0}
            | {"substitutions": errors(model, seed, i), "hits": tokens - errors(model, seed, i)}
            for model in ("erm", "fish")
            for of in study.evaluation["test"]
            for i in range(utterances)
        ]
        path = Path(study.scored(folder)) / "hypotheses.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return study


def asked(root: Path, **changes: object) -> Study:
    return small(root, compare={"to": ["erm"], "rows": ["erm", "fish"]}, **changes)


def test_seeds_are_drawn_too(tmp_path: Path):
    """fish has 1 error more than erm in each utterance of seed 0, 3 in each of seed 1: draws of two seeds mean 10, 20
    or 30 points, the outer two in a quarter of the draws each."""
    study = heard(asked(tmp_path / "out"), lambda model, seed, _: (model == "fish") * (1 + 2 * seed) + 2)
    [(rows, found)] = differences(collect(scored(study))).items()
    assert (*rows, set(found)) == ("fish", "erm", {"seen", "unseen"})
    for of in found.values():
        assert (of.value, of.low, of.high) == pytest.approx((0.2, 0.1, 0.3))
        assert of.significant


def test_a_rate_is_all_errors_over_the_reference(tmp_path: Path):
    """2 substitutions, 3 deletions and 1 insertion beside 5 hits are 6 errors in 10 tokens; erm has no error."""
    study = heard(asked(tmp_path / "out", seeds=[0]), lambda model, seed, _: 0)
    path = Path(study.scored(study.folder(0))) / "hypotheses.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    wrong = {"substitutions": 2, "deletions": 3, "insertions": 1, "hits": 5}
    path.write_text("".join(json.dumps(row | wrong if row["model"] == "fish" else row) + "\n" for row in rows))
    [found] = differences(collect(scored(study))).values()
    assert [of.value for of in found.values()] == pytest.approx([0.6, 0.6])


def test_utterances_are_drawn_once_for_both_rows(tmp_path: Path):
    """In every other utterance fish has an error more; both rows have 0 to 8 others by utterance, which cancel.

    The standard error of a mean over 400 utterances of 0 and 1 error in 10 tokens is 0.5 / 10 / 20, that of the seen
    average over two such sets, drawn apart, a 2nd root of 2 less.
    """
    study = asked(tmp_path / "out", seeds=[0])
    heard(study, lambda model, _, i: i % 9 + (model == "fish") * (i // 9 % 2), utterances=396)
    [found] = differences(collect(scored(study))).values()
    for name, sets in (("seen", 2), ("unseen", 1)):
        of, half = found[name], 1.96 * 0.5 / 10 / math.sqrt(396 * sets)
        assert of.value == pytest.approx(0.05)
        assert of.high - of.value == pytest.approx(half, rel=0.15)
        assert of.value - of.low == pytest.approx(half, rel=0.15)


def test_single_languages_have_an_average(tmp_path: Path):
    assert single_languages(["ko-en", "ko", "ja", "sent"], ["ko-en", "sent"]) == ["ko", "ja"]
    assert single_languages(["ko-en", "ko"], ["ko-en"]) == []
    evaluate = {"test": {"ko-en": "a", "ko": "b", "ja": "c"}, "seen": ["ko-en"], "unseen": []}
    collected = collect(scored(small(tmp_path / "out", evaluate=evaluate, printed={})))
    assert collected.columns == ["ko-en", "seen", "ko", "ja", "single"]
    # erm: 0.40 and 0.40, then 0.44 and 0.42, as if these were its second and third sets
    assert collected.figure("erm", "single").by_seed == pytest.approx((0.40, 0.43))


def test_a_groups_rows_stand_together(tmp_path: Path):
    rows = [
        {"name": "task arithmetic ko-en + ja-en", "group": "Fine-tuned on a pair", "method": "ties", "runs": ["erm"]}
    ]
    collected = collect(scored(small(tmp_path / "out", merge={"rows": rows})))
    assert list(collected.groups)[:4] == ["base", "ko-en", "ja-en", "task arithmetic ko-en + ja-en"]


def test_other_utterances_are_refused(tmp_path: Path):
    study = heard(asked(tmp_path / "out"), lambda *_: 1)
    path = Path(study.root) / "seed-1/hypotheses.jsonl"
    path.write_text(path.read_text().replace("ko-en-u7", "ko-en-v7", 1))
    collected = collect(scored(study))
    with pytest.raises(UserError, match=r"seed \d: scored on other utterances of ko-en than other rows"):
        differences(collected)
    path.unlink()
    with pytest.raises(UserError, match="seed-1/hypotheses.jsonl: is missing; the study is not complete"):
        differences(collected)


CURVE = {"of": "unseen", "axis": "share", "rows": {"erm": 0, "fish": 0.5}, "beside": ["ko-ja"]}


def test_a_curve_goes_through_the_means(tmp_path: Path):
    study = small(tmp_path / "out", curves={"share": CURVE})
    figure = draw_curve(collect(scored(study)), study.curves["share"])
    lines = [(list(line.get_xdata()), [float(y) for y in line.get_ydata()]) for line in figure.axes[0].lines]
    seeds, level, through = lines[:2], lines[3], lines[2]
    assert [(x, pytest.approx(y)) for x, y in seeds] == [([0, 0], [40, 42]), ([0.5, 0.5], [39, 43])]
    assert through == ([0, 0.5], pytest.approx([41, 41]))
    assert level[1] == pytest.approx([11, 11])


def test_a_further_study_is_a_section_of_the_results(tmp_path: Path):
    first = collect(scored(small(tmp_path / "out")))
    write_summary(first)
    settings = asked(tmp_path / "out", name="mine", about="What of it\nholds?", curves={"share": CURVE}).settings
    study = Study({key: value for key, value in settings.items() if key not in ("analyze", "printed")})
    for folder in study.folders:
        Path(folder, "mine").mkdir()
        (Path(folder) / "mine/scores.json").write_bytes((Path(folder) / "scores.json").read_bytes())
    second = collect(heard(study, lambda model, *_: 1 + (model == "fish")))
    write_summary(second)
    summary = tmp_path / "out/mine-2-seeds"
    assert "fish − erm" in (summary / "report.html").read_text()
    [told] = json.loads((summary / "table.json").read_text())["differences"]
    assert (told["model"], told["other"], told["seen"]["value"]) == ("fish", "erm", pytest.approx(0.1))
    page = tmp_path / "RESULTS.md"
    write_results([first], page)
    page.write_text(page.read_text(encoding="utf-8") + "\n<!-- study elsewhere -->\n## Made elsewhere\n\n41.5\n")
    write_results([second], page)
    write_results([second], page)
    text = page.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Mine", "## Out", "## Made elsewhere"]
    assert text.endswith("<!-- study elsewhere -->\n## Made elsewhere\n\n41.5\n")
    section = text[text.index("## Mine") : text.index("## Out")]
    assert "What of it holds?" in section and "configs/study/mine.yaml" in section
    assert "| fish − erm | +10.0 [+10.0, +10.0] | +10.0 [+10.0, +10.0] |" in section
    for figure in ("mine_rates", "mine_curve_share"):
        assert f"docs/figures/{figure}.png" in section and (tmp_path / f"docs/figures/{figure}.png").is_file()
    assert "sign_conflicts" not in section and "docs/figures/out_sign_conflicts.png" in text
    assert "python -m workflow run configs/study/mine.yaml --cores 2 --config 'seeds=[0,1]'" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compare": {"to": ["emr"]}}, r"compare: to: no 'emr', did you mean 'erm'\?"),
        ({"compare": {"rows": ["erm"]}}, "compare: 'to' is missing"),
        (
            {"compare": {"to": ["erm"], "rows": ["fihs"]}},
            r"compare: rows: no 'fihs', did you mean 'fish'",
        ),
        ({"curves": {"a": CURVE | {"of": "unsen"}}}, r"curves: a: of: no 'unsen', did you mean 'unseen'\?"),
        ({"curves": {"a": CURVE | {"rows": {"emr": 1}}}}, r"curves: a: rows: no 'emr', did you mean 'erm'"),
        ({"curves": {"a": {"of": "unseen"}}}, r"curves: a: 'axis' is missing"),
    ],
)
def test_mistakes_are_answered_before_anything_runs(changes: dict, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        small(tmp_path, **changes)
