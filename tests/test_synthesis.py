import importlib.util
import json
import multiprocessing
import os
import re

import numpy as np
import pytest
import soundfile

from common.errors import UserError
from common.manifest import read_manifest
from common.options import run
from corpora.speak import demo_corpora as corpora
from corpora.speak import espeak
from corpora.speak.grammar import Blank, Filling, english, german, indefinite_article, particle, spoken, words, written
from corpora.speak.mixing import switched
from corpora.speak.sentences import SentenceStream, templates
from datamodules.leaks import transcript_key
from prepare import PREPARE

LANGUAGES = ("en", "de", "ko", "ja")
PARTS_OF_SPEECH = ("nouns", "verbs", "adjectives", "adverbs", "times", "places", "clauses")
PAIRS = [corpus.name for corpus in corpora.CORPORA]
SCRIPTS = {
    "ko": re.compile(r"[가-힣]+"),
    "ja": re.compile(r"[ぁ-んァ-ンー一-龯々]+"),
    "de": re.compile(r"[A-Za-zÄÖÜäöüßé-]+"),
    "en": re.compile(r"[A-Za-z']+"),
}


def noun(english_form):
    return next(word for word in words("nouns") if word["en"][0].split(" ", 1)[-1] == english_form)


def word(table, english_form):
    return next(word for word in words(table) if word["en"][0] == english_form)


@pytest.mark.parametrize(
    ("before", "language", "alternatives", "expected"),
    [
        ("책", "ko", "을/를", "을"),
        ("친구", "ko", "을/를", "를"),
        ("선생님", "ko", "이/가", "이"),
        ("회의", "ko", "은/는", "는"),
        ("선생님", "ko", "와/과", "과"),
        ("친구", "ko", "와/과", "와"),
        ("지하철", "ko", "으로/로", "로"),
        ("버스", "ko", "으로/로", "로"),
        ("집", "ko", "으로/로", "으로"),
        ("the new meeting", "en", "은/는", "은"),  # 미팅
        ("report", "en", "을/를", "를"),  # 리포트
        ("file", "en", "을/를", "을"),  # 파일
        ("phone", "en", "이/가", "이"),  # 폰
        ("coffee", "en", "을/를", "를"),  # 커피
        ("book", "en", "을/를", "을"),  # 북
        ("bicycle", "en", "으로/로", "로"),  # 바이시클
        ("Besprechung", "de", "은/는", "은"),  # 베슈프레훙
        ("Tasche", "de", "을/를", "를"),  # 타셰
        ("den neuen Stuhl", "de", "을/를", "을"),  # 슈툴
        ("Bericht", "de", "이/가", "가"),  # 베리히트
        ("パン", "ja", "을/를", "을"),  # 팡
        ("本[ほん]", "ja", "이/가", "이"),  # 혼
        ("駅[えき]", "ja", "은/는", "는"),  # 에키
    ],
)
def test_korean_particles_follow_the_sound_before(before, language, alternatives, expected):
    assert particle(f"{alternatives} 봤어요.", before, language) == f"{expected} 봤어요."


@pytest.mark.parametrize(
    ("form", "thing", "adjective", "expected"),
    [
        ("der", "report", None, "der Bericht"),
        ("den", "report", None, "den Bericht"),
        ("dem", "report", None, "dem Bericht"),
        ("dem", "list", None, "der Liste"),
        ("einen", "book", None, "ein Buch"),
        ("einen", "list", "new", "eine neue Liste"),
        ("einen", "report", "new", "einen neuen Bericht"),
        ("einen", "book", "new", "ein neues Buch"),
        ("einem", "book", "new", "einem neuen Buch"),
        ("ein", "report", "new", "ein neuer Bericht"),
        ("den", "list", "expensive", "die teure Liste"),
        ("den", "book", "important", "das wichtige Buch"),
        ("der", "report", "important", "der wichtige Bericht"),
        ("diesen", "movie", None, "diesen Film"),
        ("diesen", "song", "new", "dieses neue Lied"),
        ("einen", "coffee", None, "Kaffee"),
        ("einen", "coffee", "cold", "kalten Kaffee"),
        ("einen", "beer", "cold", "kaltes Bier"),
        ("mein", "friend", None, "mein Freund"),
        ("meinem", "sister", None, "meiner Schwester"),
        ("den", "brother", None, "meinen Bruder"),
    ],
)
def test_german_is_declined(form, thing, adjective, expected):
    filling = Filling(noun(thing), word("adjectives", adjective) if adjective else None)
    assert german(Blank("noun", form=form), filling) == expected


def test_german_names_take_no_article():
    assert german(Blank("person", form="meinen"), Filling(noun("Emma"))) == "Anna"


def test_english_articles():
    assert [indefinite_article(x) for x in ("email", "useful map", "old map", "map")] == ["an", "a", "an", "a"]
    assert english(Blank("noun", form="a"), Filling(noun("umbrella"), word("adjectives", "new"))) == "a new umbrella"
    assert english(Blank("noun", form="a"), Filling(noun("tea"))) == "some tea"
    assert english(Blank("object", form="the"), Filling(noun("friend"))) == "my friend"


def test_japanese_is_written_with_kanji_and_spoken_as_kana():
    text = "今日[きょう]は[わ] とても 寒[さむ]いです。"
    assert written(text, "ja") == "今日はとても寒いです。"
    assert spoken(text, "ja") == "きょうわ とても さむいです. "


def pieces(blank, filling, matrix, embedded, level, following=""):
    found = switched(blank, filling, matrix, embedded, level, following)
    return found and "".join(text for _, text in found)


def test_switches_read_as_people_switch():
    report = Filling(noun("report"), word("adjectives", "new"))
    check = Filling(word("verbs", "check"))
    assert pieces(Blank("object"), report, "ko", "en", "word") == "새로운 report"
    assert pieces(Blank("object", form="den"), report, "de", "en", "word") == "den neuen report"
    assert pieces(Blank("object"), report, "ko", "en", "phrase") == "the new report"
    assert pieces(Blank("object"), report, "ko", "de", "phrase", "을/를 ") == "den neuen Bericht"
    assert pieces(Blank("object", form="einen"), report, "de", "en", "phrase") == "a new report"
    assert pieces(Blank("noun", form="이"), Filling(noun("report")), "ko", "de", "phrase", "은/는") == "dieser Bericht"
    assert pieces(Blank("verb", form="past"), check, "ja", "en", "word") == "checkしました"
    assert pieces(Blank("verb", form="want"), check, "ko", "ja", "word") == "確認[かくにん]하고 싶어요"
    assert (
        pieces(Blank("verb", form="past"), Filling(word("verbs", "read")), "ko", "en", "word") is None
    )  # 읽-: no 하다
    assert (
        pieces(Blank("place", form="at 에서"), Filling(word("places", "station")), "ko", "de", "word") == "Bahnhof에서"
    )
    assert pieces(Blank("place", form="at"), Filling(word("places", "office")), "de", "en", "word") == "im office"
    assert (
        pieces(Blank("place", form="at 에"), Filling(word("places", "station")), "ko", "ja", "phrase") == "駅[えき]に"
    )
    assert (
        pieces(Blank("adj", form="pred"), Filling(word("adjectives", "important")), "ja", "en", "word")
        == "importantです"
    )
    assert pieces(Blank("person"), Filling(noun("Emma")), "ko", "en", "word") is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_lexicon_and_frames_are_large_enough(language):
    forms = {written(entry[language][0], language) for table in PARTS_OF_SPEECH for entry in words(table)}
    assert len(forms) >= 150
    assert len({template.parts for template in templates(language)}) >= 12


def test_lexicon_cells_hold_the_forms_that_the_grammar_reads():
    shapes = {
        "nouns": (1, 1, 1, 1),
        "verbs": (2, 2, 4, 2),
        "adjectives": (1, None, 2, 1),
        "adverbs": (1, 1, 1, 1),
        "times": (1, 1, 1, 1),
        "places": (3, 3, 1, 1),
        "clauses": (1, 1, 1, 1),
    }
    for table, shape in shapes.items():
        for entry in words(table):
            for language, forms in zip(LANGUAGES, shape, strict=True):
                assert forms in (None, len(entry[language])), entry
                for form in entry[language]:
                    said = spoken(form, language).rstrip(". ")
                    assert "[" not in written(form, language)
                    assert all(SCRIPTS[language].fullmatch(token) for token in said.split()), entry
                    assert language != "ja" or not re.search("[一-龯]", said), f"a kanji without a reading: {form}"
    assert all(n["de"][0].split()[0] in ("der", "die", "das") for n in words("nouns") if "name" not in n.tags)


@pytest.mark.parametrize("name", PAIRS)
def test_sentences_are_new_in_every_split_and_in_their_own_script(name):
    corpus = next(corpus for corpus in corpora.CORPORA if corpus.name == name)
    splits = corpora.draw(corpus, corpora.COUNTS)
    texts = [sentence.text for sentences in splits.values() for sentence in sentences]
    assert {split: len(sentences) for split, sentences in splits.items()} == {"test": 200, "dev": 64, "train": 584}
    assert len(set(texts)) == 848
    for sentence in (sentence for sentences in splits.values() for sentence in sentences):
        spans = sentence.spans
        assert {language for language, _, _ in spans} == set(name.split("-"))
        assert "".join(text for _, text, _ in spans).replace(" ", "") == sentence.text.replace(" ", "")
        assert not re.search(r"[{}\[\]|/]|  ", sentence.text)
        assert sentence.text[-1] in ".?。"
        for language, text, _ in spans:
            tokens = re.findall(r"[^\s.?。]+", text)
            assert tokens and all(SCRIPTS[language].fullmatch(token) for token in tokens), sentence.text


def test_no_corpus_trains_on_what_another_holds_out():
    """Neither capitals nor punctuation are heard: `Wo ist der laptop?` would leak `Wo ist der Laptop?`."""
    drawn = {corpus.name: corpora.draw(corpus, corpora.COUNTS) for corpus in corpora.CORPORA}
    said = {split: [transcript_key(s.text) for d in drawn.values() for s in d[split]] for split in corpora.COUNTS}
    assert len(said["train"]) == 9 * 584
    assert not set(said["train"]) & {*said["dev"], *said["test"]}
    assert not set(said["dev"]) & set(said["test"])


def test_backbone_sentences_are_in_no_held_out_split():
    corpus = next(corpus for corpus in corpora.CORPORA if corpus.name == "de")
    demo = corpora.draw(corpus, corpora.COUNTS)
    backbone = {sentence.text for sentence in corpora.draw(corpus, {"train": 1500})["train"]}
    assert len(backbone) == 1500
    assert not backbone & {sentence.text for split in ("test", "dev") for sentence in demo[split]}


def test_sources_say_when_they_run_dry():
    with pytest.raises(UserError, match="gave 0 new sentences of the 1 asked for"):
        SentenceStream("de", "seed", seen=_Everything()).take(1)


class _Everything(set):
    def __contains__(self, item):
        return True


def test_test_voices_train_nothing():
    training = {voice for corpus in corpora.CORPORA for voice in corpus.voices["train"]}
    testing = {voice for corpus in corpora.CORPORA for voice in corpus.voices["test"]}
    assert not training & testing
    assert [corpus.voices["train"] for corpus in corpora.CORPORA if corpus.name == "ja-en"] == [["f2"]]


COUNTS = {"train": 4, "dev": 2, "test": 4}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("speech")
    wanted = [(corpus, COUNTS, out / corpus.name) for corpus in corpora.CORPORA[:5]]
    corpora._write(wanted, progress=False)
    return out, wanted


def test_speech_and_spans(made):
    _, wanted = made
    for corpus, counts, folder in wanted:
        for split, count in counts.items():
            utterances = read_manifest(folder / f"{split}.jsonl")
            assert len(utterances) == count
            for utterance in utterances:
                audio, rate = soundfile.read(utterance.audio)
                info = soundfile.info(utterance.audio)
                assert (rate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
                assert utterance.audio == folder / "audio" / f"{utterance.id}.wav"
                assert utterance.duration == pytest.approx(len(audio) / rate, abs=1e-4)
                assert utterance.duration <= 4.9
                assert (utterance.pair, utterance.matrix_language) == (corpus.name, corpus.name[:2])
                assert utterance.speaker in corpus.voices["test" if split == "test" else "train"]
                assert utterance.split == split
                assert utterance.licence.startswith("Apache-2.0")
                borders = [utterance.spans[0].start, *(span.end for span in utterance.spans)]
                assert borders == sorted(borders)
                assert 0 <= borders[0] <= 0.1
                assert 0 <= utterance.duration - borders[-1] <= 0.1
                for span in utterance.spans:
                    loudness = np.sqrt(np.mean(audio[round(span.start * rate) : round(span.end * rate)] ** 2))
                    assert loudness > 0.01, f"{utterance.id}: {span} is silent"
                assert np.abs(audio[: round(0.02 * rate)]).max() < 0.02  # silence, not speech cut off


def test_speech_is_the_same_whatever_the_workers(made, tmp_path, monkeypatch):
    out, wanted = made
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    corpora._write([(corpus, counts, tmp_path / folder.name) for corpus, counts, folder in wanted[:2]], progress=False)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.*") if path.is_file())
    assert len(files) == 2 * (10 + 3 + 1)
    for file in files:
        assert (tmp_path / file).read_bytes() == (out / file).read_bytes(), file


def test_what_is_there_is_not_made_again(made):
    _, wanted = made
    folder = wanted[0][2]
    manifest = folder / "test.jsonl"
    before = manifest.stat().st_mtime_ns
    corpora._write([wanted[0]], progress=False)
    assert manifest.stat().st_mtime_ns == before
    stamp = folder / "corpus.json"
    stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"seed": "another"}))
    corpora._write([wanted[0]], progress=False)
    assert manifest.stat().st_mtime_ns != before


def test_a_corpus_tells_what_it_holds(made):
    _, wanted = made
    corpus, counts, folder = wanted[0]
    about = json.loads((folder / "corpus.json").read_text())
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    test = about["manifests"]["test.jsonl"]
    assert (about["corpus"], test["utterances"], about["licence"]) == (corpus.name, counts["test"], corpora.LICENCE)
    assert test["hours"] == pytest.approx(sum(row["duration"] for row in rows) / 3600, abs=1e-4)
    assert test["speakers"] == len({row["speaker"] for row in rows})


def test_an_interrupted_run_leaves_no_half_corpus(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(corpora, "_utterance", interrupted)
    monkeypatch.setattr(corpora, "_SHARD", 1)  # the other workers are still writing when it happens
    with pytest.raises(KeyboardInterrupt):
        corpora._write([(corpora.CORPORA[0], COUNTS, tmp_path / "ko-en")], progress=False)
    assert list(tmp_path.iterdir()) == []


def _say(lines, folder):
    return espeak.speak_all(lines, folder, seed=1)


def test_switch_times_agree_with_spans_spoken_alone(tmp_path):
    """The border of `Ich suche | the umbrella` lies where `Ich suche` alone ends; the speaker keeps its pitch."""
    voice = espeak.Voice("f3", 160, 50)
    spans = (("de", "Ich suche heute Abend "), ("en", "the new umbrella."))
    lines = [
        espeak.Line("mixed", voice, spans, 4.9),
        espeak.Line("first", voice, spans[:1], 4.9),
        espeak.Line("second", voice, spans[1:], 4.9),
    ]
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        mixed, first, second = pool.apply(_say, (lines, tmp_path))
    first_s, second_s = (line.borders_s[-1] - line.borders_s[0] for line in (first, second))
    assert mixed.borders_s[1] - mixed.borders_s[0] == pytest.approx(first_s, abs=0.15)
    assert mixed.borders_s[2] - mixed.borders_s[1] == pytest.approx(second_s, abs=0.15)
    audio, rate = soundfile.read(tmp_path / "mixed.wav")
    border = round(mixed.borders_s[1] * rate)
    assert _pitch_hz(audio[:border], rate) == pytest.approx(_pitch_hz(audio[border:], rate), rel=0.15)
    assert _pitch_hz(audio, rate) > 150  # f3 is a woman's voice, the default a man's at about 100 Hz


def _pitch_hz(audio, rate):
    """The median over 64 ms templates of the autocorrelation's peak between 60 and 400 Hz, loud templates only."""
    found = []
    for start in range(0, len(audio) - 1024, 512):
        template = audio[start : start + 1024] - audio[start : start + 1024].mean()
        correlation = np.correlate(template, template, "full")[1023:]
        lag = rate // 400 + int(correlation[rate // 400 : rate // 60].argmax())
        if template.std() > 0.02 and correlation[lag] > 0.5 * correlation[0]:
            found.append(rate / lag)
    return float(np.median(found))


def test_a_line_that_is_too_long_is_said_faster(tmp_path):
    spans = (("de", "Am Samstag gehe ich mit meiner Großmutter in die Bibliothek."),)
    line = espeak.Line("long", espeak.Voice("m1", 120, 50), spans, 3.0)
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        slow, fast = pool.apply(
            _say, ([espeak.Line("slow", line.voice, spans, 9.0), line], tmp_path)
        )  # unhurried first, to see that it is too long
    assert slow.duration_s > 3.0 >= fast.duration_s


def test_espeak_missing_is_one_clear_message(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[demo\]'"):
        corpora.write_demo(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_command_line_refuses_an_empty_backbone(tmp_path):
    with pytest.raises(UserError, match="backbone is 0, expected a whole number in"):
        run(PREPARE, ["demo", "--out", str(tmp_path), "--backbone", "0"])
