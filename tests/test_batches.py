"""From utterances to batches: audio, sampling, labels, views by pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from transformers import WhisperProcessor

from backbone.language_tags import prompt_languages
from backbone.window import check_lengths
from common.audio import load_waveform
from common.errors import UserError
from common.manifest import Utterance, read_manifest
from datamodules.dataset import LabelMaker, PairDataset, check_labels, collate
from datamodules.mixture import check_manifests
from datamodules.pairs import PairDataModule
from tests.splicing_corpora import rewrite, write_pairs


def tone(path: Path, rate_hz: int, channels: int = 1, subtype: str = "PCM_16") -> np.ndarray:
    time = np.arange(rate_hz) / rate_hz
    wave = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(path, np.stack([wave * (1 - 0.5 * c) for c in range(channels)], 1), rate_hz, subtype=subtype)
    return wave


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 24_000, 48_000])
def test_audio_of_any_rate_becomes_16_khz(tmp_path: Path, rate_hz: int):
    tone(tmp_path / "a.wav", rate_hz)
    waveform = load_waveform(tmp_path / "a.wav")
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert waveform.shape == (16_000,) and waveform.dtype == torch.float32
    np.testing.assert_allclose(waveform[200:-200], expected[200:-200], atol=5e-3)


def test_stereo_is_averaged_and_offset_and_duration_cut(tmp_path: Path):
    wave = tone(tmp_path / "a.wav", 16_000, channels=2, subtype="FLOAT")
    waveform = load_waveform(tmp_path / "a.wav", 0.25, 0.5)
    np.testing.assert_allclose(waveform, 0.75 * wave[4_000:12_000], atol=1e-6)


def test_bad_audio_is_named(tmp_path: Path):
    (tmp_path / "zero.wav").write_bytes(b"")
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16_000, subtype="FLOAT")
    tone(tmp_path / "a.wav", 16_000)
    for name, message in (("zero", "cannot be read"), ("nan", "not finite"), ("none", "no such file")):
        with pytest.raises(UserError, match=rf"{name}\.wav: .*{message}"):
            load_waveform(tmp_path / f"{name}.wav")
    with pytest.raises(UserError, match="no audio at 5 s"):
        load_waveform(tmp_path / "a.wav", 5.0)
    with pytest.raises(UserError, match=r"a\.wav: 0\.75 s of audio from 0\.25 s on, 0\.90 s by the manifest"):
        load_waveform(tmp_path / "a.wav", 0.25, 0.9)
    assert len(load_waveform(tmp_path / "a.wav", 0.25, 0.8)) == 12_000  # within what corpora round to


def test_prompt_policies():
    assert prompt_languages("matrix", "ko", ("ko", "en")) == ("ko",)
    assert prompt_languages("embedded", "ko", ("ko", "en")) == ("en",)
    assert prompt_languages("two_tag", "ko", ("ko", "ja")) == ("ko", "ja")
    assert prompt_languages("de", "ko", ("ko", "en")) == ("de",)
    assert prompt_languages("embedded", "ko", ("ko",)) == ("ko",)


def test_labels_are_the_shifted_inputs_with_the_prompt_masked(tiny_model: Path):
    tokenizer = WhisperProcessor.from_pretrained(tiny_model).tokenizer
    utterance = Utterance("u", Path("u.wav"), 1.0, "이번 project", "ko-en", "ko")
    inputs, labels = LabelMaker(tokenizer)(utterance)
    tokens = tokenizer.convert_ids_to_tokens(inputs)
    assert tokens[:4] == ["<|startoftranscript|>", "<|ko|>", "<|transcribe|>", "<|notimestamps|>"]
    assert tokens.count("<|startoftranscript|>") == 1
    assert labels[:3].tolist() == [-100] * 3
    assert tokenizer.decode(labels[3:-1]) == "이번 project"
    assert tokenizer.convert_ids_to_tokens(int(labels[-1])) == "<|endoftext|>"
    assert labels[3:-1].tolist() == inputs[4:].tolist()  # each position predicts the next input
    two = LabelMaker(tokenizer, "two_tag")(utterance)[0]
    assert tokenizer.convert_ids_to_tokens(two)[1:3] == ["<|ko|>", "<|en|>"]


def test_too_long_labels_and_unknown_languages_are_refused(tiny_model: Path):
    tokenizer = WhisperProcessor.from_pretrained(tiny_model).tokenizer
    sizes = {f"u{i}": len(tokenizer.encode("word " * 40 * i, add_special_tokens=False)) + 4 for i in range(1, 10)}
    utterances = [Utterance(f"u{i}", Path("u.wav"), 1.0, "word " * 40 * i, "ko-en", "ko") for i in range(1, 10)]
    most = sizes["u3"]  # the third just fits
    named = ", ".join(f"u{i} \\({sizes[f'u{i}']} tokens\\)" for i in range(4, 9))
    with pytest.raises(
        UserError, match=rf"^m: 6 of 9 transcripts take more than the {most} tokens .*: {named} \.\.\.;"
    ):
        check_labels(utterances, LabelMaker(tokenizer), most, "m")
    check_labels(utterances[:3], LabelMaker(tokenizer), most, "m")
    with pytest.raises(UserError, match="language 'matrx' has no tag.*did you mean 'matrix'"):
        check_labels(utterances, LabelMaker(tokenizer, "matrx"), most, "m")


def test_a_batch_is_padded_and_viewed_by_pair(tiny_model: Path, manifests: dict[str, str]):
    utterances = {pair: read_manifest(manifests[pair]) for pair in ("ko-en", "de-en")}
    dataset = PairDataset(utterances, LabelMaker(WhisperProcessor.from_pretrained(tiny_model).tokenizer))
    keys = [("ko-en", 0), ("ko-en", 1), ("de-en", 5)]
    batch = collate([dataset[key] for key in keys])
    assert batch.lengths_B.tolist() == [8_000, 12_000, 28_000]
    assert batch.waveforms_BS.shape == (3, 28_000) and not batch.waveforms_BS[0, 8_000:].any()
    parts = batch.by_pair()
    assert list(parts) == ["ko-en", "de-en"] and parts["ko-en"].ids == ["ko-en-0", "ko-en-1"]
    for part, keys_of_part in ((parts["ko-en"], keys[:2]), (parts["de-en"], keys[2:])):
        alone = collate([dataset[key] for key in keys_of_part])
        assert torch.equal(part.labels_BU, alone.labels_BU)
        assert torch.equal(part.decoder_inputs_BU, alone.decoder_inputs_BU)


@pytest.mark.parametrize(("kind", "waits"), [("cuda", False), ("mps", True), ("cpu", True)])
def test_a_gpu_is_sent_its_batch_without_waiting(
    tiny_model: Path, manifests: dict[str, str], monkeypatch: pytest.MonkeyPatch, kind: str, waits: bool
):
    make_labels = LabelMaker(WhisperProcessor.from_pretrained(tiny_model).tokenizer)
    batch = collate([PairDataset({"ko-en": read_manifest(manifests["ko-en"])}, make_labels)[("ko-en", 0)]])
    sent: list[tuple[str, bool]] = []

    def to(self: Tensor, device: torch.device, non_blocking: bool) -> Tensor:
        sent.append((device.type, non_blocking))
        return self

    monkeypatch.setattr(Tensor, "to", to)
    PairDataModule().transfer_batch_to_device(batch, torch.device(kind), 0)
    assert sent == [(kind, not waits)] * 4


def test_over_long_utterances_are_listed(manifests: dict[str, str]):
    utterances = read_manifest(manifests["ko-en"])
    with pytest.raises(UserError, match=r"m: 2 of 6 utterances are longer than .* 1\.3 s: ko-en-4 \(1\.50 s\)"):
        check_lengths(utterances, 1.3, "m")


def test_missing_manifests_say_how_to_make_them():
    module = PairDataModule(train={"ko-en": "data/aihub/train.jsonl", "de-en": "elsewhere.jsonl"}, pairs=["ko-en"])
    with pytest.raises(
        UserError, match=r"(?s)data/aihub/train\.jsonl.*prepare\.py aihub.*--config demo\.yaml"
    ) as error:
        check_manifests(module.train)
    assert "elsewhere" not in str(error.value)
    with pytest.raises(UserError, match="names ko-ja.*; it has: ko-en"):
        PairDataModule(train={"ko-en": "x"}, pairs=["ko-ja"])


def test_control_tokens_in_a_training_transcript_are_refused(tiny_model: Path, tmp_path: Path):
    manifests = write_pairs(tmp_path)
    rewrite(manifests["ko-en"], "ko-en-1", text="No problem. <|ko|> 내일 만나요.")
    tokenizer = WhisperProcessor.from_pretrained(tiny_model).tokenizer
    with pytest.raises(UserError, match=r"ko-en/train\.jsonl:2: .*control token <\|ko\|>"):
        PairDataModule(manifests, workers=0).read(tokenizer, window_s=10.0, max_tokens=128)
