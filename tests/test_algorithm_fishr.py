"""Fishr against per-utterance gradients made by autograd, held whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn import functional

from lightning_modules.algorithms.fishr import Fishr
from lightning_modules.algorithms.forward import Head, head_of
from lightning_modules.algorithms.head_variance import Memory, TokenVariance, UtteranceVariance, VariancePenalty
from tests.algorithm_toys import OPTIMIZERS, TinyDecoder, context, token_batch, weights

SIZES = {"ko-en": 3, "ja-en": 2, "de-en": 4}


def heads(batch, model: TinyDecoder, label_smoothing: float = 0.0) -> Head:
    normaliser_P = torch.stack([(part.labels_BU >= 0).sum() for part in batch.by_pair().values()]).double()
    return head_of([model(batch)], batch, normaliser_P, model.weight_VD, label_smoothing)


def utterance_gradients(weight_VD: Tensor, hidden_BUD: Tensor, labels_BU: Tensor, smoothing: float = 0.0) -> Tensor:
    """Each utterance's gradient of its mean token loss by the projection's weight: (B, V, D), differentiable."""

    def mean_loss(weight_VD: Tensor, hidden_UD: Tensor, labels_U: Tensor) -> Tensor:
        losses_U = functional.cross_entropy(
            hidden_UD @ weight_VD.T, labels_U.clamp(min=0), reduction="none", label_smoothing=smoothing
        )
        mask_U = (labels_U >= 0).double()
        return (losses_U * mask_U).sum() / mask_U.sum().clamp(min=1)

    return vmap(grad(mean_loss), in_dims=(None, 0, 0))(weight_VD, hidden_BUD, labels_BU)


def token_gradients(weight_VD: Tensor, hidden_BUD: Tensor, labels_BU: Tensor, smoothing: float = 0.0) -> list[Tensor]:
    """Each token's gradient, for each utterance: (tokens, V, D)."""
    loss = lambda w, h, y: functional.cross_entropy(h @ w.T, y, label_smoothing=smoothing)  # noqa: E731
    mask_BU = labels_BU >= 0
    return [
        vmap(grad(loss), in_dims=(None, 0, 0))(weight_VD, hidden_BUD[row][mask_BU[row]], labels_BU[row][mask_BU[row]])
        for row in range(len(labels_BU))
    ]


def variances(samples: str, weight_VD: Tensor, hidden_BUD: Tensor, batch, smoothing: float = 0.0) -> Tensor:
    """The biased variances of the pairs (P, V, D)."""
    if samples == "utterance":
        gradients = utterance_gradients(weight_VD, hidden_BUD, batch.labels_BU, smoothing)
        groups = [gradients[rows] for rows in batch.pair_slices().values()]
    else:
        gradients = token_gradients(weight_VD, hidden_BUD, batch.labels_BU, smoothing)
        groups = [torch.cat(gradients[rows]) for rows in batch.pair_slices().values()]
    return torch.stack([((group - group.mean(0)) ** 2).mean(0) for group in groups])


def distance(variances_PVD: Tensor) -> Tensor:
    return ((variances_PVD - variances_PVD.mean(0)) ** 2).sum() / len(variances_PVD)


SAMPLES = {"utterance": UtteranceVariance, "token": TokenVariance}


def closed_form(samples: str, head: Head, **options) -> VariancePenalty:
    return VariancePenalty(head, SAMPLES[samples](head, lambda tensor: tensor), **options)


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("block", [1, 4, None])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_value_and_gradients_equal_autograd(samples: str, block: int | None, label_smoothing: float):
    model, batch = TinyDecoder(), token_batch(SIZES)
    head = heads(batch, model, label_smoothing)
    value, d_logits_BUV, d_hidden_BUD = closed_form(samples, head, block=block).value_and_gradients()

    weight_VD = model.weight_VD.detach().requires_grad_()
    hidden_BUD = head.hidden_BUD.clone().requires_grad_()
    expected = distance(variances(samples, weight_VD, hidden_BUD, batch, label_smoothing))
    dW, dH = torch.autograd.grad(expected, [weight_VD, hidden_BUD])
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
    ours_W = torch.einsum("buv,bud->vd", d_logits_BUV, head.hidden_BUD)
    ours_H = d_hidden_BUD + d_logits_BUV @ head.weight_VD
    torch.testing.assert_close(ours_W, dW, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(ours_H, dH, rtol=1e-12, atol=1e-15)


def test_backpack_agrees_on_the_utterances_gradients():
    backpack = pytest.importorskip("backpack")
    extensions = pytest.importorskip("backpack.extensions")
    model, batch = TinyDecoder(), token_batch(SIZES)
    hidden_BUD = model(batch).hidden_BUD.detach().requires_grad_()
    projection = backpack.extend(torch.nn.Linear(4, 11, bias=False, dtype=torch.float64))
    projection.weight.data.copy_(model.weight_VD)
    mask_BU = (batch.labels_BU >= 0).double()
    losses = functional.cross_entropy(projection(hidden_BUD).transpose(1, 2), batch.labels_BU, reduction="none")
    with backpack.backpack(extensions.BatchGrad()):
        (losses.sum(1) / mask_BU.sum(1)).sum().backward()
    oracle = [projection.weight.grad_batch[rows].var(0, correction=0) for rows in batch.pair_slices().values()]
    value = closed_form("utterance", heads(batch, model)).value()
    torch.testing.assert_close(value, distance(torch.stack(oracle)), rtol=1e-12, atol=0)


def reference_step(model, optimizer, step: int, averages: list, samples: str, weight: float, anneal: int, ema: float):
    """DomainBed's update with its moving average, on a copy of the head that is not tied."""
    batch = token_batch(SIZES, seed=step)
    out = model(batch)
    losses = [out.losses_BU[rows][batch.labels_BU[rows] >= 0].mean() for rows in batch.pair_slices().values()]
    v_PVD = variances(samples, model.weight_VD, out.hidden_BUD, batch)
    scaled_PVD = v_PVD + ema / (1 - ema) * averages[0]
    averages[0] = ema * averages[0] + (1 - ema) * v_PVD.detach()
    if step == anneal != 0:
        optimizer.state.clear()
    loss = sum(losses) / len(losses) + (weight if step >= anneal else 0.0) * distance(scaled_PVD)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("scale", ["sum", "mean"])
def test_six_steps_equal_domainbeds_update(samples: str, optimizer: str, scale: str):
    """Through the tied weight: the projection's gradient counts, its use as an embedding is not a sample's gradient."""
    model, reference = TinyDecoder(), TinyDecoder()
    elements, averages = model.weight_VD.numel(), [torch.zeros(3, *model.weight_VD.shape, dtype=torch.float64)]
    ours, theirs = (OPTIMIZERS[optimizer](m.parameters()) for m in (model, reference))
    lambda_ = 2.0 * (elements if scale == "mean" else 1)
    algorithm = Fishr(lambda_, scale, ema=0.8, anneal_steps=2, samples=samples)
    for step in range(6):
        algorithm.step(context(model, ours, step=step), token_batch(SIZES, seed=step))
        reference_step(reference, theirs, step, averages, samples, 2.0, 2, 0.8)
    torch.testing.assert_close(weights(model), weights(reference), rtol=0, atol=1e-12)
    torch.testing.assert_close(algorithm.average_PVD, averages[0], rtol=1e-12, atol=1e-16)
    plain = TinyDecoder()  # and the penalty has done something
    for step in range(6):
        Fishr(0.0).step(context(plain, OPTIMIZERS[optimizer](plain.parameters())), token_batch(SIZES, seed=step))
    assert (weights(plain) - weights(model)).norm() > 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_calibrated_penalty_has_the_asked_share_of_the_gradient_at_the_input(smoothing: float):
    model, batch = TinyDecoder(), token_batch(SIZES)
    head = heads(batch, model)
    hidden_BUD = head.hidden_BUD.clone().requires_grad_()
    losses_BU = functional.cross_entropy(
        (hidden_BUD @ head.weight_VD.T).transpose(1, 2),
        batch.labels_BU,
        reduction="none",
        label_smoothing=smoothing,
    )
    pairs = batch.pair_slices().values()
    loss = sum(losses_BU[rows][batch.labels_BU[rows] >= 0].mean() for rows in pairs) / 3
    penalty = distance(variances("utterance", head.weight_VD, hidden_BUD, batch, smoothing))
    g_loss, g_penalty = (torch.autograd.grad(term, hidden_BUD)[0].norm() for term in (loss, penalty))
    figures = Fishr(0.3, ema=0.0, anneal_steps=0).step(context(model, label_smoothing=smoothing), batch)
    torch.testing.assert_close(figures["fishr/weight"], 0.3 * g_loss / g_penalty, rtol=1e-12, atol=0)
    torch.testing.assert_close(figures["fishr/penalty"], penalty.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(figures["fishr/penalty_to_loss_gradient"], torch.tensor(0.3).double())


def test_calibration_averages_the_norms_over_steps():
    """Ratio of the two moving averages, bias and all: by hand from the logged figures of two steps."""
    model, algorithm, norms = TinyDecoder(), Fishr(0.3, ema=0.75, anneal_steps=0), []
    for step in range(2):
        figures = algorithm.step(context(model, step=step), token_batch(SIZES, seed=step))
        ratio = figures["fishr/penalty_to_loss_gradient"] / figures["fishr/weight"]
        norms.append(ratio)
    loss_norm, penalty_norm = algorithm.norms_2
    torch.testing.assert_close(figures["fishr/weight"], 0.3 * loss_norm / penalty_norm)
    first = Fishr(0.3, ema=0.75, anneal_steps=0)
    first.step(context(TinyDecoder(), step=0), token_batch(SIZES, seed=0))
    second = algorithm.norms_2 - 0.75 * first.norms_2
    torch.testing.assert_close(second[1] / second[0], norms[1])


def test_the_objective_is_the_mean_loss_plus_lambda_times_the_penalty():
    model, batch, objective = TinyDecoder(), token_batch(SIZES), []
    step_context = context(model, back_propagate=lambda loss, last: (objective.append(loss.item()), loss.backward()))
    figures = Fishr(5.0, "sum", ema=0.0, anneal_steps=0).step(step_context, batch)
    mean = sum(float(figures[f"loss/{pair}"]) for pair in SIZES) / 3
    assert objective == [pytest.approx(mean + 5.0 * float(figures["fishr/penalty"]), rel=1e-12)]
    assert figures["fishr/penalty"] > 1e-3


def test_a_scaled_loss_has_a_scaled_gradient_throughout():
    moves = []
    for factor in (1.0, 8.0):
        model = TinyDecoder()
        step_context = context(model, back_propagate=lambda loss, last, factor=factor: (factor * loss).backward())
        Fishr(5.0, "sum", ema=0.0, anneal_steps=0).step(step_context, token_batch(SIZES))
        moves.append(weights(model) - weights(TinyDecoder()))
    torch.testing.assert_close(moves[1], 8 * moves[0], rtol=1e-12, atol=1e-13)


def test_identical_pairs_and_single_utterances_have_no_penalty():
    model, one = TinyDecoder(), token_batch({"ko-en": 3})
    same = replace(
        token_batch({"ko-en": 3, "ja-en": 3}),
        decoder_inputs_BU=one.decoder_inputs_BU.repeat(2, 1),
        labels_BU=one.labels_BU.repeat(2, 1),
    )
    assert closed_form("utterance", heads(same, model)).value() < 1e-30
    single = token_batch({"ko-en": 1, "ja-en": 1})
    before = weights(model)
    figures = Fishr(0.3, anneal_steps=0).step(context(model, torch.optim.SGD(model.parameters(), lr=0.0)), single)
    assert figures["fishr/penalty"] == 0 and figures["fishr/weight"] == 0
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize("samples", SAMPLES)
def test_padding_order_of_utterances_and_order_of_pairs_do_not_matter(samples: str):
    model, batch = TinyDecoder(), token_batch(SIZES)
    value = closed_form(samples, heads(batch, model)).value()
    pad = lambda t, fill: functional.pad(t, (0, 3), value=fill)  # noqa: E731
    padded = replace(batch, decoder_inputs_BU=pad(batch.decoder_inputs_BU, 5), labels_BU=pad(batch.labels_BU, -100))
    order = [8, 5, 7, 6, 4, 3, 2, 0, 1]  # de-en, ja-en, ko-en, each shuffled
    moved = replace(
        batch,
        pairs=[batch.pairs[i] for i in order],
        decoder_inputs_BU=batch.decoder_inputs_BU[order],
        labels_BU=batch.labels_BU[order],
    )
    for other in (padded, moved):
        torch.testing.assert_close(closed_form(samples, heads(other, model)).value(), value, rtol=1e-13, atol=0)


def test_the_prompt_is_no_part_of_it():
    """What stands in the prompt's labels does not matter, since they are ignored."""
    batch = token_batch(SIZES)
    assert (batch.labels_BU[:, 0] == -100).all()
    model = TinyDecoder()
    d_logits_BUV = closed_form("utterance", heads(batch, model)).value_and_gradients()[1]
    assert (d_logits_BUV[batch.labels_BU == -100] == 0).all() and (d_logits_BUV != 0).any()


@pytest.mark.parametrize("samples", SAMPLES)
def test_active_rows_are_the_full_penalty_on_those_rows(samples: str):
    model, batch = TinyDecoder(), token_batch(SIZES)
    head = heads(batch, model)
    rows = torch.tensor([0, 3, 4, 9])
    value, d_logits_BUV, d_hidden_BUD = closed_form(samples, head, rows=rows, block=3).value_and_gradients()
    weight_VD, hidden_BUD = model.weight_VD.detach().requires_grad_(), head.hidden_BUD.clone().requires_grad_()
    expected = distance(variances(samples, weight_VD, hidden_BUD, batch)[:, rows])
    _, dH = torch.autograd.grad(expected, [weight_VD, hidden_BUD])
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(d_hidden_BUD + d_logits_BUV @ head.weight_VD, dH, rtol=1e-12, atol=1e-15)


def test_active_rows_are_the_labels_and_the_most_probable():
    model, batch = TinyDecoder(vocabulary=40), token_batch(SIZES, vocabulary=40)
    head = heads(batch, model)
    valid_BU = batch.labels_BU >= 0
    rows = set(batch.labels_BU[valid_BU].tolist())
    for scores_V in head.logits_BUV[valid_BU]:
        rows |= set(scores_V.argsort(descending=True)[:2].tolist())
    assert 5 < len(rows) < 40
    expected = closed_form("utterance", head, rows=torch.tensor(sorted(rows))).value()
    figures = Fishr(0.5, anneal_steps=0, active_rows=2).step(context(model), batch)
    torch.testing.assert_close(figures["fishr/penalty"], expected, rtol=1e-13, atol=0)


def test_as_many_active_rows_as_the_vocabulary_is_the_full_penalty():
    full, active = TinyDecoder(), TinyDecoder()
    algorithms = Fishr(0.5, anneal_steps=1), Fishr(0.5, anneal_steps=1, active_rows=11)
    for step in range(3):
        for model, algorithm in zip((full, active), algorithms, strict=True):
            algorithm.step(context(model, step=step), token_batch(SIZES, seed=step))
    torch.testing.assert_close(weights(active), weights(full), rtol=0, atol=1e-13)


def test_a_row_left_out_of_the_memory_counts_as_a_variance_of_zero():
    """Rows 0 and 1; row 1 is seen at steps 0 and 3 only: average = decay³ (1 - decay) v0 + (1 - decay) v3."""
    memory = Memory(0.75, torch.zeros(1, 2, 1), torch.zeros(2, dtype=torch.long), 0)
    seen = {0: [0, 1], 1: [0], 2: [0], 3: [0, 1]}
    for step, rows in seen.items():
        memory.step = step
        scaled = memory.add(torch.full((1, len(rows), 1), 4.0), torch.tensor(rows))
    torch.testing.assert_close(memory.average_PVD[0, 1, 0], torch.tensor(0.75**3 * 1.0 + 1.0))
    torch.testing.assert_close(memory.average_PVD[0, 0, 0], torch.tensor(4 * (1 - 0.75**4)))
    torch.testing.assert_close(scaled[0, 1, 0], torch.tensor(4 + 0.75 / 0.25 * 0.75**2 * 1.0))


@pytest.mark.parametrize("anneal", [0, 2])
def test_the_optimizer_forgets_once_at_the_end_of_annealing(anneal: int):
    model, resets = TinyDecoder(), []
    optimizer = OPTIMIZERS["adam"](model.parameters())
    algorithm = Fishr(0.3, anneal_steps=anneal)
    for step in range(5):
        step_context = context(model, optimizer, step=step)
        step_context.reset_optimizer = lambda step=step: (resets.append(step), optimizer.state.clear())
        algorithm.step(step_context, token_batch(SIZES, seed=step))
    assert resets == ([] if anneal == 0 else [2])


def test_single_precision_is_near_double():
    model, batch = TinyDecoder(), token_batch(SIZES)
    head = heads(batch, model)
    single = Head(
        head.logits_BUV.float(),
        head.hidden_BUD.float(),
        head.labels_BU,
        head.loss_weights_BU.float(),
        head.pair_slices,
        head.weight_VD.float(),
    )
    for ours, exact in zip(
        closed_form("utterance", single).value_and_gradients(),
        closed_form("utterance", head).value_and_gradients(),
        strict=True,
    ):
        assert (ours - exact).norm() < 2e-6 * exact.norm()
