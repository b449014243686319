"""Augmentation of training speech, off by default: speed perturbation, and masks on the log-mel.

An utterance's seed decides what is drawn for it; it follows from the run's seed and the step.
Shape suffixes: B utterances, S samples at 16 kHz, F mel bins, T frames of 10 ms.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchaudio.functional import mask_along_axis

from common.audio import SAMPLE_RATE_HZ, resample
from common.errors import UserError, in_range
from datamodules.batch import SpeechBatch

_FRAME_SAMPLES = SAMPLE_RATE_HZ // 100


class SpeedPerturbation:
    """Plays an utterance at one of some speeds (Ko et al. 2015: 0.9, 1 and 1.1), pitch and tempo together.

    A speed so slow that the utterance would not fit the model's window is not drawn for it.

    Args:
        factors: the speeds to draw from.
        window_s: seconds that the model holds.

    Raises:
        UserError: where a factor is not between 0.5 and 2.
    """

    def __init__(self, factors: Sequence[float], window_s: float) -> None:
        if wrong := [factor for factor in factors if not 0.5 <= factor <= 2]:
            raise UserError(f"data.speed holds the factor {wrong[0]}, expected speeds between 0.5 and 2, such as 0.9")
        self.rates_hz = [round(factor * SAMPLE_RATE_HZ) for factor in factors]
        self.window_samples = round(window_s * SAMPLE_RATE_HZ)

    def __call__(self, waveform_S: Tensor, seed: int) -> Tensor:
        """Returns the waveform at the speed that `seed` draws."""
        fitting = [r for r in self.rates_hz if len(waveform_S) * SAMPLE_RATE_HZ <= self.window_samples * r]
        # Taken as if sampled at 0.9 x 16 kHz and brought to 16 kHz, it lasts 1 / 0.9 times as long.
        return resample(waveform_S, random.Random(f"speed {seed}").choice(fitting or [SAMPLE_RATE_HZ]))


@dataclass(frozen=True)
class SpecAugment:
    """Masks stretches of time and bands of frequency of the log-mel with its mean (Park et al. 2019, policy LD).

    Args:
        time_masks: stretches of time to mask in an utterance.
        time_frames: each is shorter than this many frames of 10 ms,
        time_share: and than this share of the utterance.
        frequency_masks: bands of frequency to mask.
        frequency_bins: each is narrower than this many mel bins.
    """

    time_masks: int = 2
    time_frames: int = 100
    time_share: float = 0.2
    frequency_masks: int = 2
    frequency_bins: int = 27

    def __post_init__(self) -> None:
        for name in ("time_masks", "time_frames", "frequency_masks", "frequency_bins"):
            in_range(f"model.spec_augment.{name}", getattr(self, name), 0, 10_000)
        in_range("model.spec_augment.time_share", self.time_share, 0, 1, "a share from ")

    @torch.no_grad()
    def __call__(self, batch: SpeechBatch) -> None:
        """Masks `batch.mel_BFT` in place, each row by its own seed and only where it holds speech."""
        frames = [math.ceil(samples / _FRAME_SAMPLES) for samples in batch.lengths_B.tolist()]
        for mel_FT, length, seed in zip(batch.mel_BFT, frames, batch.seeds, strict=True):
            mel_FT[:, :length] = self._masked(mel_FT[:, :length], seed)

    def _masked(self, mel_FT: Tensor, seed: int) -> Tensor:
        mean = mel_FT.mean()
        with torch.random.fork_rng(devices=[]):  # torchaudio draws from the CPU's global generator
            torch.manual_seed(seed)
            for _ in range(self.time_masks):
                mel_FT = mask_along_axis(mel_FT, self.time_frames, mean, axis=1, p=self.time_share)
            for _ in range(self.frequency_masks):
                mel_FT = mask_along_axis(mel_FT, self.frequency_bins, mean, axis=0)
        return mel_FT
