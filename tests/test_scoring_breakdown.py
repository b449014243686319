"""Figures of whole utterances against counts made by hand on paper."""

import io
import json
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from common.errors import UserError
from scoring.bootstrap import difference, mean, resample, tally
from scoring.contributions import UtteranceToScore, contributions, score_transcript
from scoring.results import compare, results_table, score_set, to_dict
from scoring.summary import comparison_summary, summary
from scoring.tokens import PROFILES

CJK = PROFILES["cjk"]
SPANS = [("ko", "이번"), ("en", "project"), ("ko", "는 좋아")]
KO_EN = UtteranceToScore("a", "이번 project는 좋아", "이번 프로젝트는 좋아", ("ko", "en"), spans=SPANS)


def figures(**changes):
    fields = {"id": "x", "reference": "", "hypothesis": "", "languages": ("ko", "en")}
    return contributions(score_transcript(UtteranceToScore(**(fields | changes)), CJK))


def test_a_loanword_written_in_hangul():
    # 이 번 +프 +로 +젝 [project>트] 는 좋 아: one substitution of the embedded token, three insertions before it.
    found = contributions(score_transcript(KO_EN, CJK))
    assert found["mer"] == (4, 6)
    assert found["mer.macro"] == (4 / 6, 1)
    assert found["language.en"] == (1, 1)
    assert found["language.en.substitutions"] == (1, 1)
    assert found["language.ko"] == found["language.ko.insertions"] == (3, 5)  # the inserted syllables are Korean
    assert found["pier"] == (4, 1)  # but stand at the point of interest
    assert found["pier.rest"] == (0, 5)
    assert found["embedded_deletion"] == (0, 1)
    assert found["switches"] == (2, 1)
    assert found["cmi"] == (pytest.approx(100 / 3), 1)  # of the words 이번, project는, 좋아 one is English
    assert found["distance.0"] == (4, 3)  # 번, project, 는
    assert found["distance.1"] == (0, 2)  # 이, 좋
    assert found["distance.2"] == (0, 1)
    assert found["direction.ko>en"] == (4, 2)  # 번 and project
    assert found["direction.en>ko"] == (0, 1)
    assert found["length_ratio"] == (9, 6)
    assert found["languages_by.spans"] == (1, 1)
    assert found["insertions_guessed"] == (0, 3)


def test_the_embedded_word_left_out_and_a_tail_invented():
    # 이 번 -project 는 좋 아 +요 +yes
    found = figures(reference="이번 project는 좋아", hypothesis="이번는 좋아요 yes")
    assert found["mer"] == (3, 6)
    assert found["embedded_deletion"] == (1, 1)
    assert found["language.en"] == (2, 1)
    assert found["language.en.deletions"] == found["language.en.insertions"] == (1, 1)
    assert found["language.ko"] == (1, 5)
    assert found["pier"] == (1, 1)
    assert found["pier.rest"] == (2, 5)  # the tail counts at the last token
    assert found["distance.2"] == (2, 1)
    assert found["languages_by.script"] == (1, 1)


def test_german_and_english_need_spans():
    spans = [("de", "wir haben ein"), ("en", "nice meeting")]
    with_spans = figures(
        reference="wir haben ein nice meeting",
        hypothesis="wir haben ein sehr nettes treffen",
        languages=("de", "en"),
        spans=spans,
    )
    # +sehr stands before an English token, so it is guessed to be English.
    assert with_spans["language.en"] == (3, 2)
    assert with_spans["insertions_guessed"] == (1, 1)
    assert with_spans["pier"] == (3, 2)
    without = figures(reference="wir haben ein nice meeting", hypothesis="wir haben", languages=("de", "en"))
    assert without["language.other"] == (3, 5)
    assert without["languages_by.unknown"] == (1, 1)
    assert not {"pier", "distance.0", "cmi", "switches"} & without.keys()


def test_spans_that_do_not_fit_fall_back_to_script_and_say_so():
    found = figures(reference="이번 project", hypothesis="이번 project", spans=[("ko", "저번"), ("en", "project")])
    assert found["languages_by.script"] == (1, 1)
    assert found["cmi"] == (50, 1)


def test_the_matrix_language_decides_what_is_embedded():
    found = figures(reference="the 버스 is late", hypothesis="the is late", matrix_language="en")
    assert found["pier"] == found["embedded_deletion"] == (2, 2)
    assert found["pier.rest"] == (0, 3)


def test_numbers_are_of_no_language():
    found = figures(reference="3월 deadline", hypothesis="월 deadline")
    assert found["pier"] == (0, 1)  # the number is not of the embedded language
    assert found["language.other"] == found["language.other.deletions"] == (1, 1)
    assert found["cmi"] == (50, 1)  # 3월 is Korean, deadline English


def test_one_language_has_no_points_of_interest():
    found = figures(reference="좋아 요", hypothesis="좋아", languages=("ko",))
    assert "pier" not in found
    assert "distance.0" not in found
    assert found["cmi"] == (0, 1)


@pytest.mark.parametrize("profile", PROFILES)
@given(data=st.data())
@settings(max_examples=50)
def test_parts_add_up_to_the_whole(profile, data):
    words = st.lists(st.sampled_from(["이번", "project", "는", "3", "データ", "bug는"]), min_size=1, max_size=10)
    reference, hypothesis = data.draw(words), data.draw(words)
    item = UtteranceToScore("x", " ".join(reference), " ".join(hypothesis[1:]), ("ko", "en"))
    found = contributions(score_transcript(item, PROFILES[profile]))
    errors, tokens = found["mer"]
    languages = [name.removesuffix(".deletions") for name in found if name.startswith("language.") and ".del" in name]
    assert sum(found[name][0] for name in languages) == errors
    assert sum(found[name][1] for name in languages) == tokens
    if "pier" in found:
        assert found["pier"][0] + found["pier.rest"][0] == errors
        assert found["pier"][1] + found["pier.rest"][1] == tokens
    distances = [found[name] for name in found if name.startswith("distance.")]
    if distances:
        assert tuple(map(sum, zip(*distances, strict=True))) == (errors, tokens)
        directions = [found[name] for name in found if name.startswith("direction.")]
        assert tuple(map(sum, zip(*directions, strict=True))) == found["distance.0"]


def items(count, wrong, speakers=None, model=""):
    """Utterances of ten tokens; in the first `wrong` one token is."""
    said = "a b c d e f g h i j"
    return [
        UtteranceToScore(
            f"u{n}",
            said,
            said.replace("a", "x" + model) if n < wrong else said,
            ("en",),
            speaker=speakers and speakers(n),
        )
        for n in range(count)
    ]


def test_pooled_interval_agrees_with_the_normal_approximation():
    # 100 of 400 utterances have 1 error of 10 tokens: micro 0.025, standard error sqrt(p (1-p) / n) / 10.
    estimate = score_set(items(400, 100)).estimates["mer"]
    error = np.sqrt(0.25 * 0.75 / 400) / 10
    assert estimate.value == 0.025
    assert (0.025 - estimate.low) / error == pytest.approx(1.96, abs=0.2)
    assert (estimate.high - 0.025) / error == pytest.approx(1.96, abs=0.2)


def test_speakers_are_drawn_whole_where_there_are_enough():
    # Twenty speakers, ten of whom are always wrong: the standard error is that of 20 draws, not of 400.
    clustered = score_set(items(400, 200, lambda n: f"s{n // 20}"))
    error = np.sqrt(0.5 * 0.5 / 20) / 10
    estimate = clustered.estimates["mer"]
    assert clustered.tallies.unit == "speaker"
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * error, rel=0.15)
    few = score_set(items(400, 200, lambda n: f"s{n // 100}"))
    assert few.tallies.unit == "utterance"
    assert few.estimates["mer"].high - few.estimates["mer"].low < (estimate.high - estimate.low) / 2


def test_paired_differences_know_that_errors_are_shared():
    both, more = score_set(items(200, 100)), score_set(items(200, 110))
    estimate = difference(more.estimates["mer"], both.estimates["mer"])
    assert estimate.value == pytest.approx(0.005)
    assert estimate.significant  # ten utterances worse and none better
    assert not difference(score_set(items(200, 100, model="y")).estimates["mer"], both.estimates["mer"]).significant
    # Unpaired, the two intervals overlap.
    assert both.estimates["mer"].high > more.estimates["mer"].low


def test_differences_refuse_other_utterances():
    with pytest.raises(UserError, match="same utterances"):
        difference(score_set(items(20, 1)).estimates["mer"], score_set(items(21, 1)).estimates["mer"])


def test_the_mean_over_sets_is_narrower_than_each():
    first = score_set(items(100, 50)).estimates["mer"]
    second = score_set([UtteranceToScore("v" + item.id, *_texts(item)) for item in items(100, 50)]).estimates["mer"]
    assert not np.array_equal(first.draws, second.draws)  # different sets are drawn independently
    together = mean([first, second])
    assert together.value == pytest.approx(0.05)
    assert (together.high - together.low) == pytest.approx((first.high - first.low) / np.sqrt(2), rel=0.1)


def _texts(item):
    return item.reference, item.hypothesis, item.languages


def test_resampling_is_reproducible_and_follows_its_seed():
    rows = [contributions(score_transcript(item, CJK)) for item in items(50, 20)]
    tallies = tally(rows, [f"u{n}" for n in range(50)], [None] * 50)
    once, again, other = resample(tallies), resample(tallies), resample(tallies, seed=1)
    assert np.array_equal(once["mer"].draws, again["mer"].draws)
    assert not np.array_equal(once["mer"].draws, other["mer"].draws)


def test_one_utterance_has_a_value_but_no_interval():
    estimate = score_set(items(1, 1)).estimates["mer"]
    assert (estimate.value, estimate.low, estimate.high) == (0.1, None, None)


def test_how_the_intervals_are_made_is_written():
    scored = score_set(items(3, 2))
    assert to_dict(scored)["interval"] == {"level": 0.95, "folds": 1000, "unit": "utterance", "seed": 0}
    assert len(scored.estimates["mer"].draws) == 1000
    assert np.array_equal(scored.estimates["mer"].draws, resample(scored.tallies, seed=0)["mer"].draws, equal_nan=True)


def test_what_is_not_defined_is_null_in_json():
    said = to_dict(score_set([UtteranceToScore("a", "좋아", "좋아 oh", ("ko", "en"))]))
    assert said["figures"]["language.en"] == {
        "value": None, "low": None, "high": None, "numerator": 1, "denominator": 0,
    }  # fmt: skip
    json.dumps(said, allow_nan=False)


def test_a_table_marks_what_differs_from_the_baseline():
    results = {
        "base": {"ko-en": score_set(items(200, 150)), "ko-de": score_set(items(200, 100))},
        "tuned": {"ko-en": score_set(items(200, 50)), "ko-de": score_set(items(200, 100))},
        "half": {"ko-en": score_set(items(200, 100))},
    }
    groups = {"base": "Base", "tuned": "Fine-tuned", "half": "Fine-tuned"}
    table = results_table(results, groups, seen=["ko-en", "ko-de"], unseen=[], baseline="base")
    assert [row.significant for row in table.rows] == [set(), {"ko-en", "seen"}, {"ko-en"}]
    assert table.value(table.rows[1], "seen") == pytest.approx((0.025 + 0.05) / 2)
    assert table.value(table.rows[2], "seen") is None


def test_comparing_names_the_utterances_that_changed_most():
    first = [UtteranceToScore(str(n), "a b c", text) for n, text in enumerate(["a b c", "a b c", "x y z"])]
    second = [UtteranceToScore(str(n), "a b c", text) for n, text in enumerate(["a b c", "a x c", "a b c"])]
    differences, changed = compare(score_set(first), score_set(second))
    assert [pair[0].transcript.id for pair in changed] == ["2", "1"]
    assert differences["mer"].value == pytest.approx((3 - 1) / 9)
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(comparison_summary(differences, changed, "old[b]", "new"))
    text = console.export_text()
    assert "old[b] minus new" in text
    assert re.search(r"micro \(pooled\) +\+22\.2", text)
    assert re.search(r"^  old\[b\] +3  x y z *$", text, re.M)


@pytest.mark.parametrize(
    ("transcripts", "message"),
    [
        ([], "no utterance"),
        ([UtteranceToScore("a", "!", "x")], "a: the reference '!' holds no token"),
        ([UtteranceToScore("a", "x", "x")] * 2, "'a' stands twice"),
        (
            [UtteranceToScore("a", "x " * 30_001, "x")],
            "the reference has 30,001 tokens, expected no more than 30,000",
        ),
        ([UtteranceToScore("a", "x", "나" * 30_001)], "a: the hypothesis has 30,001 tokens"),
    ],
)
def test_bad_test_sets_are_refused(transcripts, message):
    with pytest.raises(UserError, match=message):
        score_set(transcripts)


def test_the_order_of_utterances_changes_no_value():
    made = items(60, 20)
    shuffled = random.Random(0).sample(made, len(made))
    first, second = score_set(made), score_set(shuffled)
    assert {name: estimate.value for name, estimate in first.estimates.items()} == {
        name: estimate.value for name, estimate in second.estimates.items()
    }


@pytest.mark.parametrize(
    ("speakers", "said"),
    [
        (["a", "b"] * 6, "over utterances, which does not cover other speakers than the 2 here"),
        (["a"] * 12, "over utterances, which does not cover other speakers than the one here"),
        ([None] * 12, "over utterances, which does not cover other speakers"),
        ([f"s{n}" for n in range(12)], "over speakers"),
    ],
)
def test_the_summary_says_what_its_intervals_do_not_cover(speakers, said):
    result = score_set(items(12, 3, lambda n: speakers[n]))
    console = Console(file=io.StringIO(), width=200)
    console.print(summary(result))
    line = next(line for line in console.file.getvalue().splitlines() if "bootstrap" in line)
    assert line.rstrip().endswith(said)
