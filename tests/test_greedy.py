"""The decoder's own steps against transformers' forward pass, and its greedy search against one written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from backbone import greedy as module
from backbone.greedy import StepDecoder, greedy
from backbone.model_folder.read import read_model_folder


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> WhisperForConditionalGeneration:
    """Large random weights, so that tokens differ; float64, so that no tie is broken by rounding."""
    model = read_model_folder(tiny_model)[0].eval().double()
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "positions" not in name:
                parameter.add_(0.4 * torch.randn_like(parameter))
    return model


def whole_pass(model: WhisperForConditionalGeneration, encoded_BTD: Tensor, tokens_BU: Tensor) -> Tensor:
    """transformers, without any cache: everything is worked out anew for every token."""
    states = BaseModelOutput(last_hidden_state=encoded_BTD)
    return model(encoder_outputs=states, decoder_input_ids=tokens_BU, use_cache=False).logits


@torch.inference_mode()
@pytest.mark.parametrize("parts", [[4, *[1] * 100], [1, *[1] * 20], [70, 1, 1]])
def test_steps_are_transformers_whole_pass(model: WhisperForConditionalGeneration, parts: list[int]):
    """A prompt at once, then token after token, beyond the room that is made at first."""
    torch.manual_seed(0)
    encoded_BTD, tokens_BU = torch.randn(3, 37, 16).double(), torch.randint(300, (3, sum(parts)))
    expected_BUV = whole_pass(model, encoded_BTD, tokens_BU)
    decoder, place = StepDecoder(model, encoded_BTD), 0
    for size in parts:
        logits_BV = decoder(tokens_BU[:, place : place + size])
        place += size
        torch.testing.assert_close(logits_BV, expected_BUV[:, place - 1], rtol=1e-9, atol=1e-9)
        if place == parts[0] + 10:  # the second leaves
            rows = torch.tensor([0, 2])
            decoder.keep(rows)
            tokens_BU, expected_BUV = tokens_BU[rows], expected_BUV[rows]


@torch.inference_mode()
def test_greedy_written_out(model: WhisperForConditionalGeneration, monkeypatch: pytest.MonkeyPatch):
    """An utterance at a time, however seldom one looks at who has ended."""
    torch.manual_seed(0)
    encoded_BTD, prompt_BU = torch.randn(6, 37, 16).double(), torch.randint(300, (1, 4)).expand(6, 4)
    never_V, first_V = torch.zeros(model.config.vocab_size), torch.zeros(model.config.vocab_size)
    never_V[300:] = first_V[300:] = -torch.inf
    # A token that some utterances come to early, some late and some never stands for the end.
    free = [_alone(model, encoded_BTD[i : i + 1], prompt_BU[:1], -1, never_V, first_V, 40) for i in range(6)]
    places = {token: [row.index(token) for row in free if token in row] for row in free for token in row}
    end = max(places, key=lambda token: len(set(places[token])) * (len(places[token]) < 6))
    assert len(set(places[end])) > 1
    first_V[end] = -torch.inf
    expected = [_alone(model, encoded_BTD[i : i + 1], prompt_BU[:1], end, never_V, first_V, 40) for i in range(6)]
    for look in (1, 3, 8):
        monkeypatch.setitem(module._STEPS_A_LOOK, "cpu", look)
        ours = greedy(model, encoded_BTD, prompt_BU, end, never_V, first_V)[0].tolist()
        for row, tokens in zip(ours, expected, strict=True):
            assert row[: len(tokens)] == tokens
            assert tokens[-1] != end or set(row[len(tokens) :]) <= {end}


@pytest.mark.slow
@torch.inference_mode()
def test_a_compiled_step_says_the_same(model: WhisperForConditionalGeneration):
    """Two batches, some of whose utterances leave: token for token what the plain step says."""
    vocabulary = model.config.vocab_size
    mask_V = torch.where(torch.arange(vocabulary) < 300, 0.0, -torch.inf)
    for seed, rows in ((0, 5), (1, 3)):
        torch.manual_seed(seed)
        encoded_BTD, prompt_BU = torch.randn(rows, 37, 16).double(), torch.randint(300, (1, 4)).expand(rows, 4)
        free = greedy(model, encoded_BTD, prompt_BU, -1, mask_V, mask_V)[0]
        end = int(free[0, 9])  # which the first comes to by then, and others later or never
        plain, compiled = (
            greedy(model, encoded_BTD, prompt_BU, end, mask_V, mask_V, compiled=one)[0] for one in (False, True)
        )
        assert torch.equal(plain, compiled) and len(set(plain.flatten().tolist())) > 5


def _alone(model, encoded, prompt, end: int, never_V: Tensor, first_V: Tensor, most: int) -> list[int]:
    tokens = prompt
    while tokens.shape[1] < prompt.shape[1] + most:
        mask = first_V if tokens.shape[1] == prompt.shape[1] else never_V
        token = (whole_pass(model, encoded, tokens)[:, -1] + mask).argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, token], 1)
        if token == end:
            break
    return tokens[0, prompt.shape[1] :].tolist()
