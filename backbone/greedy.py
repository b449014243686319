"""Greedy decoding, faster than transformers' `generate` and equal to it in float32, token for token.

The decoder's layers are called one by one, without transformers' caches and masks, which cost as much as a step's
arithmetic: the keys and values of the audio are computed once per utterance, those of the tokens are written into
tensors allocated beforehand, utterances that have ended leave the batch, and the host waits for a GPU only once in
several steps.

Shape suffixes: B utterances, R of them still decoded, U tokens, T encoder positions, H heads, d a head's width,
D width, V vocabulary.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperForConditionalGeneration

from backbone.guards import ends_in_loop

_LIVING_SHARE = 0.75  # of unfinished utterances; below it, finished ones are removed, which costs about one step
_FIRST_ROOM = 64  # tokens allocated at first; doubled when full
_STEPS_A_LOOK = {"cpu": 1}  # steps between checks for ended utterances; elsewhere 8, as a check waits for the device

States = Sequence[tuple[Tensor, Tensor]]  # keys and values (R, H, T or U, d) of each layer


class StepDecoder:
    """Whisper's decoder for a batch of encoded utterances, some tokens at a time.

    Args:
        model: in evaluation mode; its weights are read at every step.
        encoded_RTD: encoder states.
        compiled: compile a step of one token by torch.compile, once for all batches.
    """

    def __init__(self, model: WhisperForConditionalGeneration, encoded_RTD: Tensor, *, compiled: bool = False) -> None:
        self.model, self.compiled = model, compiled
        self.heads = model.config.decoder_attention_heads
        self.most = model.config.max_target_positions
        self.length = 0
        layers = model.model.decoder.layers
        self.audio = [
            (
                _by_head(layer.encoder_attn.k_proj(encoded_RTD), self.heads),
                _by_head(layer.encoder_attn.v_proj(encoded_RTD), self.heads),
            )
            for layer in layers
        ]  # keys and values (R, H, T, d)
        room = (len(encoded_RTD), self.heads, min(_FIRST_ROOM, self.most), encoded_RTD.shape[2] // self.heads)
        self.tokens = [(encoded_RTD.new_empty(room), encoded_RTD.new_empty(room)) for _ in layers]

    def __call__(self, tokens_RU: Tensor) -> Tensor:
        """Logits (R, V) after the last of the tokens, which follow those of earlier calls."""
        begin, self.length = self.length, self.length + tokens_RU.shape[1]
        while self.length > self.tokens[0][0].shape[2]:
            self._make_room()
        step = _compiled_step() if self.compiled and tokens_RU.shape[1] == 1 else _ahead
        return step(self.model, tokens_RU, begin, self.audio, self.tokens)

    def keep(self, rows: Tensor) -> None:
        """Keep these rows and drop all other utterances."""
        self.audio = [(keys[rows], values[rows]) for keys, values in self.audio]
        self.tokens = [(keys[rows], values[rows]) for keys, values in self.tokens]

    def _make_room(self) -> None:
        room = min(2 * self.tokens[0][0].shape[2], self.most)

        def longer(states: Tensor) -> Tensor:
            made = states.new_empty(*states.shape[:2], room, states.shape[3])
            made[:, :, : states.shape[2]] = states
            return made

        self.tokens = [(longer(keys), longer(values)) for keys, values in self.tokens]


def _ahead(
    model: WhisperForConditionalGeneration, tokens_RU: Tensor, begin: int, audio: States, written: States
) -> Tensor:
    """Return logits (R, V) after tokens that begin at `begin`, whose keys and values are added to those `written`."""
    decoder, end = model.model.decoder, begin + tokens_RU.shape[1]
    heads = model.config.decoder_attention_heads
    hidden_RUD = decoder.embed_tokens(tokens_RU) + decoder.embed_positions.weight[begin:end]
    for layer, audio_states, (keys_RHUd, values_RHUd) in zip(decoder.layers, audio, written, strict=True):
        normal_RUD = layer.self_attn_layer_norm(hidden_RUD)
        keys_RHUd[:, :, begin:end] = _by_head(layer.self_attn.k_proj(normal_RUD), heads)
        values_RHUd[:, :, begin:end] = _by_head(layer.self_attn.v_proj(normal_RUD), heads)
        so_far = keys_RHUd[:, :, :end], values_RHUd[:, :, :end]
        hidden_RUD = hidden_RUD + _attend(layer.self_attn, heads, normal_RUD, *so_far)
        normal_RUD = layer.encoder_attn_layer_norm(hidden_RUD)
        hidden_RUD = hidden_RUD + _attend(layer.encoder_attn, heads, normal_RUD, *audio_states)
        normal_RUD = layer.final_layer_norm(hidden_RUD)
        hidden_RUD = hidden_RUD + layer.fc2(layer.activation_fn(layer.fc1(normal_RUD)))
    return model.proj_out(decoder.layer_norm(hidden_RUD[:, -1]))


@cache
def _compiled_step() -> Callable[..., Tensor]:
    return torch.compile(_ahead, dynamic=True)


def _attend(attention: nn.Module, heads: int, normal_RUD: Tensor, keys_RHTd: Tensor, values_RHTd: Tensor) -> Tensor:
    query_RHUd = _by_head(attention.q_proj(normal_RUD) * attention.scaling, heads)
    prompt = attention.is_causal and query_RHUd.shape[2] > 1  # all of it at once, at the very beginning
    found_RHUd = functional.scaled_dot_product_attention(
        query_RHUd, keys_RHTd, values_RHTd, is_causal=prompt, scale=1.0
    )
    return attention.out_proj(found_RHUd.transpose(1, 2).flatten(2))


def _by_head(states_RUD: Tensor, heads: int) -> Tensor:
    return states_RUD.unflatten(2, (heads, -1)).transpose(1, 2).contiguous()


def greedy(
    model: WhisperForConditionalGeneration,
    encoded_BTD: Tensor,
    prompt_BU: Tensor,
    end: int,
    never_V: Tensor,
    never_first_V: Tensor,
    *,
    most_B: Tensor | None = None,
    repeats: int = 0,
    temperature: float = 0.0,
    draws_BU: Tensor | None = None,
    scored: bool = False,
    compiled: bool = False,
) -> tuple[Tensor, Tensor]:
    """Take the most probable token at each step, until every utterance has ended or the decoder is full.

    With the guards `most_B` and `repeats` an utterance also ends soon after a guard applies. The exact cut is left to
    `backbone.guards.cut`, so that the result does not depend on how often the guards are checked.

    Args:
        model, encoded_BTD: in evaluation mode, and its encoder's states.
        prompt_BU: what each utterance's tokens begin with.
        end: the token that ends an utterance.
        never_V, never_first_V: added to the logits of every token but the first, and of the first.
        most_B: tokens that each utterance may have before its end; one more shows that it has not ended.
        repeats: end an utterance in a loop; see `backbone.guards.Guards`.
        temperature: 0 takes the most probable token; else a token is drawn from the logits divided by it.
        draws_BU: random numbers in [0, 1) that decide which tokens are drawn.
        scored: add up log-probabilities, which takes a few per cent of the time.
        compiled: as in `StepDecoder`.

    Returns:
        Tokens (B, U) without the prompt; an utterance that has ended is filled with `end`. And the sum (B,) of the
        log-probabilities of each utterance's tokens up to the end, at temperature 1; zeros unless `scored`.
    """
    decoder = StepDecoder(model, encoded_BTD, compiled=compiled)
    rows_R = torch.arange(len(prompt_BU), device=prompt_BU.device)  # of the utterances still decoded
    room = decoder.most - prompt_BU.shape[1]
    most_R = prompt_BU.new_full((len(prompt_BU),), room) if most_B is None else most_B
    room = min(room, int(most_R.max()) + 1)
    tokens_BU = prompt_BU.new_full((len(prompt_BU), room), end)
    sums_B = torch.zeros(len(prompt_BU), device=prompt_BU.device)
    ended_R = torch.zeros(len(prompt_BU), dtype=torch.bool, device=prompt_BU.device)
    look = _STEPS_A_LOOK.get(prompt_BU.device.type, 8)
    inputs_RU = prompt_BU
    for place in range(room):
        logits_RV = decoder(inputs_RU).float() + (never_V if place else never_first_V)
        chosen_R = sample(logits_RV, temperature, draws_BU[rows_R, place]) if temperature else logits_RV.argmax(-1)
        if scored:
            log_R = logits_RV.gather(1, chosen_R[:, None])[:, 0] - logits_RV.logsumexp(-1)
            sums_B[rows_R] += log_R.masked_fill(ended_R, 0)
        next_R = chosen_R.masked_fill(ended_R, end)
        tokens_BU[rows_R, place] = next_R
        ended_R = (next_R == end) | (place >= most_R)
        inputs_RU = next_R[:, None]
        if (place + 1) % look:
            continue
        if repeats:
            written = tokens_BU[rows_R, : place + 1].tolist()
            ended_R |= torch.tensor([ends_in_loop(row, repeats) > 0 for row in written], device=ended_R.device)
        going = (~ended_R).nonzero()[:, 0]
        if not len(going):
            break
        if len(going) <= _LIVING_SHARE * len(rows_R):  # one that loops would keep the whole batch to the last token
            rows_R, inputs_RU, ended_R, most_R = rows_R[going], inputs_RU[going], ended_R[going], most_R[going]
            decoder.keep(going)
    return tokens_BU[:, : place + 1], sums_B


def sample(logits_RV: Tensor, temperature: float, draws_R: Tensor) -> Tensor:
    """Return tokens (R,) by inverse transform sampling: draws in [0, 1) are found in the cumulative probabilities."""
    summed_RV = (logits_RV.double() / temperature).softmax(-1).cumsum(-1)
    return torch.searchsorted(summed_RV, draws_R[:, None] * summed_RV[:, -1:], right=True)[:, 0]
