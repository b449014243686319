"""Speeds and masks: what they change, what they leave, and that seeds alone decide."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.errors import UserError
from datamodules.augment import SpecAugment, SpeedPerturbation
from datamodules.batch import SpeechBatch
from lightning_modules.algorithms.erm import ERM
from lightning_modules.whisper import WhisperModule
from tests.algorithm_runs import fit, weights


def tone(frequency_hz: float, samples: int) -> torch.Tensor:
    return torch.sin(2 * torch.pi * frequency_hz * torch.arange(samples) / 16_000)


@pytest.mark.parametrize(("factor", "samples", "frequency_hz"), [(0.8, 20_000, 352.0), (1.25, 12_800, 550.0)])
def test_speed_moves_tempo_and_pitch_together(factor: float, samples: int, frequency_hz: float):
    """A second of 440 Hz at speed f lasts 1/f seconds and sounds at f x 440 Hz."""
    heard = SpeedPerturbation([factor], window_s=30)(tone(440, 16_000), seed=0)
    assert heard.shape == (samples,)
    np.testing.assert_allclose(heard[200:-200], tone(frequency_hz, samples)[200:-200], atol=5e-3)


def test_seeds_draw_all_speeds_alike():
    perturb = SpeedPerturbation([0.9, 1.0, 1.1], window_s=30)
    lengths = [len(perturb(torch.zeros(990), seed)) for seed in range(300)]
    assert lengths == [len(perturb(torch.zeros(990), seed)) for seed in range(300)]
    counts = Counter(lengths)
    assert set(counts) == {1100, 990, 900} and min(counts.values()) > 70


def test_slow_speech_stays_within_the_window():
    """27.1 s at 0.9 would last 30.1 s; 27 s lasts 30 s, all that the window holds."""
    perturb = SpeedPerturbation([0.9, 1.1], window_s=30)
    fits, outgrows = torch.zeros(27 * 16_000), torch.zeros(round(27.1 * 16_000))
    assert {len(perturb(fits, seed)) for seed in range(20)} == {480_000, 392_728}
    assert {len(perturb(outgrows, seed)) for seed in range(20)} == {394_182}
    assert len(SpeedPerturbation([0.9], window_s=30)(outgrows, 0)) == len(outgrows)
    with pytest.raises(UserError, match=r"data\.speed holds the factor 0\.1"):
        SpeedPerturbation([1.0, 0.1], 30)


def batch(lengths: list[int], seeds: list[int]) -> SpeechBatch:
    """Rows of random log-mel of 80 bins and 3000 frames; equal seeds have equal rows."""
    rows = [torch.randn(80, 3000, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    nothing = torch.zeros(len(seeds), 1)
    names = [str(seed) for seed in seeds]
    return SpeechBatch(names, names, nothing, torch.tensor(lengths), nothing, nothing, torch.stack(rows), seeds)


def masked(changed: torch.Tensor) -> list[tuple[int, int]]:
    """The stretches (begin, end) of a row of booleans that are true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], changed.int().numpy(), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def test_masks_hide_speech_and_leave_the_padding():
    """10 s of speech: at most two stretches under 100 frames, two bands under 27 bins, all at the speech's mean."""
    seeds = list(range(40))
    speech = batch([160_000] * 40, seeds)
    before = speech.mel_BFT.clone()
    SpecAugment()(speech)
    widths, bands = [], []
    for old_FT, new_FT in zip(before, speech.mel_BFT, strict=True):
        assert torch.equal(new_FT[:, 1000:], old_FT[:, 1000:])
        hidden_FT = new_FT != old_FT
        assert torch.all(new_FT[hidden_FT] == old_FT[:, :1000].mean())
        times_T, bins_F = hidden_FT.all(0), hidden_FT[:, :1000].all(1)
        assert torch.equal(hidden_FT[:, :1000], times_T[None, :1000] | bins_F[:, None])
        assert len(masked(times_T)) <= 2 and times_T.sum() < 200
        assert len(masked(bins_F)) <= 2 and bins_F.sum() < 54
        widths.append(int(times_T.sum()))
        bands.append(int(bins_F.sum()))
    assert 70 < np.mean(widths) < 120 and 17 < np.mean(bands) < 32  # two uniform draws: less where they overlap


def test_short_speech_keeps_most_of_its_time():
    speech = batch([16_000] * 40, list(range(40)))  # 1 s: each mask under 20 of 100 frames
    before = speech.mel_BFT.clone()
    SpecAugment(frequency_masks=0)(speech)
    hidden = (speech.mel_BFT != before).all(1).sum(1)
    assert 0 < hidden.max() < 40


def test_masks_follow_from_the_rows_seed_and_leave_the_generator_alone():
    together, alone = batch([160_000, 48_000, 160_000], [7, 8, 9]), batch([48_000], [8])
    state = torch.get_rng_state()
    SpecAugment()(together)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    SpecAugment()(alone)
    assert torch.equal(together.mel_BFT[1], alone.mel_BFT[0])
    other = batch([48_000], [8])
    other.seeds = [10]
    SpecAugment()(other)
    assert not torch.equal(other.mel_BFT, alone.mel_BFT)


def test_masks_are_for_training_alone(tiny_model: Path):
    module = WhisperModule(str(tiny_model), spec_augment=SpecAugment())
    module._load()

    def mel(training: bool) -> torch.Tensor:
        speech = batch([32_000], [1])
        speech.waveforms_BS = tone(440, 32_000)[None]
        module._trainer = SimpleNamespace(training=training)
        return module.on_after_batch_transfer(speech, 0).mel_BFT

    assert torch.equal(mel(False), module.log_mel(tone(440, 32_000)[None]))
    assert not torch.equal(mel(True), mel(False))


def test_augmented_runs_repeat_and_resume_to_the_bit(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    augment = {"spec_augment": SpecAugment()}
    plain = weights(fit(tiny_model, manifests, tmp_path / "plain", ERM()))
    whole = weights(fit(tiny_model, manifests, tmp_path, ERM(), save_at=2, **augment))
    resumed = weights(fit(tiny_model, manifests, tmp_path / "b", ERM(), resume=tmp_path / "saved.ckpt", **augment))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert any(not torch.equal(whole[name], plain[name]) for name in whole)


def test_impossible_masks_are_refused():
    with pytest.raises(UserError, match=r"time_share is 1\.5"):
        SpecAugment(time_share=1.5)
    with pytest.raises(UserError, match="time_masks is -1, expected 0 to 10000"):
        SpecAugment(time_masks=-1)
