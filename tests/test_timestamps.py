"""Timestamps in training labels, by hand: of the edges of speech, of switches, at other speeds, of what is joined."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import WhisperProcessor, WhisperTokenizer

from common.errors import UserError
from common.manifest import Span, Utterance
from datamodules.augment import SpeedPerturbation
from datamodules.dataset import LabelMaker, PairDataset
from datamodules.timestamps import PlayedUtterance, TimestampLabels

SPANS = (Span("ko", 0.5, 1.0, "새"), Span("en", 1.0, 1.33, "report"), Span("ko", 1.33, 1.7, "를 썼어요."))


def speech(begin_s: float = 0.4, end_s: float = 1.6, whole_s: float = 2.0) -> torch.Tensor:
    """Of the edges, 50 ms earlier and later: 0.35 and 1.65 s."""
    waveform_S = torch.zeros(round(16_000 * whole_s))
    waveform_S[round(16_000 * begin_s) : round(16_000 * end_s)] = 0.3
    return waveform_S


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> WhisperTokenizer:
    return WhisperProcessor.from_pretrained(tiny_model).tokenizer


def utterance(text: str, pair: str = "ko-en", spans: tuple[Span, ...] | None = None) -> Utterance:
    return Utterance("u", Path("u.wav"), 2.0, text, pair, pair.split("-")[0], spans=spans)


def written(tokenizer: WhisperTokenizer, said: Utterance, tempo: float = 1.0, room: int = 128) -> str:
    recorded_S = speech()
    played_S = torch.zeros(round(len(recorded_S) / tempo))
    tokens = TimestampLabels(1.0, tokenizer, 30, room).tokens(PlayedUtterance(said, recorded_S, played_S))
    assert len(tokens) <= room - 4
    return shown(tokenizer, tokens)


def shown(tokenizer: WhisperTokenizer, tokens: Sequence[int]) -> str:
    """The text with its timestamps, whose tokens come last in the vocabulary."""
    first = tokenizer.convert_tokens_to_ids("<|0.00|>")
    runs = groupby(tokens, key=lambda token: token >= first)
    return "".join(
        "".join(tokenizer.convert_ids_to_tokens(run)) if timed else tokenizer.decode(run)
        for timed, run in ((timed, list(run)) for timed, run in runs)
    )


def test_a_text_without_spans_is_timed_by_its_sound(tokenizer: WhisperTokenizer):
    """0.35 s and 1.65 s are 17.5 and 82.5 times 20 ms, and halves are rounded to even numbers."""
    assert written(tokenizer, utterance("새 report")) == "<|0.36|>새 report<|1.64|>"
    spans = (Span("ko", text="새"), Span("en", text="report"))
    assert written(tokenizer, utterance("새 report", spans=spans)) == "<|0.36|>새 report<|1.64|>"


@pytest.mark.parametrize(
    ("pair", "text", "spans", "expected"),
    [
        ("ko-en", "새 report를 썼어요.", SPANS, "<|0.50|>새<|1.00|><|1.00|> report를 썼어요.<|1.64|>"),
        (
            "ja-en",
            "新しいreportです。",
            (Span("ja", 0.3, 0.9, "新しい"), Span("en", 0.94, 1.3, "report"), Span("ja", 1.3, 1.5, "です")),
            "<|0.36|>新しい<|0.90|><|0.94|>report<|1.30|><|1.30|>です。<|1.50|>",
        ),
        (
            "de-en",
            "Das neue Meeting, ok?",
            (Span("de", 0.4, 0.7, "Das"), Span("de", 0.7, 1.0, "neue"), Span("en", 1.0, 1.5, "Meeting, ok")),
            "<|0.40|>Das neue<|1.00|><|1.00|> Meeting, ok?<|1.50|>",
        ),
    ],
)
def test_switches_are_timed_where_spans_are(tokenizer, pair: str, text: str, spans: tuple, expected: str):
    """Not before a Korean particle; spans of one language are one part; no time lies outside the speech."""
    assert written(tokenizer, utterance(text, pair, spans)) == expected


@pytest.mark.parametrize(
    "spans",
    [
        (Span("ko", 0.5, 1.0, "새"), Span("en", 1.0, 1.008, "report")),  # both at 1.00 s
        (Span("ko", 0.5, 1.0, "새"), Span("en", 0.9, 1.5, "report")),
        (Span("ko", 0.5, 1.0, "헌"), Span("en", 1.0, 1.5, "report")),
    ],
)
def test_spans_that_cannot_be_leave_begin_and_end(tokenizer, spans: tuple):
    assert written(tokenizer, utterance("새 report", spans=spans)) == "<|0.36|>새 report<|1.64|>"


def test_a_text_keeps_as_many_timestamps_as_the_decoder_has_room_for(tokenizer):
    said = utterance("새 report를 썼어요.", spans=SPANS)
    size = len(tokenizer.encode(said.text, add_special_tokens=False)) + 4  # the prompt: two tags at most
    assert written(tokenizer, said, room=size + 4).count("<|") == 4
    assert written(tokenizer, said, room=size + 3) == "<|0.36|>새 report를 썼어요.<|1.64|>"
    assert written(tokenizer, said, room=size + 1) == ""
    unreadable_S = torch.zeros(1)
    assert TimestampLabels(1.0, tokenizer, 30, 128).tokens(PlayedUtterance(said, unreadable_S, unreadable_S)) == []


def test_speech_beyond_the_last_timestamp_has_none(tokenizer):
    """At two thirds of its speed, what ends at 20.05 s ends at 30.08 s."""
    tokens = TimestampLabels(1.0, tokenizer, 30, 128).tokens
    for end_s, whole_s, is_timed in ((19.9, 20, True), (20.0, 20.5, False)):
        recorded_S = speech(0.4, end_s, whole_s)
        slow = PlayedUtterance(utterance("새 report"), recorded_S, torch.zeros(len(recorded_S) * 3 // 2))
        assert bool(tokens(slow)) == is_timed


@pytest.fixture
def heard(tmp_path: Path) -> Utterance:
    soundfile.write(tmp_path / "u.wav", speech().numpy(), 16_000, subtype="FLOAT")
    return replace(utterance("새 report를 썼어요.", spans=SPANS), audio=tmp_path / "u.wav")


def dataset(
    said: Utterance, tokenizer: WhisperTokenizer, share: float, window_s: float = 2, **more: object
) -> PairDataset:
    """In a window that holds the utterance of two seconds, and no other beside it."""
    timestamps = TimestampLabels(share, tokenizer, window_s, 128) if share else None
    return PairDataset({"ko-en": [said]}, LabelMaker(tokenizer), timestamps=timestamps, **more)


def test_timestamps_are_learnt_and_their_prompt_lets_them_be(tokenizer: WhisperTokenizer, heard: Utterance):
    example = dataset(heard, tokenizer, 1.0)["ko-en", 0]
    read = tokenizer.convert_ids_to_tokens(example.decoder_inputs_U)
    assert read[:4] == ["<|startoftranscript|>", "<|ko|>", "<|transcribe|>", "<|0.50|>"] and read[-1] == "<|1.64|>"
    assert example.labels_U[:2].tolist() == [-100] * 2
    assert example.labels_U[2:-1].tolist() == example.decoder_inputs_U[3:].tolist()
    assert tokenizer.convert_ids_to_tokens(int(example.labels_U[-1])) == "<|endoftext|>"


def test_faster_speech_has_earlier_timestamps(tokenizer: WhisperTokenizer, heard: Utterance):
    """At 1.25: 0.5 s at 0.4 s, the switch of 1.0 s at 0.8 s, the end of 1.65 s at 1.32 s."""
    example = dataset(heard, tokenizer, 1.0, perturb=SpeedPerturbation([1.25], 30))["ko-en", 0]
    text = shown(tokenizer, example.decoder_inputs_U[3:].tolist())
    assert text == "<|0.40|>새<|0.80|><|0.80|> report를 썼어요.<|1.32|>"


def test_the_share_is_drawn_by_seeds_and_the_others_stay_as_they_were(tokenizer: WhisperTokenizer, heard: Utterance):
    rows = dataset(heard, tokenizer, 0.3)
    timed = [len(rows["ko-en", 0, seed].labels_U) for seed in range(400)]
    assert timed == [len(rows["ko-en", 0, seed].labels_U) for seed in range(400)]
    plain = dataset(heard, tokenizer, 0.0)["ko-en", 0]
    assert set(timed) == {len(plain.labels_U), len(plain.labels_U) + 3}
    assert np.mean(np.array(timed) > len(plain.labels_U)) == pytest.approx(0.3, abs=0.07)
    same = rows["ko-en", 0, timed.index(len(plain.labels_U))]
    assert torch.equal(same.labels_U, plain.labels_U) and torch.equal(same.decoder_inputs_U, plain.decoder_inputs_U)


def joined(
    tokenizer: WhisperTokenizer, seed: int, window_s: float = 7, room: int = 128, others: int = 99, whole_s: float = 2.0
) -> tuple[str, torch.Tensor]:
    """The text and the waveform where utterances of two seconds, spoken from 0.35 to 1.65 s, follow each other."""
    labels = TimestampLabels(1.0, tokenizer, window_s, room)
    said = PlayedUtterance(utterance("새 report"), speech(whole_s=whole_s), speech(whole_s=whole_s))
    tokens, waveform_S = labels.join(said, [said] * others, seed)
    assert len(tokens) <= room - 4
    return shown(tokenizer, tokens), waveform_S


def starts_s(waveform_S: torch.Tensor) -> list[float]:
    """When speech begins in a waveform that is otherwise silent."""
    is_loud = torch.cat([torch.zeros(1), waveform_S]).abs() > 0.1
    return ((is_loud[1:] & ~is_loud[:-1]).nonzero().flatten() / 16_000).tolist()


TIMED = re.compile(r"<\|([\d.]+)\|>(?:([^<]+)<\|([\d.]+)\|>)?")


@pytest.mark.parametrize("seed", range(40))
def test_joined_utterances_are_timed_where_they_lie(tokenizer: WhisperTokenizer, seed: int):
    """Each begins 50 ms before its sound and lasts 1.3 s; only the last may be cut off, by the end of the window."""
    text, waveform_S = joined(tokenizer, seed)
    found = TIMED.findall(text)
    assert "".join(f"<|{a}|>" + (f"{said}<|{b}|>" if said else "") for a, said, b in found) == text
    whole = [(float(begin), float(end)) for begin, said, end in found if said == "새 report"]
    cut_off = [float(begin) for begin, said, _ in found if not said]
    assert len(whole) + len(cut_off) == len(found) and len(cut_off) <= 1
    assert all(end - begin == pytest.approx(1.3, abs=0.03) for begin, end in whole)
    starts = [start - 0.05 for start in starts_s(waveform_S)]
    assert [begin for begin, _ in whole] == pytest.approx(starts[: len(whole)], abs=0.011)
    assert len(waveform_S) <= 7 * 16_000
    assert not cut_off or len(waveform_S) == 7 * 16_000
    assert cut_off[: len(starts) - len(whole)] == pytest.approx(starts[len(whole) :], abs=0.011)
    rests = [after - before for (_, before), (after, _) in pairwise(whole)]
    assert all(0.1 <= rest - 0.7 <= 1.5 for rest in rests), "0.35 s of silence at each end of an utterance"


def test_half_of_the_examples_are_full_windows_and_the_others_end_before(tokenizer: WhisperTokenizer):
    found = [joined(tokenizer, seed) for seed in range(200)]
    lengths_s = np.array([len(waveform_S) / 16_000 for _, waveform_S in found])
    assert np.mean(lengths_s == 7) == pytest.approx(0.45, abs=0.1), "in some of the full ones, a rest ends the window"
    assert {text.count("새") for text, _ in found} == {1, 2, 3}
    assert np.sum(lengths_s == 2) > 20
    cut_off = [not TIMED.findall(text)[-1][1] for text, _ in found]
    assert 0.3 < np.mean(cut_off) < 0.5


def test_nothing_is_joined_without_room(tokenizer: WhisperTokenizer):
    """Neither in the window, nor in the decoder, nor where nothing else can be read."""
    alone = "<|0.36|>새 report<|1.64|>"
    assert {joined(tokenizer, seed, window_s=2)[0] for seed in range(20)} == {alone}
    assert {joined(tokenizer, seed, others=0)[0] for seed in range(20)} == {alone}
    size = len(tokenizer.encode("새 report", add_special_tokens=False)) + 2
    texts = {joined(tokenizer, seed, room=4 + 2 * size, window_s=30)[0] for seed in range(60)}
    assert max(len(TIMED.findall(text)) for text in texts) == 2
    unreadable = PlayedUtterance(utterance("새 report"), torch.zeros(1), torch.zeros(1))
    first = PlayedUtterance(utterance("새 report"), speech(), speech())
    labels = TimestampLabels(1.0, tokenizer, 7, 128)
    for seed in range(20):
        tokens, waveform_S = labels.join(first, iter([unreadable, first]), seed)
        assert shown(tokenizer, tokens) == alone and len(waveform_S) == 32_000
        tokens, waveform_S = labels.join(unreadable, iter([first]), seed)
        assert not tokens and len(waveform_S) == 1


def test_joined_utterances_are_drawn_by_the_seed_and_may_be_unreadable(tokenizer, heard: Utterance, tmp_path: Path):
    missing = replace(heard, id="missing", audio=tmp_path / "missing.wav")
    rows = dataset(heard, tokenizer, 1.0, window_s=9)
    rows.utterances = {"ko-en": [heard, replace(heard, id="other", text="새 report", spans=None)]}
    sizes = []
    for seed in range(12):
        once, again = rows["ko-en", 0, seed], rows["ko-en", 0, seed]
        assert torch.equal(once.labels_U, again.labels_U) and torch.equal(once.waveform_S, again.waveform_S)
        assert once.id == "u" and not once.skipped
        sizes.append(len(once.waveform_S))
    assert len(set(sizes)) > 6
    rows.utterances = {"ko-en": [heard, missing]}
    skipped = [rows["ko-en", 0, seed].skipped for seed in range(30)]
    assert {len(row) for row in skipped} == {0, 1}, "what cannot be read ends the example"
    assert {row[0].id for row in skipped if row} == {"missing"}


class Shortened:
    """A tokenizer whose timestamps end early, or have others between them."""

    def __init__(self, ids: dict[str, int]) -> None:
        self.ids = ids

    def convert_tokens_to_ids(self, token: str) -> int | None:
        return self.ids.get(token)

    def convert_ids_to_tokens(self, index: int) -> str:
        return {index: token for token, index in self.ids.items()}[index]


@pytest.mark.parametrize("ids", [{}, {"<|0.00|>": 7}, {"<|0.00|>": 7, "<|30.00|>": 1506}])
def test_a_tokenizer_without_timestamps_is_refused(ids: dict[str, int]):
    with pytest.raises(UserError, match=r"^data\.timestamps is 0\.5, but .* lacks Whisper's 1501 timestamps.*; leave"):
        TimestampLabels(0.5, Shortened(ids), 30, 448)
    TimestampLabels(0.5, Shortened({"<|0.00|>": 7, "<|30.00|>": 1507}), 30, 448)
