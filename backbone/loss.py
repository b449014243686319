"""The loss: cross-entropy of the tokens that have a label, projected to the vocabulary a chunk at a time.

A batch's prompt and padding are never predicted, so they are not projected. Where the logits of the others do not fit
into one chunk, each chunk's are computed again in the backward pass and never held together.

Shape suffixes: B utterances, U label tokens, N tokens with a label, V vocabulary, D width, F mel bins, T frames or, of
the encoder's states, positions of 20 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration


IGNORED_LABEL = -100  # what torch's cross-entropy leaves out
_CHUNK_ELEMENTS = 2**25  # of the logits: 128 MiB in float32
SAMPLES_PER_POSITION = 320  # of the encoder


def token_losses(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Project tokens to the vocabulary and return the loss of each (N,).

    Args:
        hidden_ND: the decoder's states.
        weight_VD: of the output projection.
        labels_N: the token to predict at each place, none of them `IGNORED_LABEL`.
        label_smoothing: see `losses_of_logits`.
    """

    def losses_of(hidden_ND: Tensor, labels_N: Tensor) -> Tensor:
        return losses_of_logits(functional.linear(hidden_ND, weight_VD), labels_N, label_smoothing)

    chunk = max(1, _CHUNK_ELEMENTS // len(weight_VD))
    if len(labels_N) <= chunk:
        return losses_of(hidden_ND, labels_N)
    chunks = zip(hidden_ND.split(chunk), labels_N.split(chunk), strict=True)
    return torch.cat([checkpoint(losses_of, *part, use_reentrant=False, preserve_rng_state=False) for part in chunks])


def losses_of_logits(logits_NV: Tensor, labels_N: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of each token (N,), in float32 or, where the logits are in float64, in that.

    Args:
        logits_NV: outputs of the projection, in any precision.
        labels_N: the token to predict at each place.
        label_smoothing: share of the target that is spread evenly over the vocabulary; 0 is plain cross-entropy.
    """
    wide_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    return functional.cross_entropy(wide_NV, labels_N, reduction="none", label_smoothing=label_smoothing)


class Losses(NamedTuple):
    """Each token's loss, 0 where it has no label, the output projection's output and input, and the encoder's states.

    `logits_BUV` is there only where it was asked for, and 0 where there is no label.
    """

    losses_BU: Tensor
    logits_BUV: Tensor | None = None
    hidden_BUD: Tensor | None = None
    encoded_BTD: Tensor | None = None


class WhisperLoss(nn.Module):
    """A Whisper whose forward pass ends in its tokens' losses.

    The output projection's weight is read in here, so that strategies which gather weights around a module's forward
    pass (FSDP) can wrap this module.

    Args:
        model: the Whisper, which goes on being usable by itself.
        label_smoothing: see `losses_of_logits`.
    """

    def __init__(self, model: WhisperForConditionalGeneration, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing

    def forward(self, mel_BFT: Tensor, inputs_BU: Tensor, labels_BU: Tensor, *, with_logits: bool = False) -> Losses:
        """Run encoder and decoder, and compare what they predict with the labels.

        Args:
            mel_BFT: log-mel of the utterances.
            inputs_BU: the decoder's tokens.
            labels_BU: the token to predict at each place, `IGNORED_LABEL` for prompt and padding.
            with_logits: keep the logits, too, for algorithms that look at them.
        """
        # One row of positions for all utterances: with a row for each, as in transformers, threads would sum the
        # gradient in random order.
        positions_1U = torch.arange(inputs_BU.shape[1], device=inputs_BU.device)[None]
        states = self.model.model(
            input_features=mel_BFT, decoder_input_ids=inputs_BU, decoder_position_ids=positions_1U, use_cache=False
        )
        hidden_BUD, labelled_BU = states.last_hidden_state, labels_BU != IGNORED_LABEL
        hidden_ND, labels_N, logits_BUV = hidden_BUD[labelled_BU], labels_BU[labelled_BU], None
        if with_logits:
            logits_NV = self.model.proj_out(hidden_ND)
            logits_BUV = _spread_out(logits_NV, labelled_BU)
            losses_N = losses_of_logits(logits_NV, labels_N, self.label_smoothing)
        else:
            losses_N = token_losses(hidden_ND, self.model.proj_out.weight, labels_N, self.label_smoothing)
        return Losses(_spread_out(losses_N, labelled_BU), logits_BUV, hidden_BUD, states.encoder_last_hidden_state)


def _spread_out(values: Tensor, labelled_BU: Tensor) -> Tensor:
    """Put values of the labelled tokens (N, ...) at their places (B, U, ...), 0 elsewhere."""
    return values.new_zeros(*labelled_BU.shape, *values.shape[1:]).index_put((labelled_BU,), values)


class CTCHead(nn.Module):
    """An auxiliary loss on the encoder, for training from scratch: a linear projection of its states to tokens.

    From scratch, a decoder learns a language model long before its attention finds the audio. CTC cannot do so: it
    makes the encoder distinguish sounds first (Watanabe et al. 2017, hybrid CTC/attention). The head is not part of the
    model folder.

    Args:
        width: of the encoder's states.
        vocabulary: number of tokens.
        end: the end-of-text token, which serves as CTC's blank.
    """

    def __init__(self, width: int, vocabulary: int, end: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, vocabulary)
        self.end = end

    def forward(self, encoded_BTD: Tensor, lengths_B: Tensor, labels_BU: Tensor) -> Tensor:
        """Return each utterance's CTC loss per text token (B,); 0 where the audio is shorter than its text.

        Args:
            encoded_BTD: the encoder's states.
            lengths_B: samples at 16 kHz; positions beyond them are left out.
            labels_BU: the tokens to predict, `IGNORED_LABEL` for prompt and padding.
        """
        positions_B = (lengths_B // SAMPLES_PER_POSITION + 1).clamp(max=encoded_BTD.shape[1])
        is_text_BU = (labels_BU != IGNORED_LABEL) & (labels_BU < self.end)  # timestamps have larger ids than the end
        tokens_B = is_text_BU.sum(1)
        log_probabilities_BTV = self.projection(encoded_BTD[:, : int(positions_B.max())]).float().log_softmax(-1)
        losses_B = functional.ctc_loss(
            log_probabilities_BTV.transpose(0, 1),
            labels_BU[is_text_BU],
            positions_B,
            tokens_B,
            blank=self.end,
            reduction="none",
            zero_infinity=True,
        )
        return losses_B / tokens_B.clamp(min=1)


def mix(losses_BU: Tensor, ctc_B: Tensor, labels_BU: Tensor, weight: float) -> Tensor:
    """Return token losses (B, U) whose mean over an utterance's labels is `(1 - weight) * mean + weight * ctc`.

    Args:
        losses_BU: cross-entropy of the tokens.
        ctc_B: CTC loss of the utterances.
        labels_BU: `IGNORED_LABEL` where a token has no loss.
        weight: share of CTC, 0 to 1.
    """
    return torch.where(labels_BU == IGNORED_LABEL, 0.0, (1 - weight) * losses_BU + weight * ctc_B[:, None])
