"""Cutting and joining, each worked out by hand: where a transcript parts, what joins it again, samples at a joint."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from common.audio import load_cut, load_waveform
from common.errors import UserError
from common.manifest import Span, Utterance, listed
from datamodules.splicing.inserts import InsertPool, Room
from datamodules.splicing.splice_audio import overlap_add
from datamodules.splicing.splice_options import Splicing
from datamodules.splicing.splice_plan import Slot, fill
from datamodules.splicing.splice_text import Text, bare, ending_like, joined
from datamodules.splicing.stretches import NotCuttable, Stretch, TimedText, jittered, stretches


def utterance(text: str, matrix: str, *spans: tuple[str, float | None, float | None, str | None], **more) -> Utterance:
    defaults = {"duration": 3.0, "pair": f"{matrix}-en", "spans": tuple(Span(*span) for span in spans)}
    return Utterance(id="u", audio=Path("u.wav"), text=text, matrix_language=matrix, **(defaults | more))


# Where an utterance parts


def test_stretches_know_particles_and_punctuation():
    """The Korean particle is bound to what stood before it, the English word to nothing."""
    found = stretches(
        utterance(
            "새 report를, 봤어요!",
            "ko",
            ("ko", 0.1, 0.3, "새 "),
            ("en", 0.3, 0.8, "report"),
            ("ko", 0.8, 2, "를, 봤어요"),
        )
    )
    assert found == (
        Stretch("ko", (TimedText("", 0.1, 0.3, "새"),)),
        Stretch("en", (TimedText(" ", 0.3, 0.8, "report"),)),
        Stretch("ko", (TimedText("", 0.8, 2, "를, 봤어요!"),), bound_before=True),
    )


def times(stretch: Stretch) -> tuple[float, float, str]:
    return stretch.begin / 16_000, stretch.end / 16_000, stretch.text


def test_neighbours_of_one_language_are_one_stretch():
    found = stretches(
        utterance(
            "我 – das neue Ding",
            "de",
            ("zh", 0, 0.5, "我"),
            ("de", 0.5, 1, "das"),
            ("de", 1, 1.5, "neue"),
            ("de", 1.6, 2, "Ding"),
        )
    )
    assert [(stretch.language, *times(stretch)) for stretch in found] == [
        ("zh", 0, 0.5, "我 –"),
        ("de", 0.5, 2, "das neue Ding"),
    ]
    assert [times(run) for run in found[1].runs()] == [
        (0.5, 2, "das neue Ding"),
        (0.5, 1, "das"),
        (1, 1.5, "neue"),
        (1.6, 2, "Ding"),
        (0.5, 1.5, "das neue"),
        (1, 2, "neue Ding"),
    ]


def test_a_run_is_bound_where_its_stretch_is():
    u = utterance(
        "report를 다시 봤어요.", "ko", ("en", 0, 1, "report"), ("ko", 1, 1.5, "를"), ("ko", 1.5, 2, "다시 봤어요.")
    )
    assert [(run.text, run.bound_before) for run in stretches(u)[1].runs()] == [
        ("를 다시 봤어요.", True),
        ("를", True),
        ("다시 봤어요.", False),
    ]


def test_a_language_without_spaces_binds_nothing():
    """That Japanese writes no spaces says nothing about its words beside German."""
    found = stretches(
        utterance("私はmeetingに", "ja", ("ja", 0, 1, "私は"), ("en", 1, 2, "meeting"), ("ja", 2, 3, "に"))
    )
    assert not any(stretch.bound_before or stretch.bound_after for stretch in found)


@pytest.mark.parametrize(
    ("spans", "reason"),
    [
        ((), "without spans"),
        ((("ko", 0, 1, None), ("en", 1, 2, "ja")), "without the spans' texts"),
        ((("ko", 0, 1, "네"), ("en", None, 2, "yes")), "without the spans' times"),
        ((("ko", 0, 1, "네"), ("en", 1, 2, "no")), "with span texts that do not make up the transcript"),
        ((("ko", 0, 1, "네"),), "with span texts that do not make up the transcript"),
        ((("en", 1, 2, "yes"),), "with span texts that do not make up the transcript"),
        ((("ko", 0, 1.2, "네"), ("en", 1, 2, "yes")), "with span times out of order"),
        ((("ko", 0, 1, "네"), ("en", 1, 1, "yes")), "with span times out of order"),
        ((("ko", 0, 1, "네"), ("en", 1, 3.2, "yes")), "with span times beyond the audio"),
        ((("ko", -0.2, 1, "네"), ("en", 1, 3, "yes")), "with span times beyond the audio"),
        ((("ko", 0, 0.099, "네"), ("en", 1, 3, "yes")), "with a span under 0.1 s"),
    ],
)
def test_what_cannot_be_cut_says_why(spans: tuple, reason: str):
    with pytest.raises(NotCuttable) as error:
        stretches(utterance("네 yes", "ko", *spans), shortest_s=0.1)
    assert str(error.value) == reason


# What is written at a joint


@pytest.mark.parametrize(
    ("matrix", "before", "after", "expected"),
    [
        ("ko", ("ko", False), ("en", False), " "),  # 새 report
        ("ko", ("de", False), ("ko", True), ""),  # Bericht를
        ("ko", ("ja", False), ("ko", True), ""),  # 会議를
        ("ko", ("ko", False), ("ja", False), " "),  # 새 会議
        ("ko", ("ja", False), ("ja", False), ""),  # 昨日|会議
        ("de", ("de", False), ("ko", False), " "),
        ("de", ("de", False), ("ja", False), " "),
        ("ja", ("ja", False), ("de", False), ""),  # 新しいBericht
        ("ja", ("ko", False), ("ja", False), ""),
    ],
)
def test_spaces_by_orthography(matrix: str, before: tuple[str, bool], after: tuple[str, bool], expected: str):
    texts = [Text(before[0], "a", bound_after=before[1]), Text(after[0], "b", bound_before=after[1])]
    assert joined(texts, matrix) == f"a{expected}b"


def test_punctuation_moves_with_the_place():
    assert bare("좋아요?! ") == "좋아요" and bare("です。") == "です" and bare("e.g. this") == "e.g. this"
    assert ending_like("I know.", "です", "ja") == "です。" and ending_like("そう？", "네.", "ko") == "네?"
    assert ending_like("well,", "ね", "ja") == "ね、" and ending_like("です。", "はい！", "ja") == "はい。"
    assert ending_like("none", "ja.", "de") == "ja"
    assert ending_like("well,", "好", "zh") == "好，" and ending_like("好，", "well", "en") == "well,"


# What sounds at a joint


def test_without_a_fade_waveforms_stand_one_after_the_other():
    pieces = [torch.tensor([1.0, 2.0]), torch.tensor([3.0]), torch.tensor([4.0, 5.0])]
    assert overlap_add(pieces, 0).tolist() == [1, 2, 3, 4, 5]
    assert overlap_add(pieces, 0, gap=2).tolist() == [1, 2, 0, 0, 3, 0, 0, 4, 5]


def test_a_fade_weighs_what_goes_on_beyond_each_end():
    """With one sample more on each side: the falling weights are 3/4 and 1/4, the rising 1/4 and 3/4."""
    pieces = [torch.tensor([9.0, 1, 2, 3, 4]), torch.tensor([10.0, 20, 30, 40, 99])]
    expected = [1, 2, 3 * 0.75 + 10 * 0.25, 4 * 0.25 + 20 * 0.75, 30, 40]
    assert overlap_add(pieces, 1).tolist() == pytest.approx(expected, abs=1e-6)
    apart = [1, 2, 3 * 0.75, 4 * 0.25, 0, 10 * 0.25, 20 * 0.75, 30, 40]
    assert overlap_add(pieces, 1, gap=3).tolist() == pytest.approx(apart, abs=1e-6)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("offset_s", [0.0, 0.3137])
def test_a_cut_is_that_part_of_the_whole(tmp_path: Path, rate_hz: int, offset_s: float):
    samples = 0.1 * np.random.default_rng(0).standard_normal((2 * rate_hz, 2))
    soundfile.write(tmp_path / "a.wav", samples, rate_hz, subtype="FLOAT")
    u = Utterance("u", tmp_path / "a.wav", 1.5, "x", "ko", "ko", offset=offset_s)
    whole = load_waveform(u.audio, u.offset, u.duration)
    draw = random.Random(rate_hz)
    for _ in range(20):
        begin = draw.randrange(0, 20_000)
        end = draw.randrange(begin + 1, 24_000)
        tolerance = 0 if rate_hz == 16_000 else 1e-6
        torch.testing.assert_close(load_cut(u, begin, end), whole[begin:end], atol=tolerance, rtol=0)
    beyond = load_cut(u, -80, 24_100)
    assert len(beyond) == 24_180 and not beyond[:80].any() and not beyond[80 + len(whole) :].any()
    torch.testing.assert_close(beyond[80 : 80 + len(whole)], whole, atol=1e-6, rtol=0)


def test_a_cut_of_broken_audio_is_refused(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.ones(8_000), 16_000)
    rounded = Utterance("u", tmp_path / "a.wav", 0.55, "x", "ko", "ko")
    assert len(load_cut(rounded, 7_900, 8_800)) == len(load_cut(rounded, 8_100, 9_000)) == 900
    with pytest.raises(UserError, match=r"a\.wav: 0\.50 s of audio, 1\.00 s by the manifest; the file is cut short"):
        load_cut(Utterance("u", tmp_path / "a.wav", 1.0, "x", "ko", "ko"), 4_000, 16_000)
    with pytest.raises(UserError, match=r"none\.wav: .*no such file"):
        load_cut(Utterance("u", tmp_path / "none.wav", 1.0, "x", "ko", "ko"), 0, 100)


# What is inserted


def pool(*durations_s: float, texts: list[str] | None = None) -> InsertPool:
    """One Japanese stretch of each duration; a token a letter."""
    texts = texts or ["あ"] * len(durations_s)
    sources = [
        utterance(text, "ja", ("ja", 0.5, 0.5 + duration, text), speaker=f"s{i % 2}")
        for i, (duration, text) in enumerate(zip(durations_s, texts, strict=True))
    ]
    return InsertPool(Splicing(), {"ja-en": sources}, len, Room(16_000, 10))


def test_only_what_fits_is_drawn_and_all_of_it():
    inserts = pool(0.5, 0.05, 0.3, 0.9, 0.2)
    assert inserts.counts() == {"ja": 4}  # 50 ms are not cut
    assert inserts.least_room("ja") == Room(3_200, 1)
    drawn = {inserts.draw("ja", Room(8_000, 5), random.Random(seed)).index for seed in range(50)}
    assert drawn == {0, 2, 4}
    own = {inserts.draw("ja", Room(8_000, 5), random.Random(seed), "s1").index for seed in range(50)}
    assert own == {0, 2, 4}  # s1 has the 0.9 s alone, which does not fit
    assert {inserts.draw("ja", Room(16_000, 5), random.Random(seed), "s1").index for seed in range(50)} == {3}


def test_tokens_count_too():
    inserts = pool(0.5, 0.5, 0.5, texts=["あ" * 6, "あ" * 9, "あ" * 2])
    assert inserts.least_room("ja") == Room(8_000, 2)
    assert {inserts.draw("ja", Room(8_000, 6), random.Random(seed)).index for seed in range(50)} == {0, 2}
    assert {inserts.draw("ja", Room(8_000, 3), random.Random(seed)).index for seed in range(50)} == {2}


def test_room_that_an_insert_leaves_is_the_next_ones():
    """Beside an insert of 0.9 s a window of 1.8 s has room for another; the smallest take 0.2 s."""
    inserts = pool(0.9, 0.2)
    inserts.whole = Room(28_800, 10)
    lengths = set()
    for seed in range(50):
        found = fill([Slot("ja"), Slot("ja")], inserts, 0, random.Random(seed))
        lengths.add(tuple(excerpt.end - excerpt.begin for excerpt in found))
    assert lengths == {(14_400, 14_400), (14_400, 3_200), (3_200, 14_400), (3_200, 3_200)}


# Borders moved at random


def spoken(name: str, *spans: tuple[str, float | None, float | None, str | None]) -> Utterance:
    return replace(utterance("a b c", "ko", *spans), id=name)


def borders(one: Utterance) -> list[float]:
    return [time for span in one.spans for time in (span.start, span.end)]


@pytest.mark.parametrize("jitter_s", [0.05, 0.2, 1.0])
def test_moved_borders_keep_their_order(jitter_s: float):
    """The first two spans meet at 0.6 and go on meeting; the last ends with the utterance, at 3 s."""
    spans = (("ko", 0.0, 0.6, "a"), ("en", 0.6, 1.0, "b"), ("ko", 1.1, 3.0, "c"))
    shifts = []
    for number in range(300):
        one = spoken(f"u{number}", *spans)
        moved = jittered(one, jitter_s)
        assert moved == jittered(one, jitter_s)
        found = borders(moved)
        assert found[1] == found[2] and sorted(found) == found and len(set(found)) == 5
        assert found[0] >= 0 and found[-1] <= 3.0
        assert all(abs(a - b) <= jitter_s for a, b in zip(found, borders(one), strict=True))
        assert replace(moved, spans=one.spans) == one and [s.text for s in moved.spans] == ["a", "b", "c"]
        shifts.append(found[1] - 0.6)
    if jitter_s <= 0.2:  # nothing is in the way of this border: uniform from -jitter_s to jitter_s
        assert abs(sum(shifts) / 300) < 4 * jitter_s / 3**0.5 / 300**0.5
        assert max(shifts) > 0.95 * jitter_s and min(shifts) < -0.95 * jitter_s
        assert len(set(shifts)) == 300


def test_what_has_no_times_in_order_is_left_alone():
    known = (("ko", 0.1, 0.6, "a"), ("en", 0.6, 1.0, "b"))
    assert jittered(spoken("u", *known), 0.0).spans == tuple(Span(*span) for span in known)
    for spans in ((("ko", None, None, "a"),), (("ko", 0.5, 0.9, "a"), ("en", 0.8, 1.0, "b")), (("ko", -0.1, 1, "a"),)):
        assert jittered(spoken("u", *spans), 0.1) == spoken("u", *spans)


def test_what_was_spliced_before_lists_its_sources_once():
    assert listed(["AI-Hub; JECS", None, "JECS", "UniCoM; AI-Hub"]) == "AI-Hub; JECS; UniCoM"
    assert listed([None, ""]) is None
