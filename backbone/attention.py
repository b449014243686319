"""The encoder's attention on a CPU, by oneDNN's products; see `backbone.products` for why.

PyTorch's own kernel takes its products from MKL. Here a head's scores are made a block of queries at a time, and again
in the backward pass, so that few of them are ever in memory; what is kept are queries, keys and values.

Shape suffixes: B utterances, H heads, T positions, Q queries of a block, d a head's width, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperAttention

from backbone.products import has_onednn, times

_QUERIES = 512  # of a block: with 1,500 positions, scores of 3 MB
_LEAST_PRODUCTS = 2**23  # multiplications of a head; below, PyTorch's kernel is as good


class EncoderAttention(WhisperAttention):
    """Whisper's attention of the encoder to itself; PyTorch's kernel where that is as good."""

    def forward(self, hidden_states: Tensor, *given: Any, **named: Any) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) -> (B, T, D)."""
        if not self._takes(hidden_states) or any(value is not None and value is not False for value in named.values()):
            return super().forward(hidden_states, *given, **named)
        query_BHTd, keys_BHTd, values_BHTd = (
            states_BTD.unflatten(2, (self.num_heads, -1)).transpose(1, 2).contiguous()
            for states_BTD in (
                self.q_proj(hidden_states) * self.scaling,
                self.k_proj(hidden_states),
                self.v_proj(hidden_states),
            )
        )
        return self.out_proj(_Attention.apply(query_BHTd, keys_BHTd, values_BHTd).flatten(2)), None

    def _takes(self, states_BTD: Tensor) -> bool:
        return (
            has_onednn(states_BTD)
            and states_BTD.shape[1] ** 2 * self.head_dim >= _LEAST_PRODUCTS
            and self.config._attn_implementation == "sdpa"
            and not (self.training and self.dropout)
        )


def attend_by_onednn(model: WhisperForConditionalGeneration) -> None:
    """Gives a model's encoder this attention; weights, names and configuration stay as they are."""
    for layer in model.model.encoder.layers:
        if type(layer.self_attn) is WhisperAttention:
            layer.self_attn.__class__ = EncoderAttention


class _Attention(torch.autograd.Function):
    """Softmax of queries times keys, times values: (B, H, T, d) thrice -> (B, T, H, d)."""

    @staticmethod
    def forward(ctx: Any, query_BHTd: Tensor, keys_BHTd: Tensor, values_BHTd: Tensor) -> Tensor:
        ctx.save_for_backward(query_BHTd, keys_BHTd, values_BHTd)
        found_BTHd = torch.empty_like(query_BHTd.transpose(1, 2), memory_format=torch.contiguous_format)
        for head, rows in _blocks(query_BHTd):
            shares_QT = times(query_BHTd[head][rows], keys_BHTd[head]).softmax(1)
            found_BTHd.transpose(1, 2)[head][rows] = times(shares_QT, values_BHTd[head].T)
        return found_BTHd

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_found_BTHd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query_BHTd, keys_BHTd, values_BHTd = ctx.saved_tensors
        d_found_BHTd = d_found_BTHd.transpose(1, 2).contiguous()
        d_query_BHTd = torch.empty_like(query_BHTd)
        d_keys_BHTd, d_values_BHTd = torch.zeros_like(keys_BHTd), torch.zeros_like(values_BHTd)
        for head, rows in _blocks(query_BHTd):
            query_Qd, keys_Td, d_found_Qd = query_BHTd[head][rows], keys_BHTd[head], d_found_BHTd[head][rows]
            shares_QT = times(query_Qd, keys_Td).softmax(1)
            d_values_BHTd[head] += times(shares_QT.T, d_found_Qd.T)
            d_shares_QT = times(d_found_Qd, values_BHTd[head])
            d_scores_QT = torch._softmax_backward_data(d_shares_QT, shares_QT, 1, shares_QT.dtype)
            d_query_BHTd[head][rows] = times(d_scores_QT, keys_Td.T)
            d_keys_BHTd[head] += times(d_scores_QT.T, query_Qd.T)
        return d_query_BHTd, d_keys_BHTd, d_values_BHTd


def _blocks(query_BHTd: Tensor) -> Iterator[tuple[tuple[int, int], slice]]:
    """Each head of each utterance, and in it each block of queries."""
    utterances, heads, positions, _ = query_BHTd.shape
    for utterance in range(utterances):
        for head in range(heads):
            for start in range(0, positions, _QUERIES):
                yield (utterance, head), slice(start, start + _QUERIES)
