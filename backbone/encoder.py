"""Whisper's encoder on a CPU: an utterance at a time where they are large, and by the faster of two libraries.

The encoder treats each utterance by itself, so that nothing but the order of the work changes. At a window of 30 s a
layer's widest activation is 9 MB an utterance in whisper-tiny and 18 MB in -small: a batch's is asked of the system and
given back in every operation, page by page. A GPU wants the whole batch, and so do small encoders.

Shape suffixes: B utterances, F mel bins, T frames.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import WhisperForConditionalGeneration
from transformers.activations import GELUActivation
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from backbone.attention import attend_by_onednn
from backbone.products import GELULinear, Linear, use_onednn

_LARGE_BYTES = 4 * 2**20  # of an utterance's widest activation


def speed_up(model: WhisperForConditionalGeneration) -> None:
    """Lets a Whisper run as fast as it can on a CPU; twice is once, and on a GPU it does nothing.

    Outputs and gradients stay the same up to the rounding of sums, weights, names and configuration altogether.
    """
    encode_one_by_one(model)
    attend_by_onednn(model)
    use_onednn(model)
    for layer in model.model.encoder.layers:
        plain = type(layer.fc2) is Linear and not layer.activation_dropout  # without an adapter
        if plain and isinstance(layer.activation_fn, GELUActivation):
            layer.activation_fn, layer.fc2.__class__ = nn.Identity(), GELULinear


def encode_one_by_one(model: WhisperForConditionalGeneration) -> None:
    """Lets the encoder take a batch's utterances one after the other wherever that is faster.

    States and gradients are those of the whole batch, up to the rounding of sums.
    """
    encoder = model.model.encoder
    encoder.forward = MethodType(_forward, encoder)  # a method goes along when the model is copied


def _forward(encoder: WhisperEncoder, input_features: Tensor, *given: Any, **named: Any) -> BaseModelOutput:
    whole = type(encoder).forward
    asks_more = any(value is True for name, value in named.items() if name.startswith("output_"))
    if asks_more or not _is_worth_it(encoder, input_features):
        return whole(encoder, input_features, *given, **named)
    parts = [whole(encoder, mel_1FT, *given, **named).last_hidden_state for mel_1FT in input_features.split(1)]
    return BaseModelOutput(last_hidden_state=torch.cat(parts))


def _is_worth_it(encoder: WhisperEncoder, mel_BFT: Tensor) -> bool:
    if mel_BFT.device.type != "cpu" or len(mel_BFT) < 2 or isinstance(encoder.conv1.weight, DTensor):
        return False  # divided weights would be gathered once an utterance
    return mel_BFT.shape[-1] // 2 * encoder.config.encoder_ffn_dim * mel_BFT.element_size() >= _LARGE_BYTES
