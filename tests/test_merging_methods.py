"""Every merge method against examples worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import yaml

from common.errors import UserError
from merging.methods import methods
from merging.recipe import CONFIGS
from merging.subspaces import Singular, decompose, orthogonalize
from tests.merging_arrays import merge_arrays

ZERO = [0.0, 0.0, 0.0, 0.0]


def _merge(name: str, base: list[float], *models: list[float], **values: object) -> list[float]:
    return merge_arrays(name, np.array([base]), [np.array([model]) for model in models], **values).ravel().tolist()


def test_task_arithmetic_adds_weighted_task_vectors():
    base, one, two = [1.0, 2.0], [2.0, 0.0], [1.0, 5.0]  # task vectors (1, -2) and (0, 3)
    assert _merge("task_arithmetic", base, one, two) == [2.0, 3.0]
    assert _merge("task_arithmetic", base, one, two, **{"lambda": 0.5, "weight": [2.0, 1.0]}) == [2.0, 1.5]
    assert _merge("task_arithmetic", base, one, two, weight=[3.0, 1.0], normalize=True) == [1.75, 1.25]


TAUS = ([4.0, -1.0, 3.0, 0.5], [-2.0, -3.0, 1.0, 0.25], [1.0, 2.0, -4.0, 0.0])
# The two largest of each: (4 . 3 .), (-2 -3 . .), (. 2 -4 .)


def test_ties_trims_elects_and_averages():
    # Sums 2, -1, -1, 0: signs + - - +. Agreeing: 4; -3; -4; none.
    assert _merge("ties", ZERO, *TAUS, density=0.5) == [4.0, -3.0, -4.0, 0.0]
    shifted = [[10 + value for value in tau] for tau in TAUS]
    assert _merge("ties", [10.0] * 4, *shifted, density=0.5, **{"lambda": 0.5}) == [12.0, 8.5, 8.0, 10.0]


def test_ties_weights_take_part_in_the_election_unless_told_not_to():
    # Weighted (4 . 3 .), (-1 -1.5 . .), (. 4 -8 .): sums 3, 2.5, -5, 0.
    weight = [1.0, 0.5, 2.0]
    assert _merge("ties", ZERO, *TAUS, density=0.5, weight=weight, normalize=False) == [4.0, 4.0, -8.0, 0.0]
    assert _merge("ties", ZERO, *TAUS, density=0.5, weight=weight) == [4.0, 2.0, -4.0, 0.0]
    unweighted = _merge("ties", ZERO, *TAUS, density=0.5, weight=weight, majority="unweighted")
    assert unweighted == [4.0, -3.0, -4.0, 0.0]


def test_ties_averages_what_agrees_and_counts_a_tied_election_as_positive():
    assert _merge("ties", [0.0, 0.0], [2.0, -3.0], [4.0, 3.0], density=1.0) == [3.0, 3.0]


def test_ties_keeps_at_least_one_entry():
    assert _merge("ties", ZERO, [1.0, -5.0, 2.0, 3.0], density=0.01) == [0.0, -5.0, 0.0, 0.0]


def test_breadcrumbs_drops_outliers_and_then_the_smallest():
    tau = [float(value) for value in range(1, 11)]
    kept = [0, 0, 0, 4, 5, 6, 7, 8, 0, 0]
    assert _merge("breadcrumbs", [0.0] * 10, tau, density=0.5, gamma=0.2) == kept
    # Nine of ten are to stay, so that only one outlier can go.
    assert _merge("breadcrumbs", [0.0] * 10, tau, density=0.9, gamma=0.2) == [*tau[:9], 0]


HALF = 2**31
DRAWS = [[0, HALF, HALF - 2**8, 2**32 - 1], [HALF, 0, HALF, 0]]  # with density 0.5: keep, drop, keep, drop; the reverse


def test_dare_drops_at_random_and_rescales():
    one = [2.0, 1.0, -4.0, 3.0]  # kept: 2 and -4, of L1 norm 6 of 10
    assert _merge("dare_linear", ZERO, one, density=0.5, draws=DRAWS, rescale="none") == [2, 0, -4, 0]
    assert _merge("dare_linear", ZERO, one, density=0.5, draws=DRAWS, rescale="1/p") == [4, 0, -8, 0]
    l1 = _merge("dare_linear", ZERO, one, density=0.5, draws=DRAWS, rescale="l1")
    assert l1 == pytest.approx([10 / 3, 0, -20 / 3, 0])
    two = [1.0, 1.0, 1.0, 1.0]  # kept: the second and fourth
    assert _merge("dare_linear", ZERO, one, two, density=0.5, draws=DRAWS, rescale="1/p") == [4, 2, -8, 2]


def test_dare_ties_elects_among_what_was_kept():
    one, two = [2.0, 1.0, -4.0, 3.0], [-3.0, 1.0, 5.0, 1.0]
    draws = [[0, 0, 0, HALF], [0, HALF, 0, HALF]]  # (2 1 -4 .) and (-3 . 5 .): sums -1, 1, 1, 0
    assert _merge("dare_ties", ZERO, one, two, density=0.5, draws=draws, rescale="none") == [-3, 1, 5, 0]


def test_della_keeps_by_rank():
    tau = [1.0, -3.0, 2.0, 4.0]  # ranks 0 2 1 3: kept with probability 0.2, 0.6, 0.4, 0.8
    draws = [[int(value * 2**32) for value in (0.3, 0.5, 0.5, 0.7)]]
    values = {"density": 0.5, "epsilon": 0.3, "rescale": "none"}
    assert _merge("della", ZERO, tau, draws=draws, **values) == [0, -3, 0, 4]
    draws = [[int(value * 2**32) for value in (0.1, 0.7, 0.3, 0.9)]]
    assert _merge("della", ZERO, tau, draws=draws, **values) == [1, 0, 2, 0]


def test_della_divides_by_each_keep_probability_or_by_the_density():
    tau, base = [1.0, -3.0, 2.0, 4.0], ZERO  # kept with probability 0.2, 0.6, 0.4, 0.8
    draws = [[int(value * 2**32) for value in (0.3, 0.5, 0.3, 0.7)]]  # drop, keep, keep, keep
    values = {"density": 0.5, "epsilon": 0.3}
    assert _merge("della", base, tau, draws=draws, rescale="1/p", **values) == pytest.approx([0, -5, 5, 5])
    assert _merge("della", base, tau, draws=draws, rescale="1/density", **values) == pytest.approx([0, -6, 4, 8])
    assert _merge("della", base, tau, draws=draws, rescale="l1", **values) == pytest.approx(
        [0, -3 * 10 / 9, 2 * 10 / 9, 4 * 10 / 9]
    )


def test_della_refuses_probabilities_outside_of_0_and_1():
    with pytest.raises(UserError, match=r"density 0.1 \+- epsilon 0.15 leaves \(0, 1\)"):
        _merge("della", ZERO, ZERO, density=0.1)


@pytest.mark.parametrize("name", [name for name, method in methods().items() if "weight" in method.parameters])
def test_weights_of_zero_give_the_base(name: str):
    base, tuned = [1.0, -2.0, 3.0, 0.0], [2.0, -1.0, 0.5, 1.0]
    draws = [[0] * 4] * 2
    assert _merge(name, base, tuned, tuned[::-1], draws=draws, weight=[0.0, 0.0]) == base
    if "normalize" in methods()[name].parameters:
        assert _merge(name, base, tuned, tuned[::-1], draws=draws, weight=[0.0, 0.0], normalize=True) == base


def test_linear_is_the_weighted_mean():
    assert _merge("linear", [9.0, 9.0], [1.0, 4.0], [3.0, 0.0]) == [2.0, 2.0]
    assert _merge("linear", [9.0, 9.0], [1.0, 4.0], [3.0, 0.0], weight=[3.0, 1.0]) == [1.5, 3.0]
    assert _merge("linear", [9.0, 9.0], [1.0, 4.0], [3.0, 0.0], weight=[3.0, 1.0], normalize=False) == [6.0, 12.0]


def test_wise_ft_interpolates():
    assert _merge("wise_ft", [1.0, 2.0], [3.0, 6.0], alpha=0.25) == [1.5, 3.0]


def test_slerp_follows_the_arc():
    right = _merge("slerp", [0.0, 0.0], [2.0, 0.0], [0.0, 2.0], t=1 / 3)  # 30 of 90 degrees
    assert right == pytest.approx([2 * math.cos(math.pi / 6), 2 * math.sin(math.pi / 6)])
    assert _merge("slerp", [0.0, 0.0], [1.0, 1.0], [3.0, 3.0], t=0.25) == pytest.approx([1.5, 1.5])  # parallel: linear


def test_model_stock_goes_as_far_as_the_task_vectors_agree():
    mean = [1.25, 1.0 + math.sqrt(3) / 4]
    sixty = [1.5, 1.0 + math.sqrt(3) / 2]
    assert _merge("model_stock", [1.0, 1.0], [2.0, 1.0], [1.0, 2.0]) == pytest.approx([1.0, 1.0])  # cos 0: the base
    assert _merge("model_stock", [1.0, 1.0], [3.0, 1.0], [3.0, 1.0]) == pytest.approx([3.0, 1.0])  # cos 1: the mean
    # cos 1/2 and n = 2: t = 1 / 1.5 = 2/3 of the way to the mean (1.75, 1 + sqrt(3)/4).
    assert _merge("model_stock", [1.0, 1.0], [2.0, 1.0], sixty) == pytest.approx([1.5, 1.0 + (mean[1] - 1.0) * 2 / 3])


def _merge_ways(name: str, **values: object) -> np.ndarray:
    """Merges two task vectors of rank one, at right angles: 6 along the first axis, 2 along the second."""
    return merge_arrays(name, np.zeros((2, 2)), [np.diag([6.0, 0.0]), np.diag([0.0, 2.0])], **{"layer": 0} | values)


def test_iso_c_gives_every_direction_the_mean_length():
    assert _merge_ways("iso_c") == pytest.approx(np.diag([4.0, 4.0]))
    assert _merge_ways("iso_c", **{"lambda": 0.5}) == pytest.approx(np.diag([2.0, 2.0]))
    one_way = _merge_ways("iso_c", weight=[1.0, 0.0])
    assert one_way == pytest.approx(np.diag([6.0, 0.0]))  # nothing is made up for a direction that nobody took


def test_iso_cts_gives_every_direction_the_mean_length():
    assert _merge_ways("iso_cts", common=0.5) == pytest.approx(np.diag([4.0, 4.0]))
    assert _merge_ways("iso_cts", common=1.0) == pytest.approx(_merge_ways("iso_c"))


def test_tsv_m_adds_what_is_orthogonal_and_divides_what_is_shared():
    assert _merge_ways("tsv_m") == pytest.approx(np.diag([6.0, 2.0]))
    two = [np.diag([6.0, 1.0]), np.diag([2.0, 4.0])]  # each gives the longer of its two directions
    assert merge_arrays("tsv_m", np.zeros((2, 2)), two, layer=0) == pytest.approx(np.diag([6.0, 4.0]))
    # The same direction twice, 3 and 1 long: its two orthonormal copies share it, and it counts (3 + 1) / 2 times.
    shared = merge_arrays("tsv_m", np.zeros((2, 2)), [np.diag([3.0, 0.0]), np.diag([1.0, 0.0])], layer=0)
    assert shared == pytest.approx(np.diag([2.0, 0.0]), abs=1e-6)


@pytest.mark.parametrize("name", ["iso_c", "iso_cts", "tsv_m"])
def test_methods_of_singular_vectors_take_the_mean_of_embeddings(name: str):
    assert _merge_ways(name, layer=None) == pytest.approx(np.diag([3.0, 1.0]))


def test_vectors_are_made_orthogonal_as_the_polar_decomposition_does():
    rng = np.random.default_rng(0)
    left, right = (
        [np.linalg.qr(rng.normal(size=(48, 12)))[0].astype(np.float32) for _ in range(3)] for _ in ("left", "right")
    )
    parts = [
        Singular(torch.from_numpy(one), torch.ones(12), torch.from_numpy(other).mT)
        for one, other in zip(left, right, strict=True)
    ]
    found = orthogonalize(parts)
    for vectors, given in ((found.U_MK, left), (found.V_KN.mT, right)):
        outer, _, inner = np.linalg.svd(np.concatenate(given, axis=1).astype(np.float64), full_matrices=False)
        assert vectors.numpy() == pytest.approx(outer @ inner, abs=1e-6)


def test_a_decomposition_that_does_not_converge_is_made_in_float64(monkeypatch: pytest.MonkeyPatch):
    of_lapack = torch.linalg.svd

    def fails_in_float32(matrix_MN: torch.Tensor, **keywords: object) -> object:
        if matrix_MN.dtype == torch.float32:
            raise torch.linalg.LinAlgError("the algorithm failed to converge")
        return of_lapack(matrix_MN, **keywords)

    monkeypatch.setattr(torch.linalg, "svd", fails_in_float32)
    found = decompose(torch.tensor([[3.0, 0.0], [0.0, 0.0]]))
    assert found.S_K.dtype == torch.float32 and found.S_K.tolist() == [3.0]


@pytest.mark.parametrize(("depth", "step"), [(0.0, 0.2), (0.5, 0.5), (1.0, 0.8)])
def test_lines_scales_the_step_with_depth(depth: float, step: float):
    found = _merge("lines", [1.0, 1.0], [3.0, 1.0], [1.0, -3.0], alpha=0.2, beta=0.6, depth=depth)
    assert found == pytest.approx([1.0 + step * 1.0, 1.0 - step * 2.0])  # weights 1/n: half of (2, 0) and (0, -4)


def test_layer_swap_takes_the_outer_layers_of_the_second_model():
    values = {"bottom": 2, "top": 1, "transition": 1, "layers": 8}
    found = [_merge("layer_swap", [0.0], [1.0], [3.0], layer=layer, **values) for layer in (*range(8), None)]
    assert found == [[3.0], [3.0], [2.0], [1.0], [1.0], [1.0], [2.0], [3.0], [1.0]]


EXAMPLES = {name for name in globals() if name.startswith("test_")}


@pytest.mark.parametrize("name", methods())
def test_every_method_has_an_example_a_source_and_a_recipe(name: str):
    assert any(test.startswith(f"test_{name.split('_linear')[0]}") for test in EXAMPLES)
    method = methods()[name]
    assert "arXiv:" in method.source or "1985" in method.source
    recipe = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert set(recipe) == {"base", "models", *method.parameters}


@pytest.mark.parametrize("name", methods())
def test_fine_tunes_that_equal_the_base_merge_to_the_base(name: str):
    generator = np.random.default_rng(0)
    base = generator.standard_normal((6, 8)).astype(np.float32)
    fewest = methods()[name].models[0]
    draws = generator.integers(0, 2**32, (fewest, base.size)).tolist()
    merged = merge_arrays(name, base, [base.copy() for _ in range(fewest)], draws=draws)
    np.testing.assert_allclose(merged, base, rtol=1e-6)
