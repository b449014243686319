"""Timestamps in training labels, by hand: of the edges of speech, of switches, at other speeds; and what has none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
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
from datamodules.timestamps import TimestampLabels

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
    tokens = TimestampLabels(1.0, tokenizer, room)(said, speech(), tempo, seed=0)
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
    assert TimestampLabels(1.0, tokenizer, 128)(said, torch.zeros(1), 1.0, 0) == []


def test_speech_beyond_the_last_timestamp_has_none(tokenizer):
    """At two thirds of its speed, what ends at 20.05 s ends at 30.08 s."""
    make = TimestampLabels(1.0, tokenizer, 128)
    assert make(utterance("새 report"), speech(0.4, 19.9, 20), 2 / 3, 0)
    assert not make(utterance("새 report"), speech(0.4, 20.0, 20.5), 2 / 3, 0)


@pytest.fixture
def heard(tmp_path: Path) -> Utterance:
    soundfile.write(tmp_path / "u.wav", speech().numpy(), 16_000, subtype="FLOAT")
    return replace(utterance("새 report를 썼어요.", spans=SPANS), audio=tmp_path / "u.wav")


def dataset(said: Utterance, tokenizer: WhisperTokenizer, share: float, **more: object) -> PairDataset:
    timestamps = TimestampLabels(share, tokenizer, 128) if share else None
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
        TimestampLabels(0.5, Shortened(ids), 448)
    TimestampLabels(0.5, Shortened({"<|0.00|>": 7, "<|30.00|>": 1507}), 448)
