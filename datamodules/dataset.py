"""From a manifest's utterances to a `SpeechBatch`: decode, augment, tokenise, check, collate."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from backbone.language_tags import Tokenizer, prompt_ids, prompt_languages, special_id
from backbone.loss import IGNORED_LABEL
from common.audio import load_waveform
from common.errors import UserError
from common.manifest import Utterance
from datamodules.augment import SpeedPerturbation
from datamodules.batch import SpeechBatch
from datamodules.sampler import Draw
from datamodules.skips import SkippedUtterance
from datamodules.splicing.splicer import CrossPairSplicer
from datamodules.timestamps import PlayedUtterance, TimestampLabels


class LabelMaker:
    """Turns transcripts into decoder inputs and labels under one language policy.

    For the text `a b` the decoder reads `<sot><lang><transcribe><notimestamps> a b` and must predict
    `_ _ _ a b <eot>`: the prompt is given and not learnt, because its labels are constant within a pair. A text with
    timestamps takes the place of `<notimestamps>` and the text: `<sot><lang><transcribe><0.12> a b<0.98>`.
    """

    def __init__(self, tokenizer: Tokenizer, policy: str = "matrix") -> None:
        self.tokenizer = tokenizer
        self.policy = policy
        self.end = special_id(tokenizer, "endoftext")

    def __call__(self, utterance: Utterance, timed: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Decoder inputs and labels of one utterance, both of shape (U,); `timed` is its text with timestamps."""
        languages = prompt_languages(self.policy, utterance.matrix_language, utterance.languages)
        prompt = prompt_ids(self.tokenizer, languages)
        text = self.tokenizer.encode(utterance.text, add_special_tokens=False)
        if timed:
            prompt, text = prompt[:-1], list(timed)
        inputs = torch.tensor(prompt + text)
        labels = torch.tensor([IGNORED_LABEL] * (len(prompt) - 1) + text + [self.end])
        return inputs, labels


class Example(NamedTuple):
    """One utterance ready to be collated: waveform (S,) and the two label rows (U,)."""

    id: str
    pair: str
    waveform_S: Tensor
    decoder_inputs_U: Tensor
    labels_U: Tensor
    seed: int = 0
    skipped: tuple[SkippedUtterance, ...] = ()


@dataclass(eq=False)
class PairDataset(Dataset):
    """The training utterances of several pairs, addressed by `Draw`.

    Where an utterance's audio cannot be read, the next of its pair in the manifest's order takes its place (after the
    last the first). That depends on nothing but the files, so it is the same in any worker and after resuming.

    Args:
        utterances: by pair, each pair's as `Draw.index` counts them.
        make_labels: turns transcripts into labels.
        perturb: speed perturbation, if any.
        max_broken: how many unreadable utterances may be skipped.
        splice: turns utterances into utterances of other pairs, if any.
        timestamps: writes a share of the texts with timestamps, and joins further utterances to them, if any.
    """

    utterances: dict[str, Sequence[Utterance]]
    make_labels: LabelMaker
    perturb: SpeedPerturbation | None = None
    max_broken: int = 0
    splice: CrossPairSplicer | None = None
    timestamps: TimestampLabels | None = None

    def __getitem__(self, key: Draw | tuple[str, int]) -> Example:
        draw = Draw(*key)
        speech, skipped = self._speech(draw)
        timed, waveform_S = [], speech.played_S
        if self.timestamps and self.timestamps.drawn(draw.seed):
            timed, waveform_S = self.timestamps.join(speech, self._others(draw, skipped), draw.seed)
        labels = self.make_labels(speech.utterance, timed)
        return Example(speech.utterance.id, draw.pair, waveform_S, *labels, draw.seed, tuple(skipped))

    def _others(self, draw: Draw, skipped: list[SkippedUtterance]) -> Iterator[PlayedUtterance]:
        """Utterances of the same pair, drawn by the seed of `draw`; what could not be read is added to `skipped`."""
        rng = random.Random(f"others {draw.seed}")
        while True:
            index = rng.randrange(len(self.utterances[draw.pair]))
            speech, more = self._speech(Draw(draw.pair, index, rng.getrandbits(63)))
            skipped += more
            yield speech

    def _speech(self, draw: Draw) -> tuple[PlayedUtterance, list[SkippedUtterance]]:
        """The utterance as it is recorded and played, and what could not be read."""
        utterance, recorded_S, skipped = self._open(draw)
        played_S = self.perturb(recorded_S, draw.seed) if self.perturb else recorded_S
        return PlayedUtterance(utterance, recorded_S, played_S), list(skipped)

    def _open(self, draw: Draw) -> tuple[Utterance, Tensor, tuple[SkippedUtterance, ...]]:
        """The utterance or what it is spliced into, its waveform (S,), and what could not be read."""
        utterances = self.utterances[draw.pair]
        skipped: list[SkippedUtterance] = []
        for tried in range(min(len(utterances), self.max_broken + 1)):
            index = (draw.index + tried) % len(utterances)
            utterance, spliced, unreadable = utterances[index], None, ()
            try:
                if self.splice:
                    spliced, unreadable = self.splice(draw.pair, utterance, draw.seed, self.max_broken + 1)
                if spliced is None:
                    spliced = utterance, load_waveform(utterance.audio, utterance.offset, utterance.duration)
                return *spliced, (*skipped, *unreadable)
            except UserError as error:
                skipped.append(SkippedUtterance(draw.pair, index, utterance.id, str(error)))
        # Over the budget. An exception would leave a worker as a traceback; the main process refuses this batch.
        return utterance, torch.zeros(1), tuple(skipped)


def collate(examples: Sequence[Example]) -> SpeechBatch:
    """Pads examples, already ordered by pair, into one batch."""
    return SpeechBatch(
        ids=[example.id for example in examples],
        pairs=[example.pair for example in examples],
        waveforms_BS=pad_sequence([example.waveform_S for example in examples], batch_first=True),
        lengths_B=torch.tensor([len(example.waveform_S) for example in examples]),
        # Padded positions have the label IGNORED_LABEL, so any token will do there.
        decoder_inputs_BU=pad_sequence([example.decoder_inputs_U for example in examples], batch_first=True),
        labels_BU=pad_sequence([e.labels_U for e in examples], batch_first=True, padding_value=IGNORED_LABEL),
        seeds=[example.seed for example in examples],
        skipped=[example.skipped for example in examples],
    )


def check_labels(utterances: Sequence[Utterance], make_labels: LabelMaker, max_tokens: int, where: str) -> None:
    """Refuses transcripts that take more tokens than the decoder holds, prompt included, all at once.

    Args:
        utterances: with their transcripts.
        make_labels: turns them into tokens.
        max_tokens: tokens that the decoder holds.
        where: the manifest, for the message.

    Raises:
        UserError: naming the first few and their tokens.
    """
    sizes = [(utterance.id, len(make_labels(utterance)[0])) for utterance in utterances]
    if long := [f"{name} ({size} tokens)" for name, size in sizes if size > max_tokens]:
        raise UserError(
            f"{where}: {len(long)} of {len(utterances)} transcripts take more than the {max_tokens} tokens that the "
            f"model holds: {', '.join(long[:5])}{' ...' * (len(long) > 5)}; shorten them or drop their lines"
        )
