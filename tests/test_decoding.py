"""Decoding equals transformers' `generate`, token for token, whatever the batch; a conversion hears the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from backbone import greedy as module
from backbone.greedy import StepDecoder
from backbone.guards import LENGTH, REPETITION, Guards, cut
from backbone.language_tags import prompt_ids
from backbone.model_folder.read import read_model_folder
from backbone.model_folder.write import write_model_folder
from common.audio import load_waveform
from common.constants import MAX_TOKENS
from common.errors import UserError
from common.manifest import Utterance
from decoding.decoding_engine import Attempt
from decoding.faster_whisper import FasterWhisper, convert
from decoding.torch_whisper import TorchWhisper
from decoding.transcriber import Hypothesis, Transcriber

OFF = Guards(tokens_per_second=0, repeats=0)


def test_utterances_end_at_places_of_their_own(model_that_speaks, utterances: list[Utterance]):
    """What the other tests rely on; a text never goes on after its end."""
    engine = TorchWhisper(*model_that_speaks)
    waves = [load_waveform(utterance.audio) for utterance in utterances]
    prompt = prompt_ids(engine.tokenizer, ("ko",))
    attempt = Attempt([prompt] * len(waves), [MAX_TOKENS] * len(waves))
    rows = [one.tokens for one in engine.generate(engine.encode(pad_sequence(waves, batch_first=True)), attempt)]
    ends = [row.index(engine.end) if engine.end in row else None for row in rows]
    assert None in ends and len(set(ends)) > 6
    for row, end in zip(rows, ends, strict=True):
        assert row[0] not in (253, engine.end)
        assert end is None or set(row[end:]) == {engine.end}


@pytest.mark.parametrize("beams", [1, 3])
def test_equals_generate(model_that_speaks, utterances: list[Utterance], beams: int):
    model, processor = model_that_speaks
    utterances = utterances[:: 2 * beams]
    engine = TorchWhisper(model, processor, beams=beams)
    ours = Transcriber(engine, batch_size=5, guards=OFF).transcribe(utterances)
    for utterance, text in zip(utterances, ours, strict=True):
        wave = load_waveform(utterance.audio).numpy()
        features = processor.feature_extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features
        # Suppression from the folder's generation_config, the prompt by transformers' own means.
        language = utterance.matrix_language
        tokens = model.generate(features, language=language, task="transcribe", do_sample=False, num_beams=beams)
        assert text == processor.tokenizer.decode(tokens[0], skip_special_tokens=True).strip(), utterance.id
    assert len(set(ours)) > 1 and len({len(text) for text in ours}) > 1


def written(engine: TorchWhisper, utterances: list[Utterance], most: list[int] | None = None) -> list[list[int]]:
    """Tokens without any guard but a bound."""
    waves = pad_sequence([load_waveform(utterance.audio) for utterance in utterances], batch_first=True)
    prompts = [prompt_ids(engine.tokenizer, (utterance.matrix_language,)) for utterance in utterances]
    attempt = Attempt(prompts, most or [MAX_TOKENS] * len(utterances))
    return [one.tokens for one in engine.generate(engine.encode(waves), attempt)]


def hypotheses(engine, utterances: list[Utterance], guards: Guards, batch_size: int = 5) -> list[Hypothesis]:
    transcriber = Transcriber(engine, batch_size=batch_size, guards=guards)
    found = {}
    for rows in transcriber.batches(utterances):
        found |= dict(zip(rows, transcriber.transcribe_batch([utterances[row] for row in rows]), strict=True))
    return [found[row] for row in range(len(utterances))]


@pytest.mark.parametrize("guards", [Guards(20, 0), Guards(0, 3), Guards(12, 4)], ids=str)
def test_guards_cut_what_would_go_on(model_that_speaks, utterances: list[Utterance], guards: Guards, monkeypatch):
    """A hypothesis is the one without guards up to the cut, in every batch, however seldom one looks."""
    engine = TorchWhisper(*model_that_speaks)
    most = [guards.most_tokens(utterance.duration) for utterance in utterances]
    rows = zip(written(engine, utterances), most, strict=True)
    tokens, cuts = zip(*(cut(row, engine.end, bound, guards.repeats) for row, bound in rows), strict=True)
    assert set(cuts) >= {None, *([LENGTH] if guards.tokens_per_second else []), *([REPETITION] * (guards.repeats > 0))}
    texts = engine.tokenizer.batch_decode(list(tokens), skip_special_tokens=True)
    expected = [(text.rstrip("\ufffd" * bool(by)).strip(), by) for text, by in zip(texts, cuts, strict=True)]
    for look, batch_size in ((1, 32), (3, 5), (8, 1)):
        monkeypatch.setitem(module._STEPS_A_LOOK, "cpu", look)
        assert [(one.text, one.cut) for one in hypotheses(engine, utterances, guards, batch_size)] == expected


def test_what_a_guard_cuts_is_not_decoded(model_that_speaks, utterances: list[Utterance], monkeypatch):
    """A model that knows one word: bounded by its longest audio, 1.75 s, or by the 12 tokens of a loop."""
    steps: list[int] = []
    whole = StepDecoder.__call__
    monkeypatch.setattr(StepDecoder, "__call__", lambda *given: steps.append(len(given[1])) or whole(*given))
    engine = TorchWhisper(*model_that_speaks)
    engine.never_V = engine.never_first_V = torch.full_like(engine.never_V, -torch.inf)
    engine.never_V[65] = 0
    word = engine.tokenizer.decode([65])
    for guards, count, cut_by, length in (
        (OFF, 124, None, 124), (Guards(10, 0), 28, LENGTH, 27), (Guards(0, 4), 12, REPETITION, 1)
    ):  # fmt: skip
        steps.clear()
        found = hypotheses(engine, utterances, guards, 32)
        assert (steps[-1] < 18) == (cut_by == LENGTH)  # shorter audio has left the batch before
        assert len(steps) == count and (found[5].text, found[5].cut) == (word * length, cut_by)


def test_beams_are_bounded_each_by_its_own_audio(model_that_speaks, utterances: list[Utterance]):
    engine, guards = TorchWhisper(*model_that_speaks, beams=3), Guards(8, 0)
    found = hypotheses(engine, utterances[::2], guards)
    assert found == hypotheses(engine, utterances[::2], guards, 1)
    free = hypotheses(engine, utterances[::2], OFF)
    assert {one.cut for one in found} == {None, LENGTH} and {one.cut for one in free} == {None}
    assert all(one.cut or one == other for one, other in zip(found, free, strict=True))
    most = [3 + row for row in range(len(free))]
    rows = written(engine, utterances[::2], most)
    lengths = [row.index(engine.end) if engine.end in row else len(row) for row in rows]
    assert (
        all(length <= bound + 1 for length, bound in zip(lengths, most, strict=True)) and max(lengths) == most[-1] + 1
    )


@pytest.mark.parametrize("batch_size", [1, 8, 32])
@pytest.mark.parametrize("language", ["matrix", "two_tag", "auto", "among-pair", "likeliest"])
def test_batch_size_and_order_do_not_matter(model_that_speaks, utterances, batch_size: int, language: str):
    engine = TorchWhisper(*model_that_speaks)
    transcriber = Transcriber(engine, batch_size=batch_size, language=language)
    alike = 12 if language in ("two_tag", "likeliest") else 18  # 12 utterances have two languages
    assert max(map(len, transcriber.batches(utterances))) == min(batch_size, alike)
    forwards = transcriber.transcribe(utterances)
    assert transcriber.transcribe(utterances[::-1])[::-1] == forwards
    assert Transcriber(engine, batch_size=3, language=language).transcribe(utterances) == forwards


def test_batches_hold_every_utterance_once_and_one_length_of_prompt(model_that_speaks, utterances):
    transcriber = Transcriber(TorchWhisper(*model_that_speaks), batch_size=4, language="two_tag")
    batches = transcriber.batches(utterances)
    assert sorted(row for rows in batches for row in rows) == list(range(len(utterances)))
    for rows in batches:
        assert len({len(utterances[row].languages) for row in rows}) == 1
        assert [utterances[row].duration for row in rows] == sorted(
            (utterances[r].duration for r in rows), reverse=True
        )


def test_auto_takes_the_models_own_most_probable_language(model_that_speaks, utterances):
    model, processor = model_that_speaks
    wave = load_waveform(utterances[0].audio)
    features = processor.feature_extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    expected = model.detect_language(features)
    encoded = model.model.encoder(features).last_hidden_state
    (chances,) = TorchWhisper(model, processor).detect(encoded)
    assert max(chances, key=chances.__getitem__) == processor.tokenizer.decode(expected).strip("<|>")
    assert sum(chances.values()) == pytest.approx(1)


def test_over_the_window_and_unknown_language(tiny_model: Path, utterances: list[Utterance]):
    engine = TorchWhisper(*read_model_folder(tiny_model))
    long = Utterance("long", utterances[0].audio, 2.5, "x", "ko-en", "ko")
    with pytest.raises(UserError, match=r"longer than the model's window of 2 s: long \(2\.50 s\)"):
        Transcriber(engine).transcribe([long])
    with pytest.raises(UserError, match="language 'xx' has no tag"):
        Transcriber(engine, language="xx").transcribe(utterances[:1])


def test_precision_is_the_format_of_the_weights(tiny_model: Path, utterances: list[Utterance]):
    for precision, dtype in ((None, torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        engine = TorchWhisper(*read_model_folder(tiny_model), precision=precision)
        assert engine.encode(load_waveform(utterances[0].audio)[None]).dtype == dtype == engine.model.dtype
        assert len(Transcriber(engine).transcribe(utterances[:3])) == 3


@pytest.mark.skipif(importlib.util.find_spec("faster_whisper") is None, reason="faster-whisper is not installed")
class TestFasterWhisper:
    @pytest.fixture(scope="class")
    def folders(self, model_that_speaks, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
        source = tmp_path_factory.mktemp("speaks") / "model"
        write_model_folder(source, *model_that_speaks)
        return source, convert(source, "identity", tmp_path_factory.mktemp("cache"))

    @pytest.mark.parametrize("language", ["matrix", "two_tag", "de"])
    def test_a_conversion_hears_the_same(self, model_that_speaks, utterances, folders, language: str):
        """Also to the last token: some utterances fill the decoder without an end."""
        source, folder = folders
        converted = Transcriber(FasterWhisper(folder, source), language=language, batch_size=7)
        original = Transcriber(TorchWhisper(*model_that_speaks), language=language)
        assert converted.transcribe(utterances) == original.transcribe(utterances)

    def test_it_is_made_once_and_whole(self, folders):
        source, folder = folders
        names = {path.name for path in folder.iterdir()}
        assert {"model.bin", "tokenizer.json", "preprocessor_config.json"} <= names
        before = (folder / "model.bin").stat().st_mtime_ns
        assert convert(source, "identity", folder.parent) == folder
        assert (folder / "model.bin").stat().st_mtime_ns == before
        assert convert(source, "other weights", folder.parent) != folder
        with pytest.raises(UserError, match="nowhere: CTranslate2 cannot convert the model"):
            convert(Path("nowhere"), "nothing", folder.parent)
        assert not list(folder.parent.glob(".*"))

    def test_a_guarded_conversion_hears_the_same(self, model_that_speaks, utterances, folders):
        source, folder = folders
        for guards in (Guards(12, 0), Guards(0, 3)):
            found = hypotheses(FasterWhisper(folder, source), utterances, guards)
            assert found == hypotheses(TorchWhisper(*model_that_speaks), utterances, guards)
            assert {one.cut for one in found} > {None}

    def test_formats_that_the_processor_lacks(self, folders):
        with pytest.raises(UserError, match="--precision float16: CTranslate2 on this cpu knows .*float32"):
            FasterWhisper(folders[1], folders[0], precision="float16")

    def test_auto_needs_a_vocabulary_like_whispers(self, folders, utterances):
        source, folder = folders
        with pytest.raises(UserError, match="language auto: CTranslate2 detects languages only with a vocabulary"):
            Transcriber(FasterWhisper(folder, source), language="auto").transcribe(utterances[:1])


def test_without_faster_whisper_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(__import__("sys").modules, "faster_whisper", None)
    with pytest.raises(UserError, match=r"faster-whisper is not installed .*pip install -e '\.\[faster-whisper\]'"):
        convert(Path("any"), "any", tmp_path)
