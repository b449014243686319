"""When each token of a transcript is spoken: dynamic time warping on the decoder's cross-attention, as Whisper does it.

Shape suffixes: B utterances, U tokens, T encoder positions of 20 ms, H attention heads, d a head's width, D width,
V vocabulary, M positions of a median.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from torchaudio.functional import forced_align
from transformers import WhisperForConditionalGeneration, WhisperTokenizer

POSITIONS_PER_S = 50
_MEDIAN = 7  # positions, as in openai/whisper
_LEAD = 1  # position, by which attention is ahead of the speech, measured on the first 20 test sentences of each pair


@dataclass(frozen=True)
class TokenTimes:
    """The times of a text's tokens.

    Attributes:
        characters: how many characters of the text lie before each token, and at last the total (U + 1).
        borders_s: where each token begins and the last ends (U + 1).
        probabilities: of each token, given those before (U).
        attention: share of each token's attention, and at last of the end's, that is within its own time (U + 1).
    """

    characters: Sequence[int]
    borders_s: Sequence[float]
    probabilities: Sequence[float]
    attention: Sequence[float]

    def at(self, character: int) -> float:
        """The time at which a character begins; a token's time is spread evenly over its characters."""
        token = bisect_left(self.characters, min(character, self.characters[-1]))
        if self.characters[token] <= character:
            return self.borders_s[token]
        begin, end = self.characters[token - 1 : token + 1]
        share = (character - begin) / (end - begin)
        return (1 - share) * self.borders_s[token - 1] + share * self.borders_s[token]

    def tokens(self, begin: int, end: int) -> slice:
        """The tokens that hold the characters from `begin` to `end`."""
        first = bisect_left(self.characters, min(begin, self.characters[-1]))
        return slice(first - (self.characters[first] > begin), bisect_left(self.characters, end))


@torch.inference_mode()
def token_times(
    model: WhisperForConditionalGeneration,
    tokenizer: WhisperTokenizer,
    encoded_BTD: Tensor,
    prompts: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    durations_s: Sequence[float],
) -> list[TokenTimes | None]:
    """Find when the tokens of each utterance are spoken; None where there are more of them than positions, or none.

    Args:
        model, tokenizer: in evaluation mode.
        encoded_BTD: encoder states.
        prompts: what the decoder was given before each text.
        texts: the tokens of each text, without the end.
        durations_s: of the utterances; positions beyond are padding.
    """
    device = encoded_BTD.device
    rows = [torch.tensor([*prompt, *text], device=device) for prompt, text in zip(prompts, texts, strict=True)]
    with _attention(model, encoded_BTD) as caught:
        hidden_BUD = model.model.decoder(
            input_ids=pad_sequence(rows, batch_first=True), encoder_hidden_states=encoded_BTD, use_cache=False
        ).last_hidden_state
    (attention_BHUT,) = caught
    found: list[TokenTimes | None] = []
    for row, (prompt, text, duration_s) in enumerate(zip(prompts, texts, durations_s, strict=True)):
        # A position attends in order to predict the next token: the prompt's last the first, the text's last the end.
        steps = slice(len(prompt) - 1, len(prompt) + len(text))
        positions = min(encoded_BTD.shape[1], max(1, round(duration_s * POSITIONS_PER_S)))
        if not text or len(text) >= positions:
            found.append(None)
            continue
        attention_HUT = attention_BHUT[row, :, steps, :positions].cpu()
        path_T = monotone_path(_gains(attention_HUT))
        begins = [int((path_T < token).sum()) + (_LEAD if token else 0) for token in range(len(text) + 1)]
        borders_s = [min(begin, positions) / POSITIONS_PER_S for begin in begins]
        mean_UT = attention_HUT.mean(0)
        held_U = mean_UT.new_zeros(len(mean_UT)).index_add_(0, path_T, mean_UT.gather(0, path_T[None])[0])
        logits_UV = model.proj_out(hidden_BUD[row, steps][:-1]).float()
        chances_U = logits_UV.softmax(-1).gather(1, rows[row][len(prompt) :, None])[:, 0]
        found.append(TokenTimes(_characters(tokenizer, text), borders_s, chances_U.tolist(), held_U.tolist()))
    return found


@contextmanager
def _attention(model: WhisperForConditionalGeneration, encoded_BTD: Tensor) -> Iterator[list[Tensor]]:
    """Collect what the heads of the decoder's last layer attend to, (B, H, U, T), whatever kernel the model runs.

    On the first 20 test sentences of each pair, on which it was chosen, whisper-base's last layer followed the speech
    more closely than the heads of several layers that its `generation_config.json` names.
    """
    caught: list[Tensor] = []

    def catch(attention: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        hidden_BUD = given[0] if given else named["hidden_states"]
        queries_BHUd, keys_BHTd = (
            states.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
            for states in (attention.q_proj(hidden_BUD) * attention.scaling, attention.k_proj(encoded_BTD))
        )
        caught.append((queries_BHUd @ keys_BHTd.mT).float().softmax(-1))

    hook = model.model.decoder.layers[-1].encoder_attn.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        yield caught
    finally:
        hook.remove()


def _gains(attention_HUT: Tensor) -> Tensor:
    """Score of each token at each position (U, T): log of the heads' mean attention after a median filter."""
    reach = min(_MEDIAN // 2, attention_HUT.shape[2] - 1)
    shares_HUT = attention_HUT / attention_HUT.sum(-1, keepdim=True).clamp(min=1e-6)  # of the sound, without padding
    windows_HUTM = pad(shares_HUT, (reach, reach), mode="reflect").unfold(2, 2 * reach + 1, 1)
    return windows_HUTM.median(-1).values.mean(0).clamp(min=1e-6).log()


def monotone_path(gains_UT: Tensor) -> Tensor:
    """The row of each column (T,) on the path with the greatest sum.

    The path begins in the first row, ends in the last, and from each column to the next moves by at most one row.

    Raises:
        ValueError: where there are more rows than columns.
    """
    rows, columns = gains_UT.shape
    if rows > columns:
        raise ValueError(f"no path through {rows} rows in {columns} columns")
    # CTC's best path through distinct labels, when a blank is impossible.
    gains_TV = pad(gains_UT.T, (1, 0), value=-torch.inf)
    labels_U = torch.arange(1, rows + 1, dtype=torch.int32)
    path_BT, _ = forced_align(gains_TV[None], labels_U[None], blank=0)
    return path_BT[0].long() - 1


def _characters(tokenizer: WhisperTokenizer, tokens: Sequence[int]) -> list[int]:
    """How many whole characters lie before each token, and in all; tokens may hold parts of a character."""
    decoded = (tokenizer.decode(tokens[:count], skip_special_tokens=True) for count in range(len(tokens) + 1))
    return [len(text.rstrip("\ufffd")) for text in decoded]
