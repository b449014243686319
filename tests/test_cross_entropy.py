"""The loss against PyTorch's plain one: values, gradients, chunks, precision, label smoothing, and in the model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from backbone import loss
from backbone.loss import IGNORED_LABEL, Losses, token_losses
from common.manifest import read_manifest
from datamodules.batch import SpeechBatch
from datamodules.dataset import LabelMaker, PairDataset, collate
from lightning_modules.algorithms.context import StepContext
from lightning_modules.algorithms.fishr import Fishr
from lightning_modules.whisper import WhisperModule

TOLERANCES = {torch.float64: (1e-12, 1e-13), torch.float32: (1e-5, 1e-6)}


def plain(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, label_smoothing: float = 0.0) -> Tensor:
    logits_NV = functional.linear(hidden_ND, weight_VD)
    whole = torch.promote_types(logits_NV.dtype, torch.float32)
    return functional.cross_entropy(logits_NV.to(whole), labels_N, reduction="none", label_smoothing=label_smoothing)


def draw(tokens: int = 23, vocabulary: int = 311, width: int = 12, dtype: torch.dtype = torch.float64):
    torch.manual_seed(0)
    hidden_ND = (3 * torch.randn(tokens, width, dtype=dtype)).requires_grad_()
    weight_VD = torch.randn(vocabulary, width, dtype=dtype, requires_grad=True)
    labels_N = torch.randint(vocabulary, (tokens,))
    labels_N[:2] = torch.tensor([0, vocabulary - 1])
    return hidden_ND, weight_VD, labels_N


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("chunk", [1, 2 * 311, 7 * 311, 23 * 311, 2**22])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_equals_the_plain_one(monkeypatch: pytest.MonkeyPatch, chunk: int, dtype: torch.dtype, label_smoothing: float):
    """Chunks of one token, of two and of seven with an odd last one, of all."""
    monkeypatch.setattr(loss, "_CHUNK_ELEMENTS", chunk)
    inputs = draw(dtype=dtype)
    weights_N = torch.randn(23, dtype=dtype)
    results = []
    for way in (token_losses, plain):
        losses_N = way(*inputs, label_smoothing)
        results.append([losses_N, *torch.autograd.grad((losses_N * weights_N).sum(), inputs[:2])])
    rtol, atol = TOLERANCES[dtype]
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol * 100)


def test_without_smoothing_it_is_plain_cross_entropy_to_the_last_bit():
    inputs = draw(dtype=torch.float32)
    assert torch.equal(token_losses(*inputs, 0.0), plain(*inputs))


def test_label_smoothing_by_its_definition():
    """The target is 1 - s at the label plus s / V everywhere."""
    hidden_ND, weight_VD, labels_N = draw(tokens=3, vocabulary=7)
    log_p_NV = (hidden_ND @ weight_VD.T).log_softmax(1)
    expected = -(0.7 * log_p_NV[range(3), labels_N] + 0.3 * log_p_NV.mean(1))
    torch.testing.assert_close(token_losses(hidden_ND, weight_VD, labels_N, 0.3), expected)


@pytest.mark.parametrize("chunk", [2 * 7, 2**25])
def test_its_gradient_is_the_losss_own(monkeypatch: pytest.MonkeyPatch, chunk: int):
    """Finite differences, an oracle that knows no softmax."""
    monkeypatch.setattr(loss, "_CHUNK_ELEMENTS", chunk)
    hidden_ND, weight_VD, labels_N = draw(tokens=3, vocabulary=7, width=4)
    assert torch.autograd.gradcheck(lambda h, w: token_losses(h, w, labels_N), (hidden_ND, weight_VD))


def test_huge_and_equal_logits():
    hidden_ND = torch.tensor([[1000.0], [-1000.0], [0.0]], requires_grad=True)
    weight_VD = torch.tensor([[1.0], [-1.0], [0.5], [0.0]], requires_grad=True)
    losses_N = token_losses(hidden_ND, weight_VD, torch.tensor([0, 0, 3]))
    torch.testing.assert_close(losses_N, torch.tensor([0.0, 2000.0, math.log(4)]))
    losses_N.sum().backward()
    assert torch.isfinite(hidden_ND.grad).all() and torch.isfinite(weight_VD.grad).all()


@pytest.mark.parametrize("chunk", [2 * 311, 2**25])
def test_autocast_rounds_the_products_and_not_the_loss(monkeypatch: pytest.MonkeyPatch, chunk: int):
    monkeypatch.setattr(loss, "_CHUNK_ELEMENTS", chunk)
    inputs = draw(dtype=torch.float32)
    results = []
    for way in (token_losses, plain):
        with torch.autocast("cpu", torch.bfloat16):
            losses_N = way(*inputs)
        results.append([losses_N, *torch.autograd.grad(losses_N.mean(), inputs[:2])])
    (ours, *gradients), (theirs, *plain_gradients) = results
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    for one, other in zip(gradients, plain_gradients, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-3)  # eight bits of mantissa


def test_a_frozen_projection_costs_no_gradient():
    hidden_ND, weight_VD, labels_N = draw()
    losses_N = token_losses(hidden_ND, weight_VD.detach(), labels_N)
    losses_N.sum().backward()
    theirs = torch.autograd.grad(plain(hidden_ND, weight_VD, labels_N).sum(), hidden_ND)[0]
    torch.testing.assert_close(hidden_ND.grad, theirs)


def test_no_more_logits_are_held_than_a_chunk(monkeypatch: pytest.MonkeyPatch):
    """What autograd saves for the backward pass, counted; the plain loss saves all logits' softmax."""
    monkeypatch.setattr(loss, "_CHUNK_ELEMENTS", 2 * 311)
    inputs, sizes = draw(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):
        token_losses(*inputs)
    assert max(sizes, default=0) <= inputs[1].numel()  # the weight itself, and nothing as large as logits


class PlainModule(WhisperModule):
    """The same module with transformers' own projection and PyTorch's own loss."""

    def token_losses(self, batch: SpeechBatch, *, with_logits: bool = False) -> Losses:
        inputs: list[Tensor] = []
        with self.model.proj_out.register_forward_pre_hook(lambda _, given: inputs.append(given[0])):
            out = self.model(input_features=batch.mel_BFT, decoder_input_ids=batch.decoder_inputs_BU)
        losses = functional.cross_entropy(
            out.logits.transpose(1, 2), batch.labels_BU, reduction="none", label_smoothing=self.label_smoothing
        )
        return Losses(losses, out.logits, inputs[0])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("algorithm", ["ERM", "Fishr"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_of_the_model_is_the_plain_ones(
    tiny_model: Path,
    manifests: dict[str, str],
    algorithm: str,
    micro_batch: int | None,
    checkpointing: bool,
    label_smoothing: float,
):
    """Tied weights get both of their gradients; the closed form reads the same logits; the weights end alike."""
    gradients = []
    for kind in (WhisperModule, PlainModule):
        module = kind(str(tiny_model), gradient_checkpointing=checkpointing, label_smoothing=label_smoothing)
        module._load()
        module.double()
        dataset = PairDataset(
            {pair: read_manifest(manifests[pair]) for pair in ("ko-en", "de-en")},
            LabelMaker(module.processor.tokenizer),
        )
        batch = collate([dataset[pair, i] for pair in ("ko-en", "de-en") for i in range(3)])
        batch.mel_BFT = module.log_mel.float()(batch.waveforms_BS).double()
        parameters = list(module.model.parameters())
        assert (batch.labels_BU == IGNORED_LABEL).sum() > len(batch) * 3  # padding, too
        context = StepContext(
            parameters,
            module.token_losses,
            torch.optim.SGD(parameters, lr=0.0),
            head_weight=module.model.proj_out.weight,
            label_smoothing=label_smoothing,
            micro_batch=micro_batch,
            last_step=lambda: None,
        )
        held: list[Tensor] = []
        context.clip = lambda held=held, context=context: held.extend(p.grad.clone() for p in context.parameters)
        step = Fishr(penalty_weight=0.5, ema=0.5, anneal_steps=0).double() if algorithm == "Fishr" else module.algorithm
        step.step(context, batch)
        gradients.append(held)
    ours, theirs = gradients
    assert len(ours) > 20 and any(gradient.abs().max() > 0.01 for gradient in ours)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
