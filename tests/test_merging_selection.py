"""Exact k-th magnitudes against a stable sort, whatever the sample, the blocks and the ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.blocks import Block
from merging.selection import cuts, keep_largest

F = np.float32


class Blocks:
    """An array in blocks of a few elements, whose sample is its beginning: as misleading as may be."""

    def __init__(self, values: list[float], block: int, sample: int = 1, start: int = 0):
        self.values, self.block, self.first, self.start = np.array(values, F), block, sample, start
        self.numel = len(values)
        self.passes = 0

    def _blocks(self, values):
        for begin in range(0, len(values), self.block):
            part = values[None, begin : begin + self.block]
            yield Block(np.zeros_like(part), [part], self.start + begin)

    def __iter__(self):
        self.passes += 1
        return self._blocks(self.values)

    def sample(self, count):
        return self._blocks(self.values[: self.first])


def _kept(parameters: list[Blocks], rank: int) -> np.ndarray:
    ((cut,),) = cuts(parameters, [[rank]])
    parts = [keep_largest(block.deltas[0], cut, block.start).ravel() for each in parameters for block in each]
    return np.concatenate(parts)


def _by_sorting(values: list[float], rank: int) -> np.ndarray:
    array = np.array(values, F)
    order = np.argsort(-np.abs(array), kind="stable")
    kept = np.zeros_like(array)
    kept[order[:rank]] = array[order[:rank]]
    return kept


NUMBERS = st.one_of(
    st.floats(-4, 4, width=32),
    st.integers(-2, 2).map(float),  # many of one magnitude
)


@settings(max_examples=300, deadline=None)
@given(
    values=st.lists(NUMBERS, min_size=1, max_size=60),
    share=st.floats(0, 1),
    block=st.integers(1, 9),
    sample=st.integers(1, 60),
)
def test_exactly_the_k_largest_are_kept_first_come_first_kept(values, share, block, sample):
    rank = round(share * len(values))
    np.testing.assert_array_equal(_kept([Blocks(values, block, sample)], rank), _by_sorting(values, rank))


@settings(max_examples=100, deadline=None)
@given(
    parts=st.lists(st.lists(NUMBERS, min_size=1, max_size=20), min_size=1, max_size=4),
    share=st.floats(0, 1),
)
def test_a_cut_over_several_parameters_is_one_over_all_their_entries(parts, share):
    values = [value for part in parts for value in part]
    starts = np.cumsum([0, *map(len, parts)])
    parameters = [Blocks(part, 3, 2, int(start)) for part, start in zip(parts, starts, strict=False)]
    rank = round(share * len(values))
    np.testing.assert_array_equal(_kept(parameters, rank), _by_sorting(values, rank))


def test_a_fair_sample_finds_the_cut_in_one_pass():
    values = np.random.default_rng(0).standard_normal(200_000).astype(F)
    parameter = Blocks(values, 5000, 20_000)
    ((cut,),) = cuts([parameter], [[40_000]])
    assert parameter.passes == 1
    assert cut.magnitude == np.sort(np.abs(values))[-40_000]


def test_small_parameters_do_not_spoil_the_sample():
    large = np.random.default_rng(0).standard_normal(400_000).astype(F)
    small = [Blocks(np.full(500, 100.0, F), 500, 500, 400_000 + 500 * place) for place in range(40)]
    parameter = Blocks(large, 5000, 400_000)
    ((cut,),) = cuts([parameter, *small], [[60_000]])
    assert parameter.passes == 1
    assert cut.magnitude == np.sort(np.abs(large))[-40_000]


def test_several_ranks_of_several_models_are_found_together():
    values = np.arange(1, 101, dtype=F)
    parameter = Blocks(values, 7, 100)
    parameter._blocks = lambda array: iter([Block(np.zeros((1, len(array)), F), [array[None], -2 * array[None]])])
    assert [[cut.magnitude for cut in model] for model in cuts([parameter], [[1, 50], [10, 100]])] == [
        [100, 51],
        [182, 0],
    ]


def test_ranks_among_what_is_not_a_number_are_refused():
    with pytest.raises(FloatingPointError):
        cuts([Blocks([float("nan"), float("nan"), 2.0], 2)], [[2]])
