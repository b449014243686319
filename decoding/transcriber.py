"""Transcribe utterances in batches, each with its own language tags, under guards against loops and invented text.

Shape suffixes: B utterances, S samples at 16 kHz, U tokens.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from typing import Any

from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from backbone.guards import MIN_LOG_PROBABILITY, SILENCE, Guards, cut, fails
from backbone.language_tags import (
    AMONG_PAIR,
    DETECTED,
    LIKELIEST,
    language_id,
    most_probable,
    prompt_ids,
    special_id,
    tags_to_try,
)
from backbone.window import FRAMES_PER_SECOND, check_lengths
from common.audio import SAMPLE_RATE_HZ, load_waveform, speech_edges
from common.manifest import Utterance
from decoding.decoding_engine import Attempt, Engine, Written
from decoding.words import TimedWord, timed_words

UNDETERMINED = "und"  # the pair of speech in any language (ISO 639-2)
_GUARDS = Guards()


@dataclass(frozen=True)
class Hypothesis:
    """What a model wrote.

    Attributes:
        text: without white space around it.
        cut: why the guards cut it, if they did.
        temperature: of sampling; 0 where it was not sampled.
        tokens: of the text.
        languages: the tags in its prompt.
        language_probability: of its tag, where the model chose the tag.
        words: with times and languages, where they were asked for.
        mean_log_probability: as in `Written`, before any cut by a guard.
    """

    text: str
    cut: str | None = None
    temperature: float = 0.0
    tokens: Sequence[int] = ()
    languages: tuple[str, ...] = ()
    language_probability: float | None = None
    words: tuple[TimedWord, ...] = ()
    mean_log_probability: float = field(default=0.0, compare=False)  # its last digits depend on the batch

    def later(self, seconds: float) -> "Hypothesis":
        """Return the hypothesis with its words moved `seconds` later, to its utterance's place in a recording."""
        return replace(self, words=tuple(word.later(seconds) for word in self.words))


class Transcriber:
    """Transcribe utterances with one model; the result depends neither on batch size nor on order.

    Args:
        engine: the model.
        language: policy of the language tags; see `backbone.language_tags`.
        batch_size: utterances decoded side by side.
        guards: against loops and invented text.
        words: whether to find the words' times and languages, too; needs the engine in PyTorch.

    Attributes:
        context: tokens of what was said before, put before every prompt.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        language: str = "matrix",
        batch_size: int = 32,
        guards: Guards = _GUARDS,
        words: bool = False,
    ) -> None:
        self.engine, self.guards, self.words = engine, guards, words
        self.context: list[int] = []
        self.language = language
        self.batch_size = batch_size

    def transcribe(self, utterances: Sequence[Utterance], name: str = "evaluation") -> list[str]:
        """Return the texts of `hypotheses`."""
        return [hypothesis.text for hypothesis in self.hypotheses(utterances, name)]

    def hypotheses(
        self,
        utterances: Sequence[Utterance],
        name: str = "evaluation",
        done: Callable[[float], None] = lambda seconds: None,
    ) -> list[Hypothesis]:
        """Return hypotheses in the order of the utterances.

        Args:
            utterances: with audio of any length up to the window.
            name: of the set that they belong to, for messages.
            done: called after each batch with the seconds of its audio.

        Raises:
            UserError: for an utterance that is over the window or whose audio cannot be read, or an unknown language.
        """
        found: dict[int, Hypothesis] = {}
        for rows in self.batches(utterances, name):
            batch = [utterances[row] for row in rows]
            found |= zip(rows, self.transcribe_batch(batch), strict=True)
            done(sum(utterance.duration for utterance in batch))
        return [found[row] for row in range(len(utterances))]

    def batches(self, utterances: Sequence[Utterance], name: str = "evaluation") -> list[list[int]]:
        """Group rows by prompts' lengths and duration, so that batches hold little padding; `name` is for messages.

        With the window `longest`, all utterances of a batch need the same window, so no result depends on the others.

        Raises:
            UserError: for an utterance that is over the window, or a language that the tokenizer lacks.
        """
        check_lengths(utterances, self.engine.window.seconds, name)
        tags = [self._tags(utterance) for utterance in utterances]
        choices = map(self._choices, utterances) if self.language in DETECTED else chain(*tags)
        for code in {code for codes in choices for code in codes}:
            language_id(self.engine.tokenizer, code)

        def kind(row: int) -> tuple[list[int], int]:
            return [len(codes) for codes in tags[row]], -self.engine.window.frames_for(utterances[row].duration)

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
        tags, chances = [self._tags(utterance) for utterance in utterances], [None] * len(utterances)
        if self.language in DETECTED:
            detected = zip(self.engine.detect(encoded), map(self._choices, utterances), strict=True)
            chosen, chances = zip(*(most_probable(*one) for one in detected), strict=True)
            tags = [((code,),) for code in chosen]
        tried = [self._decode(utterances, encoded, codes) for codes in zip(*tags, strict=True)]
        best = [max(several, key=_likelihood) for several in zip(*tried, strict=True)]  # the first of equals
        found = [replace(one, language_probability=chance) for one, chance in zip(best, chances, strict=True)]
        return self._with_words(utterances, waveforms, encoded, found) if self.words else found

    def _decode(
        self, utterances: Sequence[Utterance], encoded: Any, tags: Sequence[tuple[str, ...]]
    ) -> list[Hypothesis]:
        """Decode, and decode what fails again at the next temperature, as OpenAI's `transcribe` does."""
        prompt_BU = [self._prompt(codes) for codes in tags]
        found: dict[int, Hypothesis] = {}
        silence_B: list[float] = []  # filled once a hypothesis is improbable
        rows = list(range(len(utterances)))
        for temperature in self.guards.temperatures:
            attempt = Attempt(
                [prompt_BU[row] for row in rows],
                [self.guards.most_tokens(utterances[row].duration) for row in rows],
                self.guards.repeats,
                temperature,
                [_seed(utterances[row].id, temperature) for row in rows],
                self.guards.judges or self.language == LIKELIEST,
            )
            written = self.engine.generate(encoded if len(rows) == len(utterances) else encoded[rows], attempt)
            improbable = [one.mean_log_probability < MIN_LOG_PROBABILITY for one in written]
            if self.guards.no_speech < 1 and any(improbable) and not silence_B:
                silence_B = self.engine.no_speech(encoded)
            failed = []
            for row, one, most, doubtful in zip(rows, written, attempt.most_B, improbable, strict=True):
                found[row] = self._hypothesis(one, most, temperature)
                if doubtful and silence_B and silence_B[row] > self.guards.no_speech:
                    found[row] = Hypothesis("", SILENCE, mean_log_probability=one.mean_log_probability)
                elif fails(found[row].text, found[row].cut, one.mean_log_probability):
                    failed.append(row)
            rows = failed
            if not rows:
                break
        return [replace(found[row], languages=codes) for row, codes in enumerate(tags)]

    def _hypothesis(self, written: Written, most: int, temperature: float) -> Hypothesis:
        end = special_id(self.engine.tokenizer, "endoftext")
        tokens, cut_by = cut(written.tokens, end, most, self.guards.repeats)
        text = self.engine.tokenizer.decode(tokens, skip_special_tokens=True)
        # A cut may fall between the bytes of a character.
        text = (text.rstrip("\ufffd") if cut_by else text).strip()
        return Hypothesis(text, cut_by, temperature, tokens, mean_log_probability=written.mean_log_probability)

    def _with_words(
        self,
        utterances: Sequence[Utterance],
        waveforms: Sequence[Tensor],
        encoded: Any,
        found: Sequence[Hypothesis],
    ) -> list[Hypothesis]:
        prompt_BU = [self._prompt(one.languages) for one in found]
        durations_s = [utterance.duration for utterance in utterances]
        times = self.engine.token_times(encoded, prompt_BU, [one.tokens for one in found], durations_s)
        whole = []
        for one, of_tokens, waveform_S, utterance in zip(found, times, waveforms, utterances, strict=True):
            text = self.engine.tokenizer.decode(one.tokens, skip_special_tokens=True).rstrip("\ufffd")
            spoken = _spoken(one, utterance)
            words = timed_words(text, of_tokens, speech_edges(waveform_S), spoken) if of_tokens else ()
            whole.append(replace(one, words=words))
        return whole

    def _choices(self, utterance: Utterance) -> tuple[str, ...]:
        """Return the languages that the model chooses from; empty for all that it knows."""
        return utterance.languages if self.language == AMONG_PAIR else ()

    def _tags(self, utterance: Utterance) -> tuple[tuple[str, ...], ...]:
        return tags_to_try(self.language, utterance.matrix_language, utterance.languages)

    def _prompt(self, codes: tuple[str, ...]) -> list[int]:
        return self.context + prompt_ids(self.engine.tokenizer, codes)


def _likelihood(hypothesis: Hypothesis) -> tuple[bool, float]:
    return hypothesis.cut is None, hypothesis.mean_log_probability


def _spoken(hypothesis: Hypothesis, utterance: Utterance) -> tuple[str, ...]:
    """Return an utterance's languages, its tags first; without given languages, English may be mixed into any."""
    languages = ("en",) if utterance.pair == UNDETERMINED else utterance.languages
    return tuple(dict.fromkeys((*hypothesis.languages, *languages)))


def _seed(name: str, temperature: float) -> int:
    """Return the seed of an utterance's sampling, which does not depend on its batch."""
    return int.from_bytes(hashlib.sha256(f"{name} {temperature:g}".encode()).digest()[:7])
