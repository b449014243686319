"""GroupDRO, V-REx, PCGrad, SAM, MLDG and GGA against their definitions, written out again."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from lightning_modules.algorithms.gga import GGA
from lightning_modules.algorithms.groupdro import GroupDRO
from lightning_modules.algorithms.mldg import MLDG
from lightning_modules.algorithms.pcgrad import PCGrad
from lightning_modules.algorithms.sam import SAM
from lightning_modules.algorithms.vrex import VREx
from tests.algorithm_toys import OPTIMIZERS, Quadratics, TinyDecoder, context, token_batch, weights


def losses_of(model: TinyDecoder, batch) -> Tensor:
    losses_BU = model(batch).losses_BU
    return torch.stack([losses_BU[r][batch.labels_BU[r] >= 0].mean() for r in batch.pair_slices().values()])


def flat_gradients(model: TinyDecoder, batch) -> list[Tensor]:
    return [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)])
        for loss in losses_of(model, batch)
    ]


def put_flat(model: TinyDecoder, gradient: Tensor) -> None:
    sizes = [parameter.numel() for parameter in model.parameters()]
    for parameter, part in zip(model.parameters(), gradient.split(sizes), strict=True):
        parameter.grad = part.view_as(parameter).clone()


def shift(model: TinyDecoder, by: Tensor) -> None:
    sizes = [parameter.numel() for parameter in model.parameters()]
    with torch.no_grad():
        for parameter, part in zip(model.parameters(), by.split(sizes), strict=True):
            parameter += part.view_as(parameter)


def both(algorithm, reference_step, optimizer: str, steps: int = 5) -> None:
    """Trains a model with the algorithm and another with the reference, and compares."""
    model, reference = TinyDecoder(), TinyDecoder()
    ours, theirs = (OPTIMIZERS[optimizer](m.parameters()) for m in (model, reference))
    for step in range(steps):
        algorithm.step(context(model, ours, step=step), token_batch(seed=step))
        reference_step(reference, theirs, step, token_batch(seed=step))
    torch.testing.assert_close(weights(model), weights(reference), rtol=0, atol=1e-12)
    assert (weights(model) - weights(TinyDecoder())).norm() > 1e-2


def order_of(step: int, pairs: int = 3) -> list[int]:
    return torch.randperm(pairs, generator=context(TinyDecoder(), step=step).generator()).tolist()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_groupdro(optimizer: str):
    q = torch.ones(3, dtype=torch.float64)

    def step(model, optimizer_, step, batch):
        nonlocal q
        losses = losses_of(model, batch)
        q = q * (0.7 * losses.detach()).exp()
        q = q / q.sum()
        optimizer_.zero_grad()
        (q * losses).sum().backward()
        optimizer_.step()

    both(GroupDRO(eta=0.7), step, optimizer)


def test_groupdro_by_hand():
    """At theta = 0 the losses are 1/2 and 2, so q = (1, e^{1.5 eta}) / sum, and the step is q_1 c_1 + q_2 c_2."""
    model = Quadratics([0.0, 0.0], {"ko-en": [1.0, 0.0], "ja-en": [0.0, 2.0]})
    GroupDRO(eta=2.0).step(context(model), model.batch())
    q = 1 / (1 + math.exp(3.0))
    torch.testing.assert_close(weights(model), torch.tensor([q, 2 * (1 - q)], dtype=torch.float64))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_vrex(optimizer: str):
    def step(model, optimizer_, step, batch):
        losses = losses_of(model, batch)
        if step == 3:
            optimizer_.state.clear()
        weight = 4.0 if step >= 3 else 1.0
        optimizer_.zero_grad()
        (losses.mean() + weight * ((losses - losses.mean()) ** 2).mean()).backward()
        optimizer_.step()

    both(VREx(penalty_weight=4.0, anneal_steps=3), step, optimizer)


def test_vrex_by_hand():
    """Losses 1/2 and 2: mean gradient (-1/2, -1), variance 9/16, its gradient (L1 - L2)/2 (g1 - g2) = -3/4 (-1, 2)."""
    model = Quadratics([0.0, 0.0], {"ko-en": [1.0, 0.0], "ja-en": [0.0, 2.0]})
    VREx(penalty_weight=2.0, anneal_steps=0).step(context(model), model.batch())
    torch.testing.assert_close(weights(model), torch.tensor([0.5 - 2 * 0.75, 1 + 2 * 1.5], dtype=torch.float64))


@pytest.mark.parametrize(("weight", "anneal", "expected"), [(4.0, 0, []), (4.0, 2, [2]), (0.0, 2, [])])
def test_vrex_forgets_once_at_the_end_of_annealing(weight: float, anneal: int, expected: list[int]):
    resets: list[int] = []
    model = TinyDecoder()
    for step in range(5):
        step_context = context(model, step=step)
        step_context.reset_optimizer = lambda step=step: resets.append(step)
        VREx(weight, anneal).step(step_context, token_batch(seed=step))
    assert resets == expected


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pcgrad(optimizer: str):
    def step(model, optimizer_, step, batch):
        gradients = [-g if i == 1 else g for i, g in enumerate(flat_gradients(model, batch))]
        generator, projected = context(model, step=step).generator(), []
        for i, gradient in enumerate(gradients):
            gradient = gradient.clone()
            for j in torch.randperm(3, generator=generator).tolist():
                if j != i and gradient @ gradients[j] < 0:
                    gradient -= (gradient @ gradients[j]) / (gradients[j] @ gradients[j]) * gradients[j]
            projected.append(gradient)
        put_flat(model, sum(projected) / 3)
        optimizer_.step()

    class Conflicting(TinyDecoder):
        """One pair's loss climbs, so that gradients conflict."""

        def forward(self, batch, *, with_logits=False):
            out = super().forward(batch)
            sign_B = torch.tensor([-1.0 if pair == "ja-en" else 1.0 for pair in batch.pairs])
            return type(out)(out.losses_BU * sign_B[:, None], out.logits_BUV, out.hidden_BUD)

    model, reference = Conflicting(), TinyDecoder()
    ours, theirs = (OPTIMIZERS[optimizer](m.parameters()) for m in (model, reference))
    for i in range(5):
        PCGrad().step(context(model, ours, step=i), token_batch(seed=i))
        step(reference, theirs, i, token_batch(seed=i))
    torch.testing.assert_close(weights(model), weights(reference), rtol=0, atol=1e-11)


def test_pcgrad_of_two_by_hand_and_by_torchjd():
    """(1, 0) and (-1, 1): projected (1/2, 1/2) and (0, 1); half their sum is (1/4, 3/4)."""
    model = Quadratics([0.0, 0.0], {"ko-en": [1.0, 0.0], "ja-en": [-1.0, 1.0]})
    PCGrad().step(context(model), model.batch())
    torch.testing.assert_close(weights(model), torch.tensor([0.25, 0.75], dtype=torch.float64))
    aggregation = pytest.importorskip("torchjd.aggregation")
    theirs = aggregation.PCGrad()(torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)) / 2
    torch.testing.assert_close(weights(model), theirs)


def test_pcgrad_beside_a_pair_whose_gradient_is_zero():
    """It conflicts with nobody: half of minus the other's gradient (-1, 0) is the step."""
    model = Quadratics([0.0, 0.0], {"ko-en": [1.0, 0.0], "ja-en": [0.0, 0.0]})
    PCGrad().step(context(model), model.batch())
    assert weights(model).tolist() == [0.5, 0.0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_sam(optimizer: str):
    def step(model, optimizer_, step, batch):
        gradient = sum(flat_gradients(model, batch)) / 3
        climb = 0.4 * gradient / gradient.norm()
        shift(model, climb)
        at_top = sum(flat_gradients(model, batch)) / 3
        shift(model, -climb)
        put_flat(model, at_top)
        optimizer_.step()

    both(SAM(rho=0.4), step, optimizer)


def test_sam_by_hand():
    """f = 3/2 theta², theta = 2: climb to 2.5, gradient 7.5, step to 2 - 0.1 * 7.5."""
    model = Quadratics([2.0], {"ko-en": [0.0]}, {"ko-en": [[3.0]]})
    SAM(rho=0.5).step(context(model, torch.optim.SGD(model.parameters(), lr=0.1)), model.batch())
    assert model.theta.item() == pytest.approx(1.25, abs=1e-15)


def test_sam_stays_where_there_is_nothing_to_climb():
    model = Quadratics([2.0, 1.0], {"ko-en": [2.0, 1.0]})
    SAM(rho=0.5).step(context(model), model.batch())
    assert weights(model).tolist() == [2.0, 1.0]


@pytest.mark.parametrize("held_out", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_mldg(optimizer: str, held_out: int):
    def step(model, optimizer_, step, batch):
        order = order_of(step)
        training = order[held_out:]
        gradients = flat_gradients(model, batch)
        first = sum(gradients[pair] for pair in training) / len(training)
        inner = TinyDecoder()
        inner.load_state_dict(model.state_dict())
        put_flat(inner, first)
        torch.optim.Adam(inner.parameters(), lr=optimizer_.param_groups[0]["lr"]).step()
        after = flat_gradients(inner, batch)
        put_flat(model, first + 0.6 * sum(after[pair] for pair in order[:held_out]) / held_out)
        optimizer_.step()

    both(MLDG(beta=0.6, held_out=held_out), step, optimizer)


class Search:
    """GGA's search on flat weights, as the released code and as the paper tell it."""

    def __init__(self, rho: float, trials: int, reset: str, relative: bool, tolerance: float = 0.1) -> None:
        self.rho, self.trials, self.reset, self.relative, self.tolerance = rho, trials, reset, relative, tolerance
        self.accepted = 0

    def score(self, model: TinyDecoder, batch) -> tuple[float, float]:
        couples = itertools.combinations(flat_gradients(model, batch), 2)
        least = min(float(torch.cosine_similarity(a, b, dim=0)) for a, b in couples)
        return least, losses_of(model, batch).mean().item()

    def __call__(self, model: TinyDecoder, step: int, batch) -> None:
        generator = context(model, step=step).generator()
        start, best_point = weights(model), weights(model)
        mixer = model.mixer_DD  # weight_VD is the classifier
        rms = float(mixer.detach().square().mean()) ** 0.5 if self.relative else 1.0
        best, best_loss = self.score(model, batch)
        for _ in range(self.trials):
            with torch.no_grad():
                mixer += self.rho * rms * (2 * torch.rand(mixer.shape, generator=generator, dtype=torch.float64) - 1)
            agreement, loss = self.score(model, batch)
            if agreement > best and loss - best_loss < self.tolerance:
                best, best_loss, best_point = agreement, loss, weights(model)
                self.accepted += 1
                if self.reset == "code":
                    shift(model, start - weights(model))
            elif self.reset == "best":
                shift(model, best_point - weights(model))
        shift(model, best_point - weights(model))


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("reset", ["best", "code"])
def test_gga(reset: str, relative: bool):
    search = Search(0.1, 20, reset, relative)

    def step(model, optimizer_, step, batch):
        if 1 <= step <= 8:
            search(model, step, batch)
        put_flat(model, sum(flat_gradients(model, batch)) / 3)
        optimizer_.step()

    both(GGA(0.1, 1, 8, 20, relative=relative, reset=reset), step, "adam", steps=10)
    assert search.accepted > 2


def test_gga_says_what_a_step_of_its_window_costs():
    algorithm, model, batch, passed = GGA(0.1, 2, 6, trials=5), TinyDecoder(), token_batch(), []
    step_context = context(model, step=6)
    step_context.forward = lambda part, **_: (passed.append(len(part)), model(part))[1]
    algorithm.step(step_context, batch)
    assert algorithm.needs(3).note == f"steps 2 to 6 take {sum(passed) // len(batch)} x"


def test_gga_takes_no_agreement_that_costs_too_much_loss():
    """With no tolerance for loss only trials that lower it may win."""
    model, batch = TinyDecoder(), token_batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    before = losses_of(model, batch).mean()
    figures = GGA(0.3, 0, 0, 40, tolerance=0.0).step(context(model, optimizer), batch)
    assert figures["gga/agreement_after"] > figures["gga/agreement_before"]
    assert losses_of(model, batch).mean() < before
    figures = GGA(0.3, 0, 0, 40, tolerance=10.0).step(context(model, optimizer), batch)
    assert losses_of(model, batch).mean() > before
