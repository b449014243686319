"""Hypotheses judged as OpenAI judges them, decoded again by sampling that repeats, and left empty for no speech."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput

from backbone.greedy import sample
from backbone.guards import LENGTH, SILENCE, Guards, fails
from backbone.language_tags import prompt_ids
from backbone.model_folder.read import read_model_folder
from common.audio import load_waveform
from common.constants import MAX_TOKENS
from common.manifest import Utterance
from common.options import parse
from common.text_compression import compression_ratio
from decoding import transcriber as module
from decoding.decoding_engine import Attempt, Written
from decoding.torch_whisper import TorchWhisper
from decoding.transcribe_options import RecordingDecoding
from decoding.transcriber import Transcriber
from evaluate import EVALUATE


def encoded(engine: TorchWhisper, utterances: list[Utterance]) -> torch.Tensor:
    return engine.encode(pad_sequence([load_waveform(one.audio) for one in utterances], batch_first=True))


def judged(engine: TorchWhisper, utterances: list[Utterance]) -> list[Written]:
    prompts = [prompt_ids(engine.tokenizer, ("ko",))] * len(utterances)
    return engine.generate(encoded(engine, utterances), Attempt(prompts, [MAX_TOKENS] * len(utterances), judged=True))


def test_compression_ratio():
    """Worked out by hand: zlib writes a hundred times the same letter in 12 bytes; and as faster-whisper has it."""
    assert compression_ratio("a" * 100) == 100 / 12
    theirs = pytest.importorskip("faster_whisper.transcribe").get_compression_ratio
    for text in ("", "なる", "Ich habe den report geschickt.", "네 " * 40, "그래서 meeting이 있어요. " * 9):
        assert compression_ratio(text) == theirs(text)


@pytest.mark.parametrize(
    ("text", "cut_by", "mean", "expected"),
    [
        ("내일 meeting이 있어요.", None, -0.99, False),
        ("내일 meeting이 있어요.", None, -1.01, True),
        ("내일 meeting이 있어요.", LENGTH, 0, True),
        ("네 " * 30, None, 0, True),
        ("", None, -0.5, False),
    ],
)
def test_what_fails(text: str, cut_by: str | None, mean: float, expected: bool):
    assert fails(text, cut_by, mean) is expected


def test_mean_log_probability_is_transformers(model_that_speaks, utterances: list[Utterance]):
    """Of generate's own scores, an utterance at a time: over text tokens and end, as OpenAI divides."""
    model, processor = model_that_speaks
    engine = TorchWhisper(model, processor)
    config = model.generation_config
    for utterance, ours in zip(utterances, judged(engine, utterances), strict=True):
        states = engine.model.model.encoder(engine.log_mel(load_waveform(utterance.audio)[None])).last_hidden_state
        found = GenerationMixin.generate(
            model,
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            decoder_input_ids=torch.tensor([prompt_ids(engine.tokenizer, ("ko",))]),
            do_sample=False,
            max_length=model.config.max_target_positions,
            suppress_tokens=config.suppress_tokens,
            begin_suppress_tokens=config.begin_suppress_tokens,
            output_scores=True,
            return_dict_in_generate=True,
        )
        log = model.compute_transition_scores(found.sequences, found.scores, normalize_logits=True)[0]
        tokens = found.sequences[0, 4:].tolist()
        length = tokens.index(engine.end) if engine.end in tokens else len(tokens)
        assert ours.tokens[: len(tokens)] == tokens
        assert ours.mean_log_probability == pytest.approx(float(log[: length + 1].sum()) / (length + 1), rel=1e-4)


def test_beams_are_judged_by_the_same_sum(model_that_speaks, utterances: list[Utterance]):
    """The pass over whole hypotheses gives what greedy decoding has summed up on its way."""
    engine = TorchWhisper(*model_that_speaks)
    greedy = judged(engine, utterances)
    rows = torch.tensor([one.tokens for one in greedy])
    prompts = torch.tensor([prompt_ids(engine.tokenizer, ("ko",))] * len(rows))
    with torch.inference_mode():
        sums = engine._sums(encoded(engine, utterances), prompts, rows)
    lengths = (rows != engine.end).sum(1) + 1
    torch.testing.assert_close(sums / lengths, torch.tensor([one.mean_log_probability for one in greedy]))
    beams = judged(TorchWhisper(*model_that_speaks, beams=3), utterances[:4])
    assert all(one.mean_log_probability < 0 for one in beams)


def test_sampling_by_hand():
    logits_RV = torch.tensor([[0.5, 0.25, 0.0, 0.25]]).log().expand(6, 4)
    draws = torch.tensor([0.0, 0.49, 0.51, 0.74, 0.76, 0.999])
    assert sample(logits_RV, 1.0, draws).tolist() == [0, 0, 1, 1, 3, 3]
    # At temperature 0.5 probabilities are squared: 4/6, 1/6, 0, 1/6.
    assert sample(logits_RV, 0.5, torch.tensor([0.65, 0.68, 0.82, 0.84, 0.0, 0.99])).tolist() == [0, 1, 1, 3, 0, 3]


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_samples_follow_from_the_utterance_alone(model_that_speaks, utterances: list[Utterance], temperature: float):
    guards = Guards(temperatures=[temperature])

    def heard(of: list[Utterance], batch_size: int = 32) -> list[str]:
        return Transcriber(TorchWhisper(*model_that_speaks), batch_size=batch_size, guards=guards).transcribe(of)

    first = heard(utterances)
    assert heard(utterances) == first == heard(utterances, 1) == heard(utterances, 5)
    assert heard(utterances[::-1])[::-1] == first and heard(utterances[7:9]) == first[7:9]
    assert heard([replace(one, id=f"{one.id}'") for one in utterances]) != first
    assert Transcriber(TorchWhisper(*model_that_speaks)).transcribe(utterances) != first


@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_what_fails_is_decoded_at_the_next_temperature(model_that_speaks, utterances, batch_size: int, monkeypatch):
    """A hypothesis fails here if its length is no multiple of three; each temperature alone says what was to be had."""
    monkeypatch.setattr(module, "fails", lambda text, *_: bool(len(text) % 3))
    engine, temperatures = TorchWhisper(*model_that_speaks), [0.0, 0.4, 0.8]
    alone = {t: Transcriber(engine, guards=Guards(temperatures=[t])).transcribe(utterances) for t in temperatures}
    transcriber = Transcriber(engine, batch_size=batch_size, guards=Guards(temperatures=temperatures))
    taken = set()
    for rows in transcriber.batches(utterances):
        for row, found in zip(rows, transcriber.transcribe_batch([utterances[row] for row in rows]), strict=True):
            right = next((t for t in temperatures if len(alone[t][row]) % 3 == 0), temperatures[-1])
            assert (found.text, found.temperature) == (alone[right][row], right)
            taken.add(right)
    assert taken == set(temperatures)


def test_no_speech_is_the_models_own_probability(tiny_model: Path, utterances: list[Utterance]):
    """By a forward pass of transformers after the start token; the miniature's token has its older name."""
    model, processor = read_model_folder(tiny_model)
    engine = TorchWhisper(model, processor)
    start, silence = (
        processor.tokenizer.convert_tokens_to_ids(f"<|{n}|>") for n in ("startoftranscript", "nocaptions")
    )
    mel_BFT = engine.log_mel(load_waveform(utterances[3].audio)[None])
    logits = model(mel_BFT, decoder_input_ids=torch.tensor([[start]])).logits[0, 0].detach()
    assert engine.no_speech(encoded(engine, [utterances[3]])) == pytest.approx([float(logits.softmax(0)[silence])])


def test_an_improbable_hypothesis_of_no_speech_is_empty(model_that_speaks, utterances, monkeypatch):
    engine = TorchWhisper(*model_that_speaks)
    silence = engine.no_speech(encoded(engine, utterances[:6]))
    middle = sorted(silence)[2]
    monkeypatch.setattr(module, "fails", lambda *_: False)
    for threshold, least, empty in ((middle, 1.0, 3), (0.0, 1.0, 6), (middle, -1e9, 0), (1.0, 1.0, 0)):
        monkeypatch.setattr(module, "MIN_LOG_PROBABILITY", least)  # 1.0: every hypothesis is improbable
        found = Transcriber(engine, guards=Guards(no_speech=threshold)).transcribe_batch(utterances[:6])
        assert [one.text == "" and one.cut == SILENCE for one in found] == [
            p > threshold and empty > 0 for p in silence
        ]
        assert sum(one.cut == SILENCE for one in found) == empty


def test_defaults():
    """Recordings are decoded as people expect of Whisper; evaluation never samples unless it is asked to."""
    how = RecordingDecoding()
    assert (how.temperatures, how.no_speech) == ([0, 0.2, 0.4, 0.6, 0.8, 1.0], 0.6)
    assert not Guards().judges and RecordingDecoding(temperatures=[0], no_speech=1).settings == Guards().settings
    given = parse(EVALUATE, ["m", "--temperatures", "0", "0.5", "--no-speech", "0.7"]).options
    assert given.judges and given.settings == {
        "tokens_per_second": 40, "repeats": 4, "temperatures": [0, 0.5], "no_speech": 0.7,
    }  # fmt: skip
