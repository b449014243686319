"""Finding when a speaker switches: spans by script, paths by brute force, tones in place of letters."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from transformers import WhisperFeatureExtractor

import prepare as prepare_script
from backbone.token_times import TokenTimes
from common.audio import load_waveform, speech_edges
from common.errors import UserError
from common.manifest import Span, Utterance, read_manifest, write_manifest
from common.options import run
from corpora import aligners
from corpora.align import NotAlignable, Switch, align, language_spans, letters, span_words
from corpora.aligners import AttentionAligner, CTCAligner
from tests.test_windows import cut_by_hand

HZ = 16_000


def utterance(text: str, pair: str = "ko-en", spans: Sequence[Span] | None = None, **more: object) -> Utterance:
    spans = None if spans is None else tuple(spans)
    return Utterance("u", Path("u.wav"), 1.0, text, pair, pair.split("-")[0], spans=spans, **more)


# Spans and letters


def test_scripts_tell_spans():
    spans = language_spans(utterance("‘새’ report 3개를, OK?"))
    assert [(s.language, s.text) for s in spans] == [
        ("ko", "‘새’"),
        ("en", "report 3"),
        ("ko", "개를,"),
        ("en", "OK?"),
    ]
    assert [s.text for s in language_spans(utterance("データをcheckした", "ja-en"))] == ["データを", "check", "した"]


def test_given_spans_go_before_scripts_and_lose_their_times():
    spans = [Span("de", 0.1, 0.4, "das "), Span("en", None, None, "meeting")]
    expected = [Span("de", text="das "), Span("en", text="meeting")]
    assert language_spans(utterance("das meeting", "de-en", spans)) == expected


@pytest.mark.parametrize(
    ("text", "pair", "reason"),
    [
        ("das meeting", "de-en", "with letters of no language or of several"),
        ("새 да", "ko-en", "with letters of no language or of several"),
        ("123", "ko-en", "without letters"),
    ],
)
def test_what_tells_no_spans_says_why(text: str, pair: str, reason: str):
    with pytest.raises(NotAlignable, match=reason):
        language_spans(utterance(text, pair))


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("ko", "오늘 아침에 , 가요.", ["오늘", "아침", "에 ,", "가요."]),
        ("ko", "카페에서 역에 학교로 친구가 저는", ["카페", "에서", "역에", "학교", "로", "친구", "가", "저는"]),
        ("de", "Ich habe – das", ["Ich", "habe –", "das"]),
        ("en", ", I need it .", [", I", "need", "it ."]),
        ("ko", "‘ - 친구가", ["‘ - 친구", "가"]),
        ("ja", "、悪い人", ["、悪い", "人"]),
        ("en", "...", ["..."]),
        (
            "ja",
            "この卵は少し新鮮です。データをcheckした",
            ["この", "卵", "は", "少し", "新鮮です。", "データ", "を", "checkした"],
        ),
        ("ja", "に学校に行きます。", ["に", "学校", "に", "行きます。"]),
        ("ja", "東京", ["東京"]),
        ("ja", "東京から会議まで一緒にはやい", ["東京", "から", "会議", "まで", "一緒にはやい"]),
    ],
)
def test_words_are_cut_at_spaces_and_in_japanese_by_script_and_particles_after_nouns(
    language: str, text: str, words: list[str]
):
    assert [word.text for word in span_words(Span(language, text=text))] == words


def test_letters_are_what_is_heard():
    assert letters([Span("ko", text="새 3"), Span("en", text="I'm ok.")]) == (list("새3imok"), [0, 2])
    with pytest.raises(NotAlignable, match="a span without letters"):
        letters([Span("ko", text="새"), Span("en", text="...")])


def test_speech_begins_and_ends_within_40_db_of_its_loudest():
    waveform = torch.full((HZ,), 1e-4)
    waveform[3_200:8_000] = 0.5
    waveform[8_000:8_160] = 0.01  # 34 dB below
    assert speech_edges(waveform) == pytest.approx((0.15, 0.56))
    assert speech_edges(waveform[3_200:8_000]) == (0.0, 0.3)


# Aligners


TONES_HZ = {"가": 400, "나": 700, "다": 1_100, "a": 1_600, "b": 2_300, "c": 3_200}


def spoken(folder: Path, count: int) -> list[Utterance]:
    """Utterances of tones, 120 ms a letter: some Korean ones, then some English, between silences."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    utterances = []
    for index in range(count):
        said = ["".join(rng.choice(list(kinds), rng.integers(2, 5))) for kinds in ("가나다", "abc")]
        time = np.arange(round(0.12 * HZ)) / HZ
        tones = [0.3 * np.sin(2 * np.pi * TONES_HZ[letter] * time) for letter in "".join(said)]
        silence = np.zeros(round(0.15 * HZ))
        path = folder / f"{index}.wav"
        waveform = np.concatenate([silence, *tones, silence])
        soundfile.write(path, waveform + 1e-4 * rng.standard_normal(len(waveform)), HZ)
        switch = round(0.15 + 0.12 * len(said[0]), 4)
        end = round(switch + 0.12 * len(said[1]), 4)
        spans = (Span("ko", 0.15, switch, said[0]), Span("en", switch, end, said[1]))
        duration = round(len(waveform) / HZ, 4)
        utterances.append(Utterance(f"u{index}", path, duration, " ".join(said), "ko-en", "ko", spans=spans))
    return utterances


def hear_tones(aligner: CTCAligner) -> CTCAligner:
    """Put 16 bands of the spectrum of each 20 ms in the place of an encoder."""

    def features(waveform: Tensor) -> Tensor:
        frames = torch.nn.functional.pad(waveform, (0, -len(waveform) % 320)).view(-1, 320)
        return 0.2 * (torch.fft.rfft(frames).abs()[:, 1:81].unflatten(1, (16, 5)).amax(2) + 1e-2).log()

    aligner.encode = lambda waveforms: list(map(features, waveforms))
    return aligner


def test_ctc_finds_tones(tiny_model: Path, tmp_path: Path):
    """Fitted to transcripts alone. Where in a tone of 120 ms the peak comes is left to CTC."""
    utterances = spoken(tmp_path / "audio", 48)
    write_manifest(tmp_path / "corpus" / "train.jsonl", utterances)
    found = hear_tones(CTCAligner(str(tiny_model), seed=1))
    report = align([tmp_path / "corpus" / "train.jsonl"], tmp_path / "out", found, 0.0)
    assert report.aligned == report.utterances == 48 == len(report.errors_ms)
    assert np.percentile(np.abs(report.errors_ms), 75) < 125
    again = align(
        [tmp_path / "corpus" / "train.jsonl"], tmp_path / "again", hear_tones(CTCAligner(str(tiny_model), seed=1)), 0.0
    )
    assert again.errors_ms == report.errors_ms
    first = read_manifest(tmp_path / "out" / "corpus" / "train.jsonl")[0]
    assert first.spans[0].start == pytest.approx(0.1, abs=0.011) and first.spans[0].end == first.spans[1].start
    assert replace(first, spans=None) == replace(utterances[0], spans=None)


def test_a_switch_lies_where_the_letter_before_it_ends(tiny_model: Path):
    """Peaks of 가 at position 2, 나 at 5 and 6, a at 9, b at 12, and blanks between; each with its probability."""
    aligner = CTCAligner(str(tiny_model))
    aligner.kinds = {"가": 1, "나": 2, "a": 3, "b": 4}
    peaks = {2: (1, 0.9), 5: (2, 0.8), 6: (2, 0.8), 9: (3, 0.5), 12: (4, 0.7)}
    emission = torch.full((15, 5), 0.001)
    emission[:, 0] = 1
    for position, (kind, probability) in peaks.items():
        emission[position, 0], emission[position, kind] = 1e-6, probability / (1 - probability) * 0.003
    aligner.head = torch.nn.Identity()
    [switch] = aligner.switches(emission.log(), [Span("ko", text="가나"), Span("en", text="Ab")], "가나 Ab")
    assert switch.time_s == 7 / 50
    assert switch.score == pytest.approx((0.9 * 0.8 * 0.5 * 0.7) ** 0.25, rel=1e-2)


def test_nothing_is_encoded_twice(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The head is fitted to three of seven, whose states the alignment takes as they are."""
    monkeypatch.setattr(aligners, "_FIT_UTTERANCES", 3)
    write_manifest(tmp_path / "in" / "train.jsonl", spoken(tmp_path / "audio", 7))
    aligner = CTCAligner(str(tiny_model))
    rows = []
    aligner.whisper.model.encoder.register_forward_hook(lambda _, given, states: rows.append(len(given[0])))
    report = align([tmp_path / "in" / "train.jsonl"], tmp_path / "out", aligner, 0.0)
    assert rows == [3, 4] and report.aligned == 7


def test_ctc_refuses_more_text_than_sound(tiny_model: Path, tmp_path: Path):
    utterances = spoken(tmp_path / "audio", 4)
    found = CTCAligner(str(tiny_model))
    found.prepare([(u, language_spans(u)) for u in utterances])
    spans = [Span("ko", text="가"), Span("en", text="abab")]
    [states] = found.encode([torch.zeros(1_600)])  # five positions
    assert len(found.switches(states, spans, "가 abab")) == 1
    for text in ("ababa", "aabb"):  # six letters; five and two blanks between equal ones
        with pytest.raises(NotAlignable, match="more text than sound"):
            found.switches(states, [spans[0], Span("en", text=text)], f"가 {text}")


def test_attention_switches_between_the_characters_of_spans(tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    """Two tokens, `ab` and ` xy`, of 0.1 to 0.3 and 0.3 to 0.5 s; more text than sound is refused."""
    aligner = AttentionAligner(str(tiny_model))
    times = TokenTimes([0, 2, 5], [0.1, 0.3, 0.5], [0.9, 0.8], [0.5, 0.3, 0.7])
    monkeypatch.setattr("corpora.aligners.token_times", lambda *_: [times])
    spans, states = [Span("ko", text="ab"), Span("en", text="xy")], torch.zeros(30, 16)
    [switch] = aligner.switches(states, spans, "ab xy")
    assert switch.time_s == 0.3
    assert switch.score == pytest.approx((0.5 + 0.3 + 0.7) / 3)
    monkeypatch.setattr("corpora.aligners.token_times", lambda *_: [None])
    with pytest.raises(NotAlignable, match="more text than sound"):
        aligner.switches(states, spans, "ab xy")


@pytest.mark.parametrize("kind", [CTCAligner, AttentionAligner])
def test_a_model_hears_the_window_that_it_was_trained_with(tiny_model: Path, tmp_path: Path, kind: type):
    """Against a table of positions cut by hand; an utterance beyond the window brings the whole one back."""
    shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    (tmp_path / "model/config.json").write_text(json.dumps(config | {"encoder_window": 1.5}))
    aligner = kind(str(tmp_path / "model"))
    heard = []
    aligner.whisper.model.encoder.register_forward_hook(lambda _, given, states: heard.append(states[0]))
    utterances = spoken(tmp_path / "audio", 2)
    spans = [(u, language_spans(u)) for u in utterances]
    waveform_S = load_waveform(utterances[0].audio)
    extractor = WhisperFeatureExtractor(chunk_length=2)
    mel_BFT = extractor(waveform_S.numpy(), sampling_rate=HZ, return_tensors="pt").input_features
    soundfile.write(tmp_path / "long.wav", np.tile(waveform_S, 2)[: round(1.8 * HZ)], HZ)
    long = replace(utterances[0], audio=tmp_path / "long.wav", duration=1.8)
    for positions, rows in ((75, spans), (100, [*spans, (long, spans[0][1])])):
        aligner.prepare(rows)
        aligner.switches(*aligner.encode([waveform_S]), spans[0][1], utterances[0].text)
        if kind is CTCAligner and positions == 100:  # of whole seconds, as the head is fitted to what it reads
            positions = 50 * math.ceil(len(waveform_S) / HZ)
        encoder = cut_by_hand(tiny_model, positions).model.encoder
        expected = encoder(mel_BFT[..., : 2 * positions]).last_hidden_state
        torch.testing.assert_close(heard[-1], expected, atol=1e-3, rtol=1e-3)
    with pytest.raises(UserError, match=r"align: 1 of 1 utterances are longer than the model's window of 2 s"):
        aligner.prepare([(replace(utterances[0], duration=2.5), spans[0][1])])


# Manifests


class Fixed:
    """Every switch at a third of the utterance; unsure of what says `may`."""

    def prepare(self, utterances: Sequence[tuple[Utterance, Sequence[Span]]]) -> dict[int, Tensor]:
        self.asked = [utterance.text for utterance, _ in utterances]
        return {}

    def encode(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        return list(waveforms)

    def switches(self, waveform_S: Tensor, spans: Sequence[Span], text: str) -> list[Switch]:
        if "never" in spans[1].text:
            raise NotAlignable("with more text than sound")
        return [Switch(len(waveform_S) / HZ / 3, 0.1 if "may" in spans[1].text else 0.9)]


def corpus(folder: Path, *texts: str) -> Path:
    folder.mkdir(parents=True)
    waveform = 0.3 * np.random.default_rng(0).standard_normal(HZ)
    soundfile.write(folder / "a.wav", waveform, HZ)
    rows = [Utterance(f"u{i}", folder / "a.wav", 1.0, text, "ko-en", "ko") for i, text in enumerate(texts)]
    write_manifest(folder / "train.jsonl", rows)
    return folder / "train.jsonl"


def test_bad_alignments_are_left_out_and_counted(tmp_path: Path):
    """Errors count against known times: spans of the sixth begin at 0.1 and 0.4 s, a third is at 0.333 s."""
    manifest = corpus(tmp_path / "aihub", "새 yes", "새 may", "새 never", "새 да", "새", "네 ok")
    rows = read_manifest(manifest)
    rows[5] = replace(rows[5], spans=(Span("ko", 0.1, 0.4, "네"), Span("en", 0.4, 0.9, "ok")))
    write_manifest(manifest, rows)
    aligner = Fixed()
    report = align([manifest], tmp_path / "out", aligner, 0.2)
    assert aligner.asked == ["새 yes", "새 may", "새 never", "새", "네 ok"]
    assert (report.utterances, report.aligned) == (6, 3)
    assert report.left_out == {
        "with a switch that scores under 0.2": 1,
        "with more text than sound": 1,
        "with letters of no language or of several": 1,
    }
    assert report.errors_ms == pytest.approx([1000 / 3 - 400])
    written = read_manifest(tmp_path / "out" / "aihub" / "train.jsonl")
    assert written[0].spans == (Span("ko", 0.0, 0.3333, "새"), Span("en", 0.3333, 1.0, "yes"))
    assert written[1].spans == written[2].spans[:0] + (Span("ko", text="새"), Span("en", text="may"))
    assert written[3].spans is None and written[4].spans == (Span("ko", 0.0, 1.0, "새"),)
    assert [row.audio for row in written] == [tmp_path / "aihub" / "a.wav"] * 6
    assert report.lines()[0] == "3 of 6 utterances aligned"


class Listed:
    """Switches as they are listed."""

    def __init__(self, *switches: tuple[float, float]) -> None:
        self.found = [Switch(*switch) for switch in switches]

    def prepare(self, utterances: Sequence[tuple[Utterance, Sequence[Span]]]) -> dict[int, Tensor]:
        return {}

    def encode(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        return list(waveforms)

    def switches(self, waveform_S: Tensor, spans: Sequence[Span], text: str) -> list[Switch]:
        return self.found


def test_words_become_spans_where_their_borders_are_sure(tmp_path: Path):
    """Unsure: the border before `긴`, and `am` lasts 20 ms; only the switch's own error counts."""
    manifest = corpus(tmp_path / "aihub", "이 긴 새 I am here.")
    [row] = read_manifest(manifest)
    write_manifest(manifest, [replace(row, spans=(Span("ko", 0, 0.5, "이 긴 새"), Span("en", 0.5, 1, "I am here.")))])
    aligner = Listed((0.2, 0.01), (0.4, 0.9), (0.6, 0.8), (0.7, 0.8), (0.72, 0.9))
    report = align([manifest], tmp_path / "out", aligner, 0.2, words=True)
    assert report.errors_ms == pytest.approx([100])
    [row] = read_manifest(tmp_path / "out" / "aihub" / "train.jsonl")
    assert row.spans == (
        Span("ko", 0.0, 0.4, "이 긴"),
        Span("ko", 0.4, 0.6, "새"),
        Span("en", 0.6, 1.0, "I am here."),
    )
    aligner = Listed((0.2, 0.9), (0.4, 0.9), (0.6, 0.1), (0.7, 0.8), (0.72, 0.9))
    report = align([manifest], tmp_path / "out", aligner, 0.2, words=True)
    [row] = read_manifest(tmp_path / "out" / "aihub" / "train.jsonl")
    assert report.aligned == 0 and row.spans == (Span("ko", text="이 긴 새"), Span("en", text="I am here."))


def test_a_record_tells_what_was_aligned_and_what_came_of_it(tmp_path: Path):
    """Two manifests of one corpus, one after the other; 1 s each, one of three left out."""
    train = corpus(tmp_path / "aihub", "새 yes", "새 may", "네 ok")
    dev = train.with_name("dev.jsonl")
    write_manifest(dev, [replace(row, licence="CC0-1.0") for row in read_manifest(train)[:1]])
    write_manifest(train, [replace(row, licence="CC-BY-4.0") for row in read_manifest(train)])
    how = {"model": "openai/whisper-medium"}
    align([train], tmp_path / "out", Fixed(), 0.2, made_by=how)
    align([dev], tmp_path / "out", Fixed(), 0.3, made_by=how)
    record = json.loads((tmp_path / "out/aihub/corpus.json").read_text())
    assert (record["corpus"], record["command"], record["licence"]) == ("aihub", "align", "CC-BY-4.0; CC0-1.0")
    told = record["manifests"]["train.jsonl"]
    assert (told["source"], told["model"], told["words"], told["least_score"]) == (str(train), how["model"], False, 0.2)
    assert (told["aligned"], told["left_out"]) == (2, {"with a switch that scores under 0.2": 1})
    assert (told["utterances"], told["pairs"], told["hours"]) == (3, {"ko-en": 3}, round(3 / 3600, 4))
    assert record["manifests"]["dev.jsonl"]["aligned"] == 1


def test_another_corpus_is_not_written_over(tmp_path: Path):
    manifest = corpus(tmp_path / "a" / "ko-en", "새 yes")
    (tmp_path / "out/ko-en").mkdir(parents=True)
    (tmp_path / "out/ko-en/corpus.json").write_text('{"corpus": "aihub", "reader": "aihub", "manifests": {}}')
    with pytest.raises(
        UserError, match="out/ko-en: the corpus aihub, prepared by aihub, lies there; choose another --out"
    ):
        align([manifest], tmp_path / "out", Fixed(), 0.2)
    assert [path.name for path in (tmp_path / "out/ko-en").iterdir()] == ["corpus.json"]


def test_a_file_that_no_call_left_is_not_written_over(tmp_path: Path):
    manifest = corpus(tmp_path / "a" / "ko-en", "새 yes")
    place = tmp_path / "out/ko-en/train.jsonl"
    place.parent.mkdir(parents=True)
    place.write_text("mine\n")
    with pytest.raises(UserError, match=r"ko-en/train\.jsonl: exists, and is no manifest of an earlier call"):
        align([manifest], tmp_path / "out", Fixed(), 0.2)
    assert place.read_text() == "mine\n" and len(list(place.parent.iterdir())) == 1
    place.write_bytes(manifest.read_bytes())  # as where the call was killed before it wrote the record
    align([manifest], tmp_path / "out", Fixed(), 0.2)
    align([manifest], tmp_path / "out", Fixed(), 0.2)


def test_what_cannot_be_aligned_keeps_no_times_of_before(tmp_path: Path):
    """Spans without texts, and letters that do not tell the language."""
    manifest = corpus(tmp_path / "unicom", "das meeting")
    [row] = read_manifest(manifest)
    known = (Span("de", 0.1, 0.4), Span("en", 0.4, 0.9))
    write_manifest(manifest, [replace(row, pair="de-en", matrix_language="de", spans=known)])
    align([manifest], tmp_path / "out", Fixed(), 0.2)
    [row] = read_manifest(tmp_path / "out" / "unicom" / "train.jsonl")
    assert row.spans == (Span("de"), Span("en"))


def test_no_manifest_is_written_over(tmp_path: Path):
    first, second = corpus(tmp_path / "a" / "ko-en", "새 yes"), corpus(tmp_path / "b" / "ko-en", "새 yes")
    with pytest.raises(UserError, match=r"would be written to .*out/ko-en/train\.jsonl, which is taken"):
        align([first, second], tmp_path / "out", Fixed(), 0.2)
    with pytest.raises(UserError, match="which is taken; choose another --out"):
        align([first], tmp_path / "a", Fixed(), 0.2)
    assert not (tmp_path / "out").exists()


def test_the_command_says_how_far_off_it_is(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    write_manifest(tmp_path / "corpus" / "train.jsonl", spoken(tmp_path / "audio", 6))
    arguments = ["align", str(tmp_path / "corpus" / "train.jsonl"), "--model", str(tiny_model), "--device", "cpu"]
    for method in ("ctc", "attention"):
        out = ["--out", str(tmp_path / method), "--method", method, "--least-score", "0"]
        assert run(prepare_script.PREPARE, [*arguments, *out]) == 0
        printed = capsys.readouterr().out
        assert "6 of 6 utterances aligned\n  6 switches of known times: median error" in printed
        told = json.loads((tmp_path / method / "corpus" / "corpus.json").read_text())["manifests"]["train.jsonl"]
        assert (told["model"], told["method"], told["seed"]) == (str(tiny_model), method, 0)
        row = json.loads((tmp_path / method / "corpus" / "train.jsonl").read_text().splitlines()[0])
        assert row["spans"][0]["end"] == row["spans"][1]["start"]


def test_spans_that_begin_with_punctuation_are_aligned_by_word(tiny_model: Path, tmp_path: Path):
    """A span of punctuation alone leaves its utterance without times, whatever is asked for."""
    texts = ("새 , I need it.", "네, ...")
    manifest = corpus(tmp_path / "aihub", *texts)
    spans = ((Span("ko", text="새"), Span("en", text=", I need it.")), (Span("ko", text="네,"), Span("en", text="...")))
    rows = [replace(row, spans=given) for row, given in zip(read_manifest(manifest), spans, strict=True)]
    write_manifest(manifest, rows)
    for words in (False, True):
        report = align([manifest], tmp_path / f"out{words}", CTCAligner(str(tiny_model)), 0.0, words)
        assert (report.aligned, report.left_out) == (1, {"with a span without letters": 1})
        first, second = read_manifest(tmp_path / f"out{words}" / "aihub" / "train.jsonl")
        assert first.spans[1].text.startswith(", I") and first.spans[-1].end is not None
        assert second.spans == spans[1]


def test_batches_of_any_order_give_the_utterances_back_in_their_own(tmp_path: Path):
    manifest = corpus(tmp_path / "aihub", *(f"새 yes {'a' * number}" for number in range(40)))
    rows = read_manifest(manifest)
    write_manifest(manifest, [replace(row, duration=1 - 0.01 * (i * 7 % 40)) for i, row in enumerate(rows)])
    assert align([manifest], tmp_path / "out", Fixed(), 0.0).aligned == 40
    written = read_manifest(tmp_path / "out/aihub/train.jsonl")
    assert [row.id for row in written] == [row.id for row in rows]
    assert all(row.spans[0].end == pytest.approx(row.duration / 3, abs=1e-3) for row in written)
