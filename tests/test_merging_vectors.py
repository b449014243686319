"""Which entries are the largest, against a stable sort, whatever the ties."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.vectors import dot, largest

NUMBERS = st.one_of(
    st.floats(-4, 4, width=32),
    st.integers(-2, 2).map(float),  # many of one magnitude
)


@settings(max_examples=300, deadline=None)
@given(values=st.lists(NUMBERS, min_size=1, max_size=60), share=st.floats(0, 1))
def test_exactly_the_k_largest_are_taken_first_come_first(values, share):
    rank = round(share * len(values))
    order = np.argsort(-np.abs(np.array(values, np.float32)), kind="stable")
    mask = largest(torch.tensor(values), rank)
    assert set(mask.nonzero().flatten().tolist()) == set(order[:rank].tolist())


def test_tensors_of_any_shape_are_one_row():
    vector = torch.arange(24.0).reshape(2, 3, 4) - 12
    assert largest(vector, 3).nonzero().tolist() == [[0, 0, 0], [0, 0, 1], [1, 2, 3]]  # -12, -11 and 11


def test_what_is_not_a_number_breaks_nothing():
    largest(torch.tensor([float("nan"), float("nan"), 2.0]), 2)  # the engine refuses such models


def test_a_product_is_summed_over_its_pieces():
    generator = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 150_001, generator=generator)
    assert abs(dot(one, two) - float(one.double() @ two.double())) < 1e-2
