"""From a manifest's utterances to a `SpeechBatch`: decode, tokenise, check, collate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from common.errors import UserError
from datamodules.audio import SAMPLE_RATE_HZ, load_waveform
from datamodules.batch import IGNORED_LABEL, SpeechBatch
from datamodules.manifest import Utterance
from datamodules.prompts import Tokenizer, prompt_ids, prompt_languages, special_id


class LabelMaker:
    """Turns transcripts into decoder inputs and labels under one language policy.

    For the text `a b` the decoder reads `<sot><lang><transcribe><notimestamps> a b` and must predict
    `_ _ _ a b <eot>`: the prompt is given, never learnt, because its labels are constant within a pair.
    """

    def __init__(self, tokenizer: Tokenizer, policy: str = "matrix", max_tokens: int = 448) -> None:
        self.tokenizer = tokenizer
        self.policy = policy
        self.max_tokens = max_tokens
        self.end = special_id(tokenizer, "endoftext")

    def __call__(self, utterance: Utterance) -> tuple[Tensor, Tensor]:
        """Decoder inputs and labels of one utterance, both of shape (U,).

        Raises:
            UserError: where they exceed `max_tokens`.
        """
        languages = prompt_languages(self.policy, utterance.matrix_language, utterance.languages)
        prompt = prompt_ids(self.tokenizer, languages)
        text = self.tokenizer.encode(utterance.text, add_special_tokens=False)
        inputs = torch.tensor(prompt + text)
        labels = torch.tensor([IGNORED_LABEL] * (len(prompt) - 1) + text + [self.end])
        if len(inputs) > self.max_tokens:
            raise UserError(
                f"utterance {utterance.id!r}: its transcript takes {len(inputs)} tokens, the model holds "
                f"{self.max_tokens}; shorten or drop it"
            )
        return inputs, labels


@dataclass(frozen=True)
class Example:
    """One utterance ready to be collated: waveform (S,) and the two label rows (U,)."""

    id: str
    pair: str
    waveform_S: Tensor
    decoder_inputs_U: Tensor
    labels_U: Tensor


class PairDataset(Dataset):
    """The training utterances of several pairs, addressed by `(pair, index)`."""

    def __init__(self, utterances: dict[str, Sequence[Utterance]], make_labels: LabelMaker) -> None:
        self.utterances = utterances
        self.make_labels = make_labels

    def __getitem__(self, key: tuple[str, int]) -> Example:
        pair, index = key
        utterance = self.utterances[pair][index]
        waveform = load_waveform(utterance.audio, utterance.offset, utterance.duration)
        return Example(utterance.id, pair, waveform, *self.make_labels(utterance))


def collate(examples: Sequence[Example]) -> SpeechBatch:
    """Pads examples, already ordered by pair, into one batch."""
    return SpeechBatch(
        ids=[example.id for example in examples],
        pairs=[example.pair for example in examples],
        waveforms_BS=pad_sequence([example.waveform_S for example in examples], batch_first=True),
        lengths_B=torch.tensor([len(example.waveform_S) for example in examples]),
        # A padded position has the label IGNORED_LABEL, so the token that stands there does not matter.
        decoder_inputs_BU=pad_sequence([example.decoder_inputs_U for example in examples], batch_first=True),
        labels_BU=pad_sequence([e.labels_U for e in examples], batch_first=True, padding_value=IGNORED_LABEL),
    )


def check_lengths(utterances: Sequence[Utterance], window_s: float, where: str) -> None:
    """Refuses utterances that the model's window cannot hold, all at once.

    Raises:
        UserError: naming the first few and their durations.
    """
    long = [utterance for utterance in utterances if utterance.duration > window_s + 1 / SAMPLE_RATE_HZ]
    if long:
        named = ", ".join(f"{utterance.id} ({utterance.duration:.2f} s)" for utterance in long[:3])
        raise UserError(
            f"{where}: {len(long)} of {len(utterances)} utterances are longer than the model's window of {window_s:g} s: "
            f"{named}{' ...' if len(long) > 3 else ''}; cut them at pauses or drop their lines"
        )
