"""Several prompts an utterance, of which the most probable hypothesis is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from backbone.guards import LENGTH, REPETITION, Guards
from backbone.language_tags import prompt_ids, tags_to_try
from backbone.window import Window
from common.audio import load_waveform
from common.errors import UserError
from common.manifest import Utterance
from datamodules.pairs import PairDataModule
from decoding.decoding_engine import Attempt, Written
from decoding.torch_whisper import TorchWhisper
from decoding.transcriber import Transcriber

KO, EN, KO_EN, EN_KO = ALL = ("ko",), ("en",), ("ko", "en"), ("en", "ko")
LOOP, LONG = "ha" * 9, "abcdefghijklmnopqrstuvwxyz" * 2


class Letters:
    """A tokenizer: a letter is a token."""

    special = ("endoftext", "startoftranscript", "transcribe", "notimestamps", "ko", "en")

    def convert_tokens_to_ids(self, token: str) -> int | None:
        return self.special.index(token.strip("<|>")) if token.strip("<|>") in self.special else None

    def convert_ids_to_tokens(self, index: int) -> str:
        return f"<|{self.special[index]}|>"

    def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
        return "".join(map(chr, tokens))


class Scripted:
    """An engine that writes what the script says: by utterance, tags and temperature, with the mean log-probability."""

    tokenizer, window = Letters(), Window(3000)

    def __init__(self, script: dict) -> None:
        self.script, self.encoded, self.attempts = script, 0, []

    def encode(self, waveforms_BS: torch.Tensor) -> torch.Tensor:
        self.encoded += 1
        return ((waveforms_BS != 0).sum(1) / 4000).round().long() - 2  # the durations' order

    def generate(self, encoded_B: torch.Tensor, attempt: Attempt) -> list[Written]:
        assert attempt.judged and len({*map(len, attempt.prompt_BU)}) == 1
        tags = [tuple(Letters.special[token] for token in prompt[1:-2]) for prompt in attempt.prompt_BU]
        self.attempts.append((attempt.temperature, tags))
        found = [self.script[row, of, attempt.temperature] for row, of in zip(encoded_B.tolist(), tags, strict=True)]
        return [Written([*map(ord, text), 0], mean) for text, mean in found]

    def token_times(self, encoded_B: torch.Tensor, prompt_BU: list[list[int]], *_) -> list[None]:
        self.timed = [tuple(Letters.special[token] for token in prompt[1:-2]) for prompt in prompt_BU]
        return [None] * len(prompt_BU)


def script(row: int, *written: tuple[str, float], temperature: float = 0.0) -> dict:
    return {(row, tags, temperature): one for tags, one in zip(ALL, written, strict=True)}


def test_the_most_probable_is_kept_and_what_was_cut_loses(utterances: list[Utterance]):
    """By hand; the first wins a tie, and among hypotheses that were all cut the most probable."""
    engine = Scripted(
        script(0, ("a", -0.5), ("b", -0.4), ("c", -0.3), ("d", -0.6))
        | script(1, (LOOP, -0.1), ("b", -0.9), (LONG, -0.2), ("d", -5.0))
        | script(2, ("a", -0.5), ("b", -0.5), ("c", -0.5), ("d", -0.5))
        | script(3, ("a", -0.5), ("b", -0.4), ("c", -0.3), ("d", -0.2))
        | script(4, (LONG * 2, -0.2), (LOOP, -0.1), (LONG * 2, -0.3), (LOOP, -0.4))
        | script(5, ("a", -9.0), ("b", -0.4), ("c", -0.4), ("d", -0.6))
    )
    expected = [("c", KO_EN, None), ("b", EN, None), ("a", KO, None), ("d", EN_KO, None), ("ha", EN, REPETITION)]
    expected.append(("b", EN, None))
    for batch_size in (6, 4, 1):
        engine.encoded = 0
        transcriber = Transcriber(engine, language="likeliest", batch_size=batch_size, guards=Guards(12, 4))
        for order in (1, -1):
            found = transcriber.hypotheses(utterances[:6][::order])[::order]
            assert [(one.text, one.languages, one.cut) for one in found] == expected
        assert engine.encoded == 2 * -(-6 // batch_size)


def test_each_prompt_falls_back_for_itself(utterances: list[Utterance]):
    """Only what failed under a prompt is sampled under it; a sample may win."""
    engine = Scripted(
        script(0, ("a", -0.5), ("b", -1.5), ("c", -1.5), ("d", -1.5))
        | script(0, ("never", 0), ("b", -0.6), ("c", -0.3), ("d", -9.0), temperature=0.4)
    )
    guards = Guards(temperatures=[0, 0.4])
    (found,) = Transcriber(engine, language="likeliest", guards=guards).hypotheses(utterances[:1])
    assert (found.text, found.languages, found.temperature) == ("c", KO_EN, 0.4)
    sampled = [(0.0, [KO]), *((t, [tags]) for tags in ALL[1:] for t in (0.0, 0.4))]
    assert engine.attempts == sampled


def test_one_language_has_one_prompt_and_words_get_the_chosen_one(utterances: list[Utterance]):
    """Utterances of one language share no batch with those of two."""
    engine = Scripted(script(0, ("a", -0.5), ("b", -0.3), ("c", -0.4), ("d", -0.6)))
    transcriber = Transcriber(engine, language="likeliest", words=True)
    alone, mixed = transcriber.hypotheses([utterances[12], utterances[0]])
    assert (alone.text, alone.languages) == ("a", KO) and (mixed.text, mixed.languages) == ("b", EN)
    assert engine.attempts == [(0.0, [tags]) for tags in (KO, *ALL)]
    assert engine.encoded == 2 and engine.timed == [EN]
    assert tags_to_try("likeliest", "ja", ("ko", "ja")) == (("ja",), ("ko",), ("ja", "ko"), ("ko", "ja"))
    assert tags_to_try("two_tag", "ja", ("ko", "ja")) == (("ja", "ko"),)


@pytest.mark.parametrize("beams", [1, 2])
def test_a_models_own_probabilities_decide(model_that_speaks, utterances: list[Utterance], beams: int):
    """The oracle: each prompt alone."""
    engine, guards, chosen = TorchWhisper(*model_that_speaks, beams=beams), Guards(10, 0), set()
    for utterance in utterances[:6:beams]:
        encoded = engine.encode(load_waveform(utterance.audio)[None])
        best = {}
        for tags in ALL:
            prompt = prompt_ids(engine.tokenizer, tags)
            most = guards.most_tokens(utterance.duration)
            (one,) = engine.generate(encoded, Attempt([prompt], [most], judged=True))
            length = one.tokens.index(engine.end) if engine.end in one.tokens else len(one.tokens)
            best[tags] = length <= most, one.mean_log_probability
        (found,) = Transcriber(engine, language="likeliest", guards=guards).hypotheses([utterance])
        assert found.languages == max(ALL, key=best.__getitem__)
        assert (found.cut != LENGTH, found.mean_log_probability) == best[found.languages]
        chosen.add(found.languages)
    assert chosen - {KO}


@pytest.mark.parametrize("policy", ["likeliest", "auto", "among-pair"])
def test_choices_are_no_tags_to_train_with(policy: str, tmp_path: Path):
    with pytest.raises(UserError, match=f"data.language: '{policy}' is a choice of decoding, .* matrix, embedded, two"):
        PairDataModule({"ko-en": str(tmp_path / "any.jsonl")}, language=policy)
