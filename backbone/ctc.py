"""An auxiliary CTC loss on the encoder, for training from scratch (Watanabe et al. 2017, hybrid CTC/attention).

From scratch, a decoder learns a language model long before its attention finds the audio. CTC cannot do so: it makes
the encoder distinguish sounds first. The head is not part of the model folder.

Shape suffixes: B utterances, T encoder positions of 20 ms, U label tokens, V vocabulary, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from backbone.loss import IGNORED_LABEL

SAMPLES_PER_POSITION = 320


class CTCHead(nn.Module):
    """A linear projection of encoder states to tokens.

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
    """Return token losses (B, U) whose mean over an utterance's labels is `(1 - weight) * mean + weight * ctc`.

    Args:
        losses_BU: cross-entropy of the tokens.
        ctc_B: CTC loss of the utterances.
        labels_BU: `IGNORED_LABEL` where a token has no loss.
        weight: share of CTC, 0 to 1.
    """
    return torch.where(labels_BU == IGNORED_LABEL, 0.0, (1 - weight) * losses_BU + weight * ctc_B[:, None])
