"""Splitting against the known values, HiKE's published behaviour, and Unicode's own rules."""

import subprocess
import sys
import unicodedata

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from scoring.tokens import PROFILES, get_profile, replace_loanwords

CJK, HIKE, WER, CER = (PROFILES[name] for name in ("cjk", "hike", "wer", "cer"))
MIXED_TEXT = st.text(st.sampled_from("가각힣데ー데데プロ検査々aÄßé'’’z 09,.-!？ｐ½\u0301\u200f\u00ad"), max_size=30)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("이번 project는 좋아", "이|번|project|는|좋|아"),
        ("データをcheckした", "デ|ー|タ|を|check|し|た"),
        ("für die Übergröße Straße", "für|die|übergröße|straße"),
        ("３月にＡＩ、ｶﾞﾝ!", "3|月|に|ai|ガ|ン"),
        ("Don’t 'quote' ‘me’", "don't|quote|me"),
        ("I ❤️ it, はっ？!", "i|it|は|っ"),
        ("Über\u00adgröße \u202eabc\u202c", "übergröße|abc"),
        ("二〇二四年 々", "二|〇|二|四|年|々"),
        ("か゚き", "か゚|き"),
        ("すごーーい ーbug", "す|ご|ー|ー|い|ー|bug"),
        ("X™ Ⅳ℡", "xtm|ivtel"),  # compatibility forms that hold capitals
        ("Don`t I‘m rock´n y′all ‛so‛ ‘so’ a‛b `so`", "don't|i'm|rock'n|y'all|so|so|a'b|so"),
        ("5′3″ 2 ‘a", "5|3|2|a"),
        ("ฉันไปmeetingแล้ว", "ฉั|น|ไ|ป|meeting|แ|ล้|ว"),
        ("ຂ້ອຍ ខ្ញុំ ကျွန်", "ຂ້|ອ|ຍ|ខ្|ញុំ|ကျွ|န်"),
        ("…", ""),
    ],
)
def test_cjk_splits_as_worked_by_hand(text, tokens):
    assert CJK.reference(text) == CJK.hypothesis(text) == [token for token in tokens.split("|") if token]


@pytest.mark.parametrize("profile", [CJK, WER, CER], ids=lambda profile: profile.name)
@given(text=st.one_of(st.text(max_size=30), MIXED_TEXT))
def test_unicode_normal_forms_agree_and_tokens_are_stable(profile, text):
    tokens = profile.reference(text)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert profile.reference(unicodedata.normalize(form, text)) == tokens
    assert all(token.strip() for token in tokens)
    assert profile.reference(" ".join(tokens)) == tokens


@given(MIXED_TEXT.map(lambda text: text.replace("'", "").replace("’", "")))
def test_profiles_hold_the_same_characters(text):
    joined = ["".join(profile.reference(text)) for profile in (CJK, WER, CER)]
    words = [text.replace("'", "") for text in joined]  # a space and an accent between letters are an acute accent
    assert words[0] == words[1] == words[2]


def test_wer_keeps_words_whole_and_cer_takes_them_apart():
    assert WER.reference("데이터를 check した。") == ["데이터를", "check", "した"]
    assert CER.reference("Für dich.") == list("fürdich")


@pytest.mark.parametrize(
    ("hypothesis", "tokens"),
    [
        ("John's", ["john", "is"]),
        ("e-mail", ["email"]),
        ("3.5%", ["35"]),
        ("좋아[noise] <unk>요", ["좋", "아", "요"]),
        ("one—two", ["one", "two"]),
        ("won't, can't", ["will", "not", "can", "not"]),
        ("データをcheckした", ["データをcheckした"]),  # kana and kanji are not split
        ("bug는", ["bug", "는"]),
        (unicodedata.normalize("NFD", "가"), [unicodedata.normalize("NFD", "가")]),  # nor composed first
    ],
)
def test_hike_normalises_the_hypothesis(hypothesis, tokens):
    assert HIKE.hypothesis(hypothesis) == tokens


def test_hike_takes_the_reference_as_given():
    assert HIKE.reference("John's e-mail, 좋아!") == ["John's", "e-mail,", "좋", "아", "!"]


def test_hike_equals_its_published_chain_of_jiwer_transforms():
    chain = jiwer.Compose(
        [
            jiwer.ToLowerCase(),
            jiwer.ExpandCommonEnglishContractions(),
            jiwer.RemoveKaldiNonWords(),
            jiwer.SubstituteWords({"—": " "}),
            jiwer.RemovePunctuation(),
            jiwer.RemoveWhiteSpace(replace_by_space=True),
            jiwer.RemoveMultipleSpaces(),
            jiwer.Strip(),
            jiwer.ReduceToSingleSentence(),
            jiwer.ReduceToListOfListOfWords(),
        ]
    )
    for text in ("Let's go — now!", "the R&D team's 3.5% [laugh] up", "a\tb\nc", "“Quoted”—text…"):
        assert HIKE.hypothesis(text) == chain(text)[0]


def test_loanwords_are_replaced_by_substring_in_the_order_given():
    assert replace_loanwords("버스정류장 버스", [("버스", "bus"), ("bus정", "x")]) == "x류장 bus"


def test_an_unknown_profile_names_the_nearest():
    with pytest.raises(UserError, match="'cjj', did you mean 'cjk'"):
        get_profile("cjj")


def test_scoring_imports_without_torch():
    code = (
        "import pkgutil, importlib, sys, scoring\n"
        "for module in pkgutil.walk_packages(scoring.__path__, 'scoring.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "heavy = {'torch', 'lightning', 'transformers', 'datamodules'}\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
