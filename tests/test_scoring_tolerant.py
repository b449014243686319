"""The script-tolerant count: by hand, by its properties, and against a programme that tries everything."""

import json
import time
from functools import cache
from itertools import product
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from evaluation.test_sets import read_sets
from scoring.contributions import UtteranceToScore
from scoring.edit_alignment import align
from scoring.loanwords import COMPOUND, LABEL, LEXICON, TOKEN, fold, label_spellings, lexicon
from scoring.results import compare, differences, results_table, score_set, to_dict
from scoring.table import to_markdown
from scoring.tokens import PROFILES
from scoring.tolerant import tolerate
from scoring.transcript_files import read_json_lines, to_row

CJK = PROFILES["cjk"]
SPELT = (LABEL, LEXICON, COMPOUND, TOKEN)  # what needs no reading; tests/test_scoring_sound.py has the rest


def split(text):
    """Returns the tokens and languages of a text in which `en:word` and the like mark what is embedded."""
    tokens, languages = [], []
    for part in text.split():
        language, _, word = part.rpartition(":")
        for token in CJK.reference(word.replace("_", " ")):
            tokens.append(token)
            languages.append(language or None)
    return tokens, languages


def count(reference, hypothesis, matrix="ko", **labels):
    tokens, languages = split(reference)
    alignment = align(tokens, CJK.hypothesis(hypothesis))
    languages = [language or matrix for language in languages]
    return alignment.counts.errors, tolerate(alignment, languages, matrix, rules=SPELT, **labels)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "matrix", "strict", "tolerant"),
    [
        ("오늘 en:meeting 은 길다", "오늘 미팅은 길다", "ko", 2, 0),
        ("오늘 en:meeting 은 길다", "오늘 모임은 길다", "ko", 2, 1),  # a translation is no spelling, but one word
        ("오늘 en:meeting 은 길다", "오늘 미싱기은 길다", "ko", 3, 2),  # misheard: one error for as many as 미팅 has
        ("오늘 en:meeting 은 길다", "오늘 meet 미은 길다", "ko", 2, 2),  # no run of one script
        ("en:meeting meeting 은", "이거 meeting은", "ko", 2, 2),  # heard, and so not misheard
        ("en:coffee ja:を飲む", "コーヒーを飲む", "ja", 4, 0),
        ("en:coffee ja:を飲む", "こーひーを飲む", "ja", 4, 0),  # hiragana is katakana
        ("en:ice_cream 먹자", "아이스크림 먹자", "ko", 5, 0),  # two words, one loanword
        ("en:meeting 은", "미팅 미팅은", "ko", 4, 2),  # what is inserted beside a match stays inserted
        ("오늘 en:meeting 은", "미팅은", "ko", 3, 2),  # and what is deleted stays deleted
        ("ko:형부 en:meeting", "형부 meeting", "en", 0, 0),
        ("en:the ko:미팅 en:was", "the meeting was", "en", 2, 0),  # the other direction
        ("미팅 이 en:meeting", "meeting이 meeting", "ko", 2, 2),  # a matrix word is never covered
        ("de:Arbeit 를", "아르바이트를", "ko", 5, 0),
    ],
)
def test_by_hand(reference, hypothesis, matrix, strict, tolerant):
    errors, found = count(reference, hypothesis, matrix)
    assert (errors, found.errors) == (strict, tolerant)


def test_labels_give_what_no_lexicon_has():
    spellings = label_spellings([("they locked my account", "데이 록트 마이 어카운트")])
    reference = "틀렸더니 en:they_locked_my_account"
    assert count(reference, "틀렸더니 데이 록트 마이 어카운트", transliterations=spellings)[1].errors == 0
    assert count(reference, "틀렸더니 데이 locked my 어카운트", transliterations=spellings)[1].errors == 0
    assert count(reference, "틀렸더니 데이 록크 마이 어카운트", transliterations=spellings)[1].errors == 1
    kanji = label_spellings([("残業", "잔교"), ("給食", "큐쇼쿠")])
    assert count("ja:給食 에", "기후쇼에", transliterations=kanji)[1].errors == 2  # misheard: one error a kanji
    assert count("ja:給食 에", "기후쇼크에", transliterations=kanji)[1].errors == 3  # a letter more than the label has
    assert count("요즘 ja:残業 가", "요즘 잔교가", transliterations=kanji)[1].errors == 0


def test_a_labelled_variant_is_reported_as_one_even_where_the_lexicon_has_it():
    spellings = label_spellings([("meeting", "미팅")])
    for labels, rule in (({"transliterations": spellings}, "label"), ({}, "lexicon")):
        _, found = count("오늘 en:meeting 은 길다", "오늘 미팅은 길다", **labels)
        assert [match.rule for match in found.matches] == [rule]


def test_no_variant_is_reported_that_saves_no_error():
    """Matched, `x` and `y` are substituted; unmatched, 버스 is inserted and `y` deleted: two errors either way."""
    alignment = align(["bus", "x", "y"], ["버스", "bus", "x"])
    found = tolerate(alignment, ["en", "ko", "ko"], "ko", transliterations=label_spellings([("bus", "버스")]))
    assert (alignment.counts.errors, found.errors, found.matches) == (2, 2, ())


def test_german_takes_english_loanwords_too():
    assert count("de:Computer 를", "컴퓨터를", "ko")[1].errors == 0


def test_labelled_loanwords_match_in_both_directions():
    spellings = label_spellings([("버스", "bus")])
    assert count("버스 를 타자", "bus를 타자", loanwords=spellings)[1].errors == 0
    assert count("en:bus 를 타자", "버스를 타자", loanwords=spellings)[1].errors == 0
    assert count("버스 를 타자", "버서를 타자", loanwords=spellings)[1].errors == 1
    assert not label_spellings([("color", "colour")])  # one script: no question of script


@pytest.mark.parametrize(
    ("reference", "hypothesis", "strict", "tolerant"),
    [
        ("das Haltestellenschild", "das Haltestellen Schild", 2, 0),
        ("das Haltestellen Schild", "das Haltestellenschild", 2, 0),
        ("das Haltestellen-Schild fehlt", "das Haltestellenschild fehlt", 2, 0),
        ("Haus Meisterwohnung", "Hausmeister Wohnung", 2, 0),
        ("das Haltestellenschild", "das Haltestellen Bild", 2, 2),
        ("ein gutes Herz", "and good as hers", 4, 4),
    ],
)
def test_german_compounds(reference, hypothesis, strict, tolerant):
    tokens = CJK.reference(reference)
    alignment = align(tokens, CJK.hypothesis(hypothesis))
    assert alignment.counts.errors == strict
    assert tolerate(alignment, ["de"] * len(tokens), "de").errors == tolerant


def test_a_word_with_its_particle_is_one_token():
    words = PROFILES["wer"]
    alignment = align(words.reference("오늘 meeting을 했다"), words.hypothesis("오늘 미팅을 했다"))
    assert alignment.counts.errors == 1
    found = tolerate(alignment, ["ko", "en", "ko"], "ko")
    assert found.errors == 0
    changed = align(words.reference("오늘 meeting을 했다"), words.hypothesis("오늘 미팅이 했다"))
    assert tolerate(changed, ["ko", "en", "ko"], "ko").errors == 1


def test_letters_match_as_whole_words():
    letters = PROFILES["cer"]
    said, heard = "new meeting은", "new 미팅은"
    alignment = align(letters.reference(said), letters.hypothesis(heard))
    words = CJK.reference(said), CJK.hypothesis(heard)
    languages = ["en"] * 10 + ["ko"]
    assert alignment.counts.errors == 7
    assert tolerate(alignment, languages, "ko", words=words).errors == 0
    inside = align(letters.reference("meetings은"), letters.hypothesis("미팅s은"))
    words = CJK.reference("meetings은"), CJK.hypothesis("미팅s은")
    assert tolerate(inside, ["en"] * 8 + ["ko"], "ko", words=words).errors == inside.counts.errors


# Misheard in as many letters as a variant has, `a` may be any two.
VARIANTS = label_spellings([("a", "가나"), ("b", "다"), ("a b", "라"), ("c d a", "가 나 마")])
NATIVE = ["가", "나", "다", "라", "마"]


def brute_force(reference, hypothesis, languages, matrix, spellings):
    """Tries every way through both texts, with every pair of runs asked for anew."""

    def price(start, end, at, until):
        run = languages[start:end]
        if len(set(run)) != 1 or run[0] in (None, matrix):
            return inf
        if fold("".join(hypothesis[at:until])) in spellings.get(fold("".join(reference[start:end])), ()):
            return 0
        misheard = reference[start:end] == ["a"] and "a" not in hypothesis and until == at + 2
        return 1 if misheard and set(hypothesis[at:until]) <= set(NATIVE) else inf

    @cache
    def cost(end, until):
        if not end or not until:
            return end + until
        found = [
            cost(end - 1, until - 1) + (reference[end - 1] != hypothesis[until - 1]),
            cost(end - 1, until) + 1,
            cost(end, until - 1) + 1,
        ]
        runs = product(range(end), range(until))
        return min(found + [cost(start, at) + price(start, end, at, until) for start, at in runs])

    return cost(len(reference), len(hypothesis))


said = st.lists(st.tuples(st.sampled_from([*"abcd", *NATIVE]), st.sampled_from(["en", "ko", None])), max_size=7)
heard = st.lists(st.sampled_from([*"abcd", *NATIVE]), max_size=8)


@settings(max_examples=600, deadline=None)
@given(said, heard)
def test_equals_the_programme_that_tries_everything(said, heard):
    reference, languages = [token for token, _ in said], [language for _, language in said]
    alignment = align(reference, heard)
    found = tolerate(alignment, languages, "ko", transliterations=VARIANTS, rules=SPELT)
    assert found.errors == brute_force(reference, heard, languages, "ko", VARIANTS)


@settings(max_examples=300, deadline=None)
@given(said, heard)
def test_properties(said, heard):
    reference, languages = [token for token, _ in said], [language for _, language in said]
    alignment = align(reference, heard)
    strict = alignment.counts.errors
    found = tolerate(alignment, languages, "ko", transliterations=VARIANTS, rules=SPELT)
    assert 0 <= found.errors <= strict
    assert bool(found.matches) == (found.errors < strict)
    for match in found.matches:
        assert set(languages[match.start : match.end]) == {"en"}
    # What no match covers costs what it costs alone: nothing beside a match is hidden.
    gaps, before = sum(match.errors for match in found.matches), (0, 0)
    for start, end, at, until in [(m.start, m.end, m.at, m.until) for m in found.matches] + [
        (len(reference), 0, len(heard), 0)
    ]:
        gaps += align(reference[before[0] : start], heard[before[1] : at]).counts.errors
        before = end, until
    assert gaps == found.errors
    if "en" not in languages:
        assert found.errors == strict
    assert tolerate(alignment, ["ko"] * len(reference), "ko", transliterations=VARIANTS).errors == strict
    assert tolerate(alignment, languages, None, transliterations=VARIANTS).errors == strict


def test_the_lexicon_has_the_usual_loanwords():
    english = lexicon("en")
    for spelling in ("프로젝트", "プロジェクト"):
        assert fold(spelling) in english["project"]
    assert "arbeit" in lexicon("de")["アルバイト"]
    assert "arbeit" not in english


PAIRS = [
    ("오늘 meeting은 길다", "오늘 미팅은 길다"),
    ("이번 project는 좋아", "이번 계획은 좋아"),
    ("다 좋아", "다 좋아"),
]


def scored(profile="cjk", pairs=PAIRS, **fields):
    return score_set(
        [UtteranceToScore(str(i), said, heard, ("ko", "en"), **fields) for i, (said, heard) in enumerate(pairs)],
        profile,
    )


def test_a_set_has_both_figures_and_their_difference():
    result = scored()  # 6 + 6 + 3 tokens; 2 + 3 + 0 errors: 미팅 is no error, 계획 one
    figures = to_dict(result)
    assert figures["micro"] == pytest.approx(5 / 15)
    assert figures["script-tolerant"] == result.tolerant == pytest.approx(2 / 15)
    assert figures["script-error"] == pytest.approx(3 / 15)
    estimates = figures["figures"]
    assert (estimates["tolerant"]["numerator"], estimates["script_error"]["numerator"]) == (2, 3)
    assert estimates["tolerant.macro"]["value"] == pytest.approx((0 + 2 / 6 + 0) / 3)
    assert to_row(result.utterances[0])["script_matches"] == [
        {"rule": "lexicon", "reference": ("meeting",), "hypothesis": ("미", "팅")}
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_the_figure(profile):
    result = scored(profile)
    assert result.tolerant < result.score.micro
    right = scored(profile, [(said, said) for said, _ in PAIRS])
    assert right.tolerant == right.score.micro == 0


def test_two_models_are_compared_in_both_figures():
    better, worse = scored(), scored(pairs=[(said, "") for said, _ in PAIRS])
    found, _ = compare(better, worse)
    assert found["tolerant"].value == pytest.approx(2 / 15 - 1)
    assert differences({"a": better}, {"a": worse}, figure="tolerant")["a"].value == found["tolerant"].value
    table = results_table({"m": {"ko-en": better}}, {"m": "g"}, seen=["ko-en"], unseen=[])
    strict, tolerant, _ = to_markdown(table).split("\n\n| Group")[1:]
    assert "33.3" in strict and "13.3" in tolerant


def test_transliterations_are_read_and_written(tmp_path):
    path = tmp_path / "a.jsonl"
    row = {"id": "1", "reference": "요즘 残業가 많아", "hypothesis": "요즘 잔교가 많아", "pair": "ko-ja"}
    path.write_text(json.dumps(row | {"transliterations": {"残業": "잔교"}}), encoding="utf-8")
    first = score_set(read_json_lines(path))
    assert (first.score.counts.errors, first.tolerant) == (2, 0)
    path.write_text(json.dumps(to_row(first.utterances[0])), encoding="utf-8")
    assert read_json_lines(path)[0].transliterations == (("残業", "잔교"),)
    path.write_text(json.dumps(row | {"transliterations": ["残業"]}), encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.jsonl:1: expected spans as .* transliterations as"):
        read_json_lines(path)


def test_a_corpus_s_labels_reach_the_count(tmp_path):
    row = {"id": "a", "audio_filepath": "a.wav", "duration": 1.0, "text": "요즘 残業가", "pair": "ko-ja"}
    (tmp_path / "test.jsonl").write_text(json.dumps(row | {"matrix_language": "ko"}) + "\n", encoding="utf-8")
    labels = {"a": {"transliterations": {"残業": "잔교"}}}
    (tmp_path / "test.labels.json").write_text(json.dumps(labels), encoding="utf-8")
    (tmp_path / "a.wav").touch()
    [one] = read_sets({"ko-ja": str(tmp_path / "test.jsonl")})
    result = score_set(one.transcripts({"a": "요즘 잔교가"}), "cjk")
    assert (result.score.counts.errors, result.utterances[0].tolerance.errors) == (2, 0)


def test_a_long_utterance_takes_no_cube_of_its_length():
    words = 1000
    begun = time.process_time()
    strict, tolerant = count("en:meeting " * words, "미팅 " * words)
    assert (strict, tolerant.errors) == (2 * words, 2 * words)  # beyond the bound in the hypothesis's characters
    strict, tolerant = count("en:meeting " * 200, "미팅 " * 200)
    assert (strict, tolerant.errors) == (400, 0)
    assert time.process_time() - begun < 30
