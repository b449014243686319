"""Alignments and rates against hand-worked values, jiwer, and what must hold for every pair of transcripts."""

import random

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from scoring.contributions import UtteranceToScore
from scoring.edit_alignment import Counts, align
from scoring.metrics import score
from scoring.results import score_set
from scoring.tokens import PROFILES

TOKENS = st.lists(st.sampled_from(["이", "번", "は", "project", "für"]), max_size=12)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "operations"),
    [
        ("이|번|project|는|좋|아", "이|번|프|로|젝|트|는|좋|아", "==IIIS==="),
        ("a|b|c", "a|c", "=D="),
        ("a|c", "a|b|c", "=I="),
        ("a|b", "", "DD"),
        ("a", "a", "="),
        ("a|b|c", "x|y|z", "SSS"),
    ],
)
def test_alignments_worked_by_hand(reference, hypothesis, operations):
    aligned = align(*([token for token in text.split("|") if token] for text in (reference, hypothesis)))
    assert aligned.operations == operations


def test_steps_walk_both_sides():
    steps = list(align(list("abcd"), list("axce")).steps())
    assert steps == [("=", 0, 0), ("S", 1, 1), ("=", 2, 2), ("S", 3, 3)]
    assert list(align(list("ab"), list("b")).steps()) == [("D", 0, None), ("=", 1, 0)]
    assert list(align(list("b"), list("ab")).steps()) == [("I", None, 0), ("=", 0, 1)]


def test_counts_agree_with_jiwer_on_ten_thousand_random_pairs():
    draw = random.Random(0)
    words = ["이", "번", "データ", "check", "für", "x", "y"]
    pairs = [
        (
            [draw.choice(words) for _ in range(draw.randint(1, 12))],
            [draw.choice(words) for _ in range(draw.randint(0, 12))],
        )
        for _ in range(10_000)
    ]
    for reference, hypothesis in pairs:
        theirs = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
        expected = Counts(theirs.hits, theirs.substitutions, theirs.deletions, theirs.insertions)
        aligned = align(reference, hypothesis)
        assert aligned.counts == expected, (reference, hypothesis)


@given(TOKENS, TOKENS)
def test_what_holds_for_every_alignment(reference, hypothesis):
    aligned, swapped = align(reference, hypothesis), align(hypothesis, reference)
    counts = aligned.counts
    assert counts.reference_tokens == len(reference)
    assert counts.hypothesis_tokens == len(hypothesis)
    assert (counts.errors == 0) == (reference == hypothesis)
    assert abs(len(reference) - len(hypothesis)) <= counts.errors <= max(len(reference), len(hypothesis))
    assert counts.errors == swapped.counts.errors == _distance(reference, hypothesis)
    assert counts.insertions - counts.deletions == swapped.counts.deletions - swapped.counts.insertions
    for operation, i, j in aligned.steps():
        assert (operation == "=") == (i is not None and j is not None and reference[i] == hypothesis[j])


def _distance(a, b):
    """The textbook recurrence."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (x != y)))
    return row[-1]


def test_micro_pools_and_macro_averages():
    # 1 error of 4 tokens and 1 of 1: pooled 2/5, averaged (1/4 + 1)/2.
    scored = score(["a b c d", "e"], ["a b c x", ""])
    assert scored.counts == Counts(hits=3, substitutions=1, deletions=1)
    assert (scored.micro, scored.macro) == (2 / 5, 5 / 8)


@pytest.mark.parametrize("profile", PROFILES)
def test_perfect_transcripts_score_nought(profile):
    texts = ["이번 project는 좋아", "für die straße"]
    assert score(texts, texts, profile).micro == score(texts, texts, profile).macro == 0


def test_hikes_published_example():
    frame = "실험 결과 {} algorithm 은 기존 방법 대비 {} 가 향상되었으며 {} 또한 크게 개선되었다"
    reference = frame.format("제안한", "accuracy", "computational efficiency")
    hypothesis = frame.format("제한화", "r curacy", "환비테이션을 이펙션 시")
    scored = score([reference], [hypothesis], "hike")
    assert scored.counts == Counts(hits=29, substitutions=5, deletions=0, insertions=9)
    assert round(100 * scored.macro, 2) == 41.18


def test_hike_can_score_an_unspaced_japanese_clause_at_300_per_cent():
    reference, hypothesis = ["データをcheckした"], ["データ を checkした"]
    assert score(reference, hypothesis, "hike").micro == 3  # one reference token: a substitution and two insertions
    assert score(reference, hypothesis, "cjk").micro == 0


def test_hike_replaces_loanwords_in_both_texts():
    labelled = UtteranceToScore("u", "버스 타", "bus 타", loanwords=[("버스", "bus")])
    assert score_set([labelled], "hike").score.micro == 0
    assert score(["버스 타"], ["bus 타"], "hike").micro == pytest.approx(2 / 3)


def test_an_empty_reference_is_an_error_and_names_itself():
    with pytest.raises(UserError, match=r"utt-7: the reference '…' holds no token"):
        score(["a", "…"], ["a", "b"], names=["utt-6", "utt-7"])


@pytest.mark.parametrize(("references", "hypotheses"), [([], []), (["a"], [])])
def test_nothing_to_score_is_an_error(references, hypotheses):
    with pytest.raises(UserError):
        score(references, hypotheses)
