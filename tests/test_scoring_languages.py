"""Languages of tokens, switch points, code-mixing index and failed hypotheses, all worked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.code_mixing import code_mixing_index, find_switches, languages_by_spans, token_languages
from common.languages import language_by_script, script, scripts_of
from scoring.failures import find_failures
from scoring.tokens import PROFILES

CJK = PROFILES["cjk"].reference


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("가", "Hangul"),
        ("ㅋ", "Hangul"),
        ("漢", "Han"),
        ("々", "Han"),
        ("ひ", "Kana"),
        ("ー", "Kana"),
        ("straße", "Latin"),
        ("да", "Cyrillic"),
        ("3", None),
        ("4th", "Latin"),
    ],
)
def test_script_is_that_of_the_first_letter(token, expected):
    assert script(token) == expected


@pytest.mark.parametrize(
    ("token", "languages", "expected"),
    [
        ("가", ("ko", "en"), "ko"),
        ("bug", ("ko", "en"), "en"),
        ("漢", ("ko", "ja"), "ja"),
        ("漢", ("ko", "en"), None),
        ("bug", ("de", "en"), None),
        ("3", ("ko", "en"), None),
        ("漢", None, "Han"),
        ("да", ("ru", "en"), "ru"),
    ],
)
def test_script_names_a_language_only_where_there_is_one(token, languages, expected):
    assert language_by_script(token, languages) == expected


def test_spans_give_each_token_its_language():
    tokens = CJK("Ich habe den Call gecancelt, okay?")
    spans = [("de", "Ich habe den"), ("en", "Call"), ("de", "gecancelt,"), ("en", "okay?")]
    assert languages_by_spans(tokens, spans, CJK) == ["de", "de", "de", "en", "de", "en"]


def test_a_word_across_two_spans_has_the_language_it_begins_in():
    words = PROFILES["wer"].reference
    spans = [("en", "bug"), ("ko", "는 fix")]
    assert languages_by_spans(words("bug는 fix"), spans, words) == ["en", "ko"]


def test_spans_that_are_not_the_reference_are_not_used_and_gaps_are_left_open():
    assert languages_by_spans(CJK("a b c"), [("en", "a x")], CJK) is None
    assert languages_by_spans(CJK("a b c"), [("en", "c"), ("de", "a")], CJK) is None
    assert languages_by_spans(CJK("a b c"), [("en", "a"), ("de", "c")], CJK) == ["en", None, "de"]


@pytest.mark.parametrize(
    ("languages", "count", "distances", "directions"),
    [
        # k k | e | k k k k k
        ("kkekkkkk", 2, [1, 0, 0, 0, 1, 2, 3, 3], ["k>e", "k>e", "k>e"] + ["e>k"] * 5),
        # k k k k | e e e: the fourth-last token before the switch is 3 away
        ("kkkkeee", 1, [3, 2, 1, 0, 0, 1, 2], ["k>e"] * 7),
        # three tokens between two switches: the middle one is a draw and goes with the switch before it
        ("keeek", 2, [0, 0, 1, 0, 0], ["k>e", "k>e", "k>e", "e>k", "e>k"]),
        ("kkk", 0, [None] * 3, [None] * 3),
        ("", 0, [], []),
        # numbers go with what is before them, at the start with what follows
        ("-k-e", 1, [2, 1, 0, 0], ["k>e"] * 4),
        ("ke-", 1, [0, 0, 1], ["k>e"] * 3),
        ("---", 0, [None] * 3, [None] * 3),
    ],
)
def test_switches_worked_by_hand(languages, count, distances, directions):
    found = find_switches([None if letter == "-" else letter for letter in languages])
    assert found.count == count
    assert list(found.distances) == distances
    assert list(found.directions) == directions


@given(st.lists(st.sampled_from(["ko", "en", None]), max_size=15))
def test_distances_agree_with_counting_from_every_switch(languages):
    found = find_switches(languages)
    known = next((language for language in languages if language), None)
    filled = []
    for language in languages:
        known = language or known
        filled.append(known)
    points = [i for i in range(1, len(filled)) if filled[i] != filled[i - 1]]
    assert found.count == len(points)
    for i, distance in enumerate(found.distances):
        expected = min((i - at if i >= at else at - 1 - i for at in points), default=None)
        assert distance == (None if expected is None else min(expected, 3))


@pytest.mark.parametrize(
    ("text", "languages", "expected"),
    [
        # 이번 | project는 | 좋아: a word has the language that it begins in, as Das and Gambäck count words
        ("이번 project는 좋아", ("ko", "en"), 100 / 3),
        ("가 나 다 라 마 바 go on", ("ko", "en"), 25),
        ("가나다 go", ("ko", "en"), 50),
        ("가 3 나", ("ko", "en"), 0),
        ("3월 deadline", ("ko", "en"), 50),  # a number goes with its word
        ("가 1 go 2 は", ("ko", "en", "ja"), 200 / 3),
        # written without spaces, each character is a word
        ("データをcheckした", ("ja", "en"), 100 / 7),
        ("네 学校です yes", ("ko", "ja", "en"), 100 * 2 / 6),
        ("3 4", ("ko", "en"), None),
        ("sehr nice", ("de", "en"), None),
        ("", ("ko",), None),
    ],
)
def test_code_mixing_index_by_its_formula(text, languages, expected):
    by_token, _ = token_languages(CJK(text), languages, None, CJK)
    assert code_mixing_index(text, by_token, CJK) == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("letter", "language"),
    [
        ("த", "ta"),
        ("ব", "bn"),
        ("త", "te"),
        ("ا", "ur"),
        ("ж", "bg"),
        ("म", "mr"),
        ("ก", "th"),
        ("ａ", "en"),
        ("ª", "es"),
    ],
)
def test_letters_are_known_in_every_script(letter, language):
    assert script(letter) in scripts_of(language)
    assert language_by_script(letter, (language, "ko")) == language


@pytest.mark.parametrize(
    ("reference", "hypothesis", "languages", "expected"),
    [
        ("이번 project는 좋아", "", ("ko", "en"), ("empty",)),
        ("이번 project는 좋아", "…", ("ko", "en"), ("empty",)),
        ("이번 project는 좋아", "this project is good", ("ko", "en"), ("translation",)),
        ("이번 project는 좋아", "이번 프로젝트는 좋아", ("ko", "en"), ()),
        ("이번 project는 좋아", "今度のprojectは", ("ko", "en"), ("wrong_script",)),
        ("この project", "这个 project", ("ja", "en"), ()),  # kanji are Japanese too: script does not tell
        ("das Project", "das Projekt", ("de", "en"), ()),
        ("das Project", "дас", ("de", "en"), ("wrong_script",)),
        ("3월 IT 学", "3月", ("ko", "en"), ()),  # the reference itself has kanji
        ("좋아 yes", "yes yes yes yes", ("ko", "en"), ("translation", "loop")),
        ("네 네 네 네", "네 네 네 네 네", ("ko", "en"), ()),  # said so
        ("a", "so we go so we go so we go so we go", ("en",), ("loop",)),
        ("a", "so we go so we go so we go so we", ("en",), ()),
        ("a", "one two " * 3, ("en",), ()),
        ("a", "we said yes yes yes and we said no", ("en",), ()),  # three in a row are no loop
        ("a", "we said yes yes yes yes and we said no", ("en",), ("loop",)),
    ],
)
def test_failures_worked_by_hand(reference, hypothesis, languages, expected):
    assert find_failures(CJK(reference), CJK(hypothesis), hypothesis, languages) == expected


def test_a_text_that_compresses_too_well_is_a_loop():
    text = " ".join(f"{number} {'the same long phrase again and again'}" for number in range(12))
    assert find_failures(CJK("a"), CJK(text), text, ("en",)) == ("loop",)
