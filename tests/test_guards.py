"""The guards against loops, by hand and beside a search that tries everything."""

from __future__ import annotations

import random

import pytest

from backbone.guards import LENGTH, REPETITION, Guards, cut
from common.errors import UserError

END = 99


@pytest.mark.parametrize(
    ("tokens", "most", "repeats", "expected"),
    [
        ([1, 2, 3, END, 4], 9, 4, ([1, 2, 3], None)),
        ([1, 2, 3, END], 3, 4, ([1, 2, 3], None)),  # just as long as it may be
        ([1, 2, 3, 4, END], 3, 4, ([1, 2, 3], LENGTH)),
        ([1, 2, 3], 2, 0, ([1, 2], LENGTH)),
        ([END], 9, 4, ([], None)),
        ([5, *[1, 2, 3] * 4, 6, END], 90, 4, ([5, 1, 2, 3], REPETITION)),  # what follows the loop is gone, too
        ([5, *[1, 2, 3] * 3, 6, END], 90, 4, ([5, *[1, 2, 3] * 3, 6], None)),
        ([5, *[1, 2, 3] * 4, END], 12, 4, ([5, *[1, 2, 3] * 4][:12], LENGTH)),  # the loop is not whole by the bound
        ([*[1, 2, 3] * 4, END], 90, 0, ([1, 2, 3] * 4, None)),
        ([7] * 11 + [END], 90, 4, ([7] * 11, None)),  # "no no no no": a loop has 12 tokens
        ([8, *[7] * 40], 90, 4, ([8, 7], REPETITION)),
        ([*[7, 8] * 5, END], 90, 4, ([7, 8] * 5, None)),
        ([*[7, 8] * 6, END], 90, 4, ([7, 8], REPETITION)),
        ([*range(10), *range(10), END], 90, 2, ([*range(10)], REPETITION)),
    ],
)
def test_cut_by_hand(tokens: list[int], most: int, repeats: int, expected: tuple[list[int], str | None]):
    assert cut(tokens, END, most, repeats) == expected


@pytest.mark.parametrize("repeats", [2, 3, 4])
def test_cut_finds_the_first_loop_of_all(repeats: int):
    """Beside a search that writes every phrase out as often as a loop has it."""

    def first_loop(text: list[int]) -> list[int]:
        for end in range(len(text) + 1):
            for size in range(1, end + 1):
                loop = next(n for n in range(repeats, 13) if n * size >= 12)
                phrase = text[end - size : end]
                if text[:end][-size * loop :] == phrase * loop:
                    return text[: end - size * (loop - 1)]
        return text

    draw, found = random.Random(0), 0
    for _ in range(200):
        phrase = [draw.randrange(3) for _ in range(draw.randint(1, 9))]
        text = [draw.randrange(3) for _ in range(draw.randint(0, 20))] + phrase * draw.randint(1, 9) + [5]
        expected = first_loop(text)
        assert cut([*text, END], END, 448, repeats) == (expected, REPETITION if expected != text else None)
        found += expected != text
    assert 50 < found < 190


def test_the_bound_grows_with_the_audio():
    assert [Guards(10).most_tokens(seconds) for seconds in (0, 1, 2.5, 100)] == [10, 20, 35, 448]
    assert Guards(0).most_tokens(1) == 448


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Heute Nachmittag treffe ich meine Kollegin bei der Bank.", 2.2),
        ("ちょっと待ってください。プロジェクトは火曜日に始まります。", 3.4),
        ("저는 가끔 슈퍼마켓에서 맥주를 마셔요.", 2.4),
        ("မင်္ဂလာပါ။ နေကောင်းလား။ ကျွန်တော် ဈေးသွားမယ်။", 2.8),  # whisper-base has 126 tokens for its 129 bytes
    ],
)
def test_the_bound_is_none_for_people_in_any_vocabulary(text: str, seconds: float):
    """A tokenizer writes at most a token for a byte, and a small one often does; this is speech at its fastest."""
    assert len(text.encode()) <= Guards().most_tokens(seconds)


def test_one_repeat_is_none():
    with pytest.raises(UserError, match="--repeats 1: expected .* 2 or more; 0 never"):
        Guards(repeats=1)
