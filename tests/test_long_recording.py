"""The benchmarks of long recordings and of hotwords: what is joined, told and counted, by hand."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from common.manifest import Span, Utterance

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import hotwords
import long_recording
from long_recording import Joined, SpokenToken, TranscriptFigures


def test_tokens_share_the_time_of_their_span_by_letters():
    spans = (Span("ko", 0.5, 0.9, "새 책,"), Span("en", 0.9, 1.9, "the book"))
    said = Utterance("u", Path("u.wav"), 2.0, "새 책, the book!", "ko-en", "ko", spans=spans)
    found = list(long_recording.spoken_tokens(said, 10.0))
    assert [token.text for token in found] == ["새", "책", "the", "book"]
    times_s = [time_s for token in found for time_s in (token.start_s, token.end_s)]
    assert times_s == pytest.approx([10.5, 10.7, 10.7, 10.9, 10.9, 10.9 + 3 / 7, 10.9 + 3 / 7, 11.9])
    untimed = Utterance("u", Path("u.wav"), 2.0, "새 책", "ko-en", "ko", spans=(Span("ko", text="새 책"),))
    assert [token.end_s for token in long_recording.spoken_tokens(untimed, 0.0)] == [1.0, 2.0]


@pytest.fixture
def manifest(tmp_path: Path) -> list[Utterance]:
    """A second each at a level of its own, said throughout."""
    for number in range(9):
        soundfile.write(tmp_path / f"{number}.wav", np.full(16_000, (1 + number) / 20), 16_000, subtype="FLOAT")
    return [Utterance(f"u{i}", tmp_path / f"{i}.wav", 1.0, f"n{i}", "ko-en", "ko") for i in range(9)]


def test_utterances_are_joined_where_their_tokens_say(manifest: list[Utterance]):
    found = long_recording.joined([manifest[:2], manifest[2:]], 22.0, seed=1)
    again = long_recording.joined([manifest[:2], manifest[2:]], 22.0, seed=1)
    assert torch.equal(found.waveform_S, again.waveform_S) and found.tokens == again.tokens
    assert found.speechless_s == 10.0 and 22.0 <= len(found.waveform_S) / 16_000 < 25
    assert len(found.tokens) > 4
    assert sum(int(token.text[1]) < 2 for token in found.tokens[:2]) == 1  # in turn, and the longer alone at last
    for token in found.tokens:
        middle = found.waveform_S[round(16_000 * (token.start_s + 0.5))]
        assert float(middle) == pytest.approx((1 + int(token.text[1])) / 20)
    gaps_s = [b.start_s - a.end_s for a, b in zip(found.tokens, found.tokens[1:], strict=False)]
    assert all(gap_s == pytest.approx(10) if i == 3 else 0.4 <= gap_s <= 2.01 for i, gap_s in enumerate(gaps_s))


@pytest.mark.parametrize(("kind", "level"), [("silence", 0.0), ("noise", 0.01), ("hum", 0.0165)])
def test_pauses_hold_what_they_are_named_after(kind: str, level: float):
    """A hum of amplitudes 0.02, 0.01 and 0.02 / 3 has the root of half the sum of their squares."""
    waveform_S = long_recording.speechless(kind, 2.0, torch.Generator().manual_seed(0))
    assert waveform_S.shape == (32_000,)
    assert float(waveform_S.square().mean().sqrt()) == pytest.approx(level, rel=0.02, abs=1e-9)


def test_what_is_dropped_and_invented_is_counted_by_times():
    """Between b and c are 12 s without speech, and 2 s after the end: what is invented in the 12 s counts."""
    tokens = [SpokenToken("a", 1, 2), SpokenToken("b", 2, 4), SpokenToken("c", 16, 19), SpokenToken("d", 19, 20)]
    joined = Joined(torch.zeros(22 * 16_000), tokens, 12.0)
    figures = TranscriptFigures()
    figures.add("a x b one two c d end", joined, 3.0)
    assert (figures.errors, figures.invented, figures.dropped_s) == (4, 2, 0.0)
    figures.add("a", joined, 1.0)
    assert (figures.dropped_s, figures.longest_dropped_s, figures.tokens) == (6.0, 6.0, 8)
    figures.add("b d", joined, 1.0)
    assert (figures.dropped_s, figures.longest_dropped_s) == (10.0, 6.0)
    told = "MER 75.0%, 10.0 s dropped (at once 6.0), 3.3 invented a minute, took 5 s"
    assert str(figures) == told


def test_groups_are_told_their_words_and_as_many_others():
    def of(number: int, text: str, english: str) -> Utterance:
        spans = (Span("ko", text="새"), Span("en", text=english))
        return Utterance(f"u{number}", Path("u.wav"), 1.0, text, "ko-en", "ko", spans=spans)

    group = [of(0, "새 big report.", "big report."), of(1, "새 report", "report")]
    others = [of(2, "새 code", "code"), of(3, "새 data, ok", "data, ok")]
    found = hotwords.contexts(group, others, random.Random(0))
    wrong = set(found["others alone"].split(", "))
    assert found["nothing"] == "" and len(wrong) == 2 and wrong < {"code", "data", "ok"}
    assert sorted(found["hotwords, as many others"].split(", ")) == sorted({"big", "report", *wrong})
    assert found["prompt: another transcript"] in {"새 code", "새 data, ok"}
    counts, right = hotwords.counted(group[0], "세 big lie")
    assert (counts.errors, right) == (2, [True, False])
