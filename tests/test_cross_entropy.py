"""The fused cross-entropy against PyTorch's plain one: values, gradients, precision, memory, and in the model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from backbone import loss as cross_entropy
from backbone.loss import token_cross_entropy
from common.manifest import read_manifest
from datamodules.batch import IGNORED_LABEL, SpeechBatch
from datamodules.dataset import LabelMaker, PairDataset, collate
from lightning_modules.algorithms.context import StepContext
from lightning_modules.algorithms.fishr import Fishr
from lightning_modules.algorithms.forward import Forward
from lightning_modules.whisper import WhisperModule

TOLERANCES = {torch.float64: (1e-12, 1e-13), torch.float32: (1e-5, 1e-6)}


def plain(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    logits_NV = functional.linear(hidden_ND, weight_VD)
    whole = torch.promote_types(logits_NV.dtype, torch.float32)
    return functional.cross_entropy(logits_NV.to(whole), labels_N, reduction="none"), logits_NV


def draw(tokens: int = 23, vocabulary: int = 311, width: int = 12, dtype: torch.dtype = torch.float64):
    torch.manual_seed(0)
    hidden_ND = (3 * torch.randn(tokens, width, dtype=dtype)).requires_grad_()
    weight_VD = torch.randn(vocabulary, width, dtype=dtype, requires_grad=True)
    labels_N = torch.randint(vocabulary, (tokens,))
    labels_N[:2] = torch.tensor([0, vocabulary - 1])
    return hidden_ND, weight_VD, labels_N


@pytest.mark.parametrize("block", [1, 23 * 7, 23 * 311, 2**22])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("through", ["losses", "logits", "both"])
def test_equals_the_plain_one(monkeypatch: pytest.MonkeyPatch, block: int, dtype: torch.dtype, through: str):
    """Blocks of one row of the vocabulary, of seven with an odd last one, of all."""
    monkeypatch.setattr(cross_entropy, "_BLOCK_ELEMENTS", block)
    inputs = draw(dtype=dtype)
    weights_N, weights_NV = torch.randn(23, dtype=dtype), torch.randn(23, 311, dtype=dtype)
    results = []
    for way in (token_cross_entropy, plain):
        losses_N, logits_NV = way(*inputs)
        terms = {"losses": (losses_N * weights_N).sum(), "logits": (logits_NV * weights_NV).sum()}
        value = sum(terms.values()) if through == "both" else terms[through]
        results.append([losses_N, logits_NV, *torch.autograd.grad(value, inputs[:2])])
    rtol, atol = TOLERANCES[dtype]
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol * 100)


def test_its_gradient_is_the_losss_own():
    """Finite differences, an oracle that knows no softmax."""
    hidden_ND, weight_VD, labels_N = draw(tokens=3, vocabulary=7, width=4)
    assert torch.autograd.gradcheck(lambda h, w: token_cross_entropy(h, w, labels_N), (hidden_ND, weight_VD))


def test_huge_and_equal_logits():
    hidden_ND = torch.tensor([[1000.0], [-1000.0], [0.0]], requires_grad=True)
    weight_VD = torch.tensor([[1.0], [-1.0], [0.5], [0.0]], requires_grad=True)
    losses_N, _ = token_cross_entropy(hidden_ND, weight_VD, torch.tensor([0, 0, 3]))
    torch.testing.assert_close(losses_N, torch.tensor([0.0, 2000.0, math.log(4)]))
    losses_N.sum().backward()
    assert torch.isfinite(hidden_ND.grad).all() and torch.isfinite(weight_VD.grad).all()


def test_autocast_rounds_the_products_and_not_the_loss():
    inputs = draw(dtype=torch.float32)
    results = []
    with torch.autocast("cpu", torch.bfloat16):
        for way in (token_cross_entropy, plain):
            losses_N, logits_NV = way(*inputs)
            results.append([losses_N, logits_NV, *torch.autograd.grad(losses_N.mean(), inputs[:2])])
    (ours, logits, *gradients), (theirs, plain_logits, *plain_gradients) = results
    assert ours.dtype == torch.float32 and logits.dtype == torch.bfloat16
    assert torch.equal(logits, plain_logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    for one, other in zip(gradients, plain_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-3)  # eight bits of mantissa


def test_a_frozen_projection_costs_no_gradient():
    hidden_ND, weight_VD, labels_N = draw()
    losses_N, _ = token_cross_entropy(hidden_ND, weight_VD.detach(), labels_N)
    losses_N.sum().backward()
    theirs = torch.autograd.grad(plain(hidden_ND, weight_VD, labels_N)[0].sum(), hidden_ND)[0]
    torch.testing.assert_close(hidden_ND.grad, theirs)


class PlainModule(WhisperModule):
    """The same module with transformers' own projection and PyTorch's own loss."""

    def token_losses(self, batch: SpeechBatch) -> Forward:
        inputs: list[Tensor] = []
        with self.model.proj_out.register_forward_pre_hook(lambda _, given: inputs.append(given[0])):
            out = self.model(input_features=batch.mel_BFT, decoder_input_ids=batch.decoder_inputs_BU)
        losses = functional.cross_entropy(out.logits.transpose(1, 2), batch.labels_BU, reduction="none")
        return Forward(losses, out.logits, inputs[0])


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("algorithm", ["ERM", "Fishr"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_of_the_model_is_the_plain_ones(
    tiny_model: Path, manifests: dict[str, str], algorithm: str, micro_batch: int | None, checkpointing: bool
):
    """Tied weights get both of their gradients; the closed form reads the same logits; the weights end alike."""
    gradients = []
    for kind in (WhisperModule, PlainModule):
        module = kind(str(tiny_model), gradient_checkpointing=checkpointing)
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
            micro_batch=micro_batch,
            commit=lambda: None,
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
