"""Every merge method against its formula in float64, over random weights (zeros among them), parameters and dtypes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from merging.methods import methods
from tests.merging_arrays import merge_arrays

# A formula takes float64 arrays and the parameters, and returns the terms of a sum: (N, ...), the base among them.
Formula = Callable[..., np.ndarray]
FORMULAS: dict[str, Formula] = {}


def formula(function: Formula) -> Formula:
    FORMULAS[function.__name__] = function
    return function


def shaped(numbers, base):
    return np.array(numbers, np.float64).reshape(-1, *[1] * base.ndim)


def magnitude_order(tau):
    """Places by falling magnitude, of equal ones the first first."""
    return np.argsort(-np.abs(tau.astype(np.float32)).reshape(-1), kind="stable")


def kept(tau, places):
    mask = np.zeros(tau.size, bool)
    mask[places] = True
    return tau * mask.reshape(tau.shape)


def rescaled(whole, thinned, rescale, probability):
    if rescale == "l1":
        left, norm = np.abs(thinned).sum(), np.abs(whole).sum()
        return thinned * (norm / left if left >= 1e-7 and norm >= 1e-7 else 1)
    return thinned / probability if rescale != "none" else thinned


def summed(base, taus, weight, normalize, lambda_):
    divisor = sum(weight) if normalize and abs(sum(weight)) >= 1e-8 else 1
    return np.stack([base, *(lambda_ * shaped(weight, base) * taus / divisor)])


def elected(base, taus, weight, normalize, majority, lambda_):
    terms = shaped(weight, base) * taus
    positive = (terms if majority == "weighted" else taus).astype(np.float32).sum(0, dtype=np.float32) >= 0
    agrees = ((terms > 0) == positive) & (terms != 0)
    divisor = (shaped(weight, base) * agrees).sum(0)
    terms = terms * agrees / (np.where(divisor == 0, 1, divisor) if normalize else 1)
    return np.stack([base, *(lambda_ * terms)])


@formula
def task_arithmetic(base, taus, weight, normalize, lambda_, **_):
    return summed(base, taus, weight, normalize, lambda_)


@formula
def lines(base, taus, weight, alpha, beta, depth, **_):
    return summed(base, taus, weight, False, alpha + beta * depth)


@formula
def linear(base, taus, weight, normalize, **_):
    if not any(weight) and normalize:
        return base[None]
    return shaped(weight, base) * (base + taus) / (sum(weight) if normalize else 1)


@formula
def ties(base, taus, weight, normalize, majority, lambda_, density, **_):
    thinned = [
        tau if share == 1 else kept(tau, magnitude_order(tau)[: max(1, int(share * tau.size))])
        for tau, share in zip(taus, density, strict=True)
    ]
    return elected(base, np.stack(thinned), weight, normalize, majority, lambda_)


@formula
def breadcrumbs(base, taus, weight, normalize, lambda_, density, gamma, **_):
    thinned = []
    for tau, share, outliers in zip(taus, density, gamma, strict=True):
        count = int(share * tau.size)
        above = min(int(outliers * tau.size), tau.size - count)
        thinned.append(tau if share == 1 else kept(tau, magnitude_order(tau)[above : above + count]))
    return summed(base, np.stack(thinned), weight, normalize, lambda_)


def dropped(taus, density, rescale, chances):
    return np.stack([
        tau if share == 1 else rescaled(tau, tau * (chance < np.float32(share)), rescale, share)
        for tau, share, chance in zip(taus, density, chances, strict=True)
    ])  # fmt: skip


@formula
def dare_linear(base, taus, weight, normalize, lambda_, density, rescale, chances, **_):
    return summed(base, dropped(taus, density, rescale, chances), weight, normalize, lambda_)


@formula
def dare_ties(base, taus, weight, normalize, majority, lambda_, density, rescale, chances, **_):
    return elected(base, dropped(taus, density, rescale, chances), weight, normalize, majority, lambda_)


@formula
def della(base, taus, weight, normalize, majority, lambda_, density, epsilon, rescale, chances, **_):
    thinned = []
    for tau, share, spread, chance in zip(taus, density, epsilon, chances, strict=True):
        rank = np.abs(tau.astype(np.float32)).argsort(1, kind="stable").argsort(1)
        steps = rank.astype(np.float32) / np.float32(max(1, tau.shape[1] - 1))
        keep = np.float32(share - spread) + steps * np.float32(2 * spread)
        probability = keep.astype(np.float64) if rescale == "1/p" else share
        thinned.append(tau if share == 1 else rescaled(tau, tau * (chance < keep), rescale, probability))
    return elected(base, np.stack(thinned), weight, normalize, majority, lambda_)


@formula
def wise_ft(base, taus, alpha, **_):
    return np.stack([(1 - alpha) * base, alpha * (base + taus[0])])


@formula
def slerp(base, taus, t, **_):
    one, two = base + taus
    norms = np.linalg.norm(one) * np.linalg.norm(two)
    cosine = np.clip((one * two).sum() / norms, -1, 1) if norms > 1e-16 else 0.0
    if abs(cosine) > 0.9995:
        return np.stack([one * (1 - t), two * t])
    phi = math.acos(cosine)
    return np.stack([one * math.sin((1 - t) * phi) / math.sin(phi), two * math.sin(t * phi) / math.sin(phi)])


@formula
def model_stock(base, taus, **_):
    count = len(taus)
    norms = [np.linalg.norm(tau) for tau in taus]
    cosine = np.mean([
        (taus[i] * taus[j]).sum() / max(norms[i] * norms[j], 1e-6) for i in range(count) for j in range(i)
    ])  # fmt: skip
    divisor = 1 + (count - 1) * cosine
    t = count * cosine / divisor if abs(divisor) >= 1e-6 else 0.0
    return np.stack([base * (1 - t), *(t * (base + taus) / count)])


@formula
def layer_swap(base, taus, layer, layers, bottom, top, transition, **_):
    one, two = base + taus
    if layer is None:
        return one[None]
    if layer < bottom or layer >= layers - top:
        return two[None]
    near = layer < bottom + transition or layer >= layers - top - transition
    return np.stack([one / 2, two / 2]) if near else one[None]


def singular(matrix, count=None):
    """The `count` first singular vectors (as columns) and values, without those of zero."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    rank = int((s > 1e-5 * s[0]).sum())
    assume(s[:rank].min(initial=np.inf) > 1e-2 * s[0])  # else rounding decides the direction
    return u[:, :rank][:, :count], s[:rank][:count], vt[:rank][:count].T


def orthonormal(block):
    """The nearest orthonormal columns (rows where there are fewer): A (A'A)^-1/2."""
    tall = block if block.shape[0] >= block.shape[1] else block.T
    squares, vectors = np.linalg.eigh(tall.T @ tall)
    assume(squares.min(initial=1) > 1e-4)
    found = tall @ vectors @ np.diag(squares**-0.5) @ vectors.T
    return found if tall is block else found.T


def side_by_side(parts):
    u, v = (orthonormal(np.concatenate([part[place] for part in parts], axis=1)) for place in (0, 2))
    return u, np.concatenate([part[1] for part in parts]), v


def outside_of_layers(base, taus, weight, lambda_):
    return summed(base, taus, weight, True, lambda_)


@formula
def iso_c(base, taus, weight, lambda_, layer, **_):
    total = (shaped(weight, base) * taus).sum(0)
    if layer is None:
        return outside_of_layers(base, taus, weight, lambda_)
    if not total.any():
        return base[None]
    u, s, v = singular(total)
    return np.stack([base, lambda_ * s.mean() * u @ v.T])


@formula
def tsv_m(base, taus, weight, lambda_, layer, **_):
    if layer is None:
        return outside_of_layers(base, taus, weight, lambda_)
    terms = [w * tau for w, tau in zip(weight, taus, strict=True) if w and tau.any()]
    if not terms:
        return base[None]
    u, s, v = side_by_side([singular(term, max(1, min(base.shape) // len(terms))) for term in terms])
    return np.stack([base, lambda_ * u @ np.diag(s) @ v.T])


@formula
def iso_cts(base, taus, weight, lambda_, common, layer, **_):
    if layer is None:
        return outside_of_layers(base, taus, weight, lambda_)
    terms = [w * tau for w, tau in zip(weight, taus, strict=True) if w and tau.any()]
    total = sum(terms, np.zeros_like(base))
    if not total.any():
        return base[None]
    rank = min(base.shape)
    own = round((rank - int(common * rank)) / len(terms))
    u, s, v = singular(total, max(0, rank - own * len(terms)))
    rest = [term - u @ u.T @ term for term in terms]
    assume(all(np.abs(one).max() > 1e-3 for one in rest) or not own)  # else what is left is rounding
    u, s, v = side_by_side([(u, s, v), *(singular(one, own) for one in rest if own)])
    return np.stack([base, lambda_ * s.mean() * u @ v.T])


EIGHTHS = st.sampled_from([0.0, 0.0, 0.125, 0.5, 1.0, 1.5, 3.0])
SHARES = st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.75, 0.95, 1.0])
VALUES = {
    "weight": lambda count: st.lists(EIGHTHS, min_size=count, max_size=count),
    "density": lambda count: st.lists(SHARES, min_size=count, max_size=count),
    "gamma": lambda count: st.lists(st.sampled_from([0.0, 0.01, 0.1, 1.0]), min_size=count, max_size=count),
    "epsilon": lambda count: st.lists(st.sampled_from([0.0, 0.01, 0.04]), min_size=count, max_size=count),
    "lambda": lambda count: st.sampled_from([0.0, 0.25, 1.0, 1.5]),
    "alpha": lambda count: st.sampled_from([0.0, 0.25, 0.7, 1.0]),
    "beta": lambda count: st.sampled_from([-0.5, 0.0, 0.3]),
    "common": lambda count: st.sampled_from([0.0, 0.5, 0.8, 1.0]),
    "t": lambda count: st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    "bottom": lambda count: st.integers(0, 4),
    "top": lambda count: st.integers(0, 4),
    "transition": lambda count: st.integers(0, 3),
    "normalize": lambda count: st.booleans(),
    "majority": lambda count: st.sampled_from(["weighted", "unweighted"]),
}
OWN = {"dare_linear": ["l1", "1/p", "none"], "dare_ties": ["l1", "1/p", "none"]}
OWN |= {"della": ["l1", "1/p", "1/density", "none"]}
ROUNDING = {"iso_c": 1e-3, "iso_cts": 1e-3, "tsv_m": 1e-3}  # singular vectors are as uncertain as their values are near


def test_every_method_and_parameter_is_tried():
    assert FORMULAS.keys() == methods().keys()
    for method in methods().values():
        assert method.parameters.keys() <= {*VALUES, "rescale", "seed"}


@pytest.mark.parametrize("name", methods())
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_merged_weights_are_finite_and_equal_the_formula(name: str, data: st.DataObject):
    method = methods()[name]
    fewest, most = method.models
    count = data.draw(st.integers(fewest, int(min(most, fewest + 2))), "models")
    dtype = data.draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]), "dtype")
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 9)), "shape")
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16), "seed"))
    drawn = [torch.randn(shape, generator=generator).to(dtype).float() for _ in range(count + 1)]
    for place in data.draw(st.sets(st.integers(0, count), max_size=2), "what is zero or the base"):
        drawn[place] = drawn[0].clone() if place % 2 else torch.zeros(shape)
    base, *models = (tensor.numpy() for tensor in drawn)
    values = {key: data.draw(VALUES[key](count), key) for key in method.parameters if key in VALUES}
    if name in OWN:
        values["rescale"] = data.draw(st.sampled_from(OWN[name]), "rescale")
    context = {"depth": data.draw(st.sampled_from([0.0, 0.3, 1.0])), "layer": data.draw(st.none() | st.integers(0, 7))}
    draws = torch.randint(0, 2**32, (count, base.size), generator=generator, dtype=torch.int64).numpy()
    merged = merge_arrays(name, base, models, draws=draws, layers=8, **context, **values)
    stored = torch.from_numpy(merged).to(dtype).double().numpy()

    chances = (draws.astype(np.uint32).astype(np.float32) * np.float32(2**-32)).reshape(count, *shape)
    exact = [np.asarray(tensor, np.float64) for tensor in (base, *models)]
    given_values = {f"{key}_" if key == "lambda" else key: value for key, value in values.items()}
    taus = np.stack([model - exact[0] for model in exact[1:]])
    terms = FORMULAS[name](exact[0], taus, chances=chances, layers=8, **context, **given_values)
    assert np.isfinite(stored).all()
    # Of float32 arithmetic a few roundings of the largest term, of the file one of the result.
    allowed = torch.finfo(dtype).eps * np.abs(terms.sum(0)) + ROUNDING.get(name, 1e-6) * (1 + np.abs(terms).sum(0))
    assert (np.abs(stored - terms.sum(0)) <= allowed).all()
