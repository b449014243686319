"""Transcribe utterances in batches, each with its own language tags, under guards against loops and invented text.

Shape suffixes: B utterances, S samples at 16 kHz, U tokens.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from backbone.guards import MIN_LOG_PROBABILITY, SILENCE, Guards, cut, fails
from backbone.language_tags import language_id, prompt_ids, prompt_languages, special_id
from backbone.window import FRAMES_PER_SECOND, check_lengths
from common.audio import SAMPLE_RATE_HZ, load_waveform
from common.manifest import Utterance
from decoding.decoding_engine import Attempt, Engine, Written

_GUARDS = Guards()


@dataclass(frozen=True)
class Hypothesis:
    """What a model wrote, why the guards cut it, if they did, and the temperature that it was sampled at."""

    text: str
    cut: str | None = None
    temperature: float = 0.0


class Transcriber:
    """Transcribe utterances with one model; the result depends neither on batch size nor on order.

    Args:
        engine: the model.
        language: policy of the language tags; see `backbone.language_tags`, and `auto` for the model's own choice.
        batch_size: utterances decoded side by side.
        guards: against loops and invented text.
    """

    def __init__(
        self, engine: Engine, *, language: str = "matrix", batch_size: int = 32, guards: Guards = _GUARDS
    ) -> None:
        self.engine, self.guards = engine, guards
        self.language = language
        self.batch_size = batch_size

    def transcribe(
        self,
        utterances: Sequence[Utterance],
        name: str = "evaluation",
        done: Callable[[float], None] = lambda seconds: None,
    ) -> list[str]:
        """Return transcripts in the order of the utterances.

        Args:
            utterances: with audio of any length up to the window.
            name: of what they belong to, for messages.
            done: called after each batch with the seconds of its audio.

        Raises:
            UserError: for an utterance that is over the window or whose audio cannot be read, or an unknown language.
        """
        texts = [""] * len(utterances)
        for rows in self.batches(utterances, name):
            batch = [utterances[row] for row in rows]
            for row, found in zip(rows, self.transcribe_batch(batch), strict=True):
                texts[row] = found.text
            done(sum(utterance.duration for utterance in batch))
        return texts

    def batches(self, utterances: Sequence[Utterance], name: str = "evaluation") -> list[list[int]]:
        """Group rows by prompt length and duration, so that batches hold little padding; `name` is for messages.

        With the window `longest`, the utterances of a batch need the same window, so none depends on the others.

        Raises:
            UserError: for an utterance that is over the window, or a language that the tokenizer lacks.
        """
        check_lengths(utterances, self.engine.window.seconds, name)
        tags = [self._tags(utterance) for utterance in utterances]
        for code in {code for codes in tags for code in codes} - {"auto"}:
            language_id(self.engine.tokenizer, code)

        def kind(row: int) -> tuple[int, int]:
            return len(tags[row]), -self.engine.window.frames_for(utterances[row].duration)

        rows = sorted(range(len(utterances)), key=lambda row: (kind(row), -utterances[row].duration))
        return [
            members[start : start + self.batch_size]
            for members in (list(group) for _, group in groupby(rows, key=kind))
            for start in range(0, len(members), self.batch_size)
        ]

    def transcribe_batch(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """Transcribe one batch of utterances whose prompts are equally long."""
        waveforms = [load_waveform(u.audio, u.offset, u.duration) for u in utterances]
        waveforms_BS = pad_sequence(waveforms, batch_first=True)
        if self.engine.window.longest:  # a file may hold a few samples more or fewer than the manifest says
            frames = self.engine.window.frames_for(max(u.duration for u in utterances))
            samples = frames * SAMPLE_RATE_HZ // FRAMES_PER_SECOND
            waveforms_BS = pad(waveforms_BS, (0, samples - waveforms_BS.shape[1]))
        encoded = self.engine.encode(waveforms_BS)
        if self.language == "auto":
            tags = [(code,) for code in self.engine.detect(encoded)]
        else:
            tags = [self._tags(utterance) for utterance in utterances]
        prompt_BU = [prompt_ids(self.engine.tokenizer, codes) for codes in tags]
        return self._decode(utterances, encoded, prompt_BU)

    def _decode(
        self, utterances: Sequence[Utterance], encoded: Any, prompt_BU: Sequence[list[int]]
    ) -> list[Hypothesis]:
        """Decode, and decode what fails again at the next temperature, as OpenAI's `transcribe` does."""
        found: dict[int, Hypothesis] = {}
        silence_B: list[float] = []  # where some hypothesis is improbable
        rows = list(range(len(utterances)))
        for temperature in self.guards.temperatures:
            attempt = Attempt(
                [prompt_BU[row] for row in rows],
                [self.guards.most_tokens(utterances[row].duration) for row in rows],
                self.guards.repeats,
                temperature,
                [_seed(utterances[row].id, temperature) for row in rows],
                self.guards.judges,
            )
            written = self.engine.generate(encoded if len(rows) == len(utterances) else encoded[rows], attempt)
            improbable = [one.mean_log_probability < MIN_LOG_PROBABILITY for one in written]
            if self.guards.no_speech < 1 and any(improbable) and not silence_B:
                silence_B = self.engine.no_speech(encoded)
            failed = []
            for row, one, most, doubtful in zip(rows, written, attempt.most_B, improbable, strict=True):
                found[row] = self._hypothesis(one, most, temperature)
                if doubtful and silence_B and silence_B[row] > self.guards.no_speech:
                    found[row] = Hypothesis("", SILENCE)
                elif fails(found[row].text, found[row].cut, one.mean_log_probability):
                    failed.append(row)
            rows = failed
            if not rows:
                break
        return [found[row] for row in range(len(utterances))]

    def _hypothesis(self, written: Written, most: int, temperature: float) -> Hypothesis:
        end = special_id(self.engine.tokenizer, "endoftext")
        tokens, cut_by = cut(written.tokens, end, most, self.guards.repeats)
        text = self.engine.tokenizer.decode(tokens, skip_special_tokens=True)
        # A cut may go through the bytes of a character.
        return Hypothesis((text.rstrip("\ufffd") if cut_by else text).strip(), cut_by, temperature)

    def _tags(self, utterance: Utterance) -> tuple[str, ...]:
        return prompt_languages(self.language, utterance.matrix_language, utterance.languages)


def _seed(name: str, temperature: float) -> int:
    """Return what an utterance's samples follow from, whatever it is decoded beside."""
    return int.from_bytes(hashlib.sha256(f"{name} {temperature:g}".encode()).digest()[:7])
