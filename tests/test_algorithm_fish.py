"""Fish against its definition, written out again."""

from __future__ import annotations

import itertools

import pytest
import torch

from lightning_modules.algorithms.fish import Fish
from tests.algorithm_toys import OPTIMIZERS, Quadratics, TinyDecoder, context, token_batch, weights

CENTRES = {"ko-en": [1.0, 0.0], "ja-en": [0.0, 2.0], "de-en": [-1.0, 1.0]}
CURVATURES = {"ko-en": [[2.0, 0.5], [0.5, 1.0]], "ja-en": [[1.0, -0.3], [-0.3, 3.0]]}


def order_of(step: int, pairs: int = 3) -> list[int]:
    """The seeded order, drawn as a context draws it."""
    generator = context(Quadratics([0.0], {"a": [0.0]}), step=step).generator()
    return torch.randperm(pairs, generator=generator).tolist()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_five_steps_equal_the_definition(optimizer: str):
    """The reference makes a second network, steps it clipped, and interpolates, as DomainBed does."""
    model, reference = TinyDecoder(), TinyDecoder()
    algorithm, steps = Fish(meta_lr=0.3), OPTIMIZERS[optimizer](model.parameters())
    inner, state = TinyDecoder(), None
    for step in range(5):
        batch = token_batch(seed=step)
        algorithm.step(context(model, steps, step=step, clip_norm=0.5), batch)

        inner.load_state_dict(reference.state_dict())
        inner_optimizer = OPTIMIZERS[optimizer](inner.parameters())
        if state is not None:
            inner_optimizer.load_state_dict(state)
        parts = list(batch.by_pair().values())
        for pair in order_of(step):
            losses_BU, mask_BU = inner(parts[pair]).losses_BU, parts[pair].labels_BU >= 0
            inner_optimizer.zero_grad()
            losses_BU[mask_BU].mean().backward()
            torch.nn.utils.clip_grad_norm_(inner.parameters(), 0.5)
            inner_optimizer.step()
        state = inner_optimizer.state_dict()
        with torch.no_grad():
            for ours, theirs in zip(reference.parameters(), inner.parameters(), strict=True):
                ours += 0.3 * (theirs - ours)
    torch.testing.assert_close(weights(model), weights(reference), rtol=0, atol=1e-12)


def test_one_pair_by_hand():
    """theta - meta_lr * lr * gradient = 4 - 0.25 * 1 * (4 - 1)."""
    model = Quadratics([4.0], {"ko-en": [1.0]})
    Fish(meta_lr=0.25).step(context(model), model.batch())
    assert model.theta.item() == 4 - 0.25 * 3


def test_meta_lr_0_keeps_the_weights_and_1_keeps_every_step():
    model = Quadratics([4.0, 1.0], CENTRES, CURVATURES)
    before = weights(model)
    Fish(meta_lr=0.0).step(context(model, torch.optim.SGD(model.parameters(), lr=0.1)), model.batch())
    assert torch.equal(weights(model), before)
    Fish(meta_lr=1.0).step(context(model, torch.optim.SGD(model.parameters(), lr=0.1)), model.batch())
    expected = before
    for pair in order_of(0):
        expected = expected - 0.1 * model.gradient(list(CENTRES)[pair], expected)
    torch.testing.assert_close(weights(model), expected, rtol=0, atol=1e-15)


def test_averaged_over_orders_it_rewards_agreeing_gradients():
    """-a sum g_i + a²/2 grad sum_{i<j} g_i . g_j + O(a³), the paper's theorem, on quadratics."""
    theta, rate = torch.tensor([4.0, 1.0], dtype=torch.float64), 1e-3
    model = Quadratics(theta.tolist(), CENTRES, CURVATURES)
    moves: dict[tuple[int, ...], torch.Tensor] = {}
    step = 0
    while len(moves) < 6:
        with torch.no_grad():
            model.theta.copy_(theta)
        if tuple(order_of(step)) not in moves:
            optimizer = torch.optim.SGD(model.parameters(), lr=rate)
            Fish(meta_lr=1.0).step(context(model, optimizer, step=step), model.batch())
            moves[tuple(order_of(step))] = weights(model) - theta
        step += 1
    gradients = {pair: model.gradient(pair, theta) for pair in CENTRES}
    first = -rate * sum(gradients.values())
    second = sum(
        model.curvatures[i] @ gradients[j] + model.curvatures[j] @ gradients[i]
        for i, j in itertools.combinations(CENTRES, 2)
    )
    residual = torch.stack(list(moves.values())).mean(0) - first - rate**2 / 2 * second
    assert residual.norm() < 50 * rate**3 < 0.1 * (rate**2 / 2 * second).norm()


def test_a_raw_step_for_every_pair_but_the_last_whose_step_is_the_wrapped_one():
    model, steps = TinyDecoder(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_post_hook(lambda *_: steps.append("raw"))
    Fish().step(context(model, optimizer, last_step=lambda: steps.append("wrapped")), token_batch())
    assert steps == ["raw", "raw", "wrapped"]


def test_the_order_changes_with_the_step():
    assert {tuple(order_of(step)) for step in range(60)} == set(itertools.permutations(range(3)))
