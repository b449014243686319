"""Our engine against the paper's, mergekit: on adversarial tensors, and on whole tiny Whispers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from merging.mergekit_engine import METHODS
from merging.methods import methods
from tests.merging_arrays import merge_arrays

merge_tensors = pytest.importorskip("mergekit.merge_methods.api").merge_tensors  # not on Python 3.14

SHAPES = {"one element": (1,), "a vector": (37,), "a matrix": (16, 24), "a convolution": (8, 6, 3)}
PARAMETERS = {
    "task_arithmetic": [{}, {"weight": [0.5, -1.0, 2.0], "lambda": 0.7, "normalize": True}],
    "ties": [
        {"density": 0.2},
        {"density": 1.0, "weight": [0.5, 1.0, 2.0]},
        {"density": [0.1, 0.5, 0.9], "weight": [0.3, -1.0, 2.0], "normalize": False, "lambda": 0.4},
    ],
    "breadcrumbs": [{"density": 0.9}, {"density": 0.4, "gamma": [0.0, 0.1, 0.3], "normalize": True}],
    "dare_linear": [{"density": 0.5}, {"density": [0.1, 0.5, 1.0], "rescale": "none", "weight": [0.5, 1.0, 2.0]}],
    "dare_ties": [{"density": 0.5}, {"density": [0.1, 0.5, 1.0], "normalize": True, "lambda": 0.5}],
    "della": [{"density": 0.5}, {"density": [0.3, 0.5, 1.0], "epsilon": 0.1, "rescale": "none", "normalize": False}],
    "linear": [{}, {"weight": [0.5, 1.0, 2.0], "normalize": False}],
    "slerp": [{}, {"t": 0.9}],
    "model_stock": [{}],
}
CASES = [(name, values) for name, every in PARAMETERS.items() for values in every]


def _inputs(kind: str, shape: tuple[int, ...], models: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A base and fine-tunes; beside normal ones such as merge engines stumble over."""
    generator = np.random.default_rng(sum(shape))
    base = generator.standard_normal(shape).astype(np.float32)
    noise = [generator.standard_normal(shape).astype(np.float32) for _ in range(models)]
    taus = {
        "normal": noise,
        "tied magnitudes": [np.sign(tau) * np.float32(0.5) for tau in noise],
        "mostly zeros": [np.where(np.abs(tau) > 1.5, tau, 0).astype(np.float32) for tau in noise],
        "equal models": [noise[0]] * models,
        "opposite models": [noise[0] * (-1) ** place for place in range(models)],
        "tiny": [tau * np.float32(1e-20) for tau in noise],
    }[kind]
    if kind == "tied magnitudes":  # sums of such numbers are exact, so that both engines see the same ties
        base = np.round(base * 4) / 4
    return base, [(base + tau).astype(np.float32) for tau in taus]


def _mergekit(name: str, base: np.ndarray, models: list[np.ndarray], **values: object) -> np.ndarray:
    method, parameters = methods()[name], {}
    for key, parameter in method.parameters.items():
        value = values.get(key, parameter.default)
        if key == "rescale":
            value = value == "l1"
        if parameter.per_model:
            value = dict(enumerate(value if isinstance(value, list) else [value] * len(models)))
        if key not in ("seed", "majority"):
            parameters[key] = value
    tensors, ids, base_index = [torch.from_numpy(model) for model in models], list(range(len(models))), None
    if name == "slerp":
        base_index = 0
    elif name != "linear":
        tensors, ids, base_index = [torch.from_numpy(base), *tensors], ["base", *ids], 0
    return merge_tensors(tensors, name, parameters=parameters, ids=ids, base_index=base_index).numpy()


@pytest.fixture
def same_choices(monkeypatch: pytest.MonkeyPatch):
    """Gives mergekit our random numbers, and lets its sort keep the order of equal entries, as ours does."""
    sort, draws = torch.argsort, np.random.default_rng(7).integers(0, 2**32, (3, 4096), dtype=np.uint32)
    waiting: list[np.ndarray] = []

    def bernoulli(chances: torch.Tensor) -> torch.Tensor:
        drawn = waiting.pop(0)[: chances.numel()].astype(np.float32) * np.float32(2**-32)
        return (torch.from_numpy(drawn).view_as(chances) < chances).to(chances.dtype)

    def expect(densities: object) -> list[np.ndarray]:
        each = densities if isinstance(densities, list) else [densities] * 3
        waiting[:] = [draws[place] for place, density in enumerate(each) if density < 1]
        return list(draws)

    def sort_upwards(values: torch.Tensor, descending: bool) -> SimpleNamespace:
        return SimpleNamespace(indices=sort(values, descending=True, stable=True).flip(0))

    monkeypatch.setattr(torch, "argsort", lambda *args, **kwargs: sort(*args, **{**kwargs, "stable": True}))
    monkeypatch.setattr(torch, "sort", sort_upwards)
    monkeypatch.setattr(torch, "bernoulli", bernoulli)
    return expect


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize(
    "kind", ["normal", "tied magnitudes", "mostly zeros", "equal models", "opposite models", "tiny"]
)
@pytest.mark.parametrize(("name", "values"), CASES, ids=[f"{name}-{place}" for place, (name, _) in enumerate(CASES)])
def test_both_engines_agree(name: str, values: dict, kind: str, shape: tuple[int, ...], same_choices):
    if name == "della" and shape == (1,):
        pytest.skip("mergekit divides the rank 0 by 0 there, and has no result to compare with")
    base, models = _inputs(kind, shape, 2 if name == "slerp" else 3)
    draws = same_choices(values.get("density", 1.0))
    ours = merge_arrays(name, base, models, draws=draws, **values)
    theirs = _mergekit(name, base, models, **values)
    np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)
    if name in ("task_arithmetic", "ties", "breadcrumbs") and values.get("weight") is None:
        np.testing.assert_array_equal(ours, theirs)


def test_every_method_that_mergekit_has_is_compared():
    assert set(PARAMETERS) == set(METHODS)


@pytest.mark.parametrize("density", [0.2, 0.9])
def test_dare_keeps_entries_as_often_as_mergekit(density: float):
    base, tau = np.zeros((200, 500), np.float32), np.ones((200, 500), np.float32)
    torch.manual_seed(0)
    theirs = _mergekit("dare_linear", base, [tau], density=density, rescale="none")
    draws = [np.random.SFC64(0).random_raw(50_000).view(np.uint32)]
    ours = merge_arrays("dare_linear", base, [tau], draws=draws, density=density, rescale="none")
    spread = np.sqrt(density * (1 - density) / base.size)
    assert abs(ours.mean() - density) < 4 * spread
    assert abs(theirs.mean() - density) < 4 * spread
