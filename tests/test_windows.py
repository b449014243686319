"""Short windows against a Whisper whose table of positions is cut by hand; the window travels in the model folder."""

from __future__ import annotations

import importlib.util
import json
import math
from itertools import chain
from pathlib import Path

import pytest
import soundfile
import torch
from lightning import Trainer, seed_everything
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from backbone.guards import Guards
from backbone.language_tags import prompt_ids
from backbone.log_mel import LogMel
from backbone.model_folder.candidates import Candidate
from backbone.model_folder.read import read_model_folder
from backbone.model_folder.write import write_model_folder
from backbone.window import Window, record_window, recorded_window, take_short_windows, window_of
from callbacks.final_model import FinalModel
from common.audio import load_waveform
from common.constants import MAX_TOKENS
from common.errors import UserError
from common.manifest import Utterance, read_manifest
from datamodules.pairs import PairDataModule
from datamodules.sampler import PairBatchSampler
from decoding.decoding_engine import Attempt
from decoding.faster_whisper import FasterWhisper, convert
from decoding.torch_whisper import TorchWhisper
from decoding.transcriber import Transcriber
from evaluation.evaluate_models import Evaluation, _stored
from evaluation.evaluation_options import Decoding
from evaluation.test_sets import read_sets
from lightning_modules.whisper import WhisperModule
from tests.conftest import TEXTS


def cut_by_hand(folder: Path, positions: int) -> WhisperForConditionalGeneration:
    """transformers' own model, untouched by us but for its table and the number in its configuration."""
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    table = model.model.encoder.embed_positions.weight
    model.model.encoder.embed_positions = nn.Embedding.from_pretrained(table[:positions].detach().clone(), freeze=False)
    model.config.max_source_positions = positions
    return model


def speaking(model: WhisperForConditionalGeneration) -> WhisperForConditionalGeneration:
    """Larger weights, and text tokens alone, so that what is heard decides what is said."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "positions" not in name:
                parameter.add_(0.4 * torch.randn_like(parameter))
    end = model.generation_config.eos_token_id
    model.generation_config.suppress_tokens = [i for i in range(300, model.config.vocab_size) if i != end]
    return model


@pytest.mark.parametrize("seconds", [0.5, 1.3, 1.98, 2.0])
def test_states_and_gradients_are_those_of_a_table_cut_by_hand(tiny_model: Path, seconds: float):
    model, _ = read_model_folder(tiny_model)
    take_short_windows(model.eval())
    take_short_windows(model)  # twice is once
    mel_BFT = torch.randn(2, 80, round(100 * seconds))
    tokens_BU = torch.randint(300, (2, 7))
    ours, theirs = (
        (one(input_features=mel_BFT, decoder_input_ids=tokens_BU).logits, one)
        for one in (model, cut_by_hand(tiny_model, round(50 * seconds)))
    )
    assert torch.equal(ours[0], theirs[0])
    for logits, _ in (ours, theirs):
        logits.square().sum().backward()
    their_gradients = dict(theirs[1].named_parameters())
    for name, parameter in model.named_parameters():
        theirs_too = their_gradients[name].grad
        ours_too = parameter.grad[: len(theirs_too)]  # beyond the window no position is used
        assert torch.equal(ours_too, theirs_too) and not parameter.grad[len(theirs_too) :].any(), name
    # and the next batch may be whole again, as transformers has it
    whole = torch.randn(1, 80, 200)
    untouched = WhisperForConditionalGeneration.from_pretrained(tiny_model).eval().model.encoder
    assert torch.equal(model.model.encoder(whole).last_hidden_state, untouched(whole).last_hidden_state)
    with pytest.raises(ValueError, match="202"):
        model.model.encoder(torch.randn(1, 80, 202))


@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.2])
def test_log_mel_of_a_window_equals_an_extractor_of_that_length(seconds: float):
    extractor = WhisperFeatureExtractor(chunk_length=2)
    short = WhisperFeatureExtractor(chunk_length=1)
    wave = 0.3 * torch.randn(round(16_000 * seconds))
    expected = short(wave.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    torch.testing.assert_close(LogMel(extractor, Window(100))(wave[None]), expected, atol=1e-4, rtol=0)
    longest = LogMel(extractor, Window(200, longest=True))(wave[None])
    assert longest.shape[-1] == 100 * math.ceil(seconds)
    if seconds <= 1:
        torch.testing.assert_close(longest, expected, atol=1e-4, rtol=0)


def test_names_of_windows(tiny_model: Path):
    config = read_model_folder(tiny_model)[0].config
    assert window_of("30s", config) == Window(200) and window_of("longest", config) == Window(200, longest=True)
    assert [window_of(one, config).frames for one in (1, "1.5", "0.5s", 0.03, 1.999, 2)] == [100, 150, 50, 4, 200, 200]
    for wrong in (3, "2.1", 0, -1, "short", "nan", "inf", ""):
        with pytest.raises(UserError, match=r"window is .*, expected 30s .* up to the 2 of the model"):
            window_of(wrong, config)
    window = window_of("longest", config)
    assert [window.frames_for(seconds) for seconds in (0.0, 0.5, 1.0, 1.0001, 1.01, 1.9, 2.2)] == [
        100, 100, 100, 100, 200, 200, 200,
    ]  # fmt: skip


def test_the_record_is_left_out_where_the_window_is_whole(tiny_model: Path):
    config = read_model_folder(tiny_model)[0].config
    before = config.to_dict()
    for value, recorded in ((1.5, 1.5), ("longest", "longest"), ("1s", 1.0), (2, "30s"), ("30s", "30s")):
        record_window(value, config)
        assert recorded_window(config) == recorded and window_of(None, config) == window_of(value, config)
    assert config.to_dict() == before


def fit(tiny_model: Path, manifest: str, folder: Path, **options) -> Path:
    seed_everything(0, verbose=False)
    module = WhisperModule(str(tiny_model), learning_rate=1e-3, **options)
    data = PairDataModule(train={"ko-en": manifest}, utterances_per_pair=2, workers=0)
    Trainer(
        max_steps=2, accelerator="cpu", devices=1, default_root_dir=folder, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[FinalModel()],
    ).fit(module, datamodule=data)  # fmt: skip
    return folder / "model"


@pytest.mark.parametrize(("window", "recorded"), [("30s", None), ("longest", "longest"), (1.8, 1.8)])
def test_a_model_is_decoded_as_it_was_trained(
    tiny_model: Path, manifests: dict[str, str], tmp_path: Path, window: str | float, recorded: str | float | None
):
    folder = fit(tiny_model, manifests["ko-en"], tmp_path, window=window)
    assert json.loads((folder / "config.json").read_text()).get("encoder_window") == recorded
    engine = TorchWhisper(*read_model_folder(folder))
    assert engine.window == window_of(window, engine.model.config)
    assert TorchWhisper(*read_model_folder(folder), window=1).window == Window(100)
    # transformers loads it as any model, with the whole window
    assert WhisperForConditionalGeneration.from_pretrained(folder).config.max_source_positions == 100


def test_utterances_beyond_a_short_window_are_named(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    with pytest.raises(UserError, match=r"3 of 6 utterances are longer than the model's window of 1\.2 s: ko-en-3"):
        fit(tiny_model, manifests["ko-en"], tmp_path, window=1.2)
    with pytest.raises(UserError, match=r"window is 5"):
        fit(tiny_model, manifests["ko-en"], tmp_path, window=5)


def test_training_with_a_window_is_training_a_cut_model(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    """The oracle is a model folder of a shorter window, which needs nothing of ours."""
    _, processor = read_model_folder(tiny_model)
    cut = cut_by_hand(tiny_model, 90)
    cut.save_pretrained(tmp_path / "cut")
    processor.save_pretrained(tmp_path / "cut")
    ours, theirs = (
        read_model_folder(fit(source, manifests["ko-en"], tmp_path / name, window=window))[0]
        for name, source, window in (("a", tiny_model, 1.8), ("b", tmp_path / "cut", "30s"))
    )
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one[: len(other)], other), name
    positions = "model.encoder.embed_positions.weight"
    start = read_model_folder(tiny_model)[0].get_parameter(positions)
    assert torch.equal(ours.get_parameter(positions)[90:], start[90:])


@pytest.mark.parametrize("window", [1.8, "longest"])
def test_decoding_equals_generate_of_a_cut_model(tiny_model: Path, manifests: dict[str, str], window: str | float):
    """An utterance at a time, by transformers, on a model that knows only the window."""
    model, processor = read_model_folder(tiny_model)
    speaking(model)
    utterances = read_manifest(manifests["ko-en"])
    engine = TorchWhisper(model, processor, window=window)
    texts = Transcriber(engine, batch_size=4, guards=Guards(0, 0)).transcribe(utterances)
    heard = {}
    for utterance, text in zip(utterances, texts, strict=True):
        frames = 180 if window == 1.8 else 100 * math.ceil(utterance.duration)
        cut = speaking(cut_by_hand(tiny_model, frames // 2))
        mel_BFT = LogMel(processor.feature_extractor, Window(frames))(load_waveform(utterance.audio)[None])
        tokens = cut.generate(mel_BFT, language="ko", task="transcribe", do_sample=False)
        assert text == processor.tokenizer.decode(tokens[0], skip_special_tokens=True).strip(), utterance.id
        heard[utterance.id] = text
    assert len(set(heard.values())) > 1
    whole = Transcriber(TorchWhisper(model, processor, window="30s")).transcribe(utterances)
    assert whole != texts  # the window decides what is heard


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_longest_depends_neither_on_batch_nor_on_samples(tiny_model: Path, tmp_path: Path, batch_size: int):
    """Files a few samples longer or shorter than their manifest says, at a second's edge."""
    model, processor = read_model_folder(tiny_model)
    speaking(model)
    utterances = []
    for index, (samples, duration) in enumerate([(15_990, 1.0), (16_000, 1.0), (15_000, 0.95), (16_010, 1.01)]):
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(index)), 16_000)
        utterances.append(Utterance(f"u{index}", path, duration, TEXTS["ko"][0], "ko", "ko", licence="CC0-1.0"))
    engine = TorchWhisper(model, processor, window="longest")
    transcriber = Transcriber(engine, batch_size=batch_size)
    lengths = []
    engine.log_mel.register_forward_hook(lambda _, given, mel: lengths.append(mel.shape[-1]))
    assert transcriber.transcribe(utterances) == Transcriber(engine, batch_size=2).transcribe(utterances)
    assert set(lengths) == {100, 200}


def test_batches_by_duration_are_the_same_utterances_of_like_length():
    """Nothing is left out or repeated within 16 steps; the spread within a step falls; each rank has its own."""
    durations = {pair: [1 + (i * step) % 97 / 10 for i in range(97)] for pair, step in (("a", 31), ("b", 57))}
    corpora = {pair: [(97, 1.0)] for pair in durations}

    def steps(world: int, count: int = 64, **options) -> list[list]:
        ranks = [
            iter(PairBatchSampler(corpora, {"a": 2, "b": 3}, count, rank=rank, world_size=world, **options))
            for rank in range(world)
        ]
        return [[draw for rank in ranks for draw in next(rank)] for _ in range(count)]

    def spread(batch: list) -> float:
        lengths = [durations[draw.pair][draw.index] for draw in batch]
        return max(lengths) - min(lengths)

    for world in (1, 2):
        plain, sorted_ = steps(world), steps(world, durations=durations)
        for begin in range(0, 64, 16):
            ours, theirs = (sorted(chain(*one[begin : begin + 16])) for one in (sorted_, plain))
            assert ours == theirs
        assert sum(map(spread, sorted_)) < 0.4 * sum(map(spread, plain))
        means = [sum(durations[d.pair][d.index] for d in batch) / len(batch) for batch in sorted_]
        assert means[:16] != sorted(means[:16])  # the order of the lengths is drawn, not a ramp
        resumed = PairBatchSampler(corpora, {"a": 2, "b": 3}, 64, world_size=world, durations=durations, start=21)
        again = PairBatchSampler(corpora, {"a": 2, "b": 3}, 64, world_size=world, durations=durations)
        assert list(resumed) == list(again)[21:]


def test_prompts_are_read_under_a_short_window_too(tiny_model: Path, manifests: dict[str, str]):
    """Beam search and the choice of a language take the short states as they come."""
    model, processor = read_model_folder(tiny_model)
    utterances = read_manifest(manifests["ko-en"])
    waves_BS = pad_sequence([load_waveform(utterance.audio) for utterance in utterances], batch_first=True)
    engine = TorchWhisper(speaking(model), processor, beams=2, window=1.9)
    encoded_BTD = engine.encode(waves_BS)
    assert encoded_BTD.shape[1] == 95 and len(engine.detect(encoded_BTD)) == 6
    assert (
        len(engine.generate(encoded_BTD, Attempt([prompt_ids(engine.tokenizer, ("ko",))] * 6, [MAX_TOKENS] * 6))) == 6
    )


@pytest.mark.skipif(importlib.util.find_spec("faster_whisper") is None, reason="faster-whisper is not installed")
@pytest.mark.parametrize("window", [1.8, "longest"])
def test_a_conversion_hears_through_the_same_window(
    tiny_model: Path, manifests: dict[str, str], tmp_path: Path, window: str | float
):
    model, processor = read_model_folder(tiny_model)
    record_window(window, speaking(model).config)
    write_model_folder(tmp_path / "model", model, processor)
    converted = FasterWhisper(convert(tmp_path / "model", "identity", tmp_path), tmp_path / "model")
    utterances = read_manifest(manifests["de-en"])
    texts = Transcriber(converted, batch_size=4).transcribe(utterances)
    assert texts == Transcriber(TorchWhisper(model, processor)).transcribe(utterances)
    assert len(set(texts)) > 1


def test_transcripts_of_another_window_are_kept_apart(tiny_model: Path, manifests: dict[str, str], tmp_path: Path):
    """The window that a model was trained with adds nothing to the key."""
    (one,) = read_sets({"ko-en": manifests["ko-en"]})
    model = Candidate("tiny", str(tiny_model))
    made_from = [
        _stored(Evaluation([model], {}, tmp_path, decoding=Decoding(window=window)), model, one).made_from
        for window in (None, "longest", 1.5)
    ]
    assert [made.pop("window", None) for made in made_from] == [None, "longest", 1.5]
    assert made_from[0] == made_from[1] == made_from[2] and len(made_from[0]) == 7
