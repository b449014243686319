"""The batch that goes from the data module to the algorithm, ordered by pair.

Shape suffixes: B utterances, S samples at 16 kHz, U label tokens, F mel bins, T frames of 10 ms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from backbone.loss import IGNORED_LABEL
from datamodules.skips import SkippedUtterance


@dataclass
class SpeechBatch:
    """Utterances of one or more pairs, those of a pair next to each other.

    `waveforms_BS` is float32 in [-1, 1], zero-padded to the longest; `decoder_inputs_BU` holds the prompt and the text,
    `labels_BU` the token that each position must predict, `IGNORED_LABEL` for prompt and padding; `mel_BFT` is filled
    on the device. `seeds` seed each row's augmentation; `skipped` are the unreadable utterances that a row replaces.
    """

    ids: list[str]
    pairs: list[str]
    waveforms_BS: Tensor
    lengths_B: Tensor
    decoder_inputs_BU: Tensor
    labels_BU: Tensor
    mel_BFT: Tensor | None = None
    seeds: list[int] | None = None
    skipped: list[tuple[SkippedUtterance, ...]] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SpeechBatch:
        """The same batch with its tensors on `device`."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> SpeechBatch:
        """The same batch in page-locked memory, from which a GPU copies faster."""
        return self._with_tensors(Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> SpeechBatch:
        return replace(self, **{name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)})

    def __getitem__(self, rows: slice) -> SpeechBatch:
        """A view of some utterances, labels cut to their longest."""
        part = replace(self, **{name: value[rows] for name, value in vars(self).items() if value is not None})
        longest = int((part.labels_BU != IGNORED_LABEL).any(0).nonzero().max()) + 1 if len(part) else 0
        part.decoder_inputs_BU = part.decoder_inputs_BU[:, :longest]
        part.labels_BU = part.labels_BU[:, :longest]
        return part

    def pair_slices(self) -> dict[str, slice]:
        """The rows of each pair, in the batch's order."""
        counts = Counter(self.pairs)
        ends = accumulate(counts.values())
        return {pair: slice(end - count, end) for (pair, count), end in zip(counts.items(), ends, strict=True)}

    def by_pair(self) -> dict[str, SpeechBatch]:
        """A view for each pair, in the batch's order."""
        return {pair: self[rows] for pair, rows in self.pair_slices().items()}
