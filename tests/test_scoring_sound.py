"""The rule by sound: readings and distances by hand, and against a programme that asks for every pair of runs."""

from functools import cache
from itertools import product
from math import ceil, inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import espeak_phonemes
from scoring import tolerant
from scoring.edit_alignment import align
from scoring.loanwords import COMPOUND, LABEL, LEXICON, SOUND, TOKEN, fold, label_spellings, lexicon
from scoring.phones import letter_phones, letters_needed, phones
from scoring.sound import sound_alike, sound_cost
from scoring.tokens import PROFILES
from scoring.tolerant import rules_on, tolerate

pytest.importorskip("espeakng_loader")
CJK = PROFILES["cjk"]


@pytest.mark.parametrize(
    ("text", "language", "sounds"),
    [
        ("whisk", "en", "wisk"),
        ("휘스크", "en", "wisk"),
        ("paper", "en", "peɨpər"),
        ("ペーパー", "en", "pepa"),
        ("meeting", "en", "mitiŋ"),
        ("ミーティング", "en", "mitiN"),
        ("スマート", "en", "sʉmatɵ"),
        ("ジョギング", "en", "cokiN"),
        ("올라", "en", "ola"),
        ("Herz", "de", "herc"),
        ("설날", "ko", "səllal"),  # by the rules of Korean, ㄹ for ㄴ
        ("힘내라", "ko", "himnæla"),
        ("hyungboo", "ko", "hjuŋpu"),
        ("geta", "ja", "keta"),
        ("下駄", "ja", ""),
    ],
)
def test_readings(text, language, sounds):
    assert phones(fold(text), language) == sounds


def test_letters_without_a_reading_are_none():
    assert letter_phones("カ漢a") == ["ka", None, None]
    assert [letters_needed(sounds) for sounds in ("wisk", "mitiŋ", "peɨpər", "a", "")] == [3, 3, 4, 1, 0]


def test_costs():
    assert sound_cost("lait", "lait") == sound_cost("", "") == 0
    assert sound_cost("pin", "sin") == 1  # another consonant
    assert sound_cost("θin", "sin") == sound_cost("θin", "tin") == 0
    assert sound_cost("pul", "pil") == 0.5  # another vowel
    assert sound_cost("", "pul") == 2.5
    assert sound_cost("sʉpa", "spa") == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("word", "heard", "language", "alike"),
    [
        ("whisk", "휘스크", "en", True),
        ("thin", "씬", "en", True),
        ("thin", "핀", "en", False),
        ("disappointment", "디스어포인트먼트", "en", True),
        ("disappointment", "어포인트먼트", "en", False),
        ("feedback", "フィードバック", "en", True),
        ("sunlight", "サンライズ", "en", False),
        ("application", "アプリ", "en", False),
        ("Haltestelle", "할테슈텔레", "de", True),
        ("Zimt", "힘", "de", False),
        ("형부", "hyungboo", "ko", True),
        ("형부", "hyunwoo", "ko", False),
        ("며느리", "ミョヌリ", "ko", True),
        ("며느리", "メヌリ", "ko", False),
        ("いただきます", "이타다키마스", "ja", True),
    ],
)
def test_what_is_alike(word, heard, language, alike):
    assert sound_alike(phones(fold(word), language), phones(fold(heard), language)) is alike


def count(reference, hypothesis, language, matrix, **labels):
    """Returns the strict errors and the tolerant count; the embedded words of the reference are in brackets."""
    tokens, languages = [], []
    for part in reference.replace("[", "|[").replace("]", "|").split("|"):
        found = CJK.reference(part)
        tokens += found
        languages += [language if part.startswith("[") else matrix] * len(found)
    alignment = align(tokens, CJK.hypothesis(hypothesis))
    return alignment.counts.errors, tolerate(alignment, languages, matrix, **labels)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "language", "matrix", "strict", "left"),
    [
        ("[whisk]로 저으세요", "휘스크로 저으세요", "en", "ko", 3, 0),
        ("[whisk]로 저으세요", "위스키로 저으세요", "en", "ko", 3, 1),  # the lexicon knows that it is whiskey
        ("[whisk]로 저으세요", "휘스크 휘스크로 저으세요", "en", "ko", 6, 3),  # a second one is inserted
        ("그 [whisk]로", "휘스크로", "en", "ko", 3, 1),  # and what is lost stays lost
        ("[the walls are paper thin]", "더 월스 아 페이퍼 핀", "en", "ko", 8, 1),  # one misheard word stays one
        ("[whisk] 휘스크", "whisk whisk", "en", "ko", 3, 3),  # a matrix word is never covered
        ("[형부] runs", "hyungboo runs", "ko", "en", 2, 0),
        ("[いただきます] 하고", "이타다키마스 하고", "ja", "ko", 6, 0),
        ("[残業]가", "잔교가", "ja", "ko", 2, 2),  # kanji have no reading of their own
    ],
)
def test_in_the_alignment(reference, hypothesis, language, matrix, strict, left):
    errors, found = count(reference, hypothesis, language, matrix)
    assert (errors, found.errors) == (strict, left)


def test_kanji_are_read_by_their_label():
    labels = label_spellings([("弁当", "벤토")])
    assert count("[弁当]를", "벤또를", "ja", "ko", transliterations=labels)[1].errors == 0
    assert count("[弁当]를", "도시락을", "ja", "ko", transliterations=labels)[1].errors == 4
    # 킷푸 is キップ: the ㅅ is no sound, and ㅡ as good a vowel as ウ
    labels = label_spellings([("切符", "킷푸"), ("薬局", "얏쿄쿠")])
    assert count("[切符]를", "기프를", "ja", "ko", transliterations=labels)[1].errors == 0
    assert count("[薬局]가", "야쿄크가", "ja", "ko", transliterations=labels)[1].errors == 0


@pytest.mark.parametrize(
    ("reference", "hypothesis", "language", "matrix", "strict", "left"),
    [
        ("[唐揚げ]는", "가라하게는", "ja", "ko", 4, 1),  # h, for which there is no kana in カラアゲ
        ("[唐揚げ]는", "가라아아게는", "ja", "ko", 5, 1),  # what is inserted in a word counts
        ("[唐揚げ]는", "가라게 는", "ja", "ko", 3, 1),  # and so does what is lost
        ("[唐揚げ]는", "가라아게 게는", "ja", "ko", 5, 1),  # or inserted beside it
        ("[唐揚げ]는", "카나다게는", "ja", "ko", 4, 3),  # two consonants: as much as three tokens cost
        ("[ランドセル] is", "randos is", "ja", "en", 5, 2),
        ("[지하상가] is", "chihasanka is", "ko", "en", 4, 1),  # n for ŋ
        ("[지하상가] is", "chihasaga is", "ko", "en", 4, 2),  # a consonant lost: twice a vowel's weight
        ("[지하] 상가", "chihe sanka", "ko", "ko", 4, 4),  # of the matrix language
    ],
)
def test_words_of_several_letters_that_were_partly_heard(reference, hypothesis, language, matrix, strict, left):
    labels = label_spellings([("唐揚げ", "카라아게")])
    errors, found = count(reference, hypothesis, language, matrix, transliterations=labels)
    assert (errors, found.errors) == (strict, left)


def test_without_the_library_the_other_rules_are_left(monkeypatch):
    monkeypatch.setattr(tolerant, "has_espeak", lambda: False)
    monkeypatch.setattr(espeak_phonemes, "_library", lambda: pytest.fail("espeak-ng was asked"))
    rules_on.cache_clear()
    try:
        assert rules_on() == (LABEL, LEXICON, COMPOUND, TOKEN)
        assert count("[whisk]로", "휘스크로", "en", "ko") == (3, tolerant.Tolerance(3))
    finally:
        rules_on.cache_clear()


def test_a_word_with_its_particle_is_matched_whole():
    words = PROFILES["wer"]
    alignment = align(words.reference("whisk로 저어"), words.hypothesis("휘스크로 저어"))
    assert tolerate(alignment, ["en", "ko"], "ko").errors == 0
    alignment = align(words.reference("whisk로 저어"), words.hypothesis("휘스크를 저어"))
    assert tolerate(alignment, ["en", "ko"], "ko").errors == 1


def brute_force(reference, hypothesis, languages, matrix):
    """Tries every way through both texts; a run may be matched where its whole spelling sounds alike."""
    said, heard = [fold(token) for token in reference], [fold(token) for token in hypothesis]

    def price(start, end, at, until):
        run, key, other = languages[start:end], "".join(said[start:end]), "".join(heard[at:until])
        stands = any("".join(heard[i:j]) == key for i, j in product(range(len(heard) + 1), repeat=2) if i < j)
        if len(set(run)) != 1 or run[0] in (None, matrix) or stands:
            return inf
        latin, native = key.isascii(), not any(letter.isascii() for letter in other)
        if latin and end - start == 1 and native and until - at > 1 and until - at <= letters_needed(phones(key, "en")):
            misheard = 1
        else:
            misheard = inf
        if (latin and end - start > 1) or (native if not latin else not native) or (not latin and not other.isascii()):
            return misheard
        sounds = "".join(map(str, letter_phones(other))) if native else phones(other, run[0])
        apart = ceil(sound_cost(phones(key, run[0]), sounds) / 0.5)
        if not latin and apart < end - start:  # some of its letters were misheard
            misheard = max(1, apart)
        known = lexicon("en").get(other, {key}) if latin else {key}
        return 0 if key in known and sound_alike(phones(key, run[0]), sounds) else misheard

    @cache
    def cost(end, until):
        if not end or not until:
            return end + until
        return min(
            cost(end - 1, until - 1) + (reference[end - 1] != hypothesis[until - 1]),
            cost(end - 1, until) + 1,
            cost(end, until - 1) + 1,
            *(cost(start, at) + price(start, end, at, until) for start, at in product(range(end), range(until))),
        )

    return cost(len(reference), len(hypothesis))


TOKENS = ["whisk", "thin", "mura", "mira", "na", *"휘스크씬무라나"]
said = st.lists(st.tuples(st.sampled_from(TOKENS), st.sampled_from(["en", "ko", None])), max_size=6)
heard = st.lists(st.sampled_from(TOKENS), max_size=7)


@settings(max_examples=300, deadline=None)
@given(said, heard, st.sampled_from(["en", "ko"]))
def test_equals_the_programme_that_tries_everything(said, heard, matrix):
    # A token's language is its script's, as it is in text; only which of them is embedded is drawn.
    reference = [token for token, _ in said]
    languages = [language and ("en" if token.isascii() else "ko") for token, language in said]
    alignment = align(reference, heard)
    found = tolerate(alignment, languages, matrix, rules=(SOUND, TOKEN))
    assert found.errors == brute_force(reference, heard, languages, matrix)
    assert 0 <= found.errors <= alignment.counts.errors
    assert not any(code in (None, matrix) for match in found.matches for code in languages[match.start : match.end])
    if not set(languages) - {None, matrix}:
        assert found.errors == alignment.counts.errors
