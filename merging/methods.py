"""The merge methods: each a short pure function over the same rows of one parameter in the base and every fine-tune.

theta_0 is the base, theta_i a fine-tune, tau_i = theta_i - theta_0 its task vector, w_i its weight. A method with a
`lambda` returns the merged step tau, and the model is theta_0 + lambda tau; the others return the merged weights.
What a method must know of the whole parameter (a k-th magnitude, a norm, a random mask) is measured first, over all
its rows, by the function it names. All arithmetic is float32.
"""

import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from merging import sparsify
from merging.blocks import Block, Rows
from merging.parameters import Parameter, declared
from merging.selection import Cut, keep_largest
from merging.tensors import Floats

_P = Parameter
Weights = Annotated[float, _P("weight w_i of each fine-tune; 1/n for the mean of n models", per_model=True)]
Lambda = Annotated[float, _P("step length: the merged step is multiplied by it; papers search 0.2 to 1.5", low=0)]
Normalize = Annotated[bool, _P("divide by the sum of the weights", by_module=False)]
Density = Annotated[
    float, _P("share of each task vector that is kept; 1 keeps all", low=0, high=1, excludes=(0,), per_model=True)
]
Rescale = Annotated[
    Literal["l1", "1/p", "none"],
    _P("what makes up for dropping: the L1 norm (as mergekit), 1/density (the paper), nothing", by_module=False),
]
Majority = Annotated[
    Literal["weighted", "unweighted"],
    _P("whether the weights count in the election of each entry's sign", by_module=False),
]
Seed = Annotated[int, _P("seed of the random masks, with the model's and the tensor's name", low=0, by_module=False)]
Trim = Annotated[
    Literal["tensor", "global"],
    _P("whether the largest entries are sought in each tensor or in the whole task vector", by_module=False),
]


@dataclass(frozen=True)
class Method:
    """A merge method: its function, its source, and what it asks of its input.

    `models` are the fewest and most fine-tunes, `measure` what is measured of a whole parameter before.
    """

    name: str
    merge: Callable[..., Floats]
    summary: str
    source: str
    formula: str
    models: tuple[int, float]
    measure: Callable[..., Any] | None
    parameters: dict[str, Parameter]

    @property
    def returns_step(self) -> bool:
        """Whether the function returns the merged step, before lambda, and not the weights."""
        return "lambda" in self.parameters


def method(
    *, source: str, formula: str, models: tuple[int, float] = (1, math.inf), measure: Callable[..., Any] | None = None
) -> Callable[[Callable[..., Floats]], Method]:
    """Declares a function as the merge method of its name."""

    def declare(function: Callable[..., Floats]) -> Method:
        summary = inspect.getdoc(function) or ""
        return Method(function.__name__, function, summary, source, formula, models, measure, declared(function))

    return declare


def methods() -> dict[str, Method]:
    """Returns every method of this module by name, in the order written."""
    found = [value for value in vars(sys.modules[__name__]).values() if isinstance(value, Method)]
    return {each.name: each for each in found}


# --- sums of task vectors ---------------------------------------------------------------------------------------------


@method(source="Ilharco et al. 2023, arXiv:2212.04089, section 4.2", formula="theta_0 + lambda sum_i w_i tau_i")
def task_arithmetic(
    block: Block, facts: None, *, weight: Weights = 1.0, lambda_: Lambda = 1.0, normalize: Normalize = False
) -> Floats:
    """Task Arithmetic: adds the task vectors to the base."""
    return _total(block.deltas, weight, normalize)


@method(
    source="Wang et al. 2024 (LiNeS), arXiv:2410.17146, equation 3",
    formula="theta_0 + (alpha + beta d) sum_i w_i tau_i, d in [0, 1] the depth over encoder and decoder",
)
def lines(
    block: Block,
    facts: None,
    *,
    weight: Weights = "1/n",
    alpha: Annotated[float, _P("step length at the first layer", low=0)] = 0.5,
    beta: Annotated[float, _P("what the step length grows by until the last layer")] = 0.5,
) -> Floats:
    """LiNeS: Task Arithmetic with a step that grows linearly with depth, so that shallow layers stay near the base."""
    return block.base + _total(block.deltas, weight, False) * (alpha + beta * block.depth)


# --- trimmed by magnitude ---------------------------------------------------------------------------------------------


@method(
    source="Yadav et al. 2023 (TIES-Merging), arXiv:2306.01708, algorithm 1",
    formula="theta_0 + lambda sum_agreeing w_i tau_i / sum_agreeing w_i, over trimmed tau_i of the elected sign",
    measure=sparsify.largest,
)
def ties(
    block: Block,
    facts: Sequence[Cut],
    *,
    weight: Weights = 1.0,
    lambda_: Lambda = 1.0,
    density: Density = 0.2,
    normalize: Normalize = True,
    majority: Majority = "weighted",
    trim: Trim = "tensor",
) -> Floats:
    """TIES: keeps each task vector's largest entries, elects a sign for each entry, and averages those that agree."""
    kept = [keep_largest(tau, cut, block.start) for tau, cut in zip(block.deltas, facts, strict=True)]
    return _elected(kept, weight, normalize, majority)


@method(
    source="Davari and Belilovsky 2023 (Model Breadcrumbs), arXiv:2312.06795, section 3",
    formula="theta_0 + lambda sum_i w_i m_i tau_i, m_i without the gamma n largest and then the smallest entries",
    measure=sparsify.band,
)
def breadcrumbs(
    block: Block,
    facts: Sequence[tuple[Cut, Cut]],
    *,
    weight: Weights = 1.0,
    lambda_: Lambda = 1.0,
    density: Density = 0.9,
    gamma: Annotated[
        float, _P("share of the largest entries that is dropped as outliers", low=0, high=1, per_model=True)
    ] = 0.01,
    normalize: Normalize = False,
) -> Floats:
    """Model Breadcrumbs: drops the outliers and the smallest entries of each task vector, and adds what is left."""
    kept = [
        keep_largest(tau, below, block.start) - keep_largest(tau, above, block.start)
        for tau, (above, below) in zip(block.deltas, facts, strict=True)
    ]
    return _total(kept, weight, normalize)


# --- dropped at random ------------------------------------------------------------------------------------------------


@method(
    source="Yu et al. 2024 (DARE), arXiv:2311.03099, section 3.2",
    formula="theta_0 + lambda sum_i w_i s_i m_i tau_i, m_i ~ Bernoulli(density), s_i the rescaling",
    measure=sparsify.dropped,
)
def dare_linear(
    block: Block,
    facts: Sequence[sparsify.Mask],
    *,
    weight: Weights = 1.0,
    lambda_: Lambda = 1.0,
    density: Density = 0.5,
    rescale: Rescale = "l1",
    normalize: Normalize = False,
    seed: Seed = 0,
) -> Floats:
    """DARE: drops entries of each task vector at random, rescales the rest, and adds them."""
    return _total(
        [mask.apply(tau, block.start) for tau, mask in zip(block.deltas, facts, strict=True)], weight, normalize
    )


@method(
    source="Yu et al. 2024 (DARE), arXiv:2311.03099, with the election of TIES",
    formula="as dare_linear, over the entries of the elected sign",
    measure=sparsify.dropped,
)
def dare_ties(
    block: Block,
    facts: Sequence[sparsify.Mask],
    *,
    weight: Weights = 1.0,
    lambda_: Lambda = 1.0,
    density: Density = 0.5,
    rescale: Rescale = "l1",
    normalize: Normalize = False,
    majority: Majority = "weighted",
    seed: Seed = 0,
) -> Floats:
    """DARE with TIES: drops at random, rescales, elects a sign for each entry, and adds those that agree."""
    kept = [mask.apply(tau, block.start) for tau, mask in zip(block.deltas, facts, strict=True)]
    return _elected(kept, weight, normalize, majority)


@method(
    source="Deep et al. 2024 (DELLA), arXiv:2406.11617, section 3",
    formula="as dare_ties, keep probabilities from density - epsilon to density + epsilon by rank in the row",
    measure=sparsify.ranked,
)
def della(
    block: Block,
    facts: Sequence[sparsify.Mask],
    *,
    weight: Weights = 1.0,
    lambda_: Lambda = 1.0,
    density: Density = 0.5,
    epsilon: Annotated[
        float,
        _P("half the spread of the keep probabilities; density +- epsilon in (0, 1)", low=0, high=0.5, per_model=True),
    ] = 0.15,
    rescale: Rescale = "l1",
    normalize: Normalize = True,
    majority: Majority = "weighted",
    seed: Seed = 0,
) -> Floats:
    """DELLA: drops entries at random, small ones more often, rescales, elects signs, and averages those that agree."""
    kept = [mask.apply(tau, block.start) for tau, mask in zip(block.deltas, facts, strict=True)]
    return _elected(kept, weight, normalize, majority)


# --- means and interpolations -----------------------------------------------------------------------------------------


@method(source="Wortsman et al. 2022 (Model soups), arXiv:2203.05482", formula="sum_i w_i theta_i / sum_i w_i")
def linear(block: Block, facts: None, *, weight: Weights = 1.0, normalize: Normalize = True) -> Floats:
    """Linear: the weighted mean of the fine-tunes; the base takes no part."""
    return _total(block.models, weight, normalize)


@method(
    source="Wortsman et al. 2022 (WiSE-FT), arXiv:2109.01903, equation 1",
    formula="(1 - alpha) theta_0 + alpha theta_1",
    models=(1, 1),
)
def wise_ft(
    block: Block, facts: None, *, alpha: Annotated[float, _P("0 is the base, 1 the fine-tune", low=0, high=1)] = 0.5
) -> Floats:
    """WiSE-FT: interpolates between the base and one fine-tune."""
    return block.base * (1 - alpha) + block.models[0] * alpha


def _cosine(rows: Rows, **_: Any) -> float:
    """Measures the cosine between the weights of two fine-tunes."""
    dot = first = second = 0.0
    for block in rows:
        a, b = block.models
        dot, first, second = dot + _dot(a, b), first + _dot(a, a), second + _dot(b, b)
    norms = math.sqrt(first) * math.sqrt(second)
    return max(-1.0, min(1.0, dot / norms)) if norms > 1e-16 else 0.0


@method(
    source="Shoemake 1985, Animating rotation with quaternion curves",
    formula="sin((1 - t) phi) / sin(phi) theta_1 + sin(t phi) / sin(phi) theta_2, phi the angle between the two",
    models=(2, 2),
    measure=_cosine,
)
def slerp(
    block: Block,
    facts: float,
    *,
    t: Annotated[float, _P("0 is the first model, 1 the second", low=0, high=1)] = 0.5,
) -> Floats:
    """SLERP: interpolates between two fine-tunes along the arc, tensor by tensor; nearly parallel ones linearly."""
    one, two = 1 - t, t
    if abs(facts) <= 0.9995:
        phi = math.acos(facts)
        one, two = math.sin((1 - t) * phi) / math.sin(phi), math.sin(t * phi) / math.sin(phi)
    return block.models[0] * one + block.models[1] * two


def _mean_cosine(rows: Rows, **_: Any) -> float:
    """Measures the mean cosine between the task vectors of each two fine-tunes."""
    gram: dict[tuple[int, int], float] = {}
    for block in rows:
        for i, one in enumerate(block.deltas):
            for j, other in enumerate(block.deltas[: i + 1]):
                gram[i, j] = gram.get((i, j), 0.0) + _dot(one, other)
    pairs = [(i, j) for i, j in gram if j < i]
    norms = [max(math.sqrt(gram[i, i] * gram[j, j]), 1e-6) for i, j in pairs]
    return sum(max(-1.0, min(1.0, gram[pair] / norm)) for pair, norm in zip(pairs, norms, strict=True)) / len(pairs)


@method(
    source="Jang et al. 2024 (Model Stock), arXiv:2403.19522, equation 7",
    formula="t mean_i theta_i + (1 - t) theta_0, t = n cos / (1 + (n - 1) cos), cos the mean cosine between the tau_i",
    models=(2, math.inf),
    measure=_mean_cosine,
)
def model_stock(block: Block, facts: float) -> Floats:
    """Model Stock: interpolates between base and mean, the nearer to the mean the better the fine-tunes agree."""
    count = len(block.models)
    divisor = 1 + (count - 1) * facts
    t = count * facts / divisor if abs(divisor) >= 1e-6 else 0.0
    return _sum(block.models) / np.float32(count) * t + block.base * (1 - t)


@method(
    source="Bandarkar et al. 2024 (layer swapping), arXiv:2410.01335, section 3.2",
    formula="theta_2 in the first `bottom` and last `top` layers, the mean in `transition` more, theta_1 elsewhere",
    models=(2, 2),
)
def layer_swap(
    block: Block,
    facts: None,
    *,
    bottom: Annotated[int, _P("layers taken from the second model at the input's end", low=0)] = 4,
    top: Annotated[int, _P("layers taken from the second model at the output's end", low=0)] = 4,
    transition: Annotated[int, _P("layers after those that are the mean of both", low=0)] = 1,
) -> Floats:
    """Layer swapping: the outer layers of one fine-tune in another; layers are counted over encoder and decoder."""
    one, two = block.models
    if block.layer is None:  # embeddings, convolutions, final norms
        return one
    inwards = min(block.layer - bottom, block.layers - top - 1 - block.layer)  # below 0 among the swapped layers
    if inwards < 0:
        return two
    return (one + two) * 0.5 if inwards < transition else one


# --- what they share --------------------------------------------------------------------------------------------------

_SIGN = np.int32(-(2**31))


def _dot(a: Floats, b: Floats) -> float:
    return float(np.vecdot(a, b).sum(dtype=np.float64))


def _sum(parts: Sequence[Floats]) -> Floats:
    total = parts[0].copy() if len(parts) == 1 else parts[0] + parts[1]
    for part in parts[2:]:
        total += part
    return total


def _weighted(parts: Sequence[Floats], weight: Sequence[float]) -> list[Floats]:
    return [part if w == 1 else part * np.float32(w) for part, w in zip(parts, weight, strict=True)]


def _total(parts: Sequence[Floats], weight: Sequence[float], normalize: bool) -> Floats:
    total = _sum(_weighted(parts, weight))
    divisor = sum(np.float32(w) for w in weight)
    if normalize and abs(divisor) >= 1e-8:
        total /= divisor
    return total


def _elected(kept: Sequence[Floats], weight: Sequence[float], normalize: bool, majority: str) -> Floats:
    """Adds the entries of the elected sign (the sum's; 0 counts as positive), or averages them by their weights.

    Every entry is given the elected sign by flipping its sign bit, so that those that agree are the positive ones.
    """
    weighted = _weighted(kept, weight)
    flip = _sum(weighted if majority == "weighted" else kept).view(np.int32)
    flip &= _SIGN
    equal, nothing = len(set(weight)) == 1, np.zeros_like(flip)
    divisor = np.zeros(flip.shape, np.uint8 if equal else np.float32)
    total: Floats = np.zeros(0, np.float32)
    for part, w in zip(weighted, weight, strict=True):
        bits = part.view(np.int32) ^ flip
        agreeing = np.maximum(bits, nothing, out=bits).view(np.float32)  # a negative float is a negative integer, too
        if normalize:
            divisor += (agreeing > 0) if equal else (agreeing > 0) * np.float32(w)
        total = np.add(total, agreeing, out=total) if total.size else agreeing
    if normalize:
        divisor += divisor == 0
        total /= divisor.astype(np.float32) * np.float32(weight[0]) if equal else divisor
    return (total.view(np.int32) ^ flip).view(np.float32)
