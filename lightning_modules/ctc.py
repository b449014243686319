"""An auxiliary CTC loss on the encoder, for training from scratch (Watanabe et al. 2017, hybrid CTC/attention).

A decoder learns a language model long before it learns to listen; CTC has no such way out, so the encoder learns to
tell sounds apart and the decoder's attention finds them. The head is no part of the model folder.

Shape suffixes: B utterances, T encoder positions of 20 ms, U label tokens, V vocabulary, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbone.loss import IGNORED_LABEL

SAMPLES_PER_POSITION = 320


class CTCHead(nn.Module):
    """A linear projection of encoder states to tokens, whose end-of-text token serves as CTC's blank."""

    def __init__(self, width: int, vocabulary: int, end: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, vocabulary)
        self.end = end

    def forward(self, encoded_BTD: Tensor, lengths_B: Tensor, labels_BU: Tensor) -> Tensor:
        """Each utterance's CTC loss by text token, shape (B,); 0 where the audio is shorter than its text.

        `lengths_B` are samples at 16 kHz; positions beyond them are left out.
        """
        positions_B = (lengths_B // SAMPLES_PER_POSITION + 1).clamp(max=encoded_BTD.shape[1])
        is_text_BU = (labels_BU != IGNORED_LABEL) & (labels_BU != self.end)
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
    """Token losses that average to `(1 - weight) * losses + weight * ctc` over each utterance's labels."""
    return torch.where(labels_BU == IGNORED_LABEL, 0.0, (1 - weight) * losses_BU + weight * ctc_B[:, None])
