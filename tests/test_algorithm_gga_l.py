"""GGA-L against its definition: the gradient, the noise's size, and where it is added."""

from __future__ import annotations

import itertools

import pytest
import torch

from lightning_modules.algorithms.gga_l import GGAL
from lightning_modules.algorithms.gradients import cosines
from tests.algorithm_toys import OPTIMIZERS, Quadratics, TinyDecoder, context, token_batch, weights


def reference_step(model: TinyDecoder, optimizer: torch.optim.Optimizer, step: int, gamma: float, relative: bool):
    """The released code's step: each pair's gradient for the cosines, then the loss of the whole batch, plus noise."""
    batch = token_batch(seed=step)
    parameters = list(model.parameters())

    def pair_loss(pair: str) -> torch.Tensor:
        rows = batch.pair_slices()[pair]
        return model(batch).losses_BU[rows][batch.labels_BU[rows] >= 0].mean()

    pairs = list(batch.pair_slices())
    gradients = [
        torch.cat([g.flatten() for g in torch.autograd.grad(pair_loss(pair), parameters)]).detach() for pair in pairs
    ]
    couples = list(itertools.combinations(gradients, 2))
    similarity = sum(torch.cosine_similarity(a, b, dim=0) for a, b in couples) / len(couples)
    optimizer.zero_grad()
    (sum(pair_loss(pair) for pair in pairs) / len(pairs)).backward()
    total = torch.nn.utils.clip_grad_norm_(parameters, 0.5)
    rms = min(total.item(), 0.5 * total.item() / (total.item() + 1e-6)) / sum(p.numel() for p in parameters) ** 0.5
    alpha = gamma * (1 - similarity.item()) * (rms if relative else 1.0)
    generator = context(model, step=step).generator()
    for parameter in parameters:
        parameter.grad += alpha * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    optimizer.step()


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_four_steps_equal_the_definition(optimizer: str, relative: bool):
    model, reference = TinyDecoder(), TinyDecoder()
    ours, theirs = (OPTIMIZERS[optimizer](m.parameters()) for m in (model, reference))
    for step in range(4):
        GGAL(0.3, relative).step(context(model, ours, step=step, clip_norm=0.5), token_batch(seed=step))
        reference_step(reference, theirs, step, 0.3, relative)
    torch.testing.assert_close(weights(model), weights(reference), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("second", "factor"), [([-3.0, 0.0], 2.0), ([3.0, 0.0], 0.0), ([0.0, 3.0], 1.0)])
def test_opposite_equal_and_orthogonal_gradients(second: list[float], factor: float):
    """At theta = 0 the gradients are minus the centres: alpha is 2 gamma, 0 and gamma."""
    model = Quadratics([0.0, 0.0], {"ko-en": [1.0, 0.0], "ja-en": second})
    context_ = context(model)
    draws = torch.randn(2, generator=context_.generator(), dtype=torch.float64)
    mean = (torch.tensor([1.0, 0.0], dtype=torch.float64) + torch.tensor(second, dtype=torch.float64)) / 2
    GGAL(0.5, relative=False).step(context_, model.batch())
    torch.testing.assert_close(weights(model), mean - factor * 0.5 * draws, rtol=0, atol=1e-15)


def test_the_noise_is_normal_with_alpha_as_its_deviation():
    """3 000 steps of 2 draws at alpha = gamma: mean 0 and variance within 4 standard errors, not uniform."""
    draws = []
    for step in range(3000):
        model = Quadratics([0.0, 0.0], {"ko-en": [1.0, 0.0], "ja-en": [0.0, 1.0]})
        GGAL(0.7, relative=False).step(context(model, step=step), model.batch())
        draws.append((weights(model) - 0.5) / -0.7)
    draws = torch.cat(draws)
    assert abs(draws.mean()) < 4 / 6000**0.5
    assert abs(draws.var() - 1) < 4 * (2 / 6000) ** 0.5
    assert abs((draws**4).mean() - 3) < 4 * (96 / 6000) ** 0.5


def test_the_logged_ratio_is_gamma_times_disagreement():
    model = TinyDecoder()
    figures = GGAL(0.8).step(context(model, clip_norm=1e-2), token_batch())
    assert figures["noise_to_gradient"] == pytest.approx(0.8 * (1 - figures["cosine"]), rel=1e-12)


def test_a_gradient_of_zero_has_no_direction():
    assert cosines(torch.tensor([[0.0, 0.0], [0.0, 4.0]], dtype=torch.float64)).tolist() == [0.0]


def test_without_any_gradient_there_is_no_noise():
    model = Quadratics([1.0, 2.0], {"ko-en": [1.0, 2.0], "ja-en": [1.0, 2.0]})
    figures = GGAL(0.5).step(context(model), model.batch())
    assert figures["noise_to_gradient"] == 0.0
    assert weights(model).tolist() == [1.0, 2.0]


def test_small_gradients_have_a_direction():
    assert cosines(torch.tensor([[4e-6, -3e-6], [-3e-6, 9e-6]], dtype=torch.float64)).tolist() == pytest.approx([-0.5])


@pytest.mark.parametrize("relative", [True, False])
def test_elements_without_a_gradient_can_be_left_alone(relative: bool):
    """The second coordinate has no gradient; the ratio of norms is then that of the first."""
    centres = {"ko-en": [1.0, 0.0], "ja-en": [-3.0, 0.0]}
    model, published = Quadratics([0.0, 0.0], centres), Quadratics([0.0, 0.0], centres)
    GGAL(0.5, relative).step(context(published), published.batch())
    assert weights(published)[1] != 0
    context_ = context(model)
    draw = torch.randn(2, generator=context_.generator(), dtype=torch.float64)[0]
    figures = GGAL(0.5, relative, skip_zero_gradients=True).step(context_, model.batch())
    torch.testing.assert_close(weights(model), torch.stack([-1.0 - draw, 0 * draw]), rtol=0, atol=1e-12)
    assert figures["noise_to_gradient"] == pytest.approx(1.0, rel=1e-12)
